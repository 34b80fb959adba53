/**
 * Reading of names from manifests: `matchName` and `matchPattern` of `rules.dns` and of `toFQDNs`, which say the same in both places.
 * @module
 */
import { PEERS_MAX } from "./peer_syntax.ts";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { canonicalName, RuleFault } from "@weir/l7-rules";
import { type FqdnName, fqdnName } from "./fqdn_selector.ts";
import { fqdnPeer, type Peer } from "./policy.ts";

type Warn = (path: string, detail: string) => void;

/** `{matchName}` or `{matchPattern}` as it is written. */
export interface WrittenName {
  readonly value: { readonly matchName: string; readonly matchPattern: string };
  /** Where its faults belong. */
  readonly place: ManifestNode;
}

/** Reads the fields; what they say is checked by who compiles them. Warns of patterns that hardly say what is meant. */
export function readName(reader: ManifestReader, node: ManifestNode, warn: Warn): WrittenName | undefined {
  const before = reader.faults.faults.length, fields = reader.map(node, ["matchName", "matchPattern"]);
  if (!fields) return undefined;
  const text = (field: "matchName" | "matchPattern") =>
    fields.has(field) ? reader.string(fields.get(field)) : "";
  const matchName = text("matchName"), matchPattern = text("matchPattern");
  if (matchName === undefined || matchPattern === undefined || reader.faults.faults.length > before) {
    return undefined;
  }
  const place = fields.size === 1 ? [...fields.values()][0] : node;
  const doubt = matchPattern === "" ? undefined : doubtOf(matchPattern);
  if (doubt !== undefined) warn(place.path, `${JSON.stringify(matchPattern)} ${doubt}`);
  return { value: { matchName, matchPattern }, place };
}

/** Reads `toFQDNs`. */
export function readFqdns(reader: ManifestReader, node: ManifestNode, warn: Warn): Peer[] {
  return (reader.list(node, PEERS_MAX) ?? []).flatMap((item) => {
    const named = readName(reader, item, warn);
    let name: FqdnName | undefined;
    if (!named || !compiles(reader, named.place, () => name = fqdnName(named.value))) return [];
    return [{ path: item.path, line: item.line, selector: fqdnPeer(name!) }];
  });
}

/** Whether a rule can be judged by; reports why not. */
export function compiles(reader: ManifestReader, place: ManifestNode, compile: () => unknown): boolean {
  try {
    compile();
    return true;
  } catch (error) {
    if (!(error instanceof RuleFault)) throw error;
    reader.invalid(place, error.message);
    return false;
  }
}

/** Suffixes of which names have several labels before them. */
const DEEP = [
  "cluster.local",
  "svc.cluster.local",
  "in-addr.arpa",
  "ip6.arpa",
  "amazonaws.com",
  "core.windows.net",
];

/** What a pattern means that is hardly meant. */
function doubtOf(written: string): string | undefined {
  const pattern = canonicalName(written);
  const [, suffix] = /^\*\.(.*)$/.exec(pattern) ?? [];
  if (suffix !== undefined && DEEP.includes(suffix)) {
    return `means names with one label before ${suffix}, want **.${suffix} for several`;
  }
  const [, domain] = /^\*+([a-z0-9][-a-z0-9]*\.[-a-z0-9]+)$/.exec(pattern) ?? [];
  // Whoever registers such a name is let in.
  if (domain !== undefined) {
    return `means names of others too, such as evil${domain}: want *.${domain}, and ${domain} beside it`;
  }
  if (/\*\*/.test(pattern.replace(/^\*\*+(\.|$)/, ""))) {
    return "has two stars that mean what one does: only **. at the start goes over dots";
  }
  return undefined;
}

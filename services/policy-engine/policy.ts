/**
 * Policies as the engine understands them: whatever the manifest's vocabulary, a rule is a subject and, per direction,
 * sections that allow or deny peers x ports.
 * @module
 */
import {
  type IpFamily,
  LABEL_NAMESPACE,
  type LabelSet,
  Prefix,
  type Selector,
  SOURCE_CIDR,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
} from "@weir/common";
import type { KindTakenBy } from "@weir/common/manifest";
import { formatFqdnName, fqdnLabels, type FqdnName } from "./fqdn_selector.ts";
import { formatSourceSelector, type PeerSource, type PeerSourceKind } from "./peer_source.ts";
import type {
  CassandraRule,
  DnsRule,
  HttpRule,
  KafkaRule,
  L7Kind,
  MemcacheRule,
  ServerNameRule,
} from "@weir/proto/l7";

/** The kinds that are taken. */
export type PolicyKind = KindTakenBy<"policy-engine">;

/** Traffic direction, seen from the subject. The names are those of `weir.common.v1.Direction`. */
export type Direction = "INGRESS" | "EGRESS";
export const DIRECTIONS: readonly Direction[] = ["INGRESS", "EGRESS"];

/** One policy document. */
export interface Policy {
  /** `cnp:NAMESPACE/NAME`, `ccnp:NAME`, `knp:NAMESPACE/NAME`, `anp:NAME`, `banp:default`, `clnp:NAME`, `ccg:NAME`, `svc:NAMESPACE/NAME`. */
  readonly name: string;
  readonly kind: PolicyKind;
  readonly namespace: string;
  readonly policyName: string;
  readonly rules: readonly PolicyRule[];
  /** What it denies passes, and is reported: `weir.dev/mode: audit`. */
  readonly audit?: boolean;
  /** It has no rules: it says who is meant where rules name it. */
  readonly source?: PeerSource;
  readonly manifest: string;
  readonly file: string;
  /** First line of the document in its file. */
  readonly line: number;
  readonly warnings: readonly { readonly path: string; readonly detail: string }[];
}

/** One `spec` of a policy. */
export interface PolicyRule {
  /** `spec` or `specs[1]` */
  readonly path: string;
  readonly line: number;
  readonly subject: Selector;
  /** It is for nodes themselves, of which {@link subject} says the labels: it selects their hosts and no other endpoint. */
  readonly isForHosts?: boolean;
  readonly description: string;
  /** Labels of the rule itself, `source:key=value`. */
  readonly labels: readonly string[];
  readonly directions: Readonly<Record<Direction, RuleDirection>>;
  /** Where its policy stands among those of tiers; undefined for the policies that are asked between them. */
  readonly tier?: PolicyTier;
}

/** Where an administrator's policy stands. */
export interface PolicyTier {
  readonly tier: "Admin" | "Baseline";
  /** Lower ones are asked first. */
  readonly priority: number;
}

/** What a rule does in one direction. */
export interface RuleDirection {
  /** The rule is about this direction: it closes it ({@link defaultDeny}) or leaves the rest open. */
  readonly applies: boolean;
  /** Whether everything that no rule allows is denied; false adds an allow-all behind every rule. */
  readonly defaultDeny: boolean;
  readonly path: string;
  readonly line: number;
  readonly sections: readonly RuleSection[];
}

/** Peers x ports. No peer or no port in the lists means that the section matches nothing. */
export interface RuleSection {
  /** `spec.ingress[0]` */
  readonly path: string;
  readonly line: number;
  readonly deny: boolean;
  /** Neither allows nor denies: the next tier decides. */
  readonly pass?: boolean;
  /** What its author calls it. */
  readonly name?: string;
  /** Place in the order of all rules, as `tierPriority` counts it; default that of ordinary policies. */
  readonly priority?: number;
  readonly peers: readonly Peer[];
  readonly ports: readonly PortMatch[];
}

/** One peer of a section and where it is written. */
export interface Peer {
  readonly path: string;
  readonly line: number;
  readonly selector: PeerSelector;
}

/** Who is meant. */
export type PeerSelector =
  | { readonly type: "any"; readonly key: "any" }
  | { readonly type: "labels"; readonly key: string; readonly selector: Selector }
  | {
    readonly type: "cidr";
    readonly key: string;
    readonly prefix: Prefix;
    readonly except: readonly Prefix[];
  }
  | { readonly type: "fqdn"; readonly key: string; readonly name: FqdnName }
  | SourceSelector;

/** Whoever the objects mean that the selector selects, now and later; nobody while there are none. */
export interface SourceSelector {
  readonly type: "source";
  readonly key: string;
  readonly kind: PeerSourceKind;
  readonly selector: Selector;
  readonly except: readonly Prefix[];
}

/** Every identity, known or not. */
export const PEER_ANY: PeerSelector = { type: "any", key: "any" };

/** Peers by labels. */
export function labelPeer(selector: Selector): PeerSelector {
  return { type: "labels", key: `labels:${selector.key}`, selector };
}

/** Peers by address, in the prefix and in none of the exceptions: outside the cluster, and whoever has a `cidr:` label. */
export function cidrPeer(
  prefix: Prefix,
  except: readonly Prefix[] = [],
): Extract<PeerSelector, { type: "cidr" }> {
  const sorted = [...except].sort((a, b) => a.compare(b));
  return { type: "cidr", key: `cidr:${[prefix, ...sorted].join("-")}`, prefix, except: sorted };
}

/** Peers by what objects say of them. */
export function sourcePeer(
  kind: PeerSourceKind,
  selector: Selector,
  except: readonly Prefix[] = [],
): SourceSelector {
  const sorted = [...except].sort((a, b) => a.compare(b));
  return {
    type: "source",
    // No label has this character: what one policy says is never taken for what another one does.
    key: `${kind}:${[selector.key, ...sorted].join(";")}`,
    kind,
    selector,
    except: sorted,
  };
}

/** What an object, or a part of one, adds to a selector that selects it, as selectors of addresses and of labels. */
export function* partsOf(
  { except }: SourceSelector,
  { prefixes, pods }: Pick<PeerSource, "prefixes" | "pods">,
): Generator<PeerSelector> {
  for (const prefix of prefixes) yield cidrPeer(prefix, except);
  if (pods !== undefined) yield labelPeer(pods);
}

/** Peers by name: addresses outside that DNS gave for a name which the selector means. */
export function fqdnPeer(name: FqdnName): PeerSelector {
  return { type: "fqdn", key: fqdnKey(name.text), name };
}

/** Key of the peer selector with this text. */
export function fqdnKey(text: string): string {
  return `fqdn:${text}`;
}

/** For people: `k8s:org=empire`, `10.0.0.0/8 except 10.1.0.0/16`, `*.example.com`, `everyone`. */
export function formatPeerSelector(selector: PeerSelector): string {
  if (selector.type === "any") return "everyone";
  if (selector.type === "labels") return selector.selector.toString();
  if (selector.type === "fqdn") return formatFqdnName(selector.name);
  const what = selector.type === "cidr"
    ? selector.prefix.text
    : formatSourceSelector(selector.kind, selector.selector);
  return what + (selector.except.length === 0 ? "" : ` except ${selector.except.join(", ")}`);
}

/** Ports of one protocol. */
export interface PortMatch {
  /** IP protocol number; 0 is every protocol, and then every port. */
  readonly protocol: number;
  /** First and last port (ICMP: type); 0 and 65535 for all. */
  readonly first: number;
  readonly last: number;
  /** A port name, lower case; `first` and `last` are 0 then. */
  readonly name: string;
  /** What passes there; undefined: everything. */
  readonly rules?: PortRules;
}

/** The L7 rules of one item of `toPorts`. */
export interface PortRules {
  readonly kind: Exclude<L7Kind, "L7_KIND_UNSPECIFIED">;
  /** `spec.ingress[0].toPorts[0].rules.http` */
  readonly path: string;
  readonly line: number;
  readonly rules: readonly PortRule[];
}

/** One of them. */
export interface PortRule {
  readonly path: string;
  readonly line: number;
  /** Without its cookie. */
  readonly rule: HttpRule | DnsRule | KafkaRule | CassandraRule | MemcacheRule | ServerNameRule;
}

/** Every protocol and port. */
export const PORT_MATCH_ANY: PortMatch = { protocol: 0, first: 0, last: 65535, name: "" };

/** One identity with what selectors ask of it. */
export interface PeerIdentity {
  readonly number: number;
  readonly labels: LabelSet;
  /** The prefixes of its `cidr:` labels. */
  readonly prefixes: readonly Prefix[];
  /** Texts of the selectors of names that mean it, beside what its labels and prefixes say. */
  readonly names?: ReadonlySet<string>;
  /** The name that it was asked about by. */
  readonly askedName?: string;
  /** It stands for a selector of names, which alone means it: what that says is added to what is said of an address. */
  readonly isName?: boolean;
}

/**
 * Whether labels are a node's own, as its host's endpoint has them: `reserved:host`, and those of the node with the source `node`.
 * Every other endpoint lives in a namespace.
 */
export function isHost(labels: LabelSet): boolean {
  return labels.has(SOURCE_RESERVED, "host") && !labels.has(SOURCE_KUBERNETES, LABEL_NAMESPACE);
}

/** Whether a rule is for whoever has these labels. */
export function ruleSelects({ subject, isForHosts = false }: PolicyRule, labels: LabelSet): boolean {
  return isForHosts === isHost(labels) && subject.matches(labels);
}

/** An identity record; the `cidr:` labels are read once, here. */
export function peerIdentity(number: number, labels: LabelSet): PeerIdentity {
  const prefixes: Prefix[] = [];
  for (const label of labels) {
    const prefix = label.source === SOURCE_CIDR ? Prefix.tryParse(label.key) : undefined;
    if (prefix) prefixes.push(prefix);
  }
  return { number, labels, prefixes };
}

/** Whether it stands for addresses outside of the cluster: a pod may have prefixes too, where CIDR rules mean pods. */
export function isOutside({ prefixes, labels }: PeerIdentity): boolean {
  return prefixes.length > 0 && (isWorld(labels, 4) || isWorld(labels, 6));
}

/** Whether it stands for addresses that may have names: those of the world. */
export function meansWorld({ labels }: PeerIdentity): boolean {
  return isWorld(labels, 4) || isWorld(labels, 6);
}

/** The identity that stands for a selector of names. */
export function nameIdentity(number: number, name: FqdnName): PeerIdentity {
  return { number, labels: fqdnLabels(name), prefixes: [], names: new Set([name.text]), isName: true };
}

/**
 * True when the selector means this identity. What objects say of it is not in the selector: `SelectorCache.means` knows
 * that too.
 */
export function peerSelectorMatches(
  selector: Exclude<PeerSelector, SourceSelector>,
  identity: PeerIdentity,
): boolean {
  if (selector.type === "any") return true;
  if (selector.type === "fqdn") return identity.names?.has(selector.name.text) ?? false;
  if (identity.isName) return false;
  if (selector.type === "labels") return selector.selector.matches(identity.labels);
  const inside = (prefix: Prefix) =>
    selector.prefix.contains(prefix) && !selector.except.some((except) => except.contains(prefix));
  if (identity.prefixes.length > 0) return identity.prefixes.some(inside);
  // 0.0.0.0/0 is the world of its family rather than a prefix: it also means names and addresses without a prefix.
  return selector.prefix.length === 0 && isWorld(identity.labels, selector.prefix.family);
}

function isWorld(labels: LabelSet, family: IpFamily): boolean {
  return labels.has("reserved", family === 4 ? "world-ipv4" : "world-ipv6") ||
    labels.has("reserved", "world");
}

/**
 * What a policy mentions that needs a number: every prefix, exceptions included (/0 is the world and needs none of its own), then
 * every selector of names, each by its text.
 */
export function policyMentions(policy: Policy): string[] {
  const prefixes = new Map<string, Prefix>(), names = new Set<string>();
  const add = (prefix: Prefix) => prefix.length > 0 && prefixes.set(prefix.text, prefix);
  policy.source?.prefixes.forEach(add);
  for (const rule of policy.rules) {
    for (const direction of DIRECTIONS) {
      for (const section of rule.directions[direction].sections) {
        for (const { selector } of section.peers) {
          if (selector.type === "fqdn") names.add(selector.name.text);
          if (selector.type === "cidr") add(selector.prefix);
          if (selector.type === "cidr" || selector.type === "source") selector.except.forEach(add);
        }
      }
    }
  }
  return [
    ...[...prefixes.values()].sort((a, b) => a.compare(b)).map(({ text }) => text),
    ...[...names].sort(),
  ];
}

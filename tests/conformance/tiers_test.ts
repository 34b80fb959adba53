/**
 * Cilium's verdicts on random rules of three tiers with priorities, which are no manifests: the rules are made as the engine has them.
 * @module
 */
import assert from "node:assert/strict";
import { LabelSet, MapState, Prefix, PROTOCOL_NUMBERS, Selector, tierPriority } from "@weir/common";
import {
  cidrPeer,
  labelPeer,
  PEER_ANY,
  type PeerSelector,
  type Policy,
  PolicyRepository,
  PORT_MATCH_ANY,
  type PortMatch,
  readManifests,
} from "@weir/policy-engine";
import { readTestdata } from "./testdata.ts";

interface TieredEntry {
  direction: "ingress" | "egress";
  subject: string;
  tier: "Admin" | "Normal" | "Baseline";
  priority: number;
  verdict: "allow" | "deny" | "pass";
  /** `*`, `entity world`, `cidr 10.0.0.0/8` or a label. */
  peer: string;
  /** `FIRST-LAST/PROTOCOL`, where a last of 0 means one port. */
  ports: string[] | null;
  defaultDeny: boolean;
}
interface TiersFile {
  identities: { id: number; name: string; labels: string[] }[];
  cases: {
    id: string;
    entries: TieredEntry[];
    endpoints: { subject: string; verdicts: Record<"ingress" | "egress", Record<string, string>> }[];
  }[];
}

/** One family, where 0.0.0.0/0 means its world and no identity is that of another. */
const NOT_COMPARED = ["world-ipv4", "world-ipv6"];
/** The engine's own numbers of prefixes begin there; the data's go out of their way. */
const LOCAL_MIN = 16777216, LOCAL_SHIFT = 0x1_0000;

Deno.test("policy engine agrees with Cilium on random rules of tiers with priorities", async () => {
  const { cases, identities } = await readTestdata<TiersFile>("cilium-tiers-random");
  const numberOf = (id: number) => id < LOCAL_MIN ? id : id + LOCAL_SHIFT;
  const wrong: string[] = [];
  let verdicts = 0, passes = 0;
  for (const { id, entries, endpoints } of cases) {
    const repository = new PolicyRepository();
    for (const { id, labels } of identities) {
      if (id >= 256) repository.upsertIdentity(numberOf(id), LabelSet.parse(labels));
    }
    for (const [index, entry] of entries.entries()) repository.upsertPolicy(policyOf(entry, index));
    passes += entries.filter(({ verdict }) => verdict === "pass").length;
    for (const { subject, verdicts: expected } of endpoints) {
      const state = MapState.of(repository.mapState(identities.find(({ name }) => name === subject)!.id)!);
      for (const [word, direction] of [["ingress", "INGRESS"], ["egress", "EGRESS"]] as const) {
        for (const [port, row] of Object.entries(expected[word])) {
          const [protocol, at] = port.split("/");
          for (const [index, identity] of identities.entries()) {
            if (row[index] === "-" || NOT_COMPARED.includes(identity.name)) continue;
            verdicts++;
            const { allowed } = state.lookup(
              numberOf(identity.id),
              direction,
              PROTOCOL_NUMBERS[protocol.toUpperCase()],
              Number(at),
            );
            if (allowed !== (row[index] === ".")) {
              wrong.push(`${id} ${subject} ${word} ${identity.name} ${port}: expected ${row[index]}`);
            }
          }
        }
      }
    }
  }
  assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${verdicts} verdicts are wrong`);
  assert.equal(cases.length, 193);
  assert.ok(verdicts > 300_000 && passes > 200, `${verdicts} verdicts, ${passes} passes`);
});

function policyOf(entry: TieredEntry, index: number): Policy {
  const name = `p${index}`, place = { path: "spec", line: 1 };
  const [source, text] = entry.subject.split(":"), [key, value] = text.split("=");
  const section = {
    ...place,
    deny: entry.verdict === "deny",
    pass: entry.verdict === "pass",
    priority: tierPriority(entry.tier === "Normal" ? "Ordinary" : entry.tier, entry.priority, 0),
    peers: peersOf(entry).map((selector) => ({ ...place, selector })),
    ports: entry.ports?.flatMap(portsOf) ?? [PORT_MATCH_ANY],
  };
  const none = { ...place, applies: false, defaultDeny: false, sections: [] };
  const own = { ...place, applies: true, defaultDeny: entry.defaultDeny, sections: [section] };
  return {
    name: `ccnp:${name}`,
    kind: "CiliumClusterwideNetworkPolicy",
    namespace: "",
    policyName: name,
    manifest: JSON.stringify(entry),
    file: "",
    line: 1,
    warnings: [],
    rules: [{
      ...place,
      subject: Selector.of([{ source, key, operator: "In", values: [value] }]),
      description: "",
      labels: [],
      directions: {
        INGRESS: entry.direction === "ingress" ? own : none,
        EGRESS: entry.direction === "egress" ? own : none,
      },
    }],
  };
}

function peersOf({ peer, verdict }: TieredEntry): PeerSelector[] {
  // A pass is never for identities that nobody knows: no API has one for everyone.
  if (peer === "*") return [verdict === "pass" ? labelPeer(Selector.everything) : PEER_ANY];
  const [kind, value] = peer.split(" ");
  if (kind === "cidr") return [cidrPeer(Prefix.parse(value))];
  if (kind !== "entity") {
    const [source, text] = peer.split(":"), [key, found] = text.split("=");
    return [labelPeer(Selector.of([{ source, key, operator: "In", values: [found] }]))];
  }
  const manifest = {
    apiVersion: "cilium.io/v2",
    kind: "CiliumClusterwideNetworkPolicy",
    metadata: { name: "p" },
    spec: { endpointSelector: {}, egress: [{ toEntities: [value] }] },
  };
  const [{ rules }] = readManifests(JSON.stringify(manifest)).policies;
  return rules[0].directions.EGRESS.sections[0].peers.map(({ selector }) => selector);
}

function portsOf(text: string): PortMatch[] {
  const [ports, protocol] = text.split("/"), [first, last] = ports.split("-").map(Number);
  const protocols = protocol === "ANY" ? ["TCP", "UDP", "SCTP"] : [protocol];
  return protocols.map((name) => ({
    protocol: PROTOCOL_NUMBERS[name],
    first,
    last: last || first,
    name: "",
  }));
}

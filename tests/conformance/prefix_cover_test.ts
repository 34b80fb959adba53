/**
 * A policy of the engine, covered by the endpoint manager for prefixes that it was not made with, judges every address as it
 * did without them.
 * @module
 */
import assert from "node:assert/strict";
import { IDENTITY_WORLD_IPV4, IpAddress, LabelSet, MapState as Lookup, Prefix } from "@weir/common";
import { MapState } from "@weir/proto/policy";
import { PolicyRepository, readManifests } from "@weir/policy-engine";
import { FqdnIdentities } from "../../services/endpoint-manager/names/fqdn_identities.ts";
import { KnowingPolicy, PolicyCopies } from "../../services/endpoint-manager/policy_cover.ts";
import { type PrefixPair, PrefixPairs } from "../../services/endpoint-manager/prefix_pairs.ts";
import { resolvePolicy } from "../../services/endpoint-manager/policy_variant.ts";
import { Choices } from "../simulation/random.ts";

const SUBJECT = 1000;
const LABELS = LabelSet.parse([
  "k8s:app=web",
  "k8s:io.kubernetes.pod.namespace=default",
  "k8s:io.cilium.k8s.policy.cluster=default",
]);
const TREE = [
  "0.0.0.0/0",
  "10.0.0.0/8",
  "10.1.0.0/16",
  "10.1.1.0/24",
  "10.1.1.7/32",
  "10.2.0.0/16",
  "192.0.2.0/24",
];
const ADDRESSES = ["10.9.9.9", "10.1.9.9", "10.1.1.9", "10.1.1.7", "10.2.2.2", "192.0.2.9", "203.0.113.9"]
  .map((text) => IpAddress.parse(text));

/** A rule for addresses; half of them have exceptions where there is something to except. */
function rule(choices: Choices): string {
  const cidr = choices.pick(TREE), prefix = Prefix.parse(cidr);
  const inside = TREE.filter((text) => text !== cidr && prefix.contains(Prefix.parse(text)));
  const except = inside.length > 0 && choices.below(2) === 0 ? [choices.pick(inside)] : [];
  const peers = choices.below(6) === 0
    ? choices.pick(["toEntities: [world]", "toEntities: [all]", "toEndpoints: [{matchLabels: {app: web}}]"])
    : `toCIDRSet: [{cidr: ${cidr}, except: [${except}]}]`;
  const ports = choices.below(3) === 0 ? ', toPorts: [{ports: [{port: "80", protocol: TCP}]}]' : "";
  return `${choices.pick(["egress", "egress", "egressDeny"])}: [{${peers}${ports}}]`;
}

function put(repository: PolicyRepository, name: string, spec: string): void {
  const { policies, faults } = readManifests(
    `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, ` +
      `spec: {endpointSelector: {matchLabels: {app: web}}, ${spec}}}`,
  );
  assert.deepEqual(faults, []);
  for (const policy of policies) repository.upsertPolicy(policy);
}

function pairsOf(repository: PolicyRepository): PrefixPair[] {
  return repository.cidrPairs().map(({ prefix, identity }) => ({ prefix: Prefix.parse(prefix), identity }));
}

/** What passes to each address, as a kernel with this ipcache and this policy has it. */
function verdicts(policy: MapState, ipcache: Iterable<PrefixPair>): string {
  const lookup = Lookup.of(policy), pairs = [...ipcache];
  return ADDRESSES.flatMap((address) => {
    let identity = IDENTITY_WORLD_IPV4, longest = -1;
    for (const pair of pairs) {
      if (pair.prefix.length > longest && pair.prefix.contains(address)) {
        [identity, longest] = [pair.identity, pair.prefix.length];
      }
    }
    return [80, 443].map((port) => lookup.lookup(identity, "EGRESS", 6, port).allowed ? "+" : "-");
  }).join("");
}

Deno.test("a covered policy judges every address as it did without the prefixes that it does not know", () => {
  const choices = new Choices(11, "covered policies"), seen = new Set<string>();
  let copied = 0;
  for (let round = 0; round < 400; round++) {
    const repository = new PolicyRepository();
    repository.upsertIdentity(SUBJECT, LABELS);
    const rules = Array.from({ length: 1 + choices.below(4) }, () => rule(choices));
    for (const [at, text] of rules.entries()) put(repository, `old-${at}`, text);
    const state = repository.mapState(SUBJECT)!, known = pairsOf(repository);
    const before = { ...MapState.create(state), entries: [...state.entries], silent: [...state.silent] };
    // The same numbers go on: what comes is of other policies.
    for (let at = 0; at < 3; at++) put(repository, `new-${at}`, rule(choices));
    const cover = new PrefixPairs();
    for (const pair of pairsOf(repository)) cover.add(pair);
    for (const pair of known) assert.ok(cover.get(pair.prefix, pair.identity));
    const policy = KnowingPolicy.of(
        resolvePolicy(before, { namedPorts: [], enforcement: "DEFAULT", audit: false }),
        before,
      ),
      copies = new PolicyCopies(policy, { prefixes: cover, names: new FqdnIdentities() });
    copies.update();
    const entries = copies.covered().entries as MapState["entries"];
    copied += entries.length - before.entries.length;
    const wanted = verdicts(before, known);
    // Prefixes that the policy must find are those it says, whichever others are there.
    const needed = known.filter(({ identity }) => policy.knows(identity));
    assert.equal(verdicts({ ...before, entries }, cover), wanted, `round ${round}: ${rules.join("; ")}`);
    const some = [...cover].filter((pair) => policy.knows(pair.identity) || choices.below(2) === 0);
    assert.equal(verdicts({ ...before, entries }, some), wanted, `round ${round}, some: ${rules.join("; ")}`);
    assert.equal(
      verdicts({ ...before, entries }, needed),
      wanted,
      `round ${round}, needed: ${rules.join("; ")}`,
    );
    seen.add(wanted);
  }
  assert.ok(seen.size > 50 && copied > 300, `${seen.size} kinds of verdicts, ${copied} copies`);
});

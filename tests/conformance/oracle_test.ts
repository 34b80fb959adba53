/**
 * The fast engine against the slow evaluator on random policies, and the engine against itself in other orders.
 * `WEIR_SEED=n` runs one seed; a failure names it.
 * @module
 */
import assert from "node:assert/strict";
import { IDENTITY_HOST, IDENTITY_LOCAL_MIN, MapState, PROTOCOL_NUMBERS, type Verdict } from "@weir/common";
import { compileRuleSet, unionOfRuleSets } from "@weir/l7-rules";
import { PolicyRepository, readManifests } from "@weir/policy-engine";
import { endOf, FIRST_POD_IDENTITY, ModelCluster, podLabels } from "./model.ts";
import { type Manifest, oracleAllows, type OracleEnd } from "./oracle.ts";
import {
  ADDRESSES,
  NAMES,
  NAMESPACES,
  PORTS,
  Random,
  randomGroup,
  randomPolicy,
  randomService,
  REQUESTS,
} from "./random_policies.ts";
import { randomTiered } from "./random_tiers.ts";
import type { Model, ModelPod } from "./testdata.ts";

const STACKS = 150;
/** As nodes number what names mean: nowhere near what the engine gives. */
const FIRST_NAMED_IDENTITY = 0x0200_0000;
const seeds = seedsOf(STACKS);

function seedsOf(count: number): number[] {
  const one = Deno.env.get("WEIR_SEED");
  return one === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(one)];
}

/** Pods that differ in labels, namespace and port names. */
function randomModel(random: Random): Model {
  const pods: ModelPod[] = [];
  for (const namespace of Object.keys(NAMESPACES)) {
    for (let index = 0; index < 3; index++) {
      const labels: Record<string, string> = { app: random.pick(["a", "b", "c"]) };
      if (random.chance(50)) labels.tier = random.pick(["a", "b"]);
      const ports = [];
      if (random.chance(70)) ports.push({ name: "http", port: random.pick([80, 8080]), protocol: "TCP" });
      if (random.chance(50)) ports.push({ name: "dns", port: 53, protocol: "UDP" });
      pods.push({ namespace, name: `pod-${index}`, labels, ip: `10.0.0.${pods.length + 1}`, ports });
    }
  }
  return { namespaces: NAMESPACES, pods, externals: ADDRESSES };
}

/** In half of the stacks some policies of tiers, one Baseline of v1alpha1 at most. */
function randomTiers(random: Random): Manifest[] {
  if (random.chance(50)) return [];
  const all = random.list(1, 5, () => 0).map((_, index) => randomTiered(random, index));
  return all.filter(({ kind }, at) =>
    kind !== "BaselineAdminNetworkPolicy" || all.findIndex((one) => one.kind === kind) === at
  );
}

Deno.test("policy engine agrees with the slow evaluator on random policies", () => {
  let verdicts = 0, denied = 0, judged = 0, byName = 0;
  for (const seed of seeds) {
    const random = new Random(seed);
    const model = randomModel(random);
    const cluster = new ModelCluster(model, "world");
    const manifests = [
      ...Array.from({ length: 1 + random.below(5) }, (_, index) => randomPolicy(random, index)),
      ...Array.from({ length: random.below(4) }, (_, index) => randomGroup(random, index)),
      ...Array.from({ length: random.below(3) }, (_, index) => randomService(random, index)),
      ...randomTiers(random),
    ];
    // What groups were before leaves no trace.
    if (random.chance(50)) cluster.apply([0, 1].map((index) => randomGroup(random, index)));
    cluster.apply(manifests);
    for (const { name } of cluster.repository.policies()) {
      if (name.startsWith("ccg:") && !manifests.some((one) => `ccg:${one.metadata.name}` === name)) {
        cluster.repository.removePolicy(name);
      }
    }
    const pods = model.pods.map((pod) => endOf(pod, NAMESPACES[pod.namespace]));
    const named = new Map(ADDRESSES.map((address, index) => [
      FIRST_NAMED_IDENTITY + index,
      { address, names: random.shuffle(NAMES).slice(0, random.below(3)) },
    ]));
    const host: OracleEnd = { labels: { "reserved:host": "" }, namedPorts: [] };
    const remotes: [string, number, OracleEnd][] = [
      ...pods.map((
        end,
        index,
      ): [string, number, OracleEnd] => [`pod ${index}`, FIRST_POD_IDENTITY + index, end]),
      ...ADDRESSES.map((outside): [string, number, OracleEnd] => [
        outside,
        cluster.externalIdentity(outside),
        { labels: {}, outside, namedPorts: [] },
      ]),
      ...[...named].map(([identity, { address: outside, names }]): [string, number, OracleEnd] => [
        `${outside} (${names})`,
        identity,
        { labels: {}, outside, names, namedPorts: [] },
      ]),
      ["host", IDENTITY_HOST, host],
    ];
    for (const [index, subject] of pods.entries()) {
      const state = cluster.podState(index, named);
      for (const [name, identity, remote] of remotes) {
        for (const [protocol, port] of PORTS) {
          for (const direction of ["ingress", "egress"] as const) {
            const query = { subject, remote, direction, protocol, port, everyone: pods };
            const expected = oracleAllows(manifests, query);
            const way = direction === "ingress" ? "INGRESS" : "EGRESS";
            const found = state.lookup(identity, way, PROTOCOL_NUMBERS[protocol], port);
            verdicts++;
            if (!expected) denied++;
            const judge = found.allowed && found.ruleSets.length > 0
              ? judgeOf(state, found)
              : () => found.allowed;
            const wrong = protocol !== "TCP" || !expected
              ? undefined
              : REQUESTS.find((request) => judge(request) !== oracleAllows(manifests, { ...query, request }));
            if (found.ruleSets.length > 0) judged += REQUESTS.length;
            // What names change: another verdict than that of the address alone.
            if (remote.names?.length) {
              const alone = oracleAllows(manifests, { ...query, remote: { ...remote, names: [] } });
              if (expected !== alone) byName++;
            }
            if (found.allowed === expected && wrong === undefined) continue;
            assert.fail(
              `WEIR_SEED=${seed}: pod ${index} ${direction} ${name} ${port}/${protocol}: expected ${
                wrong ? `another verdict about ${wrong.method} ${wrong.path}` : expected ? "allow" : "deny"
              }, found ${JSON.stringify(found)}\n${JSON.stringify(manifests, null, 1)}\n${
                JSON.stringify(model.pods[index])
              }`,
            );
          }
        }
      }
    }
  }
  if (seeds.length === STACKS) {
    assert.ok(
      verdicts > 100_000 && denied > verdicts / 10 && denied < verdicts * 0.9,
      `${denied} of ${verdicts}`,
    );
    assert.ok(judged > 10_000, `${judged} requests`);
    assert.ok(byName > 800, `${byName} verdicts by name`);
  }
});

Deno.test("policies in audit mode change no verdict, and tell exactly what they would deny beside the others", () => {
  const counts = { passed: 0, audited: 0, denied: 0 };
  for (const seed of seeds.slice(0, 100)) {
    const random = new Random(seed * 104729);
    const model = randomModel(random);
    const cluster = new ModelCluster(model, "world");
    const objects = [
      ...Array.from({ length: random.below(4) }, (_, index) => randomGroup(random, index)),
      ...Array.from({ length: random.below(3) }, (_, index) => randomService(random, index)),
    ];
    const manifests = Array.from({ length: 1 + random.below(5) }, (_, index) => {
      const policy = randomPolicy(random, index);
      if (!random.chance(60)) return policy;
      // L7 rules are refused in audit mode.
      const text = JSON.stringify(policy, (key, value) => key === "rules" ? undefined : value);
      const { metadata, ...rest } = JSON.parse(text);
      return { ...rest, metadata: { ...metadata, annotations: { "weir.dev/mode": "audit" } } };
    });
    const enforcing = manifests.filter(({ metadata }) => metadata.annotations === undefined);
    cluster.apply([...objects, ...manifests]);
    const pods = model.pods.map((pod) => endOf(pod, NAMESPACES[pod.namespace]));
    const remotes: [number, OracleEnd][] = [
      ...pods.map((end, index): [number, OracleEnd] => [FIRST_POD_IDENTITY + index, end]),
      ...ADDRESSES.map((outside): [number, OracleEnd] => [
        cluster.externalIdentity(outside),
        { labels: {}, outside, namedPorts: [] },
      ]),
    ];
    for (const [index, subject] of pods.entries()) {
      const state = cluster.podState(index);
      for (const [identity, remote] of remotes) {
        for (const [protocol, port] of PORTS) {
          for (const direction of ["ingress", "egress"] as const) {
            const query = { subject, remote, direction, protocol, port, everyone: pods };
            const without = oracleAllows([...objects, ...enforcing], query);
            const beside = oracleAllows([...objects, ...manifests], query);
            const way = direction === "ingress" ? "INGRESS" : "EGRESS";
            const found = state.lookup(identity, way, PROTOCOL_NUMBERS[protocol], port);
            const said = () =>
              `WEIR_SEED=${seed}: pod ${index} ${direction} ${identity} ${port}/${protocol}: ${
                JSON.stringify({ without, beside, found })
              }\n${JSON.stringify([...objects, ...manifests])}`;
            assert.equal(found.allowed, without, said());
            assert.equal(found.audited !== undefined, without && !beside, said());
            for (
              const { policy } of cluster.repository.cookies.get(found.audited?.cookie ?? 0)?.sources ?? []
            ) {
              assert.ok(cluster.repository.policy(policy)?.audit, said());
            }
            counts[!without ? "denied" : beside ? "passed" : "audited"]++;
          }
        }
      }
    }
  }
  if (seeds.length === STACKS) {
    assert.ok(Object.values(counts).every((count) => count > 5_000), JSON.stringify(counts));
  }
});

/** What the proxy says of requests within a connection. */
function judgeOf(
  state: MapState,
  { ruleSets, plainCookie }: Verdict,
): (request: { method: string; path: string }) => boolean {
  const sets = ruleSets.map((id) => state.message.ruleSets.find((set) => set.id === id)!);
  const compiled = compileRuleSet(unionOfRuleSets(sets, plainCookie));
  return ({ method, path }) =>
    compiled.judge({ kind: "HTTP", method, path, host: "web", header: () => undefined }).allowed;
}

type Step = (repository: PolicyRepository) => void;

Deno.test("policy engine gives the same map states whatever the order of identities, port names and policies", () => {
  for (const seed of seeds.slice(0, 40)) {
    const random = new Random(seed * 7919);
    const model = randomModel(random);
    const groups = [0, 1, 2].map((index) => randomGroup(random, index));
    const services = [0, 1].map((index) => randomService(random, index));
    const policies = Array.from({ length: 4 }, (_, index) => randomPolicy(random, index));
    const manifests = [...policies, ...groups, ...services, ...randomTiers(random)];
    const steps: Step[] = [
      ...model.pods.map((pod, index): Step => (repository) => {
        const labels = podLabels(pod, NAMESPACES[pod.namespace], "world");
        repository.upsertIdentity(FIRST_POD_IDENTITY + index, labels);
      }),
      ...model.pods.map((pod, index): Step => (repository) =>
        repository.setNamedPorts(pod.ip, FIRST_POD_IDENTITY + index, pod.ports)
      ),
      ...manifests.map((manifest): Step => (repository) => put(repository, manifest)),
    ];
    const inOrder = new PolicyRepository();
    for (const step of steps) step(inOrder);
    const expected = snapshot(inOrder);
    for (let round = 0; round < 4; round++) {
      const repository = new PolicyRepository();
      for (let index = 0; index < 4; index++) put(repository, randomGroup(random, index));
      // What comes, goes and comes again leaves no trace.
      for (const step of random.shuffle([...steps, ...steps.slice(0, round * 3)])) step(repository);
      const extra = randomPolicy(random, 99);
      put(repository, extra);
      repository.removePolicy("ccg:g3");
      repository.upsertIdentity(5000, podLabels(model.pods[0], NAMESPACES.default, "world"));
      repository.setNamedPorts("10.9.9.9", 5000, [{ name: "http", port: 9999, protocol: "TCP" }]);
      repository.setNamedPorts("10.9.9.9", 5000, []);
      repository.removeIdentity(5000);
      for (const { name } of repository.policies()) if (name.includes("p99")) repository.removePolicy(name);
      assert.deepEqual(snapshot(repository), expected, `WEIR_SEED=${seed} round ${round}`);
    }
  }
});

function put(repository: PolicyRepository, manifest: Manifest): void {
  const { policies, faults } = readManifests(JSON.stringify(manifest), { isStored: true });
  assert.deepEqual(faults, []);
  for (const policy of policies) repository.upsertPolicy(policy);
}

/** Every map state, with prefixes in place of the numbers that depend on who came first. */
function snapshot(repository: PolicyRepository): unknown {
  const prefixes = new Map(repository.mentionedPairs().map(({ prefix, identity }) => [identity, prefix]));
  return [...repository.subjects()].sort((a, b) => a - b).map((subject) => {
    const { policyRevision: _, entries, ...rest } = repository.mapState(subject)!;
    const named = entries.map((entry) => {
      const remote = entry.identity < IDENTITY_LOCAL_MIN ? entry.identity : prefixes.get(entry.identity);
      return JSON.stringify({ ...entry, identity: remote });
    });
    return { ...rest, entries: named.sort() };
  });
}

Deno.test("MapState.of() gives the same verdicts for entries in any order", () => {
  const random = new Random(5);
  const cluster = new ModelCluster(randomModel(random), "world");
  cluster.apply(Array.from({ length: 12 }, (_, index) => randomPolicy(random, index)));
  const messages = [...cluster.repository.subjects()].map((subject) => cluster.repository.mapState(subject)!);
  const message = messages.sort((a, b) => b.entries.length - a.entries.length)[0];
  const state = MapState.of(message);
  assert.ok(state.entries.length > 0);
  for (let round = 0; round < 10; round++) {
    const shuffled = MapState.of({ ...message, entries: random.shuffle(message.entries) });
    assert.deepEqual(shuffled.entries, state.entries);
  }
});

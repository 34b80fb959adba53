/**
 * Policies of administrators: the tests of network-policy-api, hand-written mixes with NetworkPolicy, and random stacks in both of its
 * vocabularies.
 * @module
 */
import assert from "node:assert/strict";
import { IDENTITY_REMOTE_NODE, LabelSet, MapState, PROTOCOL_NUMBERS } from "@weir/common";
import { PolicyRepository, readManifests } from "@weir/policy-engine";
import { FIRST_POD_IDENTITY, ModelCluster, podLabels } from "./model.ts";
import type { Manifest } from "./oracle.ts";
import { type Model, type ModelPod, readTestdata, type Table } from "./testdata.ts";

interface ConformancePod {
  hostNetwork: boolean;
  ip: string;
  labels: Record<string, string>;
  name: string;
  namedPorts: ModelPod["ports"];
  namespace: string;
}
interface Probe {
  from: string;
  to: string;
  toIP: string;
  protocol: string;
  port: number;
  connect: boolean;
}
interface ConformanceFile {
  pods: ConformancePod[];
  cases: {
    name: string;
    steps: {
      subtest: string;
      namespaces: Model["namespaces"];
      clusterNetworkPolicies: Manifest[];
      networkPolicies?: Manifest[];
      probes: Probe[];
    }[];
  }[];
}
type Exception = { From: string; To: string; Port: number; Proto: string };
interface MixedFile {
  cases: (Model & {
    name: string;
    anps: Manifest[] | null;
    banp: Manifest | null;
    networkPolicies: Manifest[] | null;
    defaultIngress: "allowed" | "blocked";
    defaultEgress: "allowed" | "blocked";
    nonDefaultIngress: Exception[] | null;
    nonDefaultEgress: Exception[] | null;
  })[];
}
interface RandomFile extends Model {
  cases: {
    id: string;
    anps: Manifest[] | null;
    banp: Manifest | null;
    clusterNetworkPolicies: Manifest[] | null;
    networkPolicies: Manifest[] | null;
    tables: Table[];
  }[];
}

/** Cases that have something which is refused, and what the fault says. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  CNPAdminTierEgressNodePeers: /selector of nodes by label is not supported yet/,
  CNPBaselineTierEgressNodePeers: /selector of nodes by label is not supported yet/,
};

/** Mixes with selectors that the API has removed, and how many there are. */
const REMOVED = /field (sameLabels|notSameLabels) is not supported: the API removed it/, REMOVED_CASES = 6;

/** The data has what Go writes of structs: names and kinds are often left out. */
function manifestOf(apiVersion: string, kind: string, given: Manifest, index: number): Manifest {
  return {
    apiVersion,
    kind,
    ...given,
    metadata: { name: kind.startsWith("Baseline") ? "default" : `p${index}`, ...given.metadata },
  };
}

const V1ALPHA1 = "policy.networking.k8s.io/v1alpha1";

function adminPolicies(anps: Manifest[] | null, banp: Manifest | null): Manifest[] {
  return [
    ...(anps ?? []).map((one, index) => manifestOf(V1ALPHA1, "AdminNetworkPolicy", one, index)),
    ...banp ? [manifestOf(V1ALPHA1, "BaselineAdminNetworkPolicy", banp, 0)] : [],
  ];
}

function networkPolicies(given: Manifest[] | null | undefined): Manifest[] {
  return (given ?? []).map((one, index) => manifestOf("networking.k8s.io/v1", "NetworkPolicy", one, index));
}

/** The faults of manifests, as one text; "" for none. */
function faultsOf(manifests: readonly Manifest[]): string {
  const faults = manifests.flatMap((one) => readManifests(JSON.stringify(one)).faults);
  for (const { path, line, column } of faults) assert.ok(path !== "" && line > 0 && column > 0);
  return faults.map(({ path, detail }) => `${path}: ${detail}`).join("\n");
}

/** Whether it is one of the cases that are refused, as it should be. */
function isRefused(name: string, manifests: readonly Manifest[]): boolean {
  const faults = faultsOf(manifests), wanted = REFUSED[name];
  if (wanted === undefined) assert.equal(faults, "", name);
  else if (faults !== "") assert.match(faults, wanted, name);
  return faults !== "";
}

Deno.test("policy engine passes the tests of network-policy-api for ClusterNetworkPolicy", async () => {
  const { pods, cases } = await readTestdata<ConformanceFile>("network-policy-api-conformance");
  let probes = 0;
  const refused = new Set<string>(), wrong: string[] = [];
  for (const { name, steps } of cases) {
    for (
      const { subtest, namespaces, clusterNetworkPolicies, networkPolicies: ordinary, probes: asked } of steps
    ) {
      const manifests = [
        ...clusterNetworkPolicies.map(({ status: _, ...one }) => one),
        ...networkPolicies(ordinary),
      ];
      if (isRefused(name, manifests)) {
        refused.add(name);
        continue;
      }
      const cluster = conformanceCluster(pods, namespaces);
      for (const manifest of manifests) {
        for (const policy of readManifests(JSON.stringify(manifest)).policies) cluster.upsertPolicy(policy);
      }
      const find = (named: string) => pods.findIndex((pod) => `${pod.namespace}/${pod.name}` === named);
      for (const { from, to, protocol, port, connect } of asked) {
        probes++;
        const allowed = connects(cluster, pods, [find(from), find(to)], PROTOCOL_NUMBERS[protocol], port);
        if (allowed !== connect) {
          wrong.push(`${name} ${subtest} ${from} -> ${to} ${port}/${protocol}: ${connect}`);
        }
      }
    }
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual([...refused], ["CNPAdminTierEgressNodePeers", "CNPBaselineTierEgressNodePeers"]);
  assert.equal(probes, 292);
});

/** Identities of the pods; those in the network of a node have its identity. As with `--policy-cidr-match pods,nodes`, CIDRs mean all. */
function conformanceCluster(
  pods: readonly ConformancePod[],
  namespaces: Model["namespaces"],
): PolicyRepository {
  const repository = new PolicyRepository();
  const nodes = pods.filter(({ hostNetwork }) => hostNetwork).map(({ ip }) => `cidr:${ip}/32`);
  repository.upsertIdentity(IDENTITY_REMOTE_NODE, LabelSet.parse(["reserved:remote-node", ...nodes]));
  for (const [index, pod] of pods.entries()) {
    if (pod.hostNetwork) continue;
    const identity = FIRST_POD_IDENTITY + index;
    const labels = podLabels({ ...pod, ports: pod.namedPorts }, namespaces[pod.namespace], "pods");
    repository.upsertIdentity(identity, labels);
    repository.setNamedPorts(pod.ip, identity, pod.namedPorts);
  }
  return repository;
}

function connects(
  repository: PolicyRepository,
  pods: readonly ConformancePod[],
  [from, to]: readonly [number, number],
  protocol: number,
  port: number,
): boolean {
  const identityOf = (index: number) =>
    pods[index].hostNetwork ? IDENTITY_REMOTE_NODE : FIRST_POD_IDENTITY + index;
  const lookup = (end: number, other: number, direction: "INGRESS" | "EGRESS") => {
    const message = repository.mapState(identityOf(end));
    // A node's own sockets are under no policy.
    return message === undefined || pods[end].hostNetwork ||
      MapState.of(message, pods[end].namedPorts).lookup(identityOf(other), direction, protocol, port).allowed;
  };
  return lookup(from, to, "EGRESS") && lookup(to, from, "INGRESS");
}

Deno.test("policy engine gives the verdicts of hand-written mixes of tiers and NetworkPolicy", async () => {
  const { cases } = await readTestdata<MixedFile>("network-policy-api-mixed");
  const wrong: string[] = [];
  let verdicts = 0, refused = 0;
  for (const one of cases) {
    const manifests = [
      ...adminPolicies(one.anps, one.banp).map(({ status: _, ...rest }) => rest),
      ...networkPolicies(one.networkPolicies),
    ];
    const faults = faultsOf(manifests);
    if (faults !== "") {
      refused++;
      assert.match(faults, REMOVED, one.name);
    }
    const cluster = new ModelCluster(one, "world");
    cluster.apply(manifests.map(withoutRemoved));
    const states = one.pods.map((_, index) => cluster.podState(index));
    const nameOf = ({ namespace, name }: ModelPod) => `${namespace}/${name}`;
    for (const [i, source] of one.pods.entries()) {
      for (const [j, destination] of one.pods.entries()) {
        if (i === j) continue; // the data says nothing of a pod and itself
        for (const { port, protocol } of destination.ports) {
          for (
            const [direction, at, other, otherwise, exceptions] of [
              ["EGRESS", i, j, one.defaultEgress, one.nonDefaultEgress],
              ["INGRESS", j, i, one.defaultIngress, one.nonDefaultIngress],
            ] as const
          ) {
            const isException = exceptions?.some(({ From, To, Port, Proto }) =>
              From === nameOf(source) && To === nameOf(destination) && Port === port && Proto === protocol
            ) ?? false;
            verdicts++;
            const { allowed } = states[at].lookup(
              FIRST_POD_IDENTITY + other,
              direction,
              PROTOCOL_NUMBERS[protocol],
              port,
            );
            if (allowed !== ((otherwise === "allowed") !== isException)) {
              wrong.push(
                `${one.name} ${nameOf(source)} -> ${nameOf(destination)} ${port}/${protocol} ${direction}`,
              );
            }
          }
        }
      }
    }
  }
  assert.deepEqual(wrong, []);
  assert.equal(refused, REMOVED_CASES);
  assert.ok(verdicts > 1000, `only ${verdicts}`);
});

/** The same where a policy is for the namespace with the label `ns: x` alone, as those that have the removed selectors are. */
function withoutRemoved(manifest: Manifest): Manifest {
  const subject = JSON.stringify(manifest.spec.subject ?? {});
  return JSON.parse(JSON.stringify(manifest), (key, value) => {
    if (key !== "namespaces" || !("sameLabels" in value || "notSameLabels" in value)) return value;
    assert.match(subject, /"ns":"x"/);
    const operator = "sameLabels" in value ? "In" : "NotIn";
    return { namespaceSelector: { matchExpressions: [{ key: "ns", operator, values: ["x"] }] } };
  });
}

for (const form of ["AdminNetworkPolicy", "ClusterNetworkPolicy"] as const) {
  Deno.test(`policy engine gives the verdicts of random stacks of ${form} and NetworkPolicy`, async () => {
    const data = await readTestdata<RandomFile>("network-policy-api-random");
    const wrong: string[] = [];
    let verdicts = 0;
    for (const { id, anps, banp, clusterNetworkPolicies, networkPolicies: ordinary, tables } of data.cases) {
      const cluster = new ModelCluster(data, "pods");
      const admin = form === "AdminNetworkPolicy" ? adminPolicies(anps, banp) : clusterNetworkPolicies ?? [];
      cluster.apply([...networkPolicies(ordinary), ...admin.map(({ status: _, ...one }) => one)]);
      const states = data.pods.map((_, index) => cluster.podState(index));
      for (const table of tables) {
        for (const way of ["ingress", "egress"] as const) {
          for (const [i, row] of table[way].entries()) {
            for (const [j, expected] of [...row].entries()) {
              if (expected === "-") continue;
              verdicts++;
              const [at, other] = way === "egress" ? [i, j] : [j, i];
              const { allowed } = states[at].lookup(
                FIRST_POD_IDENTITY + other,
                way === "egress" ? "EGRESS" : "INGRESS",
                PROTOCOL_NUMBERS[table.protocol],
                table.port,
              );
              if (allowed !== (expected === ".")) {
                wrong.push(`${id} ${i} -> ${j} ${table.port}/${table.protocol} ${way}: expected ${expected}`);
              }
            }
          }
        }
      }
    }
    assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${verdicts} verdicts are wrong`);
    assert.equal(data.cases.length, 200);
    assert.ok(verdicts > 100_000, `only ${verdicts}`);
  });
}

Deno.test("NetworkPolicies in audit mode change no verdict among tiers, and tell what they would deny there", async () => {
  const data = await readTestdata<RandomFile>("network-policy-api-random");
  const counts = { passed: 0, audited: 0, denied: 0 };
  for (const [number, { id, anps, banp, networkPolicies: ordinary }] of data.cases.entries()) {
    const admin = adminPolicies(anps, banp).map(({ status: _, ...one }) => one);
    const all = networkPolicies(ordinary);
    // Every one, or every other one.
    const isTried = (index: number) => number % 2 === 0 || index % 2 === 0;
    const tried = all.map((one, index) =>
      isTried(index)
        ? { ...one, metadata: { ...one.metadata, annotations: { "weir.dev/mode": "audit" } } }
        : one
    );
    const [states, without, beside] = [tried, all.filter((_, index) => !isTried(index)), all].map(
      (ordinary) => {
        const cluster = new ModelCluster(data, "pods");
        cluster.apply([...ordinary, ...admin]);
        return data.pods.map((_, index) => cluster.podState(index));
      },
    );
    for (const [at, state] of states.entries()) {
      for (const other of data.pods.keys()) {
        for (const direction of ["INGRESS", "EGRESS"] as const) {
          for (const [protocol, port] of [[6, 80], [6, 81], [17, 80], [132, 81]] as const) {
            const asked = [FIRST_POD_IDENTITY + other, direction, protocol, port] as const;
            const found = state.lookup(...asked), passes = without[at].lookup(...asked).allowed;
            const stays = beside[at].lookup(...asked).allowed, said = `${id} ${at}: ${asked}`;
            assert.equal(found.allowed, passes, said);
            assert.equal(found.audited !== undefined, passes && !stays, said);
            counts[!passes ? "denied" : stays ? "passed" : "audited"]++;
          }
        }
      }
    }
  }
  assert.ok(Object.values(counts).every((count) => count > 1000), JSON.stringify(counts));
});

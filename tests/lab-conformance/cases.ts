/** Cases of the conformance data as policies and probes between pods. @module */
import { PROTOCOL_NUMBERS } from "@weir/common";
import { endOf, FIRST_POD_IDENTITY, ModelCluster } from "../conformance/model.ts";
import { type Manifest, oracleAllows } from "../conformance/oracle.ts";
import { NAMESPACES, Random, randomPolicy } from "../conformance/random_policies.ts";
import {
  type CiliumRandomFile,
  type KubernetesFile,
  type Model,
  type ModelPod,
  portAt,
  readTestdata,
  tablesOf,
  withoutProxy,
} from "../conformance/testdata.ts";

/** One connection that is tried. */
export interface Probe {
  /** namespace/name */
  readonly from: string;
  readonly to: string;
  readonly protocol: "TCP" | "UDP";
  readonly port: number;
  readonly passes: boolean;
}

/** Policies that are in force together, and what follows from them. */
export interface LabCase {
  readonly id: string;
  readonly manifests: readonly Manifest[];
  readonly probes: readonly Probe[];
}

/** Names a pod of a model. */
export const nameOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;

/** Every case of a file of NetworkPolicies that is about the file's own pods: those that change pods or labels on the way are left out. */
export async function kubernetesCases(file: string): Promise<{ model: Model; cases: LabCase[] }> {
  const { model, cases } = await readTestdata<KubernetesFile>(`kubernetes-${file}`);
  const base = podsOf(model!);
  const found = cases.flatMap(({ id, steps }) =>
    steps.flatMap((step, index): LabCase[] => {
      if (step.model !== undefined && podsOf(step.model) !== base) return [];
      const manifests = (step.policies ?? []).map((policy) => ({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        ...policy,
      }));
      const probes = step.tables.flatMap((table) => {
        // CIDRs mean addresses outside, as in the world mode of the engine's test.
        const { combined } = tablesOf(table, "world");
        return model!.pods.flatMap((to, j) => {
          const port = portAt(table, to.ports), { protocol } = table;
          if (port === undefined || (protocol !== "TCP" && protocol !== "UDP")) return [];
          return model!.pods.flatMap((from, i): Probe[] =>
            i === j || combined[i][j] === "-"
              ? []
              : [{ from: nameOf(from), to: nameOf(to), protocol, port, passes: combined[i][j] === "." }]
          );
        });
      });
      return [{ id: `${file} ${id}${steps.length > 1 ? ` step ${index}` : ""}`, manifests, probes }];
    })
  );
  return { model: model!, cases: found };
}

/** What policies see of the pods of a model. */
function podsOf({ namespaces, pods }: Model): string {
  return JSON.stringify([
    namespaces,
    pods.map(({ namespace, name, labels, ports }) => [namespace, name, labels, ports]),
  ]);
}

/** Ports that random policies are about. */
const RANDOM_PORTS = [["TCP", 80], ["TCP", 81], ["TCP", 88], ["TCP", 8080], ["UDP", 53], [
  "UDP",
  80,
]] as const;
/** Pods that random policies select, of which each has labels of its own. */
export const RANDOM_MODEL: Model = {
  namespaces: NAMESPACES,
  pods: Object.keys(NAMESPACES).flatMap((namespace, row) =>
    ["a", "b", "c"].map((app, column): ModelPod => ({
      namespace,
      name: `pod-${app}`,
      labels: column === row ? { app } : { app, tier: column === 1 ? "a" : "b" },
      ip: `10.0.0.${row * 3 + column + 1}`,
      ports: [
        { name: "http", port: column === 2 ? 8080 : 80, protocol: "TCP" },
        ...row === 2 ? [] : [{ name: "dns", port: 53, protocol: "UDP" }],
      ],
    }))
  ),
};

/** Random policies of one seed, with what the slow evaluator and the engine say of every pair. @throws where they differ */
export function randomCase(seed: number): LabCase {
  const random = new Random(seed);
  const manifests: Manifest[] = Array.from(
    { length: 1 + random.below(5) },
    (_, index) => JSON.parse(JSON.stringify(randomPolicy(random, index), withoutProxy)),
  );
  const { pods } = RANDOM_MODEL, ends = pods.map((pod) => endOf(pod, NAMESPACES[pod.namespace]));
  const cluster = new ModelCluster(RANDOM_MODEL, "world");
  cluster.apply(manifests);
  const states = pods.map((_, index) => cluster.podState(index));
  const probes = pods.flatMap((from, i) =>
    pods.flatMap((to, j) =>
      i === j ? [] : RANDOM_PORTS.map(([protocol, port]): Probe => {
        const allows = (direction: "ingress" | "egress") => {
          const [subject, remote] = direction === "ingress" ? [j, i] : [i, j];
          const query = {
            subject: ends[subject],
            remote: ends[remote],
            direction,
            protocol,
            port,
            everyone: ends,
          };
          const slow = oracleAllows(manifests, query), way = direction === "ingress" ? "INGRESS" : "EGRESS";
          const { allowed } = states[subject].lookup(
            FIRST_POD_IDENTITY + remote,
            way,
            PROTOCOL_NUMBERS[protocol],
            port,
          );
          if (slow !== allowed) {
            throw new Error(`seed ${seed}: the engine says ${allowed} of ${JSON.stringify(query)}`);
          }
          return allowed;
        };
        const leaves = allows("egress"), enters = allows("ingress");
        return { from: nameOf(from), to: nameOf(to), protocol, port, passes: leaves && enters };
      })
    )
  );
  return { id: `random sets, seed ${seed}`, manifests, probes };
}

/** Pods of kubernetes-random that have the labels of Cilium's. */
const CILIUM_PODS: Readonly<Record<string, string>> = { web: "p0", api: "p1", db: "p2" };

/**
 * Every case of Cilium's random stacks that is about pods and their numbered ports, layer 7 rules taken out: between the pods of which it says
 * both sides.
 */
export async function ciliumCases(): Promise<LabCase[]> {
  const { cases, identities } = await readTestdata<CiliumRandomFile>("cilium-random");
  return cases.flatMap(({ id, policies, endpoints }): LabCase[] => {
    const manifests: Manifest[] = policies.filter(({ rejected }) => rejected === undefined)
      .map(({ policy }) => JSON.parse(JSON.stringify(policy, withoutProxy)));
    // The pods in the lab have other numbers for these names.
    if (/"port":"[^"]*[a-z]/.test(JSON.stringify(manifests))) return [];
    const known = endpoints.filter(({ error }) => error === undefined);
    const columnOf = (name: string) => identities.findIndex((one) => one.name === name);
    const probes = known.flatMap(({ subject: from, verdicts: { egress } }) =>
      known.flatMap(({ subject: to, verdicts: { ingress } }) =>
        from === to ? [] : Object.keys(ingress).flatMap((port): Probe[] => {
          const [protocol, number] = port.split("/");
          if (protocol !== "TCP" && protocol !== "UDP") return [];
          const letters = [egress[port][columnOf(to)], ingress[port][columnOf(from)]];
          const passes = letters.every((letter) => letter !== "0" && letter !== "X");
          return letters.includes("-")
            ? []
            : [{ from: podOf(from), to: podOf(to), protocol, port: Number(number), passes }];
        })
      )
    );
    return probes.length === 0 ? [] : [{ id: `cilium ${id}`, manifests, probes }];
  });
}

function podOf(name: string): string {
  const [namespace, app] = name.split("/");
  return `${namespace}/${CILIUM_PODS[app]}`;
}

/**
 * Random policies of tiers, from a seed.
 * @module
 */
import type { Manifest } from "./oracle.ts";
import { CIDRS, type Random } from "./random_policies.ts";

/** One policy; `index` makes its name. Few priorities, so that some have the same. */
export function randomTiered(random: Random, index: number): Manifest {
  const kind = random.pick([
    "AdminNetworkPolicy",
    "ClusterNetworkPolicy",
    "ClusterNetworkPolicy",
    "BaselineAdminNetworkPolicy",
  ]);
  const isNew = kind === "ClusterNetworkPolicy", isBaseline = kind === "BaselineAdminNetworkPolicy";
  const spec: Manifest = { subject: randomPods(random) };
  if (isNew) spec.tier = random.pick(["Admin", "Baseline"]);
  if (!isBaseline) spec.priority = random.below(3);
  for (const direction of ["ingress", "egress"] as const) {
    if (random.chance(75)) {
      spec[direction] = random.list(1, 4, () => randomRule(random, { direction, isNew, isBaseline }));
    }
  }
  return {
    apiVersion: `policy.networking.k8s.io/${isNew ? "v1alpha2" : "v1alpha1"}`,
    kind,
    metadata: { name: isBaseline ? "default" : `t${index}` },
    spec,
  };
}

interface RuleForm {
  readonly direction: "ingress" | "egress";
  readonly isNew: boolean;
  readonly isBaseline: boolean;
}

function randomRule(random: Random, { direction, isNew, isBaseline }: RuleForm): Manifest {
  const allow = isNew ? "Accept" : "Allow";
  const action = random.pick(isBaseline ? [allow, "Deny"] : [allow, "Deny", "Pass"]);
  let mayName = true;
  const peers = random.list(1, 2, (): Manifest => {
    const kind = direction === "egress" ? random.below(10) : 0;
    if (kind >= 6) mayName = false;
    if (kind === 9 && action === allow && !isBaseline) {
      return { domainNames: random.list(1, 2, () => random.pick(["www.example.com", "*.example.com"])) };
    }
    if (kind === 8) return { nodes: {} };
    if (kind >= 6) return { networks: random.list(1, 2, () => random.pick(CIDRS)) };
    return randomPods(random);
  });
  const rule: Manifest = { action, [direction === "ingress" ? "from" : "to"]: peers };
  if (random.chance(60)) {
    rule[isNew ? "protocols" : "ports"] = random.list(1, 2, () => randomPort(random, isNew, mayName));
  }
  return rule;
}

function randomPods(random: Random): Manifest {
  const namespaces = random.pick<Manifest>([
    {},
    {},
    { matchLabels: { team: "a" } },
    { matchExpressions: [{ key: "env", operator: "DoesNotExist" }] },
    { matchExpressions: [{ key: "team", operator: "NotIn", values: ["b"] }] },
  ]);
  if (random.chance(50)) return { namespaces };
  const podSelector = random.chance(80) ? { matchLabels: { app: random.pick(["a", "b", "c"]) } } : {};
  return { pods: { namespaceSelector: namespaces, podSelector } };
}

function randomPort(random: Random, isNew: boolean, mayName: boolean): Manifest {
  if (mayName && random.chance(25)) {
    return { [isNew ? "destinationNamedPort" : "namedPort"]: random.pick(["http", "dns"]) };
  }
  const protocol = random.pick(["TCP", "TCP", "UDP", "SCTP"]);
  const number = random.pick([80, 81, 53, 8080, 7777]);
  const range = { start: random.pick([1, 53, 80]), end: random.pick([85, 88, 8080, 65535]) };
  const isRange = random.chance(35);
  if (isNew) return { [protocol.toLowerCase()]: { destinationPort: isRange ? { range } : { number } } };
  return isRange ? { portRange: { protocol, ...range } } : { portNumber: { protocol, port: number } };
}

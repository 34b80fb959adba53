/**
 * What `weir policy diff` costs: two sets of 500 policies of which some differ, without and with 200 workloads. CPU seconds of this process, and
 * the ratio to reading the files alone.
 * @module
 */
import process from "node:process";
import { compare, type Inventory, readInventory } from "@weir/policy-engine/offline";

const POLICIES = 500, APPS = 120;

function policy(index: number, version: number): string {
  const app = `app${index % APPS}`, peer = `app${(index * 7 + version) % APPS}`, port = 1000 + index;
  return `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: p${index}, namespace: ns${index % 10} }
spec:
  endpointSelector: { matchLabels: { app: ${app}, tier: t${index % 5} } }
  ingress:
  - fromEndpoints: [{ matchLabels: { app: ${peer} } }, { matchExpressions: [{ key: env, operator: NotIn, values: [dev] }] }]
    toPorts: [{ ports: [{ port: "${port}", protocol: TCP }] }]
  egress:
  - toCIDRSet: [{ cidr: 10.${index % 250}.0.0/16, except: [10.${index % 250}.${version}.0/24] }]
`;
}

function pods(count: number): string {
  return Array.from({ length: count }, (_, index) =>
    `apiVersion: v1
kind: Pod
metadata: { name: w${index}, namespace: ns${index % 10}, labels: { app: app${index % APPS}, tier: t${
      index % 5
    } } }
spec: {}
`).join("---\n");
}

/** The set in which every n-th policy says something else; 0: none does. */
function setOf(everyNth: number, workloads: number): Inventory {
  const policies = Array.from(
    { length: POLICIES },
    (_, index) => policy(index, everyNth > 0 && index % everyNth === 0 ? 2 : 1),
  );
  return readInventory([
    { file: "policies.yaml", text: policies.join("---\n") },
    { file: "pods.yaml", text: pods(workloads) },
  ]);
}

function cpuS(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

console.log("differs       workloads   classes   differences   CPU s   / reading");
for (const workloads of [0, 200]) {
  for (const everyNth of [100, 10, 1]) {
    let old!: Inventory, fresh!: Inventory, line = "";
    const reading = cpuS(() => {
      old = setOf(0, workloads);
      fresh = setOf(everyNth, workloads);
    });
    const comparing = cpuS(() => {
      const { classes, differences } = compare(old, fresh);
      line = `${String(classes).padStart(7)}   ${String(differences.length).padStart(11)}`;
    });
    console.log(
      `1 of ${String(everyNth).padEnd(8)} ${String(workloads).padStart(9)}   ${line}   ${
        comparing.toFixed(2).padStart(5)
      }   ${(comparing / reading).toFixed(2)}`,
    );
  }
}

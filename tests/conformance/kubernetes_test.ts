/**
 * Every NetworkPolicy case: the verdict for every pair of pods, in both directions, and for every address outside.
 * @module
 */
import assert from "node:assert/strict";
import { PROTOCOL_NUMBERS } from "@weir/common";
import { type CidrMode, FIRST_POD_IDENTITY, ModelCluster } from "./model.ts";
import { type KubernetesFile, type Model, portAt, readTestdata, type Step, tablesOf } from "./testdata.ts";

const FILES = ["recipes", "examples", "generated-mock", "generated-spread", "generated-ipv6", "random"];

for (const file of FILES) {
  for (const mode of ["world", "pods"] as const) {
    const means = mode === "world" ? "addresses outside" : "pods too";
    Deno.test(`policy engine gives the verdicts of kubernetes/${file} where a CIDR means ${means}`, async () => {
      const data = await readTestdata<KubernetesFile>(`kubernetes-${file}`);
      let verdicts = 0;
      const wrong: string[] = [];
      for (const { id, steps } of data.cases) {
        for (const [index, step] of steps.entries()) {
          const model = step.model ?? data.model!;
          verdicts += compare(step, model, mode, (where) => wrong.push(`${id} step ${index} ${where}`));
        }
      }
      assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${verdicts} verdicts are wrong`);
      assert.ok(verdicts > 1000, `only ${verdicts} verdicts were compared`);
    });
  }
}

function compare(step: Step, model: Model, mode: CidrMode, wrong: (where: string) => void): number {
  const cluster = new ModelCluster(model, mode);
  cluster.apply((step.policies ?? []).map((policy) => ({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    ...policy,
  })));
  const states = model.pods.map((_, index) => cluster.podState(index));
  let verdicts = 0;
  const check = (expected: string, found: boolean, where: string) => {
    verdicts++;
    if ((expected === ".") !== found) wrong(`${where}: expected ${expected}, found ${found ? "." : "X"}`);
  };
  for (const table of step.tables) {
    const protocol = PROTOCOL_NUMBERS[table.protocol];
    const { ingress, egress, combined } = tablesOf(table, mode);
    for (const [j, destination] of model.pods.entries()) {
      const port = portAt(table, destination.ports);
      for (const [i, source] of model.pods.entries()) {
        if (combined[i][j] === "-" || port === undefined) continue;
        const where = `${source.namespace}/${source.name} -> ${destination.namespace}/${destination.name} ` +
          `${table.portName ?? port}/${table.protocol}`;
        const out = states[i].lookup(FIRST_POD_IDENTITY + j, "EGRESS", protocol, port).allowed;
        const into = states[j].lookup(FIRST_POD_IDENTITY + i, "INGRESS", protocol, port).allowed;
        check(egress[i][j], out, `${where} egress`);
        check(ingress[i][j], into, `${where} ingress`);
        check(combined[i][j], out && into, where);
      }
    }
    if (table.portName !== undefined && table.portName !== "") continue; // ports outside have no names
    for (const [e, external] of (model.externals ?? []).entries()) {
      const identity = cluster.externalIdentity(external);
      for (const [j, pod] of model.pods.entries()) {
        const where = `${external} and ${pod.namespace}/${pod.name} ${table.port}/${table.protocol}`;
        const from = table.fromExternal?.[e]?.[j] ?? "-";
        if (from !== "-") {
          check(
            from,
            states[j].lookup(identity, "INGRESS", protocol, table.port).allowed,
            `${where} ingress`,
          );
        }
        const to = table.toExternal?.[e]?.[j] ?? "-";
        if (to !== "-") {
          check(to, states[j].lookup(identity, "EGRESS", protocol, table.port).allowed, `${where} egress`);
        }
      }
    }
  }
  return verdicts;
}

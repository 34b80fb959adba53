/**
 * `weir policy matrix` and `diff` over every NetworkPolicy case: manifests of pods and policies in, who reaches whom out.
 * @module
 */
import assert from "node:assert/strict";
import { PROTOCOL_NUMBERS } from "@weir/common";
import {
  compare,
  type Comparison,
  type Inventory,
  type Matrix,
  matrixOf,
  type PortRange,
  readInventory,
} from "@weir/policy-engine/offline";
import { type KubernetesFile, type Model, readTestdata, type Step, type Table } from "./testdata.ts";

const FILES = ["recipes", "examples", "generated-mock", "generated-spread", "random"];

for (const file of FILES) {
  Deno.test(`matrix gives the verdicts of kubernetes/${file}, and diff every pair that changes`, async () => {
    const data = await readTestdata<KubernetesFile>(`kubernetes-${file}`);
    const wrong: string[] = [], before = { cells: 0, changes: 0 };
    for (const { id, steps } of data.cases) {
      let earlier: { inventory: Inventory; matrix: Matrix; model: Model } | undefined;
      for (const [index, step] of steps.entries()) {
        const model = step.model ?? data.model!, inventory = inventoryOf(model, step);
        assert.deepEqual(inventory.faults, [], `${id} step ${index}`);
        const matrix = matrixOf(inventory);
        before.cells += compareTables(
          matrix,
          model,
          step.tables,
          (where) => wrong.push(`${id}/${index} ${where}`),
        );
        if (earlier?.model === model) {
          const comparison = compare(earlier.inventory, inventory);
          before.changes += compareChanges(
            comparison,
            earlier.matrix,
            matrix,
            (where) => wrong.push(`${id}/${index} ${where}`),
          );
        }
        earlier = { inventory, matrix, model };
      }
    }
    assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${before.cells} cells are wrong`);
    assert.ok(before.cells > 100, `only ${before.cells} cells were compared`);
  });
}

/** The manifests that a person would have, each read as from a file. */
function inventoryOf(model: Model, { policies }: Step): Inventory {
  const objects: unknown[] = [
    ...Object.entries(model.namespaces).map(([name, labels]) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels },
    })),
    ...model.pods.map(({ namespace, name, labels, ports }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { namespace, name, labels },
      spec: {
        containers: [{
          ports: ports.map(({ name, port, protocol }) => ({
            ...(name === "" ? {} : { name }),
            containerPort: port,
            protocol,
          })),
        }],
      },
    })),
    ...(policies ?? []).map((policy) => ({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      ...policy,
    })),
  ];
  return readInventory([{
    file: "model.yaml",
    text: objects.map((one) => JSON.stringify(one)).join("\n---\n"),
  }]);
}

function compareTables(
  matrix: Matrix,
  model: Model,
  tables: readonly Table[],
  wrong: (where: string) => void,
): number {
  let cells = 0;
  for (const table of tables) {
    const combined = table.worldOnlyCombined ?? table.combined, protocol = PROTOCOL_NUMBERS[table.protocol];
    for (const [j, destination] of model.pods.entries()) {
      const port = table.portName === undefined || table.portName === ""
        ? table.port
        : destination.ports.find(({ name, protocol }) =>
          name === table.portName && protocol === table.protocol
        )?.port;
      if (port === undefined) continue;
      for (const [i, source] of model.pods.entries()) {
        const expected = combined[i][j];
        if (expected === "-" || i === j) continue;
        cells++;
        const found = reaches(matrix, nameOf(source), nameOf(destination), protocol, port);
        if (found !== (expected === ".")) {
          wrong(
            `${nameOf(source)} -> ${nameOf(destination)} ${port}/${table.protocol}: expected ${expected}`,
          );
        }
      }
    }
  }
  return cells;
}

/** Every pair of workloads that changes on some port is covered by a difference of that effect on that port. */
function compareChanges(
  { differences, isCut }: Comparison,
  old: Matrix,
  fresh: Matrix,
  wrong: (where: string) => void,
): number {
  let changes = 0;
  if (isCut) wrong("diff did not try all labels");
  const starts = [...old.cells, ...fresh.cells].flatMap(({ ports }) => ports).flatMap((
    { protocol, first, last },
  ) => [
    { protocol, port: first },
    { protocol, port: last },
  ]);
  const points = new Map(starts.map((point) => [`${point.protocol}/${point.port}`, point]));
  for (const { from, to } of fresh.cells) {
    if (from.type !== "workload" || to.type !== "workload") continue;
    for (const { protocol, port } of points.values()) {
      const now = reaches(fresh, from.name, to.name, protocol, port);
      if (reaches(old, from.name, to.name, protocol, port) === now) continue;
      changes++;
      const effect = now ? "opens" : "closes";
      const isTold = differences.some((one) =>
        one.effect === effect &&
        one.ports.some((range) => range.protocol === protocol && range.first <= port && port <= range.last)
      );
      if (!isTold) wrong(`diff does not say that ${from.name} -> ${to.name} ${port}/${protocol} ${effect}`);
    }
  }
  if (
    changes === 0 && differences.some(({ from, to }) => from.type === "workload" && to.type === "workload")
  ) {
    wrong("diff says that workloads change, and none does");
  }
  return changes;
}

const INDEXES = new WeakMap<Matrix, Map<string, readonly PortRange[]>>();

function reaches(matrix: Matrix, from: string, to: string, protocol: number, port: number): boolean {
  let index = INDEXES.get(matrix);
  if (index === undefined) {
    index = new Map(matrix.cells.map((cell) => [`${cell.from.name} ${cell.to.name}`, cell.ports]));
    INDEXES.set(matrix, index);
  }
  return index.get(`${from} ${to}`)!.some((range) =>
    range.protocol === protocol && range.first <= port && port <= range.last
  );
}

function nameOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

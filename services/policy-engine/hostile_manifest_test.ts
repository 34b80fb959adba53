import assert from "node:assert/strict";
import { readManifests } from "./manifest.ts";
import { readInventory } from "./offline/inventory.ts";

const head = (spec: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: a }\nspec:\n${spec}`;
const PORTS = "  endpointSelector: {}\n  ingress:\n  - toPorts:\n    - ports:\n";

Deno.test("hostile manifests are refused with line and column, soon, where they are applied and where files are judged", () => {
  const values = Array.from({ length: 10_000 }, (_, at) => `v${at}`).join(", ");
  const cases: [name: string, text: string, expected: RegExp][] = [
    ["deep", head("  endpointSelector: " + "{a: ".repeat(50_000)), /nested deeper than 64/],
    ["100,000 ports", head(PORTS + "      - {port: 80}\n".repeat(100_000)), /more than 20000 entries/],
    [
      "10,000 ports",
      head(PORTS + "      - {port: 80}\n".repeat(10_000)),
      /ports: 10000 items, want at most 40/,
    ],
    [
      "values",
      head(
        `  endpointSelector:\n    matchExpressions:\n    - { key: a, operator: In, values: [${values}] }\n  ingress: [{}]\n`,
      ),
      /values: 10000 items, want at most 256/,
    ],
    [
      "anchors",
      head("  a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n") +
      [..."bcdefgh"].map((name, at) => `  ${name}: &${name} [${Array(9).fill(`*${"abcdefgh"[at]}`)}]\n`).join(
        "",
      ),
      /aliases stand for more than 20000 values/,
    ],
  ];
  for (const [name, text, expected] of cases) {
    for (const read of [readManifests, (text: string) => readInventory([{ file: "a.yaml", text }])]) {
      const started = performance.now(), { policies, faults } = read(text);
      const took = performance.now() - started;
      assert.deepEqual(policies, [], name);
      const [{ path, line, column, detail }] = faults;
      assert.match(`${path}: ${detail}`, expected, name);
      assert.ok(line >= 4 && column > 0, `${name} ${line}:${column}`);
      // One second on an idle machine.
      assert.ok(took < 6000, `${name} took ${took} ms`);
    }
  }
});

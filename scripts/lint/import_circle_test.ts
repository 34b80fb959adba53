import assert from "node:assert/strict";
import { importCircles, importedFiles } from "./import_circle.ts";

const root = new URL("../../", import.meta.url).pathname;

function* sources(dir: string): Generator<string> {
  for (const entry of Deno.readDirSync(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) {
      if (!["gen", "testdata", "node_modules", ".build", ".git"].includes(entry.name)) yield* sources(path);
    } else if (entry.name.endsWith(".ts")) yield path;
  }
}

Deno.test("no file of the tree comes back to itself by its imports", () => {
  const files = ["proto", "services", "datapath", "scripts", "tests"].flatMap((
    dir,
  ) => [...sources(root + dir)]);
  assert.ok(files.length > 400, `${files.length} files`);
  const graph = new Map(files.map((file) => {
    const suffix = file.includes("/verifier/assembly/") ? ".ts" : "";
    return [file, importedFiles(file, Deno.readTextFileSync(file), suffix)];
  }));
  const imports = [...graph.values()].flat().filter((file) => graph.has(file)).length;
  assert.ok(imports > 1000, `${imports} imports by path`);
  const circles = importCircles(graph).map((files) =>
    files.map((file) => file.slice(root.length)).join(" <-> ")
  );
  assert.deepEqual(circles, []);
});

Deno.test("importedFiles() sees imports and exports by path, of one line and of several, no types alone and no comments", () => {
  const source = `/** import { x } from "./doc.ts"; */
// import "./line.ts";
import { a } from "./a.ts";
import {
  B,
  type C,
} from "../b.ts";
import type { T } from "./types.ts";
import { type U, type V } from "./types.ts";
import "./side_effect.ts";
export * from "./c.ts";
export { d } from "@weir/common";
export const e = "./text.ts";
import { f } from "./f";
`;
  assert.deepEqual(importedFiles("/r/s/x.ts", source, ".ts"), [
    "/r/s/a.ts",
    "/r/b.ts",
    "/r/s/side_effect.ts",
    "/r/s/c.ts",
    "/r/s/f.ts",
  ]);
});

Deno.test("importCircles() finds circles of one, two and three files and no others", () => {
  const circles = importCircles(
    new Map([
      ["a", ["b", "outside"]],
      ["b", ["a", "c"]],
      ["c", ["d"]],
      ["d", ["e", "c1"]],
      ["e", ["c"]],
      ["c1", []],
      ["self", ["self"]],
      ["top", ["a", "self"]],
    ]),
  );
  assert.deepEqual(circles, [["a", "b"], ["c", "d", "e"], ["self"]]);
});

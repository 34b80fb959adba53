import assert from "node:assert/strict";
import plugin, { importFault, MAY_IMPORT } from "./import_direction.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Every source of the packages that MAY_IMPORT names, as absolute paths. */
function* sources(dir: string): Generator<string> {
  for (const entry of Deno.readDirSync(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) {
      // The verifier's module is AssemblyScript; generated code and test data are nobody's import decisions.
      if (!["gen", "testdata", "assembly", "node_modules"].includes(entry.name)) yield* sources(path);
    } else if (entry.name.endsWith(".ts")) yield path;
  }
}

Deno.test("no file of the tree imports against the direction, or opens a shared library out of place", () => {
  const files = Object.keys(MAY_IMPORT).flatMap((dir) => [...sources(`${root}${dir}`)]);
  assert.ok(files.length > 200, `${files.length} files`);
  const faults = files.flatMap((file) =>
    Deno.lint.runPlugin(plugin, file, Deno.readTextFileSync(file))
      .map((d) => `${file.slice(root.length)}: ${d.message}`)
  );
  assert.deepEqual(faults, []);
});

Deno.test("the plugin sees imports, exports and Deno.dlopen where they do not belong", () => {
  const found = (file: string, source: string) =>
    Deno.lint.runPlugin(plugin, `${root}${file}`, source).map((d) => d.id);
  assert.deepEqual(found("proto/a.ts", 'import { x } from "@weir/common"; x();'), ["weir/import-direction"]);
  assert.deepEqual(found("proto/a.ts", 'export * from "@weir/common";'), ["weir/import-direction"]);
  assert.deepEqual(found("services/common/a.ts", 'Deno.dlopen("libbpf.so", {});'), ["weir/ffi-in-its-place"]);
  assert.deepEqual(found("datapath/net/a.ts", 'Deno.dlopen("libc.so.6", {});'), []);
});

Deno.test("importFault() keeps data flowing one way", () => {
  const cases: [file: string, specifier: string, ok: boolean][] = [
    ["/r/services/policy-engine/a.ts", "@weir/common", true],
    ["/r/services/policy-engine/a.ts", "@weir/proto/policy", true],
    ["/r/services/policy-engine/a.ts", "@weir/identity-allocator", false],
    ["/r/services/policy-engine/a.ts", "../identity-allocator/mod.ts", false],
    ["/r/services/policy-engine/a.ts", "./b.ts", true],
    ["/r/services/common/a.ts", "@weir/client", false],
    ["/r/proto/codec.ts", "@weir/common", false],
    ["/r/datapath/verifier/a.ts", "@weir/object", false],
    ["/r/datapath/loader/a.ts", "@weir/sandbox", true],
    ["/r/services/cli/verify.ts", "@weir/report", true],
    ["/r/services/lab/a.ts", "@weir/loader", false],
    ["/r/tests/e2e/a.ts", "@weir/loader", true],
  ];
  for (const [file, specifier, ok] of cases) {
    assert.equal(importFault(file, specifier) === undefined, ok, `${file} -> ${specifier}`);
  }
});

Deno.test("MAY_IMPORT names every package of the workspace and has no cycle", () => {
  const { workspace } = JSON.parse(Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)));
  const byName = new Map<string, string>();
  for (const path of workspace as string[]) {
    const dir = path.replace("./", "");
    if (dir === "tests") continue;
    assert.ok(MAY_IMPORT[dir], `${dir} has no entry`);
    byName.set(
      JSON.parse(Deno.readTextFileSync(new URL(`../../${dir}/deno.json`, import.meta.url))).name,
      dir,
    );
  }
  const walk = (dir: string, trail: string[]): void => {
    assert.ok(!trail.includes(dir), `cycle: ${[...trail, dir].join(" -> ")}`);
    for (const name of MAY_IMPORT[dir]) walk(byName.get(name)!, [...trail, dir]);
  };
  for (const dir of byName.values()) walk(dir, []);
});

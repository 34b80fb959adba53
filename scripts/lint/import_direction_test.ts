import assert from "node:assert/strict";
import { importFault, MAY_IMPORT } from "./import_direction.ts";

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

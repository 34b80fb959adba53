import { deepEqual, throws } from "node:assert/strict";
import { type Lock, neededModules, packagesOf } from "./modules.ts";

const lock = (npm: Lock["npm"]): Lock => ({ specifiers: {}, npm });

Deno.test("neededModules() follows dependencies, by name, by version and with peers", () => {
  const npm = {
    "pg@8.1.0": { dependencies: ["pg-pool@3.1.0_pg@8.1.0", "split2"] },
    "pg-pool@3.1.0_pg@8.1.0": { dependencies: ["pg"] },
    "split2@4.0.0": {},
    "@scope/unused@1.0.0": {},
  };
  deepEqual(
    [...neededModules(lock(npm), ["pg"])],
    [["pg", "pg/8.1.0"], ["pg-pool", "pg-pool/3.1.0"], ["split2", "split2/4.0.0"]],
  );
  deepEqual([...neededModules(lock(npm), ["@scope/unused"])], [["@scope/unused", "@scope/unused/1.0.0"]]);
});

Deno.test("neededModules() refuses what is not in the lock and what it cannot tell apart", () => {
  throws(() => neededModules(lock({}), ["hono"]), /which hono is meant: deno.lock has none/);
  const twice = { "a@1.0.0": {}, "a@2.0.0": {}, "b@1.0.0": { dependencies: ["a@1.0.0"] } };
  throws(() => neededModules(lock(twice), ["a"]), /which a is meant: deno.lock has a@1.0.0, a@2.0.0/);
});

Deno.test("neededModules() gives who needs another version one of its own", () => {
  const npm = {
    "a@1.0.0": {},
    "a@2.0.0": { dependencies: ["d"] },
    "b@1.0.0": { dependencies: ["a@1.0.0", "e"] },
    "c@1.0.0": { dependencies: ["b", "a@2.0.0"] },
    "d@1.0.0": {},
    "e@1.0.0": { dependencies: ["a@1.0.0"] },
  };
  deepEqual([...neededModules(lock(npm), ["c"])], [
    ["c", "c/1.0.0"],
    ["b", "b/1.0.0"],
    ["a", "a/1.0.0"],
    ["e", "e/1.0.0"],
    ["c/node_modules/a", "a/2.0.0"],
    ["d", "d/1.0.0"],
  ]);
});

Deno.test("neededModules() places what this repository runs with", async () => {
  const read = async (name: string) =>
    JSON.parse(await Deno.readTextFile(new URL(`../../${name}`, import.meta.url)));
  const { imports } = await read("deno.json");
  const names = packagesOf(Object.keys(imports).filter((name) => !/^(@types\/|assemblyscript$)/.test(name)));
  const needed = neededModules(await read("deno.lock"), names);
  for (const name of names) deepEqual(needed.has(name), true, name);
});

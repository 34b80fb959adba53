import assert from "node:assert/strict";
import type { ProblemError } from "@weir/common";
import { assertReadable, STATE_SCHEMA, writeStamp } from "./state_version.ts";

const temporary = async () => {
  const path = await Deno.makeTempDir();
  return {
    path,
    stamp: `${path}/version.json`,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
};

Deno.test("assertReadable() takes a directory without a stamp, an older one and its own", async () => {
  await using directory = await temporary();
  assertReadable(directory.path, "0.1.0");
  writeStamp(directory.path, "0.1.0");
  assertReadable(directory.path, "0.1.0");
  await Deno.writeTextFile(directory.stamp, JSON.stringify({ schema: STATE_SCHEMA - 1, version: "0.0.9" }));
  assertReadable(directory.path, "0.1.0");
  writeStamp(directory.path, "0.2.0");
  const told = JSON.parse(await Deno.readTextFile(directory.stamp));
  assert.deepEqual(told, { schema: STATE_SCHEMA, version: "0.2.0" }, "an upgrade says so");
  assert.deepEqual([...Deno.readDirSync(directory.path)].map(({ name }) => name), ["version.json"]);
});

Deno.test("assertReadable() refuses the state of a newer version, and names it", async () => {
  await using directory = await temporary();
  await Deno.writeTextFile(directory.stamp, JSON.stringify({ schema: STATE_SCHEMA + 1, version: "9.8.7" }));
  assert.throws(() => assertReadable(directory.path, "0.1.0"), (error: ProblemError) => {
    assert.equal(error.code, "STATE_NEWER");
    assert.match(
      `${error.message} ${error.problem.action}`,
      /newer version, Weir 9\.8\.7.*Install Weir 9\.8\.7 again/s,
    );
    return true;
  });
});

Deno.test("assertReadable() refuses a stamp that says nothing", async () => {
  await using directory = await temporary();
  for (
    const text of ["", "{", "null", "[]", '{"schema":"3","version":"1"}', '{"schema":3}', "x".repeat(5000)]
  ) {
    await Deno.writeTextFile(directory.stamp, text);
    assert.throws(() => assertReadable(directory.path, "0.1.0"), `${text.slice(0, 20)} is refused`);
  }
});

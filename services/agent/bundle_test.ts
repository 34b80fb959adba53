import { equal, match, notEqual } from "node:assert/strict";
import { bundleName, codeOf, ensureBundle, sourcesDigest } from "./bundle.ts";

const ENTRY = "services/agent/instance_lock.ts";

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("ensureBundle() replaces the bundle of another version, however new its file is", async () => {
  await using directory = await temporary();
  const { path } = directory;
  const file = `${path}/${bundleName(ENTRY)}`;
  const code = codeOf(file);
  // As older versions wrote it: all in one file, and then in two.
  await Deno.writeTextFile(file, "throw new Error('old');\n// sources bb\n");
  await Deno.writeTextFile(code, "throw new Error('old');\n// sources aa\n");
  for (const old of [file, code]) await Deno.utime(old, new Date(4e12), new Date(4e12));
  equal(await ensureBundle(ENTRY, path, "bb"), file);
  match(await Deno.readTextFile(file), /new URL\("\.\/services-agent-instance_lock\.ts\.cjs"/);
  const made = await Deno.readTextFile(code);
  match(made, /\n\/\/ sources bb\n$/);
  equal(made.includes("Error('old')"), false);
  // What is of these sources stays as it is.
  await Deno.writeTextFile(code, "kept\n// sources bb\n");
  await ensureBundle(ENTRY, path, "bb");
  equal(await Deno.readTextFile(code), "kept\n// sources bb\n");
});

Deno.test("sourcesDigest() differs with the place, size and time of a source, and not with a test", async () => {
  await using one = await temporary();
  await using other = await temporary();
  for (const { path } of [one, other]) {
    await Deno.mkdir(`${path}/services`);
    await Deno.writeTextFile(`${path}/services/a.ts`, "1");
    await Deno.utime(`${path}/services/a.ts`, 1000, 1000);
  }
  const digest = () => sourcesDigest(`${one.path}/`);
  const first = await digest();
  equal(await digest(), first);
  notEqual(await sourcesDigest(`${other.path}/`), first);
  await Deno.writeTextFile(`${one.path}/services/a_test.ts`, "1");
  equal(await digest(), first);
  await Deno.utime(`${one.path}/services/a.ts`, 900, 900);
  notEqual(await digest(), first);
  await Deno.writeTextFile(`${one.path}/services/a.ts`, "12");
  await Deno.utime(`${one.path}/services/a.ts`, 1000, 1000);
  notEqual(await digest(), first);
});

import { deepEqual, equal } from "node:assert/strict";
import type { Layout } from "./layout.ts";
import { migrateState } from "./state_migration.ts";

const layoutIn = (state: string): Layout => ({
  instance: "x",
  sockets: "/none",
  state,
  code: "/none",
  uid: Deno.uid() === 0 ? 990 : Deno.uid()!,
  gid: Deno.uid() === 0 ? 990 : Deno.gid()!,
});
const write = (path: string, text: string) => Deno.writeTextFile(path, text);

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("migrateState() moves the files of an older version with what they hold, once", async () => {
  await using directory = await temporary();
  const { path } = directory;
  await write(`${path}/identity.db`, "main");
  await write(`${path}/identity.db-wal`, "log");
  await Deno.mkdir(`${path}/endpoints`);
  await write(`${path}/endpoints/web.json`, "{}");
  const { moved } = await migrateState(layoutIn(path));
  deepEqual(moved.sort(), ["endpoints", "identity.db", "identity.db-wal"]);
  equal(await Deno.readTextFile(`${path}/identity-allocator/identity.db`), "main");
  equal(await Deno.readTextFile(`${path}/identity-allocator/identity.db-wal`), "log");
  equal(await Deno.readTextFile(`${path}/endpoint-manager/endpoints/web.json`), "{}");
  equal((await Deno.stat(`${path}/policy-engine`)).mode! & 0o777, 0o700);
  deepEqual(await migrateState(layoutIn(path)), { moved: [], left: [] });
});

Deno.test("migrateState() goes on where a crash left it, and never replaces what is newer", async () => {
  await using directory = await temporary();
  const { path } = directory;
  await Deno.mkdir(`${path}/policy-engine`);
  await write(`${path}/policy-engine/policy.db-wal`, "log");
  await write(`${path}/policy.db`, "main");
  deepEqual((await migrateState(layoutIn(path))).moved, ["policy.db"]);
  await write(`${path}/policy.db`, "of a downgrade");
  deepEqual(await migrateState(layoutIn(path)), { moved: [], left: [`${path}/policy.db`] });
  equal(await Deno.readTextFile(`${path}/policy-engine/policy.db`), "main");
});

Deno.test({
  name: "migrateState() gives the services the files of another user, and not what a link names",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using directory = await temporary();
    const { path } = directory;
    const outside = await Deno.makeTempFile();
    await Deno.chown(outside, 65534, 65534);
    await Deno.mkdir(`${path}/endpoints`);
    await write(`${path}/endpoints/web.json`, "{}");
    await write(`${path}/endpoints/root.json`, "{}");
    await Deno.chown(`${path}/endpoints`, 65534, 65534);
    await Deno.chown(`${path}/endpoints/web.json`, 65534, 65534);
    await Deno.symlink(outside, `${path}/endpoints/link.json`);
    await Deno.link(outside, `${path}/endpoints/second.json`);
    await migrateState(layoutIn(path));
    const uidOf = async (name: string) => (await Deno.lstat(`${path}/endpoint-manager/${name}`)).uid;
    equal(await uidOf("endpoints"), 990);
    equal(await uidOf("endpoints/web.json"), 990);
    equal(await uidOf("endpoints/root.json"), 0);
    equal((await Deno.stat(outside)).uid, 65534);
    await Deno.remove(outside);
  },
});

Deno.test("migrateState() makes the directories of more services, and forgets processes of the L7 proxy that run no more", async () => {
  await using directory = await temporary();
  const { path } = directory;
  await migrateState(layoutIn(path), ["l7-proxy-2", "l7-proxy-3"]);
  for (const name of ["l7-proxy", "l7-proxy-2", "l7-proxy-3"]) await write(`${path}/${name}/kept`, name);
  await migrateState(layoutIn(path), ["l7-proxy-2"]);
  equal(await Deno.readTextFile(`${path}/l7-proxy/kept`), "l7-proxy");
  equal(await Deno.readTextFile(`${path}/l7-proxy-2/kept`), "l7-proxy-2");
  await migrateState(layoutIn(path), ["l7-proxy-2", "l7-proxy-3"]);
  deepEqual([...Deno.readDirSync(`${path}/l7-proxy-3`)], []);
});

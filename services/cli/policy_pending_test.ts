import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { WeirClient } from "@weir/client";
import { ApiServer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { createPolicyEngine } from "@weir/policy-engine";
import { Identity, IpcacheEntry } from "@weir/proto/identity";

const command = fileURLToPath(new URL("main.ts", import.meta.url));

Deno.test("weir policy apply --confirm-within is in force when the command has ended, and goes unless it is confirmed", async () => {
  const api = new ApiServer({ name: "identity-allocator" });
  api.collection({ name: "identities", message: Identity, table: new WatchedTable({ name: "identities" }) });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  const database = new Database("sqlite::memory:"), directory = await Deno.makeTempDir();
  const engine = createPolicyEngine({ database, allocator: new WeirClient({ handler: api.fetch }) });
  engine.start();
  await engine.waitReady();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, engine.handler);
  const run = async (...args: string[]) => {
    const words = [
      "run",
      "-A",
      command,
      "--server",
      `http://127.0.0.1:${server.addr.port}`,
      "policy",
      ...args,
    ];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: words,
      env: { SUDO_USER: "ann" },
    })
      .output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), err: text(stderr) };
  };
  try {
    const file = `${directory}/a.yaml`;
    await Deno.writeTextFile(
      file,
      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: a, namespace: shop }\n" +
        "spec: { endpointSelector: {}, ingress: [{}] }\n",
    );
    const applied = await run("apply", "-f", file, "--confirm-within", "600s", "--no-wait");
    assert.deepEqual([applied.code, applied.out], [0, "cnp:shop/a created\n"], applied.err);
    const [, id] = /^weir: (change-\w+) is rolled back in \d+ s unless you keep it/m.exec(applied.err)!;
    assert.match((await run("list")).err, new RegExp(`${id} of ann waits to be confirmed \\(1 policy\\)`));
    assert.match(
      (await run("pending")).out,
      new RegExp(`^${id} +ann +in \\d+ s +cnp:shop/a \\(new\\)$`, "m"),
    );
    const refused = await run("delete", "shop/a", "--no-wait");
    assert.equal(refused.code, 1);
    assert.match(refused.err, /change-\w+ of ann waits to be confirmed until 20\d\d-/);
    assert.equal((await run("rollback", id)).out, "cnp:shop/a rolled back\n");
    assert.match((await run("list")).out, /No policies/);
    assert.match((await run("pending")).out, /No change waits/);
    assert.equal((await run("confirm")).code, 1);
    assert.equal((await run("apply", "-f", file, "--confirm-within", "5")).code, 2);
    await run("apply", "-f", file, "--confirm-within", "600s", "--no-wait");
    assert.equal((await run("confirm")).out, "cnp:shop/a confirmed\n");
    assert.equal((await run("confirm")).code, 1);
    const gone = await run("delete", "shop/a", "--confirm-within", "1s", "--no-wait");
    assert.equal(gone.out, "cnp:shop/a deleted\n", gone.err);
    while (engine.store.policies.get("cnp:shop/a") === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    await server.shutdown();
    await engine.stop();
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});

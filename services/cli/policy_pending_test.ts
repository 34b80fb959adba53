import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { sql } from "kysely";
import { WeirClient } from "@weir/client";
import { ApiServer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { createPolicyEngine } from "@weir/policy-engine";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { PendingChange } from "@weir/proto/policy";

const command = fileURLToPath(new URL("main.ts", import.meta.url));

/** An engine, and what runs the command against `handler`, or the engine itself. */
async function startEngine() {
  const api = new ApiServer({ name: "identity-allocator" });
  api.collection({ name: "identities", message: Identity, table: new WatchedTable({ name: "identities" }) });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  const database = new Database("sqlite::memory:"), directory = await Deno.makeTempDir();
  const engine = createPolicyEngine({ database, allocator: new WeirClient({ handler: api.fetch }) });
  engine.start();
  await engine.waitReady();
  const file = `${directory}/a.yaml`;
  await Deno.writeTextFile(
    file,
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: a, namespace: shop }\n" +
      "spec: { endpointSelector: {}, ingress: [{}] }\n",
  );
  const end = async () => {
    await engine.stop();
    await database.close();
    await Deno.remove(directory, { recursive: true });
  };
  return { engine, file, end };
}

function commandTo({ addr }: Deno.HttpServer<Deno.NetAddr>, ...args: string[]): Deno.Command {
  const words = ["run", "-A", command, "--server", `http://127.0.0.1:${addr.port}`, "policy", ...args];
  return new Deno.Command(Deno.execPath(), {
    args: words,
    env: { SUDO_USER: "ann" },
    stdout: "piped",
    stderr: "piped",
  });
}

Deno.test("A change is rolled back in time although the command that made it was killed before it was answered", async () => {
  const { engine, file, end } = await startEngine();
  const stop = new AbortController(), applied = Promise.withResolvers<void>();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    async (request) => {
      const answer = await engine.handler(request);
      if (engine.store.pending.size === 0) return answer;
      // In force, and nobody was told.
      applied.resolve();
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
      return answer;
    },
  );
  try {
    const child = commandTo(server, "apply", "-f", file, "--confirm-within", "2s").spawn();
    const output = child.output();
    await applied.promise;
    assert.equal(engine.store.pending.size, 1);
    assert.ok(engine.store.policies.get("cnp:shop/a") !== undefined);
    child.kill("SIGKILL");
    assert.equal((await output).signal, "SIGKILL");
    while (engine.store.pending.size > 0) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(engine.store.policies.get("cnp:shop/a"), undefined);
  } finally {
    stop.abort();
    await server.shutdown();
    await end();
  }
});

Deno.test("weir policy apply --confirm-within is in force when the command has ended, and goes unless it is confirmed", async () => {
  const { engine, file, end: endEngine } = await startEngine();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, engine.handler);
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await commandTo(server, ...args).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), err: text(stderr) };
  };
  try {
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
    // One that the engine cannot read is named, and confirming it takes it away.
    await engine.store.store.transact(async (tx) => {
      const damaged = new Uint8Array([0xff]), revision = tx.revision + 1;
      await tx.put("pending-policies", "change-0", PendingChange.create({ id: "change-0" }));
      await sql`update weir_objects set body = ${damaged} where name = 'change-0'`.execute(tx.tx);
      await sql`update weir_log set body = ${damaged} where revision = ${revision}`.execute(tx.tx);
    });
    const named = await run("pending");
    assert.match(named.err, /^weir: warning: change-0 cannot be rolled back: it cannot be read/m);
    assert.equal((await run("confirm", "change-0")).code, 0);
    assert.equal((await run("pending")).err, "");
    const gone = await run("delete", "shop/a", "--confirm-within", "1s", "--no-wait");
    assert.equal(gone.out, "cnp:shop/a deleted\n", gone.err);
    while (engine.store.policies.get("cnp:shop/a") === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    await server.shutdown();
    await endEngine();
  }
});

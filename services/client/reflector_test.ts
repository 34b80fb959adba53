import assert from "node:assert/strict";
import { Node } from "@weir/proto/identity";
import { ApiServer, listenUnix, type ProblemError, WatchedTable } from "@weir/common";
import { Reflector, WeirClient } from "./mod.ts";

function nodeServer(table = new WatchedTable<Node>({ name: "nodes" })) {
  const api = new ApiServer({ name: "test" });
  api.collection({
    name: "nodes",
    message: Node,
    table,
    put: (name, value) => table.put(name, { ...value, name }).value!,
    delete: (name) => table.delete(name) !== undefined,
    filters: { cluster: (cluster) => (node) => node.cluster === cluster },
  });
  return { api, table };
}

async function until(what: () => boolean, ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("CollectionClient puts, gets, lists and deletes names with slashes over a unix socket", async () => {
  const { api } = nodeServer();
  const socket = await Deno.makeTempDir() + "/x.sock";
  const listener = await listenUnix(api.fetch, socket);
  const client = new WeirClient({ socket });
  const nodes = client.collection("nodes", Node);
  try {
    for (const name of ["a/b", "ä%2F", "fd00::/64", "x y?z#"]) {
      const stored = await nodes.put(name, { ipv4: "192.0.2.1" });
      assert.equal(stored.name, name);
      assert.equal((await nodes.get(name))?.ipv4, "192.0.2.1");
    }
    const list = await nodes.list();
    assert.equal(list.items.length, 4);
    assert.ok(list.revision > 0);
    assert.equal(await nodes.delete("a/b"), true);
    assert.equal(await nodes.delete("a/b"), false);
    assert.equal(await nodes.get("a/b"), undefined);
  } finally {
    client.close();
    await listener.shutdown();
  }
});

Deno.test("WeirClient names a service that is not there", async () => {
  const client = new WeirClient({ socket: "/nowhere/at-all.sock" });
  await assert.rejects(
    () => client.collection("nodes", Node).list(),
    (error: ProblemError) => error.code === "UNREACHABLE" && error.message.includes("/nowhere/at-all.sock"),
  );
  client.close();
});

Deno.test("CollectionClient.watch() gives each later change once and in order", async () => {
  const { api, table } = nodeServer();
  const nodes = new WeirClient({ handler: api.fetch }).collection("nodes", Node);
  table.put("before", Node.create({ name: "before" }));
  const { revision } = await nodes.list();
  const stop = new AbortController();
  const seen: string[] = [];
  const done = (async () => {
    for await (const event of nodes.watch({ revision, signal: stop.signal })) {
      seen.push(event.type === "SYNCED" ? "SYNCED" : `${event.type} ${event.name}`);
      if (seen.length === 1002) break;
    }
  })();
  for (let i = 0; i < 1000; i++) table.put(`n${i}`, Node.create({ name: `n${i}` }));
  table.delete("before");
  await done;
  stop.abort();
  const changes = seen.filter((text) => text !== "SYNCED");
  assert.deepEqual(changes, [...Array.from({ length: 1000 }, (_, i) => `PUT n${i}`), "DELETED before"]);
});

Deno.test("A filtered watch reports an object that stops matching as deleted", async () => {
  const { api, table } = nodeServer();
  const seen: string[] = [];
  const reflector = new Reflector(new WeirClient({ handler: api.fetch }).collection("nodes", Node), {
    query: { cluster: "c1" },
    onChange: (name, value) => seen.push(`${name}=${value?.ipv4 ?? "gone"}`),
  }).start();
  await reflector.waitSynced();
  table.put("a", Node.create({ cluster: "c1", ipv4: "1" }));
  table.put("b", Node.create({ cluster: "c2", ipv4: "2" }));
  table.put("a", Node.create({ cluster: "c2", ipv4: "3" }));
  table.put("b", Node.create({ cluster: "c1", ipv4: "4" }));
  await until(() => seen.length === 3);
  assert.deepEqual(seen, ["a=1", "a=gone", "b=4"]);
  await reflector.stop();
});

Deno.test("Reflector survives its service: the copy stays, then follows the new process", async () => {
  const first = nodeServer();
  const second = nodeServer(
    new WatchedTable<Node>({ name: "nodes", revision: (Date.now() + 60_000) * 1000 }),
  );
  first.table.put("kept", Node.create({ ipv4: "1" }));
  first.table.put("lost", Node.create({ ipv4: "1" }));
  second.table.put("kept", Node.create({ ipv4: "2" }));
  second.table.put("new", Node.create({ ipv4: "2" }));
  let cut = new AbortController();
  let serve: ((request: Request) => Promise<Response>) | undefined = first.api.fetch;
  const client = new WeirClient({
    handler: async (request) => {
      if (serve === undefined) throw new TypeError("connection refused");
      const answer = await serve(request);
      return new Response(answer.body?.pipeThrough(new TransformStream(), { signal: cut.signal }), answer);
    },
  });
  const changes: string[] = [];
  const states: string[] = [];
  const reflector = new Reflector(client.collection("nodes", Node), {
    onChange: (name, value) => changes.push(`${name} ${value?.ipv4 ?? "gone"}`),
    onState: (error) => states.push(error === undefined ? "back" : "lost"),
    backoff: { delayMsMin: 5, delayMsMax: 20 },
  }).start();
  await reflector.waitSynced();
  serve = undefined;
  cut.abort();
  await until(() => reflector.error?.code === "UNREACHABLE");
  assert.equal(reflector.size, 2, "the copy stays while the service is away");
  cut = new AbortController();
  serve = second.api.fetch;
  await until(() => states.includes("back"));
  await reflector.stop();
  assert.deepEqual(changes, ["kept 1", "lost 1", "kept 2", "new 2", "lost gone"]);
  assert.deepEqual(states, ["lost", "back"]);
});

Deno.test("Reflector lists anew when its revision is no longer held", async () => {
  const table = new WatchedTable<Node>({ name: "nodes", historyMax: 8, historyBurstMax: 8 });
  const { api } = nodeServer(table);
  let streams = 0, block = false;
  const client = new WeirClient({
    handler: (request) => {
      if (block) return new Response("away", { status: 503 });
      if (request.url.includes("watch=true")) streams++;
      return api.fetch(request);
    },
  });
  const names = new Set<string>();
  const reflector = new Reflector(client.collection("nodes", Node), {
    onChange: (name, value) => value ? names.add(name) : names.delete(name),
    backoff: { delayMsMin: 5, delayMsMax: 10 },
  }).start();
  await reflector.waitSynced();
  table.put("gone-later", Node.create({}));
  await until(() => names.size === 1);
  // One burst beyond the history within one turn: the watcher has lost its place.
  table.delete("gone-later");
  for (let i = 0; i < 50; i++) table.put(`n${i}`, Node.create({}));
  await until(() => names.size === 50 && !names.has("gone-later"));
  assert.equal(streams >= 2, true);
  block = true;
  await reflector.stop();
});

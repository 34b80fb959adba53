import assert from "node:assert/strict";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { JointWatchRequest } from "@weir/proto/common";
import { ApiServer, ProblemError, problemResponse, WatchedTable } from "@weir/common";
import { Reflector, type ReflectorOptions, WeirClient } from "./mod.ts";

async function until(what: () => boolean, ms = 15_000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function serve(options: { isOlder?: boolean; refuse?: { nodes: boolean } } = {}) {
  const nodes = new WatchedTable<Node>({ name: "nodes" });
  const ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
  const api = new ApiServer({ name: "test" });
  const guard = () => {
    if (options.refuse?.nodes) throw new ProblemError("NOT_READY", { status: 503, detail: "Not yet" });
  };
  api.collection({ name: "nodes", message: Node, table: nodes, guard });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: ipcache });
  /** Paths asked for, and what joint streams were asked for. */
  const paths: string[] = [], asked: JointWatchRequest[] = [];
  const client = new WeirClient({
    handler: async (request) => {
      const { pathname } = new URL(request.url);
      paths.push(pathname);
      if (pathname === "/v1/watch") {
        asked.push(JointWatchRequest.decode(await request.clone().bytes()));
        if (options.isOlder) {
          return problemResponse(new ProblemError("NO_SUCH_ROUTE", { status: 404, detail: "No such route" }));
        }
      }
      return await api.fetch(request);
    },
  }, { joint: true });
  const backoff = { delayMsMin: 1, delayMsMax: 2 };
  const follow = <T>(name: "nodes" | "ipcache", more: ReflectorOptions<T> = {}) =>
    new Reflector<T>(
      client.collection<T>(name, (name === "nodes" ? Node : IpcacheEntry) as never),
      { backoff, ...more },
    ).start();
  return { nodes, ipcache, follow, paths, asked, client };
}

Deno.test("watches of one client are one stream, and what is changed in it goes on from where the others are", async () => {
  const { nodes, ipcache, follow, paths, asked, client } = serve();
  for (const name of ["a", "b", "c"]) nodes.put(name, Node.create({ name, ipv4: "1" }));
  for (let i = 0; i < 3000; i++) ipcache.put(`${i}`, IpcacheEntry.create({ prefix: `${i}`, identity: i }));
  const changes: string[] = [];
  const some = follow<Node>("nodes", { names: ["a"], onChange: (name) => changes.push(name) });
  const all = follow<IpcacheEntry>("ipcache");
  await Promise.all([some.waitSynced(), all.waitSynced()]);
  assert.deepEqual([paths, all.size, some.size], [["/v1/watch"], 3000, 1]);
  some.setNames(["a", "b"]);
  await until(() => some.knows("b"));
  ipcache.put("7", IpcacheEntry.create({ prefix: "7", identity: 4242 }));
  ipcache.delete("8");
  nodes.put("b", Node.create({ name: "b", ipv4: "2" }));
  nodes.put("c", Node.create({ name: "c", ipv4: "2" }));
  await until(() => all.revision === ipcache.revision && some.get("b")?.ipv4 === "2");
  assert.deepEqual(all.entries(), ipcache.entries());
  assert.deepEqual(changes, ["a", "b", "b"], "a did not come again, and c is of no interest");
  assert.equal(asked.length, 2);
  const again = asked[1].watches.find(({ collection }) => collection === "ipcache")!.request!;
  assert.ok(again.revision > 0 && again.epoch === ipcache.epoch, "the other one went on");
  // One that ends lets the other go on.
  await some.stop();
  ipcache.put("9", IpcacheEntry.create({ prefix: "9", identity: 4242 }));
  await until(() => all.get("9")?.identity === 4242);
  await all.stop();
  client.close();
});

Deno.test("a collection that lost its history begins anew, and the others of the stream go on", async () => {
  const { nodes, ipcache, follow, asked } = serve();
  nodes.put("a", Node.create({ name: "a" }));
  ipcache.put("1", IpcacheEntry.create({ prefix: "1" }));
  const seen: string[] = [], gone: string[] = [];
  const some = follow<Node>("nodes", {
    onChange: (name, value) => seen.push(`${name} ${value === undefined ? "gone" : "put"}`),
    onState: (error) => gone.push(error?.code ?? "back"),
  });
  const all = follow<IpcacheEntry>("ipcache", {
    onChange: (name, value) => seen.push(`${name} ${value === undefined ? "gone" : "put"}`),
  });
  await Promise.all([some.waitSynced(), all.waitSynced()]);
  nodes.reset([], nodes.revision + 100);
  nodes.put("b", Node.create({ name: "b" }));
  ipcache.put("2", IpcacheEntry.create({ prefix: "2" }));
  await until(() => some.get("b") !== undefined && all.get("2") !== undefined && some.get("a") === undefined);
  assert.deepEqual(seen.filter((text) => text.startsWith("1")), ["1 put"], "it did not come again");
  assert.ok(asked.length >= 2, "the stream was opened anew");
  await until(() => some.state === "IN_STEP" && all.state === "IN_STEP");
  assert.ok(gone.includes("back"));
  await Promise.all([some.stop(), all.stop()]);
});

Deno.test("a collection that cannot be answered yet says why, is asked again, and the others go on", async () => {
  const refuse = { nodes: true };
  const { nodes, ipcache, follow, asked } = serve({ refuse });
  nodes.put("a", Node.create({ name: "a" }));
  ipcache.put("1", IpcacheEntry.create({ prefix: "1" }));
  const states: (ProblemError | undefined)[] = [], seen: string[] = [];
  const some = follow<Node>("nodes", { onState: (error) => states.push(error) });
  const all = follow<IpcacheEntry>("ipcache", { onChange: (name) => seen.push(name) });
  await all.waitSynced();
  await until(() => states.length > 0 && asked.length > 3);
  assert.deepEqual([states[0]?.code, states[0]?.status, states[0]?.message], ["NOT_READY", 503, "Not yet"]);
  refuse.nodes = false;
  await some.waitSynced();
  assert.deepEqual([some.size, seen, all.error], [1, ["1"], undefined]);
  // Where it had a position, it goes on from there.
  const { revision, epoch } = some;
  refuse.nodes = true;
  ipcache.reset([], ipcache.revision + 100);
  await until(() => some.error !== undefined);
  refuse.nodes = false;
  await until(() => some.error === undefined);
  const again = asked.at(-1)!.watches.find(({ collection }) => collection === "nodes")!.request!;
  assert.deepEqual([again.revision, again.epoch], [revision, epoch]);
  await Promise.all([some.stop(), all.stop()]);
});

Deno.test("a service that knows no joint streams is watched one by one", async () => {
  const { nodes, ipcache, follow, paths } = serve({ isOlder: true });
  nodes.put("a", Node.create({ name: "a" }));
  ipcache.put("1", IpcacheEntry.create({ prefix: "1" }));
  const some = follow<Node>("nodes", { names: ["a"] }), all = follow<IpcacheEntry>("ipcache");
  await Promise.all([some.waitSynced(), all.waitSynced()]);
  nodes.put("a", Node.create({ name: "a", ipv4: "2" }));
  await until(() => some.get("a")?.ipv4 === "2");
  assert.deepEqual([...new Set(paths)].sort(), ["/v1/ipcache", "/v1/nodes:watch", "/v1/watch"]);
  await Promise.all([some.stop(), all.stop()]);
});

Deno.test("two watches of one collection have two streams", async () => {
  const { nodes, follow, paths } = serve();
  nodes.put("a", Node.create({ name: "a" }));
  const one = follow<Node>("nodes"), two = follow<Node>("nodes");
  await Promise.all([one.waitSynced(), two.waitSynced()]);
  assert.deepEqual(paths.sort(), ["/v1/nodes", "/v1/watch"]);
  await Promise.all([one.stop(), two.stop()]);
});

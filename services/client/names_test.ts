import assert from "node:assert/strict";
import { Node } from "@weir/proto/identity";
import { ApiServer, type Position, type ProblemError, WatchedTable } from "@weir/common";
import { FakeClock } from "../common/testing/fake_clock.ts";
import { Reflector, WeirClient } from "./mod.ts";

function serve() {
  const table = new WatchedTable<Node>({ name: "nodes" });
  const api = new ApiServer({ name: "test" });
  api.collection({ name: "nodes", message: Node, table, indexes: { cluster: (node) => node.cluster } });
  const bodies: Promise<string>[] = [];
  const client = new WeirClient({
    handler: (request) => {
      bodies.push(request.clone().text());
      return api.fetch(request);
    },
  });
  return { table, nodes: client.collection("nodes", Node), bodies };
}

async function until(what: () => boolean, ms = 15_000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("CollectionClient.watch() of names sees these only, new ones whole and old ones from a position", async () => {
  const { table, nodes } = serve();
  for (const name of ["a", "b", "c"]) table.put(name, Node.create({ name }));
  const position = { revision: table.revision, epoch: table.epoch };
  table.put("a", Node.create({ name: "a", ipv4: "2" }));
  table.delete("b");
  table.put("c", Node.create({ name: "c", ipv4: "2" }));
  const stop = new AbortController();
  const seen: string[] = [];
  const options = { names: ["a", "b"], newNames: ["c", "d"], ...position, signal: stop.signal };
  for await (const event of nodes.watch(options)) {
    seen.push(event.type === "SYNCED" ? "SYNCED" : `${event.type} ${event.name}`);
    if (seen.length === 4) { for (const name of ["e", "d"]) table.put(name, Node.create({ name })); }
    if (seen.length === 5) break;
  }
  assert.deepEqual(seen, ["PUT c", "PUT a", "DELETED b", "SYNCED", "PUT d"]);
  const gone = nodes.watch({ names: ["a"], revision: position.revision, epoch: "0000000000000000" });
  await assert.rejects(() => gone.next(), { code: "REVISION_GONE" });
  stop.abort();
});

Deno.test("Reflector.setNames() keeps what it has, asks for what is new and forgets the rest", async () => {
  const { table, nodes, bodies } = serve();
  for (const name of ["a", "b", "c"]) table.put(name, Node.create({ name, ipv4: "1" }));
  const changes: string[] = [];
  const positions: Position[] = [];
  const reflector = new Reflector(nodes, {
    names: ["a", "b"],
    onChange: (name, value) => changes.push(`${name}=${value?.ipv4 ?? "gone"}`),
    onPosition: (position) => positions.push(position),
  }).start();
  await reflector.waitSynced();
  assert.deepEqual([reflector.knows("a"), reflector.knows("c")], [true, false]);
  reflector.setNames(["b", "c", "nothing"]);
  reflector.setNames(["b", "c", "nothing", "d"]);
  await until(() => reflector.knows("d"));
  assert.deepEqual(reflector.entries().map(([name]) => name).sort(), ["b", "c"]);
  assert.equal(reflector.knows("nothing") && reflector.get("nothing") === undefined, true);
  assert.deepEqual(changes, ["a=1", "b=1", "c=1"], "b did not come again, and a is no longer of interest");
  assert.equal(bodies.length, 2, "one stream for the two calls");
  table.put("a", Node.create({ name: "a", ipv4: "2" }));
  table.put("d", Node.create({ name: "d", ipv4: "2" }));
  table.delete("b");
  await until(() => changes.length === 5);
  assert.deepEqual(changes.slice(3), ["d=2", "b=gone"]);
  const before = positions.length;
  table.put("a", Node.create({ name: "a", ipv4: "3" }));
  table.announce();
  await until(() => positions.length > before);
  assert.deepEqual(positions.at(-1), { revision: table.revision, epoch: table.epoch });
  await reflector.stop();
});

Deno.test("a watch by an index wakes for its keys, and hears of an object that leaves them", async () => {
  const { table, nodes } = serve();
  const seen: string[] = [];
  const reflector = new Reflector(nodes, {
    query: { cluster: ["x", "y"] },
    onChange: (name, value) => seen.push(`${name}=${value?.cluster ?? "gone"}`),
  }).start();
  await reflector.waitSynced();
  table.put("n", Node.create({ cluster: "z" }));
  table.put("n", Node.create({ cluster: "x" }));
  table.put("n", Node.create({ cluster: "y" }));
  table.put("n", Node.create({ cluster: "z" }));
  await until(() => seen.length === 3);
  assert.deepEqual(seen, ["n=x", "n=y", "n=gone"]);
  await reflector.stop();
});

Deno.test("a peer that does not answer, or stops in the middle, costs a call its deadline and no more", async () => {
  const clock = new FakeClock();
  const hung = new Promise<Response>(() => {});
  const half = () =>
    new Response(
      new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([8])) }),
      { headers: { "weir-revision": "1" } },
    );
  for (const handler of [() => hung, half]) {
    const nodes = new WeirClient({ handler }, { clock }).collection("nodes", Node);
    const asked = nodes.list();
    const late = assert.rejects(asked, (error: ProblemError) => {
      return error.code === "DEADLINE_EXCEEDED" && /in-process.*10000 ms/.test(error.message);
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    await clock.advance(10_000);
    await late;
  }
});

Deno.test("a watch that is silent for longer than its heartbeats is cut, and the copy stays", async () => {
  const clock = new FakeClock();
  const table = new WatchedTable<Node>({ name: "nodes" });
  const api = new ApiServer({ name: "test", clock });
  api.collection({ name: "nodes", message: Node, table });
  table.put("a", Node.create({ name: "a" }));
  let mute = false;
  const client = new WeirClient({
    handler: async (request) => {
      const answer = await api.fetch(request);
      const filter = new TransformStream<Uint8Array>({
        transform: (chunk, controller) => mute ? undefined : controller.enqueue(chunk),
      });
      return new Response(answer.body!.pipeThrough(filter), answer);
    },
  }, { clock });
  const reflector = new Reflector(client.collection("nodes", Node)).start();
  await reflector.waitSynced();
  const advance = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 1000) {
      await clock.advance(1000);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  await advance(60_000);
  assert.equal(reflector.state, "IN_STEP", "heartbeats keep a silent stream");
  assert.ok(clock.nowMs() - reflector.lastHeardMs <= 13_000);
  mute = true;
  const sinceMs = clock.nowMs();
  await advance(40_000);
  assert.equal(reflector.error?.code, "STREAM_SILENT");
  assert.equal<string>(reflector.state, "AWAY");
  assert.ok(reflector.sinceMs - sinceMs <= 26_000 && reflector.lastHeardMs <= sinceMs);
  assert.equal(reflector.get("a")?.name, "a");
  await reflector.stop();
});

import assert from "node:assert/strict";
import { Node } from "@weir/proto/identity";
import { ApiServer, ProblemError, WatchedTable } from "./mod.ts";
import { FakeClock } from "./testing/fake_clock.ts";

function serve() {
  const api = new ApiServer({ name: "test" });
  const tables = ["nodes", "others"].map((name) => {
    const table = new WatchedTable<Node>({ name, historyMax: 10 });
    api.collection({ name, message: Node, table });
    return table;
  });
  api.collection({ name: "computed", message: Node, list: () => [] });
  const watch = (watches: unknown[]) =>
    api.fetch(new Request("http://x/v1/watch", { method: "POST", body: JSON.stringify({ watches }) }));
  return { nodes: tables[0], others: tables[1], watch, metrics: api.metrics };
}

/** Lines of a JSON stream, as "TYPE name". */
async function* linesOf(answer: Response): AsyncGenerator<string> {
  let rest = "";
  for await (const text of answer.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const { type, name } = JSON.parse(line);
      yield name ? `${type} ${name}` : type;
    }
  }
}

Deno.test("a joint stream gives its collections turns: a long beginning of one does not silence the others", async () => {
  const { nodes, others, watch } = serve();
  for (let n = 0; n < 5000; n++) nodes.put(`n${n}`, Node.create({ name: `n${n}`, ipv4: "x".repeat(200) }));
  others.put("a", Node.create({ name: "a" }));
  const lines = linesOf(await watch([{ collection: "nodes" }, { collection: "others" }]));
  let puts = 0, before = 0, synced = 0;
  for await (const line of lines) {
    if (line === "PUT a") before = puts;
    else if (line.startsWith("PUT")) puts++;
    else if (line === "SYNCED" && ++synced === 2) break;
  }
  assert.equal(puts, 5000);
  assert.ok(before > 0 && before < 1000, `${before} objects of the other one came first`);
});

Deno.test("a position that is not held is told of its collection only, and refuses the stream when there is no other", async () => {
  const { nodes, others, watch, metrics } = serve();
  for (let n = 0; n < 100; n++) nodes.put("a", Node.create({ name: "a" }));
  others.put("b", Node.create({ name: "b" }));
  const old = { collection: "nodes", request: { revision: nodes.revision - 50, epoch: nodes.epoch } };
  const answer = await watch([old, { collection: "others" }]);
  const seen: string[] = [];
  for await (const line of linesOf(answer)) {
    seen.push(line);
    if (line === "SYNCED") break;
  }
  assert.deepEqual(seen, ["GONE nodes", "COLLECTION others", "PUT b", "SYNCED"]);
  const refused = await watch([old]);
  assert.deepEqual([refused.status, (await refused.json()).code], [410, "REVISION_GONE"]);
  // Where one cannot be opened, those before it are closed again.
  for (const name of ["computed", "nothing"]) {
    assert.equal((await watch([{ collection: "others" }, { collection: name }])).ok, false);
  }
  assert.match(metrics.render(), /weir_watch_streams\{collection="others"\} 0/);
});

Deno.test("a collection's guard is asked however it is read, and one that is not ready is told of its collection only", async () => {
  const api = new ApiServer({ name: "test" });
  let refusal: ProblemError | undefined = new ProblemError("NOT_READY", { status: 503, detail: "Not yet" });
  const asked: string[] = [];
  for (const name of ["nodes", "others"]) {
    const guard = async (request: Request) => {
      asked.push(`${name} ${request.headers.get("weir-node")}`);
      await Promise.resolve();
      if (name === "nodes" && refusal !== undefined) throw refusal;
    };
    const table = new WatchedTable<Node>({ name });
    table.put("a", Node.create({ name: "a" }));
    api.collection({ name, message: Node, table, guard, put: (_, value) => value, delete: () => true });
  }
  const ask = (path: string, method = "GET", body?: string) =>
    api.fetch(new Request(`http://x/v1/${path}`, { method, body, headers: { "weir-node": "node-1" } }));
  const watch = (names: string[]) =>
    ask("watch", "POST", JSON.stringify({ watches: names.map((collection) => ({ collection })) }));
  for (
    const [path, method, body] of [
      ["nodes"],
      ["nodes", "HEAD"],
      ["nodes/a"],
      ["nodes?watch=true"],
      ["nodes:watch", "POST", "{}"],
      ["nodes/a", "PUT", "{}"],
      ["nodes/a", "DELETE"],
    ]
  ) {
    assert.equal((await ask(path, method, body)).status, 503, `${method} ${path}`);
  }
  assert.equal((await watch(["nodes"])).status, 503);
  assert.ok(asked.length === 8 && asked.every((text) => text === "nodes node-1"), "the request is shown");
  const lines: string[] = [];
  for await (const line of linesOf(await watch(["nodes", "others"]))) {
    lines.push(line);
    if (line === "SYNCED") break;
  }
  assert.deepEqual(lines, ["GONE nodes", "COLLECTION others", "PUT a", "SYNCED"]);
  refusal = new ProblemError("INVALID_ARGUMENT", { detail: "No" });
  assert.equal((await watch(["nodes", "others"])).status, 400, "anything else is the request's");
  assert.match(api.metrics.render(), /weir_watch_streams\{collection="others"\} 0/);
});

Deno.test("silence of several collections ends with one write", async () => {
  const clock = new FakeClock();
  const api = new ApiServer({ name: "test", clock });
  for (const name of ["nodes", "others", "more"]) {
    api.collection({ name, message: Node, table: new WatchedTable<Node>({ name }) });
  }
  const watches = ["nodes", "others", "more"].map((collection) => ({ collection }));
  const body = JSON.stringify({ watches });
  const { body: stream } = await api.fetch(new Request("http://x/v1/watch", { method: "POST", body }));
  const reader = stream!.getReader();
  const typesOf = (bytes: Uint8Array) =>
    new TextDecoder().decode(bytes).trim().split("\n").map((line) => JSON.parse(line).type);
  const all = Array.from({ length: 3 }, () => ["COLLECTION", "SYNCED"]).flat();
  assert.deepEqual(typesOf((await reader.read()).value!), all, "what is short goes out together");
  let chunks = 0;
  const next = reader.read().then(({ value }) => {
    chunks++;
    return typesOf(value!);
  });
  const late = next.then(() => reader.read()).then(() => chunks++, () => {});
  await clock.advance(13_000);
  assert.equal((await next).filter((type) => type === "SYNCED").length, 3);
  assert.equal(chunks, 1);
  await reader.cancel();
  await late;
});

import assert from "node:assert/strict";
import { Node, NodeList } from "@weir/proto/identity";
import { WatchEvent } from "@weir/proto/common";
import { ApiServer } from "./api_server.ts";
import { PROTOBUF_TYPE } from "./framing.ts";
import { WatchedTable } from "./watched_table.ts";

function serve(historyMax = 4) {
  const table = new WatchedTable<Node>({ name: "nodes", historyMax, historyBurstMax: 64, revision: 100 });
  const api = new ApiServer({ name: "test" });
  api.collection({
    name: "nodes",
    message: Node,
    table,
    put: (name, value) => table.put(name, { ...value, name }).value!,
    delete: (name) => table.delete(name) !== undefined,
    filters: { cluster: (text) => (node) => node.cluster === text },
    bodyBytesMax: 1000,
  });
  const ask = (path: string, init?: RequestInit) => api.fetch(new Request(`http://x${path}`, init));
  return { table, api, ask };
}

Deno.test("ApiServer.collection() answers one message as JSON or protobuf, as asked", async () => {
  const { ask } = serve();
  const put = await ask("/v1/nodes/a%2Fb", { method: "PUT", body: JSON.stringify({ ipv4: "192.0.2.1" }) });
  assert.deepEqual(await put.json(), { name: "a/b", ipv4: "192.0.2.1" });
  const bytes = Node.encode({ ipv4: "192.0.2.2" }) as Uint8Array<ArrayBuffer>;
  const headers = { "content-type": PROTOBUF_TYPE, "accept": PROTOBUF_TYPE };
  const again = await ask("/v1/nodes/c", { method: "PUT", body: bytes, headers });
  assert.equal(Node.decode(await again.bytes()).name, "c");
  const list = await (await ask("/v1/nodes")).json();
  assert.deepEqual(NodeList.fromJson(list).items.map((n) => n.name), ["a/b", "c"]);
  assert.equal(list.revision, "102");
  assert.equal((await ask("/v1/nodes/c", { method: "DELETE" })).status, 204);
  const gone = await ask("/v1/nodes/c");
  assert.equal(gone.status, 404);
  assert.equal((await gone.json()).code, "NOT_FOUND");
});

Deno.test("ApiServer refuses what it cannot take as a problem that says why", async () => {
  const { ask } = serve();
  const cases: [string, RequestInit, number, string][] = [
    ["/v1/nodes/a", { method: "PUT", body: "{" }, 400, "BODY_INVALID"],
    ["/v1/nodes/a", { method: "PUT", body: '{"ipv5":1}' }, 400, "BODY_INVALID"],
    ["/v1/nodes/a", { method: "PUT", body: "x".repeat(2000) }, 413, "BODY_TOO_LARGE"],
    [
      "/v1/nodes/a",
      { method: "PUT", body: "\xff", headers: { "content-type": PROTOBUF_TYPE } },
      400,
      "BODY_INVALID",
    ],
    ["/v1/nodes/" + "n".repeat(600), {}, 400, "INVALID_ARGUMENT"],
    ["/v1/nodes?color=red", {}, 400, "INVALID_ARGUMENT"],
    ["/v1/nodes?watch=true&revision=x", {}, 400, "INVALID_ARGUMENT"],
    ["/v1/nothing", {}, 404, "NO_SUCH_ROUTE"],
  ];
  for (const [path, init, status, code] of cases) {
    const answer = await ask(path, init);
    const problem = await answer.json();
    assert.deepEqual(
      [answer.status, problem.code],
      [status, code],
      `${path.slice(0, 40)} ${JSON.stringify(problem)}`,
    );
    assert.ok(problem.detail.length > 10);
  }
});

Deno.test("ApiServer refuses a body of 100 MB by its declared length and by what comes", async () => {
  const { ask } = serve();
  let pulled = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled += 65536;
      if (pulled > 100 * 1024 * 1024) controller.close();
      else controller.enqueue(new Uint8Array(65536));
    },
  });
  assert.equal((await ask("/v1/nodes/a", { method: "PUT", body: endless })).status, 413);
  assert.ok(pulled < 1024 * 1024, `${pulled} bytes were taken`);
});

/** The first `count` events of a watch. */
async function events(
  answer: Response,
  count: number,
): Promise<{ type: string; name?: string; revision: string }[]> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.split("\n").length <= count) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
  }
  await reader.cancel();
  return text.trim().split("\n").slice(0, count).map((l) => JSON.parse(l));
}

Deno.test("a watch gives everything, SYNCED, and then each change once and in order", async () => {
  const { table, ask } = serve(100);
  table.put("a", Node.create({ name: "a", cluster: "x" }));
  table.put("b", Node.create({ name: "b", cluster: "y" }));
  const answer = await ask("/v1/nodes?watch=true&cluster=x");
  const got = events(answer, 5);
  await new Promise((resolve) => setTimeout(resolve, 20));
  table.put("c", Node.create({ name: "c", cluster: "x" }));
  table.put("b", Node.create({ name: "b", cluster: "x" }));
  table.put("a", Node.create({ name: "a", cluster: "y" }));
  assert.deepEqual((await got).map((e) => [e.type, e.name ?? ""]), [
    ["PUT", "a"],
    ["SYNCED", ""],
    ["PUT", "c"],
    ["PUT", "b"],
    ["DELETED", "a"],
  ]);
});

Deno.test("a watch from a position that is no longer held gets 410, one that falls behind loses its stream", async () => {
  const { table, ask } = serve(4);
  for (let n = 0; n < 10; n++) table.put("a", Node.create({ name: "a" }));
  const gone = await ask("/v1/nodes?watch=true&revision=101");
  assert.deepEqual([gone.status, (await gone.json()).code], [410, "REVISION_GONE"]);
  const held = await ask("/v1/nodes?watch=true&revision=108", { headers: { accept: PROTOBUF_TYPE } });
  const reader = held.body!.getReader();
  const first = (await reader.read()).value!;
  assert.equal(WatchEvent.decode(first.subarray(1, 1 + first[0])).revision, 109);
  const lagging = await ask("/v1/nodes?watch=true&revision=108");
  await new Promise((resolve) => setTimeout(resolve, 10));
  for (let n = 0; n < 20_000; n++) table.put("a", Node.create({ name: "a", labels: ["x".repeat(100)] }));
  await assert.rejects(async () => {
    for await (const _ of lagging.body!);
  });
  await reader.cancel().catch(() => {});
});

Deno.test("every service answers the standard routes", async () => {
  const { api, ask } = serve();
  api.health.waitFor("database", "connecting");
  assert.equal((await ask("/livez")).status, 200);
  const ready = await ask("/readyz?verbose");
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /\[-\] database: connecting/);
  api.health.ok("database");
  assert.equal((await ask("/readyz")).status, 200);
  assert.match(await (await ask("/metrics")).text(), /weir_http_requests_total\{/);
  assert.equal((await (await ask("/version")).json()).name, "test");
  assert.ok((await (await ask("/openapi.json")).json()).paths["/v1/nodes/{name}"].put);
});

Deno.test("a list goes page by page, and misses no object that lived all along", async () => {
  const { table, ask } = serve(100);
  for (let n = 0; n < 10; n++) table.put(`n${n}`, Node.create({ name: `n${n}` }));
  const names: string[] = [];
  let path = "/v1/nodes?limit=3";
  for (let page = 0;; page++) {
    const answer = await ask(path);
    assert.equal(answer.headers.get("weir-revision"), "110");
    assert.equal(answer.headers.get("weir-epoch"), table.epoch);
    names.push(...NodeList.fromJson(await answer.json()).items.map((node) => node.name));
    if (page === 0) {
      table.delete("n0");
      table.delete("n5");
      table.put("n1", Node.create({ name: "n1", cluster: "moved" }));
      table.put("new", Node.create({ name: "new" }));
    }
    const token = answer.headers.get("weir-continue");
    if (token === null) break;
    path = `/v1/nodes?limit=3&continue=${token}`;
  }
  assert.deepEqual(names, ["n0", "n1", "n2", "n3", "n4", "n6", "n7", "n8", "n9", "new"]);
  table.reset([], 200);
  const expired = await ask(path);
  assert.deepEqual([expired.status, (await expired.json()).code], [410, "LIST_EXPIRED"]);
  for (const query of ["limit=0", "limit=x", "limit=3&continue=%F0", "limit=3&continue=e30"]) {
    assert.equal((await ask(`/v1/nodes?${query}`)).status, 400, query);
  }
});

import assert from "node:assert/strict";
import { Logger, systemClock } from "@weir/common";
import { GrpcError } from "@weir/grpc";
import { Node } from "@weir/proto/identity";
import { ServerStatusResponse } from "@weir/proto/observer";
import { relayMethods } from "./observer.ts";
import { type Answer, Cluster, flow, forever, history, said } from "./testing.ts";

Deno.test("what is over is merged by time, and the request reaches each node as it came", async () => {
  await using cluster = new Cluster();
  await cluster.start("a", history("a", 1000, 3000.25, 5000));
  await cluster.start("b", history("b", 2000, 3000.5, 9000));
  const whitelist = [{ source_pod: ["shop/"] }];
  assert.deepEqual(await cluster.all({ number: 5, whitelist }), [
    "NODE_CONNECTED c/a,c/b",
    ...["c/a 1000", "c/b 2000", "c/a 3000.25", "c/b 3000.5", "c/a 5000", "c/b 9000"],
  ]);
  for (const name of ["a", "b"]) {
    const [{ number, whitelist: [filter] }] = cluster.asked.get(name)!;
    assert.deepEqual([number, filter.source_pod], [5, ["shop/"]]);
  }
});

Deno.test("nodes that are away or refuse are named, and the others' flows come", async () => {
  await using cluster = new Cluster();
  await cluster.start("good", history("good", 1000));
  await cluster.start("older", () => {
    throw new GrpcError("INVALID_ARGUMENT", "no such filter");
  });
  cluster.links.set("gone", Node.create({ name: "gone", cluster: "c" }));
  const out = await cluster.all({ number: 5 });
  assert.ok(out.includes("c/good 1000"), `${out}`);
  for (
    const what of [
      /NODE_CONNECTED c\/good,c\/older/,
      /NODE_UNAVAILABLE c\/gone \(c\/gone: cannot connect/,
      /NODE_ERROR c\/older \(c\/older: no such filter/,
    ]
  ) {
    assert.ok(out.some((one) => what.test(one)), `${what} is not in ${out.join("\n")}`);
  }
});

Deno.test("a request that every node refuses is refused", async () => {
  await using cluster = new Cluster();
  const refuse = () => {
    throw new GrpcError("INVALID_ARGUMENT", "no such filter");
  };
  await cluster.start("a", refuse);
  await cluster.start("b", refuse);
  await assert.rejects(cluster.all({}), { status: "INVALID_ARGUMENT", message: "no such filter" });
  await assert.rejects(cluster.all({ follow: true }), { status: "INVALID_ARGUMENT" });
});

Deno.test("a node that comes back while flows are followed is asked for what was missed, and no more", async () => {
  await using cluster = new Cluster();
  const stop = new AbortController(), out: string[] = [];
  const live = (node: string, time: number): Answer =>
    async function* (_, signal) {
      yield [flow(node, `${time}`, time)];
      await forever(signal);
    };
  await cluster.start("a", live("a", 1_795_000_000_000.25));
  await cluster.start("b", live("b", 1_795_000_000_001));
  const until = async (what: RegExp) => {
    for (let tries = 0; !out.some((one) => what.test(one)); tries++) {
      assert.ok(tries < 300, `${what} is not in\n${out.join("\n")}`);
      await systemClock.sleep(50);
    }
  };
  const reading = (async () => {
    for await (const batch of cluster.ask({ follow: true, number: 7 }, stop.signal)) {
      out.push(...batch.map(said));
    }
  })();
  await until(/c\/b 1795000000001$/);
  assert.ok(out.indexOf("c/a 1795000000000.25") < out.indexOf("c/b 1795000000001"), "in the order of time");
  await cluster.stop("a");
  await until(/NODE_UNAVAILABLE c\/a /);
  await cluster.start("a", live("a", 1_795_000_000_500));
  await until(/c\/a 1795000000500/);
  assert.ok(out.lastIndexOf("NODE_CONNECTED c/a") > out.findIndex((one) => /UNAVAILABLE c\/a/.test(one)));
  const [first, again] = cluster.asked.get("a")!;
  assert.deepEqual([first.number, first.since], [7, undefined]);
  assert.deepEqual([again.number, again.follow], [0, true]);
  assert.equal(
    again.since!.seconds,
    1_795_000_000 - 60,
    "some before the newest that came: what came is known again",
  );
  cluster.links.set("b", undefined);
  await until(/NODE_GONE c\/b/);
  stop.abort();
  await reading;
});

Deno.test("a caller who reads nothing lets the nodes stand still", async () => {
  await using cluster = new Cluster();
  let made = 0;
  await cluster.start("a", async function* (_, signal) {
    for (; !signal.aborted; made++) {
      yield Array.from({ length: 64 }, (_, n) => flow("a", "x".repeat(900), made * 64 + n));
      await Promise.resolve();
    }
  });
  for (const follow of [false, true]) {
    const stop = new AbortController(), flows = cluster.ask({ follow, number: 1e9 }, stop.signal);
    await flows.next();
    const start = made;
    for (let last = -1; last !== made; await systemClock.sleep(200)) last = made;
    assert.ok(made - start < 1500, `${made - start} batches of 64 KB were made for nobody`);
    await flows.return(undefined);
  }
});

Deno.test("relayMethods() sum up what the nodes say", async () => {
  await using cluster = new Cluster();
  await cluster.start("a", history("a"));
  await cluster.start("b", history("b"));
  cluster.links.set("gone", Node.create({ name: "gone", cluster: "c" }));
  const methods = relayMethods({
    links: cluster.links,
    nodeName: "relay-1",
    clock: systemClock,
    log: Logger.silent(),
    metrics: cluster.metrics,
    isSynced: () => true,
  });
  const call = { signal: new AbortController().signal, header: () => undefined };
  for await (const [bytes] of methods["/observer.Observer/ServerStatus"].open(new Uint8Array(0), call)) {
    const status = ServerStatusResponse.decode(bytes);
    assert.deepEqual([status.num_flows, status.max_flows, status.seen_flows], [6, 20, 200]);
    assert.deepEqual([status.num_connected_nodes?.value, status.num_unavailable_nodes?.value], [2, 1]);
    assert.deepEqual(status.unavailable_nodes, ["c/gone"]);
  }
});

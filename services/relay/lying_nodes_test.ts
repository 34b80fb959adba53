/** Nodes that lie, flood, stall or break: each is named, and the flows of the others come as if it were not there. @module */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { type Clock, Logger, systemClock } from "@weir/common";
import { until } from "@weir/common/testing/until";
import { Node } from "@weir/proto/identity";
import { GetNamespacesResponse, GetNodesResponse, ServerStatusResponse } from "@weir/proto/observer";
import { GetFlowsResponse } from "@weir/proto/observer";
import { relayMethods } from "./observer.ts";
import { type Answer, Cluster, flow, forever, history, said } from "./testing.ts";

const NOW = Date.now(), ASKED = 5;
const time = { seconds: Math.floor(NOW / 1000), nanos: 0 };
const encoded = GetFlowsResponse.encode;
const say = (...bytes: Uint8Array[]): Answer =>
  async function* (_, signal) {
    yield await Promise.resolve(bytes);
    await forever(signal);
  };

/** What a node sends, and what is said of it. Each goes on for as long as it is let. */
const LIARS: Record<string, [answer: Answer, told: RegExp]> = {
  "speaks for another node": [say(flow("good-1", "lie", NOW)), /speaks for c\/good-1/],
  "names another node within a flow": [
    say(encoded({ flow: { uuid: "lie", node_name: "c/good-2" }, node_name: "c/liar", time })),
    /speaks for c\/good-2/,
  ],
  "says that others are gone": [
    say(encoded({
      node_status: { state_change: "NODE_GONE", node_names: ["c/good-1"], message: "lie" },
      node_name: "c/liar",
      time,
    })),
    /speaks of other nodes/,
  ],
  "does not say who it is": [say(encoded({ flow: { uuid: "lie" }, time })), /does not say whose/],
  "is an hour ahead": [say(flow("liar", "lie", NOW + 3_600_000)), /clock is 3\d\d\d s ahead/],
  "lives in the year 200000": [
    say(encoded({ flow: { uuid: "lie" }, node_name: "c/liar", time: { seconds: 6e12, nanos: 0 } })),
    /time is out of range/,
  ],
  "sends bytes that are no message": [say(new Uint8Array([0x0a, 0x7f, 1])), /a field is cut off/],
  "sends a flow whose inside is broken": [say(new Uint8Array([0x0a, 3, 0x42, 9, 1])), /a field is cut off/],
  "sends text that is no text": [say(new Uint8Array([0x0a, 3, 0x5a, 1, 0xff])), /no UTF-8/],
  "sends an extension that nobody can print": [
    say(encoded({ flow: { extensions: { type_url: "x/lie" } }, node_name: "c/liar", time } as never)),
    /carries an extension/,
  ],
  "sends messages of nothing": [say(new Uint8Array(0)), /response of nothing/],
  "sends a message beyond all bounds": [
    say(flow("liar", "x".repeat(2 << 20), NOW)),
    /message of \d+ bytes is too long/,
  ],
  "sends a reply of many messages and then a lie": [
    say(...Array.from({ length: 3 }, (_, n) => flow("liar", `${n}`, NOW - 9e6)), flow("good-1", "lie", NOW)),
    /speaks for c\/good-1/,
  ],
};

/** Two nodes that are as they should be, whose flows alternate. */
async function honest(cluster: Cluster, isFollowed: boolean): Promise<string[]> {
  const times = [[10, 30, 50], [20, 40, 60]].map((all) => all.map((ms) => NOW - 1000 + ms));
  for (const [n, own] of times.entries()) {
    const node = `good-${n + 1}`;
    await cluster.start(
      node,
      isFollowed ? say(...own.map((ms) => flow(node, `${ms}`, ms))) : history(node, ...own),
    );
  }
  return times.flatMap((own, n) => own.map((ms) => ({ ms, text: `c/good-${n + 1} ${ms}` })))
    .sort((a, b) => a.ms - b.ms).map(({ text }) => text);
}

const good = (out: readonly string[]) => out.filter((one) => one.startsWith("c/good"));
const errorsOf = (out: readonly string[]) => out.filter((one) => one.startsWith("NODE_ERROR"));

for (const [name, [answer, told]] of Object.entries(LIARS)) {
  Deno.test(`a node that ${name} is named and left out, and the others' flows come`, async () => {
    for (const follow of [false, true]) {
      await using cluster = new Cluster();
      const expected = await honest(cluster, follow), stop = new AbortController();
      await cluster.start("liar", answer);
      const out: string[] = [];
      for await (const batch of cluster.ask({ number: ASKED, follow }, stop.signal)) {
        out.push(...batch.map(said));
        if (follow && good(out).length === expected.length && errorsOf(out).length > 0) stop.abort();
      }
      assert.deepEqual(good(out), expected);
      const errors = errorsOf(out);
      assert.equal(errors.length, 1, `${errors}`);
      assert.match(errors[0], /^NODE_ERROR c\/liar /);
      assert.match(errors[0], told);
      assert.ok(!out.some((one) => one.endsWith("lie")), `${out}`);
    }
  });
}

Deno.test("a node whose clock is less than a minute ahead is taken as it is", async () => {
  await using cluster = new Cluster();
  await cluster.start("a", history("a", NOW - 5));
  await cluster.start("ahead", history("ahead", NOW + 30_000));
  assert.deepEqual((await cluster.all({ number: ASKED })).slice(1), [
    `c/a ${NOW - 5}`,
    `c/ahead ${NOW + 30_000}`,
  ]);
  assert.ok(!cluster.metrics.render().includes("c/ahead"));
});

Deno.test("a node that sends more than was asked, without end, is cut off there", async () => {
  for (const [number, most] of [[7, 7], [0, 65_535]]) {
    await using cluster = new Cluster();
    const expected = await honest(cluster, false);
    let made = 0, isOver = false;
    await cluster.start("liar", async function* (_, signal) {
      for (; !signal.aborted; made += 100) {
        yield Array.from({ length: 100 }, () => flow("liar", "old", 1000));
        await Promise.resolve();
      }
      isOver = true;
    });
    const out = await cluster.all({ number });
    assert.deepEqual(good(out), expected);
    assert.match(errorsOf(out)[0], new RegExp(`c/liar: it sends more than the ${most} that were asked for`));
    assert.ok(out.filter((one) => one === "c/liar old").length <= most);
    await until("the node's call is ended", () => isOver, 20);
    assert.match(cluster.metrics.render(), /faults_total\{node="c\/liar"\} 1/);
  }
});

Deno.test("a node that drips is not waited for longer than one that is silent", async () => {
  let aheadMs = 0;
  const clock: Clock = { ...hasty, monotonicMs: () => systemClock.monotonicMs() + aheadMs };
  await using cluster = new Cluster(clock);
  const expected = await honest(cluster, false);
  let drops = 0;
  await cluster.start("liar", async function* (_, signal) {
    for (; !signal.aborted; drops++) {
      aheadMs += 4000;
      yield [flow("liar", "drop", 1000)];
      await systemClock.sleep(10);
    }
  });
  const out = await cluster.all({});
  assert.deepEqual(good(out), expected);
  assert.match(errorsOf(out)[0], /c\/liar: it answers too slowly: \d flows within 1\d s/);
});

/** Ten seconds are a fiftieth of it, so that the tests need not wait. */
const hasty: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => systemClock.monotonicMs(),
  sleep: (ms, signal) => systemClock.sleep(ms >= 5000 ? ms / 20 : ms, signal),
};

Deno.test("a node that answers nothing of what is over is left out after a while", async () => {
  await using cluster = new Cluster(hasty);
  const expected = await honest(cluster, false);
  await cluster.start("liar", async function* (_, signal) {
    await forever(signal);
    yield [];
  });
  const out = await cluster.all({ number: ASKED });
  assert.deepEqual(good(out), expected);
  assert.match(errorsOf(out)[0], /c\/liar: nothing came within 10 s/);
});

/** What a node's socket says that is no server of gRPC. */
const SOCKETS: Record<string, (socket: Socket) => void> = {
  "closes at once": (socket) => socket.destroy(),
  "says nothing at all": () => {},
  "sends bytes that are no HTTP/2": (socket) => {
    const write = (): boolean =>
      socket.write(new Uint8Array(4096).fill(0x41)) && !socket.destroyed && write();
    socket.on("drain", write);
    write();
  },
  "sends settings and then garbage": (socket) => {
    socket.write(new Uint8Array([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.on("data", () => socket.write(new Uint8Array(64).fill(0xff)));
  },
  "sends settings and closes": (socket) => {
    socket.end(new Uint8Array([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  },
};

for (const [name, serve] of Object.entries(SOCKETS)) {
  Deno.test(`a node that ${name} is named, and the others' flows come`, async () => {
    await using cluster = new Cluster();
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(`${cluster.directory}/liar`, resolve));
    try {
      const expected = await honest(cluster, false);
      cluster.links.set("liar", Node.create({ name: "liar", cluster: "c" }));
      const out = await cluster.all({ number: ASKED });
      assert.deepEqual(good(out), expected);
      assert.ok(out.some((one) => /^NODE_(UNAVAILABLE|ERROR) c\/liar \(c\/liar: ./.test(one)), `${out}`);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });
}

Deno.test("a flood of one node neither holds up the others while flows are followed, nor breaks their order", async () => {
  await using cluster = new Cluster();
  const stop = new AbortController(), times: Record<string, number[]> = { "good-1": [], "good-2": [] };
  await cluster.start("liar", async function* (_, signal) {
    while (!signal.aborted) {
      const ms = Date.now();
      yield Array.from({ length: 200 }, () => flow("liar", "flood", ms));
      await systemClock.sleep(0);
    }
  });
  for (const node of Object.keys(times)) {
    await cluster.start(node, async function* (_, signal) {
      while (!signal.aborted) {
        const ms = Date.now();
        yield [flow(node, `${ms}`, ms)];
        await systemClock.sleep(20);
      }
    });
  }
  const order: number[] = [];
  let floods = 0;
  for await (const batch of cluster.ask({ follow: true }, stop.signal)) {
    for (const text of batch.map(said)) {
      if (text === "c/liar flood") floods++;
      const [, node, ms] = /^c\/(good-\d) (\d+)$/.exec(text) ?? [];
      if (node === undefined) continue;
      times[node].push(Number(ms));
      order.push(Number(ms));
    }
    if (floods > 20_000 && Object.values(times).every(({ length }) => length > 50)) stop.abort();
  }
  for (const own of Object.values(times)) assert.deepEqual(own, own.toSorted((a, b) => a - b));
});

Deno.test("what nodes say of themselves neither breaks nor bloats the answers about all", async () => {
  await using cluster = new Cluster();
  await cluster.start("good", history("good"));
  const huge = {
    num_flows: 2 ** 64 - 2048,
    max_flows: 2 ** 64 - 2048,
    seen_flows: 2 ** 63,
    flows_rate: Infinity,
  };
  await cluster.start("liar", history("liar"), { ...huge, uptime_ns: 2 ** 63, version: "v".repeat(900_000) });
  await cluster.start("liar-2", history("liar-2"), { ...huge, flows_rate: NaN });
  const methods = relayMethods({
    links: cluster.links,
    nodeName: "relay-1",
    clock: systemClock,
    log: Logger.silent(),
    metrics: cluster.metrics,
    isSynced: () => true,
  });
  const ask = async (method: string) => {
    const call = { signal: new AbortController().signal, header: () => undefined };
    const messages: Uint8Array[] = [];
    for await (const batch of methods[`/observer.Observer/${method}`].open(new Uint8Array(0), call)) {
      messages.push(...batch);
    }
    assert.ok(messages[0].length < 1 << 16, `${messages[0].length} bytes`);
    return messages[0];
  };
  const status = ServerStatusResponse.decode(await ask("ServerStatus"));
  assert.equal(status.num_connected_nodes?.value, 3);
  assert.deepEqual([status.num_flows, Number.isFinite(status.flows_rate)], [2e15 + 3, true]);
  const { nodes } = GetNodesResponse.decode(await ask("GetNodes"));
  assert.deepEqual(nodes.map(({ name }) => name), ["c/good", "c/liar", "c/liar-2"]);
  assert.deepEqual(GetNamespacesResponse.decode(await ask("GetNamespaces")).namespaces, []);
});

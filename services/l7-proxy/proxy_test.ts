import assert from "node:assert/strict";
import { MetricsRegistry, type ProblemError, systemClock } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import type { Init } from "@weir/proto";
import { Handle, type L7Record, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { HandlePrefixes } from "./handle_address.ts";
import { FRAME, PREFACE } from "./http2/frame.ts";
import { frame, settings, TestPeer } from "./http2/testing.ts";
import { Proxy, type ProxyParts } from "./proxy.ts";
import { RuleBook } from "./rule_book.ts";
import { MemorySocket } from "./testing.ts";

const CLIENT = 300, SERVER = 400;
const HANDLE = Handle.create({
  number: 7,
  protocol: 6,
  clientAddress: "10.0.0.1",
  clientPort: 4711,
  serverAddress: "10.0.0.2",
  serverPort: 80,
  clientIdentity: CLIENT,
  serverIdentity: SERVER,
  egress: { endpoint: 1, remoteIdentity: SERVER },
  ingress: { endpoint: 2, remoteIdentity: CLIENT },
});

/** A policy that allows these paths of port 80 to whoever asks. */
function policyOf(
  name: string,
  direction: "EGRESS" | "INGRESS",
  paths: string[],
  change: Init<ProxyPolicy> = {},
) {
  return ProxyPolicy.create({
    name,
    enforceEgress: direction === "EGRESS",
    enforceIngress: direction === "INGRESS",
    entries: [
      MapStateEntry.create({
        direction,
        protocol: 6,
        port: 80,
        portPrefixLength: 16,
        precedence: 1,
        ruleSet: 9,
        cookie: 5,
      }),
    ],
    ruleSets: [
      RuleSet.create({
        id: 9,
        kind: "HTTP",
        deniedCookie: 99,
        http: paths.map((path, at) => ({ path, cookie: 20 + at })),
      }),
    ],
    ...change,
  });
}

function bookOf(egress: string[], ingress: string[], directory = ""): RuleBook {
  const book = new RuleBook(directory);
  book.putPolicy("out", policyOf("out", "EGRESS", egress));
  book.putPolicy("in", policyOf("in", "INGRESS", ingress));
  book.putEndpoint("a", ProxyEndpoint.create({ id: 1, policy: "out" }));
  book.putEndpoint("b", ProxyEndpoint.create({ id: 2, policy: "in" }));
  return book;
}

function proxyOf(book: RuleBook, more: Partial<ProxyParts> = {}) {
  const records: Init<L7Record>[] = [], metrics = new MetricsRegistry(), server = new MemorySocket();
  const proxy = new Proxy({
    prefixes: new HandlePrefixes(["240.0.0.0/8", "fd57:4c37::/64"]),
    book,
    records: { send: (record) => void records.push(record) },
    handleOf: (number) => Promise.resolve(number === HANDLE.number ? HANDLE : undefined),
    connect: () => Promise.resolve(server),
    metrics,
    clock: systemClock,
    ...more,
  });
  const ended = (why: string) =>
    metrics.render().split("\n").some((line) =>
      line.includes("connections_ended_total") && line.includes(`why="${why}"`)
    );
  return { proxy, records, metrics, server, ended };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const said = (records: Init<L7Record>[]) =>
  records.map((
    { direction, type, verdict, cookie, http },
  ) => [direction, type, verdict, cookie, http?.code ?? 0]);

Deno.test("Proxy.serve() asks the client's rules, then the server's, and records what each said", async () => {
  const { proxy, records, server, ended } = proxyOf(bookOf(["/a.*", "/b"], ["/ab?"]));
  server.send(OK);
  const client = new MemorySocket().send(get("/a"), get("/ac"), get("/c"), null);
  await proxy.serve({ socket: client, address: "240.0.0.7" });
  assert.equal(server.text, get("/a"));
  assert.deepEqual(client.text.match(/HTTP\/1.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 403"]);
  assert.deepEqual(said(records), [
    ["EGRESS", "REQUEST", "FORWARDED", 20, 0],
    ["INGRESS", "REQUEST", "FORWARDED", 20, 0],
    ["EGRESS", "RESPONSE", "FORWARDED", 20, 200],
    ["INGRESS", "RESPONSE", "FORWARDED", 20, 200],
    ["EGRESS", "REQUEST", "FORWARDED", 20, 0],
    ["INGRESS", "REQUEST", "DENIED", 99, 0],
    ["EGRESS", "RESPONSE", "FORWARDED", 20, 403],
    ["INGRESS", "RESPONSE", "DENIED", 99, 403],
    ["EGRESS", "REQUEST", "DENIED", 99, 0],
    ["EGRESS", "RESPONSE", "DENIED", 99, 403],
  ]);
  assert.equal(records[0].http?.url, "http://a/a");
  assert.equal(records[0].connection, HANDLE);
  assert.ok(ended("client-closed"));
  assert.deepEqual(proxy.list(), []);
});

Deno.test("Proxy.serve() judges each request of a connection by the newest rules", async () => {
  const book = bookOf([".*"], ["/a"]);
  const { proxy, server, ended } = proxyOf(book);
  const write = server.write.bind(server);
  server.write = (bytes) => {
    server.send(OK);
    return write(bytes);
  };
  const client = new MemorySocket().send(get("/b"));
  const running = proxy.serve({ socket: client, address: "240.0.0.7" });
  await until("the next step", () => client.text.includes("403"), 5);
  book.putPolicy("in", policyOf("in", "INGRESS", ["/b"]));
  client.send(get("/b"));
  await until("the next step", () => client.text.includes("200 OK"), 5);
  // Not redirected any more, and nothing restricts it.
  book.putPolicy("in", ProxyPolicy.create({ name: "in" }));
  client.send(get("/other"));
  await until("the next step", () => client.text.split("200 OK").length === 3, 5);
  // No entry is for it any more.
  book.putPolicy("in", policyOf("in", "INGRESS", [], { entries: [], ruleSets: [] }));
  client.send(get("/b"));
  await running;
  assert.equal(client.text.split("HTTP/1.1").length, 4);
  assert.ok(ended("policy-denies"));
});

Deno.test("Proxy.serve() guesses no protocol for a connection whose rules went before it was read", async () => {
  const book = bookOf([".*"], [".*"]);
  for (const [name, side] of [["out", "EGRESS"], ["in", "INGRESS"]] as const) {
    book.putPolicy(
      name,
      policyOf(name, side, [], { entries: [], ruleSets: [], enforceEgress: false, enforceIngress: false }),
    );
  }
  const { proxy, records, ended, server } = proxyOf(book);
  const client = new MemorySocket().send(get("/"));
  await proxy.serve({ socket: client, address: "240.0.0.7" });
  assert.ok(ended("rules-gone"));
  assert.deepEqual([client.text, server.text], ["", ""]);
  assert.deepEqual(records.map(({ direction, verdict }) => [direction, verdict]), [
    ["EGRESS", "ERROR"],
    ["INGRESS", "ERROR"],
  ]);
  assert.match(records[0].reason!, /rules .* are gone/);
});

Deno.test("Proxy.serve() lets nothing through that it has no policy for, and asks nobody's connection on", async () => {
  const { proxy, records, ended, server } = proxyOf(new RuleBook(""));
  await proxy.serve({ socket: new MemorySocket().send(get("/")), address: "240.0.0.7" });
  assert.ok(ended("unknown-policy"));
  assert.deepEqual(records.map(({ direction, verdict }) => [direction, verdict]), [["EGRESS", "ERROR"], [
    "INGRESS",
    "ERROR",
  ]]);
  for (
    const [address, why] of [["10.0.0.1", "not-redirected"], ["240.0.0.0", "not-redirected"], [
      "240.0.0.8",
      "unknown-handle",
    ]]
  ) {
    const socket = new MemorySocket().send(get("/"));
    await proxy.serve({ socket, address });
    assert.ok(ended(why), why);
    assert.equal(socket.closed, true);
  }
  assert.equal(server.text, "");
});

Deno.test("Proxy.serve() judges HTTP/2 by the same rules, and records what calls of gRPC came to", async () => {
  const { proxy, records, server: socket, ended } = proxyOf(bookOf(["/a.*"], ["/a.S/.*"]));
  const client = new TestPeer(new MemorySocket(), false), server = new TestPeer(socket, true);
  client.send(PREFACE.subarray(0, 5), PREFACE.subarray(5), settings());
  const running = proxy.serve({ socket: client.socket, address: "240.0.0.7" });
  const grpc = ["content-type", "application/grpc"] as const;
  client.send(
    client.request(1, "/a.S/Call", true, grpc),
    client.request(3, "/b"),
    client.request(5, "/a", true, grpc),
  );
  await server.saw("HEADERS 1 end");
  server.send(settings(), server.headers(1, [[":status", "200"], grpc], false));
  server.send(server.headers(1, [["grpc-status", "5"]]));
  await client.saw("HEADERS 1 end");
  client.send(null);
  await running;
  assert.equal(client.textOf(3), "Access denied\r\n");
  assert.equal(
    new Map(client.fieldsOf(5)).get("grpc-message"),
    "Denied by network policy: no rule allows POST /a",
  );
  assert.deepEqual(
    records.filter(({ type }) => type === "RESPONSE").map(({ direction, verdict, http }) => [
      ...[direction, verdict, http?.url, http?.protocol, http?.code, http?.grpcStatus],
    ]),
    [
      ["EGRESS", "DENIED", "http://a/b", "HTTP/2", 403, undefined],
      ["EGRESS", "FORWARDED", "http://a/a", "HTTP/2", 200, 7],
      ["INGRESS", "DENIED", "http://a/a", "HTTP/2", 200, 7],
      ["EGRESS", "FORWARDED", "http://a/a.S/Call", "HTTP/2", 200, 5],
      ["INGRESS", "FORWARDED", "http://a/a.S/Call", "HTTP/2", 200, 5],
    ],
  );
  assert.deepEqual(records.at(-1)?.http?.headers, [
    { key: "content-type", value: "application/grpc" },
    { key: "grpc-status", value: "5" },
  ]);
  assert.deepEqual(server.said, ["HEADERS 1 end"]);
  assert.ok(ended("client-closed"));
});

Deno.test("Proxy.serve() says that TLS came to a port with an http rule", async () => {
  const { proxy, records, ended } = proxyOf(bookOf([".*"], [".*"]));
  await proxy.serve({
    socket: new MemorySocket().send("\x16\x03\x01\x02\x00\x01", null),
    address: "fd57:4c37::7",
  });
  assert.ok(ended("tls"));
  assert.match(records[0].reason ?? "", /^TLS on a port with an http rule/);
});

Deno.test("Proxy.serve() takes a bounded number of connections, and of one client and towards one server a part of them", async () => {
  for (
    const [limits, why] of [[{ connectionsMax: 2 }, "connections-full"], [
      { clientConnectionsMax: 2 },
      "client-connections-full",
    ], [{ serverConnectionsMax: 2 }, "server-connections-full"]] as const
  ) {
    const { proxy, ended } = proxyOf(bookOf([".*"], [".*"]), limits);
    const open = [new MemorySocket(), new MemorySocket()];
    const running = open.map((socket) => proxy.serve({ socket, address: "240.0.0.7" }));
    await until("the next step", () => proxy.list().length === 2, 5);
    const third = new MemorySocket();
    await proxy.serve({ socket: third, address: "240.0.0.7" });
    assert.equal(third.closed, true);
    assert.ok(ended(why));
    for (const socket of open) socket.send(null);
    await Promise.all(running);
    // There is room again.
    await proxy.serve({ socket: new MemorySocket().send(null), address: "240.0.0.7" });
    assert.ok(ended("client-closed"));
  }
});

Deno.test("Proxy.serve() takes another client's connections to a server of which one has its share", async () => {
  const { proxy, ended } = proxyOf(bookOf([".*"], [".*"]), {
    clientConnectionsMax: 1,
    // Only the server is of this node.
    handleOf: (number) =>
      Promise.resolve(
        Handle.create({ ...HANDLE, number, egress: undefined, clientAddress: `10.0.1.${number >> 4}` }),
      ),
  });
  const clients = [new MemorySocket(), new MemorySocket()];
  const running = clients.map((socket, i) => proxy.serve({ socket, address: `240.0.0.${16 * (i + 1)}` }));
  await until("both are served", () => proxy.list().length === 2, 5);
  await proxy.serve({ socket: new MemorySocket(), address: "240.0.0.17" });
  assert.ok(ended("client-connections-full"));
  for (const socket of clients) socket.send(null);
  await Promise.all(running);
});

Deno.test("Proxy.serve() leaves places to who comes next: of what is left nobody has more than twice what is free", async () => {
  const connectionsMax = 90;
  const { proxy } = proxyOf(bookOf([".*"], [".*"]), {
    connectionsMax,
    handleOf: (number) =>
      Promise.resolve(
        Handle.create({
          ...HANDLE,
          number,
          egress: undefined,
          clientAddress: `10.0.1.${number >> 8}`,
          serverAddress: `10.0.2.${number >> 8}`,
        }),
      ),
  });
  const open: MemorySocket[] = [], running: Promise<void>[] = [], held: number[] = [];
  for (let client = 1; client <= 4; client++) {
    let taken = 0;
    for (let at = 1; at <= connectionsMax; at++) {
      const socket = new MemorySocket(), serving = proxy.serve({ socket, address: `240.0.${client}.${at}` });
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
      if (socket.closed) break;
      taken++;
      open.push(socket);
      running.push(serving);
    }
    held.push(taken);
  }
  assert.deepEqual(held, [60, 20, 7, 2], "each two thirds of what those before it left");
  for (const socket of open) socket.send(null);
  await Promise.all(running);
});

Deno.test("Proxy.sweep() ends a connection whose head trickles, and leaves one that is idle", async () => {
  const clock = new FakeClock(), stop = new AbortController();
  const { proxy, ended } = proxyOf(bookOf([".*"], [".*"]), { clock });
  const slow = new MemorySocket(), idle = new MemorySocket();
  const running = [slow, idle].map((socket) => proxy.serve({ socket, address: "240.0.0.7" }));
  const sweeping = proxy.sweep(stop.signal);
  await until("the next step", () => proxy.list().length === 2, 5);
  for (let second = 0; second < 40 && !slow.closed; second++) {
    slow.send("G");
    await clock.advance(1000);
  }
  assert.equal(slow.closed, true);
  assert.equal(idle.closed, false);
  assert.ok(ended("timeout-head"));
  stop.abort();
  await clock.advance(1000);
  await Promise.all([...running, sweeping]);
  assert.ok(ended("stopped"));
});

Deno.test("Proxy.sweep() ends a connection of HTTP/2 whose fields trickle, and leaves one that is quiet", async () => {
  const clock = new FakeClock(), stop = new AbortController();
  const { proxy, ended } = proxyOf(bookOf([".*"], [".*"]), { clock });
  const clients = [0, 1].map(() => new TestPeer(new MemorySocket(), false)), [slow, quiet] = clients;
  const running = clients.map(({ socket }) => proxy.serve({ socket, address: "240.0.0.7" }));
  const sweeping = proxy.sweep(stop.signal);
  for (const client of clients) client.send(PREFACE, settings());
  await until("all are greeted", () => clients.every(({ frames }) => frames.length >= 2), 5);
  const block = slow.request(1, "/a");
  slow.send(block.subarray(0, 4), Uint8Array.of(0), block.subarray(5));
  for (let second = 0; second < 40 && !slow.socket.closed; second++) {
    slow.send(frame(FRAME.CONTINUATION, 0, 1).subarray(second % 9, second % 9 + 1));
    await clock.advance(1000);
  }
  assert.equal(slow.socket.closed, true);
  assert.ok(ended("timeout-head"));
  assert.equal(quiet.socket.closed, false);
  stop.abort();
  await clock.advance(1000);
  await Promise.all([...running, sweeping]);
  assert.ok(ended("stopped"));
});

Deno.test("RuleBook keeps what it judges by for the process after it, and takes no rules that cannot be judged by", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const book = bookOf(["/a"], ["/a"], directory);
    assert.throws(
      () => book.putPolicy("in", policyOf("in", "INGRESS", ["("])),
      (error: ProblemError) => error.code === "RULES_INVALID",
    );
    assert.throws(
      () => book.putPolicy("in", policyOf("in", "INGRESS", ["/a"], { ruleSets: [] })),
      (error: ProblemError) => error.code === "RULES_INVALID",
    );
    assert.throws(
      () => book.putPolicy("in", policyOf("in", "INGRESS", ["/a"], { process: "other" })),
      (error: ProblemError) => error.code === "OTHER_PROCESS",
    );
    book.putPolicy("gone", policyOf("gone", "INGRESS", ["/a"]));
    book.deletePolicy("gone");
    await Deno.writeTextFile(`${directory}/policies/broken.bin`, "\xff\xff\xff");
    const next = new RuleBook(directory);
    assert.equal(next.load().length, 1);
    assert.deepEqual(next.policies.list().map(({ name }) => name).sort(), ["in", "out"]);
    const { proxy, server } = proxyOf(next);
    server.send(OK);
    const client = new MemorySocket().send(get("/a"), get("/b"), null);
    await proxy.serve({ socket: client, address: "240.0.0.7" });
    assert.deepEqual(client.text.match(/HTTP\/1.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 403"]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { MetricsRegistry, systemClock } from "@weir/common";
import { until } from "@weir/common/testing/until";
import type { Init } from "@weir/proto";
import { Handle, type L7Record, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { HandlePrefixes } from "../handle_address.ts";
import { Proxy } from "../proxy.ts";
import { RuleBook } from "../rule_book.ts";
import { MemorySocket } from "../testing.ts";
import { type DatagramSocket, DnsDatagrams } from "./dns_datagrams.ts";
import { DnsShared, type DnsSharedParts } from "./dns_shared.ts";
import { framed } from "./frame_reader.ts";
import { addresses, answerTo, decode, queryOf } from "./testing.ts";

const handleOf = (number: number, protocol = 6) =>
  Handle.create({
    number,
    protocol,
    clientAddress: "10.0.0.1",
    serverAddress: "10.0.0.2",
    serverPort: 53,
    egress: { endpoint: 1, remoteIdentity: 400 },
  });

/** A proxy whose endpoint 1 may ask for `*.good.com`, by TCP and by UDP. */
function proxyOf(more: Partial<DnsSharedParts> = {}) {
  const book = new RuleBook(""), metrics = new MetricsRegistry(), records: Init<L7Record>[] = [];
  book.putPolicy(
    "p",
    ProxyPolicy.create({
      enforceEgress: true,
      entries: [6, 17].map((protocol) =>
        MapStateEntry.create({
          direction: "EGRESS",
          protocol,
          port: 53,
          portPrefixLength: 16,
          precedence: 1,
          ruleSet: 9,
        })
      ),
      ruleSets: [
        RuleSet.create({ id: 9, kind: "DNS", deniedCookie: 99, dns: [{ matchPattern: "*.good.com" }] }),
      ],
    }),
  );
  book.putEndpoint("a", ProxyEndpoint.create({ id: 1, policy: "p" }));
  const server = new MemorySocket(), shared = new DnsShared({ clock: systemClock, metrics, ...more });
  const prefixes = new HandlePrefixes(["240.0.0.0/8"]);
  const proxy = new Proxy({
    prefixes,
    book,
    dns: shared,
    records: { send: (record) => void records.push(record) },
    handleOf: (number) => Promise.resolve(handleOf(number)),
    connect: () => Promise.resolve(server),
    metrics,
    clock: systemClock,
  });
  return { proxy, server, shared, records, metrics, prefixes };
}

/** Whole messages that were written to a socket. */
function messages({ written }: MemorySocket): Uint8Array[] {
  const bytes = Uint8Array.from(written.flatMap((part) => [...part])), found: Uint8Array[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const end = at + 2 + (bytes[at] << 8 | bytes[at + 1]);
    if (end > bytes.length) break;
    found.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return found;
}

Deno.test("DNS over TCP: many questions at once, cut anywhere, answers in any order, and a client that ends early", async () => {
  const { proxy, server, shared, records } = proxyOf();
  const asked = ["a.good.com", "b.bad.com", "c.good.com"].map((name, id) => framed(queryOf(name, { id })));
  const bytes = Uint8Array.from(asked.flatMap((one) => [...one]));
  const client = new MemorySocket();
  for (const byte of bytes) client.send(Uint8Array.of(byte));
  client.send(null);
  const done = proxy.serve({ socket: client, address: "240.0.0.7" });
  await until("two questions", () => messages(server).length === 2 && server.closedWrite, 5);
  assert.deepEqual(messages(client).map((one) => decode(one).rcode), ["REFUSED"]);
  const [first, second] = messages(server).map((query) => framed(answerTo(query, addresses("x", 2000))));
  // One after the other, and in pieces.
  server.send(second, first.subarray(0, 1), first.subarray(1, 9000), first.subarray(9000));
  await done;
  assert.deepEqual(messages(client).map((one) => decode(one).id), [1, 2, 0]);
  assert.equal(decode(messages(client)[1]).answers.length, 2000);
  assert.deepEqual([shared.questions, client.closed, server.closed], [0, true, true]);
  assert.equal(records.filter(({ type }) => type === "RESPONSE").length, 2);
  assert.ok(records.every(({ dns }) => dns !== undefined));
});

Deno.test("DNS over TCP: a server that answers and hangs up is heard to the end, also while the answer is held", async () => {
  let release!: (isInForce: boolean) => void;
  const held = new Promise<boolean>((resolve) => release = resolve);
  const learner = { isKnown: () => false, learn: () => held } as unknown as DnsSharedParts["learner"];
  for (const more of [{}, { learner }]) {
    const { proxy, server } = proxyOf(more);
    const client = new MemorySocket().send(framed(queryOf("a.good.com")));
    const done = proxy.serve({ socket: client, address: "240.0.0.7" });
    await until("the question", () => messages(server).length === 1, 5);
    server.send(framed(answerTo(messages(server)[0], addresses("a.good.com", 1))), null);
    if (more.learner !== undefined) {
      await until("it waits", () => server.written.length === 1, 5);
      assert.equal(client.written.length, 0);
      release(true);
    }
    await done;
    assert.deepEqual(messages(client).map((one) => decode(one).answers.length), [1]);
  }
});

Deno.test("DNS over TCP: what is none ends the connection, and its questions are given back", async () => {
  for (
    const bytes of [
      new TextEncoder().encode("\0\x05GET /"),
      framed(answerTo(queryOf("a"), [])),
      Uint8Array.of(0, 0),
    ]
  ) {
    const { proxy, shared, metrics } = proxyOf();
    const client = new MemorySocket().send(framed(queryOf("a.good.com")), bytes);
    await proxy.serve({ socket: client, address: "240.0.0.7" });
    assert.ok(client.closed);
    assert.equal(shared.questions, 0);
    assert.match(metrics.render(), /weir_l7_connections_ended_total\{.*why="not-readable"/);
  }
});

/** A socket of which a test is all other sides. */
class MemoryDatagrams implements DatagramSocket {
  sent: { bytes: Uint8Array; hostname: string; port: number }[] = [];
  readonly #incoming: [Uint8Array, Deno.Addr][] = [];
  #wake: (() => void) | undefined;
  #failed = false;

  from(hostname: string, port: number, bytes: Uint8Array): void {
    this.#incoming.push([bytes, { transport: "udp", hostname, port }]);
    this.#wake?.();
  }
  fail(): void {
    this.#failed = true;
    this.#wake?.();
  }
  async receive(): Promise<[Uint8Array, Deno.Addr]> {
    for (;;) {
      const next = this.#incoming.shift();
      if (next !== undefined) return next;
      if (this.#failed) throw new Deno.errors.BadResource("closed");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
  send(bytes: Uint8Array, to: Deno.Addr): Promise<number> {
    const { hostname, port } = to as Deno.NetAddr;
    this.sent.push({ bytes, hostname, port });
    return Promise.resolve(bytes.length);
  }
}

Deno.test("DNS by UDP: client, proxy and server by the two ports of a handle, and nobody else", async () => {
  const { proxy, shared, metrics, prefixes } = proxyOf();
  let asked = 0;
  const datagrams = new DnsDatagrams({
    prefixes,
    shared,
    handleOf: async (number) => {
      asked++;
      await Promise.resolve();
      return number === 9 ? undefined : handleOf(number, 17);
    },
    flowOf: (handle) => proxy.flow(handle),
    flowsMax: 2,
  });
  const socket = new MemoryDatagrams(), serving = datagrams.serve(socket);
  const mapped = "::ffff:240.0.0.7";
  socket.from(mapped, 1, queryOf("a.good.com", { id: 5 }));
  socket.from(mapped, 1, queryOf("a.bad.com", { id: 6 }));
  await until("both", () => socket.sent.length === 2, 5);
  const [passed, denied] = socket.sent;
  assert.deepEqual([passed.hostname, passed.port, denied.hostname, denied.port], [mapped, 2, mapped, 1]);
  assert.deepEqual([decode(denied.bytes).id, decode(denied.bytes).rcode], [6, "REFUSED"]);
  const answer = answerTo(passed.bytes, addresses("a.good.com", 3));
  // Anybody, the server of another flow, a port that is no leg: none of them is heard.
  socket.from("192.0.2.1", 1, queryOf("a.good.com"));
  socket.from("240.0.0.8", 2, answer);
  socket.from(mapped, 53, answer);
  socket.from("240.0.0.9", 1, queryOf("a.good.com"));
  socket.from(mapped, 2, answer);
  await until("the answer", () => socket.sent.length === 3, 5);
  assert.deepEqual([socket.sent[2].port, decode(socket.sent[2].bytes).id], [1, 5]);
  await until("it is told", () => /why="unknown-handle"\} 1/.test(metrics.render()), 5);
  assert.match(metrics.render(), /dropped_total\{why="not-redirected"\} 2/);
  assert.match(metrics.render(), /dropped_total\{why="nobody-asked"\} 1/);
  assert.deepEqual([asked, datagrams.flows], [2, 1]);
  // Of flows that nobody waits for the oldest makes room.
  for (const one of [10, 11]) {
    socket.from(`240.0.0.${one}`, 1, queryOf("a.good.com"));
    await until(
      "it is passed on",
      () => socket.sent.some(({ hostname }) => hostname === `240.0.0.${one}`),
      5,
    );
  }
  assert.equal(datagrams.flows, 2);
  socket.from("240.0.0.12", 1, queryOf("a.good.com"));
  await until("there is no room", () => /why="flows-full"\} 1/.test(metrics.render()), 5);
  assert.equal(shared.questions, 2);
  socket.fail();
  await assert.rejects(serving, Deno.errors.BadResource);
  assert.deepEqual([shared.questions, datagrams.flows], [0, 0]);
});

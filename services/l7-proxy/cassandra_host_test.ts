import assert from "node:assert/strict";
import { MetricsRegistry, systemClock } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import type { Init } from "@weir/proto";
import { Handle, type L7Record, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import * as wire from "./cassandra/testing/wire.ts";
import { HandlePrefixes } from "./handle_address.ts";
import { Proxy, type ProxyParts } from "./proxy.ts";
import { RuleBook } from "./rule_book.ts";
import { MemorySocket } from "./testing.ts";

const HANDLE = Handle.create({
  number: 7,
  protocol: 6,
  clientAddress: "10.0.0.1",
  clientPort: 4711,
  serverAddress: "10.0.0.2",
  serverPort: 9042,
  egress: { endpoint: 1, remoteIdentity: 400 },
  ingress: { endpoint: 2, remoteIdentity: 300 },
});
const at = (stream: number) => ({ stream });

function policyOf(name: string, direction: "EGRESS" | "INGRESS", table: string): ProxyPolicy {
  const entry = {
    direction,
    protocol: 6,
    port: 9042,
    portPrefixLength: 16,
    precedence: 1,
    ruleSet: 9,
    cookie: 5,
  };
  const cassandra = [{ queryAction: "select", queryTable: table, cookie: 20 }];
  const deniedBy = [`cnp:shop/${name} spec.ingress[0].toPorts[0].rules.l7 (line 7)`];
  return ProxyPolicy.create({
    name,
    enforceEgress: direction === "EGRESS",
    enforceIngress: direction === "INGRESS",
    entries: [MapStateEntry.create(entry)],
    ruleSets: [RuleSet.create({ id: 9, kind: "CASSANDRA", deniedCookie: 99, deniedBy, cassandra })],
  });
}

function bedOf(egress: string, ingress: string, more: Partial<ProxyParts> = {}) {
  const book = new RuleBook(""), records: Init<L7Record>[] = [], metrics = new MetricsRegistry();
  book.putPolicy("out", policyOf("out", "EGRESS", egress));
  book.putPolicy("db", policyOf("db", "INGRESS", ingress));
  book.putEndpoint("a", ProxyEndpoint.create({ id: 1, policy: "out" }));
  book.putEndpoint("b", ProxyEndpoint.create({ id: 2, policy: "db" }));
  const client = new MemorySocket(), server = new MemorySocket();
  const proxy = new Proxy({
    prefixes: new HandlePrefixes(["240.0.0.0/8"]),
    book,
    records: { send: (record) => void records.push(record) },
    handleOf: () => Promise.resolve(HANDLE),
    connect: () => Promise.resolve(server),
    metrics,
    clock: systemClock,
    ...more,
  });
  const running = proxy.serve({ socket: client, address: "240.0.0.7" });
  const start = async () => {
    client.send(wire.startup({}, at(1)));
    await until("STARTUP", () => server.written.length > 0, 5);
    server.send(wire.READY(at(1)));
    await until("READY", () => client.written.length > 0, 5);
    client.written = [];
    server.written = [];
  };
  const ended = (why: string) =>
    metrics.render().split("\n").some((line) => line.includes("ended_total") && line.includes(`"${why}"`));
  return { book, records, client, server, proxy, running, start, ended };
}

const query = (table: string, stream: number) => wire.query(`SELECT * FROM ks.${table}`, at(stream));

Deno.test("CassandraHost asks both ends, tells the client which policy denies, and records what each said", async () => {
  const { client, server, records, running, start, ended, proxy } = bedOf("ks.*", "ks.ok");
  await start();
  client.send(query("ok", 2));
  await until("the query", () => server.written.length === 1, 5);
  server.send(wire.VOID(at(2)));
  await until("the answer", () => client.written.length === 1, 5);
  client.send(query("secret", 3));
  await until("the denial", () => client.written.length === 2, 5);
  assert.match(
    client.text,
    /Denied by policy cnp:shop\/db spec\.ingress\[0\]\.toPorts\[0\]\.rules\.l7: no rule allows select on ks\.secret/,
  );
  assert.deepEqual(server.written, [query("ok", 2)]);
  const said = records.map((
    { direction, type, verdict, cookie, cassandra },
  ) => [direction, type, verdict, cookie, cassandra?.queryTable, cassandra?.errorCode]);
  assert.deepEqual(said, [
    ["EGRESS", "REQUEST", "FORWARDED", 20, "ks.ok", 0],
    ["INGRESS", "REQUEST", "FORWARDED", 20, "ks.ok", 0],
    ["EGRESS", "RESPONSE", "FORWARDED", 20, "ks.ok", 0],
    ["INGRESS", "RESPONSE", "FORWARDED", 20, "ks.ok", 0],
    ["EGRESS", "REQUEST", "FORWARDED", 20, "ks.secret", 0x2100],
    ["INGRESS", "REQUEST", "DENIED", 99, "ks.secret", 0x2100],
  ]);
  assert.deepEqual([proxy.list()[0].kind, proxy.list()[0].requests, proxy.list()[0].denied], [
    "CASSANDRA",
    2,
    1,
  ]);
  client.send(null);
  server.send(null);
  await running;
  assert.ok(ended("server-closed") && client.closed && server.closed);
});

Deno.test("CassandraHost judges by the newest rules, and ends a connection that none is for", async () => {
  const { book, client, server, running, start, ended } = bedOf("", "ok");
  await start();
  client.send(query("other", 2));
  await until("the denial", () => client.written.length === 1, 5);
  book.putPolicy("db", policyOf("db", "INGRESS", "other"));
  client.send(query("other", 2));
  await until("the query", () => server.written.length === 1, 5);
  book.deletePolicy("db");
  client.send(query("other", 3));
  await running;
  assert.equal(server.written.length, 1);
  assert.ok(ended("unknown-policy"));
});

Deno.test("CassandraHost ends what it cannot read, a server that is away, and a client that says nothing", async () => {
  const confused = bedOf("", "");
  await confused.start();
  confused.client.send(wire.envelope(0x77, new Uint8Array(0), at(2)));
  await confused.running;
  assert.ok(confused.ended("not-readable"));
  assert.match(confused.records.at(-1)!.reason!, /opcode 0x77 is no request/);

  const away = bedOf("", "", { connect: () => Promise.reject(new Error("refused")) });
  away.client.send(wire.startup({}, at(1)));
  await away.running;
  assert.ok(away.ended("server-refused"));

  const clock = new FakeClock();
  const silent = bedOf("", "", { clock });
  const stop = new AbortController();
  const sweeping = silent.proxy.sweep(stop.signal);
  await until("it waits", () => silent.proxy.list()[0]?.waitsFor === "head", 5);
  for (let second = 0; second < 40; second++) await clock.advance(1000);
  await silent.running;
  assert.ok(silent.ended("timeout-head"));
  stop.abort();
  await clock.advance(1000);
  await sweeping;
});

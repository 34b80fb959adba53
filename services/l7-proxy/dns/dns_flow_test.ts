import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { MetricsRegistry, ProblemError } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import type { Init } from "@weir/proto";
import type { LearnedName } from "@weir/proto/endpoint";
import { Handle, type L7Record, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { ConnectionJudge } from "../connection_judge.ts";
import { RuleBook } from "../rule_book.ts";
import { DnsFlow } from "./dns_flow.ts";
import { DnsShared, type DnsSharedParts } from "./dns_shared.ts";
import { NameLearner } from "./name_learner.ts";
import { addresses, answerTo, decode, encode, head, queryOf, raw } from "./testing.ts";

const HANDLE = Handle.create({
  number: 7,
  protocol: 17,
  clientAddress: "10.0.0.1",
  serverAddress: "10.0.0.2",
  serverPort: 53,
  egress: { endpoint: 1, remoteIdentity: 400 },
});

/** The rules of endpoint 1. */
function bookOf(...patterns: string[]): RuleBook {
  const book = new RuleBook("");
  putRules(book, ...patterns);
  book.putEndpoint("a", ProxyEndpoint.create({ id: 1, policy: "p" }));
  return book;
}

function putRules(book: RuleBook, ...patterns: string[]): void {
  const entry = MapStateEntry.create({
    direction: "EGRESS",
    protocol: 17,
    port: 53,
    portPrefixLength: 16,
    precedence: 1,
    ruleSet: 9,
  });
  const dns = patterns.map((matchPattern, at) => ({ matchPattern, cookie: 20 + at }));
  const set = RuleSet.create({ id: 9, kind: "DNS", deniedCookie: 99, dns, deniedBy: ["cnp:a/b spec (f:1)"] });
  book.putPolicy("p", ProxyPolicy.create({ enforceEgress: true, entries: [entry], ruleSets: [set] }));
}

/** A client and a server that a test speaks for, and an endpoint manager. */
function flowOf(
  book: RuleBook,
  more: Partial<DnsSharedParts> & { tell?: Tell; questionBytesMax?: number } = {},
) {
  const clock = new FakeClock(), metrics = new MetricsRegistry();
  const told: Init<LearnedName>[][] = [];
  const { tell } = more;
  const learner = tell && new NameLearner({
    tell: (names) => {
      told.push(names);
      return tell(names);
    },
    endpointOf: (id) => book.endpoint(id),
    mayMean: (id, name) => book.mayMean(id, name),
    clock,
    metrics,
  });
  const shared = new DnsShared({ clock, metrics, learner, ...more });
  const toServer: Uint8Array[] = [], toClient: Uint8Array[] = [], records: Init<L7Record>[] = [];
  const faults: string[] = [], verdicts: string[] = [];
  const flow = new DnsFlow({
    handle: HANDLE,
    judge: new ConnectionJudge(book, HANDLE),
    counted: (verdict) => verdicts.push(verdict),
    record: (record) => records.push(record),
    fault: (code) => faults.push(code),
    questionBytesMax: more.questionBytesMax,
    toServer: (message) => toServer.push(message),
    toClient: (message) => toClient.push(message),
  }, shared);
  const dropped = () =>
    [...metrics.render().matchAll(/dns_dropped_total\{why="(.*?)"\} (\d+)/g)].map((m) => m[1]);
  return { flow, shared, clock, told, toServer, toClient, records, faults, verdicts, dropped };
}
type Tell = (names: Init<LearnedName>[]) => Promise<unknown>;

/** Lets what is due happen, and what follows from it. */
async function settle(clock: FakeClock, ms = 1): Promise<void> {
  for (let at = 0; at < 20; at++) await Promise.resolve();
  clock.advance(ms);
  for (let at = 0; at < 20; at++) await Promise.resolve();
}

Deno.test("DnsFlow passes an allowed question on under another id, and the answer back as the server said it", () => {
  const { flow, shared, toServer, toClient, records, verdicts } = flowOf(bookOf("*.Example.com"));
  const query = queryOf("wWw.eXample.com", { id: 0x0102, edns: true });
  assert.ok(flow.fromClient(query));
  const [passed] = toServer;
  assert.deepEqual(passed.subarray(2), query.subarray(2));
  assert.deepEqual([shared.questions, verdicts], [1, ["allowed"]]);
  const answer = answerTo(passed, [
    { type: "CNAME", name: "wWw.eXample.com", ttl: 9, data: "e.x" },
    ...addresses("e.x", 2),
  ]);
  const sent = answer.slice();
  flow.fromServer(answer);
  assert.deepEqual(answer, sent, "the caller's bytes are not changed");
  assert.deepEqual([...toClient[0].subarray(0, 2)], [1, 2]);
  assert.deepEqual(toClient[0].subarray(2), sent.subarray(2));
  assert.equal(shared.questions, 0);
  assert.deepEqual(
    records.map((
      { type, verdict, cookie, direction, dns },
    ) => [direction, type, verdict, cookie, dns?.query]),
    [
      ["EGRESS", "REQUEST", "FORWARDED", 20, "www.example.com."],
      ["EGRESS", "RESPONSE", "FORWARDED", 20, "www.example.com."],
    ],
  );
  assert.deepEqual(records[1].dns, {
    query: "www.example.com.",
    qtypes: ["A"],
    rcode: 0,
    rrtypes: ["CNAME", "A", "A"],
    ips: ["198.51.0.0", "198.51.0.1"],
    cnames: ["e.x."],
    ttl: 9,
  });
});

Deno.test("DnsFlow has what is too long for a datagram to the server asked by TCP, once a rule allows it", () => {
  const long = (name: string, bytes: number) =>
    encode({
      type: "query",
      id: 9,
      flags: 0x100,
      questions: [{ name, type: "A" }],
      additionals: [{
        type: "OPT",
        name: ".",
        udpPayloadSize: 1232,
        flags: 0,
        options: [{ code: 12, data: Buffer.alloc(bytes) }],
      }],
    });
  const { flow, shared, toServer, toClient, records } = flowOf(bookOf("*.good.com"), {
    questionBytesMax: 1232,
  });
  const room = 1232 - long("a.good.com", 0).length;
  flow.fromClient(long("a.good.com", room));
  assert.deepEqual([toServer.length, toClient.length], [1, 0]);
  flow.fromClient(long("a.good.com", room + 1));
  flow.fromClient(long("a.bad.com", room + 1));
  assert.deepEqual([toServer.length, shared.questions], [1, 1]);
  const [truncated, refused] = toClient.map(decode);
  assert.deepEqual(
    [truncated.id, truncated.flag_tc, truncated.rcode, truncated.questions[0].name],
    [9, true, "NOERROR", "a.good.com"],
  );
  assert.deepEqual([refused.flag_tc, refused.rcode], [false, "REFUSED"]);
  assert.match(records[1].reason ?? "", /1233 bytes by UDP: it is to be asked by TCP/);
});

Deno.test("DnsFlow gives questions ids that cannot be told beforehand, each its own", () => {
  const { flow, toServer } = flowOf(bookOf("*"));
  for (let id = 0; id < 200; id++) flow.fromClient(queryOf("a.b", { id }));
  const ids = toServer.map((message) => decode(message).id);
  assert.equal(new Set(ids).size, 200);
  assert.ok(ids.filter((id, at) => id === at).length < 5);
  assert.ok(new Set(ids.map((id) => id >> 12)).size > 8, "of all numbers");
});

Deno.test("DnsFlow refuses a name that no rule allows, in the words of the policy, and by the newest rules", () => {
  for (const denial of ["refused", "nxdomain"] as const) {
    const book = bookOf("*.good.com");
    const { flow, toServer, toClient, records } = flowOf(book, { denial });
    flow.fromClient(queryOf("www.Bad.com", { id: 9, edns: true }));
    const { id, rcode, questions, additionals, authorities } = decode(toClient[0]);
    assert.deepEqual(
      [id, rcode, questions[0].name, authorities.length],
      denial === "refused" ? [9, "REFUSED", "www.Bad.com", 0] : [9, "NXDOMAIN", "www.Bad.com", 1],
    );
    const text = "Denied by policy cnp:a/b spec: no rule allows www.bad.com.";
    assert.ok(additionals[0].options[0].data.toString("latin1").endsWith(text));
    assert.deepEqual(records.map(({ verdict, cookie, reason }) => [verdict, cookie, reason]), [[
      "DENIED",
      99,
      text,
    ]]);
    putRules(book, "*.bad.com");
    flow.fromClient(queryOf("www.bad.com"));
    assert.equal(toServer.length, 1);
  }
});

Deno.test("DnsFlow answers what it cannot judge by what is wrong, and passes none of it on", () => {
  const { flow, toServer, toClient, faults } = flowOf(bookOf("*"));
  const codes: string[] = [];
  const cases: Uint8Array[] = [
    raw(...head([2, 0, 0, 0]), "a", 0, 0, 1, 0, 1, "b", 0, 0, 1, 0, 1),
    raw(...head([1, 0, 0, 0]), 0xc0, 12, 0, 1, 0, 1),
    raw(...head([1, 0, 0, 0], 5 << 11), "a", 0, 0, 6, 0, 1), // an update
    raw(...head([1, 0, 0, 0], 4 << 11), "a", 0, 0, 6, 0, 1), // a notification
  ];
  for (const message of cases) {
    assert.ok(flow.fromClient(message));
    codes.push(decode(toClient.pop()!).rcode);
  }
  assert.deepEqual(codes, ["FORMERR", "FORMERR", "NOTIMP", "NOTIMP"]);
  // Nobody is answered who did not ask.
  assert.ok(!flow.fromClient(raw(...head([1, 0, 0, 0], 0x8180), "a", 0, 0, 1, 0, 1)));
  assert.ok(!flow.fromClient(new Uint8Array(11)));
  assert.deepEqual([toServer.length, toClient.length, faults.length], [0, 0, 6]);
  // Names with other bytes than hosts have are what no pattern means, "*" neither.
  flow.fromClient(raw(...head([1, 0, 0, 0]), "a b", 0, 0, 1, 0, 1));
  assert.equal(decode(toClient.pop()!).rcode, "REFUSED");
});

Deno.test("DnsFlow of an endpoint whose policy is not known lets nothing through, and says that it is its own fault", () => {
  const { flow, toServer, toClient, faults } = flowOf(new RuleBook(""));
  flow.fromClient(queryOf("a.b"));
  assert.deepEqual([toServer.length, decode(toClient[0]).rcode, faults], [0, "SERVFAIL", ["unknown-policy"]]);
});

Deno.test("DnsFlow takes an answer once, of the question that was asked, in time", () => {
  const { flow, shared, clock, toServer, toClient, records, dropped } = flowOf(bookOf("*"));
  flow.fromClient(queryOf("a.b"));
  const [passed] = toServer, good = answerTo(passed, addresses("a.b", 1));
  const wrongId = good.slice();
  wrongId[1] ^= 1;
  const other = queryOf("a.c");
  other.set(passed.subarray(0, 2));
  for (const bad of [wrongId, answerTo(other, addresses("a.c", 1)), passed, good.subarray(0, 11)]) {
    flow.fromServer(bad);
  }
  assert.deepEqual([toClient.length, dropped().toSorted()], [0, [
    "another-question",
    "no-answer",
    "nobody-asked",
  ]]);
  flow.fromServer(good);
  flow.fromServer(good);
  assert.equal(toClient.length, 1, "the second is nobody's");
  // One that cannot be read is none: its addresses would not be known.
  flow.fromClient(queryOf("a.b", { edns: true }));
  flow.fromServer(answerTo(toServer[1], addresses("a.b", 9)).subarray(0, 60));
  assert.equal(decode(toClient[1]).rcode, "SERVFAIL");
  assert.match(records.at(-1)!.reason!, /cannot be read: it ends within/);
  // Ten seconds: nothing is said, and it is nobody's any more.
  flow.fromClient(queryOf("late.b"));
  assert.equal(shared.questions, 1);
  clock.advance(9999);
  shared.expire();
  assert.equal(shared.questions, 1);
  clock.advance(1);
  shared.expire();
  assert.deepEqual([shared.questions, records.at(-1)!.reason], [0, "the server does not answer"]);
  flow.fromServer(answerTo(toServer[2], addresses("late.b", 1)));
  assert.equal(toClient.length, 2);
});

Deno.test("DnsFlow takes all messages of a transfer, and learns no names of it", () => {
  const { flow, toServer, toClient, told } = flowOf(bookOf("*"), { tell: () => Promise.resolve() });
  flow.fromClient(queryOf("a.b", { id: 3, type: "AXFR" }));
  for (let part = 0; part < 3; part++) flow.fromServer(answerTo(toServer[0], addresses(`p${part}.a.b`, 1)));
  assert.deepEqual([toClient.length, told.length, flow.questions], [3, 0, 1]);
  flow.end();
  assert.equal(flow.questions, 0);
});

Deno.test("DnsFlow has bounds: of a flow, of an endpoint, of all", () => {
  const shared = { questionsMax: 5, endpointQuestionsMax: 3 };
  const { flow, toServer, toClient, records } = flowOf(bookOf("*"), shared);
  for (let id = 0; id < 5; id++) flow.fromClient(queryOf("a.b", { id }));
  assert.deepEqual([toServer.length, toClient.map((message) => decode(message).rcode)], [3, [
    "SERVFAIL",
    "SERVFAIL",
  ]]);
  assert.equal(records.at(-1)!.reason, "too many questions at once");
  flow.fromServer(answerTo(toServer[0], []));
  flow.fromClient(queryOf("a.b"));
  assert.equal(toServer.length, 4);
});

Deno.test("DnsFlow holds an answer until its addresses are in force, and what is known goes at once", async () => {
  let inForce: (() => void) | undefined;
  const tell = () => new Promise<void>((resolve) => inForce = resolve);
  const { flow, shared, clock, told, toServer, toClient } = flowOf(bookOf("*"), { tell });
  const ask = (name: string, count: number, ttl = 60, rcode = 0) => {
    flow.fromClient(queryOf(name));
    flow.fromServer(answerTo(toServer.at(-1)!, addresses(name, count, ttl), { rcode }));
  };
  ask("A.b", 2);
  ask("c.b", 1);
  ask("none.b", 0);
  ask("wrong.b", 1, 60, 3);
  assert.equal(toClient.length, 2, "what has no addresses is not held, and what is no answer neither");
  await settle(clock);
  assert.deepEqual(told, [[
    { endpoint: 1, name: "a.b.", addresses: ["198.51.0.0", "198.51.0.1"], ttlS: 60 },
    { endpoint: 1, name: "c.b.", addresses: ["198.51.0.0"], ttlS: 60 },
  ]]);
  assert.deepEqual([toClient.length, shared.questions, flow.held], [2, 2, 2]);
  inForce!();
  await settle(clock, 0);
  assert.deepEqual([toClient.length, shared.questions, flow.held], [4, 0, 0]);
  // For half of what was said.
  clock.advance(29_000);
  ask("a.B", 2);
  assert.equal(toClient.length, 5);
  ask("a.b", 3);
  await settle(clock);
  assert.equal(told.length, 2, "one of them is new");
  inForce!();
  await settle(clock, 1100);
  assert.equal(toClient.length, 6);
  ask("c.b", 1);
  await settle(clock);
  assert.equal(told.length, 3, "it is too long ago");
});

Deno.test("DnsFlow says SERVFAIL where the addresses do not come in force in time", async () => {
  for (const tell of [() => Promise.reject(new Error("nobody is there")), () => new Promise(() => {})]) {
    const { flow, shared, clock, told, toServer, toClient, records } = flowOf(bookOf("*"), { tell });
    flow.fromClient(queryOf("a.b", { id: 5, edns: true }));
    flow.fromServer(answerTo(toServer[0], addresses("a.b", 2)));
    for (let ms = 0; ms < 1950; ms += 50) await settle(clock, 50);
    const isSilent = told.length === 1;
    assert.ok(isSilent || told.length > 20, "it is tried again");
    assert.equal(toClient.length, 0);
    for (let ms = 0; ms < 200; ms += 50) await settle(clock, 50);
    assert.deepEqual(toClient.map((message) => decode(message).rcode), ["SERVFAIL"]);
    assert.deepEqual([decode(toClient[0]).id, shared.questions], [5, 0]);
    assert.match(records.at(-1)!.reason!, /did not come in force/);
  }
});

Deno.test("DnsFlow passes what no selector means within 100 ms, and holds what one may mean, while nobody takes names", async () => {
  const book = bookOf("*"), policy = book.policies.get("p")!;
  const selector = { name: "matchPattern:*.b", matchPattern: "*.b", identity: 0x100_1001 };
  const answers: Tell[] = [
    () => Promise.reject(new Error("nobody is there")),
    () => new Promise(() => {}),
    () => Promise.reject(new ProblemError("NO", { status: 422, detail: "Cannot take it" })),
  ];
  for (const [fqdnSelectors, namesTold] of [[[], true], [[selector], true], [[], false]] as const) {
    book.putPolicy("p", ProxyPolicy.create({ ...policy, fqdnSelectors: [...fqdnSelectors], namesTold }));
    for (const tell of answers) {
      const { flow, clock, told, shared, toServer, toClient } = flowOf(book, { tell });
      const ask = (name: string) => {
        flow.fromClient(queryOf(name));
        flow.fromServer(answerTo(toServer.at(-1)!, addresses(name, 1)));
      };
      ask("a.b");
      ask("a.c");
      for (let ms = 0; ms < 150; ms += 10) await settle(clock, 10);
      const said = () => toClient.map(decode).map(({ rcode, questions }) => `${questions[0].name} ${rcode}`);
      const isFree = (name: string) => namesTold && (name === "a.c" || fqdnSelectors.length === 0);
      const now = new Set(said());
      for (const name of ["a.b", "a.c"]) assert.equal(now.has(`${name} NOERROR`), isFree(name), name);
      assert.ok(told.length > 0, "it is told all the same");
      for (let ms = 0; ms < 2100; ms += 50) await settle(clock, 50);
      const then = ["a.b", "a.c"].map((name) => `${name} ${isFree(name) ? "NOERROR" : "SERVFAIL"}`);
      assert.deepEqual([said().toSorted(), shared.questions], [then, 0]);
      // Nobody took anything: the next one does not wait.
      ask("d.c");
      await settle(clock, 0);
      assert.equal(said().includes("d.c NOERROR"), isFree("a.c"));
      flow.end();
    }
  }
});

Deno.test("NameLearner lets no name suffer for another that is refused, and forgets what an endpoint's number no longer means", async () => {
  const book = bookOf("*");
  const tell = (names: Init<LearnedName>[]) =>
    names.some(({ name }) => name === "bad.b.")
      ? Promise.reject(new ProblemError("NAME_INVALID", { status: 422, detail: "Cannot take it" }))
      : Promise.resolve();
  const { flow, clock, told, toServer, toClient } = flowOf(book, { tell });
  const ask = (name: string) => {
    flow.fromClient(queryOf(name));
    flow.fromServer(answerTo(toServer.at(-1)!, addresses(name, 1)));
  };
  for (const name of ["a.b", "b.b", "bad.b", "c.b", "d.b"]) ask(name);
  await settle(clock);
  await settle(clock);
  assert.deepEqual(
    toClient.map((message) => decode(message)).map(({ rcode, questions }) => `${questions[0].name} ${rcode}`)
      .toSorted(),
    [
      "a.b NOERROR",
      "b.b NOERROR",
      "bad.b SERVFAIL",
      "c.b NOERROR",
      "d.b NOERROR",
    ],
  );
  const before = told.length;
  ask("a.b");
  assert.equal(told.length, before);
  book.deleteEndpoint("a");
  book.putEndpoint("other", ProxyEndpoint.create({ id: 1, policy: "p" }));
  ask("a.b");
  await settle(clock);
  assert.equal(told.length, before + 1);
});

Deno.test("NameLearner remembers no more than it may, and tells 2000 addresses of one name at once", async () => {
  const clock = new FakeClock(), told: number[] = [];
  const learner = new NameLearner({
    tell: (names) =>
      Promise.resolve(told.push(names.reduce((sum, { addresses = [] }) => sum + addresses.length, 0))),
    endpointOf: () => 1,
    clock,
    metrics: new MetricsRegistry(),
    addressesMax: 5000,
  });
  const learned = Array.from({ length: 10 }, (_, at) => ({
    endpoint: 1,
    name: `n${at}.`,
    ttlS: 60,
    addresses: Array.from({ length: 2000 }, (_, of) => `${at}.${of}`),
  }));
  const all = Promise.all(learned.map((one) => learner.learn(one)));
  await settle(clock);
  assert.deepEqual(await all, Array.from({ length: 10 }, () => true));
  assert.deepEqual(told, [8000, 8000, 4000]);
  assert.equal(learner.known, 4000);
  assert.deepEqual(learned.map((one) => learner.isKnown(one)), [
    ...Array.from({ length: 8 }, () => false),
    true,
    true,
  ]);
});

import assert from "node:assert/strict";
import { type L7Kind, RuleSet } from "@weir/proto/l7";
import { RuleFault } from "./pattern.ts";
import type { L7Request } from "./request.ts";
import { compileRuleSet, unionOfRuleSets } from "./rule_set.ts";

const requests: Record<string, L7Request> = {
  HTTP: { kind: "HTTP", method: "GET", path: "/x", host: "h", header: () => undefined },
  DNS: { kind: "DNS", name: "x." },
  KAFKA: { kind: "KAFKA", apiKey: 0, apiVersion: 3, clientId: "", topics: ["x"] },
  CASSANDRA: { kind: "CASSANDRA", statements: [{ action: "select", table: "ks.x" }] },
  MEMCACHE: { kind: "MEMCACHE", command: "gets", keys: ["x1", "x2"] },
  TLS: { kind: "TLS", serverName: "X.example.com" },
};
const sets: Record<string, (allows: boolean) => Partial<RuleSet>> = {
  HTTP: (yes) => ({ http: [{ cookie: 1, method: "", path: yes ? "/x" : "/y", host: "", headers: [] }] }),
  DNS: (yes) => ({ dns: [{ cookie: 1, matchName: yes ? "x" : "y", matchPattern: "" }] }),
  KAFKA: (yes) => ({ kafka: [{ cookie: 1, apiKeys: [], topic: yes ? "x" : "y", clientId: "" }] }),
  CASSANDRA: (yes) => ({ cassandra: [{ cookie: 1, queryAction: "", queryTable: yes ? "x" : "y" }] }),
  MEMCACHE: (yes) => ({
    memcache: [{ cookie: 1, command: "get", keyExact: "", keyPrefix: yes ? "x" : "y", keyRegex: "" }],
  }),
  TLS: (yes) => ({ serverNames: [{ cookie: 1, name: yes ? "*.example.com" : "y" }] }),
};
const compile = (kind: string, set: Partial<RuleSet>) =>
  compileRuleSet(RuleSet.create({ id: 7, kind: kind as L7Kind, deniedCookie: 9, ...set }));

Deno.test("CompiledRuleSet.judge() says for each kind what its rules say, and denies every other kind", () => {
  for (const [kind, make] of Object.entries(sets)) {
    const yes = compile(kind, make(true)), no = compile(kind, make(false));
    for (const [other, request] of Object.entries(requests)) {
      const allowed = other === kind;
      assert.deepEqual(
        [yes.judge(request).allowed, yes.judge(request).cookie],
        [allowed, allowed ? 1 : 9],
        kind,
      );
      assert.deepEqual([no.judge(request).allowed, no.judge(request).cookie], [false, 9], kind);
    }
    assert.equal(
      compile(kind, {}).judge(requests[kind]).allowed,
      false,
      "a set without rules allows nothing",
    );
  }
});

Deno.test("CompiledRuleSet.judge() lets everything pass where the set is unrestricted, and names who says so", () => {
  const set = compile("HTTP", { ...sets.HTTP(false), unrestricted: true, unrestrictedCookie: 5 });
  for (const request of Object.values(requests)) {
    assert.deepEqual([set.judge(request).allowed, set.judge(request).cookie], [true, 5]);
  }
});

Deno.test("CompiledRuleSet.nearMisses() has the rule that lacks least first, and what it lacks", () => {
  const set = compile("HTTP", {
    http: [
      { cookie: 1, method: "POST", path: "/y", host: "", headers: [] },
      { cookie: 2, method: "GET", path: "/y", host: "", headers: [] },
    ],
  });
  assert.deepEqual(set.nearMisses(requests.HTTP), [
    { cookie: 2, lacks: ['path "/x" is not "/y"'] },
    { cookie: 1, lacks: ['method "GET" is not "POST"', 'path "/x" is not "/y"'] },
  ]);
  for (const [kind, make] of Object.entries(sets)) {
    assert.equal(compile(kind, make(false)).nearMisses(requests[kind])[0].lacks.length, 1, kind);
  }
});

Deno.test("compileRuleSet() refuses a kind that it does not know: nothing is judged by guess", () => {
  assert.throws(() => compile("L7_KIND_UNSPECIFIED", {}), RuleFault);
});

Deno.test("CompiledRuleSet.judge() takes keys of memcached together, and a server name that is there", () => {
  const memcache = compile("MEMCACHE", {
    memcache: [
      { cookie: 1, command: "get", keyExact: "a", keyPrefix: "", keyRegex: "" },
      { cookie: 2, command: "storage", keyExact: "", keyPrefix: "", keyRegex: "^b[0-9]" },
      { cookie: 3, command: "get", keyExact: "", keyPrefix: "c", keyRegex: "" },
      { cookie: 4, command: "version", keyExact: "", keyPrefix: "", keyRegex: "" },
    ],
  });
  const table: [string, string[], boolean, string[]?][] = [
    ["get", ["a"], true],
    ["gets", ["a", "c1"], true],
    ["get", ["a", "d", "c"], false, ["d"]],
    ["set", ["a"], false, ["a"]],
    ["set", ["b7"], true],
    ["incr", ["b7x"], true],
    ["delete", ["b7"], false, ["b7"]],
    ["version", [], true],
    ["get", [], false],
    ["flush_all", [], false],
  ];
  for (const [command, keys, allowed, denied = []] of table) {
    const judgement = memcache.judge({ kind: "MEMCACHE", command, keys });
    assert.deepEqual([judgement.allowed, judgement.denied], [allowed, denied], `${command} ${keys}`);
  }
  const names = compile("TLS", { serverNames: [{ cookie: 1, name: "*" }, { cookie: 2, name: "a.b" }] });
  assert.deepEqual(
    ["", ".", "x", "A.B."].map((serverName) => names.judge({ kind: "TLS", serverName }).allowed),
    [false, false, true, true],
  );
});

Deno.test("unionOfRuleSets() allows what any of the sets allows, with parts of a request in several of them", () => {
  const set = (kind: string, more: Partial<RuleSet>) =>
    RuleSet.create({ id: 7, kind: kind as L7Kind, deniedCookie: 9, ...more });
  const topic = (topic: string) => set("KAFKA", { kafka: [{ cookie: 1, apiKeys: [], topic, clientId: "" }] });
  const judge = (sets: RuleSet[], plainCookie: number, request: L7Request) =>
    compileRuleSet(unionOfRuleSets(sets, plainCookie)).judge(request);
  const both: L7Request = { kind: "KAFKA", apiKey: 0, apiVersion: 3, clientId: "", topics: ["a", "b"] };
  assert.equal(judge([topic("a")], 0, both).allowed, false);
  assert.equal(judge([topic("a"), topic("b")], 0, both).allowed, true);
  assert.deepEqual(judge([topic("a")], 5, both).cookie, 5);
  assert.deepEqual(
    judge([topic("a"), set("KAFKA", { unrestricted: true, unrestrictedCookie: 6 })], 0, both).cookie,
    6,
  );
  // For other peers on the port.
  assert.equal(judge([topic("a"), set("HTTP", { unrestricted: true })], 0, both).allowed, false);
  assert.throws(() => unionOfRuleSets([]), RangeError);
});

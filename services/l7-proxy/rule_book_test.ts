import assert from "node:assert/strict";
import { PRECEDENCE_ALLOW, PRECEDENCE_REDIRECT } from "@weir/common";
import { Handle, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { RuleBook } from "./rule_book.ts";

const allow = (identity: number, ruleSet: number, more: Partial<MapStateEntry> = {}) =>
  MapStateEntry.create({
    direction: "INGRESS",
    identity,
    protocol: 6,
    port: 80,
    portPrefixLength: 16,
    cookie: 40 + identity,
    precedence: ruleSet === 0 ? PRECEDENCE_ALLOW : PRECEDENCE_REDIRECT,
    ruleSet,
    ...more,
  });
const rules = (id: number, path: string) =>
  RuleSet.create({ id, kind: "HTTP", deniedCookie: id, http: [{ cookie: id + 1, path }] as RuleSet["http"] });

Deno.test("RuleBook.places() judges by the rules of everybody who allows the connection", () => {
  const cases: [string, MapStateEntry[], string[]][] = [
    ["one", [allow(7, 10)], ["/a"]],
    ["the peer's and everyone's", [allow(7, 10), allow(0, 20)], ["/a", "/b"]],
    ["everyone's, the peer without rules", [allow(7, 0), allow(0, 20)], ["/a", "/b", "/c"]],
    ["everyone's, the peer on every port", [
      allow(7, 0, { protocol: 0, port: 0, portPrefixLength: 0 }),
      allow(0, 20),
    ], [
      "/a",
      "/b",
      "/c",
    ]],
    ["another peer without rules", [allow(8, 0), allow(0, 20)], ["/b"]],
    ["name and number of one port", [allow(7, 10), allow(7, 0, { cookie: 99 })], ["/a", "/b", "/c"]],
  ];
  for (const [name, entries, passes] of cases) {
    const book = new RuleBook("");
    book.putPolicy(
      "p",
      ProxyPolicy.create({ enforceIngress: true, entries, ruleSets: [rules(10, "/a"), rules(20, "/b")] }),
    );
    book.putEndpoint("e", ProxyEndpoint.create({ id: 1, policy: "p" }));
    const handle = Handle.create({
      protocol: 6,
      clientAddress: "10.0.0.1",
      serverPort: 80,
      ingress: { endpoint: 1, remoteIdentity: 7 },
    });
    const [place] = book.places(handle);
    assert.equal(place.kind, "rules", name);
    const judge = (path: string) =>
      place.kind === "rules" &&
      place.rules.judge({ kind: "HTTP", method: "GET", path, host: "h", header: () => undefined }).allowed;
    assert.deepEqual(["/a", "/b", "/c"].filter(judge), passes, name);
  }
});

import assert from "node:assert/strict";
import { MapState as Message, MapStateEntry } from "@weir/proto/policy";
import { composeEntries, distillEntries, MapState, resolvePortNames } from "./map_state.ts";
import {
  passPrecedence,
  precedence,
  PRECEDENCE_ALLOW,
  PRECEDENCE_DENY,
  PRECEDENCE_REDIRECT,
  tierPriority,
} from "./precedence.ts";
import { portPrefixes } from "./port_prefix.ts";

type Short = [
  identity: number,
  protocol: number,
  port: number,
  bits: number,
  verdict: "allow" | "deny",
  name?: string,
];

const UNJUDGED = { ruleSets: [], plainCookie: 0 };

function entries(...short: Short[]): MapStateEntry[] {
  return short.map(([identity, protocol, port, bits, verdict, portName = ""], index) =>
    MapStateEntry.create({
      direction: "INGRESS",
      identity,
      protocol,
      port,
      portPrefixLength: bits,
      deny: verdict === "deny",
      precedence: verdict === "deny" ? PRECEDENCE_DENY : PRECEDENCE_ALLOW,
      cookie: index + 1,
      portName,
    })
  );
}

function state(...short: Short[]): MapState {
  return MapState.of(
    Message.create({ enforceIngress: true, ingressDefaultCookie: 99, entries: entries(...short) }),
  );
}

Deno.test("precedence() has the kernel's numbers", () => {
  assert.equal(PRECEDENCE_DENY, 0xbfffffff);
  assert.equal(PRECEDENCE_ALLOW, 0xbfffff01);
  assert.equal(precedence(0xffffff, false), 1);
});

Deno.test("distillEntries() takes out what would hide a shorter prefix of higher precedence, of the same identity only", () => {
  const kept = distillEntries(entries(
    [7, 6, 80, 16, "allow"],
    [7, 0, 0, 0, "deny"],
    [8, 6, 80, 16, "allow"],
    [8, 6, 64, 10, "deny"],
    [9, 6, 80, 16, "allow"],
    [9, 17, 0, 0, "deny"],
    [0, 6, 80, 16, "allow"],
    [5, 6, 80, 16, "allow"],
    [5, 6, 80, 16, "deny"],
  ));
  assert.deepEqual(
    kept.map((entry) => [entry.identity, entry.protocol, entry.portPrefixLength, entry.deny]),
    [
      [0, 6, 16, false],
      [5, 6, 16, true],
      [7, 0, 0, true],
      [8, 6, 10, true],
      [9, 6, 16, false],
      [9, 17, 0, true],
    ],
  );
  assert.deepEqual(distillEntries(kept), kept, "a second time changes nothing");
});

Deno.test("MapState.lookup() takes what is for some addresses before what is for all, at these addresses", () => {
  const [range, everyone, some] = entries([7, 6, 80, 8, "allow"], [7, 6, 80, 16, "allow"], [
    7,
    6,
    80,
    16,
    "deny",
  ]);
  const of = (...list: MapStateEntry[]) =>
    MapState.of(Message.create({ enforceIngress: true, ingressDefaultCookie: 99, entries: list }));
  const partly = { ...some, addresses: ["10.0.0.1/32"] };
  const cookie = (state: MapState, address?: string) => state.lookup(7, "INGRESS", 6, 80, address).cookie;
  for (const list of [[range, everyone, partly], [partly, everyone, range], [everyone, partly, range]]) {
    const state = of(...list);
    assert.equal(state.entries.length, 3);
    assert.deepEqual(
      [cookie(state, "10.0.0.1/32"), cookie(state, "10.0.0.2/32"), cookie(state)],
      [some.cookie, everyone.cookie, some.cookie],
    );
  }
  assert.equal(cookie(of(range, partly), "10.0.0.2/32"), range.cookie, "the shorter one for the others");
  assert.equal(cookie(of(partly), "10.0.0.2/32"), 99, "or the default");
  // a deny of a whole range is hidden by no allow, whoever it is for
  const allowed = { ...everyone, addresses: ["10.0.0.1/32"] };
  const denied = { ...range, deny: true, precedence: PRECEDENCE_DENY };
  assert.deepEqual(distillEntries([allowed, denied]).map(({ cookie }) => cookie), [denied.cookie]);
});

Deno.test("MapState.lookup() weighs the identity's entry against the one for everyone", () => {
  const cases: [string, Short[], number | "default"][] = [
    ["the identity alone", [[7, 6, 80, 16, "allow"]], 1],
    ["nothing", [[8, 6, 80, 16, "allow"], [7, 17, 80, 16, "allow"], [7, 6, 81, 16, "allow"]], "default"],
    ["a deny for everyone beats a longer allow", [[7, 6, 80, 16, "allow"], [0, 0, 0, 0, "deny"]], 2],
    ["a deny for the identity beats a longer allow for everyone", [[7, 0, 0, 0, "deny"], [
      0,
      6,
      80,
      16,
      "allow",
    ]], 1],
    ["two denies: the identity's decides, however short", [[7, 0, 0, 0, "deny"], [0, 6, 80, 16, "deny"]], 1],
    ["two allows: the longer", [[7, 6, 0, 0, "allow"], [0, 6, 80, 16, "allow"]], 2],
    ["two equal allows: the identity's", [[0, 6, 80, 16, "allow"], [7, 6, 80, 16, "allow"]], 2],
    ["a port prefix", [[7, 6, 80, 12, "allow"]], 1],
    ["outside a port prefix", [[7, 6, 96, 12, "allow"]], "default"],
  ];
  for (const [name, short, expected] of cases) {
    const verdict = state(...short).lookup(7, "INGRESS", 6, 80);
    if (expected === "default") {
      assert.deepEqual(verdict, { allowed: false, by: "default-deny", cookie: 99, ...UNJUDGED }, name);
    } else assert.deepEqual([verdict.by, verdict.cookie], ["entry", expected], name);
  }
  assert.deepEqual(state().lookup(7, "EGRESS", 6, 80), { allowed: true, by: "open", cookie: 0, ...UNJUDGED });
});

Deno.test("composeEntries() gives an identity what is said of each of its members, and distillation what of it decides", () => {
  // The prefix 5 denies a port of what the selectors 6 and 7 allow; 8 is somebody else.
  const all = state(
    [5, 6, 443, 16, "deny"],
    [6, 6, 0, 0, "allow"],
    [7, 6, 443, 16, "allow"],
    [7, 17, 53, 16, "allow"],
    [8, 6, 22, 16, "deny"],
    [0, 1, 0, 0, "allow"],
  );
  const cookies = (members: number[]) =>
    distillEntries(composeEntries(all.entries, 99, new Set(members))).map(({ identity, cookie }) => {
      assert.equal(identity, 99);
      return cookie;
    });
  assert.deepEqual(
    cookies([5, 6, 7]),
    [2, 1, 4],
    "the deny hides the allow of the same port, and not the shorter one",
  );
  assert.deepEqual(cookies([6, 7]), [2, 3, 4]);
  assert.deepEqual(cookies([9]), []);
});

Deno.test("MapState.lookup() has the rule sets of every allow that covers the connection, and an allow without", () => {
  /** identity, protocol, port, bits, rule set; the cookie is the place, from 1. */
  type Allow = [
    identity: number,
    protocol: number,
    port: number,
    bits: number,
    ruleSet: number,
    name?: string,
  ];
  const judged = (allows: Allow[], denies: Short[] = []) => {
    const made = allows.map(([identity, protocol, port, portPrefixLength, ruleSet, portName = ""], index) =>
      MapStateEntry.create({
        direction: "INGRESS",
        identity,
        protocol,
        port,
        portPrefixLength,
        ruleSet,
        portName,
        precedence: ruleSet === 0 ? PRECEDENCE_ALLOW : PRECEDENCE_REDIRECT,
        cookie: index + 1,
      })
    );
    const message = Message.create({ enforceIngress: true, entries: [...made, ...entries(...denies)] });
    const found = MapState.of(message, [{ name: "http", port: 80, protocol: "TCP" }]).lookup(
      7,
      "INGRESS",
      6,
      80,
    );
    return [found.allowed, found.ruleSets, found.plainCookie];
  };
  assert.deepEqual(judged([[7, 6, 80, 16, 0]]), [true, [], 0], "no L7 rules at all");
  assert.deepEqual(judged([[7, 6, 80, 16, 500]]), [true, [500], 0], "the identity's");
  assert.deepEqual(judged([[0, 6, 80, 16, 500], [7, 6, 80, 16, 600]]), [true, [600, 500], 0], "both");
  assert.deepEqual(judged([[0, 6, 80, 16, 500], [7, 6, 80, 16, 0]]), [true, [500], 2], "plain for one peer");
  assert.deepEqual(judged([[7, 6, 80, 16, 500], [0, 6, 80, 16, 0]]), [true, [500], 2], "plain for everyone");
  assert.deepEqual(
    judged([[0, 6, 80, 16, 500], [7, 0, 0, 0, 0]]),
    [true, [500], 2],
    "every port for one peer",
  );
  assert.deepEqual(judged([[7, 6, 80, 16, 500], [7, 6, 0, 0, 0]]), [true, [500], 2], "a wider plain one");
  assert.deepEqual(judged([[7, 6, 80, 16, 500], [7, 6, 81, 16, 0]]), [true, [500], 0], "another port");
  assert.deepEqual(judged([[7, 6, 80, 16, 500], [8, 6, 80, 16, 600]]), [true, [500], 0], "another peer");
  assert.deepEqual(
    judged([[7, 6, 64, 10, 500], [7, 6, 80, 16, 600]]),
    [true, [600, 500], 0],
    "a range around",
  );
  assert.deepEqual(
    judged([[7, 6, 0, 0, 500, "http"], [7, 6, 80, 16, 0]]),
    [true, [500], 2],
    "name and number",
  );
  assert.deepEqual(
    judged([[7, 6, 0, 0, 500, "http"], [7, 6, 80, 16, 600]]).map((each) =>
      Array.isArray(each) ? each.toSorted() : each
    ),
    [true, [500, 600], 0],
    "two rule sets at one place",
  );
  assert.deepEqual(judged([[7, 6, 80, 16, 500]], [[0, 6, 80, 16, "deny"]]), [false, [], 0], "a deny");
});

Deno.test("MapState.lookup() has the rule sets of every ordinary allow, past an accept that was passed over, and in an older engine's numbers", () => {
  const entry = (identity: number, given: Partial<MapStateEntry>) =>
    MapStateEntry.create({ direction: "INGRESS", identity, cookie: 1, ...given });
  const admin = (index: number) => tierPriority("Admin", 1, index);
  const judged = (
    precedence: number,
  ) => [entry(7, { precedence, ruleSet: 1 }), entry(0, { precedence, ruleSet: 2 })];
  const cases: [string, MapStateEntry[], number[], number][] = [
    [
      "an accept that is passed over",
      [
        entry(7, { deny: true, pass: true, precedence: passPrecedence(admin(0)) }),
        entry(7, { precedence: precedence(admin(1), false), cookie: 5 }),
        ...judged(PRECEDENCE_REDIRECT),
      ],
      [1, 2],
      0,
    ],
    [
      "an accept",
      [entry(7, { precedence: precedence(admin(1), false) }), ...judged(PRECEDENCE_REDIRECT)],
      [],
      0,
    ],
    ["an older engine", judged(0xffffff02), [1, 2], 0],
  ];
  for (const [what, given, ruleSets, plainCookie] of cases) {
    const verdict = MapState.of(Message.create({ enforceIngress: true, entries: given })).lookup(
      7,
      "INGRESS",
      6,
      80,
    );
    assert.equal(verdict.allowed, true, what);
    assert.deepEqual([...verdict.ruleSets].sort(), ruleSets, what);
    assert.equal(verdict.plainCookie, plainCookie, what);
  }
});

Deno.test("MapState.lookup() punches holes into ranges: allow 80-90 and 90-100, deny 85-95", () => {
  const range = (first: number, last: number, verdict: "allow" | "deny") =>
    portPrefixes(first, last).map((prefix): Short => [7, 6, prefix.port, prefix.bits, verdict]);
  const found = state(...range(80, 90, "allow"), ...range(90, 100, "allow"), ...range(85, 95, "deny"));
  for (let port = 75; port < 105; port++) {
    const expected = port >= 80 && port <= 100 && (port < 85 || port > 95);
    assert.equal(found.lookup(7, "INGRESS", 6, port).allowed, expected, `port ${port}`);
  }
});

Deno.test("resolvePortNames() uses the endpoint's own table and weighs names against numbers", () => {
  const named = entries([7, 6, 0, 0, "deny", "http"], [7, 6, 80, 16, "allow"], [7, 17, 0, 0, "allow", "dns"]);
  const of = (ports: Parameters<typeof resolvePortNames>[1]) =>
    resolvePortNames(named, ports).map((entry) => [entry.protocol, entry.port, entry.deny]);
  assert.deepEqual(of([]), [[6, 80, false]]);
  assert.deepEqual(of([{ name: "HTTP", port: 80, protocol: "" }]), [[6, 80, true]]);
  assert.deepEqual(of([{ name: "http", port: 8080, protocol: "TCP" }]), [[6, 80, false], [6, 8080, true]]);
  assert.deepEqual(of([{ name: "dns", port: 53, protocol: "TCP" }]), [[6, 80, false]]);
  const covered = entries([7, 6, 0, 0, "deny"], [7, 6, 0, 0, "allow", "http"]);
  const ports = [{ name: "http", port: 80, protocol: "TCP" }];
  assert.deepEqual(resolvePortNames(covered, ports).map((entry) => entry.deny), [true]);
});

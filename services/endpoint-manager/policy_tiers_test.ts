import assert from "node:assert/strict";
import {
  MapState as Lookup,
  passPrecedence,
  precedence,
  PRECEDENCE_ALLOW,
  Prefix,
  tierPriority,
} from "@weir/common";
import { MapState, MapStateEntry } from "@weir/proto/policy";
import { KnowingPolicy } from "./policy_cover.ts";
import { judgedParts, resolvePolicy } from "./policy_variant.ts";
import { PrefixPairs } from "./prefix_pairs.ts";

const PREFIX = 0x100_0001, SELECTOR = 0x100_0002, NAMED = 0x200_0000;
const PASS = passPrecedence(tierPriority("Admin", 1, 0)),
  DENY = precedence(tierPriority("Admin", 1, 1), true);
const TCP_80 = { direction: "EGRESS", protocol: 6, port: 80, portPrefixLength: 16 } as const;
const VARIANT = { namedPorts: [], enforcement: "DEFAULT", audit: false } as const;

/** Admin: port 80 of the prefix is the next tier's, all else of it is closed. */
function stateOf(...more: Partial<MapStateEntry>[]): MapState {
  const entries = [
    { ...TCP_80, identity: PREFIX, deny: true, pass: true, precedence: PASS, cookie: 1 },
    { direction: "EGRESS", identity: PREFIX, deny: true, precedence: DENY, cookie: 2 } as const,
    ...more,
  ].map((entry) => MapStateEntry.create(entry));
  return MapState.create({
    identity: 300,
    enforceEgress: true,
    egressDefaultCookie: 9,
    selfDescribed: true,
    entries,
    fqdnSelectors: [{ name: "matchName:a.test", matchName: "a.test", identity: SELECTOR, labels: [] }],
  });
}

const lookup = (state: MapState, entries: unknown, identity: number, port: number) =>
  Lookup.of({ ...state, entries: entries as MapStateEntry[] }).lookup(identity, "EGRESS", 6, port).allowed;

Deno.test("resolvePolicy() gives the kernel no pass, and what it leads to for every peer", () => {
  const everyone = { ...TCP_80, identity: 0, precedence: PRECEDENCE_ALLOW, cookie: 3 };
  for (const [state, expected] of [[stateOf(), false], [stateOf(everyone), true]] as const) {
    const { entries = [] } = resolvePolicy(state, VARIANT);
    assert.ok(entries.every(({ pass }) => !pass));
    assert.deepEqual([80, 81].map((port) => lookup(state, entries, PREFIX, port)), [expected, false]);
  }
});

Deno.test("KnowingPolicy.copiesFor() lets a name's rule decide what the prefix's rules pass on", () => {
  const byName = {
    direction: "EGRESS",
    identity: SELECTOR,
    precedence: PRECEDENCE_ALLOW,
    cookie: 4,
  } as const;
  const state = stateOf(byName), cover = new PrefixPairs();
  const base = { prefix: Prefix.parse("192.0.2.0/24"), identity: PREFIX };
  cover.add(base);
  const policy = KnowingPolicy.of(resolvePolicy(state, VARIANT), state, judgedParts(state, VARIANT));
  const [selector] = policy.selectors.values();
  const named = { identity: NAMED, base, selectors: [selector], uses: 1, placed: 1, addresses: 1 };
  const copies = policy.copiesFor(named, cover);
  assert.deepEqual([80, 81].map((port) => lookup(state, copies, NAMED, port)), [true, false]);
  assert.ok(copies.every(({ pass }) => !pass));
  assert.equal(lookup(state, resolvePolicy(state, VARIANT).entries, PREFIX, 80), false);
});

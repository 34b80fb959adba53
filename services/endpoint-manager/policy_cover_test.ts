import assert from "node:assert/strict";
import { MapState as Lookup, Prefix } from "@weir/common";
import { MapState, MapStateEntry } from "@weir/proto/policy";
import { FqdnIdentities } from "./names/fqdn_identities.ts";
import { KnowingPolicy, PolicyCopies } from "./policy_cover.ts";
import { type PrefixPair, PrefixPairs } from "./prefix_pairs.ts";

const WIDE = 0x100_0001, NARROW = 0x100_0002, NEW = 0x100_0003, WORLD = 9;
const pair = (prefix: string, identity: number): PrefixPair => ({ prefix: Prefix.parse(prefix), identity });
const entry = (identity: number, deny = false) =>
  MapStateEntry.create({ direction: "EGRESS", identity, deny, precedence: deny ? 2 : 1 });

function bench(entries: MapStateEntry[], silent: number[] = [], selfDescribed = true) {
  const state = MapState.create({ identity: 300, enforceEgress: true, entries, silent, selfDescribed });
  const policy = KnowingPolicy.of({ name: "300", enforceEgress: true, entries }, state);
  const cover = new PrefixPairs();
  const copies = new PolicyCopies(policy, { prefixes: cover, names: new FqdnIdentities() });
  const passes = (identity: number) => {
    copies.update();
    const covered = MapState.create({ ...state, entries: copies.covered().entries as MapStateEntry[] });
    return Lookup.of(covered).lookup(identity, "EGRESS", 6, 80).allowed;
  };
  return { policy, cover, copies, passes };
}

Deno.test("PolicyCopies: a prefix that the policy does not know is judged as the known one around it", () => {
  const { cover, passes } = bench([entry(0), entry(WIDE, true)]);
  cover.add(pair("10.0.0.0/8", WIDE));
  cover.add(pair("10.1.0.0/16", NEW));
  cover.add(pair("192.0.2.0/24", NARROW));
  assert.deepEqual([WIDE, NEW, NARROW].map(passes), [false, false, true]);
});

Deno.test("PolicyCopies: outside every known prefix it is the world, and an unknown prefix between does not count", () => {
  const { cover, passes } = bench([entry(WORLD)]);
  cover.add(pair("10.0.0.0/8", NARROW));
  cover.add(pair("10.1.0.0/16", NEW));
  assert.deepEqual([NARROW, NEW].map(passes), [true, true]);
});

Deno.test("PolicyCopies: an exception is known although it has no entry, and so is what is inside it", () => {
  const { cover, passes, policy } = bench([entry(WIDE)], [NARROW]);
  cover.add(pair("10.0.0.0/8", WIDE));
  cover.add(pair("10.1.0.0/16", NARROW));
  cover.add(pair("10.1.2.0/24", NEW));
  assert.deepEqual([WIDE, NARROW, NEW].map(passes), [true, false, false]);
  assert.deepEqual(policy.needed, new Set([NARROW, WIDE]));
});

Deno.test("PolicyCopies: a prefix with another identity is judged as with the one that the policy knows", () => {
  const { cover, passes } = bench([entry(WORLD), entry(NARROW, true)]);
  cover.add(pair("10.1.0.0/16", NARROW));
  cover.add(pair("10.1.0.0/16", NEW));
  assert.equal(passes(NEW), false);
});

Deno.test("PolicyCopies.update() follows what is covered, also from further back than is logged", () => {
  const { cover, copies, passes } = bench([entry(WORLD)]);
  const first = pair("10.0.0.0/8", NEW);
  assert.equal(copies.update(), false);
  cover.add(first);
  assert.equal(copies.update(), true);
  assert.equal(copies.update(), false);
  cover.delete(first);
  assert.deepEqual([copies.update(), passes(NEW)], [true, false]);
  cover.add(first);
  for (let i = 0; i < 10_000; i++) {
    const other = pair("192.0.2.0/24", NARROW);
    cover.add(other);
    cover.delete(other);
  }
  assert.deepEqual([copies.update(), passes(NEW), passes(NARROW)], [true, true, false]);
});

Deno.test("KnowingPolicy of an engine that does not say which prefixes it knows is taken to know all", () => {
  const { cover, copies } = bench([entry(WORLD)], [], false);
  cover.add(pair("10.0.0.0/8", NEW));
  copies.update();
  assert.equal(copies.covered().entries?.length, 1);
});

import assert from "node:assert/strict";
import { createMap, MapType } from "@weir/loader";
import {
  DESTINATION_FIRST,
  POLICY_ENTRY_ADDRESSES,
  POLICY_ENTRY_DENY,
  POLICY_ENTRY_NOBODY,
  PolicyDestination,
} from "@weir/maps";
import { MapStateEntry } from "@weir/proto/policy";
import { mapped } from "../kernel/addresses.ts";
import { destinationKey, DestinationTable, flattenPolicy } from "./policy_destinations.ts";
import { servicesSkipped } from "../services/testing.ts";

const entry = (cookie: number, change: Partial<MapStateEntry> = {}) =>
  MapStateEntry.create({
    direction: "EGRESS",
    identity: 300,
    protocol: 6,
    port: 8080,
    portPrefixLength: 16,
    cookie,
    ...change,
  });

Deno.test("flattenPolicy() gives destinations entries of their own, and the others what they had", () => {
  const some = entry(1, { addresses: ["10.0.0.1/32", "fd00::1/128"] }), deny = { deny: true };
  const shown = (...entries: MapStateEntry[]) =>
    flattenPolicy(entries).map((flat) =>
      [flat.entry.cookie, flat.destination ?? "all", flat.flags, flat.standsFor, flat.entry.portPrefixLength]
        .join(" ")
    );
  const own = ["1 10.0.0.1 300 0 0 16", "1 fd00::1 300 0 0 16"];
  const A = POLICY_ENTRY_ADDRESSES, D = POLICY_ENTRY_DENY, N = POLICY_ENTRY_NOBODY;
  assert.deepEqual(shown(entry(5), entry(6, { port: 9 })), ["5 all 0 0 16", "6 all 0 0 16"]);
  assert.deepEqual(shown(some), [...own, `1 all ${A | N} 0 16`]);
  assert.deepEqual(shown(entry(5, deny), some), [`5 all ${A | D} 0 16`, ...own]);
  const range = entry(5, { port: 8064, portPrefixLength: 10 });
  const wide = entry(6, { protocol: 0, port: 0, portPrefixLength: 0, ...deny });
  const others = [entry(7, { identity: 0 }), entry(8, { direction: "INGRESS" })];
  const rest = ["7 all 0 0 16", "8 all 0 0 16"];
  assert.deepEqual(shown(range, wide, ...others, some), [
    "5 all 0 0 10",
    `6 all ${D} 0 0`,
    ...rest,
    ...own,
    `5 all ${A} ${1 + 18} 16`,
  ]);
  assert.deepEqual(shown(wide, ...others, some).at(-1), `6 all ${A | D} 1 16`);
  const admin = entry(2, { addresses: ["10.0.0.2/32"] });
  assert.deepEqual(shown(some, admin), [...own, "2 10.0.0.2 300 0 0 16", `1 all ${A | N} 0 16`]);
  // Of two tiers the first one decides, of each address.
  const tiers = [
    entry(3, { addresses: ["10.0.0.1/32", "10.0.0.3/32"], precedence: 9, ...deny }),
    entry(4, { addresses: ["10.0.0.1/32", "10.0.0.2/32"], precedence: 5 }),
  ];
  for (const order of [tiers, tiers.toReversed()]) {
    assert.deepEqual(shown(...order).filter((text) => !text.includes("all")).sort(), [
      `3 10.0.0.1 300 ${D} 0 16`,
      `3 10.0.0.3 300 ${D} 0 16`,
      "4 10.0.0.2 300 0 0 16",
    ]);
  }
});

Deno.test({
  name: "DestinationTable gives numbers to who is used, takes over what it finds, and frees them",
  ignore: servicesSkipped() !== undefined,
  fn() {
    using map = createMap({
      type: MapType.HASH,
      name: "destinations",
      keySize: 16,
      valueSize: PolicyDestination.bytes,
      entriesMax: 3,
      flags: 1,
    });
    const held = (address: string) => {
      const value = map.lookup(mapped(address));
      return value && PolicyDestination.decode(value);
    };
    const table = new DestinationTable(map);
    const key = (last: number, identity = 300) => destinationKey(`10.0.0.${last}`, identity);
    assert.deepEqual([table.claim(key(1)), table.claim(key(2)), table.claim(key(1))], [
      DESTINATION_FIRST,
      DESTINATION_FIRST + 1,
      DESTINATION_FIRST,
    ]);
    assert.deepEqual(held("10.0.0.1"), { number: DESTINATION_FIRST, identity: 300 });
    table.release(DESTINATION_FIRST);
    assert.ok(held("10.0.0.1"), "another policy uses it");
    // The next process: who claims, has; what nobody claims is swept.
    const next = new DestinationTable(map);
    assert.equal(next.keyOf(DESTINATION_FIRST + 1), key(2));
    assert.equal(next.claim(key(2)), DESTINATION_FIRST + 1);
    assert.equal(next.claim(destinationKey("fd00::1", 300)), DESTINATION_FIRST + 2);
    assert.equal(next.sweep(), 1);
    assert.equal(held("10.0.0.1"), undefined);
    // The address became somebody else's while the old policy still stands.
    const moved = next.claim(key(2, 400));
    assert.deepEqual(held("10.0.0.2"), { number: moved, identity: 400 });
    next.release(DESTINATION_FIRST + 1);
    assert.deepEqual(held("10.0.0.2"), { number: moved, identity: 400 });
    next.refuseOverflow("p", new Set([key(7), key(2, 400)]));
    assert.throws(() => next.refuseOverflow("p", new Set([key(7), key(8)])), {
      code: "POLICY_DESTINATIONS_FULL",
    });
    next.release(moved);
    assert.equal(held("10.0.0.2"), undefined);
  },
});

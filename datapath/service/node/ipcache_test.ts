/** The ipcache's bookkeeping, over maps in memory. @module */
import assert from "node:assert/strict";
import { type Clock, systemClock } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import type { Bytes, IpcacheEntry } from "@weir/maps";
import { IpcacheUpdate } from "@weir/proto/datapath";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { hex, mapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { MOVED_HOLD_MS, WIRE_HOLD_MS } from "../kernel/identity_moves.ts";
import { IpcacheStore } from "./ipcache.ts";
import { sourceOf } from "./ipcache_shares.ts";

/** The two maps, and whose entries are in them. */
function fakeKernel(
  exactMax: number,
  prefixMax: number,
  entries: [Bytes, IpcacheEntry][] = [],
  clock: Clock = systemClock,
) {
  const rows = new Map<string, IpcacheEntry>();
  const kernel = {
    ipcacheExact: {
      entriesMax: exactMax,
      entries: () => entries,
      put: (address: Bytes, entry: IpcacheEntry) => rows.set(`e${hex(address)}`, entry),
      delete: (address: Bytes) => rows.delete(`e${hex(address)}`),
    },
    ipcache: {
      entriesMax: prefixMax,
      entries: () => [],
      put: (key: { prefixlen: number; address: Bytes }, entry: IpcacheEntry) =>
        rows.set(`p${key.prefixlen}/${hex(key.address)}`, entry),
      delete: (key: { prefixlen: number; address: Bytes }) =>
        rows.delete(`p${key.prefixlen}/${hex(key.address)}`),
    },
    revise: () => {},
  };
  return { rows, store: new IpcacheStore(kernel as unknown as Kernel, clock) };
}

Deno.test("IpcacheStore knows how much each source has, after any changes and when it is full", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed), below = (count: number) => Math.floor(random() * count);
    const { rows, store } = fakeKernel(30, 10);
    for (let step = 0; step < 200; step++) {
      const prefix = () => below(4) === 0 ? `10.${below(20)}.0.0/16` : `10.0.0.${below(60)}/32`;
      const upserts = Array.from({ length: below(4) }, () => ({
        prefix: prefix(),
        identity: below(3) === 0 ? (1 << 24) + 1 : 4000,
        nodeIpv4: below(2) === 0 ? "" : `192.0.2.${1 + below(3)}`,
        nodeIpv6: "",
      }));
      const deletes = Array.from({ length: below(4) }, prefix);
      store.apply(IpcacheUpdate.create({ upserts, deletes, replace: below(50) === 0 }));
      const held: Record<string, number> = {};
      for (const entry of rows.values()) held[sourceOf(entry)] = (held[sourceOf(entry)] ?? 0) + 1;
      const told = store.sources().filter((row) => row.held > 0).map((row) => [row.source, row.held]);
      assert.deepEqual(Object.fromEntries(told), held, `seed ${seed}, step ${step}`);
      assert.equal(store.size, rows.size);
    }
  }
});

Deno.test("IpcacheStore looks at no other prefix for the sake of one that changes", () => {
  let looks = 0;
  const entries = Array.from({ length: 5000 }, (_, i): [Bytes, IpcacheEntry] => {
    const node = mapped("192.0.2.1");
    const entry = { identity: 4000, flags: 0 } as IpcacheEntry;
    Object.defineProperty(entry, "node", { enumerable: true, get: () => (looks++, node) });
    return [mapped(`10.0.${i >> 8}.${i & 255}`), entry];
  });
  const { store } = fakeKernel(10_000, 10, entries);
  looks = 0;
  store.apply(
    IpcacheUpdate.create({
      upserts: [{ prefix: "10.0.0.7/32", identity: 4001, nodeIpv4: "192.0.2.2", nodeIpv6: "" }],
    }),
  );
  assert.ok(looks < 10, `${looks} looks at entries`);
  assert.deepEqual(store.sources().map(({ source, held }) => [source, held]), [
    ["node 192.0.2.1", 4999],
    ["node 192.0.2.2", 1],
  ]);
});

Deno.test("IpcacheStore keeps the identity before of an address that stays on its node, for a time", async () => {
  const clock = new FakeClock();
  const { rows, store } = fakeKernel(30, 10, [], clock);
  const key = `e${hex(mapped("10.0.0.1"))}`;
  const put = (identity: number, nodeIpv4 = "192.0.2.1") => {
    store.apply(
      IpcacheUpdate.create({ upserts: [{ prefix: "10.0.0.1/32", identity, nodeIpv4, nodeIpv6: "" }] }),
    );
    return rows.get(key)!.movedFrom;
  };
  const pass = async (ms: number) => {
    await clock.advance(ms);
    store.tick();
    return rows.get(key)?.movedFrom;
  };
  assert.equal(put(1001), 0, "it is new");
  assert.equal(put(1002), 1001);
  assert.equal(put(1002), 1001, "told again");
  assert.equal(await pass(MOVED_HOLD_MS - 1), 1001);
  assert.equal(put(1003), 1002, "its node has gone over to the second, which it names now");
  assert.equal(await pass(WIRE_HOLD_MS - 1), 1002);
  assert.equal(put(1004), 1002, "its node goes on naming the first");
  assert.equal(await pass(WIRE_HOLD_MS), 1002, "the time has begun again");
  assert.equal(put(1005), 1004, "its node names its own since this moment");
  assert.equal(await pass(MOVED_HOLD_MS - 1), 1004);
  assert.equal(await pass(1), 0);
  assert.equal(put(1004), 1005);
  assert.equal(put(1005, "192.0.2.2"), 0, "another node's is another pod");
  assert.equal(put(6, "192.0.2.2"), 0, "nodes are no pods");
  assert.equal(put(1005, "192.0.2.2"), 0);
  assert.equal(put(0x1_0000 + 1006, "192.0.2.2"), 1005);
  store.apply(IpcacheUpdate.create({ deletes: ["10.0.0.1/32"] }));
  assert.equal(put(1007, "192.0.2.2"), 0, "it was away");

  // What a process before left has its time too.
  const found = [mapped("10.0.0.1"), {
    identity: 1002,
    flags: 0,
    movedFrom: 1001,
    node: mapped("192.0.2.1"),
  }];
  const next = fakeKernel(30, 10, [found as [Bytes, IpcacheEntry]], clock);
  next.store.tick();
  assert.equal(next.rows.size, 0, "nothing is written");
  await clock.advance(MOVED_HOLD_MS);
  next.store.tick();
  assert.equal(next.rows.get(key)!.movedFrom, 0);
});

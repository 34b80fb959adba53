/** Working memory of a CPU: what a program may use depends on who may come between while it runs (lib/maps.h). */
import assert from "node:assert/strict";
import { type BpfMap, MapType, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { TestNode } from "./node.ts";
import { ownCgroup } from "./own_cgroup.ts";
import { packet, SYN, TCP, UDP } from "./packet.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** Of programs that run with softirqs off: tc and XDP, never one inside another. */
const SOFTIRQS_OFF = [
  "weir_ct_new",
  "weir_nat_scratch",
  "weir_arrival",
  "weir_exceeded_rate",
  "weir_denials",
  "weir_event_clock",
];
/** Claimed record by record, by whoever may be interrupted. */
const CLAIMED = ["weir_ct_claims"];
/** Counters: one addition each, atomic where an addition may be interrupted. */
const COUNTERS = [
  "weir_counters",
  "weir_handles_untold",
  "weir_metrics",
  "weir_lost",
  "weir_event_counts",
  "weir_service_counters",
];
/** In code that all of them share: who is who is seen as it runs, which the tests below watch. */
const SHARED_CODE = ["weir_ct_new", "weir_arrival", "weir_event_clock"];

const PATTERN = 0x5a;

function fill(map: BpfMap, key: number): void {
  map.update(u32(key), new Uint8Array(map.valueBytes).fill(PATTERN));
}
function untouched(map: BpfMap, key: number): boolean {
  return map.lookupPerCpu(u32(key))!.every((cpu) => cpu.every((byte) => byte === PATTERN));
}

kernelTest(
  "every per-CPU map is a counter or working memory, and each program keeps to its own",
  async () => {
    using node = await TestNode.open();
    const maps = node.object.maps.filter((map) => !map.internal);
    const perCpu = maps.filter((map) => map.type === MapType.PERCPU_ARRAY).map((map) => map.name);
    assert.deepEqual(perCpu.sort(), [...SOFTIRQS_OFF, ...CLAIMED, ...COUNTERS].sort());
    const ids = new Map(maps.map(({ name }) => [node.map(name).info.id, name]));
    for (const name of node.object.programNames) {
      const program = node.program(name);
      const softirqsOff = program.section === "tc" || program.section === "xdp";
      const used = program.info.mapIds.map((id) => ids.get(id)!);
      for (const map of SOFTIRQS_OFF) {
        if (!softirqsOff && !SHARED_CODE.includes(map)) assert.ok(!used.includes(map), `${name} uses ${map}`);
      }
    }
  },
);

kernelTest(
  "the programs have no data of their own, or none would be taken over by the next process",
  async () => {
    using node = await TestNode.open();
    assert.deepEqual(node.object.maps.filter((map) => map.internal).map((map) => map.name), []);
  },
);

for (const f of FAMILIES) {
  kernelTest(`${f.name}: a program of a cgroup makes its entries in none of tc's memory`, async () => {
    const cgroupId = ownCgroup();
    if (cgroupId === undefined) return console.log("SKIP no cgroup2 mounted");
    const { node } = await twoEndpoints();
    using _ = node;
    node.addEndpoint({ id: 5, identity: 3000, ifindex: 0, flags: abi.ENDPOINT_CGROUP, cgroupId });
    for (const map of SOFTIRQS_OFF) fill(node.map(map), 0);
    const send = (sport: number, protocol = TCP) =>
      node.run("cgroup_egress", packet({ from: f.host, to: f.world, protocol, sport, flags: SYN })).verdict;
    assert.equal(send(1001), 1);
    assert.equal(send(1002, UDP), 1);
    assert.equal(node.flows().length, 2);
    for (const map of SOFTIRQS_OFF) assert.ok(untouched(node.map(map), 0), map);

    // Others that were interrupted have theirs: it takes one that is free, and gives it back.
    const claims = node.map("weir_ct_claims"), count = claims.info.entriesMax;
    const takenAt = 104,
      size = claims.valueBytes / claims.splitPerCpu(new Uint8Array(claims.valueBytes)).length;
    const take = (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        const value = new Uint8Array(claims.valueBytes).fill(PATTERN);
        for (let at = takenAt; at < value.length; at += size) value[at] = 1;
        claims.update(u32(i), value);
      }
    };
    const entry = (i: number) => claims.lookupPerCpu(u32(i))!.map((cpu) => cpu.subarray(0, takenAt));
    take(0, count - 1);
    assert.equal(send(1003), 1);
    for (let i = 0; i < count - 1; i++) {
      assert.ok(entry(i).every((cpu) => cpu.every((byte) => byte === PATTERN)), `claim ${i}`);
    }
    assert.equal(send(1004), 1, "the last one was given back");
    take(count - 1, count);
    assert.equal(send(1005), 0);
    assert.equal(node.counted(abi.DROP_CT_CREATE_FAILED), 1);
    assert.ok(entry(count - 1).every((cpu) => cpu.every((byte) => byte === PATTERN)));
    assert.equal(node.flows().length, 4);
  });

  kernelTest(`${f.name}: a program of a device leaves the claims of cgroup programs alone`, async () => {
    const { node, from, to } = await twoEndpoints();
    using _ = node;
    const claims = node.map("weir_ct_claims");
    for (let i = 0; i < claims.info.entriesMax; i++) fill(claims, i);
    from(A, { from: f.a, to: f.b, flags: SYN });
    to(B, { from: f.world, to: f.b, flags: SYN });
    assert.equal(node.flows().length, 2);
    for (let i = 0; i < claims.info.entriesMax; i++) assert.ok(untouched(claims, i));
  });
}

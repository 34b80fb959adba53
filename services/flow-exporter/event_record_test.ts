import assert from "node:assert/strict";
import { readRecord, recordFields, splitRecords } from "./event_record.ts";

/** A record with these fields; the payload is 10 bytes. */
function record(fields: Record<number, [bytes: 1 | 2 | 4, value: number]>): Uint8Array {
  const bytes = new Uint8Array(64 + 10);
  const view = new DataView(bytes.buffer);
  view.setUint16(6, 10, true);
  view.setBigUint64(8, 5_000_000_000n, true);
  for (const [at, [size, value]] of Object.entries(fields)) {
    if (size === 1) view.setUint8(Number(at), value);
    else if (size === 2) view.setUint16(Number(at), value, true);
    else view.setUint32(Number(at), value, true);
  }
  return bytes;
}

Deno.test("splitRecords() walks padded records and counts a broken tail", () => {
  const bytes = new Uint8Array(8 + 16 + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 3, true);
  view.setUint32(8, 9, true);
  view.setUint32(24, 5000, true);
  const { records, broken } = splitRecords(bytes);
  assert.deepEqual([records.map((r) => r.length), broken], [[3, 9], 1]);
});

Deno.test("readRecord() makes verdicts and a trace of a new connection on one node", () => {
  const events = readRecord(
    record({
      0: [1, 5],
      1: [1, 0],
      2: [2, 7],
      4: [2, 8],
      36: [1, 4 | 8],
      40: [4, 11],
      44: [4, 12],
      52: [2, 7],
    }),
  )!;
  assert.deepEqual(
    events.map((e) => [e.kind, e.endpointId, "cookie" in e ? e.cookie : 0, "verdict" in e ? e.verdict : 0]),
    [
      ["policy-verdict", 7, 11, 0],
      ["policy-verdict", 8, 12, 0],
      ["trace", 8, 0, 0],
    ],
  );
});

Deno.test("readRecord() reads what a connection has carried, both ways", () => {
  const bytes = new Uint8Array(192), view = new DataView(bytes.buffer);
  bytes.set([202, 1, 7]);
  view.setUint16(6, 40, true);
  view.setUint16(52, 7, true);
  [12n, 2n ** 40n, 7n, 420n].forEach((count, i) => view.setBigUint64(160 + 8 * i, count, true));
  const [event] = readRecord(bytes)!;
  assert.ok(event.kind === "traffic");
  const { packets, bytes: there, replyPackets, replyBytes, over, atSource, endpointId } = event;
  assert.deepEqual(
    [packets, there, replyPackets, replyBytes, over, atSource, endpointId],
    [12, 2 ** 40, 7, 420, true, true, 7],
  );
  assert.equal(readRecord(bytes.subarray(0, 180)), undefined, "cut short");
});

Deno.test("readRecord() names who sent a packet through the tunnel", () => {
  const bytes = new Uint8Array(192), view = new DataView(bytes.buffer);
  bytes.set([1, 241]);
  view.setUint16(6, 112, true);
  view.setUint32(60, 1234, true);
  for (
    const [outer, source] of [
      [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 66], "192.0.2.66"],
      [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66], "2001:db8::66"],
    ] as const
  ) {
    bytes.set(outer, 176);
    bytes[36] = 16 | 32;
    assert.deepEqual(readRecord(bytes)!.map((e) => e.tunnel), [{ source, vni: 1234 }]);
    const fields = recordFields(bytes)!;
    assert.deepEqual([fields["tunnel-from"], fields.vni], [source, "1234"]);
    bytes[36] = 16;
    assert.equal(readRecord(bytes)![0].tunnel, undefined);
    assert.equal(recordFields(bytes)!["tunnel-from"], undefined);
  }
});

Deno.test("readRecord() reads the service of every event of a record", () => {
  const events = readRecord(record({ 0: [1, 5], 36: [1, 4 | 8], 54: [2, 51966] }))!;
  assert.deepEqual(events.map((e) => e.service), [51966, 51966, 51966]);
});

Deno.test("readRecord() tells whether what was dropped was an answer, where the datapath knew", () => {
  const cases: [what: string, drop: number, reason: number, flags: number, reply: boolean | undefined][] = [
    ["policy was asked", 133, 0, 4, false],
    ["a service has nobody", 158, 0, 0, false],
    ["a source range", 177, 0, 16, false],
    ["a ClusterIP from outside", 174, 0, 16, false],
    ["an answer of a known flow", 155, 2, 16, true],
    ["a known flow", 155, 1, 0, false],
    ["an ICMP error", 133, 3, 4, undefined],
    ["before conntrack", 134, 0, 0, undefined],
  ];
  for (const [what, drop, reason, flags, reply] of cases) {
    const events = readRecord(record({ 0: [1, 1], 1: [1, drop], 35: [1, reason], 36: [1, flags] }))!;
    const [event] = events.filter((e) => e.kind === "drop");
    assert.equal(event.reply, reply, what);
  }
});

Deno.test("readRecord() lets the last end that was asked be the one that denied", () => {
  const cases: [flags: number, reason: number, expected: [string, string, number][]][] = [
    [4, 133, [["policy-verdict", "EGRESS", -133], ["drop", "EGRESS", 11]]],
    [4 | 8, 181, [["policy-verdict", "EGRESS", 0], ["policy-verdict", "INGRESS", -181], [
      "drop",
      "INGRESS",
      12,
    ]]],
    [8 | 16, 133, [["policy-verdict", "INGRESS", -133], ["drop", "INGRESS", 12]]],
    [0, 132, [["drop", "EGRESS", 0]]],
    [16, 155, [["drop", "INGRESS", 0]]],
  ];
  for (const [flags, reason, expected] of cases) {
    const events = readRecord(
      record({ 0: [1, 1], 1: [1, reason], 36: [1, flags], 40: [4, 11], 44: [4, 12] }),
    )!;
    const got = events.map((e) => [
      e.kind,
      "direction" in e ? e.direction : "",
      e.kind === "policy-verdict" ? e.verdict : e.kind === "drop" ? e.cookie : 0,
    ]);
    assert.deepEqual(got, expected, `flags ${flags} reason ${reason}`);
  }
});

Deno.test("readRecord() reads what is wrong with a flow, and who says so", () => {
  const read = (fields: Parameters<typeof record>[0]) => {
    const [event, ...more] = readRecord(record({ 0: [1, 200], ...fields }))!;
    assert.deepEqual(more, []);
    assert.ok(event.kind === "trouble");
    return [event.trouble, event.endpointId, event.waitedMs, event.tries, event.byEndpoint];
  };
  // no answer: time and tries are in fields that packets use otherwise
  assert.deepEqual(read({ 1: [1, 1], 2: [2, 7], 28: [4, 1300], 32: [2, 2], 36: [1, 2], 52: [2, 7] }), [
    1,
    7,
    1300,
    2,
    false,
  ]);
  // refused by the endpoint of this hook, and by somebody elsewhere
  assert.deepEqual(read({ 1: [1, 2], 2: [2, 8], 4: [2, 7], 28: [4, 54], 52: [2, 8] }), [2, 8, 0, 0, true]);
  assert.deepEqual(read({ 1: [1, 2], 4: [2, 7], 28: [4, 54], 36: [1, 16], 52: [2, 7] }), [2, 7, 0, 0, false]);
});

Deno.test("readRecord() answers undefined for what it does not know and never reads beyond the record", () => {
  assert.equal(readRecord(new Uint8Array(63)), undefined);
  assert.equal(readRecord(record({ 0: [1, 99] })), undefined);
  const lying = readRecord(record({ 0: [1, 4], 6: [2, 60000] }))!;
  assert.equal(lying[0].packet.length, 10);
});

import assert from "node:assert/strict";
import { Backlog } from "./backlog.ts";

const RECORD = 72;

/** `count` records of a holder as the ring gives them: u32 length, 64 bytes with the holder at 56, padding. */
function records(...parts: [holder: number, count: number][]): { bytes: Uint8Array; count: number } {
  const count = parts.reduce((sum, [, n]) => sum + n, 0), bytes = new Uint8Array(count * RECORD);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [holder, n] of parts) {
    for (let i = 0; i < n; i++, at += RECORD) {
      view.setUint32(at, 64, true);
      view.setUint16(at + 60, holder, true);
    }
  }
  return { bytes, count };
}
const holders = (bytes: Uint8Array) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset), found: Record<number, number> = {};
  for (let at = 0; at < bytes.length; at += RECORD) {
    const holder = view.getUint16(at + 60, true);
    found[holder] = (found[holder] ?? 0) + 1;
  }
  return found;
};

Deno.test("Backlog.admit() passes batches on as they are while the reader keeps up", () => {
  const backlog = new Backlog(100 * RECORD), { bytes, count } = records([1, 10]);
  for (let i = 0; i < 5; i++) {
    assert.equal(backlog.admit(bytes, count).records, bytes);
    backlog.clear();
  }
  assert.equal(backlog.lost, 0);
});

Deno.test("Backlog.admit() leaves a flood its share of a slow reader's backlog, and others all they send", () => {
  const lost: Record<number, number> = {};
  const backlog = new Backlog(
    1000 * RECORD,
    (by) => by.forEach((n, holder) => lost[holder] = (lost[holder] ?? 0) + n),
  );
  const sent: Record<number, number> = { 1: 0, 2: 0 }, kept: Record<number, number> = { 1: 0, 2: 0 };
  for (let i = 0; i < 50; i++) {
    const { bytes, count } = records([1, 90], [2, 2], [1, 10]);
    sent[1] += 100;
    sent[2] += 2;
    const admitted = backlog.admit(bytes, count);
    const found = holders(admitted.records);
    assert.equal(admitted.count * RECORD, admitted.records.length);
    for (const holder of [1, 2]) kept[holder] += found[holder] ?? 0;
  }
  assert.equal(kept[2], sent[2], "nothing of the other's");
  assert.ok(kept[1] > 550 && kept[1] < 750, `${kept[1]} of the flood's`);
  assert.deepEqual(lost, { 1: sent[1] - kept[1] });
  assert.equal(backlog.lost, lost[1]);
  backlog.clear();
  const again = records([1, 50]);
  assert.equal(backlog.admit(again.bytes, again.count).count, 50, "the reader came back");
});

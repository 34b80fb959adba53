import assert from "node:assert/strict";
import { crc24, payloadCrc32 } from "./checksum.ts";
import {
  encodeSegment,
  plainPayload,
  readSegmentHeader,
  type SegmentHeader,
  segmentIsIntact,
} from "./segment.ts";

const header = (bytes: Uint8Array, lz4: boolean) => readSegmentHeader(bytes, 0, lz4);

Deno.test("encodeSegment() makes what readSegmentHeader() reads", () => {
  for (const lz4 of [false, true]) {
    for (const length of [1, 9, 255, 256, 65_536, 0x1ffff]) {
      const payload = new Uint8Array(length).fill(7);
      const segment = encodeSegment(payload, lz4);
      const read = header(segment, lz4) as SegmentHeader;
      assert.deepEqual(read, {
        payloadBytes: length,
        plainBytes: length,
        compressed: false,
        selfContained: true,
        bytes: segment.length,
      });
      assert.equal(segmentIsIntact(segment, read), true);
      assert.deepEqual(plainPayload(segment, read), payload);
      segment[segment.length - 5] ^= 1;
      assert.equal(segmentIsIntact(segment, read), false);
    }
  }
});

Deno.test("readSegmentHeader() refuses what is changed by any bit, or has bits that nobody knows", () => {
  for (const lz4 of [false, true]) {
    const segment = encodeSegment(new Uint8Array(100), lz4);
    for (let bit = 0; bit < (lz4 ? 64 : 48); bit++) {
      const changed = segment.slice();
      changed[bit >> 3] ^= 1 << (bit & 7);
      assert.equal(header(changed, lz4), "a segment's header does not fit its checksum");
    }
    const length = lz4 ? 5 : 3;
    const signed = (bytes: number[]) => {
      const all = new Uint8Array([...bytes, 0, 0, 0]);
      const sum = crc24(all, 0, length);
      all.set([sum & 255, (sum >> 8) & 255, sum >> 16], length);
      return all;
    };
    assert.equal(
      header(signed(lz4 ? [1, 0, 0, 0, 0x0c] : [1, 0, 0x06]), lz4),
      "a segment's header with unknown bits",
    );
    assert.equal(header(signed(lz4 ? [0, 0, 0, 0, 4] : [0, 0, 2]), lz4), "a segment without a payload");
  }
});

Deno.test("crc24() and payloadCrc32() are what the Python driver computes", () => {
  assert.equal(crc24(new Uint8Array([0x09, 0x00, 0x02]), 0, 3), 0xc1c8a4);
  assert.equal(crc24(new Uint8Array([0x00, 0x12, 0x00, 0x00, 0x00, 0x04]), 1, 5), 0x6efdc2);
  assert.equal(payloadCrc32(new TextEncoder().encode("Weir")), 0x48f718a7);
});

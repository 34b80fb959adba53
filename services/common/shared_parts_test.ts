import assert from "node:assert/strict";
import { WatchEvent } from "@weir/proto/common";
import { MapState } from "@weir/proto/policy";
import type { Change } from "./change_history.ts";
import { readFrames } from "./framing.ts";
import { PartReader, PARTS_BYTES_MAX, PartWriter, SharedPart } from "./shared_parts.ts";

const entriesOf = (...ports: number[]) =>
  MapState.create({ entries: ports.map((port) => ({ port })) }).entries;
const partOf = (...ports: number[]) => new SharedPart(MapState.encode({ entries: entriesOf(...ports) }));
const change: Change<MapState> = { type: "PUT", revision: 7, name: "300" };
const own = MapState.encode({ identity: 300, entries: entriesOf(1) });

async function events(bytes: Uint8Array): Promise<WatchEvent[]> {
  const found: WatchEvent[] = [];
  for await (const frame of readFrames(ReadableStream.from([bytes]), "protobuf")) {
    found.push(WatchEvent.decode(frame));
  }
  return found;
}

/** Reads what a writer wrote; answers the ports of each object. */
async function read(reader: PartReader<MapState>, bytes: Uint8Array): Promise<number[][]> {
  const ports: number[][] = [];
  for (const { type, part, object, parts } of await events(bytes)) {
    if (type === "PART") reader.take(part, object);
    else ports.push(reader.join(object, parts).entries.map(({ port }) => port));
  }
  return ports;
}

Deno.test("a part is written once per stream, and objects that have it share its elements", async () => {
  const writer = new PartWriter(), reader = new PartReader(MapState), part = partOf(10, 11, 12, 13);
  const first = writer.encodePut(change, { own, ranges: [{ part, from: 0, to: 4 }] });
  assert.deepEqual(await read(reader, first), [[1, 10, 11, 12, 13]]);
  const again = writer.encodePut(change, {
    own,
    ranges: [{ part, from: 0, to: 1 }, { part: partOf(20), from: 0, to: 1 }, { part, from: 3, to: 4 }],
  });
  const kinds = (await events(again)).map(({ type, revision, name }) => `${type} ${revision} ${name}`);
  assert.deepEqual(kinds, ["PART 0 ", "PUT 7 300"]);
  assert.deepEqual(await read(reader, again), [[1, 10, 20, 13]]);
  const ranges = [{ part: part.number, from: 0, to: 4 }];
  assert.equal(
    reader.join(own, ranges).entries[1],
    reader.join(own, ranges).entries[1],
    "one object in memory",
  );
});

Deno.test("a writer forgets its parts when they are many, and so does its reader", async () => {
  const writer = new PartWriter(), reader = new PartReader(MapState);
  const part = partOf(10), portName = "x".repeat(64 * 1024), count = PARTS_BYTES_MAX / portName.length;
  const huge = new SharedPart(
    MapState.encode({ entries: Array.from({ length: count }, () => ({ portName })) }),
  );
  for (const one of [part, huge]) {
    await read(reader, writer.encodePut(change, { own, ranges: [{ part: one, from: 0, to: 1 }] }));
  }
  const later = writer.encodePut(change, { own, ranges: [{ part, from: 0, to: 1 }] });
  assert.deepEqual((await events(later)).map(({ type, part }) => [type, part]), [
    ["PART", 0],
    ["PART", part.number],
    ["PUT", 0],
  ]);
  assert.deepEqual(await read(reader, later), [[1, 10]]);
  assert.throws(() => reader.join(own, [{ part: huge.number, from: 0, to: 1 }]), { code: "PART_INVALID" });
});

Deno.test("a reader refuses parts that it has not, elements beyond a part, and parts of several fields or none", () => {
  const reader = new PartReader(MapState), part = partOf(10, 11);
  reader.take(part.number, part.bytes);
  for (
    const range of [{ part: 99, from: 0, to: 1 }, { part: part.number, from: 0, to: 3 }, {
      part: part.number,
      from: 2,
      to: 1,
    }]
  ) assert.throws(() => reader.join(own, [range]), { code: "PART_INVALID" });
  assert.throws(() => reader.take(5, MapState.encode({ identity: 3 })), { code: "PART_INVALID" });
  const large = MapState.encode({ entries: [{ portName: "x".repeat(PARTS_BYTES_MAX) }] });
  const takeMany = () => {
    for (let number = 10; number < 30; number++) reader.take(number, large);
  };
  assert.throws(takeMany, { code: "PART_INVALID" });
  reader.take(0, new Uint8Array());
  assert.throws(() => reader.take(6, Uint8Array.of(0x3a, 50, 1)), { code: "MESSAGE_INVALID" });
});

import assert from "node:assert/strict";
import { Event } from "@weir/maps";
import { DatapathEndpoint } from "@weir/proto/datapath";
import { encodeRecord, retransmittedSegments } from "./retransmissions.ts";

Deno.test("retransmittedSegments() finds the count by its name, and 0 where there is none", () => {
  const ip = "Ip: Forwarding DefaultTTL\nIp: 1 64\n";
  assert.equal(retransmittedSegments(`${ip}Tcp: OutSegs RetransSegs InErrs\nTcp: 900 17 3\n`), 17);
  assert.equal(retransmittedSegments(`${ip}Tcp: OutSegs InErrs\nTcp: 900 3\n`), 0);
  assert.equal(retransmittedSegments(""), 0);
});

Deno.test("encodeRecord() makes headers of what the socket knows, of both families", () => {
  const endpoint = DatapathEndpoint.create({ id: 7, identity: 1007 });
  const four = Uint8Array.of(10, 0, 1, 5), peer = Uint8Array.of(10, 0, 2, 9);
  const mapped = (address: Uint8Array) => Uint8Array.of(...Array(10).fill(0), 255, 255, ...address);
  const six = Uint8Array.of(0xfd, ...Array(14).fill(0), 5);
  for (
    const [source, destination, headers, flags] of [
      [four, peer, 20, 2],
      [mapped(four), mapped(peer), 20, 2],
      [six, six, 40, 3],
    ] as const
  ) {
    const event = Event.decode(encodeRecord(endpoint, {
      family: 2,
      protocol: 6,
      state: 1,
      source,
      sourcePort: 40000,
      destination,
      destinationPort: 80,
      ifindex: 0,
      cookie: 1n,
      timer: 1,
      receiveQueue: 0,
      sendQueue: 0,
      uid: 0,
      inode: 1,
      v6only: false,
      tcp: { retransmits: 3, totalRetransmits: 5, unacked: 1, pmtu: 1450, mss: 1398 },
    }, 5n));
    assert.deepEqual([event.type, event.subtype, event.holder, event.line, event.proxyPort], [
      200,
      6,
      7,
      3,
      1450,
    ]);
    assert.deepEqual([event.flags, event.lengthCaptured], [flags, headers + 20]);
    const ends = headers === 20 ? [...four, ...peer] : [...six, ...six];
    assert.deepEqual([...event.payload.slice(headers - ends.length, headers)], ends);
    const view = new DataView(event.payload.buffer, event.payload.byteOffset);
    assert.deepEqual([view.getUint16(headers), view.getUint16(headers + 2)], [40000, 80]);
  }
});

import assert from "node:assert/strict";
import { CassandraConnection } from "./cassandra_connection.ts";
import { Opcode, readHeader } from "./envelope.ts";
import { CassandraShared, PENDING_UNQUALIFIED_MAX } from "./limits.ts";
import { DIFFERENT_MAX } from "./statement_tally.ts";
import * as wire from "./testing/wire.ts";

const ID = new Uint8Array(16).fill(0xa1);

/** A connection of which everything is allowed but what names a secret. */
function connected(version: number, lz4 = false) {
  const shared = new CassandraShared(), asked: string[] = [];
  const connection = new CassandraConnection({
    server: "s",
    shared,
    judge: ({ action, table }) => {
      asked.push(`${action} ${table}`);
      return { allowed: !table.includes("secret"), ends: [], text: "denied", closes: "" };
    },
    now: () => 0,
    record: () => {},
  });
  const at = { version, stream: 1 };
  connection.fromClient(wire.startup(lz4 ? { COMPRESSION: "lz4" } : {}, at));
  connection.fromServer(wire.READY(at));
  return { connection, shared, asked };
}

/** Code and text of the ERROR that a step answers. */
function refusal(answer: Uint8Array): [number, string] {
  assert.equal(readHeader(answer).opcode, Opcode.ERROR);
  return [
    new DataView(answer.buffer, answer.byteOffset).getInt32(9),
    new TextDecoder().decode(answer.subarray(15)),
  ];
}

Deno.test("CassandraConnection asks once for what a batch does 65,535 times, and takes a bounded number of things", () => {
  const { connection, asked } = connected(4);
  connection.fromClient(wire.prepare("UPDATE ks.ok SET v = ? WHERE k = ?", { stream: 2 }));
  connection.fromServer(wire.prepared(ID, { stream: 2 }));
  const before = asked.length;
  // Of each member only its kind, its id and no value.
  const members = 65_535, member = new wire.Writer().u8(1).shortBytes(ID).u16(0).bytes;
  const body = new Uint8Array(3 + members * member.length + 3);
  body.set(new wire.Writer().u8(0).u16(members).bytes);
  for (let at = 0; at < members; at++) body.set(member, 3 + at * member.length);
  assert.equal(connection.fromClient(wire.envelope(Opcode.BATCH, body, { stream: 3 })).close, null);
  assert.deepEqual([connection.pending, asked.length - before], [1, 1]);

  const texts = Array.from(
    { length: DIFFERENT_MAX + 1 },
    (_, at) => `UPDATE ks.t${at} SET v = 1 WHERE k = 1`,
  );
  const { toServer, toClient } = connection.fromClient(wire.batch(texts, { stream: 4 }));
  assert.equal(toServer.length, 0);
  assert.match(refusal(toClient[0])[1], /BATCH has too many statements: over 262144, or 4096 that differ/);
});

Deno.test("CassandraConnection remembers a bounded number of statements that a USE would have to judge anew", () => {
  const { connection } = connected(4);
  const texts = Array.from({ length: DIFFERENT_MAX }, (_, at) => `UPDATE t${at} SET v = 1 WHERE k = 1`);
  const batch = wire.batch(texts, {}), whole = PENDING_UNQUALIFIED_MAX / DIFFERENT_MAX;
  for (let stream = 2; stream < 2 + whole; stream++) {
    batch[3] = stream;
    assert.equal(connection.fromClient(batch).toClient.length, 0);
  }
  assert.equal(connection.pending, whole);
  const [use, more] = ["USE ks", "SELECT * FROM t"].map((text) =>
    refusal(connection.fromClient(wire.query(text, { stream: 100 })).toClient[0])
  );
  assert.equal(use[0], 0x1001);
  assert.match(use[1], /USE while 65536 statements that name no keyspace/);
  assert.match(more[1], /over 65536 statements that name no keyspace/);
});

Deno.test("CassandraConnection holds nothing of a large message's later segments, of either side, cut anywhere", () => {
  for (const lz4 of [false, true]) {
    const { connection, shared } = connected(5, lz4);
    const cut = (plain: Uint8Array) => {
      const segments: Uint8Array[] = [];
      for (let at = 0; at < plain.length; at += 100_000) {
        segments.push(wire.segment(plain.subarray(at, at + 100_000), { selfContained: false, lz4 }));
      }
      return segments;
    };
    const value = new Uint8Array(350_000).fill(7);
    const query = cut(
      wire.query("INSERT INTO ks.ok (k) VALUES (?)", { version: 5, stream: 2, values: [value] }),
    );
    const rows = cut(wire.response(Opcode.RESULT, value, { version: 5, stream: 2 }));
    for (const [segments, give] of [[query, "fromClient"], [rows, "fromServer"]] as const) {
      for (const [index, segment] of segments.entries()) {
        const passed: Uint8Array[] = [];
        for (let at = 0; at < segment.length; at += 999) {
          const step = connection[give](segment.subarray(at, at + 999));
          assert.equal(step.close, null);
          passed.push(...(give === "fromClient" ? step.toServer : step.toClient));
          if (index > 0) assert.ok(shared.heldBytes <= 512, `${shared.heldBytes} bytes of ${give}`);
        }
        assert.deepEqual(wire.concat(...passed), segment);
      }
    }
    assert.equal(connection.pending, 0);
    // A piece more than the header says.
    connection.fromClient(query[0]);
    const [piece] = cut(new Uint8Array(100_000));
    for (let count = 0; count < 3; count++) connection.fromClient(piece);
    assert.match(connection.closed ?? "", /more of a request than its header says/);
    connection.end();
    assert.equal(shared.heldBytes, 0);
  }
});

import assert from "node:assert/strict";
import { CassandraConnection } from "./cassandra_connection.ts";
import { HEADER_BYTES, Opcode, readHeader } from "./envelope.ts";
import { CassandraShared, EARLY_BYTES_MAX, PENDING_MAX } from "./limits.ts";
import { plainPayload, readSegmentHeader, type SegmentHeader } from "./segment.ts";
import * as wire from "./testing/wire.ts";
import type { CassandraEvent, CassandraQuestion } from "./verdict.ts";

const SEEN = Symbol();

/** A connection between two sides that a test plays. */
class Bed {
  readonly events: CassandraEvent[] = [];
  readonly asked: string[] = [];
  readonly connection: CassandraConnection;
  toServer: Uint8Array = new Uint8Array(0);
  toClient: Uint8Array = new Uint8Array(0);
  close: string | null = null;
  now = 1000;

  constructor(
    readonly version = 4,
    readonly compression: "none" | "lz4" | "snappy" = "none",
    readonly shared = new CassandraShared(),
    allow: (question: CassandraQuestion) => boolean = ({ action, table }) =>
      table === "ks.ok" || (table === "" && action !== "unknown"),
  ) {
    this.connection = new CassandraConnection({
      server: "10.0.0.1:9042",
      shared,
      judge: (question) => {
        const { table } = question;
        this.asked.push(`${question.action} ${question.table}`);
        const allowed = allow(question);
        return {
          allowed,
          ends: [{ side: "EGRESS", allowed, cookie: allowed ? 7 : 9 }],
          closes: table === "ks.cut" ? "policy-denies" : "",
          text: allowed ? "" : `policy "default/p" rule 1: ${table}`,
        };
      },
      now: () => this.now,
      record: (event) => this.events.push(event),
    });
  }

  client(...parts: Uint8Array[]): this {
    this.#take(this.connection.fromClient(wire.concat(...parts)));
    return this;
  }

  server(...parts: Uint8Array[]): this {
    this.#take(this.connection.fromServer(wire.concat(...parts)));
    return this;
  }

  #take(step: { toServer: Uint8Array[]; toClient: Uint8Array[]; close: string | null }): void {
    this.toServer = wire.concat(...step.toServer);
    this.toClient = wire.concat(...step.toClient);
    this.close = step.close;
  }

  /** OPTIONS, STARTUP and READY. */
  start(): this {
    const { version } = this;
    const at = { version, stream: 1 };
    this.client(wire.envelope(Opcode.OPTIONS, new Uint8Array(0), at)).server(
      wire.response(Opcode.SUPPORTED, new Uint8Array(2), at),
    );
    const options: Record<string, string> = this.compression === "none"
      ? {}
      : { COMPRESSION: this.compression };
    return this.client(wire.startup(options, at)).server(wire.READY(at));
  }

  /** An envelope in the form that the connection has agreed on. */
  packed(plain: Uint8Array): Uint8Array {
    if (this.version >= 5) return wire.segment(plain, { lz4: this.compression === "lz4" });
    return this.compression === "none" ? plain : wire.compressed(plain, this.compression);
  }

  /** Sends a request, and asserts whether it passes as it is or is answered. */
  request(plain: Uint8Array, expected: typeof SEEN | { code: number; text: RegExp }): this {
    const sent = this.packed(plain);
    this.client(sent);
    if (expected === SEEN) {
      assert.deepEqual(this.toServer, sent);
      assert.equal(this.toClient.length, 0);
    } else {
      assert.equal(this.toServer.length, 0);
      this.denied(readHeader(plain).stream, expected);
    }
    assert.equal(this.close, null);
    return this;
  }

  /** Asserts that the client was sent an ERROR on a stream. */
  denied(stream: number, { code, text }: { code: number; text: RegExp }): this {
    let answer = this.toClient;
    if (this.version >= 5 && answer[0] !== 0x84) {
      const header = readSegmentHeader(answer, 0, this.compression === "lz4") as SegmentHeader;
      assert.equal(header.bytes, answer.length);
      answer = plainPayload(answer, header);
    }
    const header = readHeader(answer);
    assert.deepEqual([header.opcode, header.stream, header.flags, header.response], [
      Opcode.ERROR,
      stream,
      0,
      true,
    ]);
    assert.equal(header.version, this.version);
    assert.equal(HEADER_BYTES + header.bodyBytes, answer.length);
    assert.equal(new DataView(answer.buffer, answer.byteOffset).getInt32(9), code);
    assert.match(new TextDecoder().decode(answer.subarray(15)), text);
    return this;
  }
}

const FORMS = [[3, "none"], [3, "lz4"], [3, "snappy"], [4, "none"], [4, "lz4"], [4, "snappy"], [5, "none"], [
  5,
  "lz4",
]] as const;
const ID = new Uint8Array(16).fill(0xa1);
const UNAUTHORIZED = { code: 0x2100, text: /policy "default\/p" rule 1/ };

Deno.test("CassandraConnection forwards what is allowed and answers what is not, in every version and compression", () => {
  for (const [version, compression] of FORMS) {
    const bed = new Bed(version, compression).start();
    const at = (stream: number) => ({ version, stream });
    // The Java driver sets the flag for compression in version 5 too, where it means nothing.
    bed.request(wire.query("SELECT * FROM ks.ok", { ...at(2), flags: version === 5 ? 1 : 0 }), SEEN);
    bed.request(wire.query("SELECT * FROM ks.secret", at(3)), UNAUTHORIZED);
    bed.request(wire.prepare("SELECT * FROM ks.secret", at(3)), UNAUTHORIZED);
    bed.request(wire.prepare("SELECT * FROM ks.ok", at(3)), SEEN);
    for (const flags of version === 3 ? [0, 2] : [0, 2, 8, 4, 14]) {
      bed.server(bed.packed(wire.prepared(ID, { version, stream: 3, flags })));
      assert.equal(bed.shared.prepared.size, 1, `flags ${flags}`);
      bed.request(wire.prepare("SELECT * FROM ks.ok", at(3)), SEEN);
    }
    bed.request(wire.execute(ID, at(4)), SEEN);
    bed.request(wire.execute(new Uint8Array(16), at(5)), { code: 0x2500, text: /has to be prepared again/ });
    bed.request(wire.batch(["INSERT INTO ks.ok (k) VALUES (1)", ID], at(6)), SEEN);
    bed.request(
      wire.batch(["INSERT INTO ks.ok (k) VALUES (1)", "UPDATE ks.secret SET v = 1 WHERE k = 1", ID], at(7)),
      UNAUTHORIZED,
    );
    bed.request(wire.batch([new Uint8Array(16), "INSERT INTO ks.ok (k) VALUES (1)"], at(7)), {
      code: 0x2500,
      text: /prepared again/,
    });
    bed.request(wire.query("SELECT FROM", at(8)), {
      code: 0x2100,
      text: /: found the end, expected a name/,
    });
    assert.equal(bed.connection.pending, 4);
    bed.now += 5;
    bed.server(bed.packed(wire.error(0x2200, "no", at(2))));
    assert.equal(bed.connection.pending, 3);
    const { type, verdict, opcode, action, table, errorCode, latencyMs } = bed.events.at(-1)!;
    assert.deepEqual([type, verdict, opcode, action, table, errorCode, latencyMs], [
      "response",
      "forwarded",
      "QUERY",
      "select",
      "ks.ok",
      0x2200,
      5,
    ]);
    bed.connection.end();
    assert.equal(bed.shared.heldBytes, 0);
  }
});

Deno.test("CassandraConnection takes bytes cut anywhere", () => {
  for (const [version, compression] of FORMS) {
    for (const size of [1, 2, 7, 9, 40]) {
      const bed = new Bed(version, compression).start();
      const sent: number[] = [];
      const answers: number[] = [];
      const good = bed.packed(wire.query("SELECT * FROM ks.ok", { version, stream: 2 }));
      const bad = bed.packed(wire.query("SELECT * FROM ks.secret", { version, stream: 3 }));
      const also = bed.packed(wire.query("SELECT a FROM ks.ok", { version, stream: 4 }));
      const all = wire.concat(good, bad, also);
      for (let at = 0; at < all.length; at += size) {
        bed.client(all.subarray(at, at + size));
        sent.push(...bed.toServer);
        answers.push(...bed.toClient);
      }
      assert.deepEqual(Uint8Array.from(sent), wire.concat(good, also));
      bed.toClient = Uint8Array.from(answers);
      bed.denied(3, UNAUTHORIZED);
      const back = wire.concat(
        bed.packed(wire.VOID({ version, stream: 2 })),
        bed.packed(wire.VOID({ version, stream: 4 })),
      );
      const received: number[] = [];
      for (let at = 0; at < back.length; at += size) {
        received.push(...bed.server(back.subarray(at, at + size)).toClient);
      }
      assert.deepEqual(Uint8Array.from(received), back);
      assert.deepEqual([bed.connection.pending, bed.close], [0, null]);
    }
  }
});

Deno.test("CassandraConnection streams a large value once its statement is judged", () => {
  for (const version of [4, 5]) {
    for (
      const [text, passes] of [["INSERT INTO ks.ok (k) VALUES (?)", true], [
        "INSERT INTO ks.secret (k) VALUES (?)",
        false,
      ]] as const
    ) {
      const bed = new Bed(version).start();
      const plain = wire.query(text, { version, stream: 2, values: [new Uint8Array(400_000).fill(1)] });
      const pieces: Uint8Array[] = [];
      const size = version === 4 ? 65_536 : 131_071;
      for (let at = 0; at < plain.length; at += size) {
        const piece = plain.subarray(at, at + size);
        pieces.push(version === 4 ? piece : wire.segment(piece, { selfContained: false }));
      }
      let answered = 0;
      for (const piece of pieces) {
        bed.client(piece);
        assert.deepEqual(bed.toServer, passes ? piece : new Uint8Array(0));
        assert.equal(bed.shared.heldBytes, 0);
        if (bed.toClient.length > 0) answered++;
      }
      assert.equal(answered, passes ? 0 : 1);
      bed.request(wire.query("SELECT * FROM ks.ok", { version, stream: 4 }), SEEN);
    }
  }
});

Deno.test("CassandraConnection keeps its answers out of a message of the server's", () => {
  const bed = new Bed(4).start();
  const rows = wire.response(Opcode.RESULT, new Uint8Array(1000), { stream: 2 });
  bed.request(wire.query("SELECT * FROM ks.ok", { stream: 2 }), SEEN).server(rows.subarray(0, 500));
  bed.client(wire.query("SELECT * FROM ks.secret", { stream: 3 }));
  assert.equal(bed.toClient.length, 0);
  bed.server(rows.subarray(500));
  assert.deepEqual(bed.toClient.subarray(0, 509), rows.subarray(500));
  bed.toClient = bed.toClient.slice(509);
  bed.denied(3, UNAUTHORIZED);

  const segments = new Bed(5).start();
  const large = wire.response(Opcode.RESULT, new Uint8Array(200_000), { version: 5, stream: 2 });
  const [first, second] = [large.subarray(0, 131_071), large.subarray(131_071)].map((it) =>
    wire.segment(it, { selfContained: false })
  );
  segments.request(wire.query("SELECT * FROM ks.ok", { version: 5, stream: 2 }), SEEN).server(first);
  segments.client(wire.segment(wire.query("SELECT * FROM ks.secret", { version: 5, stream: 3 })));
  assert.equal(segments.toClient.length, 0);
  segments.server(second);
  assert.deepEqual(segments.toClient.subarray(0, second.length), second);
  segments.toClient = segments.toClient.slice(second.length);
  segments.denied(3, UNAUTHORIZED);
});

Deno.test("CassandraConnection takes a denied request out of a segment with others", () => {
  for (const lz4 of [false, true]) {
    const bed = new Bed(5, lz4 ? "lz4" : "none").start();
    const good = [2, 4].map((stream) => wire.query("SELECT * FROM ks.ok", { version: 5, stream }));
    const bad = wire.query("SELECT * FROM ks.secret", { version: 5, stream: 3 });
    bed.client(wire.segment(wire.concat(good[0], bad, good[1]), { lz4 }));
    bed.denied(3, UNAUTHORIZED);
    const header = readSegmentHeader(bed.toServer, 0, lz4) as SegmentHeader;
    assert.deepEqual(plainPayload(bed.toServer, header), wire.concat(...good));
    bed.server(
      wire.segment(wire.concat(wire.VOID({ version: 5, stream: 2 }), wire.VOID({ version: 5, stream: 4 })), {
        lz4,
      }),
    );
    assert.equal(bed.connection.pending, 0);
  }
});

Deno.test("CassandraConnection takes the keyspace from the server's answer, and from the request where it names one", () => {
  for (const version of [4, 5]) {
    const bed = new Bed(version).start();
    const at = (stream: number) => ({ version, stream });
    const select = (stream: number) => wire.query("SELECT * FROM ok", at(stream));
    bed.request(select(2), UNAUTHORIZED);
    bed.request(wire.query("USE ks", at(2)), SEEN).server(
      bed.packed(wire.error(0x2200, "no such keyspace", at(2))),
    );
    bed.request(select(2), UNAUTHORIZED);
    bed.request(wire.query("USE ks", at(2)), SEEN).server(bed.packed(wire.setKeyspace("ks", at(2))));
    bed.request(select(2), SEEN).server(bed.packed(wire.VOID(at(2))));
    // On its way: either keyspace.
    bed.request(wire.query("USE other", at(2)), SEEN);
    bed.request(select(3), { code: 0x2100, text: /other\.ok/ });
    bed.server(bed.packed(wire.error(0x2200, "no", at(2))));
    bed.request(select(3), SEEN);
    // A request on its way may be run in the new keyspace.
    bed.request(wire.query("USE other", at(2)), {
      code: 0x2100,
      text: /USE comes while requests .* in other .*other\.ok/,
    });
    bed.server(bed.packed(wire.VOID(at(3))));
    bed.request(wire.query("USE other", at(2)), SEEN).server(bed.packed(wire.setKeyspace("other", at(2))));
    bed.request(select(3), UNAUTHORIZED);
    if (version === 5) {
      bed.request(wire.query("SELECT * FROM ok", { ...at(3), keyspace: "ks" }), SEEN);
      bed.request(
        wire.query("SELECT * FROM ok", { ...at(4), keyspace: "other", values: [ID] }),
        UNAUTHORIZED,
      );
      bed.request(wire.prepare("SELECT * FROM ok", { ...at(4), keyspace: "ks" }), SEEN);
      bed.request(wire.batch(["INSERT INTO ok (k) VALUES (1)"], { ...at(5), keyspace: "ks" }), SEEN);
      bed.request(wire.batch(["INSERT INTO ok (k) VALUES (1)"], { ...at(6), keyspace: "x" }), UNAUTHORIZED);
    } else {
      bed.client(wire.query("SELECT * FROM ok", { ...at(3), keyspace: "ks" }));
      assert.match(bed.close!, /a keyspace of its own in version 4/);
    }
  }
});

Deno.test("CassandraConnection knows what an id stands for on all connections to the server, in the keyspace that it was prepared in", () => {
  const shared = new CassandraShared();
  const first = new Bed(4, "none", shared).start();
  first.request(wire.query("USE ks"), SEEN).server(wire.setKeyspace("ks"));
  first.request(wire.prepare("SELECT * FROM ok"), SEEN).server(wire.prepared(ID));
  const second = new Bed(4, "none", shared).start();
  second.request(wire.query("USE other"), SEEN).server(wire.setKeyspace("other"));
  second.request(wire.execute(ID), SEEN);
  assert.deepEqual(second.asked, ["select ks.ok"]);
  // A prepared USE counts when it is executed.
  const use = ID.slice().fill(1);
  first.request(wire.prepare("USE ks"), SEEN).server(wire.prepared(use));
  second.request(wire.execute(use, { stream: 3 }), SEEN).server(wire.setKeyspace("ks", { stream: 3 }));
  second.request(wire.query("SELECT * FROM ok", { stream: 3 }), SEEN);
  // A policy that changes is asked anew.
  const third = new Bed(4, "none", shared, () => false).start();
  third.request(wire.execute(ID), UNAUTHORIZED);
});

Deno.test("CassandraConnection learns an id in every keyspace that its PREPARE may have met", () => {
  const bed = new Bed(4, "none", new CassandraShared(), ({ table }) => table !== "vault.t").start();
  bed.request(wire.prepare("SELECT * FROM t", { stream: 1 }), SEEN);
  bed.request(wire.query("USE ks", { stream: 2 }), SEEN);
  bed.server(wire.prepared(ID, { stream: 1 }), wire.setKeyspace("ks", { stream: 2 }));
  bed.asked.length = 0;
  bed.request(wire.execute(ID, { stream: 1 }), SEEN);
  assert.deepEqual(bed.asked, ["select t", "select ks.t"]);
});

Deno.test("CassandraConnection lets a text that it cannot read pass only where anything may", () => {
  const bed = new Bed(4, "none", new CassandraShared(), () => true).start();
  bed.request(wire.query("SELECT SOMETHING NEW OF table"), SEEN);
  assert.deepEqual(bed.asked, ["unknown "]);
  bed.server(wire.setKeyspace("surprise"));
  bed.request(wire.query("SELECT * FROM t"), SEEN);
  assert.equal(bed.asked.at(-1), "select surprise.t");
});

Deno.test("CassandraConnection holds what comes before STARTUP is answered", () => {
  for (const version of [4, 5]) {
    const bed = new Bed(version);
    const register = wire.envelope(Opcode.REGISTER, new Uint8Array(2), { version, stream: 1 });
    bed.client(wire.startup({}, { version }), bed.packed(register));
    assert.equal(bed.toServer.length, wire.startup({}, { version }).length);
    bed.client(bed.packed(wire.query("SELECT * FROM ks.secret", { version, stream: 2 })));
    assert.equal(bed.toServer.length, 0);
    bed.server(wire.READY({ version }));
    assert.deepEqual(bed.toServer, bed.packed(register));
    assert.deepEqual(bed.toClient.subarray(0, 9), wire.READY({ version }));
    bed.toClient = bed.toClient.slice(9);
    bed.denied(2, UNAUTHORIZED);
  }
  const flood = new Bed().client(wire.startup({}), new Uint8Array(EARLY_BYTES_MAX + 1));
  assert.match(flood.close!, /over 65536 bytes before STARTUP is answered/);
});

Deno.test("CassandraConnection goes on after a STARTUP that the server refuses", () => {
  const bed = new Bed(4).client(wire.startup({ COMPRESSION: "lz4" }, { version: 5 }));
  bed.server(wire.error(0x000a, "unsupported version", { version: 4 }));
  assert.equal(bed.close, null);
  bed.client(wire.startup({}, { version: 4 })).server(wire.READY());
  bed.request(wire.query("SELECT * FROM ks.ok", { stream: 9 }), SEEN);
});

Deno.test("CassandraConnection answers a version that it does not read, and closes", () => {
  for (const version of [1, 2, 6, 65, 66]) {
    const bed = new Bed(4).client(wire.envelope(Opcode.OPTIONS, new Uint8Array(0), { version, stream: 0 }));
    bed.denied(0, { code: 0x000a, text: /Invalid or unsupported protocol version/ });
    assert.match(bed.close!, /unsupported protocol version/);
    assert.equal(bed.toServer.length, 0);
  }
});

Deno.test("CassandraConnection closes where it is confused, and says why", () => {
  const v5 = (plain: Uint8Array, options = {}) => wire.segment(plain, options);
  const query5 = wire.query("SELECT * FROM ks.ok", { version: 5, stream: 2 });
  const broken = wire.segment(query5);
  broken[20] ^= 1;
  const cases: [RegExp, number, (bed: Bed) => Bed][] = [
    [/QUERY before STARTUP/, 0, (bed) => bed.client(wire.query("SELECT * FROM ks.ok"))],
    [
      /option "COMPRESSION" twice/,
      0,
      (bed) => bed.client(wire.startup({ compression: "none", COMPRESSION: "lz4" })),
    ],
    [/compression "zstd" in version 4/, 0, (bed) => bed.client(wire.startup({ COMPRESSION: "zstd" }))],
    [
      /compression "snappy" in version 5/,
      0,
      (bed) => bed.client(wire.startup({ COMPRESSION: "snappy" }, { version: 5 })),
    ],
    [/STARTUP is no request that may come here/, 4, (bed) => bed.client(wire.startup({}))],
    [/opcode 0x77 is no request/, 4, (bed) => bed.client(wire.envelope(0x77, ID))],
    [/RESULT is no request/, 4, (bed) => bed.client(wire.envelope(Opcode.RESULT, ID))],
    [/the client sends a response/, 4, (bed) => bed.client(wire.VOID())],
    [/a request of version 5 on a connection of 4/, 4, (bed) => bed.client(query5)],
    [/a request on stream -1/, 4, (bed) => bed.client(wire.query("SELECT * FROM ks.ok", { stream: -1 }))],
    [/beta version/, 4, (bed) => bed.client(wire.query("SELECT * FROM ks.ok", { flags: 0x10 }))],
    [/unknown flags 0x20/, 4, (bed) => bed.client(wire.query("SELECT * FROM ks.ok", { flags: 0x20 }))],
    [
      /no compression of bodies was agreed/,
      4,
      (bed) => bed.client(wire.query("SELECT * FROM ks.ok", { flags: 0x01 })),
    ],
    [
      /a custom payload in version 3/,
      3,
      (bed) => bed.client(wire.query("SELECT * FROM ks.ok", { version: 3, flags: 4 })),
    ],
    [
      /stream 2 has a request that is not answered/,
      4,
      (bed) =>
        bed.client(
          wire.query("SELECT * FROM ks.ok", { stream: 2 }),
          wire.prepare("SELECT * FROM ks.ok", { stream: 2 }),
        ),
    ],
    [
      /a text that is not UTF-8/,
      4,
      (bed) => bed.client(wire.envelope(Opcode.QUERY, new wire.Writer().i32(1).u8(0xff).u16(1).u8(0).bytes)),
    ],
    [
      /a text of -1 bytes/,
      4,
      (bed) => bed.client(wire.envelope(Opcode.QUERY, new wire.Writer().i32(-1).bytes)),
    ],
    [
      /it ends at byte 6, byte 104 was to come/,
      4,
      (bed) => bed.client(wire.envelope(Opcode.QUERY, new wire.Writer().i32(100).u16(0).bytes)),
    ],
    [
      /a batch's member of kind 2/,
      4,
      (bed) => bed.client(wire.envelope(Opcode.BATCH, new wire.Writer().u8(0).u16(1).u8(2).bytes)),
    ],
    [
      /QUERY has 16777217 bytes/,
      4,
      (bed) => bed.client(wire.query("").subarray(0, 5), new wire.Writer().i32(16 * 1024 * 1024 + 1).bytes),
    ],
    [/does not fit its checksum/, 5, (bed) => bed.client(broken)],
    [/ends within a header/, 5, (bed) => bed.client(v5(query5.subarray(0, 8)))],
    [/ends within a request/, 5, (bed) => bed.client(v5(query5.subarray(0, 20)))],
    [
      /more of a request than its header says/,
      5,
      (bed) => bed.client(v5(wire.concat(query5, query5), { selfContained: false })),
    ],
    [
      /another request within a large one/,
      5,
      (bed) => bed.client(v5(query5.subarray(0, 20), { selfContained: false }), v5(query5)),
    ],
    [/^policy-denies$/, 4, (bed) => bed.client(wire.query("SELECT * FROM ks.cut")).denied(0, UNAUTHORIZED)],
    [/the server answers on stream 7/, 4, (bed) => bed.server(wire.VOID({ stream: 7 }))],
    [/the server sends a request/, 4, (bed) => bed.server(wire.query("x"))],
    [/the server sends a segment's header does not fit/, 5, (bed) => bed.server(wire.VOID({ version: 5 }))],
    [
      /an answer of 4294967295 bytes/,
      4,
      (bed) => bed.server(wire.VOID().subarray(0, 5), new wire.Writer().i32(-1).bytes),
    ],
    [
      /the server answers STARTUP with SUPPORTED/,
      0,
      (bed) => bed.client(wire.startup({})).server(wire.response(Opcode.SUPPORTED, new Uint8Array(2))),
    ],
    [
      /STARTUP of version 5 in version 4/,
      0,
      (bed) => bed.client(wire.startup({}, { version: 5 })).server(wire.READY()),
    ],
  ];
  for (const [reason, version, play] of cases) {
    const bed = new Bed(version === 0 ? 4 : version);
    if (version > 0) bed.start();
    play(bed);
    assert.match(bed.close ?? "it goes on", reason);
    assert.equal(
      bed.client(wire.query("SELECT * FROM ks.ok", { stream: 40 })).toServer.length,
      0,
      "closed is closed",
    );
    bed.connection.end();
    assert.equal(bed.shared.heldBytes, 0);
  }
});

Deno.test("CassandraConnection has limits on requests without an answer and on what is held", () => {
  const bed = new Bed(4).start();
  for (let stream = 0; stream < PENDING_MAX; stream++) {
    bed.client(wire.query("SELECT * FROM ks.ok", { stream }));
  }
  bed.request(wire.query("SELECT * FROM ks.ok", { stream: PENDING_MAX }), {
    code: 0x1001,
    text: /8192 requests/,
  });
  bed.server(wire.VOID({ stream: 5 }));
  bed.request(wire.query("SELECT * FROM ks.ok", { stream: 5 }), SEEN);

  const long = new Bed(4).start();
  long.client(wire.query("x".repeat(4 * 1024 * 1024), { stream: 3 }));
  long.denied(3, { code: 0x2100, text: /a text of 4194304 bytes, at most 3145728 are read/ });
  long.request(wire.query("SELECT * FROM ks.ok", { stream: 3 }), SEEN);

  const shared = new CassandraShared({ heldBytesTotalMax: 100_000 });
  const beds = Array.from({ length: 8 }, () => new Bed(4, "none", shared).start());
  const half = wire.query(`SELECT * FROM ks.ok WHERE k = '${"x".repeat(40_000)}'`, { stream: 3 }).subarray(
    0,
    20_000,
  );
  for (const each of beds) each.client(half);
  assert.ok(shared.heldBytes <= 100_000);
  assert.match(beds.at(-1)!.close!, /all connections together hold as much as they may/);
  for (const each of beds) each.connection.end();
  assert.equal(shared.heldBytes, 0);
});

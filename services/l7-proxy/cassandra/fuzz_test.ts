import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { CassandraConnection } from "./cassandra_connection.ts";
import { Opcode } from "./envelope.ts";
import { CassandraShared, HELD_BYTES_MAX } from "./limits.ts";
import { PreparedStatements } from "./prepared_statements.ts";
import * as wire from "./testing/wire.ts";

const ROUNDS = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 1500);
const FORMS = [[3, "none"], [3, "lz4"], [3, "snappy"], [4, "none"], [4, "lz4"], [4, "snappy"], [5, "none"], [
  5,
  "lz4",
]] as const;

Deno.test("CassandraConnection neither fails nor grows, whatever either side sends", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const shared = new CassandraShared({ prepared: new PreparedStatements({ perServerMax: 20, max: 50 }) });
  let forwarded = 0, answered = 0, closed = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const [version, compression] = pick(FORMS);
    const connection = new CassandraConnection({
      server: `s${whole(4)}`,
      shared,
      judge: ({ table }) => ({ allowed: !table.includes("secret"), ends: [], text: "denied", closes: "" }),
      now: () => round,
      record: () => {},
    });
    const packed = (plain: Uint8Array) => {
      if (version === 5) {
        return wire.segment(plain, { lz4: compression === "lz4", selfContained: random() < 0.95 });
      }
      return compression === "none" || random() < 0.2 ? plain : wire.compressed(plain, compression);
    };
    const id = () => new Uint8Array(16).fill(whole(5));
    const text = () =>
      pick([
        "SELECT * FROM ks.ok",
        "SELECT * FROM secret",
        "USE ks",
        "BEGIN BATCH",
        "INSERT INTO t (k) VALUES (?)",
        "x",
      ]);
    const at = () => ({ version, stream: whole(6), flags: random() < 0.1 ? whole(256) : 0 });
    const request = () =>
      pick([
        () =>
          wire.query(text(), {
            ...at(),
            keyspace: version === 5 && random() < 0.3 ? "ks" : undefined,
            values: [id()],
          }),
        () => wire.prepare(text(), at()),
        () => wire.execute(id(), at()),
        () => wire.batch([text(), id(), text()], at()),
        () => wire.envelope(whole(20), id(), at()),
      ])();
    const response = () =>
      pick([
        () => wire.VOID(at()),
        () => wire.prepared(id(), at()),
        () => wire.setKeyspace(pick(["a", "b", "c"]), at()),
        () => wire.error(0x2200, "x", at()),
        () => wire.response(Opcode.EVENT, id(), { version, stream: -1 }),
      ])();
    const changed = (bytes: Uint8Array) => {
      if (random() < 0.75) return bytes;
      const copy = bytes.slice(0, random() < 0.2 ? whole(bytes.length) : bytes.length);
      for (let count = whole(3); count > 0 && copy.length > 0; count--) copy[whole(copy.length)] = whole(256);
      return copy;
    };
    const step = (
      give: (bytes: Uint8Array) => ReturnType<CassandraConnection["fromClient"]>,
      bytes: Uint8Array,
    ) => {
      for (let from = 0; from < bytes.length;) {
        const to = Math.min(bytes.length, from + 1 + whole(random() < 0.5 ? 10 : 2000));
        const { toServer, toClient, close } = give(bytes.subarray(from, to));
        forwarded += toServer.length;
        answered += toClient.length;
        if (close !== null) closed++;
        from = to;
      }
    };
    const client = (bytes: Uint8Array) => connection.fromClient(bytes);
    const server = (bytes: Uint8Array) => connection.fromServer(bytes);
    try {
      step(
        client,
        changed(
          wire.startup(compression === "none" ? {} : { COMPRESSION: compression }, { version, stream: 1 }),
        ),
      );
      step(server, changed(wire.READY({ version, stream: 1 })));
      for (let count = whole(30); count > 0 && connection.closed === null; count--) {
        if (random() < 0.6) step(client, changed(packed(request())));
        else step(server, changed(packed(response())));
        assert.ok(shared.heldBytes < 8 * HELD_BYTES_MAX);
      }
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}`, { cause: error });
    }
    assert.ok(connection.pending <= 30);
    connection.end();
    assert.equal(shared.heldBytes, 0, `seed ${seed}, round ${round}`);
  }
  assert.ok(shared.prepared.size <= 50);
  assert.ok(
    forwarded > ROUNDS && answered > ROUNDS && closed > ROUNDS / 10,
    `seed ${seed}: ${forwarded} ${answered} ${closed}`,
  );
});

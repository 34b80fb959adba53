import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import type { ClientHello } from "./client_hello.ts";
import { HELLO_BYTES_MAX, TlsShared } from "./limits.ts";
import * as wire from "./testing.ts";
import { TlsConnection } from "./tls_connection.ts";

const ALLOWED = "www.example.com";
const ALERT = "15030100020231";
const joined = (parts: readonly Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A connection that allows one name, and what it said. */
function bed(mayGoOn: () => string = () => "") {
  const judged: ClientHello[] = [], shared = new TlsShared();
  const connection = new TlsConnection({
    shared,
    judge: (hello) => {
      judged.push(hello);
      return hello.serverName === ALLOWED ? "" : "server-name-denied";
    },
    mayGoOn,
  });
  const all = { toServer: "", toClient: "", close: null as string | null };
  const give = (from: "fromClient" | "fromServer", bytes: Uint8Array, pieceBytes = bytes.length) => {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const { toServer, toClient, close } = connection[from](bytes.slice(at, at + pieceBytes));
      all.toServer += joined(toServer).toHex();
      all.toClient += joined(toClient).toHex();
      all.close = close;
    }
    return all;
  };
  return {
    connection,
    shared,
    judged,
    all,
    client: (bytes: Uint8Array, pieceBytes?: number) => give("fromClient", bytes, pieceBytes),
    server: (bytes: Uint8Array, pieceBytes?: number) => give("fromServer", bytes, pieceBytes),
  };
}

Deno.test("TlsConnection passes the hello of an allowed name whole, however its records and reads are cut", () => {
  const hello = wire.clientHello({ serverName: ALLOWED });
  for (const bytesMax of [1, 3, 4, 100, 16_384]) {
    for (const pieceBytes of [1, 2, 7, 1000, 100_000]) {
      const { client, server, judged, all, connection, shared } = bed(),
        sent = wire.records(hello, { bytesMax });
      client(sent, pieceBytes);
      assert.equal(all.toServer, sent.toHex(), `${bytesMax} ${pieceBytes}`);
      assert.deepEqual(judged, [{ serverName: ALLOWED, encryptedHello: false }]);
      assert.equal(connection.waitsFor, "stream");
      // Early data passes before the server has answered.
      const early = wire.records(new Uint8Array(50), { type: 23 });
      client(early, pieceBytes);
      const answer = joined([wire.records(wire.serverHello(), { bytesMax }), new Uint8Array(99)]);
      server(answer, pieceBytes);
      client(Uint8Array.of(1, 2, 3));
      assert.deepEqual(all, {
        toServer: sent.toHex() + early.toHex() + "010203",
        toClient: answer.toHex(),
        close: null,
      });
      assert.equal(connection.waitsFor, "spliced");
      assert.equal(shared.heldBytes, 0);
    }
  }
});

Deno.test("TlsConnection answers a hello of another name, and one without a name, with a TLS alert alone", () => {
  for (const serverName of ["evil.example.com", undefined]) {
    const { client, all, judged } = bed();
    client(wire.records(wire.clientHello({ serverName })));
    assert.deepEqual(all, { toServer: "", toClient: ALERT, close: "server-name-denied" });
    assert.equal(judged[0].serverName, serverName ?? "");
  }
});

Deno.test("TlsConnection judges by the outer name where the hello has another one inside, and says so", () => {
  const { client, judged } = bed();
  client(wire.records(wire.clientHello({ serverName: ALLOWED, extensions: [[0xfe0d, new Uint8Array(80)]] })));
  assert.deepEqual(judged, [{ serverName: ALLOWED, encryptedHello: true }]);
});

Deno.test("TlsConnection reads the second hello after HelloRetryRequest: the same name, or the end", () => {
  const hello = wire.records(wire.clientHello({ serverName: ALLOWED }));
  const retry = joined([wire.records(wire.serverHello(true)), wire.CHANGE_CIPHER_SPEC]);
  for (const pieceBytes of [1, 5, 1000]) {
    const { client, server, all, connection } = bed();
    client(hello);
    server(retry, pieceBytes);
    assert.equal(connection.waitsFor, "head");
    client(wire.CHANGE_CIPHER_SPEC);
    const second = wire.records(wire.clientHello({ serverName: ALLOWED.toUpperCase() }));
    client(second, pieceBytes);
    server(wire.records(wire.serverHello()), pieceBytes);
    assert.equal(connection.waitsFor, "spliced");
    assert.equal(all.toServer, joined([hello, wire.CHANGE_CIPHER_SPEC, second]).toHex());
    assert.equal(all.close, null);
  }
  for (const serverName of ["evil.example.com", undefined]) {
    const { client, server, all } = bed();
    client(hello);
    server(retry);
    client(wire.records(wire.clientHello({ serverName })));
    assert.match(all.close!, /^the second ClientHello names "/);
    assert.equal(all.toServer, hello.toHex(), "nothing of the second one passes");
  }
  const thrice = bed();
  thrice.client(hello);
  thrice.server(retry);
  thrice.client(hello);
  thrice.server(retry);
  assert.equal(thrice.all.close, "the server asks for a third ClientHello");
});

Deno.test("TlsConnection closes on what is no ClientHello, and passes nothing of it", () => {
  const cases: [string, Uint8Array, RegExp][] = [
    ["HTTP", new TextEncoder().encode("GET / HTTP/1.1\r\n"), /does not speak TLS/],
    ["SSL 2", Uint8Array.of(0x80, 46, 1, 3, 1), /does not speak TLS/],
    ["an alert first", Uint8Array.of(21, 3, 1, 0, 2, 1, 0), /record 21 where/],
    ["application data first", wire.records(new Uint8Array(9), { type: 23 }), /record 23 where/],
    ["a change of ciphers first", wire.CHANGE_CIPHER_SPEC, /record 20 where/],
    ["another message", wire.records(wire.serverHello()), /message 2, want 1/],
    ["an empty record", Uint8Array.of(22, 3, 1, 0, 0), /a record of 0 bytes/],
    ["a record too long", Uint8Array.of(22, 3, 1, 255, 255), /a record of 65535 bytes/],
    ["a hello too long", wire.records(Uint8Array.of(1, 1, 0, 0)), /65540 bytes, at most 16384/],
    [
      "two names",
      wire.records(wire.clientHello({ serverName: wire.serverNames("a", "b") })),
      /several server names/,
    ],
    ["an empty name", wire.records(wire.clientHello({ serverName: wire.serverNames("") })), /"" is no name/],
    ["an empty list", wire.records(wire.clientHello({ serverName: wire.vector(2) })), /ends within a field/],
    ["a name with NUL", wire.records(wire.clientHello({ serverName: `${ALLOWED}\0.evil` })), /is no name/],
    [
      "a name of another type",
      wire.records(wire.clientHello({ serverName: wire.vector(2, [1, 0, 1, 65]) })),
      /type 1/,
    ],
    [
      "the extension twice",
      wire.records(wire.clientHello({ serverName: ALLOWED, extensions: [[0, wire.serverNames("b")]] })),
      /extension 0 twice/,
    ],
    ["half a suite", wire.records(wire.clientHello({ suites: wire.vector(2, [1, 2, 3]) })), /in 3 bytes/],
    [
      "more behind the hello",
      wire.records(joined([wire.clientHello({ serverName: ALLOWED }), Uint8Array.of(0)])),
      /goes on behind/,
    ],
  ];
  for (const [name, bytes, expected] of cases) {
    for (const pieceBytes of [1, bytes.length]) {
      const { client, all, connection, shared, judged } = bed();
      client(bytes, pieceBytes);
      assert.match(all.close ?? "open", expected, name);
      assert.deepEqual([all.toServer, all.toClient, judged.length], ["", "", 0], name);
      connection.end();
      assert.equal(shared.heldBytes, 0);
    }
  }
  const { client, all } = bed(), hello = wire.records(wire.clientHello({ serverName: ALLOWED }));
  client(joined([hello, wire.records(wire.clientHello({ serverName: "evil" }))]));
  assert.equal(all.close, "a second ClientHello, unasked");
});

Deno.test("TlsConnection ends an open connection once the rules allow its name no more", () => {
  let why = "";
  const { client, server, all } = bed(() => why);
  client(wire.records(wire.clientHello({ serverName: ALLOWED })));
  server(wire.records(wire.serverHello()));
  client(Uint8Array.of(1));
  why = "server-name-denied";
  const before = all.toServer;
  client(Uint8Array.of(2));
  assert.deepEqual([all.toServer, all.close], [before, "server-name-denied"]);
});

Deno.test("TlsConnection neither fails nor grows, whatever either side sends, and passes no name but the judged one", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9), random = seededRandom(seed);
  const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 400);
  const whole = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]) => list[whole(list.length)];
  let opened = 0, closed = 0;
  for (let round = 0; round < rounds; round++) {
    const { client, server, connection, shared, all, judged } = bed();
    const changed = (bytes: Uint8Array) => {
      const copy = bytes.slice(0, random() < 0.1 ? whole(bytes.length) : bytes.length);
      for (let count = random() < 0.6 ? 0 : whole(4); count > 0 && copy.length > 0; count--) {
        copy[whole(copy.length)] = random() < 0.5 ? whole(256) : pick([0, 1, 2, 20, 21, 22, 23, 255]);
      }
      return copy;
    };
    const cut = () => ({ bytesMax: pick([1, 2, 30, 16_384]) });
    const sends = () =>
      pick([
        () =>
          wire.records(wire.clientHello({ serverName: pick([ALLOWED, ALLOWED, "evil", undefined]) }), cut()),
        () => wire.CHANGE_CIPHER_SPEC,
        () => wire.records(new Uint8Array(whole(40) + 1), { type: 20 + whole(4) }),
      ])();
    const answers = () =>
      pick([
        () => wire.records(wire.serverHello(random() < 0.5), cut()),
        () => wire.CHANGE_CIPHER_SPEC,
        () => wire.records(Uint8Array.of(1, 112), { type: 21 }),
      ])();
    const what = `seed ${seed}, round ${round}`;
    try {
      client(changed(wire.records(wire.clientHello({ serverName: ALLOWED }), cut())), whole(60) + 1);
      for (let count = whole(8); count > 0 && all.close === null; count--) {
        if (random() < 0.5) client(changed(sends()), whole(60) + 1);
        else if (judged.length > 0) server(changed(answers()), whole(60) + 1);
        assert.ok(shared.heldBytes <= 3 * HELLO_BYTES_MAX, what);
      }
    } catch (error) {
      throw new Error(what, { cause: error });
    }
    if (judged[0]?.serverName !== ALLOWED) assert.equal(all.toServer, "", what);
    if (connection.waitsFor === "spliced") opened++;
    if (all.close !== null) closed++;
    connection.end();
    assert.equal(shared.heldBytes, 0, what);
  }
  assert.ok(opened > rounds / 20 && closed > rounds / 10, `seed ${seed}: ${opened} opened, ${closed} closed`);
});

import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { ANSWER_LINE_BYTES_MAX, LINE_BYTES_MAX, MemcacheShared, TURNS_MAX } from "./limits.ts";
import { MemcacheConnection } from "./memcache_connection.ts";

const latin1 = (parts: readonly Uint8Array[]) =>
  parts.map((part) => Array.from(part, (byte) => String.fromCharCode(byte)).join("")).join("");
const bytesOf = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** A connection whose rules allow every key but those that begin with "secret". */
function bed(closes = "") {
  const judged: string[] = [], shared = new MemcacheShared();
  const connection = new MemcacheConnection({
    shared,
    judge: ({ command, keys }) => {
      judged.push([command, ...keys].join(" "));
      const allowed = !keys.some((key) => key.startsWith("secret"));
      return { allowed, text: "access denied", closes: allowed ? "" : closes };
    },
  });
  const all = { toServer: "", toClient: "", close: null as string | null };
  const give = (from: "fromClient" | "fromServer", text: string, pieceBytes = text.length) => {
    for (let at = 0; at < text.length; at += pieceBytes) {
      const { toServer, toClient, close } = connection[from](bytesOf(text.slice(at, at + pieceBytes)));
      all.toServer += latin1(toServer);
      all.toClient += latin1(toClient);
      all.close = close;
    }
  };
  return {
    connection,
    shared,
    judged,
    all,
    client: (text: string, pieceBytes?: number) => give("fromClient", text, pieceBytes),
    server: (text: string, pieceBytes?: number) => give("fromServer", text, pieceBytes),
  };
}

Deno.test("MemcacheConnection passes text as it is, and answers a denied command in its turn, however it is cut", () => {
  for (const pieceBytes of [1, 3, 1000]) {
    const { client, server, all, judged, shared } = bed();
    client(
      "get a b\r\nset secret 0 0 9\r\nget x\r\nxx\r\nset c 0 0 3 noreply\nabc\r\ngets a secret\r\nset secret2 0 0 1 noreply\r\nx\r\nversion\r\n",
      pieceBytes,
    );
    assert.deepEqual(judged, ["get a b", "set secret", "set c", "gets a secret", "set secret2", "version"]);
    assert.equal(all.toServer, "get a b\r\nversion\r\nset c 0 0 3 noreply\nabc\r\nversion\r\nversion\r\n");
    server(
      "VALUE a 0 11\r\nVERSION 1\r\n\r\nEND\r\nVERSION 1.6\r\nVERSION 1.6\r\nVERSION 1.6\r\n",
      pieceBytes,
    );
    const denied = "CLIENT_ERROR access denied\r\n";
    assert.deepEqual(all, {
      ...all,
      toClient: `VALUE a 0 11\r\nVERSION 1\r\n\r\nEND\r\n${denied}${denied}VERSION 1.6\r\n`,
      close: null,
    });
    assert.equal(shared.heldBytes, 0);
  }
});

Deno.test("MemcacheConnection answers at once where the server was asked nothing, and never opens a way to it", () => {
  const { client, all } = bed();
  client("get secret\r\n");
  assert.deepEqual(all, { toServer: "", toClient: "CLIENT_ERROR access denied\r\n", close: null });
  const closing = bed("policy-denies");
  closing.client("get a\r\nget secret\r\nget b\r\n");
  assert.deepEqual([closing.all.toServer, closing.all.close], ["get a\r\n", "policy-denies"]);
});

Deno.test("MemcacheConnection closes on what is no command, on data of another length, and on answers that nobody asked for", () => {
  const cases: [client: string, server: string, RegExp][] = [
    ["GET / HTTP/1.1\r\n", "", /no command that is known/],
    ["\x16\x03\x01", "", /TLS on a port/],
    ["set a 0 0 3\r\nabcd\r\n", "", /does not end with CR LF/],
    ["set secret 0 0 3\r\nabcd\r\n", "", /does not end with CR LF/],
    ["watch\r\nget a\r\n", "", /a command after watch/],
    ["get a\r\n", "VERSION 1\r\n", /what nobody has asked/],
    ["get a\r\n", "VALUE a 0 x\r\n", /data of no length/],
    ["get a\r\n", "x".repeat(ANSWER_LINE_BYTES_MAX + 1), /bytes to be held/],
    ["x".repeat(LINE_BYTES_MAX + 1), "", /bytes to be held/],
    ["get a\r\n" + "get secret\r\n".repeat(TURNS_MAX + 1), "", /commands wait/],
    ["\x80\x30" + "\0".repeat(22), "", /opcode 0x30/],
    ["\x80\x00\0\x01\x04\0\0\0\0\0\0\x05" + "\0".repeat(17), "", /get with 1 bytes of key, 4 of extras/],
    ["\x80\x0a" + "\0".repeat(22) + "get a\r\n" + "\0".repeat(24), "", /begins with 0x67/],
    ["\x80\x0b" + "\0".repeat(22), "\x80".repeat(24), /begins with 0x80, want 0x81/],
  ];
  for (const [sent, answered, expected] of cases) {
    const { client, server, all, connection, shared } = bed();
    client(sent);
    if (answered !== "") server(answered);
    assert.match(all.close ?? "open", expected, JSON.stringify(sent.slice(0, 40)));
    connection.end();
    assert.equal(shared.heldBytes, 0);
  }
});

Deno.test("MemcacheConnection holds no value, denied or not", () => {
  const { client, all, shared, connection } = bed(), part = "x".repeat(100_000);
  for (const key of ["a", "secret"]) {
    client(`set ${key} 0 0 ${10 * part.length}\r\n`);
    for (let count = 0; count < 10; count++) {
      client(part);
      assert.equal(shared.heldBytes, 0);
      assert.equal(connection.waitsFor, "stream");
    }
    client("\r\n");
  }
  assert.equal(all.toServer.length, `set a 0 0 1000000\r\n\r\nversion\r\n`.length + 10 * part.length);
});

/** Keys that a server reads in what reaches it; what stands in a value is data, whatever it looks like. */
function keysOf(text: string): string[] {
  const keys: string[] = [], byte = (at: number) => text.charCodeAt(at);
  for (let at = 0; at < text.length;) {
    if (byte(at) === 0x80) {
      if (at + 24 > text.length) return keys;
      const length = byte(at + 2) * 256 + byte(at + 3), extras = byte(at + 4), key = at + 24 + extras;
      keys.push(text.slice(key, key + length));
      at += 24 + byte(at + 8) * 2 ** 24 + byte(at + 9) * 2 ** 16 + byte(at + 10) * 2 ** 8 + byte(at + 11);
      continue;
    }
    const end = text.indexOf("\n", at);
    if (end < 0) return keys;
    const [command, ...words] = text.slice(at, end).replace(/\r$/, "").split(" ");
    at = end + 1;
    if (command === "set") {
      keys.push(words[0]);
      at += Number(words[3]) + 2;
    } else keys.push(...words);
    if (Number.isNaN(at)) return keys;
  }
  return keys;
}

Deno.test("MemcacheConnection neither fails nor grows, whatever either side sends", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9), random = seededRandom(seed);
  const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 2000);
  const whole = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const texts = [
    ..."get a\r\n|get secret\r\n|set a 0 0 3\r\nabc\r\n|set secret 0 0 3\r\nabc\r\n|mg a v\r\n|mn\r\n|version\r\n|quit\r\n|watch\r\n| |\0|x"
      .split("|"),
    "\x80\x00\0\x01\0\0\0\0\0\0\0\x01" + "\0".repeat(12) + "a",
    "\x80\x01\0\x06\x08\0\0\0\0\0\0\x10" + "\0".repeat(20) + "secretxx",
    "\x80\x0a" + "\0".repeat(22),
  ];
  const answers = [
    ..."END\r\n|VALUE a 0 3\r\nabc\r\n|VERSION 1\r\n|VA 2 t\r\nab\r\n|STORED\r\n|V|\r|ERROR\r\n".split("|"),
    "\x81\x0a" + "\0".repeat(22),
    "\x81\x00" + "\0".repeat(9) + "\x02" + "\0".repeat(12) + "ab",
  ];
  let passed = 0, closed = 0;
  for (let round = 0; round < rounds; round++) {
    const { client, server, connection, shared, all } = bed(), what = `seed ${seed}, round ${round}`;
    const changed = (text: string) => {
      if (random() < 0.8) return text;
      const at = whole(text.length);
      return text.slice(0, at) + String.fromCharCode(whole(256)) + text.slice(at + whole(2));
    };
    try {
      for (let count = whole(20); count > 0 && all.close === null; count--) {
        if (random() < 0.6) client(changed(pick(texts)), 1 + whole(30));
        else if (all.toServer !== "") server(changed(pick(answers)), 1 + whole(30));
        assert.ok(shared.heldBytes <= LINE_BYTES_MAX + ANSWER_LINE_BYTES_MAX, what);
      }
    } catch (error) {
      throw new Error(what, { cause: error });
    }
    const reached = keysOf(all.toServer);
    assert.ok(!reached.includes("secret"), `${what}: ${JSON.stringify(all.toServer)}`);
    passed += all.toServer.length;
    if (all.close !== null) closed++;
    connection.end();
    assert.equal(shared.heldBytes, 0, what);
  }
  assert.ok(
    passed > rounds && closed > rounds / 10,
    `seed ${seed}: ${passed} bytes passed, ${closed} closed`,
  );
});

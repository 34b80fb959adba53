/**
 * Rules between a real memcached and its clients: what they are told, in which order; and that no bytes, however they are made, reach an item that
 * the rules do not allow.
 * @module
 */
import assert from "node:assert/strict";
import { seededRandom } from "../seeded_random.ts";
import { L7Relay } from "../l7_relay.ts";
import { memcachedIsBuilt, MemcachedServer, PYTHON } from "./memcached_server.ts";
import { closing, exchange, readAll } from "./wire.ts";

const COMMANDS = ["get", "gat", "storage", "touch", "mg", "ms", "ma", "version"];
const RULES = {
  kind: "MEMCACHE" as const,
  memcache: COMMANDS.map((command, at) => ({
    command,
    keyPrefix: command === "version" ? "" : "user:",
    cookie: 10 + at,
  })),
};
const DENIED = (what: string) =>
  `access denied: Denied by policy cnp:shop/rules spec.ingress[0]: no rule allows ${what}`;
const SECRET = "4f1c0e secret value";
const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 150);

async function client(kind: string, port: number) {
  const { code, stdout, stderr } = await new Deno.Command(PYTHON, {
    args: [new URL("clients/client.py", import.meta.url).pathname, kind, `${port}`],
    stdin: "null",
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

const real = (name: string, fn: (server: MemcachedServer) => Promise<void>) =>
  Deno.test({
    name,
    ignore: !memcachedIsBuilt(),
    async fn() {
      await using server = await MemcachedServer.start();
      await exchange(server.port, `set secret 0 0 ${SECRET.length}\r\n${SECRET}\r\n`, "STORED\r\n");
      await fn(server);
      assert.equal(
        await exchange(server.port, "get secret\r\n", "END\r\n"),
        `VALUE secret 0 ${SECRET.length}\r\n${SECRET}\r\nEND\r\n`,
      );
    },
  });

real(
  "a client of the text protocol is told what is denied, and goes on with the same connection",
  async (server) => {
    await using relay = new L7Relay(server.port, RULES);
    const said = await client("text", relay.port);
    const error = (what: string) => `MemcacheClientError: b'${DENIED(what)}'`;
    assert.deepEqual(said, {
      "set": true,
      "get": "one",
      "get denied": error("get secret"),
      "get again": "one",
      "set quietly": true,
      "set denied quietly": true,
      "get many": { "user:1": "one", "user:2": "two" },
      "get many, one denied": error("get user:1 secret"),
      "set denied": error("set secret"),
      "large": true,
      "large back": 900_000,
      "delete denied": error("delete user:1"),
      "incr": 5,
      "flush denied": error("flush_all"),
      "stats denied": error("stats"),
      "at last": "two",
    });
  },
);

real(
  "a client of the binary protocol is told what is denied, and goes on with the same connection",
  async (server) => {
    await using relay = new L7Relay(server.port, RULES);
    const said = await client("binary", relay.port);
    const error = (what: string, message = "Message") =>
      `MemcachedException: ("Code: 32 ${message}: b'${DENIED(what)}'", 32)`;
    assert.deepEqual(said, {
      "set": true,
      "get": "one",
      "get denied": error("get secret"),
      "get again": "one",
      "set many": [],
      "get many": { "user:1": "one", "user:2": "two" },
      "set denied": error("set secret"),
      "large": true,
      "large back": 900_000,
      "delete denied": error("delete user:1", "message"),
      "incr": 1,
      "at last": "two",
    });
  },
);

/** One command that is sound. @returns its bytes, and what it is denied as; "": it is allowed */
function soundCommand(random: () => number): { bytes: string; denied: string } {
  const whole = (below: number) => Math.floor(random() * below),
    pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const isDenied = random() < 0.3, key = isDenied ? pick(["secret", "other"]) : `user:${whole(5)}`;
  const data = "x".repeat(whole(random() < 0.1 ? 200_000 : 40)), quiet = random() < 0.3;
  const reply = quiet ? " noreply" : "";
  // What looks like an answer, or like a command, is data.
  const tricky = pick([data, "VERSION 1\r\n", "END\r\nVALUE a 0 3", "\r\nget secret\r\n", "VA 5\r\n"]);
  const denied = (command: string, keys = key) => isDenied ? `${command} ${keys}` : "";
  return pick<() => { bytes: string; denied: string }>([
    () => ({ bytes: `get ${key}\r\n`, denied: denied("get") }),
    () => ({ bytes: `gets user:1 ${key} user:2\r\n`, denied: denied("gets", `user:1 ${key} user:2`) }),
    () => ({ bytes: `gat 0 ${key} \r\n`, denied: denied("gat") }),
    () => ({
      bytes: `set ${key} 1 0 ${tricky.length}${reply}\r\n${tricky}\r\n`,
      denied: quiet && isDenied ? "quiet" : denied("set"),
    }),
    () => ({
      bytes: `append  ${key} 1 -1 ${tricky.length}${reply}\n${tricky}\r\n`,
      denied: quiet && isDenied ? "quiet" : denied("append"),
    }),
    () => ({ bytes: `incr ${key} 2${reply}\r\n`, denied: quiet && isDenied ? "quiet" : denied("incr") }),
    () => ({ bytes: `touch ${key} 0${reply}\r\n`, denied: quiet && isDenied ? "quiet" : denied("touch") }),
    () => ({ bytes: `mg ${key} v k${quiet ? " q" : ""}\r\n`, denied: denied("mg") }),
    () => ({ bytes: `mg ${btoa(key)} b v s\r\n`, denied: denied("mg") }),
    () => ({
      bytes: `ms ${key} ${tricky.length} T0${quiet ? " q" : ""}\r\n${tricky}\r\n`,
      denied: denied("ms"),
    }),
    () => ({ bytes: `delete user:1\r\n`, denied: "delete user:1" }),
    () => ({ bytes: `mn\r\n`, denied: "" }),
    () => ({ bytes: `version\r\n`, denied: "" }),
  ])();
}

real("answers come in the order of the commands, ours among the server's", async (server) => {
  const random = seededRandom(seed);
  await using twin = await MemcachedServer.start();
  for (let round = 0; round < rounds / 10; round++) {
    for (const { port } of [server, twin]) {
      await exchange(
        port,
        [0, 1, 2, 3, 4].map((n) => `delete user:${n} noreply\r\n`).join("") + "mn\r\n",
        "MN\r\n",
      );
    }
    await using relay = new L7Relay(server.port, RULES);
    const commands = Array.from({ length: 1 + Math.floor(random() * 80) }, () => soundCommand(random));
    // What the server itself says to those that are allowed, one after the other.
    let expected = "";
    for (const { bytes, denied } of commands) {
      // Behind it one that nobody knows: its answer is like no other.
      if (denied === "") {
        expected += (await exchange(twin.port, `${bytes}unknown\r\n`, "ERROR\r\n")).slice(
          0,
          -"ERROR\r\n".length,
        );
      } else if (denied !== "quiet") expected += `CLIENT_ERROR ${DENIED(denied)}\r\n`;
    }
    const sent = commands.map(({ bytes }) => bytes).join("");
    const got = await closing(relay.port, `${sent}quit\r\n`, () => 1 + Math.floor(random() * 3000));
    const cas = (text: string) => text.replace(/^(VALUE \S+ \d+ \d+) \d+\r$/gm, "$1 CAS\r");
    assert.equal(cas(got), cas(expected), `seed ${seed}, round ${round}`);
  }
});

real("no bytes reach an item that no rule allows, and nothing of it comes back", async (server) => {
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below),
    pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const words = [
    ..."secret|user:1|get|gets|set|add|append|cas|ms|mg|md|ma|me|mn|delete|incr|touch|gat|noreply|version|quit|flush_all"
      .split("|"),
    ..." |  |\r\n|\n|\r|\t|\0|0|1|-1|5|99999999999|4294967296|b|q|k|v|T0|S5|N0|I|base64|c2VjcmV0|c2VjcmV0 b"
      .split("|"),
    ..."get secret\r\n|set secret 0 0 1\r\nx\r\n|delete secret\r\n|ms secret 1\r\nx\r\n|md c2VjcmV0 b\r\n|x"
      .split("|"),
  ];
  let answered = 0;
  for (let round = 0; round < rounds; round++) {
    await using relay = new L7Relay(server.port, RULES);
    let text = Array.from({ length: whole(6) }, () => soundCommand(random).bytes).join("");
    if (text.length > 20_000) text = "";
    for (let changes = whole(8); changes >= 0; changes--) {
      const at = whole(text.length + 1), gone = random() < 0.4 ? whole(6) : 0;
      text = text.slice(0, at) + pick(words) + text.slice(at + gone);
    }
    const got = await readAll(relay.port, `${text}\r\nquit\r\n`, () => 1 + whole(50));
    answered += got.length;
    assert.ok(!got.includes(SECRET), `seed ${seed}, round ${round}: ${JSON.stringify(text)} got ${got}`);
    const now = await exchange(server.port, "get secret\r\n", "END\r\n");
    assert.ok(
      now.includes(SECRET),
      `seed ${seed}, round ${round}: ${JSON.stringify(text)} changed it: ${now}`,
    );
  }
  assert.ok(answered > rounds * 10, `${answered}`);
});

real("no packet reaches an item that no rule allows, and nothing of it comes back", async (server) => {
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below),
    pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const packet = () => {
    const opcode = whole(0x26),
      key = pick(["secret", "user:1", "user:2", ""]),
      value = pick(["", "5", "x".repeat(whole(300))]);
    const extras = pick([0, 0, 4, 8, 8, 20]), bytes = new Uint8Array(24 + extras + key.length + value.length);
    const view = new DataView(bytes.buffer);
    bytes[0] = 0x80;
    bytes[1] = opcode;
    view.setUint16(2, key.length + (random() < 0.05 ? whole(9) : 0));
    bytes[4] = extras;
    view.setUint32(8, extras + key.length + value.length + (random() < 0.05 ? whole(9) : 0));
    view.setUint32(12, whole(1e9));
    bytes.set(new TextEncoder().encode(key + value), 24 + extras);
    if (random() < 0.1) bytes[whole(bytes.length)] = whole(256);
    return bytes;
  };
  const sound = (key: string) => {
    const bytes = new Uint8Array(24 + key.length);
    bytes.set([0x80, 0, 0, key.length], 0);
    bytes[11] = key.length;
    bytes.set(new TextEncoder().encode(key), 24);
    return bytes;
  };
  let denials = 0;
  for (let round = 0; round < rounds; round++) {
    await using relay = new L7Relay(server.port, RULES);
    const packets = Array.from(
      { length: 1 + whole(6) },
      () => random() < 0.5 ? sound(pick(["secret", "user:1"])) : packet(),
    );
    const sent = packets.map((bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).join(
      "",
    );
    const got = await readAll(relay.port, sent, () => 1 + whole(50));
    if (got.includes("access denied")) denials++;
    assert.ok(!got.includes(SECRET), `seed ${seed}, round ${round}`);
    const now = await exchange(server.port, "get secret\r\n", "END\r\n");
    assert.ok(now.includes(SECRET), `seed ${seed}, round ${round}: it was changed to ${now}`);
  }
  assert.ok(denials > rounds / 10, `${denials} of ${rounds} rounds had a denial`);
});

import assert from "node:assert/strict";
import { bytesOf, MemorySocket, SeenHost } from "../testing.ts";
import { Http1Connection } from "./connection.ts";
import { Llhttp } from "./llhttp.ts";
import { ALL_AMBIGUOUS as ALL, mutatedRequest, wholeNumbers } from "./mutated_requests.ts";

const LLHTTP = new Llhttp();

/** A server that is llhttp: it answers each request that it has read. */
class LlhttpServer extends MemorySocket {
  answered = 0;
  #refused = false;
  readonly #llhttp: Llhttp;
  constructor(llhttp: Llhttp) {
    super();
    this.#llhttp = llhttp;
  }
  seen() {
    return this.#llhttp.read(bytesOf(this.text));
  }
  /** It has read a part of a message, and nothing that is wrong. */
  get isWaiting(): boolean {
    const { error, open } = this.seen();
    return error === 0 && open;
  }
  override async write(bytes: Uint8Array): Promise<number> {
    const count = await super.write(bytes);
    const { messages, error, open } = this.seen();
    if (error !== 0) {
      this.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", null);
    } else {
      const complete = messages.length - (open ? 1 : 0);
      while (this.answered < complete) {
        this.answered++;
        this.send("HTTP/1.1 204 No Content\r\n\r\n");
      }
    }
    return count;
  }
}

/** A connection with that server behind it, to its end. */
async function run(text: string, pieceBytes: () => number) {
  const server = new LlhttpServer(LLHTTP), host = new SeenHost();
  host.connect = () => Promise.resolve(server);
  const client = new MemorySocket();
  const bytes = bytesOf(text);
  for (let at = 0; at < bytes.length;) {
    const next = at + pieceBytes();
    client.send(bytes.subarray(at, next));
    at = next;
  }
  client.send(null);
  const connection = new Http1Connection(client, host);
  const timer = setTimeout(() => connection.close(), 5000);
  const end = await connection.run();
  clearTimeout(timer);
  return { end, host, server, client };
}

Deno.test("There are at least 300 ambiguous requests", () => {
  assert.ok(ALL.length >= 300, `${ALL.length}`);
});

for (const pieceBytes of [1 << 20, 1, 7]) {
  Deno.test(`Http1Connection.run() judges what llhttp reads behind it, or refuses, in pieces of ${pieceBytes}`, async () => {
    const wrong: string[] = [];
    for (const [name, text, expected] of ALL) {
      const { end, host, server } = await run(text, () => text.length > 20_000 ? 1000 : pieceBytes);
      const fault = host.faults[0]?.error.code ?? "ok";
      if (fault !== expected) wrong.push(`${name}: ${fault} instead of ${expected}, ended with ${end}`);
      wrong.push(...differences(name, host, server));
      if (expected === "ok" && server.isWaiting) wrong.push(`${name}: llhttp waits for more`);
    }
    assert.deepEqual(wrong, []);
  });
}

/** Where what was judged is not what llhttp read: method, target, Host and all other fields. */
function differences(name: string, host: SeenHost, server: LlhttpServer): string[] {
  // Those that are sent to another path do not go on.
  const passed = host.judged.filter(({ target }) => target.redirect === undefined);
  // Fields of an upgrade that nobody would judge are left out.
  const judged = passed.map(({ method, target, fields, hasForeignUpgrade }) =>
    shown(method, target.path, hasForeignUpgrade ? [] : fields)
  );
  const { messages, error } = server.seen();
  // Of a message that llhttp refuses it may have read the beginning; one that is broken further on was judged by its head alone.
  const read = messages.slice(0, error === 0 ? undefined : -1).map(({ method, url, fields }, index) => {
    const { hasForeignUpgrade = false, fields: { length } = [] } = passed[index] ?? {};
    const path = url.replace(/^http:\/\/a\.example(?::(?:80)?)?/i, "");
    // What stands after the last chunk is no part of the head.
    return shown(
      method,
      path,
      hasForeignUpgrade
        ? []
        : fields.slice(0, length).map(({ name, value }) => ({ name, value: utf8(value) })),
    );
  });
  const isWhole = error === 0 && host.faults.length === 0;
  const meant = isWhole ? judged : judged.slice(0, read.length);
  return read.join() === meant.join() ? [] : [`${name}: judged ${judged}, llhttp read ${read}`];
}

const shown = (method: string, path: string, fields: readonly { name: string; value: string }[]) =>
  `${method} ${path} ${
    fields.map(({ name, value }) => `${name}=${value.replace(/^[ \t]+|[ \t]+$/g, "")}`).join("|")
  }`;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const utf8 = (text: string) => decoder.decode(bytesOf(text));

const CASES = 1500;

Deno.test("Http1Connection.run() judges what llhttp reads behind it, whatever is changed of a request", async () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 15), random = wholeNumbers(seed);
  for (let round = 0; round < CASES; round++) {
    const text = mutatedRequest(random);
    const { host, server, end } = await run(text, () => 1 + random(random(2) === 0 ? 4 : 400));
    const what = `seed ${seed}, round ${round}, ${JSON.stringify(text)}, ended with ${end}`;
    assert.deepEqual(differences(what, host, server), []);
    assert.equal(server.isWaiting && host.faults.length === 0 && end !== "client-closed", false, what);
  }
});

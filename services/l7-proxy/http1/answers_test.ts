import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import type { Socket } from "../socket.ts";
import { bytesOf, MemorySocket, SeenHost } from "../testing.ts";
import { Http1Connection } from "./connection.ts";
import { Llhttp } from "./llhttp.ts";

const METHODS = ["GET", "HEAD", "POST"];
const ANSWERS = [
  "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
  "HTTP/1.1 204 No Content\r\n\r\n",
  "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 404 Not Found\r\nContent-Length: 45\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: abcd\r\n\r\n",
  "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
  "HTTP/1.1 200 \r\nConnection: close\r\n\r\nto the end",
];
const WORDS = [
  ..."\r\n|\n|\r| |\0|:|0|5|f|,|;|chunked|\t|\u00e4|HTTP/1.1 200 OK\r\n|HTTP/1.1 204 x\r\n\r\n|100|101|199|304"
    .split("|"),
  ..."Content-Length: 0\r\n|Content-Length: 7\r\n|Transfer-Encoding: chunked\r\n|Connection: close\r\n|identity|HTTP/1.0"
    .split("|"),
];

/** A server that answers each request with what is next, and hangs up where more is waited for. */
class Answering implements Socket {
  #queue: Uint8Array[] = [];
  constructor(readonly answers: Uint8Array[][]) {}
  read(bytes: Uint8Array): Promise<number | null> {
    const piece = this.#queue.shift();
    if (piece === undefined) return Promise.resolve(null);
    bytes.set(piece);
    return Promise.resolve(piece.length);
  }
  write(bytes: Uint8Array): Promise<number> {
    this.#queue.push(...this.answers.shift() ?? []);
    return Promise.resolve(bytes.length);
  }
  closeWrite(): Promise<void> {
    return Promise.resolve();
  }
  close(): void {}
}

Deno.test("Http1Connection.run() passes on as many answers as llhttp reads of them, whatever is changed of an answer", async () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9), random = seededRandom(seed);
  const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 800), llhttp = new Llhttp();
  const whole = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const changed = (text: string) => {
    for (let changes = whole(3); changes > 0; changes--) {
      const at = whole(text.length + 1), gone = random() < 0.3 ? whole(5) : 0;
      text = text.slice(0, at) + (random() < 0.2 ? "" : pick(WORDS)) + text.slice(at + gone);
    }
    return bytesOf(text);
  };
  const pieces = (bytes: Uint8Array) => {
    const all: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      all.push(bytes.subarray(at, at += 1 + whole(random() < 0.5 ? 4 : 200)));
    }
    return all;
  };
  let answers = 0, faults = 0;
  for (let round = 0; round < rounds; round++) {
    const asked = Array.from({ length: 1 + whole(4) }, () => pick(METHODS));
    const client = new MemorySocket().send(
      ...asked.map((method) => `${method} / HTTP/1.1\r\nHost: a\r\n\r\n`),
      null,
    );
    const said = asked.map(() => changed(pick(ANSWERS))), host = new SeenHost();
    host.connect = () => Promise.resolve(new Answering(said.map(pieces)));
    const end = await new Http1Connection(client, host).run();
    const { messages, error, open } = llhttp.read(bytesOf(client.text), asked);
    const text = new TextDecoder("latin1");
    const what = `seed ${seed}, round ${round}, ended with ${end}: ${
      JSON.stringify(said.map((one) => text.decode(one)))
    } to ${asked}`;
    const read = messages.filter(({ status }) => status >= 200).map(({ status }) => status);
    const passed = host.answers.map(({ status }) => status);
    // The last one may have been given up when nothing of it was passed on, or not all.
    const isWhole = error === 0 && host.faults.length === 0;
    assert.deepEqual(read, isWhole ? passed : passed.slice(0, read.length), what);
    // (Where llhttp refuses more than we do, as in a chunk's extension, it reads nothing of what follows.)
    if (error === 0) assert.ok(passed.length <= read.length + 1, what);
    if (isWhole && open && end !== "server-closed") {
      const { fields } = messages.at(-1)!;
      assert.ok(!fields.some(({ name }) => /^(content-length|transfer-encoding)$/i.test(name)), what);
    }
    answers += read.length;
    faults += host.faults.length;
  }
  assert.ok(
    answers > rounds / 2 && faults > rounds / 10,
    `seed ${seed}: ${answers} answers, ${faults} faults`,
  );
});

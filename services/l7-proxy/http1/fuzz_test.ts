import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { bytesOf, MemorySocket, SeenHost } from "../testing.ts";
import { Http1Connection } from "./connection.ts";

const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 600);

const REQUESTS = [
  "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
  "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
  "POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
  "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
  "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
  "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
];
const ANSWERS = [
  "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
  "HTTP/1.1 204 No Content\r\n\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes",
  "HTTP/1.0 200 OK\r\n\r\nto the end",
];
const WORDS = [
  ..."\r\n|\n|\r| |\0|:|0|5|f|ffffffffffffffff|,|;|chunked".split("|"),
  ..."Content-Length: 7\r\n|Transfer-Encoding: chunked\r\n|Connection: close\r\n|HTTP/1.1 200 OK\r\n|HTTP/1.1 101 x\r\n"
    .split("|"),
];

Deno.test("Http1Connection.run() ends and never fails, whatever both sides send, and answers at most what was asked", async () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9), random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const pick = <T>(list: readonly T[]) => list[whole(list.length)];
  const changed = (text: string) => {
    for (let changes = random() < 0.5 ? 0 : whole(4); changes > 0; changes--) {
      const at = whole(text.length + 1), gone = random() < 0.4 ? whole(6) : 0;
      text = text.slice(0, at) + (random() < 0.2 ? String.fromCharCode(whole(256)) : pick(WORDS)) +
        text.slice(at + gone);
    }
    return text;
  };
  const pieces = (texts: string[]) => {
    const bytes = bytesOf(texts.join("")), all: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + whole(random() < 0.5 ? 5 : 300);
      all.push(bytes.subarray(at, end));
      at = end;
    }
    return all;
  };
  const several = (list: readonly string[]) =>
    Array.from({ length: 1 + whole(4) }, () => changed(pick(list)));
  let answered = 0, faults = 0;
  for (let round = 0; round < rounds; round++) {
    const what = `seed ${seed}, round ${round}`;
    const client = new MemorySocket().send(...pieces(several(REQUESTS)), null);
    const host = new SeenHost(({ target }) =>
      target.path === "/denied" ? { verdict: "denied" } : { verdict: "allowed", changes: [] }
    );
    const ending = random() < 0.8 ? null : new Deno.errors.ConnectionReset("reset");
    host.server.send(...pieces(several(ANSWERS)), ending);
    const connection = new Http1Connection(client, host);
    let late = false;
    // Both sides have said all they will: nothing is left to wait for.
    const timer = setTimeout(() => {
      late = true;
      connection.close();
    }, 20_000);
    try {
      await connection.run();
    } catch (error) {
      throw new Error(what, { cause: error });
    } finally {
      clearTimeout(timer);
    }
    assert.equal(late, false, `${what}: it hangs`);
    assert.ok(host.connects <= 1, what);
    const finals = host.answers.filter(({ status }) => status >= 200 || status === 101);
    assert.ok(
      finals.length <= host.judged.length,
      `${what}: ${finals.length} answers to ${host.judged.length}`,
    );
    answered += finals.length;
    faults += host.faults.length;
  }
  assert.ok(
    answered > rounds / 5 && faults > rounds / 10,
    `seed ${seed}: ${answered} answers, ${faults} faults`,
  );
});

import assert from "node:assert/strict";
import { bytesOf, converse, MemorySocket, SeenHost } from "../testing.ts";
import { Http1Connection } from "./connection.ts";

const GET = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const DENIED =
  "HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\ncontent-type: text/plain\r\n\r\nAccess denied\r\n";
const onlyPublic = ({ target }: { target: { path: string } }) =>
  target.path.startsWith("/public")
    ? { verdict: "allowed", changes: [] } as const
    : { verdict: "denied" } as const;

Deno.test("Http1Connection.run() passes on every byte of a request and its answer unchanged", async () => {
  const request = "PoST /public?a=%20b HTTP/1.1\r\nhOST:a\r\nX:  \t y z \r\nContent-Length: 3\r\n\r\nabc";
  const answer =
    "HTTP/1.1 200\r\nserver:x\r\nTRANSFER-ENCODING: chunked\r\n\r\n2;e=f\r\nok\r\n0\r\nA: b\r\n\r\n";
  const { end, client, host } = await converse([request, null], [answer]);
  assert.equal(host.server.text, request);
  assert.equal(client.text, answer);
  assert.equal(end, "client-closed");
  assert.deepEqual(host.answers.map(({ status, isLocal }) => [status, isLocal]), [[200, false]]);
});

Deno.test("Http1Connection.run() answers a denied request and goes on; answers keep their order", async () => {
  const client = new MemorySocket(), host = new SeenHost(onlyPublic);
  let requests = 0;
  const write = host.server.write.bind(host.server);
  host.server.write = (bytes) => {
    requests++;
    host.server.send(OK.replace("200 OK", `20${requests} x`));
    return write(bytes);
  };
  const denied = "POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
  const chunked =
    "POST /admin HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
  client.send(denied + GET + chunked + GET + denied, null);
  await new Http1Connection(client, host).run();
  const first = OK.replace("200 OK", "201 x"), second = OK.replace("200 OK", "202 x");
  assert.equal(client.text, DENIED + first + DENIED + second + DENIED);
  assert.equal(host.server.text, GET + GET);
});

Deno.test("Http1Connection.run() opens no connection to the server for what is denied", async () => {
  const { host, client } = await converse([GET, null], [], () => ({ verdict: "denied" }));
  assert.equal(host.connects, 0);
  assert.equal(client.text, DENIED);
});

Deno.test("Http1Connection.run() tells a client that the server cannot be reached", async () => {
  const client = new MemorySocket().send(GET, null), host = new SeenHost();
  host.connect = () => Promise.reject(new Error("Connection refused"));
  assert.equal(await new Http1Connection(client, host).run(), "server-refused");
  assert.match(
    client.text,
    /^HTTP\/1\.1 503 .*connection: close\r\n\r\nupstream connect error: Connection refused/s,
  );
});

Deno.test("Http1Connection.run() refuses a request that expects to be asked on, and ends", async () => {
  const request = "POST /admin HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
  const { end, client } = await converse([request, null], [], onlyPublic);
  assert.equal(end, "denied-before-body");
  assert.match(client.text, /^HTTP\/1\.1 403 Forbidden\r\n.*connection: close\r\n\r\nAccess denied\r\n$/s);
  assert.equal(client.closed, true);
});

Deno.test("Http1Connection.run() passes on answers of the form 1xx, and the body that they ask for", async () => {
  const head = "POST /public HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
  const client = new MemorySocket().send(head), host = new SeenHost();
  host.server.send("HTTP/1.1 100 Continue\r\n\r\n");
  const write = client.write.bind(client);
  client.write = (bytes) => {
    if (client.written.length === 0) client.send("abc");
    return write(bytes);
  };
  const serverWrite = host.server.write.bind(host.server);
  host.server.write = (bytes) => {
    if (bytes.length === 3) {
      host.server.send(OK);
      client.send(null);
    }
    return serverWrite(bytes);
  };
  await new Http1Connection(client, host).run();
  assert.equal(client.text, `HTTP/1.1 100 Continue\r\n\r\n${OK}`);
  assert.equal(host.server.text, `${head}abc`);
});

Deno.test("Http1Connection.run() takes no body for the answers that have none", async () => {
  for (
    const [method, answer] of [
      ["HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"],
      ["HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
      ["GET", "HTTP/1.1 204 No Content\r\n\r\n"],
      ["GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"],
    ]
  ) {
    const request = GET.replace("GET", method);
    const { end, client } = await converse([request, null], [answer]);
    assert.equal(client.text, answer);
    assert.equal(end, "client-closed");
  }
});

Deno.test("Http1Connection.run() reads a body until the server hangs up where nothing else ends it", async () => {
  const { end, client } = await converse([GET, null], ["HTTP/1.1 200 OK\r\n\r\nabc", "def", null]);
  assert.equal(client.text, "HTTP/1.1 200 OK\r\n\r\nabcdef");
  assert.equal(end, "closed-by-answer");
  assert.equal(client.closedWrite, true);
});

Deno.test("Http1Connection.run() judges a WebSocket's request, then passes on both directions until their ends", async () => {
  const request =
    "GET /public HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
  const answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
  const { end, client, host } = await converse([`${request}\x81\x01a`, null], [
    `${answer}\x81\x01b`,
    "\x00GET",
    null,
  ]);
  assert.equal(end, "spliced");
  assert.equal(host.server.text, `${request}\x81\x01a`.replace("\x81", "\u00c2\u0081"));
  assert.equal(client.text.startsWith(answer), true);
  assert.equal(client.text.endsWith("\x00GET"), true);
  assert.equal(host.server.closedWrite && client.closedWrite, true);
  const denied = await converse([request, null], [], () => ({ verdict: "denied" }));
  assert.equal(denied.client.text, DENIED);
});

Deno.test("Http1Connection.run() passes on no upgrade to a protocol that nobody would judge", async () => {
  const request =
    "GET /public HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, X\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX: y\r\n\r\n";
  const { host } = await converse([request, null], [OK]);
  assert.equal(host.server.text, "GET /public HTTP/1.1\r\nHost: a\r\nConnection: x\r\nX: y\r\n\r\n");
  const forced = await converse([GET, null], ["HTTP/1.1 101 Switching Protocols\r\n\r\n"]);
  assert.equal(forced.end, "unasked-upgrade");
});

Deno.test("Http1Connection.run() ends with a server that answers what is no answer, or too much", async () => {
  for (
    const [expected, ...answers] of [
      ["bad-status-line", "HTTP/1.1 2000 OK\r\n\r\n"],
      ["bad-status-line", "ICY 200 OK\r\n\r\n"],
      ["bad-line-end", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"],
      ["length-and-coding", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"],
      ["bad-length", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"],
      ["bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"],
      ["early-end", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", null],
      ["early-end", "HTTP/1.1 200 OK\r\nConte", null],
      ["unasked-answer", OK + OK],
      ["answer-too-many", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(18)],
      ["head-too-long", `HTTP/1.1 200 OK\r\nX: ${"y".repeat(70_000)}\r\n\r\n`],
      ["server-closed", null],
    ] as [string, ...(string | null)[]][]
  ) {
    const { end, client, host } = await converse([GET], answers);
    assert.equal(end, expected);
    assert.equal(client.closed && host.server.closed, true);
    if (expected !== "server-closed") assert.deepEqual(host.faults.map(({ side }) => side), ["server"]);
  }
});

Deno.test("Http1Connection.run() closes when the server hangs up between two requests, or speaks unasked", async () => {
  const closed = await converse([GET], [OK, null]);
  assert.equal(closed.end, "server-closed");
  const spoken = await converse([GET], [OK, "HTTP/1.1 408 Request Timeout\r\n\r\n"]);
  assert.equal(spoken.end, "unasked-answer");
  assert.equal(spoken.client.text, OK);
});

Deno.test("Http1Connection.run() passes on the plain form of a path, and sends who hides a slash to the plain one", async () => {
  const plain = await converse([GET.replace("/public", "/a/../public//x?y=//..")], [OK, null]);
  assert.equal(plain.host.server.text, GET.replace("/public", "/public/x?y=//.."));
  assert.equal(plain.host.judged[0].target.path, "/public/x?y=//..");
  const hidden = await converse([GET.replace("/public", "/a%2fb%5Cc?d=%2f"), null]);
  assert.match(hidden.client.text, /^HTTP\/1\.1 307 .*\r\nlocation: \/a\/b\/c\?d=%2f\r\n/s);
  assert.equal(hidden.host.connects, 0);
});

Deno.test("Http1Connection.run() changes the fields that rules change, and no others", async () => {
  const request = "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\nx-C: 4\r\n\r\n";
  const { host } = await converse([request, null], [OK], () => ({
    verdict: "allowed",
    changes: [
      { action: "REPLACE", name: "X-A", value: "new" },
      { action: "DELETE", name: "x-b", value: "" },
      { action: "ADD", name: "X-C", value: "more" },
      { action: "ADD", name: "X-D", value: "a\r\nX-E: injected" },
    ],
  }));
  assert.equal(host.server.text, "GET / HTTP/1.1\r\nHost: a\r\nx-C: 4\r\nX-A: new\r\nX-C: more\r\n\r\n");
});

Deno.test("Http1Connection.run() refuses other protocols in their own words", async () => {
  const http2 = await converse(["PRI * HT", "TP/2.0\r\n\r\nSM\r\n\r\n", null]);
  assert.equal(http2.end, "http2");
  // GOAWAY (7) with HTTP_1_1_REQUIRED (13), behind empty SETTINGS (4).
  assert.equal(http2.client.text, "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d");
  const tls = await converse([bytesOf("\x16"), bytesOf("\x03\x01\x02\x00\x01"), null]);
  assert.equal(tls.end, "tls");
  assert.equal(tls.client.text, "\x15\x03\x01\0\x02\x02\x31");
  const ssh = await converse(["\0\0\0\x2c", null]);
  assert.deepEqual([ssh.end, ssh.client.text], ["not-http", ""]);
});

Deno.test("Http1Connection.run() ends both sides when one resets", async () => {
  const client = await converse([GET, new Deno.errors.ConnectionReset("reset")], []);
  assert.equal(client.end, "reset");
  assert.equal(client.host.server.closed, true);
  const server = await converse([GET], [new Deno.errors.ConnectionReset("reset")]);
  assert.equal(server.end, "reset");
  assert.equal(server.client.closed, true);
});

Deno.test("Http1Connection.run() holds no body: 8 MiB pass through both ways", async () => {
  const piece = bytesOf("x".repeat(100_000)), count = 84;
  const head = `POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: ${piece.length * count}\r\n\r\n`;
  const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${piece.length * count}\r\n\r\n`;
  const pieces = Array.from({ length: count }, () => piece);
  const { end, client, host } = await converse([head, ...pieces, null], [answer, ...pieces]);
  assert.equal(end, "client-closed");
  const bytes = (socket: MemorySocket) => socket.written.reduce((sum, { length }) => sum + length, 0);
  assert.equal(bytes(host.server), head.length + piece.length * count);
  assert.equal(bytes(client), answer.length + piece.length * count);
  assert.ok(Math.max(...client.written.map(({ length }) => length)) <= 64 * 1024);
});

Deno.test("Http1Connection.run() reads no further than one buffer while the server is slow", async () => {
  const client = new MemorySocket(), host = new SeenHost();
  let read = 0;
  client.read = (bytes) => {
    bytes.fill(0x61);
    const head = bytesOf(read === 0 ? GET : "");
    bytes.set(head);
    read += bytes.length;
    return Promise.resolve(bytes.length);
  };
  const connection = new Http1Connection(client, host), running = connection.run();
  await new Promise((resolve) => setTimeout(resolve, 20));
  connection.close();
  await running;
  assert.ok(read <= 128 * 1024, `${read}`);
});

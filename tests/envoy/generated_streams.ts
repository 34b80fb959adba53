/** Requests of HTTP/2, legal and not, and the many ways in which their frames may be written. Characters are bytes. @module */
import { FLAG, FRAME, PREFACE } from "../../services/l7-proxy/http2/frame.ts";
import { frame, type Pair, settings, TestPeer, uint32 } from "../../services/l7-proxy/http2/testing.ts";
import { bytesOf, MemorySocket } from "../../services/l7-proxy/testing.ts";
import { type Dice, FIELDS, HOSTS } from "./generated_requests.ts";

/** How often a request is one that no reader should take. */
const HOSTILE_PERCENT = 35;

/** What makes a request hostile, or odd: its fields instead of those that it had. */
type Change = (fields: Pair[]) => Pair[];

const set = (name: string, value: string): Change => (fields) =>
  fields.map((pair) => pair[0] === name ? [name, value] : pair);
const add = (name: string, value: string): Change => (fields) => [...fields, [name, value]];
const first = (name: string, value: string): Change => (fields) => [[name, value], ...fields];
const without = (name: string): Change => (fields) => fields.filter((pair) => pair[0] !== name);
const behind = (name: string): Change => (fields) => [
  ...without(name)(fields),
  ["x-between", "1"],
  ...fields.filter((pair) => pair[0] === name),
];
const PSEUDO = [":method", ":scheme", ":path", ":authority"];

/** One of them for each way to be something else than one plain request. */
export const CHANGES: readonly (readonly [name: string, change: Change])[] = [
  ...PSEUDO.flatMap((name) =>
    [
      [`no ${name}`, without(name)],
      [`${name} empty`, set(name, "")],
      [`${name} twice`, first(name, "/admin")],
      [`${name} twice, equal`, (fields: Pair[]) => [fields.find((pair) => pair[0] === name)!, ...fields]],
      [`${name} behind a field`, behind(name)],
      [`${name} with a blank`, set(name, "a b")],
      [`${name} with a line`, set(name, "/a\r\nx: y")],
      [`${name} with NUL`, set(name, "/a\0b")],
    ] as [string, Change][]
  ),
  ...["GET /admin HTTP/1.1", "get", "G:T", "CONNECT", "PRI", "M".repeat(33), "M-SEARCH"].map(
    (value): [string, Change] => [`:method ${value}`, set(":method", value)],
  ),
  ...["https", "HTTP", "ftp", "http://a.example/admin?", "ht tp"].map(
    (value): [string, Change] => [`:scheme ${value}`, set(":scheme", value)],
  ),
  ...[
    ..."admin|http://b.example/admin|//b.example/admin|/a#b|/\u00c3\u00a4|/\x7f|/a\tb|/a\\b|/../admin|/%2e%2e/admin"
      .split("|"),
    ..."/a%2fb|/a%5cb|/a%00|/.;/b|/..;/b|/a//b|/?|/a?b=/../c|/ HTTP/1.1|?a".split("|"),
  ].map((value): [string, Change] => [`:path ${value}`, set(":path", value)]),
  [":path *", (fields) => set(":method", "OPTIONS")(set(":path", "*")(fields))],
  ...[
    "u@a.example",
    "a.example, b.example",
    "a.example/admin",
    "a.example:80:80",
    "A.EXAMPLE",
    "[::1",
    "a#b",
    ":80",
  ]
    .map((value): [string, Change] => [`:authority ${value}`, set(":authority", value)]),
  ["host alone", (fields) => add("host", "b.example")(without(":authority")(fields))],
  ["host the same", (fields) => add("host", fields.find(([name]) => name === ":authority")![1])(fields)],
  ["host another", add("host", "b.example")],
  [
    "host twice",
    (fields) => add("host", "a.example")(add("host", "a.example")(without(":authority")(fields))),
  ],
  [":protocol", add(":protocol", "websocket")],
  [":protocol first", first(":protocol", "websocket")],
  ["extended CONNECT", (fields) => first(":protocol", "websocket")(set(":method", "CONNECT")(fields))],
  [":status", first(":status", "200")],
  [":unknown", first(":unknown", "x")],
  ...[
    ["connection", "close"],
    ["connection", "x-a"],
    ["keep-alive", "timeout=5"],
    ["proxy-connection", "close"],
    ["transfer-encoding", "chunked"],
    ["transfer-encoding", "identity"],
    ["upgrade", "h2c"],
    ["http2-settings", "AAMA"],
    ["te", "trailers"],
    ["te", "gzip"],
    ["te", "trailers, gzip"],
    ["X-Upper", "a"],
    ["x-uppeR", "a"],
    ["x a", "b"],
    ["x:a", "b"],
    ["x-a\r\nb", "c"],
    ["x-a\0", "c"],
    ["", "empty"],
    [":", "colon"],
    ["x-\u00e4", "byte"],
    ["x(a)", "no token"],
    ["content_length", "5"],
    ["transfer_encoding", "chunked"],
    ["x-a", "b\r\nhost: b.example"],
    ["x-a", "b\nc"],
    ["x-a", "b\rc"],
    ["x-a", "b\0c"],
    ["x-a", " b"],
    ["x-a", "b\t"],
    ["x-a", "b\x7f"],
    ["x-a", "\x01"],
    ["x-a", "b\tc"],
    ["x-a", "\u00ff\u00fe"],
    ["x-a", ""],
    ["content-length", "5"],
    ["content-length", "+0"],
    ["content-length", "0x0"],
    ["content-length", ""],
    ["content-length", "00"],
    ["content-length", "18446744073709551616"],
    ["expect", "100-continue"],
    ["trailer", "x-sum"],
    ["cookie", "a=b"],
    ["cookie", "a=b; c=d"],
  ].map(([name, value]): [string, Change] => [`field ${JSON.stringify([name, value])}`, add(name, value)]),
  ["content-length twice", (fields) => add("content-length", "0")(add("content-length", "0")(fields))],
  ["content-length twice, other", (fields) => add("content-length", "0")(add("content-length", "9")(fields))],
  ["a field of 20 KB", add("x-long", "y".repeat(20_000))],
  ["101 fields", (fields) => [...fields, ...Array.from({ length: 97 }, (_, at): Pair => [`x-${at}`, "y"])]],
];

/** A client's connection: the bytes of its requests, frame by frame. The path of each begins with its number where nothing changes it. */
export class GeneratedStreams {
  readonly #peer = new TestPeer(new MemorySocket(), false);
  readonly #dice: Dice;
  #next = 1;
  readonly frames: Uint8Array[] = [settings()];

  constructor(dice: Dice) {
    this.#dice = dice;
  }

  /** The preface and all frames. */
  get bytes(): Uint8Array {
    return new Uint8Array([...PREFACE, ...this.frames.flatMap((one) => [...one])]);
  }

  /** One more request; by chance a hostile one. @param change what it shall be instead of what chance makes it */
  add(change?: Change): void {
    const dice = this.#dice, id = this.#next;
    this.#next += 2;
    const pick = <T>(list: readonly T[]) => list[dice(list.length)];
    let fields: Pair[] = [
      [":method", pick(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"])],
      [":scheme", pick(["http", "http", "https"])],
      [
        ":path",
        `/${id}/${
          pick(["", "a?b=c", "%41", "a;b/c", '"<>', "a//b", "..", "./x", "a b".replace(" ", "%20")])
        }`,
      ],
      [":authority", pick(HOSTS)],
    ];
    for (let count = dice(5); count > 0; count--) {
      const [name, value] = pick(FIELDS);
      fields.push([name.toLowerCase(), value]);
    }
    if (change !== undefined) fields = change(fields);
    else if (dice(100) < HOSTILE_PERCENT) fields = pick(CHANGES)[1](fields);
    const body = dice(2) === 0 ? 0 : dice(3000), hasTrailer = dice(5) === 0;
    if (dice(4) === 0) fields.push(["content-length", `${body}`]);
    this.#headers(id, fields, body === 0 && !hasTrailer);
    for (let left = body; left > 0;) {
      const size = Math.min(left, 1 + dice(1200));
      left -= size;
      this.#data(id, size, left === 0 && !hasTrailer);
    }
    if (hasTrailer) this.#headers(id, pick(TRAILERS), true);
    if (dice(10) === 0) this.frames.push(frame(FRAME.PING, 0, 0, "12345678"));
    if (dice(10) === 0) this.frames.push(frame(FRAME.PRIORITY, 0, id, new Uint8Array([...uint32(0), 15])));
    if (dice(20) === 0) this.frames.push(frame(11 + dice(200), dice(256), id * dice(2), "unknown"));
  }

  #data(id: number, size: number, isLast: boolean): void {
    const end = isLast ? FLAG.END_STREAM : 0, padding = this.#dice(4) === 0 ? this.#dice(50) : undefined;
    const bytes = new Uint8Array(size).fill(120);
    if (padding === undefined) return void this.frames.push(frame(FRAME.DATA, end, id, bytes));
    const padded = new Uint8Array([padding, ...bytes, ...new Uint8Array(padding)]);
    this.frames.push(frame(FRAME.DATA, end | FLAG.PADDED, id, padded));
  }

  /** HEADERS with what continues them, padded, weighed and cut by chance. */
  #headers(id: number, fields: readonly Pair[], endStream: boolean): void {
    const dice = this.#dice;
    const block = dice(3) === 0 ? literals(fields, dice) : this.#peer.block(fields);
    let flags = endStream ? FLAG.END_STREAM : 0;
    const cuts = dice(3) === 0 ? 1 + dice(3) : Math.floor(block.length / 16_000);
    const parts: Uint8Array[] = [];
    for (let at = 0, part = 0; part <= cuts; part++) {
      const size = part === cuts
        ? block.length - at
        : Math.min(block.length - at, cuts > 3 ? 16_000 : dice(16_000));
      parts.push(block.subarray(at, at + Math.min(size, 16_000)));
      at += Math.min(size, 16_000);
    }
    let [payload] = parts;
    if (dice(4) === 0) {
      flags |= FLAG.PRIORITY;
      payload = new Uint8Array([...uint32(0), dice(256), ...payload]);
    }
    if (dice(4) === 0) {
      const padding = dice(40);
      flags |= FLAG.PADDED;
      payload = new Uint8Array([padding, ...payload, ...new Uint8Array(padding)]);
    }
    const last = parts.length - 1;
    this.frames.push(frame(FRAME.HEADERS, flags | (last === 0 ? FLAG.END_HEADERS : 0), id, payload));
    for (let at = 1; at <= last; at++) {
      this.frames.push(frame(FRAME.CONTINUATION, at === last ? FLAG.END_HEADERS : 0, id, parts[at]));
    }
  }
}

const TRAILERS: readonly Pair[][] = [
  [["x-sum", "1"]],
  [["x-sum", "1"], ["grpc-status", "0"]],
  [["content-length", "5"]],
  [["host", "b.example"]],
  [[":path", "/admin"]],
  [["connection", "close"]],
  [["X-Upper", "a"]],
];

/** Fields without any table, in plain text: not kept, or never to be kept (RFC 7541, 6.2.2 and 6.2.3). */
function literals(fields: readonly Pair[], dice: Dice): Uint8Array {
  return new Uint8Array(
    fields.flatMap(([name, value]) => [dice(2) === 0 ? 0x00 : 0x10, ...plain(name), ...plain(value)]),
  );
}

function plain(text: string): number[] {
  const bytes = bytesOf(text), head = [];
  if (bytes.length < 127) head.push(bytes.length);
  else {
    head.push(127);
    let rest = bytes.length - 127;
    for (; rest > 127; rest >>= 7) head.push(128 | rest & 127);
    head.push(rest);
  }
  return [...head, ...bytes];
}

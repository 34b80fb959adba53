import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import hpack from "hpack.js";
import { HeaderField } from "./header_field.ts";
import { HpackDecoder } from "./hpack_decoder.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import type { Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";

const SEED = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 7541);

/** Numbers from 0 to 1 that a seed repeats. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const hex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

Deno.test("HpackDecoder.decode() reads what another encoder wrote, over one connection with a table that turns over", () => {
  const random = randomOf(SEED), decoder = new HpackDecoder();
  const other = hpack.compressor.create({ table: { maxSize: HTTP2_LIMITS.headerTable } });
  const names = [":path", ":status", "cookie", "user-agent", "x-a", "x-trace-id", "grpc-timeout", "date"];
  const pool = Array.from({ length: 300 }, () => ({
    name: names[Math.floor(random() * names.length)],
    value: Array.from(
      { length: Math.floor(random() ** 3 * 400) },
      () => String.fromCharCode(32 + Math.floor(random() * 95)),
    ).join(""),
  }));
  for (let list = 0; list < 600; list++) {
    const fields = Array.from(
      { length: 1 + Math.floor(random() * 12) },
      () => pool[Math.floor(random() * 300)],
    );
    other.write(fields.map((field) => ({ ...field, huffman: random() < 0.7, incremental: random() < 0.6 })));
    const parts: Buffer[] = [];
    for (let part; (part = other.read()) !== null;) parts.push(part);
    const read = decoder.decode(new Uint8Array(Buffer.concat(parts)));
    assert.deepEqual(
      read.fields.map(({ name, value }) => ({ name, value })),
      fields,
      `list ${list} of WEIR_FUZZ_SEED=${SEED}`,
    );
    assert.ok(decoder.tableBytes <= HTTP2_LIMITS.headerTable);
  }
});

Deno.test("HpackEncoder.encode() writes what another decoder reads, also fields that were kept", () => {
  const random = randomOf(SEED + 1), encoder = new HpackEncoder();
  const other = hpack.decompressor.create({ table: { maxSize: HTTP2_LIMITS.headerTable } });
  const pool = Array.from({ length: 60 }, (_, at) =>
    new HeaderField(
      [":method", ":path", "content-type", "x-long", "authorization"][at % 5],
      at === 0 ? "GET" : "v".repeat(Math.floor(random() ** 4 * 40_000)),
      at % 7 === 0,
      at % 2 === 0,
    ));
  for (let list = 0; list < 200; list++) {
    const fields = Array.from(
      { length: 1 + Math.floor(random() * 6) },
      () => pool[Math.floor(random() * 60)],
    );
    other.write(Buffer.from(encoder.encode(fields)));
    other.execute();
    for (const { name, value, isSensitive } of fields) {
      const read = other.read();
      assert.deepEqual([read.name, read.value], [name, value]);
      assert.equal(read.neverIndex, isSensitive);
    }
    assert.equal(other.read(), null);
  }
});

Deno.test("HpackDecoder.decode() reads the examples of RFC 7541, appendix C", () => {
  const read = (decoder: HpackDecoder, block: string) =>
    decoder.decode(hex(block)).fields.map(({ name, value }) => `${name}: ${value}`);
  for (
    const blocks of [
      [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
      ],
      [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      ],
    ]
  ) {
    const decoder = new HpackDecoder();
    const common = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
    assert.deepEqual(read(decoder, blocks[0]), common);
    assert.equal(decoder.tableBytes, 57);
    assert.deepEqual(read(decoder, blocks[1]), [...common, "cache-control: no-cache"]);
    assert.deepEqual(read(decoder, blocks[2]), [
      ":method: GET",
      ":scheme: https",
      ":path: /index.html",
      ":authority: www.example.com",
      "custom-key: custom-value",
    ]);
    assert.equal(decoder.tableBytes, 164);
  }
});

Deno.test("HpackDecoder.decode() refuses what is no HPACK", () => {
  const cases: [what: string, block: string][] = [
    ["index 0", "80"],
    ["an index beyond the table", "be"],
    ["a table that is too large", "3fe21f"],
    ["a size behind a field", "8220"],
    ["the end inside a number", "ff"],
    ["the end inside a long number", "ffffff"],
    ["a number that is too large", "ffffffffffffff7f"],
    ["a number that never ends", "ff8080808080808080808080808000"],
    ["the end in front of a name", "40"],
    ["the end inside a name", "4005616263"],
    ["the end in front of a value", "400161"],
    ["eight bits behind a Huffman string", "40016182" + "1fff"],
    ["zeros behind a Huffman string", "40016181" + "18"],
    ["the end of the string inside it", "40016184" + "ffffffff"],
  ];
  for (const [what, block] of cases) {
    assert.throws(() => new HpackDecoder().decode(hex(block)), (error: Http2Error) => {
      assert.equal(error.code, "bad-compression", what);
      return true;
    }, what);
  }
});

Deno.test("HpackDecoder.decode() makes no more of a block than the limits allow, and keeps its table right", () => {
  const decoder = new HpackDecoder(), value = "v".repeat(4000);
  const kept = [0x40, 1, 97, 0x7f, 0xa1, 0x1e, ...new TextEncoder().encode(value)];
  assert.equal(decoder.decode(Uint8Array.from(kept)).fields[0].value, value);
  // 60,000 times the same field, in 60,000 bytes.
  const bomb = decoder.decode(new Uint8Array(60_000).fill(0xbe));
  assert.equal(bomb.isTooLarge, true);
  assert.ok(bomb.fields.length <= 16);
  // Behind what was too large the table is still the other side's.
  const many = decoder.decode(Uint8Array.from([...new Array(101).fill(0x82), 0x40, 1, 98, 1, 99]));
  assert.equal(many.isTooLarge, true);
  assert.deepEqual(decoder.decode(Uint8Array.of(0xbe)).fields.map(({ name, value }) => [name, value]), [[
    "b",
    "c",
  ]]);
});

import assert from "node:assert/strict";
import { Btf, ElfFile } from "@weir/object";
import * as layouts from "./gen/layouts.ts";
import { ENDPOINTS_MAX } from "./gen/numbers.ts";
import type { StructCodec } from "./codec.ts";

/** Sizes that `abi.h` asserts: a generator that misreads BTF shows here. */
const sizes: Record<string, number> = {
  Config: 160,
  State: 8,
  Endpoint: 64,
  AddressOwner: 8,
  EndpointCounters: 48,
  IpcachePrefix: 20,
  IpcacheEntry: 24,
  PolicyKey: 8,
  PolicyEntry: 12,
  PolicyDirection: 44,
  PolicySlot: 88,
  CtKey: 40,
  CtEnd: 16,
  CtEntry: 168,
  Handle: 128,
  Event: 192,
  GcRequest: 56,
};

for (const [name, bytes] of Object.entries(sizes)) {
  Deno.test(`${name}.encode() writes what decode() read, byte for byte but for padding`, () => {
    const codec = (layouts as unknown as Record<string, StructCodec<unknown>>)[name];
    assert.equal(codec.bytes, bytes);
    const noise = Uint8Array.from({ length: bytes }, (_, i) => (i * 37 + 11) & 255);
    const once = codec.encode(codec.decode(noise));
    assert.equal(once.length, bytes);
    assert.deepEqual(codec.encode(codec.decode(once)), once);
    // Decoding at an offset of a larger buffer reads the same.
    const shifted = new Uint8Array(bytes + 3);
    shifted.set(once, 3);
    assert.deepEqual(codec.decode(shifted, 3), codec.decode(once));
  });
}

Deno.test("CtKey keeps its ports in network order", () => {
  const key = {
    lo: new Uint8Array(16),
    hi: new Uint8Array(16),
    portLoBe: 80,
    portHiBe: 0x1234,
    protocol: 6,
    scope: 0,
  };
  const bytes = layouts.CtKey.encode(key);
  assert.deepEqual([...bytes.subarray(32, 37)], [0, 80, 0x12, 0x34, 6]);
});

Deno.test("put() refuses bytes of another size", () => {
  assert.throws(
    () => layouts.IpcachePrefix.encode({ prefixlen: 96, address: new Uint8Array(4) }),
    RangeError,
  );
});

Deno.test("The built programs have the layouts that the codecs were made from", async () => {
  const object = await Deno.readFile(new URL("../../.build/bpf/weir.o", import.meta.url)).catch(() =>
    undefined
  );
  if (object === undefined) return console.log("SKIP: .build/bpf/weir.o is not built");
  const btf = Btf.parse(ElfFile.parse(object).section(".BTF")!.data);
  let compared = 0;
  for (const [name, bytes] of Object.entries(sizes)) {
    const struct = btf.find(name.replace(/[A-Z]/g, (l, at) => (at ? "_" : "") + l.toLowerCase()), "struct");
    if (struct === undefined) continue;
    assert.equal(struct.kind === "struct" && struct.size, bytes, name);
    compared++;
  }
  assert.ok(compared > 8);
});

Deno.test("numbers.ts has the limits of abi.h", () => assert.equal(ENDPOINTS_MAX, 4096));

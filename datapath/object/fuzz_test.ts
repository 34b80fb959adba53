import { clang, compile } from "./compile_fixture.ts";
import { btf, btfHead, concat, elf, pack, strings } from "./elf_fixture.ts";
import { ObjectError } from "./error.ts";
import { BpfObject } from "./object.ts";
import { requestOf } from "./verify_request.ts";

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** Numbers that break arithmetic. */
const ABSURD = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8];

function mutate(original: Uint8Array, random: (limit: number) => number): Uint8Array {
  if (random(8) === 0) return original.slice(0, random(original.length));
  const data = original.slice();
  const view = new DataView(data.buffer);
  for (let n = 1 + random(8); n > 0; n--) {
    // Headers and tables are at the start and the end; they are hit more often than code.
    const area = random(3);
    const at = area === 0
      ? random(64)
      : area === 1
      ? data.length - 4 - random(Math.min(data.length - 4, 2048))
      : random(data.length - 4);
    if (random(2) === 0) data[at] ^= 1 << random(8);
    else view.setUint32(at, ABSURD[random(ABSURD.length)], true);
  }
  return data;
}

function handMade(): Uint8Array {
  const names = strings(["int", "m", ".maps", "type", "f"]);
  const types = concat(
    concat(btfHead(names.offset("int"), 1, 0, 4), pack([4, 0x20])),
    concat(btfHead(0, 3, 0, 0), pack([4, 1], [4, 1], [4, 2])),
    btfHead(0, 2, 0, 2),
    concat(btfHead(0, 4, 1, 8), pack([4, names.offset("type")], [4, 3], [4, 0])),
    concat(btfHead(names.offset("m"), 14, 0, 4), pack([4, 1])),
    concat(btfHead(names.offset(".maps"), 15, 1, 8), pack([4, 5], [4, 0], [4, 8])),
  );
  return elf([
    {
      name: "xdp",
      type: 1,
      flags: 6,
      data: concat(pack([4, 0x118], [4, 0], [4, 0], [4, 0]), pack([8, 0x95])),
    },
    { name: ".relxdp", type: 9, link: 5, info: 1, entrySize: 16, data: pack([8, 0], [4, 1], [4, 2]) },
    { name: ".maps", type: 1, flags: 3, data: new Uint8Array(8) },
    { name: ".BTF", type: 1, data: btf(types, names.data) },
  ], [
    { name: "prog", info: 0x12, section: 1, size: 24 },
    { name: "m", info: 0x11, section: 3, size: 8 },
  ]);
}

/** Reads and assembles everything; only an ObjectError may come out. */
function readAll(data: Uint8Array): void {
  const accept = (error: unknown): void => {
    if (!(error instanceof ObjectError)) throw error;
  };
  try {
    const object = BpfObject.parse(data);
    for (const program of object.programs) {
      try {
        const { source } = requestOf(object, program);
        for (let index = 0; index < Math.min(64, source.instructionCount); index++) source.lineAt(index);
      } catch (error) {
        accept(error);
      }
    }
  } catch (error) {
    accept(error);
  }
}

Deno.test("BpfObject answers damaged objects with typed errors, never a crash or a hang", () => {
  const corpus = [handMade()];
  if (!clang.missing) corpus.push(compile(new URL("./testdata/kitchen.c", import.meta.url)));
  const first = Number(Deno.env.get("WEIR_SEED") ?? 1);
  const seconds = Number(Deno.env.get("WEIR_FUZZ_SECONDS") ?? "2");
  const end = performance.now() + seconds * 1000;
  for (let seed = first; performance.now() < end; seed = (seed + 1) >>> 0) {
    const random = randomOf(seed);
    const data = mutate(corpus[random(corpus.length)], random);
    const started = performance.now();
    try {
      readAll(data);
    } catch (error) {
      throw new Error(`Failing seed: WEIR_SEED=${seed}`, { cause: error });
    }
    if (performance.now() - started > 5000) throw new Error(`Too slow: WEIR_SEED=${seed}`);
  }
});

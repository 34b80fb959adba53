import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { buildVerifier } from "./build.ts";
import { verifierWasmUrl } from "./module.ts";

/* The number domain against brute force: sets of 64-bit numbers are abstracted, operated on, and every concrete
 * result must lie in the abstract one. */

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));
const instance = new WebAssembly.Instance(module, {}).exports as unknown as {
  memory: WebAssembly.Memory;
  probeAlloc(): number;
  probeAlu(p: number, op: number, is32: boolean, signed: boolean): void;
  probeRefine(p: number, op: number, is32: boolean): number;
  probeSync(p: number): number;
};
const P = instance.probeAlloc(), BYTES = 96, NUMBERS = 24;
const view = new DataView(instance.memory.buffer);
const U = (v: bigint) => BigInt.asUintN(64, v), S = (v: bigint) => BigInt.asIntN(64, v);
const U32 = (v: bigint) => Number(BigInt.asUintN(32, v)), S32 = (v: bigint) => Number(BigInt.asIntN(32, v));

let seed = 20260101;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const EDGES = [
  0n,
  1n,
  2n,
  7n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0xffffffff80000000n,
  0xfffffffffffffff8n,
  0xffffffffffffffffn,
]; // deno-fmt-ignore
function member(): bigint {
  const kind = random() % 4;
  if (kind === 0) return EDGES[random() % EDGES.length];
  if (kind === 1) return U(EDGES[random() % EDGES.length] + BigInt(random() % 16) - 8n);
  if (kind === 2) return BigInt(random() % 64);
  return (BigInt(random()) << 32n) | BigInt(random());
}
function members(): bigint[] {
  const first = member();
  return Array.from({ length: 1 + random() % 5 }, (_, n) => {
    if (n === 0) return first;
    return random() % 2 ? U(first + BigInt(random() % 32)) : member();
  });
}

/** Writes the best abstraction of the numbers. */
function abstract(slot: number, values: bigint[]): void {
  const at = P + slot * BYTES;
  new Uint8Array(instance.memory.buffer, at, BYTES).fill(0);
  view.setUint8(at, 1);
  let unknown = 0n;
  for (const v of values) unknown |= v ^ values[0];
  const by = <T>(f: (v: bigint) => T, less: (a: T, b: T) => boolean) =>
    values.map(f).reduce((a, b) => less(b, a) ? b : a);
  const q = at + NUMBERS;
  view.setBigUint64(q, values[0] & ~unknown, true);
  view.setBigUint64(q + 8, unknown, true);
  view.setBigInt64(q + 16, by(S, (a, b) => a < b), true);
  view.setBigInt64(q + 24, by(S, (a, b) => a > b), true);
  view.setBigUint64(q + 32, by(U, (a, b) => a < b), true);
  view.setBigUint64(q + 40, by(U, (a, b) => a > b), true);
  view.setInt32(q + 48, by(S32, (a, b) => a < b), true);
  view.setInt32(q + 52, by(S32, (a, b) => a > b), true);
  view.setUint32(q + 56, by(U32, (a, b) => a < b), true);
  view.setUint32(q + 60, by(U32, (a, b) => a > b), true);
}
function contains(slot: number, v: bigint): boolean {
  const q = P + slot * BYTES + NUMBERS;
  const bits = view.getBigUint64(q, true), unknown = view.getBigUint64(q + 8, true);
  return (v & ~unknown) === bits && S(v) >= view.getBigInt64(q + 16, true) &&
    S(v) <= view.getBigInt64(q + 24, true) &&
    v >= view.getBigUint64(q + 32, true) && v <= view.getBigUint64(q + 40, true) &&
    S32(v) >= view.getInt32(q + 48, true) && S32(v) <= view.getInt32(q + 52, true) &&
    U32(v) >= view.getUint32(q + 56, true) && U32(v) <= view.getUint32(q + 60, true);
}

function concrete(op: number, a: bigint, b: bigint, is32: boolean, signed: boolean): bigint | undefined {
  const width = is32 ? 32 : 64;
  const cut = (v: bigint) => BigInt.asUintN(width, v), sign = (v: bigint) => BigInt.asIntN(width, v);
  [a, b] = [cut(a), cut(b)];
  const shift = b & BigInt(width - 1);
  switch (op) {
    case 0x00:
      return cut(a + b);
    case 0x10:
      return cut(a - b);
    case 0x20:
      return cut(a * b);
    case 0x30:
      return b === 0n ? 0n : signed ? cut(sign(a) / sign(b)) : a / b;
    case 0x90:
      return b === 0n ? a : signed ? cut(sign(a) % sign(b)) : a % b;
    case 0x40:
      return a | b;
    case 0x50:
      return a & b;
    case 0xa0:
      return a ^ b;
    case 0x60:
      return cut(a << shift);
    case 0x70:
      return a >> shift;
    default:
      return cut(sign(a) >> shift);
  }
}

Deno.test("alu() contains every concrete result, in 64 and 32 bits", () => {
  const ops = [0x00, 0x10, 0x20, 0x30, 0x90, 0x40, 0x50, 0xa0, 0x60, 0x70, 0xc0];
  for (let n = 0; n < 40_000; n++) {
    const op = ops[random() % ops.length], is32 = random() % 2 === 1;
    const signed = (op === 0x30 || op === 0x90) && random() % 2 === 1;
    const a = members(), shift = op === 0x60 || op === 0x70 || op === 0xc0;
    const b = shift ? members().map((v) => random() % 8 ? v & 31n : v) : members();
    abstract(0, a);
    abstract(1, b);
    instance.probeAlu(P, op, is32, signed);
    for (const x of a) {
      for (const y of b) {
        const r = concrete(op, x, y, is32, signed)!;
        assert.ok(
          contains(0, r),
          `op ${op.toString(16)} ${is32 ? 32 : 64} ${signed}: ${x} ${y} -> ${r}, round ${n}`,
        );
      }
    }
  }
});

function holds(op: number, a: bigint, b: bigint, is32: boolean): boolean {
  if (is32) [a, b] = [BigInt.asUintN(32, a), BigInt.asUintN(32, b)];
  const sign = (v: bigint) => BigInt.asIntN(is32 ? 32 : 64, v);
  switch (op) {
    case 0x10:
      return a === b;
    case 0x20:
      return a > b;
    case 0x30:
      return a >= b;
    case 0x40:
      return (a & b) !== 0n;
    case 0x50:
      return a !== b;
    case 0x60:
      return sign(a) > sign(b);
    case 0x70:
      return sign(a) >= sign(b);
    case 0xa0:
      return a < b;
    case 0xb0:
      return a <= b;
    case 0xc0:
      return sign(a) < sign(b);
    case 0xd0:
      return sign(a) <= sign(b);
    default:
      return (a & b) === 0n;
  }
}

Deno.test("refine() keeps every pair for which the comparison holds, and calls no live branch dead", () => {
  const ops = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0, 0xf0];
  for (let n = 0; n < 40_000; n++) {
    const op = ops[random() % ops.length], is32 = random() % 2 === 1;
    const a = members(), b = random() % 2 ? members() : [member()];
    abstract(0, a);
    abstract(1, b);
    const alive = instance.probeRefine(P, op, is32) !== 0;
    for (const x of a) {
      for (const y of b) {
        if (!holds(op, x, y, is32)) continue;
        assert.ok(
          alive && contains(0, x) && contains(1, y),
          `op ${op.toString(16)} ${is32}: ${x} ${y}, round ${n}`,
        );
      }
    }
  }
});

/** Every set of numbers of two bits, moved to where signs and widths change: 15 sets at 5 places. */
const SMALL: bigint[][] = [0n, -2n, 0x7ffffffen, 0xfffffffen, 0x7ffffffffffffffen].flatMap((base) =>
  Array.from(
    { length: 15 },
    (_, n) => [0n, 1n, 2n, 3n].filter((_, bit) => (n + 1) >> bit & 1).map((v) => U(base + v)),
  )
);

Deno.test("alu() contains every result of every pair of small sets, around every edge", () => {
  for (const op of [0x00, 0x10, 0x20, 0x30, 0x90, 0x40, 0x50, 0xa0, 0x60, 0x70, 0xc0]) {
    for (const [n, a] of SMALL.entries()) {
      for (const [m, b] of SMALL.entries()) {
        const is32 = ((n + m) & 1) === 1;
        abstract(0, a);
        abstract(1, b);
        instance.probeAlu(P, op, is32, false);
        for (const x of a) {
          for (const y of b) {
            const r = concrete(op, x, y, is32, false)!;
            if (!contains(0, r)) {
              assert.fail(`op ${op.toString(16)} ${is32 ? 32 : 64}: ${x} ${y} -> ${r} of ${a} and ${b}`);
            }
          }
        }
      }
    }
  }
});

Deno.test("refine() keeps every pair of every two small sets, around every edge", () => {
  for (const op of [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0, 0xf0]) {
    for (const [n, a] of SMALL.entries()) {
      for (const [m, b] of SMALL.entries()) {
        const is32 = ((n + m) & 1) === 1;
        abstract(0, a);
        abstract(1, b);
        const alive = instance.probeRefine(P, op, is32) !== 0;
        for (const x of a) {
          for (const y of b) {
            if (!holds(op, x, y, is32) || (alive && contains(0, x) && contains(1, y))) continue;
            assert.fail(`op ${op.toString(16)} ${is32}: ${x} ${y} of ${a} and ${b}`);
          }
        }
      }
    }
  }
});

Deno.test("refine() sees that impossible comparisons of constants are dead", () => {
  for (const op of [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0, 0xf0]) {
    for (let n = 0; n < 200; n++) {
      const a = member(), b = n % 3 ? member() : a, is32 = n % 2 === 1;
      abstract(0, [a]);
      abstract(1, [b]);
      assert.equal(
        instance.probeRefine(P, op, is32) !== 0,
        holds(op, a, b, is32),
        `${op.toString(16)} ${a} ${b}`,
      );
    }
  }
});

Deno.test("sync() keeps every number of a set, whatever it refines", () => {
  for (let n = 0; n < 20_000; n++) {
    const values = members();
    abstract(0, values);
    // loosen some parts: the others must not lead to a wrong conclusion
    const q = P + NUMBERS;
    if (random() % 2) {
      view.setBigUint64(q, 0n, true);
      view.setBigUint64(q + 8, U(-1n), true);
    }
    if (random() % 2) {
      view.setBigUint64(q + 32, 0n, true);
      view.setBigUint64(q + 40, U(-1n), true);
    }
    if (random() % 2) {
      view.setInt32(q + 48, -0x80000000, true);
      view.setInt32(q + 52, 0x7fffffff, true);
    }
    assert.ok(instance.probeSync(P) !== 0);
    for (const v of values) assert.ok(contains(0, v), `${values}, round ${n}`);
  }
});

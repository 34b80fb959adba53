import assert from "node:assert/strict";
import { OutOfFuel, OutOfMemory } from "@weir/sandbox";
import { decodeReport, encodeRequest, verifyBytes } from "@weir/verifier";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { CaseRunner, Defect } from "./cases.ts";
import { encodeNodes } from "./program.ts";
import { Random } from "./random.ts";
import { Subject, type SubjectProgram, type Verdict } from "./subject.ts";

const available = Kernel.available();
if (!available) console.log("SKIP generated programs in the kernel: this process may not load eBPF programs");

/** `WEIR_SEED=n` begins elsewhere: a failure prints the seed that makes it again. */
const FIRST_SEED = Number(Deno.env.get("WEIR_SEED") ?? 1);

function withRunner(body: (runner: CaseRunner) => void): void {
  const subject = new Subject();
  const runner = new CaseRunner(subject);
  try {
    body(runner);
  } finally {
    runner.close();
    subject.close();
  }
}

function* seeds(count: number): Generator<number> {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + count; seed++) yield seed;
}

Deno.test({
  name: "verifier: every register of a run lies within what was claimed for it",
  ignore: !available,
  fn: () =>
    withRunner((runner) => {
      for (const seed of seeds(800)) runner.containment(seed);
      const { programs, accepted, runs, records } = runner.counts;
      console.log(
        `  ${programs} programs, ${accepted} accepted, ${runs} runs, ${records} registers compared`,
      );
      // A generator or a verifier that refuses nearly all would show nothing.
      assert.ok(accepted > programs / 2, `${accepted} of ${programs} accepted`);
      assert.ok(records > 1000, `${records} registers compared`);
    }),
});

Deno.test({
  name: "verifier: walking every path to its end finds nothing that pruning hid",
  ignore: !available,
  fn: () =>
    withRunner((runner) => {
      for (const seed of seeds(400)) runner.pruning(seed);
    }),
});

Deno.test({
  name: "verifier: nothing is accepted that the kernel refuses for memory, mutated or not",
  ignore: !available,
  fn: () =>
    withRunner((runner) => {
      for (const seed of seeds(250)) runner.differential(seed, 4);
      const { programs, accepted, agreed, stricter, looser } = runner.counts;
      console.log(
        `  ${programs} programs, ${accepted} accepted, ${agreed} agree, ${stricter} stricter, ${looser} looser`,
      );
      assert.ok(accepted > programs / 10, `${accepted} of ${programs} accepted`);
      assert.ok(accepted < programs, "no mutation made a bad program");
    }),
});

Deno.test({
  name: "verifier: nops, other registers and another block order change no verdict",
  ignore: !available,
  fn: () =>
    withRunner((runner) => {
      for (const seed of seeds(150)) runner.metamorphic(seed);
      assert.ok(runner.counts.variants >= 300);
    }),
});

/** A verifier that accepts everything and claims that every recorded number is even. */
class LyingSubject extends Subject {
  override verify(program: SubjectProgram, claims: boolean): Verdict {
    return {
      ...super.verify(program, claims),
      verdict: "accepted",
      contradiction: (_instruction, _register, value) => value % 2n === 0n ? null : "it is odd",
    };
  }
}

Deno.test({
  name: "the harness: notices a verifier that accepts everything or claims too much",
  ignore: !available,
  fn: () => {
    const subject = new LyingSubject();
    const runner = new CaseRunner(subject);
    const defects = { containment: 0, differential: 0 };
    try {
      for (const kind of ["containment", "differential"] as const) {
        for (const seed of seeds(40)) {
          try {
            runner[kind](seed);
          } catch (error) {
            if (!(error instanceof Defect)) throw error;
            defects[kind]++;
          }
        }
      }
    } finally {
      runner.close();
      subject.close();
    }
    assert.ok(defects.containment > 20, `${defects.containment} of 40 noticed by running`);
    assert.ok(defects.differential > 20, `${defects.differential} of 40 noticed by comparing`);
  },
});

const REQUEST = encodeRequest({
  name: "seed",
  programType: 3,
  gplCompatible: true,
  instructions: encodeNodes([{ opcode: 0xb7, dst: 0, src: 0, offset: 0, immediate: 0 }, {
    opcode: 0x95,
    dst: 0,
    src: 0,
    offset: 0,
    immediate: 0,
  }]),
  maps: [{ handle: 3, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 }],
  subprograms: [{
    start: 0,
    linkage: "global",
    name: "seed",
    arguments: [{ kind: "context" }],
    returns: "scalar",
  }],
});

/** Bytes that are no request, or nearly one. */
function hostileBytes(random: Random): Uint8Array<ArrayBuffer> {
  if (random.oneIn(4)) return random.bytes(random.below(2000));
  let bytes = REQUEST.slice();
  for (let count = random.between(1, 6); count > 0; count--) {
    const at = random.below(bytes.length);
    if (random.oneIn(3)) new DataView(bytes.buffer).setInt32(at & ~3, random.immediate(), true);
    else bytes[at] ^= 1 << random.below(8);
  }
  if (random.oneIn(4)) bytes = bytes.slice(0, random.below(bytes.length));
  return bytes;
}

Deno.test("verifier: random bytes give a report or a limit, the same one in Wasmtime and in Deno", () => {
  const subject = new Subject();
  const module = new WebAssembly.Module(
    Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)),
  );
  try {
    let reports = 0;
    for (const seed of seeds(600)) {
      const bytes = hostileBytes(new Random(seed));
      try {
        const { report } = subject.sandbox.verifyBytes(bytes);
        const decoded = decodeReport(report);
        reports++;
        if (seed % 8 === 0) assert.deepEqual(verifyBytes(module, bytes), report, `seed ${seed}`);
        assert.ok(decoded.verdict !== "accepted" || decoded.visits > 0, `seed ${seed}`);
      } catch (error) {
        if (!(error instanceof OutOfFuel || error instanceof OutOfMemory)) {
          throw new Error(`seed ${seed}`, { cause: error });
        }
      }
    }
    assert.ok(reports > 500, `${reports} reports`);
  } finally {
    subject.close();
  }
});

Deno.test({
  name: "verifier: one request gives one report, in Wasmtime, again, and in Deno's WebAssembly",
  ignore: !available,
  fn: () =>
    withRunner((runner) => {
      const module = new WebAssembly.Module(
        Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)),
      );
      for (const seed of seeds(60)) {
        const bytes = runner.request(seed);
        const first = runner.subject.sandbox.verifyBytes(bytes);
        const second = runner.subject.sandbox.verifyBytes(bytes);
        assert.deepEqual(second, first, `seed ${seed}`);
        assert.deepEqual(verifyBytes(module, bytes), first.report, `seed ${seed}`);
      }
    }),
});

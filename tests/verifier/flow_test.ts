import assert from "node:assert/strict";
import { Kernel } from "../../scripts/probe/kernel.ts";
import {
  alu,
  aluReg,
  assemble,
  callLocal,
  exit,
  type Line,
  load,
  loadMapValue,
  mov,
  storeImm,
} from "../../datapath/verifier/asm.ts";
import { FlowDefect, FlowRunner } from "./flow_cases.ts";
import { interpret, Violation } from "./interpreter.ts";
import { Random } from "./random.ts";
import { Subject, type Verdict } from "./subject.ts";

const available = Kernel.available();
if (!available) console.log("SKIP flows in the kernel: this process may not load eBPF programs");

/** `WEIR_SEED=n` begins elsewhere: a failure prints the seed that makes it again. */
const FIRST_SEED = Number(Deno.env.get("WEIR_SEED") ?? 1);

function withRunner(withKernel: boolean, body: (runner: FlowRunner) => void, subject = new Subject()): void {
  const runner = new FlowRunner(subject, withKernel);
  try {
    body(runner);
  } finally {
    runner.close();
    subject.close();
  }
}

Deno.test("verifier: programs of functions, callbacks, tail calls and loops that it accepts survive every draw", () => {
  withRunner(false, (runner) => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + 2500; seed++) runner.survive(seed);
    const { programs, accepted, draws } = runner.counts;
    console.log(`  ${programs} programs, ${accepted} accepted, ${draws} runs`);
    assert.ok(accepted > programs / 5, `${accepted} of ${programs} accepted`);
  });
});

Deno.test({
  name: "verifier: flows that it accepts are accepted by the kernel, or survive ten times the draws",
  ignore: !available,
  fn: () =>
    withRunner(true, (runner) => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + 250; seed++) runner.survive(seed);
      const { agreed, finer } = runner.counts;
      console.log(`  ${agreed} accepted by both, ${finer} refused by the kernel without cause`);
      assert.ok(agreed > 20 && finer < agreed / 5, `${agreed} agreed, ${finer} finer`);
    }),
});

Deno.test({
  name: "the interpreter: a program without draws does what it does in the kernel",
  ignore: !available,
  fn: () =>
    withRunner(true, (runner) => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + 100; seed++) runner.repeat(seed);
      console.log(`  ${runner.counts.runs} programs run in both`);
      assert.ok(runner.counts.runs > 20, `${runner.counts.runs} runs`);
    }),
});

/** A verifier that accepts everything. */
class LenientSubject extends Subject {
  override verifyRequest(request: Parameters<Subject["verifyRequest"]>[0]): Verdict {
    const verdict = super.verifyRequest(request);
    return request.claims === "all" ? verdict : { ...verdict, verdict: "accepted" };
  }
}

Deno.test("the harness: notices a verifier that accepts every flow", () => {
  let noticed = 0;
  withRunner(false, (runner) => {
    for (let seed = 1; seed <= 200; seed++) {
      try {
        runner.survive(seed);
      } catch (error) {
        if (!(error instanceof FlowDefect)) throw error;
        noticed++;
      }
    }
  }, new LenientSubject());
  assert.ok(noticed > 60, `${noticed} of 200 noticed`);
});

Deno.test("interpret() stops where memory is not the program's own", () => {
  const wide = { handle: 1, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 };
  const stopped = (lines: Line[]): boolean => {
    const options = { type: { packet: null }, maps: [wide] };
    try {
      interpret(assemble([...lines, mov(0, 0), exit()]), new Random(1), options);
      return false;
    } catch (error) {
      if (error instanceof Violation) return true;
      throw error;
    }
  };
  assert.ok(!stopped([loadMapValue(1, 1), load(8, 0, 1, 56)]));
  assert.ok(stopped([loadMapValue(1, 1), load(8, 0, 1, 57)]));
  assert.ok(stopped([loadMapValue(1, 1), alu("add", 1, -1), storeImm(1, 1, 0, 0)]));
  assert.ok(stopped([mov(1, 5), load(1, 0, 1, 0)]));
  assert.ok(stopped([aluReg("mov", 0, 3)]));
  assert.ok(stopped([load(8, 0, 10, 0)]));
  assert.ok(!stopped([callLocal("inner"), mov(0, 0), exit(), "inner", mov(0, 1)]));
});

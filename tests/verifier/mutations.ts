/**
 * Whether the flows would have found what was once overlooked: each rule is taken out of the verifier in turn, and flows
 * go through what is left of it until one shows the hole. `deno run -A tests/verifier/mutations.ts [--seeds N]`; a minute
 * a rule, so it is run by hand.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { buildVerifier } from "../../datapath/verifier/build.ts";
import { verify } from "@weir/verifier";
import { FlowDefect, FlowRunner, type FlowSubject } from "./flow_cases.ts";
import { verdictOf } from "./subject.ts";

/** A rule, where it stands in the assembly, and what stands there without it. */
const RULES: readonly [rule: string, file: string, present: string, absent: string][] = [
  [
    "pruning in a callback compares the arguments of the call that repeats it",
    "prune.ts",
    "return above.callback ? kept | (liveRegs(at) & 0x3e) : kept;",
    "return kept;",
  ],
  [
    "a tail call may return to the caller",
    "call.ts",
    "return id == C.H_TAIL_CALL && cur.depth > 0 ? forkReturn(i, false) : true;",
    "return true;",
  ],
  [
    "a packet load may return 0 to the caller",
    "step.ts",
    "return cur.depth > 0 ? forkReturn(i, true) : true;",
    "return true;",
  ],
  [
    "maps of devices are read only",
    "map_type.ts",
    "return type == MAP_DEVMAP || type == MAP_DEVMAP_HASH || type == MAP_INSN_ARRAY ? M_RDONLY_PROG : 0;",
    "return 0;",
  ],
  [
    "a variable move of a packet pointer ends what was proved",
    "arith.ts",
    "p.id = freshId();\n    p.size = 0;",
    "p.id = freshId();",
  ],
  [
    "helpers that move the packet take its pointers away",
    "call.ts",
    "if (flags & 4) invalidatePacket(i);",
    "",
  ],
  ["what a callback returns is relevant", "leave.ts", "if (f.callback) {\n    sink(1);", "if (f.callback) {"],
  [
    "what a timer calls returns 0",
    "leave.ts",
    "if (isConst(r0) && r0.bits == 0) return true;",
    "return true;",
  ],
];

const { values } = parseArgs({ options: { seeds: { type: "string", default: "10000" } } });
const seeds = Number(values.seeds);
const out = Deno.makeTempFileSync({ prefix: "weir-mutation-", suffix: ".wasm" });
let missed = 0;
for (const [rule, file, present, absent] of RULES) {
  let edited = false;
  await buildVerifier({
    out,
    edit: (name, source) => {
      if (name !== file) return source;
      edited = source.includes(present);
      return source.replace(present, absent);
    },
  });
  if (!edited) throw new Error(`Cannot take out "${rule}": ${file} no longer says ${present}`);
  const module = new WebAssembly.Module(Deno.readFileSync(out));
  const subject: FlowSubject = { verifyRequest: (request) => verdictOf(verify(module, request)) };
  const found = firstDefect(subject);
  if (found === undefined) missed++;
  console.log(
    `${found === undefined ? "MISSED" : "found "} ${rule}${found === undefined ? "" : `: ${found}`}`,
  );
}
for (const name of [out, `${out}.sources`]) Deno.removeSync(name);
Deno.exit(missed === 0 ? 0 : 1);

function firstDefect(subject: FlowSubject): string | undefined {
  const runner = new FlowRunner(subject, false);
  try {
    for (let seed = 1; seed <= seeds; seed++) runner.survive(seed);
  } catch (error) {
    if (error instanceof FlowDefect) return error.message;
    throw error;
  } finally {
    runner.close();
  }
  return undefined;
}

/**
 * Two tables by plain trial: which context fields a program type may read and write, and what it may return.
 *
 * @module
 */

import { encode, exit, type Instruction, load, move, moveImmediate, store } from "./instructions.ts";
import type { Kernel, LoadResult } from "./kernel.ts";
import { PROBED_TYPES, type ProbedType } from "./program_types.ts";

/** Where the trial ends: every context but those without an end of their own (tracepoint, syscall) is smaller. */
const CONTEXT_BYTES_MAX = 512;
/** After so many bytes without any access there is nothing more to come. */
const CONTEXT_GAP_BYTES = 256;

/** Loads a program of that type and lets go of it again. */
export function tryProgram(
  kernel: Kernel,
  type: ProbedType,
  instructions: readonly Instruction[],
  logLevel = 1,
): LoadResult {
  const result = kernel.load({
    type: type.type,
    expectedAttachType: type.attach,
    flags: type.flags,
    instructions: encode(instructions),
    logLevel,
  });
  if (result.ok) kernel.closeFd(result.fd);
  return result;
}

/** Rows `prog off size access result reg`, only of what is allowed. */
export function probeContextAccess(kernel: Kernel): string[][] {
  const rows: string[][] = [];
  for (const type of PROBED_TYPES) {
    for (
      let offset = 0, last = 0;
      offset < CONTEXT_BYTES_MAX && offset - last <= CONTEXT_GAP_BYTES;
      offset++
    ) {
      for (const bytes of [1, 2, 4, 8]) {
        if (offset % bytes !== 0) continue;
        const read = [load(bytes, 0, 1, offset), moveImmediate(0, 1), exit];
        if (tryProgram(kernel, type, read, 0).ok) {
          rows.push([type.name, `${offset}`, `${bytes}`, "R", "ok", registerAfter(kernel, type, read)]);
          last = offset;
        }
        const write = [moveImmediate(0, 1), store(bytes, 1, 0, offset), exit];
        if (tryProgram(kernel, type, write, 0).ok) {
          rows.push([type.name, `${offset}`, `${bytes}`, "W", "ok", ""]);
          last = offset;
        }
      }
    }
  }
  return rows;
}

/** What the kernel calls R0 after the first instruction: `scalar`, `pkt`, `sock_common_or_null`, ... */
function registerAfter(kernel: Kernel, type: ProbedType, program: Instruction[]): string {
  const { log } = tryProgram(kernel, type, program, 2);
  // "0: (61) r0 = *(u32 *)(r1 +76)        ; R0=pkt(r=0) R1=ctx()"
  return /^0: \([0-9a-f]+\).*?\bR0(?:_w)?=([a-z_0-9]+?)(?:\(|\s|$)/m.exec(log)?.[1] ?? "scalar";
}

const CONSTANTS = Array.from({ length: 43 }, (_, index) => index - 2);

/** Rows `prog accepted_constants unknown_scalar pointer_in_R0 no_R0`. */
export function probeReturnRanges(kernel: Kernel): string[][] {
  return PROBED_TYPES.map((type) => {
    const accepted = CONSTANTS.filter((value) =>
      tryProgram(kernel, type, [moveImmediate(0, value), exit], 0).ok
    );
    const unknown = tryProgram(kernel, type, [[0x85, 0, 0, 0, 7], exit]);
    const pointer = tryProgram(kernel, type, [move(0, 1), exit], 0);
    const nothing = tryProgram(kernel, type, [exit], 0);
    return [
      type.name,
      accepted.length === CONSTANTS.length ? "all" : accepted.join(","),
      unknown.ok ? "ok" : firstReason(unknown.log),
      pointer.ok ? "ok" : "reject",
      nothing.ok ? "ok" : "reject",
    ];
  });
}

/** The line of a log that says why: neither an instruction nor a state nor the closing statistics. */
export function firstReason(log: string): string {
  const line = log.split("\n").find((line) =>
    line !== "" && !/^\d+: /.test(line) &&
    !/^(processed|verification time|stack depth|;|mark_precise|func#)/.test(line)
  );
  return (line ?? "").replace(/^Failed to .*?: /, "");
}

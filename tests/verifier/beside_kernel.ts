/** Judges small programs by ours and, where the running kernel is new enough for them, by it. @module */
import assert from "node:assert/strict";
import { CODES, type KernelIgnorance, type VerifyRequest } from "@weir/verifier";
import { assemble, type Line } from "../../datapath/verifier/asm.ts";
import { Kernel, type KernelMap } from "../../scripts/probe/kernel.ts";
import { Subject } from "./subject.ts";

const available = Kernel.available();
if (!available) console.log("SKIP the kernel's verdict: this process may not load eBPF programs");
const [major, minor] = Deno.osRelease().split(".").map(Number);
const running = major * 1000 + minor;

const SCHED_CLS = 3, ARRAY_OF_MAPS = 12;

/** A program with both verdicts. */
export interface Case {
  readonly name: string;
  /** `accepted`, or the name of the code. */
  readonly ours: string;
  readonly lines: Line[];
  readonly type?: number;
  readonly flags?: number;
  readonly ignores?: KernelIgnorance;
  /** What the kernel says where it is not the same: it is wrong, or knows less. */
  readonly kernelTakes?: boolean;
}

/**
 * Judges each case.
 * @param since Release whose verdict it is: 6014 for 6.14.
 * @param maps Maps by the number that stands in the lines; the inner map of a map of maps is the first.
 */
export function judge(since: number, cases: readonly Case[], maps: readonly KernelMap[]): void {
  const subject = new Subject();
  const kernel = available && running >= since ? new Kernel() : undefined;
  try {
    const fds: number[] = [];
    for (const map of maps) {
      fds.push(
        kernel?.createMap({ ...map, innerFd: map.type === ARRAY_OF_MAPS ? fds[0] : undefined }) ??
          fds.length,
      );
    }
    for (const { name, ours, lines, type = SCHED_CLS, flags, ignores, kernelTakes } of cases) {
      const instructions = assemble(
        lines.map((line) =>
          typeof line !== "string" && line.op === 0x18 && (line.src === 1 || line.src === 2)
            ? { ...line, imm: fds[line.imm!] }
            : line
        ),
      );
      const request: VerifyRequest = {
        name: "newer",
        programType: type,
        programFlags: flags,
        gplCompatible: true,
        instructions,
        maps: maps.map((map, index) => ({ handle: fds[index], ...shapeOf(map), ...innerOf(map, maps) })),
        kernelIgnores: ignores === undefined ? [] : [ignores],
      };
      const verdict = subject.verifyRequest(request), report = verdict.report!;
      const got = report.verdict === "accepted" ? "accepted" : CODES.get(report.code)!.name;
      assert.equal(got, ours, `${name}: ${verdict.message}`);
      if (kernel === undefined || ignores !== undefined) continue;
      const loaded = kernel.load({ type, flags, instructions });
      if (loaded.ok) kernel.closeFd(loaded.fd);
      const wanted = kernelTakes ?? ours === "accepted";
      assert.equal(loaded.ok, wanted, `the kernel on ${name}: ${loaded.log}`);
    }
  } finally {
    kernel?.close();
    subject.close();
  }
}

const shapeOf = (map: KernelMap) => ({
  type: map.type,
  keySize: map.keyBytes,
  valueSize: map.valueBytes,
  maxEntries: map.entriesMax,
  flags: map.flags ?? 0,
});
const innerOf = (map: KernelMap, maps: readonly KernelMap[]) =>
  map.type === ARRAY_OF_MAPS ? { inner: shapeOf(maps[0]) } : {};

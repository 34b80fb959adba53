/**
 * Three tables about helpers: which program type may call which, what each takes and gives, and which map types
 * it takes. Arguments are found by letting the kernel complain: it names the register and what it expected.
 *
 * @module
 */

import { firstReason, tryProgram } from "./access_tables.ts";
import {
  addImmediate,
  call,
  exit,
  type Instruction,
  loadMap,
  move,
  moveImmediate,
  store,
} from "./instructions.ts";
import type { Btf } from "@weir/object";
import type { Kernel } from "./kernel.ts";
import { PROBED_TYPES, type ProbedType, probedType } from "./program_types.ts";

/** The maps that helpers are offered, under the names of the tables. Sizes suit each type. */
const MAPS: readonly [
  name: string,
  type: number,
  keyBytes: number,
  valueBytes: number,
  entries: number,
  flags?: number,
][] = [
  ["array", 2, 4, 64, 4],
  ["hash", 1, 4, 64, 4],
  ["prog", 3, 4, 4, 4],
  ["perf", 4, 4, 4, 4],
  ["stack", 7, 4, 128, 4],
  ["cgrp", 8, 4, 4, 4],
  ["dev", 14, 4, 4, 4],
  ["sockmap", 15, 4, 4, 4],
  ["cpumap", 16, 4, 4, 2],
  ["xsk", 17, 4, 4, 4],
  ["sockhash", 18, 4, 4, 4],
  ["reuse", 20, 4, 8, 4],
  ["queue", 22, 0, 64, 4],
  ["ringbuf", 27, 0, 0, 4096],
  ["bloom", 30, 0, 64, 4],
  ["lpm", 11, 8, 64, 4, 1],
];

/** A helper of this kernel: number and name. */
export interface Helper {
  readonly id: number;
  readonly name: string;
}

/** The helpers that the running kernel names in its own type information. */
export function readHelpers(vmlinux: Btf): Helper[] {
  const names = vmlinux.find("bpf_func_id", "enum");
  if (names === undefined) {
    throw new Error("Cannot list the helpers: the kernel's BTF has no enum bpf_func_id");
  }
  return names.values.map(({ name, value }) => ({ id: Number(value), name: name.replace(/^BPF_FUNC_/, "") }))
    .filter((helper) => helper.id > 0 && !helper.name.startsWith("_"));
}

/** Asks about helpers, with maps that are made once. */
export class HelperProbe {
  readonly #maps = new Map<string, number>();

  constructor(readonly kernel: Kernel, readonly helpers: readonly Helper[]) {
    for (const [name, type, keyBytes, valueBytes, entriesMax, flags] of MAPS) {
      try {
        this.#maps.set(name, kernel.createMap({ type, keyBytes, valueBytes, entriesMax, flags }));
      } catch { /* this kernel has no such map: its column says "no" */ }
    }
  }

  /** Rows `id helper <1 or 0 per program type>`; a helper that nobody may call has no row. */
  allowed(): string[][] {
    const rows: string[][] = [];
    for (const helper of this.helpers) {
      const row = PROBED_TYPES.map((type) => this.#mayCall(type, helper) ? "1" : "0");
      rows.push([`${helper.id}`, helper.name, ...row]);
    }
    return rows;
  }

  /** Rows `id helper probed_in result return args expected hints`. */
  prototypes(): string[][] {
    const rows: string[][] = [];
    for (const helper of this.helpers) {
      const type = this.#homeOf(helper);
      if (type === null) continue;
      const found = this.#searchArguments(type, helper);
      rows.push([
        `${helper.id}`,
        helper.name,
        type.name,
        found.result,
        found.returned,
        found.args.join(","),
        [...found.expected].sort(([a], [b]) => a - b).map(([register, kinds]) => `R${register}: ${kinds}`)
          .join("; "),
        found.hint,
      ]);
    }
    return rows;
  }

  /** Rows `id helper prog <ok, no or ?reason per map type>` of the helpers that take a map. */
  mapCompatibility(): string[][] {
    const rows: string[][] = [];
    for (const helper of this.helpers) {
      const type = this.#homeOf(helper);
      if (type === null) continue;
      const found = this.#searchArguments(type, helper);
      const at = found.args.findIndex((arg) => arg.startsWith("map:"));
      if (at < 0) continue;
      rows.push([
        `${helper.id}`,
        helper.name,
        type.name,
        ...MAPS.map(([name]) => this.#takesMap(type, helper, found.args, at, name)),
      ]);
    }
    return rows;
  }

  #takesMap(type: ProbedType, helper: Helper, args: string[], at: number, map: string): string {
    if (!this.#maps.has(map)) return "no";
    const { ok, log } = this.#try(type, helper, args.map((arg, index) => index === at ? `map:${map}` : arg));
    if (ok) return "ok";
    return /cannot pass map_type/.test(log) ? "no" : `?${firstReason(log).slice(0, 40)}`;
  }

  /** The first type that may call it, packets before traces. */
  #homeOf(helper: Helper): ProbedType | null {
    const preferred = ["sched_cls", "xdp", "connect4"].map(probedType);
    return [...preferred, ...PROBED_TYPES].find((type) => this.#mayCall(type, helper)) ?? null;
  }

  #mayCall(type: ProbedType, helper: Helper): boolean {
    const { ok, log } = tryProgram(this.kernel, type, [call(helper.id), moveImmediate(0, 1), exit]);
    return ok || !/unknown func|cannot use helper|invalid func|not allowed in probe|might sleep/.test(log);
  }

  /** Changes one argument after the other to what the kernel says it expected. */
  #searchArguments(type: ProbedType, helper: Helper) {
    const args = Array.from({ length: 5 }, () => "scalar0");
    const expected = new Map<number, string>();
    let hint = "", log = "", ok = false;
    const maps = [...this.#maps.keys()];
    let nextMap = 0, mapAt = -1;
    for (let attempt = 0; attempt < 48; attempt++) {
      ({ ok, log } = this.#try(type, helper, args));
      if (ok) break;
      const wrong = /R([1-5]) type=(\S+) expected=([^\n]*)/.exec(log);
      const zeroSized = /R([1-5]) invalid zero-sized read[^\n]*/.exec(log);
      if (wrong !== null) {
        const register = Number(wrong[1]);
        expected.set(register, wrong[3].trim());
        const next = argumentFor(wrong[3], wrong[2], args[register - 1], maps[nextMap]);
        if (next === null) break;
        if (next.startsWith("map:")) mapAt = register - 1;
        args[register - 1] = next;
      } else if (zeroSized !== null) {
        hint = zeroSized[0];
        if (args[Number(zeroSized[1]) - 1] === "scalar8") break;
        args[Number(zeroSized[1]) - 1] = "scalar8";
      } else if (
        mapAt >= 0 && /cannot pass map_type|expected prog array map/.test(log) && nextMap + 1 < maps.length
      ) {
        args[mapAt] = `map:${maps[++nextMap]}`;
      } else break;
    }
    if (ok) this.#askScalars(type, helper, args, expected);
    const returned = ok ? returnedBy(this.#log2(type, helper, args)) : "";
    return {
      args,
      expected,
      hint,
      returned,
      result: ok ? "OK" : firstReason(log),
    };
  }

  /** An argument that took a number may take nothing else: hand it the context and see what is said. */
  #askScalars(
    type: ProbedType,
    helper: Helper,
    args: readonly string[],
    expected: Map<number, string>,
  ): void {
    args.forEach((arg, index) => {
      if (!arg.startsWith("scalar") || expected.has(index + 1)) return;
      const { log } = this.#try(type, helper, args.map((other, at) => at === index ? "ctx" : other));
      const wrong = new RegExp(`R${index + 1} type=ctx expected=([^\\n]*)`).exec(log);
      if (wrong !== null) expected.set(index + 1, wrong[1].trim());
    });
  }

  #try(type: ProbedType, helper: Helper, args: readonly string[]) {
    return tryProgram(this.kernel, type, this.#program(helper, args));
  }

  #log2(type: ProbedType, helper: Helper, args: readonly string[]): string {
    return tryProgram(this.kernel, type, this.#program(helper, args), 2).log;
  }

  #program(helper: Helper, args: readonly string[]): Instruction[] {
    const program: Instruction[] = [move(6, 1), moveImmediate(7, 0)];
    for (let offset = -256; offset < 0; offset += 8) program.push(store(8, 10, 7, offset));
    args.forEach((arg, index) => program.push(...this.#argument(index + 1, arg)));
    return [...program, call(helper.id), moveImmediate(0, 1), exit];
  }

  #argument(register: number, arg: string): Instruction[] {
    if (arg === "ctx") return [move(register, 6)];
    if (arg === "fp") return [move(register, 10), addImmediate(register, -128)];
    if (arg === "mapval") return loadMap(register, this.#maps.get("array")!, true);
    if (arg.startsWith("map:")) return loadMap(register, this.#maps.get(arg.slice(4))!);
    return [moveImmediate(register, Number(arg.slice("scalar".length)))];
  }
}

/** The argument to try next where the kernel expected one of `kinds`; null when we have none of them. */
function argumentFor(kinds: string, found: string, tried: string, map: string): string | null {
  const wants = kinds.split(",").map((kind) => kind.trim());
  const next = wants.includes("ctx")
    ? "ctx"
    : wants.includes("map_ptr")
    ? `map:${map}`
    : wants.includes("fp")
    ? "fp"
    : wants.includes("map_value")
    ? "mapval"
    : wants.includes("scalar")
    ? "scalar8"
    : null;
  return next === null || next === tried || found === next ? null : next;
}

/** `R0=...` as it stands after the call in a log of level 2; empty where R0 is not told (void, or an equality). */
function returnedBy(log: string): string {
  const line = log.split("\n").find((line) => /^\d+: \(85\)/.test(line)) ?? "";
  return /; R0(?:_w)?=([a-z_0-9]+\([^)]*\)?[^ ]*)/.exec(line)?.[1].replace(/^/, "R0=") ?? "";
}

/**
 * Small programs of type tracing that walk the kernel's structs: mostly as a careful programmer would, sometimes not.
 * The same seed gives the same program on one kernel.
 *
 * @module
 */

import { attachFactsOf, type Btf, TypeOracle } from "@weir/object";
import { QUESTIONS, STRUCT_CLASSES, type VerifyRequest } from "@weir/verifier";
import {
  addImmediate,
  call,
  encode,
  exit,
  type Instruction,
  load,
  move,
  moveImmediate,
  store,
} from "../../scripts/probe/instructions.ts";
import { Random } from "./random.ts";

const TRACING = 26, RAW_TP = 23, ITER = 28, SLEEPABLE = 16;
const WIDTHS = [1, 2, 4, 8];
/** Pointers live here: calls leave them alone. */
const KEPT = [7, 8, 9];

/** Helpers that take a kernel pointer first, with the rest of their arguments. */
const HELPERS: readonly {
  id: number;
  takes: typeof STRUCT_CLASSES[number];
  iterOnly?: boolean;
  rest: readonly ("buffer" | "size" | "zero")[];
}[] = [
  { id: 141, takes: "task_struct", rest: ["buffer", "size", "zero"] }, // get_task_stack
  { id: 175, takes: "task_struct", rest: [] }, // task_pt_regs
  { id: 136, takes: "sock_common", rest: [] }, // skc_to_tcp6_sock
  { id: 137, takes: "sock_common", rest: [] },
  { id: 138, takes: "sock_common", rest: [] },
  { id: 139, takes: "sock_common", rest: [] },
  { id: 140, takes: "sock_common", rest: [] },
  { id: 178, takes: "sock_common", rest: [] },
  { id: 162, takes: "file", rest: [] }, // sock_from_file
  { id: 46, takes: "sock_common", rest: [] }, // get_socket_cookie
  { id: 147, takes: "path", iterOnly: true, rest: ["buffer", "size"] }, // d_path
  { id: 127, takes: "seq_file", iterOnly: true, rest: ["buffer", "size"] }, // seq_write
];

/** A place to attach to. */
export interface TracingTarget {
  readonly name: string;
  readonly attach: number;
  readonly btfId: number;
  /** Arguments that point to structs. */
  readonly pointers: number;
}

/** A generated program. */
export interface TracingProgram {
  readonly target: TracingTarget;
  readonly flags: number;
  readonly instructions: Uint8Array<ArrayBuffer>;
  readonly listing: string;
}

/** All tracepoints and iterators of a kernel. */
export function tracingTargets(kernel: Btf): TracingTarget[] {
  const targets: TracingTarget[] = [];
  const add = (name: string, attach: number, btfId: number): void => {
    const facts = attachFactsOf(kindOf({ name, attach }, 0), kernel);
    if (facts?.refused !== undefined && attach === ITER) return;
    const pointers = facts?.slots.filter((slot) => slot.kind === "pointer").length ?? 0;
    targets.push({ name, attach, btfId, pointers });
  };
  for (const type of kernel.ofKind("typedef")) {
    if (!type.name.startsWith("btf_trace_")) continue;
    add(type.name.slice("btf_trace_".length), RAW_TP, type.id);
  }
  for (const type of kernel.ofKind("func")) {
    if (!type.name.startsWith("bpf_iter_")) continue;
    add(type.name.slice("bpf_iter_".length), ITER, type.id);
  }
  return targets;
}

function kindOf(target: { name: string; attach: number }, flags: number) {
  return { type: TRACING, attachType: target.attach, flags, target: target.name, source: "section" as const };
}

/** The question for our verifier. */
export function tracingRequest(
  kernel: Btf,
  program: TracingProgram,
): { request: VerifyRequest; oracle: TypeOracle } {
  const oracle = new TypeOracle(kernel, program.instructions);
  return {
    request: {
      name: "generated",
      programType: TRACING,
      attachType: program.target.attach,
      programFlags: program.flags,
      gplCompatible: true,
      instructions: program.instructions,
      kernelTypes: { attach: attachFactsOf(kindOf(program.target, program.flags), kernel) },
    },
    oracle,
  };
}

/** The program of a seed. */
export function generateTracing(
  kernel: Btf,
  targets: readonly TracingTarget[],
  seed: number,
): TracingProgram {
  const random = new Random(seed);
  // Iterators are few and have the helpers of their own: every third program is on one.
  const wanted = random.oneIn(3) ? ITER : RAW_TP;
  const some = targets.filter(({ attach, pointers }) =>
    attach === wanted && (pointers > 0 || random.oneIn(20))
  );
  const target = some[random.below(some.length)];
  const flags = target.attach === ITER && random.oneIn(4) ? SLEEPABLE : 0;
  return new Walk(kernel, target, flags, random).program();
}

class Walk {
  readonly #code: Instruction[] = [];
  /** Type that a kept register points to as far as the generator knows; 0 nothing. */
  readonly #types = new Map<number, number>();
  readonly #exits: number[] = [];
  readonly #oracle: TypeOracle;

  constructor(
    readonly kernel: Btf,
    readonly target: TracingTarget,
    readonly flags: number,
    readonly random: Random,
  ) {
    this.#oracle = new TypeOracle(kernel, new Uint8Array());
  }

  program(): TracingProgram {
    const { random } = this;
    this.#code.push(move(6, 1));
    for (const register of KEPT) this.#code.push(moveImmediate(register, 0));
    for (let offset = 8; offset <= 64; offset += 8) this.#code.push([0x7a, 10, 0, -offset, 0]);
    this.#fromContext(KEPT[0]);
    for (let steps = random.between(2, 9); steps > 0; steps--) this.#step();
    for (const at of this.#exits) {
      const [opcode, dst, src, , immediate] = this.#code[at];
      this.#code[at] = [opcode, dst, src, this.#code.length - at - 1, immediate];
    }
    this.#code.push(
      random.oneIn(12) ? move(0, random.pick(KEPT)) : moveImmediate(0, random.oneIn(10) ? 1 : 0),
      exit,
    );
    return {
      target: this.target,
      flags: this.flags,
      instructions: encode(this.#code),
      listing:
        `${this.target.attach === ITER ? "iter" : "tp_btf"}/${this.target.name} flags ${this.flags}\n` +
        this.#code.map((insn, index) => `  ${index}: ${insn.join(" ")}`).join("\n"),
    };
  }

  #step(): void {
    const { random } = this;
    const pointers = KEPT.filter((register) => this.#types.has(register));
    if (pointers.length === 0 || random.oneIn(5)) return this.#fromContext(random.pick(KEPT));
    const from = random.pick(pointers);
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return this.#field(from, random.pick(KEPT));
      case 5:
      case 6:
        this.#exits.push(this.#code.length);
        this.#code.push([0x15, from, 0, 0, 0]);
        return;
      case 7:
        return random.oneIn(4) ? this.#print(from) : this.#call(from);
      case 8:
        this.#code.push(
          addImmediate(from, random.oneIn(4) ? -8 : random.between(0, 64) * random.pick([1, 8])),
        );
        return;
      case 9: {
        this.#code.push(store(8, 10, from, -16), load(random.oneIn(8) ? 4 : 8, from, 10, -16));
        return;
      }
      case 10:
        if (random.oneIn(3)) this.#code.push(store(random.pick(WIDTHS), from, 6, random.between(0, 4) * 8));
        else {
          // an address for a probing read
          this.#code.push(move(3, from), move(1, 10), addImmediate(1, -64), moveImmediate(2, 8), call(113));
        }
        return;
      default:
        if (random.oneIn(2)) {
          this.#code.push(call(158), move(from, 0));
          this.#types.set(from, this.kernel.find("task_struct", "struct")!.id);
        } else this.#code.push(load(random.pick(WIDTHS), 1, 6, random.between(0, 12) * random.pick([4, 8])));
    }
  }

  #fromContext(into: number): void {
    const slots = attachFactsOf(kindOf(this.target, this.flags), this.kernel)?.slots ?? [];
    const wanted = slots.flatMap((slot, index) => slot.kind === "pointer" ? [index] : []);
    const slot = wanted.length === 0 || this.random.oneIn(25)
      ? this.random.below(14)
      : this.random.pick(wanted);
    this.#code.push(load(8, into, 6, slot * 8));
    const type = slots[slot]?.type;
    if (type === undefined) this.#types.delete(into);
    else this.#types.set(into, type);
    if ((slots[slot]?.flags ?? 0) & 1 && !this.random.oneIn(6)) {
      this.#exits.push(this.#code.length);
      this.#code.push([0x15, into, 0, 0, 0]);
    }
  }

  #field(from: number, into: number): void {
    const { random } = this;
    const type = this.#types.get(from)!;
    const [offset, size] = this.#place(type);
    this.#code.push(load(size, into, from, offset));
    const found = this.#oracle.answer({ type, offset: Math.max(0, offset), what: size });
    if (found?.kind === "pointer") {
      this.#types.set(into, found.target!);
      if (random.oneIn(4)) {
        this.#exits.push(this.#code.length);
        this.#code.push([0x15, into, 0, 0, 0]);
      }
    } else this.#types.delete(into);
  }

  /** An offset and a width in a struct: a member's, or near one. */
  #place(id: number): [number, number] {
    const { random, kernel } = this;
    let type = kernel.resolve(id), offset = 0;
    for (let depth = 0; depth < 6; depth++) {
      if ((type.kind !== "struct" && type.kind !== "union") || type.members.length === 0) break;
      const member = random.pick(type.members);
      offset += member.bitOffset >>> 3;
      type = kernel.resolve(member.type);
      if (type.kind === "array") {
        offset += random.below(Math.min(type.count + 1, 4)) * safeSize(kernel, type.type);
        type = kernel.resolve(type.type);
      }
    }
    let size = type.kind === "ptr" ? 8 : type.kind === "int" ? Math.min(8, type.size) : random.pick(WIDTHS);
    if (random.oneIn(8)) size = random.pick(WIDTHS);
    if (random.oneIn(12)) offset += random.between(-9, 9);
    if (random.oneIn(40)) offset += safeSize(kernel, id);
    return [Math.min(offset, 32760), size];
  }

  /** A field as memory for a helper: bpf_trace_printk() reads its format from anywhere. */
  #print(from: number): void {
    const { random } = this;
    const [offset, size] = this.#place(this.#types.get(from)!);
    this.#code.push(move(1, from), addImmediate(1, offset));
    this.#code.push(moveImmediate(2, random.oneIn(3) ? random.between(0, 80) : size), call(6));
  }

  #call(from: number): void {
    const { random } = this;
    const allowed = HELPERS.filter(({ iterOnly }) => !iterOnly || this.target.attach === ITER);
    const type = this.#types.get(from) ?? 0;
    const fitting = allowed.filter(({ takes }) =>
      this.#oracle.answer({ type, offset: 0, what: QUESTIONS.isStruct + STRUCT_CLASSES.indexOf(takes) })
        ?.kind ===
        "scalar"
    );
    const helper = random.pick(fitting.length > 0 && !random.oneIn(10) ? fitting : allowed);
    this.#code.push(move(1, from));
    helper.rest.forEach((kind, index) => {
      const register = index + 2;
      if (kind === "buffer") this.#code.push(move(register, 10), addImmediate(register, -64));
      else this.#code.push(moveImmediate(register, kind === "size" ? random.pick([8, 16, 48]) : 0));
    });
    this.#code.push(call(helper.id));
    if (random.oneIn(2)) {
      this.#code.push(move(from, 0));
      this.#types.delete(from);
      const results: Record<number, string> = {
        175: "pt_regs",
        136: "tcp6_sock",
        137: "tcp_sock",
        140: "udp6_sock",
        178: "unix_sock",
        162: "socket",
      };
      const type = this.kernel.find(results[helper.id] ?? "", "struct")?.id;
      if (type !== undefined) this.#types.set(from, type);
    }
  }
}

function safeSize(kernel: Btf, id: number): number {
  try {
    return kernel.sizeOf(id);
  } catch {
    return 8;
  }
}

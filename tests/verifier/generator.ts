/**
 * Makes random programs that mostly verify and mostly do something. Each keeps a rough idea of what its
 * registers hold, so that bounds checks come before accesses, and now and then forgets a check on purpose.
 *
 * ```text
 *  R9  records: address of one map value, into which registers are stored at record points
 *  R6  context      R7  packet start or nothing      R8  a looked up value, a number or nothing
 *  R0-R5           whatever comes
 *  fp-8 .. fp-64   spills and scratch        fp-72  spilled pointer    fp-80 ..  loop counters
 * ```
 *
 * @module
 */

import { type Node, node } from "./program.ts";
import type { Random } from "./random.ts";

/** A program type that can be run by `BPF_PROG_TEST_RUN`, and how its packet is found. */
export interface RunnableType {
  readonly name: string;
  readonly type: number;
  readonly attach: number;
  /** Offsets of `data` and `data_end` in the context; null where there is no direct packet access. */
  readonly packet: readonly [number, number] | null;
  /** Context fields that are plain 32-bit numbers. */
  readonly numbers: readonly number[];
  /** The largest return value that the type allows, null when any. */
  readonly returnMax: number | null;
}

/** The types that programs are generated for. */
export const RUNNABLE_TYPES: readonly RunnableType[] = [
  { name: "xdp", type: 6, attach: 37, packet: [0, 4], numbers: [12, 16], returnMax: null },
  {
    name: "sched_cls",
    type: 3,
    attach: 0,
    packet: [76, 80],
    numbers: [0, 4, 8, 12, 16, 32, 48, 52],
    returnMax: null,
  },
  { name: "socket_filter", type: 1, attach: 0, packet: null, numbers: [0, 4, 8, 16, 48], returnMax: null },
  { name: "cgroup_skb", type: 8, attach: 0, packet: [76, 80], numbers: [0, 8, 16, 48], returnMax: 1 },
];

/** Bytes of the value of the map that programs work on, and of the one that takes records (the second half is the adjudicator's). */
export const WORK_BYTES = 64, RECORD_SLOTS = 128, RECORD_BYTES = 2 * RECORD_SLOTS * 16;

/** The descriptors that the immediates of map loads carry. */
export interface MapDescriptors {
  readonly work: number;
  readonly records: number;
}

/** One place where a register's value is recorded. */
export interface RecordPoint {
  /** Index of the storing node. */
  readonly at: number;
  readonly register: number;
  readonly slot: number;
}

/** A generated program. */
export interface Generated {
  readonly type: RunnableType;
  readonly nodes: readonly Node[];
  readonly records: readonly RecordPoint[];
  /** How many sub-programs it has. */
  readonly functions: number;
}

/** What the generator believes about a register. */
type Kind = "none" | "scalar" | "ctx" | "packet" | "value" | "records";

const ALU = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  neg: 0x80,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
  arsh: 0xc0,
  end: 0xd0,
};
const COMPARE = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
const SIZE_BITS: Record<number, number> = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };
const SCRATCH = [0, 1, 2, 3, 4, 5, 8];
const RECORDS = 9, CONTEXT = 6, PACKET = 7, FRAME = 10;

/** How programs are to look; all optional. */
export interface GeneratorOptions {
  /** About how many steps (a step is one to six instructions); 24 by default. */
  readonly steps?: number;
  /** One step in so many breaks a rule on purpose; 0 never, 40 by default. */
  readonly mischief?: number;
}

/** Makes one program. */
export function generateProgram(
  random: Random,
  maps: MapDescriptors,
  options: GeneratorOptions = {},
): Generated {
  return new Generator(random, maps, options).program();
}

class Generator {
  readonly #nodes: Node[] = [];
  readonly #records: RecordPoint[] = [];
  readonly #type: RunnableType;
  #kinds: Kind[] = Array.from({ length: 11 }, () => "none" as Kind);
  /** 8-byte stack slots that hold something. */
  #stack = new Set<number>();
  #packetBytes = 0;
  readonly #mischief: number;
  /** Calls of sub-programs: the calling node and which function it means. */
  readonly #calls: { at: number; callee: number }[] = [];
  #functions = 0;
  #inFunction = false;

  constructor(readonly random: Random, readonly maps: MapDescriptors, readonly options: GeneratorOptions) {
    this.#type = random.pick(RUNNABLE_TYPES);
    this.#mischief = options.mischief ?? 40;
  }

  program(): Generated {
    this.#emit(node(0xbf, { dst: CONTEXT, src: 1 }));
    this.#emit(node(0x18, { dst: RECORDS, src: 2, immediate: this.maps.records, high: 0 }));
    this.#kinds[CONTEXT] = "ctx";
    this.#kinds[RECORDS] = "records";
    this.#packetCheck();
    for (let count = this.random.between(1, 3); count > 0; count--) this.#source();
    this.#block(this.options.steps ?? 24, 0);
    this.#return();
    this.#appendFunctions();
    return {
      type: this.#type,
      nodes: this.#nodes,
      records: this.#records,
      functions: this.#functions,
    };
  }

  /** Sub-programs take a number and the address of eight bytes of the caller's stack, and give a number. */
  #appendFunctions(): void {
    const starts: number[] = [];
    for (let index = 0; index < this.#functions; index++) {
      starts.push(this.#nodes.length);
      this.#stack = new Set();
      this.#packetBytes = 0;
      this.#kinds = this.#kinds.map(() => "none");
      this.#emit(
        node(0x79, { dst: 3, src: 2, offset: 0 }),
        node(0x7b, { dst: 2, src: 1, offset: 0 }),
        node(0x18, { dst: RECORDS, src: 2, immediate: this.maps.records, high: 0 }),
      );
      this.#kinds[1] = this.#kinds[3] = "scalar";
      this.#kinds[RECORDS] = "records";
      this.#inFunction = true;
      this.#block(this.random.between(3, 10), 2);
      const scalar = this.#someScalar();
      this.#emit(node(0xbf, { dst: 0, src: scalar }), node(0x95));
    }
    for (const { at, callee } of this.#calls) this.#setTarget(at, starts[callee]);
  }

  #emit(...nodes: Node[]): void {
    this.#nodes.push(...nodes);
  }

  #naughty(): boolean {
    return this.#mischief > 0 && this.random.oneIn(this.#mischief);
  }

  #block(steps: number, depth: number): void {
    for (let step = 0; step < steps; step++) {
      const choice = this.random.below(100);
      if (choice < 32) this.#arithmetic();
      else if (choice < 42) this.#source();
      else if (choice < 50) this.#stackAccess();
      else if (choice < 58) this.#valueAccess();
      else if (choice < 65) this.#packetAccess();
      else if (choice < 84) this.#record();
      else if (choice < 93 && depth < 4) this.#branch(Math.max(2, steps >> 2), depth);
      else if (choice < 95 && depth < 2) this.#loop(depth);
      else if (choice < 96) this.#atomic();
      else if (choice < 97 && !this.#inFunction) this.#callFunction();
      else if (choice < 98) this.#lookup();
      else if (choice < 99) this.#lookedUpAccess();
      else this.#bound();
    }
  }

  #return(): void {
    if (this.#type.returnMax === null && this.#kinds[0] === "scalar") this.#emit(node(0x95));
    else {this.#emit(
        node(0xb7, { immediate: this.#type.returnMax === null ? 1 : this.random.below(2) }),
        node(0x95),
      );}
  }

  /** `if (data + n > data_end) return`, at the start. */
  #packetCheck(): void {
    const packet = this.#type.packet;
    if (packet === null || this.random.oneIn(5)) return;
    const bytes = this.random.between(1, 64);
    this.#emit(
      node(0x61, { dst: PACKET, src: CONTEXT, offset: packet[0] }),
      node(0x61, { dst: 2, src: CONTEXT, offset: packet[1] }),
      node(0xbf, { dst: 3, src: PACKET }),
      node(0x07, { dst: 3, immediate: bytes }),
    );
    this.#leaveIf(0x2d, 3, 2);
    this.#kinds[PACKET] = "packet";
    this.#packetBytes = bytes;
  }

  /** `if dst <op> src: return 0`. */
  #leaveIf(opcode: number, dst: number, src: number, immediate = 0): void {
    const at = this.#nodes.length;
    const way: Node = node(opcode ^ 0, { dst, src, immediate, target: at + 2 });
    const skip = node(0x05, { target: at + 4 });
    this.#emit(way, skip, node(0xb7, { immediate: 0 }), node(0x95));
  }

  #scalars(): number[] {
    return SCRATCH.filter((register) => this.#kinds[register] === "scalar");
  }

  #someScalar(): number {
    const scalars = this.#scalars();
    if (scalars.length > 0) return this.random.pick(scalars);
    this.#source();
    return this.random.pick(this.#scalars());
  }

  /** A register gets a number from somewhere. */
  #source(): void {
    const dst = this.random.pick(SCRATCH);
    switch (this.random.below(6)) {
      case 0:
        this.#emit(node(0xb7, { dst, immediate: this.random.immediate() }));
        break;
      case 1: {
        this.#emit(node(0x18, { dst, immediate: this.random.immediate(), high: this.random.immediate() }));
        break;
      }
      case 2:
        if (this.#inFunction) {
          return this.#emit(node(0xb7, { dst, immediate: 5 })), void (this.#kinds[dst] = "scalar");
        }
        this.#emit(node(0x61, { dst, src: CONTEXT, offset: this.random.pick(this.#type.numbers) }));
        break;
      case 3: {
        // A number that only the run knows, straight out of the map's value.
        const bytes = this.random.pick([1, 2, 4, 8]);
        this.#emit(
          node(0x18, { dst, src: 2, immediate: this.maps.work, high: 0 }),
          node(0x61 | SIZE_BITS[bytes], {
            dst,
            src: dst,
            offset: this.random.below(WORK_BYTES / bytes) * bytes,
          }),
        );
        break;
      }
      case 4: {
        const bytes = this.random.pick([1, 2, 4]);
        this.#emit(
          node(0x18, { dst, src: 2, immediate: this.maps.work, high: 0 }),
          // Sign-extending load, ISA v4.
          node(0x81 | SIZE_BITS[bytes], {
            dst,
            src: dst,
            offset: this.random.below(WORK_BYTES / bytes) * bytes,
          }),
        );
        break;
      }
      default:
        if (this.random.oneIn(2) && this.#mischief >= 0) {
          this.#call(7);
          return;
        }
        this.#emit(node(0xb7, { dst, immediate: this.random.immediate() }));
    }
    this.#kinds[dst] = "scalar";
  }

  #call(helper: number): void {
    this.#emit(node(0x85, { immediate: helper }));
    for (let register = 1; register <= 5; register++) this.#kinds[register] = "none";
    this.#kinds[0] = "scalar";
  }

  /** `r0 = f(number, &slot)`; the slot holds what the callee made of it. */
  #callFunction(): void {
    const callee = this.#functions === 0 || (this.#functions < 2 && this.random.oneIn(2))
      ? this.#functions++
      : this.random.below(this.#functions);
    this.#emit(
      node(0x7b, { dst: FRAME, src: this.#someScalar(), offset: -8 }),
      node(0xbf, { dst: 1, src: this.#someScalar() }),
      node(0xbf, { dst: 2, src: FRAME }),
      node(0x07, { dst: 2, immediate: -8 }),
    );
    this.#calls.push({ at: this.#nodes.length, callee });
    this.#emit(node(0x85, { src: 1, target: 0 }));
    for (let register = 1; register <= 5; register++) this.#kinds[register] = "none";
    this.#kinds[0] = "scalar";
    this.#stack.add(-8);
  }

  /** Looks the map's value up, checks it for null, and may spill and fill it in between. */
  #lookup(): void {
    const slot = -72;
    this.#emit(
      node(0x63, { dst: FRAME, src: this.#someScalar(), offset: slot }),
      node(0xbf, { dst: 2, src: FRAME }),
      node(0x07, { dst: 2, immediate: slot }),
      node(0x18, { dst: 1, src: 1, immediate: this.maps.work, high: 0 }),
    );
    this.#call(1);
    this.#kinds[0] = "none";
    const spilled = this.random.oneIn(2);
    if (spilled) this.#emit(node(0x7b, { dst: FRAME, src: 0, offset: slot }));
    if (!this.#naughty()) this.#leaveIf(0x15, 0, 0);
    this.#emit(spilled ? node(0x79, { dst: 8, src: FRAME, offset: slot }) : node(0xbf, { dst: 8, src: 0 }));
    this.#kinds[8] = "value";
  }

  #lookedUpAccess(): void {
    if (this.#kinds[8] !== "value") return this.#lookup();
    const bytes = this.random.pick([1, 2, 4, 8]);
    const offset = this.random.below(WORK_BYTES - bytes + 1) + (this.#naughty() ? WORK_BYTES - 4 : 0);
    if (this.random.oneIn(2)) {
      const dst = this.random.pick([0, 1, 2, 3, 4, 5]);
      this.#emit(node(0x61 | SIZE_BITS[bytes], { dst, src: 8, offset }));
      this.#kinds[dst] = "scalar";
    } else this.#emit(node(0x63 | SIZE_BITS[bytes], { dst: 8, src: this.#someScalar(), offset }));
  }

  #arithmetic(): void {
    const dst = this.#someScalar();
    const wide = this.random.oneIn(3) ? 4 : 7;
    const width = wide === 7 ? 64 : 32;
    const operation = this.random.pick(Object.keys(ALU) as (keyof typeof ALU)[]);
    const opcode = ALU[operation] | wide;
    const scalars = this.#scalars();
    const byRegister = this.random.oneIn(2);
    const src = this.random.pick(scalars);
    switch (operation) {
      case "neg":
        return this.#emit(node(opcode, { dst }));
      case "end": {
        const bits = this.random.pick([16, 32, 64]);
        return this.#emit(node(this.random.pick([0xd4, 0xdc, 0xd7]), { dst, immediate: bits }));
      }
      case "lsh":
      case "rsh":
      case "arsh":
        if (byRegister) return this.#emit(node(opcode | 8, { dst, src }));
        return this.#emit(node(opcode, { dst, immediate: this.random.below(this.#naughty() ? 80 : width) }));
      case "mov": {
        const to = this.random.pick(SCRATCH);
        const signed = this.random.oneIn(3) ? this.random.pick(wide === 7 ? [8, 16, 32] : [8, 16]) : 0;
        this.#emit(node(opcode | 8, { dst: to, src, offset: signed }));
        this.#kinds[to] = "scalar";
        return;
      }
      case "div":
      case "mod": {
        const offset = this.random.oneIn(2) ? 1 : 0;
        if (byRegister) return this.#emit(node(opcode | 8, { dst, src, offset }));
        const immediate = this.random.immediate();
        return this.#emit(
          node(opcode, { dst, offset, immediate: immediate === 0 && !this.#naughty() ? 3 : immediate }),
        );
      }
      default:
        if (byRegister) return this.#emit(node(opcode | 8, { dst, src }));
        return this.#emit(node(opcode, { dst, immediate: this.random.immediate() }));
    }
  }

  /** A scalar is brought below some bound, by a mask or by a test. */
  #bound(): void {
    const dst = this.#someScalar();
    if (this.random.oneIn(2)) {
      return this.#emit(node(0x57, { dst, immediate: this.random.pick([1, 3, 7, 15, 31, 63, 255]) }));
    }
    this.#leaveIf(0x25, dst, 0, this.random.pick([0, 1, 7, 31, 63, 100, 255]));
  }

  #stackAccess(): void {
    const slot = -8 * this.random.between(1, 8);
    const bytes = this.random.pick([1, 2, 4, 8, 8, 8]);
    const within = bytes === 8 ? 0 : this.random.below(8 / bytes) * bytes;
    if (this.#stack.has(slot) && this.random.oneIn(2)) {
      const dst = this.random.pick(SCRATCH);
      this.#emit(node(0x61 | SIZE_BITS[bytes], { dst, src: FRAME, offset: slot + within }));
      this.#kinds[dst] = "scalar";
      return;
    }
    if (this.random.oneIn(3)) {
      this.#emit(node(0x62 | SIZE_BITS[8], { dst: FRAME, offset: slot, immediate: this.random.immediate() }));
    } else {
      this.#emit(node(0x63 | SIZE_BITS[8], { dst: FRAME, src: this.#someScalar(), offset: slot }));
    }
    if (bytes !== 8) {
      this.#emit(
        node(0x63 | SIZE_BITS[bytes], { dst: FRAME, src: this.#someScalar(), offset: slot + within }),
      );
    }
    this.#stack.add(slot);
  }

  /** Looks the map's value up, checks for null, and reads or writes at a masked place. */
  #valueAccess(): void {
    const index = this.#someScalar();
    const bytes = this.random.pick([1, 2, 4, 8]);
    const mask = this.random.pick([7, 15, 31]);
    const spare = this.random.pick(SCRATCH.filter((register) => register !== index));
    this.#emit(
      node(0x57, { dst: index, immediate: this.#naughty() ? 255 : mask }),
      node(0x18, { dst: spare, src: 2, immediate: this.maps.work, high: 0 }),
      node(0x0f, { dst: spare, src: index }),
    );
    const offset = this.random.below(WORK_BYTES - mask - bytes + 1) + (this.#naughty() ? 4 : 0);
    if (this.random.oneIn(2)) this.#emit(node(0x61 | SIZE_BITS[bytes], { dst: spare, src: spare, offset }));
    else {
      this.#emit(node(0x63 | SIZE_BITS[bytes], { dst: spare, src: index, offset }));
      this.#emit(node(0xbf, { dst: spare, src: index }));
    }
    this.#kinds[spare] = "scalar";
  }

  /** Reads the checked part of the packet, or a variable place after a check of its own. */
  #packetAccess(): void {
    const packet = this.#type.packet;
    if (packet === null || this.#inFunction || this.#kinds[PACKET] !== "packet") return this.#source();
    const dst = this.random.pick(SCRATCH);
    const bytes = this.random.pick([1, 2, 4, 8]);
    if (this.random.oneIn(2) && this.#packetBytes >= bytes) {
      const offset = this.random.below(this.#packetBytes - bytes + 1) + (this.#naughty() ? bytes : 0);
      this.#emit(node(0x61 | SIZE_BITS[bytes], { dst, src: PACKET, offset }));
      this.#kinds[dst] = "scalar";
      return;
    }
    const index = this.#someScalar();
    const [pointer, end] = this.random.shuffle(SCRATCH.filter((register) => register !== index));
    this.#emit(
      node(0x57, { dst: index, immediate: this.random.pick([3, 15, 63, 255]) }),
      node(0xbf, { dst: pointer, src: PACKET }),
      node(0x0f, { dst: pointer, src: index }),
      node(0x61, { dst: end, src: CONTEXT, offset: packet[1] }),
      node(0xbf, { dst: index, src: pointer }),
      node(0x07, { dst: index, immediate: bytes + (this.#naughty() ? -1 : 0) }),
    );
    // All four ways to compare, in both orders.
    const [opcode, left, right] = this.random.pick([[0x2d, index, end], [0xad, end, index]] as const);
    this.#leaveIf(opcode, left, right);
    this.#emit(node(0x61 | SIZE_BITS[bytes], { dst: pointer, src: pointer, offset: 0 }));
    this.#kinds[pointer] = "scalar";
    this.#kinds[index] = "none";
    this.#kinds[end] = "none";
  }

  /** `if dst <op> src { block } else { block }`. */
  #branch(steps: number, depth: number): void {
    const dst = this.#someScalar();
    const opcode = this.random.pick(COMPARE) | (this.random.oneIn(3) ? 6 : 5);
    const head = this.#nodes.length;
    const scalars = this.#scalars();
    if (this.random.oneIn(2)) {
      this.#emit(node(opcode, { dst, immediate: this.random.immediate(), target: 0 }));
    } else this.#emit(node(opcode | 8, { dst, src: this.random.pick(scalars), target: 0 }));
    const before = { kinds: [...this.#kinds], stack: new Set(this.#stack) };
    this.#block(this.random.between(1, steps), depth + 1);
    const afterThen = { kinds: this.#kinds, stack: this.#stack };
    this.#kinds = [...before.kinds];
    this.#stack = new Set(before.stack);
    if (this.random.oneIn(2)) {
      const leave = this.#nodes.length;
      this.#emit(node(0x05, { target: 0 }));
      this.#setTarget(head, this.#nodes.length);
      this.#block(this.random.between(1, steps), depth + 1);
      this.#setTarget(leave, this.#nodes.length);
    } else this.#setTarget(head, this.#nodes.length);
    this.#kinds = this.#kinds.map((kind, register) => kind === afterThen.kinds[register] ? kind : "none");
    this.#stack = new Set([...this.#stack].filter((slot) => afterThen.stack.has(slot)));
  }

  /** A loop that counts in a stack slot, at most eight rounds. */
  #loop(depth: number): void {
    const slot = -8 * this.random.between(10, 12) - 64 * depth;
    this.#emit(node(0x7a, { dst: FRAME, offset: slot, immediate: 0 }));
    const head = this.#nodes.length;
    const before = [...this.#kinds];
    // What the body makes of a register must be what it found: numbers stay numbers.
    this.#block(this.random.between(1, 4), depth + 2);
    this.#kinds = this.#kinds.map((kind, register) => kind === before[register] ? kind : "none");
    const broken = before.some((kind, register) => kind !== "none" && this.#kinds[register] === "none");
    const counter = this.random.pick(SCRATCH);
    this.#emit(
      node(0x79, { dst: counter, src: FRAME, offset: slot }),
      node(0x07, { dst: counter, immediate: 1 }),
      node(0x7b, { dst: FRAME, src: counter, offset: slot }),
    );
    if (!broken || this.#naughty()) {
      this.#emit(node(0xa5, { dst: counter, immediate: this.random.between(1, 8), target: head }));
    }
    this.#kinds[counter] = "scalar";
    if (before[counter] !== "scalar" && !broken) this.#kinds[counter] = "none";
  }

  #atomic(): void {
    const src = this.#someScalar();
    const pointer = this.random.pick(SCRATCH.filter((register) => register !== src && register !== 0));
    const operation = this.random.pick([0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1]);
    const bytes = this.random.pick([4, 8]);
    if (operation === 0xf1 && this.#kinds[0] !== "scalar") return;
    this.#emit(
      node(0x18, { dst: pointer, src: 2, immediate: this.maps.work, high: 0 }),
      node(0xc3 | SIZE_BITS[bytes], {
        dst: pointer,
        src,
        offset: this.random.below(WORK_BYTES / bytes) * bytes,
        immediate: operation,
      }),
    );
    this.#kinds[pointer] = "none";
  }

  /** Stores a scalar, and that this place was reached. */
  #record(): void {
    const slot = this.#records.length;
    const scalars = this.#scalars();
    if (slot >= RECORD_SLOTS || scalars.length === 0) return;
    const register = this.random.pick(scalars);
    this.#emit(node(0x7a, { dst: RECORDS, offset: slot * 16 + 8, immediate: 1 }));
    this.#records.push({ at: this.#nodes.length, register, slot });
    this.#emit(node(0x7b, { dst: RECORDS, src: register, offset: slot * 16 }));
  }

  #setTarget(at: number, target: number): void {
    this.#nodes[at] = { ...this.#nodes[at], target };
  }
}

/**
 * Runs a program step by step on made-up memory, and stops where a real one would touch what is not its own. What the
 * kernel leaves open is drawn: random numbers, whether a tail call finds a program, whether a packet is long enough, how
 * many elements a map has. An accepted program must never be stopped, whatever is drawn.
 *
 * ```text
 *  register or saved register:  number | pointer { region, offset }
 *  region:  stack of a frame · value or key of a map · packet · context; each with bytes, rights and an end of life
 *  tail call that succeeds:  the frame on top is gone, its caller goes on with any R0
 *  packet load that fails:   the function on top returns 0
 * ```
 *
 * @module
 */

import type { MapFacts } from "@weir/verifier";
import type { Random } from "./random.ts";

/** What a run was stopped for. */
export class Violation extends Error {
  constructor(readonly slot: number, what: string) {
    super(`instruction ${slot}: ${what}`);
  }
}

/** A run that says nothing: it took too long. */
class Undecided extends Error {}

interface Region {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly saved: Map<number, Pointer>;
  readonly writable: boolean;
  alive: boolean;
}

interface Pointer {
  readonly region: Region;
  readonly offset: number;
}

type Value = bigint | Pointer | MapFacts | Code;
interface Code {
  readonly start: number;
}

/** Where the context of a program type has its packet. */
export interface RunType {
  readonly packet: readonly [data: number, end: number] | null;
}

/** How a run is drawn; fixed values make it repeatable beside the kernel. */
export interface RunOptions {
  readonly type: RunType;
  readonly maps: readonly MapFacts[];
  /** Elements of maps that are walked; drawn by default. */
  readonly elements?: (map: MapFacts) => number;
  /** What a tail call to `index` returns; null where there is no program. Drawn by default. */
  readonly tailCall?: (index: bigint) => bigint | null;
  readonly packetBytes?: number;
  /** Looks at the numbers that each step is about to read; of others a verifier promises nothing. */
  readonly watch?: (slot: number, registers: readonly (bigint | undefined)[]) => void;
}

/** What is left of a run. */
export interface RunOutcome {
  /** R0 at the end; undefined when another program took over or the run took too long. */
  readonly result: bigint | undefined;
  /** Values of array maps by handle. */
  readonly values: ReadonlyMap<number, Uint8Array>;
}

const STEPS_MAX = 20_000, FRAME_BYTES = 512, MASK = 0xffffffffffffffffn, LOW = 0xffffffffn;
const ARRAY = 2, DEVICES = [14, 25], MAP_READ_ONLY = 0x80;

function region(name: string, size: number, writable = true): Region {
  return { name, bytes: new Uint8Array(size), saved: new Map(), writable, alive: true };
}
const isPointer = (value: Value | undefined): value is Pointer =>
  typeof value === "object" && "region" in value;

/** Runs the program once. Throws {@link Violation}. */
export function interpret(
  instructions: Uint8Array<ArrayBuffer>,
  random: Random,
  options: RunOptions,
): RunOutcome {
  const machine = new Machine(instructions, random, options);
  try {
    return { result: machine.program(), values: machine.arrays() };
  } catch (error) {
    if (error instanceof Undecided) return { result: undefined, values: machine.arrays() };
    throw error;
  }
}

class Machine {
  readonly #code: DataView;
  readonly #values = new Map<number, Region>();
  readonly #context = region("the context", 256, false);
  #packet: Region;
  #steps = 0;
  readonly #later: { start: number; map: MapFacts; value: Region }[] = [];

  constructor(
    instructions: Uint8Array<ArrayBuffer>,
    readonly random: Random,
    readonly options: RunOptions,
  ) {
    this.#code = new DataView(instructions.buffer, instructions.byteOffset, instructions.byteLength);
    this.#packet = region(
      "the packet",
      options.packetBytes ?? random.pick([0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 64, 300]),
    );
    for (const map of options.maps) {
      if (map.type === ARRAY) this.#values.set(map.handle, this.#newValue(map));
    }
  }

  program(): bigint | undefined {
    const context = { region: this.#context, offset: 0 };
    const result = this.#call(0, [undefined, context], 0);
    for (const { start, map, value } of this.#later.splice(0)) {
      const key = region("a key", map.keySize, false);
      const args = [undefined, map, { region: key, offset: 0 }, { region: value, offset: 0 }];
      if (this.random.oneIn(2) && this.#call(start, args, 0) !== 0n) {
        throw new Violation(start, "what a timer calls returns another number than 0");
      }
    }
    return typeof result === "bigint" ? result : undefined;
  }

  arrays(): Map<number, Uint8Array> {
    return new Map([...this.#values].map(([handle, { bytes }]) => [handle, bytes]));
  }

  #newValue(map: MapFacts): Region {
    const writable = !DEVICES.includes(map.type) && (map.flags & MAP_READ_ONLY) === 0;
    return region(`a value of map ${map.handle}`, map.valueSize, writable);
  }

  #number(): bigint {
    return this.random.pick([0n, 1n, 2n, 7n, 64n, 1000n, BigInt(this.random.below(0x7fffffff)), MASK]);
  }

  /** Runs a function to its end; `undefined` when a tail call replaced it. */
  #call(start: number, registers: (Value | undefined)[], depth: number): Value | undefined {
    const stack = region(`the stack of frame ${depth}`, FRAME_BYTES);
    registers = [...registers, ...new Array(11 - registers.length)];
    registers[10] = { region: stack, offset: FRAME_BYTES };
    for (let slot = start;;) {
      if (++this.#steps > STEPS_MAX) throw new Undecided();
      if (this.options.watch !== undefined) this.options.watch(slot, this.#numbersRead(slot, registers));
      const next = this.#step(slot, registers, depth);
      if (next === "exit" || next === "replaced") {
        stack.alive = false;
        return next === "exit" ? this.#read(slot, registers, 0) : undefined;
      }
      slot = next;
    }
  }

  #numbersRead(slot: number, registers: readonly (Value | undefined)[]): (bigint | undefined)[] {
    const opcode = this.#code.getUint8(slot * 8), fields = this.#code.getUint8(slot * 8 + 1);
    const kind = opcode & 7, read: number[] = [];
    if (kind === 3 || kind === 1 || kind >= 4 && (opcode & 8) !== 0) read.push(fields >> 4);
    const writesOnly = kind === 1 || (kind === 4 || kind === 7) && (opcode & 0xf0) === 0xb0;
    if (kind > 1 && !writesOnly && opcode !== 0x05 && opcode !== 0x85 && opcode !== 0x95) {
      read.push(fields & 15);
    }
    return registers.map((value, register) =>
      typeof value === "bigint" && read.includes(register) ? value : undefined
    );
  }

  #read(slot: number, registers: readonly (Value | undefined)[], register: number): Value {
    const value = registers[register];
    if (value === undefined) throw new Violation(slot, `R${register} was never written`);
    return value;
  }

  #step(slot: number, registers: (Value | undefined)[], depth: number): number | "exit" | "replaced" {
    const at = slot * 8, opcode = this.#code.getUint8(at), fields = this.#code.getUint8(at + 1);
    const dst = fields & 15, src = fields >> 4;
    const offset = this.#code.getInt16(at + 2, true), immediate = this.#code.getInt32(at + 4, true);
    const kind = opcode & 7, bytes = [4, 2, 1, 8][opcode >> 3 & 3];
    switch (kind) {
      case 0:
        if (opcode !== 0x18) return this.#loadPacket(slot, opcode, immediate, registers, depth);
        registers[dst] = this.#constant(slot, src, immediate);
        return slot + 2;
      case 1:
        registers[dst] = this.#load(slot, this.#read(slot, registers, src), offset, bytes);
        return slot + 1;
      case 2:
        this.#store(slot, this.#read(slot, registers, dst), offset, bytes, BigInt(immediate) & MASK);
        return slot + 1;
      case 3:
        this.#store(
          slot,
          this.#read(slot, registers, dst),
          offset,
          bytes,
          this.#read(slot, registers, src),
        );
        return slot + 1;
      case 4:
      case 7: {
        const by = (opcode & 8) !== 0 ? this.#read(slot, registers, src) : BigInt(immediate) & MASK;
        const old = (opcode & 0xf0) === 0xb0 ? 0n : this.#read(slot, registers, dst);
        registers[dst] = this.#alu(slot, opcode & 0xf0, kind === 4, old, by);
        return slot + 1;
      }
    }
    if (opcode === 0x95) return "exit";
    if (opcode === 0x85) return this.#callOut(slot, src, immediate, registers, depth);
    if (opcode === 0x05) return slot + 1 + offset;
    const left = this.#read(slot, registers, dst);
    const right = (opcode & 8) !== 0 ? this.#read(slot, registers, src) : BigInt(immediate) & MASK;
    return this.#holds(opcode & 0xf0, kind === 6, left, right) ? slot + 1 + offset : slot + 1;
  }

  #constant(slot: number, kind: number, immediate: number): Value {
    const high = this.#code.getInt32(slot * 8 + 12, true);
    if (kind === 0) return BigInt.asUintN(32, BigInt(immediate)) | BigInt.asUintN(32, BigInt(high)) << 32n;
    if (kind === 4) return { start: slot + 1 + immediate };
    const map = this.options.maps.find(({ handle }) => handle === immediate)!;
    return kind === 1 ? map : { region: this.#values.get(map.handle)!, offset: high };
  }

  /** Bytes of a region that an access may touch. */
  #place(slot: number, base: Value, offset: number, bytes: number, write: boolean): [Region, number] {
    if (!isPointer(base)) throw new Violation(slot, "an address that is none");
    const at = base.offset + offset, { region } = base;
    if (!region.alive) throw new Violation(slot, `${region.name} is gone`);
    if (at < 0 || at + bytes > region.bytes.length) {
      throw new Violation(
        slot,
        `${bytes} bytes at ${at} of ${region.name}, which has ${region.bytes.length}`,
      );
    }
    if (write && !region.writable) throw new Violation(slot, `${region.name} is read only`);
    return [region, at];
  }

  #load(slot: number, base: Value, offset: number, bytes: number): Value {
    const [region, at] = this.#place(slot, base, offset, bytes, false);
    if (region === this.#context) return this.#contextField(at);
    const saved = region.saved.get(at);
    if (saved !== undefined && bytes === 8) return saved;
    if ([...region.saved.keys()].some((key) => key < at + bytes && key + 8 > at)) return this.#number();
    let value = 0n;
    for (let index = bytes - 1; index >= 0; index--) value = value << 8n | BigInt(region.bytes[at + index]);
    return value;
  }

  #contextField(at: number): Value {
    const [data, end] = this.options.type.packet ?? [-1, -1];
    if (at === data) return { region: this.#packet, offset: 0 };
    if (at === end) return { region: this.#packet, offset: this.#packet.bytes.length };
    return BigInt(this.random.below(0x7fffffff));
  }

  #store(slot: number, base: Value, offset: number, bytes: number, value: Value): void {
    const [region, at] = this.#place(slot, base, offset, bytes, true);
    for (const key of region.saved.keys()) if (key < at + bytes && key + 8 > at) region.saved.delete(key);
    if (isPointer(value)) {
      region.saved.set(at, value);
      value = 0n;
    } else if (typeof value !== "bigint") value = 0n;
    for (let index = 0; index < bytes; index++) {
      region.bytes[at + index] = Number(value >> BigInt(8 * index) & 255n);
    }
  }

  #alu(slot: number, operation: number, is32: boolean, left: Value, right: Value): Value {
    if (typeof left !== "bigint" || typeof right !== "bigint") {
      if (operation === 0xb0 && !is32) return right;
      if (!is32 && isPointer(left) && typeof right === "bigint" && (operation === 0 || operation === 0x10)) {
        const by = Number(BigInt.asIntN(64, operation === 0 ? right : -right));
        return { region: left.region, offset: left.offset + by };
      }
      if (!is32 && operation === 0 && typeof left === "bigint" && isPointer(right)) {
        return { region: right.region, offset: right.offset + Number(BigInt.asIntN(64, left)) };
      }
      return this.#number();
    }
    const bits = is32 ? 32 : 64;
    const a = BigInt.asUintN(bits, left), b = BigInt.asUintN(bits, right), shift = b & BigInt(bits - 1);
    const results: Record<number, () => bigint> = {
      0x00: () => a + b,
      0x10: () => a - b,
      0x20: () => a * b,
      0x30: () => b === 0n ? 0n : a / b,
      0x40: () => a | b,
      0x50: () => a & b,
      0x60: () => a << shift,
      0x70: () => a >> shift,
      0x90: () => b === 0n ? a : a % b,
      0xa0: () => a ^ b,
      0xb0: () => b,
      0xc0: () => BigInt.asIntN(bits, a) >> shift,
    };
    const result = results[operation];
    if (result === undefined) throw new Violation(slot, "an operation that the interpreter does not have");
    return BigInt.asUintN(bits, result());
  }

  #holds(operation: number, is32: boolean, left: Value, right: Value): boolean {
    if (isPointer(left) && isPointer(right)) {
      return compare(operation, BigInt(left.offset) + (1n << 40n), BigInt(right.offset) + (1n << 40n), 64);
    }
    // A pointer is not NULL; more than that nobody compares it with.
    const a = typeof left === "bigint" ? left : MASK - 4095n,
      b = typeof right === "bigint" ? right : MASK - 4095n;
    const bits = is32 ? 32 : 64;
    return compare(operation, BigInt.asUintN(bits, a), BigInt.asUintN(bits, b), bits);
  }

  #loadPacket(
    slot: number,
    opcode: number,
    immediate: number,
    registers: (Value | undefined)[],
    depth: number,
  ): number | "exit" {
    const bytes = [4, 2, 1, 8][opcode >> 3 & 3];
    const indirect = (opcode & 0xe0) === 0x40
      ? this.#read(slot, registers, this.#code.getUint8(slot * 8 + 1) >> 4)
      : 0n;
    const at = immediate + (typeof indirect === "bigint" ? Number(BigInt.asIntN(32, indirect)) : 0);
    if (depth < 0 || at < 0 || at + bytes > this.#packet.bytes.length) {
      registers[0] = 0n;
      return "exit";
    }
    registers.fill(undefined, 1, 6);
    registers[0] = BigInt.asUintN(bytes * 8, this.#number());
    return slot + 1;
  }

  #callOut(
    slot: number,
    kind: number,
    immediate: number,
    registers: (Value | undefined)[],
    depth: number,
  ): number | "replaced" {
    let result: Value | undefined;
    if (kind === 1) {
      result = this.#call(slot + 1 + immediate, registers.slice(0, 6), depth + 1);
      // A program that was jumped to returns what it likes, and may have moved the packet.
      if (result === undefined) result = this.#foreign ?? this.#number();
    } else {
      const outcome = this.#helper(slot, immediate, registers, depth);
      if (outcome === "replaced") return "replaced";
      result = outcome;
    }
    registers.fill(undefined, 0, 6);
    registers[0] = result;
    return slot + 1;
  }

  #foreign: bigint | undefined;

  #helper(
    slot: number,
    helper: number,
    registers: readonly (Value | undefined)[],
    depth: number,
  ): Value | undefined | "replaced" {
    const argument = (register: number) => this.#read(slot, registers, register);
    const mapArgument = (register: number): MapFacts => {
      const value = argument(register);
      if (typeof value === "object" && "handle" in value) return value;
      throw new Violation(slot, `R${register} is no map`);
    };
    const code = (): Code => {
      const value = argument(2);
      if (typeof value === "object" && "start" in value) return value;
      throw new Violation(slot, "R2 is no function");
    };
    switch (helper) {
      case 1: { // map_lookup_elem
        const map = mapArgument(1);
        this.#place(slot, argument(2), 0, map.keySize, false);
        const array = this.#values.get(map.handle);
        return this.random.oneIn(3) ? 0n : { region: array ?? this.#newValue(map), offset: 0 };
      }
      case 7: // get_prandom_u32
        return BigInt.asUintN(32, this.#number());
      case 12: // tail_call
        return this.#tailCall(argument(3));
      case 39: // skb_pull_data
      case 44: // xdp_adjust_head
        this.#movePacket();
        return 0n;
      case 164:
        return this.#forEach(slot, mapArgument(1), code(), argument(3), depth);
      case 181:
        return this.#loop(slot, argument(1), code(), argument(3), depth);
      case 169: // timer_init
      case 171: // timer_start
        this.#place(slot, argument(1), 0, 16, true);
        return 0n;
      case 170: { // timer_set_callback
        const [value] = this.#place(slot, argument(1), 0, 16, true);
        const map = this.options.maps.find(({ specialFields }) => specialFields !== undefined)!;
        this.#later.push({ start: code().start, map, value });
        return 0n;
      }
    }
    throw new Violation(slot, `helper ${helper}, which the interpreter does not have`);
  }

  #movePacket(): void {
    const old = this.#packet;
    this.#packet = region("the packet", old.bytes.length);
    this.#packet.bytes.set(old.bytes);
    old.alive = false;
  }

  #tailCall(index: Value): undefined | "replaced" {
    const found = this.options.tailCall === undefined
      ? this.random.oneIn(2) ? this.#number() : null
      : this.options.tailCall(index as bigint);
    // To the verifiers the packet may be another one either way; a jump that fails leaves it where it was.
    if (found === null) return undefined;
    this.#movePacket();
    this.#foreign = found;
    return "replaced";
  }

  #callback(slot: number, { start }: Code, args: (Value | undefined)[], depth: number): boolean {
    const result = this.#call(start, args, depth + 1);
    if (result !== 0n && result !== 1n) throw new Violation(slot, `a callback returns ${String(result)}`);
    return result === 0n;
  }

  #forEach(slot: number, map: MapFacts, code: Code, context: Value, depth: number): Value {
    const count = this.options.elements?.(map) ?? this.random.below(4);
    for (let index = 0; index < count; index++) {
      const key = region("a key", map.keySize, false),
        value = this.#values.get(map.handle) ?? this.#newValue(map);
      key.bytes[0] = index;
      const args = [undefined, map, { region: key, offset: 0 }, { region: value, offset: 0 }, context];
      if (!this.#callback(slot, code, args, depth)) return BigInt(index + 1);
    }
    return BigInt(count);
  }

  #loop(slot: number, rounds: Value, code: Code, context: Value, depth: number): Value {
    if (typeof rounds !== "bigint") throw new Violation(slot, "a number of rounds that is none");
    const count = rounds & LOW;
    for (let index = 0n; index < count; index++) {
      if (!this.#callback(slot, code, [undefined, index, context], depth)) return index + 1n;
    }
    return count;
  }
}

function compare(operation: number, a: bigint, b: bigint, bits: number): boolean {
  const x = BigInt.asIntN(bits, a), y = BigInt.asIntN(bits, b);
  switch (operation) {
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
      return x > y;
    case 0x70:
      return x >= y;
    case 0xa0:
      return a < b;
    case 0xb0:
      return a <= b;
    case 0xc0:
      return x < y;
    default:
      return x <= y;
  }
}

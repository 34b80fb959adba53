/**
 * Makes programs whose control goes by functions, callbacks, tail calls, packet loads and loops, all of which work on the
 * same few cells of the first function's stack: what one path leaves there decides what another may do.
 *
 * ```text
 *  main      fp-48 .. fp-1: six cells, the last one for a pointer     R7 the lowest of them, in every function
 *  function  R6 context, R7 cells                     returns a number
 *  callback  R7 cells, R8 the map value that it got   returns 0 or 1
 * ```
 *
 * Numbers are kept simple on purpose (constants, masks, comparisons), so that the kernel knows as much of them as we do.
 *
 * @module
 */

import type { MapFacts } from "@weir/verifier";
import {
  alu,
  aluReg,
  assemble,
  call,
  callLocal,
  exit,
  goto,
  jump,
  jumpReg,
  type Line,
  load,
  loadFunction,
  loadMap,
  loadMapValue,
  mov,
  movReg,
  store,
  storeImm,
} from "../../datapath/verifier/asm.ts";
import type { Random } from "./random.ts";

/** The maps that programs name by handle. */
export interface FlowMaps {
  /** Arrays with values of 64 and of 8 bytes. */
  readonly wide: MapFacts;
  readonly narrow: MapFacts;
  /** Tables with values of 64 and of 8 bytes, which are walked. */
  readonly wideTable: MapFacts;
  readonly narrowTable: MapFacts;
  readonly programs: MapFacts;
  readonly devices: MapFacts;
  /** Values begin with a timer. */
  readonly timers: MapFacts;
}

/** A program type that has packets. */
export interface FlowType {
  readonly name: string;
  readonly type: number;
  readonly packet: readonly [data: number, end: number] | null;
  readonly packetLoads: boolean;
  /** A helper that may move the packet, and what it takes behind the context. */
  readonly moves: { readonly helper: number; readonly argument: number } | null;
}

/** Those that are generated for. */
export const FLOW_TYPES: readonly FlowType[] = [
  { name: "sched_cls", type: 3, packet: [76, 80], packetLoads: true, moves: { helper: 39, argument: 0 } },
  { name: "xdp", type: 6, packet: [0, 4], packetLoads: false, moves: { helper: 44, argument: 0 } },
  { name: "socket_filter", type: 1, packet: null, packetLoads: true, moves: null },
];

/** One program. */
export interface Flow {
  readonly type: FlowType;
  readonly instructions: Uint8Array<ArrayBuffer>;
  readonly lines: readonly Line[];
  /** Where functions begin: the program itself is the first. */
  readonly starts: readonly number[];
  readonly usesTimers: boolean;
  readonly usesPacketLoads: boolean;
}

/** What may be in a program. */
export interface FlowOptions {
  /** Nothing is drawn while it runs, and nothing that could go wrong is in it: it can be run beside the kernel. */
  readonly fixed?: boolean;
}

const CELLS = 5, CELL_BYTES = 48, POINTER_CELL = 40;
const Helper = { lookup: 1, random: 7, tailCall: 12, forEach: 164, loop: 181, timerInit: 169, timerSet: 170 };
const STEPS_MAX = 60;

/** What the code that is being made can count on. */
interface Place {
  readonly kind: "main" | "function" | "callback" | "walk" | "later";
  readonly depth: number;
  readonly isCalledBack: boolean;
}

/** Makes one program. */
export function generateFlow(
  random: Random,
  mapsOf: (programType: number) => FlowMaps,
  options: FlowOptions = {},
): Flow {
  const type = random.pick(FLOW_TYPES);
  return new FlowGenerator(random, type, mapsOf(type.type), options).flow();
}

class FlowGenerator {
  /** Bodies of functions, which come behind the program. */
  readonly #functions: Line[][] = [];
  #labels = 0;
  #steps = 0;
  #usesTimers = false;
  #usesPacketLoads = false;

  constructor(
    readonly random: Random,
    readonly type: FlowType,
    readonly maps: FlowMaps,
    readonly options: FlowOptions,
  ) {}

  flow(): Flow {
    const main: Line[] = [movReg(6, 1), movReg(7, 10), alu("add", 7, -CELL_BYTES)];
    for (let cell = 0; cell < CELLS; cell++) {
      main.push(storeImm(8, 7, cell * 8, this.random.pick([0, 0, 1, 7, 64])));
    }
    main.push(loadMapValue(1, this.maps.wide.handle), store(8, 7, POINTER_CELL, 1));
    const place: Place = { kind: "main", depth: 0, isCalledBack: false };
    main.push(...this.#block(place, this.random.between(3, 7)));
    if (this.options.fixed) main.push(...this.#report());
    main.push(mov(0, 0), exit());
    const lines = [...main, ...this.#functions.flat()];
    return {
      type: this.type,
      lines,
      instructions: assemble(lines),
      starts: startsOf(lines),
      usesTimers: this.#usesTimers,
      usesPacketLoads: this.#usesPacketLoads,
    };
  }

  /** The cells into the wide map, where a run beside the kernel finds them. */
  #report(): Line[] {
    const lines: Line[] = [loadMapValue(2, this.maps.wide.handle)];
    for (let cell = 0; cell < CELLS; cell++) {
      lines.push(load(8, 1, 7, cell * 8), store(8, 2, 8 * (cell + 3), 1));
    }
    return lines;
  }

  #label(): string {
    return `l${this.#labels++}`;
  }
  #cell(): number {
    return this.random.below(CELLS) * 8;
  }

  #block(place: Place, steps: number): Line[] {
    const lines: Line[] = [];
    for (; steps > 0; steps--) lines.push(...this.#step(place));
    return lines;
  }

  #step(place: Place): Line[] {
    if (++this.#steps > STEPS_MAX) return this.#setCell();
    const outer = place.depth < 3;
    const choices: [number, () => Line[]][] = [
      [3, () => this.#setCell()],
      [2, () => this.#addToCell()],
      [2, () => this.#branch(place)],
      [3, () => this.#secondTime(place)],
      [4, () => this.#useCell(place)],
      [2, () => this.#stackByCell()],
      [2, () => this.#setPointer(place)],
      [3, () => this.#usePointer()],
      [
        place.kind === "walk" ? 4 : 0,
        () => [load(1, 0, 8, this.random.pick([0, 7, this.options.fixed ? 7 : 56]))],
      ],
      [outer ? 4 : 0, () => this.#callFunction(place)],
      [outer ? 4 : 0, () => this.#loop(place)],
      [outer ? 4 : 0, () => this.#walk(place)],
      [1, () => this.#count(place)],
      [place.kind === "function" && !place.isCalledBack ? 5 : 0, () => this.#tailCall()],
      [
        place.kind === "function" && !place.isCalledBack && this.type.packetLoads ? 4 : 0,
        () => this.#packetLoad(),
      ],
      [
        this.#hasContext(place) && this.type.packet !== null && !this.options.fixed ? 3 : 0,
        () => this.#packet(),
      ],
      [this.options.fixed ? 0 : 1, () => this.#device()],
      [place.kind === "main" && !this.options.fixed && this.type.type === 3 ? 1 : 0, () => this.#timer()],
    ];
    let draw = this.random.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    return choices.find(([weight]) => (draw -= weight) < 0)![1]();
  }

  #hasContext({ kind }: Place): boolean {
    return kind === "main" || kind === "function";
  }

  /** A number for a cell: within small values, within wide ones, in neither. */
  #setCell(): Line[] {
    const cell = this.#cell();
    if (!this.options.fixed && this.random.oneIn(3)) {
      return [call(Helper.random), alu("and", 0, this.random.pick([1, 7, 63, 255])), store(8, 7, cell, 0)];
    }
    return [storeImm(8, 7, cell, this.random.pick([0, 0, 1, 1, 2, 7, 8, 56, 63, 64, 1000, -1]))];
  }

  #addToCell(): Line[] {
    const mask: Line[] = this.random.oneIn(2) ? [alu("and", 1, this.random.pick([1, 7, 63]))] : [];
    const by = this.random.pick([1, 1, 8, -1]);
    return [load(8, 1, 7, this.#cell()), alu("add", 1, by), ...mask, store(8, 7, this.#cell(), 1)];
  }

  /** One side or the other, by chance or by a cell. */
  #branch(place: Place): Line[] {
    const other = this.#label(), out = this.#label();
    const test: Line[] = this.options.fixed || this.random.oneIn(2)
      ? [
        load(8, 1, 7, this.#cell()),
        jump(this.random.pick(["eq", "ne", "gt", "lt"]), 1, this.random.pick([0, 0, 1, 7, 63]), other),
      ]
      : [call(Helper.random), jump("eq", 0, 0, other)];
    return [
      ...test,
      ...this.#block(place, this.random.between(1, 2)),
      goto(out),
      other,
      ...this.#block(place, this.random.between(0, 2)),
      out,
    ];
  }

  /** Something else from the second time on that this is reached, which a cell remembers. */
  #secondTime(place: Place): Line[] {
    const again = this.#label(), out = this.#label(), flag = this.#cell();
    return [
      load(8, 1, 7, flag),
      jump("ne", 1, 0, again),
      storeImm(8, 7, flag, 1),
      goto(out),
      again,
      ...(place.kind === "walk" && this.random.oneIn(2)
        ? [load(1, 0, 8, this.options.fixed ? 7 : 56)]
        : this.#block(place, this.random.between(1, 2))),
      goto(out),
      out,
    ];
  }

  /** A byte of a value at the place that a cell says; mostly within what was asked for before. */
  #useCell(place: Place): Line[] {
    const out = this.#label();
    const ownValue = place.kind === "walk" && this.random.oneIn(2);
    // A walk may be over either map: what suits the wide one may be beyond the narrow one.
    const bound = this.random.pick(ownValue ? [7, 7, 63] : [7, 63, 63]);
    const base: Line = ownValue ? movReg(2, 8) : loadMapValue(2, this.maps.wide.handle);
    const checks: Line[] = this.options.fixed || !this.random.oneIn(3)
      ? [
        this.random.oneIn(2)
          ? alu("and", 1, this.options.fixed ? 7 : bound)
          : jump("gt", 1, this.options.fixed ? 7 : bound, out),
      ]
      : [];
    const access: Line = this.random.oneIn(2) ? load(1, 0, 2, 0) : storeImm(1, 2, 0, 1);
    return [load(8, 1, 7, this.#cell()), ...checks, base, aluReg("add", 2, 1), access, out];
  }

  /** A cell is read at the place that another one says. */
  #stackByCell(): Line[] {
    const checks: Line[] = this.options.fixed || !this.random.oneIn(3)
      ? [alu("and", 1, 0x18)]
      : [alu("and", 1, 0x78)];
    return [load(8, 1, 7, this.#cell()), ...checks, movReg(2, 7), aluReg("add", 2, 1), load(8, 0, 2, 0)];
  }

  /** The pointer's cell gets the address of one map or the other, or a number. */
  #setPointer(place: Place): Line[] {
    if (this.options.fixed) return [loadMapValue(1, this.maps.wide.handle), store(8, 7, POINTER_CELL, 1)];
    if (this.random.oneIn(4)) return [storeImm(8, 7, POINTER_CELL, 0)];
    if (place.kind === "walk" && this.random.oneIn(2)) return [store(8, 7, POINTER_CELL, 8)];
    const map = this.random.pick([this.maps.wide, this.maps.wide, this.maps.narrow]);
    return [loadMapValue(1, map.handle), store(8, 7, POINTER_CELL, 1)];
  }

  #usePointer(): Line[] {
    const access = this.random.pick([0, 7, this.options.fixed ? 7 : 56]);
    return [load(8, 1, 7, POINTER_CELL), load(1, 0, 1, access)];
  }

  #function(body: Line[]): string {
    const name = `f${this.#functions.length}`;
    this.#functions.push([name, ...body]);
    return name;
  }

  #callFunction(place: Place): Line[] {
    const inner: Place = { kind: "function", depth: place.depth + 1, isCalledBack: place.isCalledBack };
    const hasContext = this.#hasContext(place);
    const kind: Place = hasContext ? inner : { ...inner, isCalledBack: true };
    const at = this.#functions.length;
    this.#functions.push([]);
    const cell = this.#cell();
    const result: Line[] = this.random.oneIn(2)
      ? [mov(0, this.random.pick([0, 1, 7, 63]))]
      : [load(8, 0, 7, cell), alu("and", 0, this.random.pick([7, 63]))];
    this.#functions[at] = [
      `f${at}`,
      movReg(6, 1),
      movReg(7, 2),
      ...this.#block(hasContext ? kind : { ...kind, kind: "callback" }, this.random.between(1, 3)),
      ...result,
      exit(),
    ];
    const keep: Line[] = this.random.oneIn(2) ? [store(8, 7, this.#cell(), 0)] : [];
    return [hasContext ? movReg(1, 6) : mov(1, 0), movReg(2, 7), callLocal(`f${at}`), ...keep];
  }

  #callback(kind: "callback" | "walk", depth: number): string {
    const at = this.#functions.length;
    this.#functions.push([]);
    const head: Line[] = kind === "callback" ? [movReg(7, 2)] : [movReg(7, 4), movReg(8, 3)];
    this.#functions[at] = [
      `f${at}`,
      ...head,
      ...this.#block({ kind, depth: depth + 1, isCalledBack: true }, this.random.between(1, 3)),
      ...this.#verdict(),
      exit(),
    ];
    return `f${at}`;
  }

  /** What a callback returns: mostly 0, which lets the helper go on. */
  #verdict(): Line[] {
    if (!this.random.oneIn(5)) return [mov(0, this.random.oneIn(4) ? 1 : 0)];
    const mask: Line[] = this.options.fixed || !this.random.oneIn(3) ? [alu("and", 0, 1)] : [];
    return [load(8, 0, 7, this.#cell()), ...mask];
  }

  #loop(place: Place): Line[] {
    const callback = this.#callback("callback", place.depth);
    const rounds: Line[] = this.options.fixed || this.random.oneIn(2)
      ? [mov(1, this.random.pick([0, 1, 2, 3, 6]))]
      : [load(8, 1, 7, this.#cell()), alu("and", 1, this.random.pick([3, 7]))];
    return [...rounds, loadFunction(2, callback), movReg(3, 7), mov(4, 0), call(Helper.loop)];
  }

  /** A walk over one map or the other. */
  #walk(place: Place): Line[] {
    const callback = this.#callback("walk", place.depth), go = this.#label();
    const [first, second] = this.random.shuffle([this.maps.wideTable, this.maps.narrowTable]);
    const either: Line[] = this.options.fixed || this.random.oneIn(3)
      ? [loadMap(1, this.options.fixed ? this.maps.wideTable.handle : first.handle)]
      : [call(Helper.random), loadMap(1, first.handle), jump("ne", 0, 0, go), loadMap(1, second.handle), go];
    return [...either, loadFunction(2, callback), movReg(3, 7), mov(4, 0), call(Helper.forEach)];
  }

  /** A loop that counts in its own frame. */
  #count(place: Place): Line[] {
    const head = this.#label(), slot = -CELL_BYTES - 8 - 8 * this.random.below(3);
    return [
      storeImm(8, 10, slot, 0),
      head,
      ...this.#block({ ...place, depth: place.depth + 1 }, 1),
      load(8, 1, 10, slot),
      alu("add", 1, 1),
      store(8, 10, slot, 1),
      jump("lt", 1, this.random.between(1, 4), head),
    ];
  }

  #tailCall(): Line[] {
    const index: Line = this.options.fixed || this.random.oneIn(2)
      ? mov(3, this.random.below(2))
      : load(8, 3, 7, this.#cell());
    return [movReg(1, 6), loadMap(2, this.maps.programs.handle), index, call(Helper.tailCall)];
  }

  #packetLoad(): Line[] {
    this.#usesPacketLoads = true;
    const cell: Line[] = this.random.oneIn(2) ? [alu("and", 0, 7), store(8, 7, this.#cell(), 0)] : [];
    return [{ op: 0x30, imm: this.random.pick([0, 4, 100, 2000]) }, ...(this.options.fixed ? [] : cell)];
  }

  /** A packet pointer is checked, moved, perhaps outlived, and used. */
  #packet(): Line[] {
    const [data, end] = this.type.packet!, out = this.#label(), bytes = this.random.pick([1, 2, 4, 8, 16]);
    const moves = this.type.moves!;
    const move = (): Line[] => {
      switch (this.random.below(6)) {
        case 0:
          return [alu("add", 9, this.random.pick([1, 4, 8, -8]))];
        case 1:
          return [alu("sub", 9, this.random.pick([1, 4, 8, -4]))];
        case 2:
          return [aluReg("add", 9, 8)];
        case 3:
          return [aluReg(this.random.pick(["add", "sub"]), 9, 8)];
        default:
          return [];
      }
    };
    const outlive: Line[] = this.random.oneIn(5)
      ? [movReg(1, 6), mov(2, moves.argument), call(moves.helper)]
      : [];
    const compare: Line = this.random.pick([
      jumpReg("gt", 3, 2, out),
      jumpReg("ge", 3, 2, out),
      jumpReg("lt", 2, 3, out),
      jumpReg("le", 2, 3, out),
    ]);
    return [
      call(Helper.random),
      alu("and", 0, this.random.pick([1, 7, 255])),
      movReg(8, 0),
      load(4, 9, 6, data),
      load(4, 2, 6, end),
      ...move(),
      movReg(3, 9),
      alu("add", 3, bytes),
      compare,
      ...move(),
      ...outlive,
      load(this.random.pick([1, 1, 2, 4]), 0, 9, this.random.pick([0, 0, bytes - 1, bytes, -1])),
      out,
    ];
  }

  /** The record of a device is looked up, read and perhaps written. */
  #device(): Line[] {
    const out = this.#label();
    const access: Line = this.random.oneIn(2)
      ? load(4, 1, 0, this.random.pick([0, 4]))
      : storeImm(4, 0, 0, 1);
    return [
      storeImm(4, 10, -80, 0),
      movReg(2, 10),
      alu("add", 2, -80),
      loadMap(1, this.maps.devices.handle),
      call(Helper.lookup),
      jump("eq", 0, 0, out),
      access,
      out,
    ];
  }

  /** A timer is set; what it calls works on the value that it lies in. */
  #timer(): Line[] {
    this.#usesTimers = true;
    const out = this.#label(), within = this.#label();
    const name = this.#function([
      movReg(8, 3),
      load(8, 1, 8, 16),
      ...(this.random.oneIn(3) ? [] : [jump("gt", 1, 15, within)]),
      aluReg("add", 8, 1),
      load(1, 0, 8, 16),
      within,
      mov(0, this.random.oneIn(8) ? 1 : 0),
      exit(),
    ]);
    return [
      storeImm(4, 10, -80, 0),
      movReg(2, 10),
      alu("add", 2, -80),
      loadMap(1, this.maps.timers.handle),
      call(Helper.lookup),
      jump("eq", 0, 0, out),
      movReg(9, 0),
      movReg(1, 9),
      loadMap(2, this.maps.timers.handle),
      mov(3, 1),
      call(Helper.timerInit),
      movReg(1, 9),
      loadFunction(2, name),
      call(Helper.timerSet),
      out,
    ];
  }
}

/** Slots of the labels that functions begin with. */
function startsOf(lines: readonly Line[]): number[] {
  const starts = [0];
  let slot = 0;
  for (const line of lines) {
    if (typeof line !== "string") slot += line.imm2 === undefined ? 1 : 2;
    else if (line.startsWith("f")) starts.push(slot);
  }
  return starts;
}

/**
 * One case per seed: a program of `flow_generator.ts` before our verifier, the interpreter and the kernel.
 *
 * ```text
 *  accepted ─▶ interpreter, many draws ─▶ stopped: defect                       what ours overlooked
 *           ─▶ interpreter, numbers within what ours claims of them             what ours believes too much
 *           ─▶ kernel refuses for safety ─▶ ten times the draws ─▶ stopped: defect, else counted as finer
 *  fixed    ─▶ run in the kernel and in the interpreter: the same cells         what the interpreter has wrong
 * ```
 *
 * Only fixed programs are run in the kernel: nothing that they do depends on what a verifier proves.
 *
 * @module
 */

import type { MapFacts, VerifyReport, VerifyRequest } from "@weir/verifier";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { type Flow, type FlowMaps, generateFlow } from "./flow_generator.ts";
import { interpret, type RunOptions, Violation } from "./interpreter.ts";
import { encodeNodes, node } from "./program.ts";
import { Random } from "./random.ts";
import { reasonKind } from "./reasons.ts";
import type { Verdict } from "./subject.ts";

/** A verifier, as far as flows need it. */
export interface FlowSubject {
  verifyRequest(request: VerifyRequest): Omit<Verdict, "report"> & { readonly report: VerifyReport | null };
}
type FlowVerdict = ReturnType<FlowSubject["verifyRequest"]>;

/** Something that must not be; the message begins with the seed that makes it again. */
export class FlowDefect extends Error {
  constructor(seed: number, what: string) {
    super(`flow defect, seed ${seed}: ${what}`);
  }
}

/** How many of what there were. */
export interface FlowCounts {
  programs: number;
  accepted: number;
  /** Accepted by both. */
  agreed: number;
  /** Ours accepts, the kernel refuses for safety, and no draw shows why. */
  finer: number;
  /** Ours refuses what the kernel accepts. */
  stricter: number;
  draws: number;
  /** Programs run in the kernel and in the interpreter. */
  runs: number;
}

const ELEMENTS = 3, FOREIGN = 42, KEEP_EVERY_STATE = 8, PACKET_BYTES = 64;
const NOT_IN_KERNEL = 1_000_000;
const KEY_BYTES = 4;

/** Maps and kernel for many cases. */
export class FlowRunner {
  readonly #kernel: Kernel | undefined;
  readonly #maps = new Map<number, FlowMaps>();
  readonly #programs = new Map<number, number>();
  readonly counts: FlowCounts = {
    programs: 0,
    accepted: 0,
    agreed: 0,
    finer: 0,
    stricter: 0,
    draws: 0,
    runs: 0,
  };
  /** Why the kernel refuses what ours accepts, with seeds. */
  readonly finer = new Map<string, number[]>();
  /** Why ours refuses what the kernel accepts, with seeds. */
  readonly stricter = new Map<string, number[]>();

  /** @param withKernel false: interpreter only */
  constructor(readonly subject: FlowSubject, withKernel: boolean) {
    this.#kernel = withKernel ? new Kernel() : undefined;
  }

  /** The maps of a program type: those of programs and devices belong to the type of the first program that uses them. */
  #mapsOf(programType: number): FlowMaps {
    const known = this.#maps.get(programType);
    if (known !== undefined) return known;
    let next = NOT_IN_KERNEL;
    const make = (type: number, valueSize: number, maxEntries: number): MapFacts => {
      const shape = { type, keyBytes: KEY_BYTES, valueBytes: valueSize, entriesMax: maxEntries };
      const handle = this.#kernel?.createMap(shape) ?? next++;
      return { handle, type, keySize: KEY_BYTES, valueSize, maxEntries, flags: 0 };
    };
    const maps: FlowMaps = {
      wide: make(2, 64, 1),
      narrow: make(2, 8, 1),
      wideTable: make(1, 64, 8),
      narrowTable: make(1, 8, 8),
      programs: make(3, 4, 2),
      devices: make(14, 8, 4),
      // A timer's map needs types, so the kernel is not asked about programs that use it.
      timers: {
        handle: NOT_IN_KERNEL - 1,
        type: 1,
        keySize: KEY_BYTES,
        valueSize: 64,
        maxEntries: 8,
        flags: 0,
        specialFields: [{ kind: "timer", offset: 0, size: 16 }],
      },
    };
    for (let key = 0; key < ELEMENTS; key++) {
      this.#kernel?.update(maps.wideTable.handle, keyOf(key), new Uint8Array(64));
    }
    this.#maps.set(programType, maps);
    return maps;
  }

  #generate(seed: number, fixed = false): Flow {
    return generateFlow(new Random(seed), (type) => this.#mapsOf(type), { fixed });
  }

  /** Gives everything back. */
  close(): void {
    this.#kernel?.close();
  }

  /** What is accepted survives every draw, and the numbers in it are what they are claimed to be. */
  survive(seed: number, draws = 12): void {
    const flow = this.#generate(seed);
    const request = this.#request(flow, (seed & 1) * KEEP_EVERY_STATE);
    const ours = this.subject.verifyRequest(request);
    this.counts.programs++;
    if (ours.verdict === "broken") throw new FlowDefect(seed, ours.message);
    if (ours.verdict !== "accepted") {
      // What ours proves unsafe is not worth asking the kernel about; where ours gives up, it is.
      if (this.#kernel !== undefined && ours.verdict === "limit" && this.#kernelLog(flow) === undefined) {
        this.counts.stricter++;
        note(this.stricter, `${ours.code} ${ours.message}`, seed);
      }
      return;
    }
    this.counts.accepted++;
    this.#draw(seed, flow, draws);
    if (seed % 2 === 0) {
      this.#compareClaims(seed, flow, this.subject.verifyRequest({ ...request, claims: "all" }), draws);
    }
    // A function that nobody comes to makes this kernel warn of a bug of its own, which takes long.
    if (this.#kernel === undefined || flow.usesTimers || !comesToAll(flow, ours)) return;
    const log = this.#kernelLog(flow);
    if (log === undefined) {
      this.counts.agreed++;
      return;
    }
    const reason = lastReason(log);
    if (/^verifier bug/.test(reason) || ["complexity", "environment"].includes(reasonKind(reason))) return;
    this.#draw(seed, flow, draws * 10);
    this.counts.finer++;
    note(this.finer, reason, seed);
  }

  /** A program without draws does in the kernel what it does in the interpreter. */
  repeat(seed: number): void {
    const kernel = this.#kernel!, flow = this.#generate(seed, true);
    const { wide, programs } = this.#mapsOf(flow.type.type);
    const ours = this.subject.verifyRequest(this.#request(flow, 0));
    if (ours.verdict !== "accepted" || !comesToAll(flow, ours)) return;
    const loaded = this.#load(flow);
    if (!loaded.ok) return;
    this.#install(flow.type.type);
    kernel.update(wide.handle, keyOf(0), new Uint8Array(64));
    kernel.run(loaded.fd, new Uint8Array(PACKET_BYTES));
    const real = kernel.lookup(wide.handle, keyOf(0), 64)!;
    kernel.closeFd(loaded.fd);
    kernel.update(programs.handle, keyOf(0), keyOf(-1));
    const { values, result } = interpret(flow.instructions, new Random(seed), {
      ...this.#runOptions(flow),
      elements: () => ELEMENTS,
      tailCall: (index) => index === 0n ? BigInt(FOREIGN) : null,
      packetBytes: PACKET_BYTES - 14,
    });
    if (result === undefined) return;
    this.counts.runs++;
    const drawn = values.get(wide.handle)!;
    for (let at = 24; at < 64; at++) {
      if (real[at] === drawn[at]) continue;
      throw new FlowDefect(
        seed,
        `byte ${at} of the value is ${real[at]} in the kernel, ${drawn[at]} in the interpreter`,
      );
    }
  }

  /** A program of the type that tail calls find at index 0. */
  #install(type: number): void {
    let fd = this.#programs.get(type);
    if (fd === undefined) {
      const instructions = encodeNodes([node(0xb7, { immediate: FOREIGN }), node(0x95)]);
      const loaded = this.#kernel!.load({ type, instructions });
      if (!loaded.ok) throw new Error(`Cannot load a program of type ${type}: ${loaded.log}`);
      this.#programs.set(type, fd = loaded.fd);
    }
    this.#kernel!.update(this.#mapsOf(type).programs.handle, keyOf(0), keyOf(fd));
  }

  #listOf(flow: Flow): MapFacts[] {
    return Object.values(this.#mapsOf(flow.type.type));
  }

  #runOptions(flow: Flow): RunOptions {
    return { type: flow.type, maps: this.#listOf(flow) };
  }

  #draw(seed: number, flow: Flow, draws: number): void {
    const random = new Random(seed ^ 0x51ed270b);
    for (let draw = 0; draw < draws; draw++) this.#drawOnce(seed, flow, random, this.#runOptions(flow));
  }

  #drawOnce(seed: number, flow: Flow, random: Random, options: RunOptions): void {
    this.counts.draws++;
    try {
      interpret(flow.instructions, random, options);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      throw new FlowDefect(seed, `accepted, but ${error.message}`);
    }
  }

  #compareClaims(seed: number, flow: Flow, ours: FlowVerdict, draws: number): void {
    if (ours.verdict !== "accepted") return;
    const random = new Random(seed ^ 0x2545f491);
    const watch = (slot: number, registers: readonly (bigint | undefined)[]) => {
      registers.forEach((value, register) => {
        if (value === undefined) return;
        const wrong = ours.contradiction(slot, register, value);
        if (wrong !== null) throw new FlowDefect(seed, `R${register} at ${slot} is ${value}: ${wrong}`);
      });
    };
    for (let draw = 0; draw < draws; draw++) {
      this.#drawOnce(seed, flow, random, { ...this.#runOptions(flow), watch });
    }
  }

  #request(flow: Flow, programFlags: number): VerifyRequest {
    const view = new DataView(flow.instructions.buffer), used = new Set<number>();
    for (let slot = 0; slot < flow.instructions.length / 8; slot++) {
      if (view.getUint8(slot * 8) !== 0x18) continue;
      const kind = view.getUint8(slot * 8 + 1) >> 4;
      if (kind === 1 || kind === 2) used.add(view.getInt32(slot * 8 + 4, true));
      slot++;
    }
    return {
      name: "flow",
      programType: flow.type.type,
      programFlags,
      gplCompatible: true,
      recordVisits: true,
      instructions: flow.instructions,
      maps: this.#listOf(flow).filter(({ handle }) => used.has(handle)),
      subprograms: flow.starts.map((start, index) => ({
        start,
        name: `f${index}`,
        linkage: "static",
        arguments: [],
        returns: "scalar",
      })),
    };
  }

  #load(flow: Flow) {
    return this.#kernel!.load({
      type: flow.type.type,
      instructions: flow.instructions,
      describeFunctions: flow.starts.length > 1,
      logBytes: 1 << 20,
    });
  }

  /** What the kernel says against the program; undefined: nothing. */
  #kernelLog(flow: Flow): string | undefined {
    const loaded = this.#load(flow);
    if (!loaded.ok) return loaded.log;
    this.#kernel!.closeFd(loaded.fd);
    return undefined;
  }
}

/** Whether every function is walked at all. */
function comesToAll(flow: Flow, { report }: FlowVerdict): boolean {
  return flow.starts.every((start) => report!.instructionVisits[start] > 0);
}

function keyOf(value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Int32Array([value]).buffer);
}

function note(into: Map<string, number[]>, reason: string, seed: number): void {
  const key = reason.replace(/0x[0-9a-f]+|-?\d+/g, "N").slice(0, 140);
  into.set(key, [...into.get(key) ?? [], seed]);
}

/** The last line that gives a reason. */
function lastReason(log: string): string {
  const lines = log.trimEnd().split("\n").filter((line) =>
    line !== "" && !/^(processed|verification time|stack depth|mark_|max_)/.test(line)
  );
  return lines.at(-1) ?? log;
}

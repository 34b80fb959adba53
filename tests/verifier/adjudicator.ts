/**
 * Ours accepts and the kernel refuses for memory: who is right? The kernel may merely be less precise, so its word
 * alone is no proof. Where it stopped, ours must have a reason to go on (nobody comes here, or the access is within
 * bounds), and the reason must hold: the offending instruction is replaced by one that records the registers and
 * leaves, and what is recorded in real runs must agree with what ours claimed.
 *
 * ```text
 *  refused at N ─▶ has ours a reason at N? ─no─▶ defect
 *                        │ yes
 *                        ▼
 *        N := record registers; exit ─▶ kernel ─┬─ refused at M ─▶ again, with M
 *                                               └─ accepted ─▶ runs ─▶ agrees with the claims? defect or finer
 * ```
 *
 * @module
 */

import type { AbstractValue, Claim } from "@weir/verifier";
import type { Kernel } from "../../scripts/probe/kernel.ts";
import {
  type MapDescriptors,
  RECORD_BYTES,
  RECORD_SLOTS,
  type RunnableType,
  WORK_BYTES,
} from "./generator.ts";
import { isLive } from "./liveness.ts";
import { encodeNodes, insertBefore, isJump, type Node, node, removeAt, slotsOf } from "./program.ts";
import { Random } from "./random.ts";
import type { Verdict } from "./subject.ts";

/** `finer`: ours is right as far as runs can tell; `undecided`: the kernel will not run the question. */
export interface Judgement {
  readonly outcome: "finer" | "defect" | "undecided";
  readonly why: string;
}

/** A disagreement. */
export interface Disagreement {
  readonly type: RunnableType;
  readonly nodes: readonly Node[];
  /** With claims. */
  readonly ours: Verdict;
  /** The kernel's log, whose last instruction is where it stopped. */
  readonly log: string;
}

/** Where the kernel stopped, and what is compared there. */
interface Stop {
  readonly slot: number;
  readonly claim: Claim | undefined;
  readonly numbers: readonly number[]; // registers: numbers within their bounds, pointers that look like addresses
}

const STOPS_MAX = 8, RUNS = 24;
const MOVE_MAX = 1n << 29n;
const KEY = new Uint8Array(4);
/** Where a stop's records begin: a mark, then one word per register. */
const firstOffset = (stop: number) => RECORD_SLOTS * 16 + stop * 96;
const RECORDED = [0, 1, 2, 3, 4, 5, 6, 7, 8];
/** What registers hold that nobody wrote. */
const UNWRITTEN = 0x5ad0beef;

/** Decides a disagreement about memory. */
export function adjudicate(
  kernel: Kernel,
  maps: MapDescriptors,
  disagreement: Disagreement,
  seed: number,
): Judgement {
  const { type, nodes, ours } = disagreement;
  const claims = new Map((ours.report?.claims ?? []).map((claim) => [claim.instruction, claim]));
  const slots = slotsOf(nodes);
  let { probe, origin } = withEverythingWritten(nodes);
  const stops: Stop[] = [];
  let log = disagreement.log;
  // The first stop is counted in the program itself, later ones in the question.
  let original: number | null | undefined = slots.indexOf(stopOf(log));
  while (stops.length < STOPS_MAX) {
    if (original === null || original === undefined || original < 0) {
      return { outcome: "undecided", why: "the kernel stops in the question itself" };
    }
    const slot = slots[original], claim = claims.get(slot);
    if ((reasonToGoOn(nodes[original], claim, maps, log) ?? pointersOnly(claim, log)) === null) {
      return { outcome: "defect", why: `ours has no reason to go on at ${slot}` };
    }
    const at = origin.indexOf(original);
    // Of what is dead here a verifier promises nothing: states that differ only in it are one to it.
    const numbers = RECORDED.filter((register) =>
      claim !== undefined && claim.registers[register].kind !== "uninitialised" &&
      isLive(nodes, original as number, register)
    );
    ({ probe, origin } = replaced(probe, origin, at, maps, stops.length, numbers, type));
    stops.push({ slot, claim, numbers });
    const instructions = encodeNodes(probe);
    const loaded = kernel.load({ type: type.type, expectedAttachType: type.attach, instructions });
    if (loaded.ok) {
      try {
        return runQuestion(kernel, maps, loaded.fd, stops, ours, seed);
      } finally {
        kernel.closeFd(loaded.fd);
      }
    }
    log = loaded.log;
    original = origin[slotsOf(probe).indexOf(stopOf(log))];
  }
  return { outcome: "undecided", why: "the kernel stops too often" };
}

/** The same program with a known number in every register that it has not written: at the start, and after calls. */
function withEverythingWritten(nodes: readonly Node[]): { probe: Node[]; origin: (number | null)[] } {
  let probe = [...nodes], origin: (number | null)[] = nodes.map((_, index) => index);
  const write = (at: number, registers: readonly number[]) => {
    // Behind node `at - 1`, not in front of `at`: what jumps to `at` comes from elsewhere.
    const added = registers.map((dst) => node(0xb7, { dst, immediate: UNWRITTEN }));
    probe = insertBefore(probe, at, added).map((node, index) => {
      const isNew = index >= at && index < at + added.length;
      return !isNew && node.target === at ? { ...node, target: at + added.length } : node;
    });
    origin = [...origin.slice(0, at), ...added.map(() => null), ...origin.slice(at)];
  };
  for (let at = nodes.length - 1; at >= 0; at--) {
    if (nodes[at].opcode === 0x85) write(at + 1, [1, 2, 3, 4, 5]);
  }
  write(0, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
  return { probe, origin };
}

/** The last instruction in a log. */
function stopOf(log: string): number {
  return Number([...log.matchAll(/^(\d+): \([0-9a-f]{2}\)/gm)].at(-1)?.[1] ?? -1);
}

/** Why ours may go on with that instruction; null when it may not. */
function reasonToGoOn(
  instruction: Node,
  claim: Claim | undefined,
  maps: MapDescriptors,
  log: string,
): string | null {
  if (claim === undefined) return "no path comes here";
  const unread = /R(\d+) !read_ok/.exec(log);
  if (unread !== null) return claim.registers[Number(unread[1])].kind === "number" ? "it was written" : null;
  const kind = instruction.opcode & 7;
  if (kind === 4 || kind === 7) {
    // To the kernel one is a pointer, on a path that ours proved dead: what is recorded here must then be the number.
    const operands = (instruction.opcode & 8) !== 0 ? [instruction.dst, instruction.src] : [instruction.dst];
    if (operands.every((register) => claim.registers[register].kind === "number")) {
      return "only numbers come here";
    }
    return kind === 7 ? pointerMove(instruction, claim) : null;
  }
  if (kind > 3 || (kind === 0 || instruction.opcode === 0x18)) return null;
  const base = claim.registers[kind === 1 ? instruction.src : instruction.dst];
  const bytes = [4, 2, 1, 8][instruction.opcode >> 3 & 3];
  return withinBounds(base, instruction.offset, bytes, maps) ? "the access is within bounds" : null;
}

/**
 * The kernel complains about a register that to ours holds a pointer on every path: ours proved the kernel's path dead.
 * What is recorded there must then be an address.
 */
function pointersOnly(claim: Claim | undefined, log: string): string | null {
  const line = log.trimEnd().split("\n").findLast((text) => /^R\d+ /.test(text));
  const register = /^R(\d+) /.exec(line ?? "")?.[1];
  if (claim === undefined || register === undefined) return null;
  const { kind } = claim.registers[Number(register)];
  return kind !== "number" && kind !== "uninitialised" ? "only pointers come here" : null;
}

/** A pointer is moved by a number: the number must be one that pointers may move by (at most 2^29 either way). */
function pointerMove({ opcode, dst, src }: Node, claim: Claim): string | null {
  const adds = opcode === 0x0f, subtracts = opcode === 0x1f;
  if (!adds && !subtracts) return null;
  const [left, right] = [claim.registers[dst], claim.registers[src]];
  const number = right.kind === "number" ? right : adds && left.kind === "number" ? left : undefined;
  if (number === undefined || (left.kind === "number" && right.kind === "number")) return null;
  return number.smin >= -MOVE_MAX && number.smax <= MOVE_MAX
    ? "the number that moves the pointer is bounded"
    : null;
}

function withinBounds(base: AbstractValue, offset: number, bytes: number, maps: MapDescriptors): boolean {
  if (base.maybeNull) return false;
  const lowest = BigInt(base.offset + offset) + base.smin,
    highest = BigInt(base.offset + offset + bytes) + base.smax;
  const valueBytes = base.map === maps.work ? WORK_BYTES : base.map === maps.records ? RECORD_BYTES : 0;
  if (base.kind === "map value") return lowest >= 0n && highest <= BigInt(valueBytes);
  // What is proved of a packet counts from where the variable part of the offset leads.
  if (base.kind === "packet pointer") return lowest >= 0n && base.offset + offset + bytes <= base.range;
  return false;
}

/** The program with node `at` replaced by records of the numbers that ours claims there, and an exit. */
function replaced(
  probe: readonly Node[],
  origin: readonly (number | null)[],
  at: number,
  maps: MapDescriptors,
  stop: number,
  numbers: readonly number[],
  type: RunnableType,
): { probe: Node[]; origin: (number | null)[] } {
  const first = firstOffset(stop);
  const added: Node[] = [
    node(0x18, { dst: 9, src: 2, immediate: maps.records, high: 0 }),
    node(0x7a, { dst: 9, offset: first, immediate: 1 }),
  ];
  for (const register of numbers) {
    added.push(node(0x7b, { dst: 9, src: register, offset: first + 8 + register * 8 }));
  }
  added.push(node(0xb7, { immediate: type.returnMax === null ? 1 : 0 }), node(0x95));
  const withQuestion = insertBefore(probe, at, added);
  const offending = at + added.length;
  // What followed stays reachable only if something else leads there; else the kernel would complain about that.
  const keeps = isJump(withQuestion[offending]);
  const result = keeps ? withQuestion : removeAt(withQuestion, offending);
  const newOrigin = [...origin.slice(0, at), ...added.map(() => null), ...origin.slice(keeps ? at : at + 1)];
  return pruned(result, newOrigin);
}

/** Takes out what no path reaches any more: the kernel refuses unreachable instructions. */
function pruned(nodes: Node[], origin: (number | null)[]): { probe: Node[]; origin: (number | null)[] } {
  const reached = new Set<number>(), pending = [0];
  while (pending.length > 0) {
    const at = pending.pop()!;
    if (at >= nodes.length || reached.has(at)) continue;
    reached.add(at);
    const { opcode, target } = nodes[at];
    if (target !== undefined) pending.push(target);
    if (opcode !== 0x95 && opcode !== 0x05 && opcode !== 0x06) pending.push(at + 1);
  }
  for (let at = nodes.length - 1; at >= 0; at--) {
    if (reached.has(at)) continue;
    nodes = removeAt(nodes, at);
    origin = origin.filter((_, index) => index !== at);
  }
  return { probe: nodes, origin };
}

function runQuestion(
  kernel: Kernel,
  maps: MapDescriptors,
  fd: number,
  stops: readonly Stop[],
  ours: Verdict,
  seed: number,
): Judgement {
  const random = new Random(seed ^ 0x3c6ef372);
  for (let run = 0; run < RUNS; run++) {
    kernel.update(maps.work, KEY, random.bytes(WORK_BYTES));
    kernel.update(maps.records, KEY, new Uint8Array(RECORD_BYTES));
    kernel.run(fd, random.bytes(random.between(14, 200)));
    const values = new DataView(kernel.lookup(maps.records, KEY, RECORD_BYTES)!.buffer);
    for (const [index, { slot, claim, numbers }] of stops.entries()) {
      const first = firstOffset(index);
      if (values.getBigUint64(first, true) === 0n) continue;
      if (claim === undefined) {
        return { outcome: "defect", why: `a run comes to ${slot}, where ours says that none does` };
      }
      for (const register of numbers) {
        const value = values.getBigUint64(first + 8 + register * 8, true);
        const wrong = value === BigInt(UNWRITTEN)
          ? "it was never written"
          : claim.registers[register].kind !== "number" && !claim.registers[register].maybeNull &&
              value >> 48n !== 0xffffn
          ? `ours claims a ${claim.registers[register].kind}`
          : ours.contradiction(slot, register, value);
        if (wrong !== null) {
          return { outcome: "defect", why: `at ${slot} R${register} = 0x${value.toString(16)}: ${wrong}` };
        }
      }
    }
  }
  return { outcome: "finer", why: `${RUNS} runs agree with ours` };
}

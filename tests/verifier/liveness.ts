/**
 * Which registers a program still reads. A verifier may forget what is in the others, so its claims about them hold for
 * the paths it walked only.
 *
 * @module
 */
import type { Node } from "./program.ts";

const CALL = 0x85, EXIT = 0x95;

/** Registers that a node reads; for calls none, so that too few are said to be live rather than too many. */
function reads({ opcode, dst, src }: Node): number[] {
  const kind = opcode & 7;
  const withSource = (opcode & 8) !== 0 ? [src] : [];
  switch (kind) {
    case 0: // LD: 64-bit immediates read nothing, packet loads the context in r6
      return opcode === 0x18 ? [] : [6];
    case 1: // LDX
      return [src];
    case 2: // ST
      return [dst];
    case 3: // STX
      return [dst, src];
    case 4:
    case 7: {
      const operation = opcode & 0xf0;
      if (operation === 0xb0) return withSource;
      return operation === 0x80 || operation === 0xd0 ? [dst] : [dst, ...withSource];
    }
  }
  if (opcode === EXIT) return [0];
  return opcode === CALL || opcode === 0x05 || opcode === 0x06 ? [] : [dst, ...withSource];
}

/** Registers that a node overwrites whatever they held. */
function writes({ opcode, dst, src }: Node): number[] {
  const kind = opcode & 7;
  if (opcode === CALL) return [0, 1, 2, 3, 4, 5];
  if (kind === 0) return opcode === 0x18 ? [dst] : [0, 1, 2, 3, 4, 5];
  if (kind === 3) return (opcode & 0xe0) === 0xc0 ? [src, 0] : [];
  return kind === 1 || kind === 4 || kind === 7 ? [dst] : [];
}

/** True when some path from node `at` reads `register` before it is overwritten. */
export function isLive(nodes: readonly Node[], at: number, register: number): boolean {
  const seen = new Set<number>(), pending = [at];
  while (pending.length > 0) {
    const here = pending.pop()!;
    if (here >= nodes.length || seen.has(here)) continue;
    seen.add(here);
    const node = nodes[here];
    if (reads(node).includes(register)) return true;
    if (writes(node).includes(register)) continue;
    if (node.target !== undefined && node.opcode !== CALL && node.opcode !== 0x18) pending.push(node.target);
    if (node.opcode !== EXIT && node.opcode !== 0x05 && node.opcode !== 0x06) pending.push(here + 1);
  }
  return false;
}

/**
 * Programs as lists of nodes whose jumps name nodes, not distances: so that instructions can be put in,
 * taken out and moved, and the bytes come last.
 *
 * @module
 */

/** One instruction; a 64-bit immediate load is one node and two slots. */
export interface Node {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly offset: number;
  readonly immediate: number;
  /** The upper half of a 64-bit immediate; makes the node two slots wide. */
  readonly high?: number;
  /** For jumps and calls of sub-programs: the node that is jumped to. */
  readonly target?: number;
}

/** Sets what is not said to zero. */
export function node(opcode: number, fields: Partial<Node> = {}): Node {
  return { opcode, dst: 0, src: 0, offset: 0, immediate: 0, ...fields };
}

const CLASS_JMP = 5, CLASS_JMP32 = 6;

/** Whether control can go elsewhere than to the next node. */
export function isJump(node: Node): boolean {
  const kind = node.opcode & 7;
  return (kind === CLASS_JMP || kind === CLASS_JMP32) && node.opcode !== 0x85 && node.opcode !== 0x95;
}

/** Whether control never goes to the next node. */
function endsBlock(node: Node): boolean {
  return node.opcode === 0x95 || node.opcode === 0x05 || node.opcode === 0x06;
}

/** Where each node begins, in slots; one more entry for the end. */
export function slotsOf(nodes: readonly Node[]): number[] {
  const slots = [0];
  for (const node of nodes) slots.push(slots.at(-1)! + (node.high === undefined ? 1 : 2));
  return slots;
}

/** The program's bytes. */
export function encodeNodes(nodes: readonly Node[]): Uint8Array<ArrayBuffer> {
  const slots = slotsOf(nodes);
  const view = new DataView(new ArrayBuffer(slots.at(-1)! * 8));
  nodes.forEach((node, index) => {
    const at = slots[index] * 8;
    let { offset, immediate } = node;
    if (node.target !== undefined) {
      const distance = slots[node.target] - slots[index] - 1;
      if (node.opcode === 0x85 || node.opcode === 0x06 || node.opcode === 0x18) immediate = distance;
      else offset = distance;
    }
    view.setUint8(at, node.opcode);
    view.setUint8(at + 1, (node.dst & 15) | (node.src & 15) << 4);
    view.setInt16(at + 2, offset, true);
    view.setInt32(at + 4, immediate, true);
    if (node.high !== undefined) view.setInt32(at + 12, node.high, true);
  });
  return new Uint8Array(view.buffer);
}

/** Puts nodes before node `at`; jumps to `at` go to the first of them. */
export function insertBefore(nodes: readonly Node[], at: number, added: readonly Node[]): Node[] {
  const moved = nodes.map((node) =>
    node.target !== undefined && node.target > at ? { ...node, target: node.target + added.length } : node
  );
  return [...moved.slice(0, at), ...added, ...moved.slice(at)];
}

/** Takes a node out; jumps to it go to the next one. */
export function removeAt(nodes: readonly Node[], at: number): Node[] {
  return nodes.filter((_, index) => index !== at).map((node) =>
    node.target !== undefined && node.target > at ? { ...node, target: node.target - 1 } : node
  );
}

/** Gives registers other names: `names[old]` is the new one. Call clobbering is by number: only R6-R9 may change. */
export function renameRegisters(nodes: readonly Node[], names: readonly number[]): Node[] {
  return nodes.map((node) => {
    // The source of an immediate load is a kind, and so is a call's.
    const kindInSource = node.opcode === 0x18 || node.opcode === 0x85;
    return { ...node, dst: names[node.dst], src: kindInSource ? node.src : names[node.src] };
  });
}

/**
 * The same program with its basic blocks in another order, joined by jumps. Only for programs without
 * sub-programs, whose blocks must stay together. `order` permutes all blocks but the first.
 */
export function reorderBlocks(nodes: readonly Node[], order: <T>(blocks: readonly T[]) => T[]): Node[] {
  const starts = new Set([0]);
  nodes.forEach((node, index) => {
    if (node.target !== undefined) starts.add(node.target);
    if (isJump(node) || endsBlock(node)) starts.add(index + 1);
  });
  const bounds = [...starts].filter((start) => start < nodes.length).sort((a, b) => a - b);
  const blocks = bounds.map((start, index) => ({ start, end: bounds[index + 1] ?? nodes.length }));
  const laidOut = [blocks[0], ...order(blocks.slice(1))];
  const result: Node[] = [], newIndex = new Map<number, number>();
  for (const { start, end } of laidOut) {
    for (let index = start; index < end; index++) {
      newIndex.set(index, result.length);
      result.push(nodes[index]);
    }
    // What used to fall through now jumps.
    if (!endsBlock(nodes[end - 1]) && end < nodes.length) result.push(node(0x05, { target: end }));
  }
  return result.map((node) =>
    node.target === undefined ? node : { ...node, target: newIndex.get(node.target)! }
  );
}

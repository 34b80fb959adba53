/** Small changes to a program: most results are refused, and for reasons that nobody thought of. @module */

import { insertBefore, isJump, type Node, removeAt } from "./program.ts";
import type { Random } from "./random.ts";

/** Changes one to three places. */
export function mutate(nodes: readonly Node[], random: Random): Node[] {
  let result = [...nodes];
  for (let count = random.between(1, 3); count > 0 && result.length > 2; count--) {
    result = mutateOnce(result, random);
  }
  return result;
}

function mutateOnce(nodes: readonly Node[], random: Random): Node[] {
  const at = random.below(nodes.length - 1);
  const old = nodes[at];
  const change = (fields: Partial<Node>): Node[] =>
    nodes.map((other, index) => index === at ? { ...old, ...fields } : other);
  // Map loads keep their map: a wrong descriptor only says "fd 7 is not pointing to a map".
  if (old.opcode === 0x18) return random.oneIn(2) ? removeAt(nodes, at) : change({ dst: random.below(11) });
  switch (random.below(10)) {
    case 0:
      return removeAt(nodes, at);
    case 1:
      return insertBefore(nodes, at, [{ ...nodes[random.below(nodes.length)], target: undefined }]);
    case 2:
      return change({ immediate: random.immediate() });
    case 3:
      return change({ immediate: old.immediate + random.between(-2, 2) });
    case 4:
      return change({ dst: random.below(11) });
    case 5:
      return change({ src: random.below(11) });
    case 6:
      if (old.target !== undefined) return change({ target: random.below(nodes.length) });
      return change({ offset: old.offset + random.pick([-8, -4, -1, 1, 4, 8]) });
    case 7: {
      // Another operation, width or comparison of the same class.
      const opcode = isJump(old)
        ? (old.opcode & 0x0f) | random.below(14) << 4
        : old.opcode ^ random.pick([0x08, 0x10, 0x18, 0x03, 0x20, 0x80]);
      return old.opcode === 0x95 || old.opcode === 0x85 ? [...nodes] : change({ opcode });
    }
    case 8: {
      const other = random.below(nodes.length - 1);
      if (old.target !== undefined || nodes[other].target !== undefined) return [...nodes];
      return nodes.map((node, index) => index === at ? nodes[other] : index === other ? old : node);
    }
    default:
      return change({ dst: old.src, src: old.dst });
  }
}

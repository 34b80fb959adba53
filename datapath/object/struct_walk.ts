/**
 * What lies at an offset of a kernel struct, by the rules that the kernel has for reads through typed pointers
 * (btf_struct_walk): a field whole or in part, never across two, pointers only whole. @module
 */
import type { Btf, BtfMember, BtfType } from "./btf.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** Why a read is refused; the numbers are those of the protocol. */
export const REFUSED = { beyondStruct: 1, noField: 2, beyondField: 3, partOfPointer: 4 } as const;

/** What a walk found. */
export type Found =
  | { readonly kind: "refused"; readonly why: number }
  | { readonly kind: "scalar" }
  | {
    readonly kind: "pointer";
    /** Struct pointed to. */
    readonly target: number;
    /** Innermost member. */
    readonly field: string;
    /** Value of the type tag on the pointer's target: `user`, `percpu`, `rcu`. */
    readonly tag: string;
    /** On the way lay a union of several members: what the pointer points to is anybody's guess. */
    readonly throughUnion: boolean;
  }
  | { readonly kind: "opaque" };

/** Work that may be spent on one program's questions: hostile types can make any walk long. */
export class WalkBudget {
  #left = 20_000_000;

  /** Takes one step off; throws `too-large` when nothing is left. */
  spend(): void {
    if (--this.#left >= 0) return;
    throw new ObjectError("too-large", "the kernel types", {
      found: "more than 20,000,000 members looked at for one program",
      expected: "types whose structs take fewer",
    });
  }
}

interface Walk {
  throughUnion: boolean;
  readonly budget: WalkBudget;
}

type Step = Found | { readonly kind: "struct"; readonly type: number };

/** What a read of `size` bytes at `offset` of a struct finds. */
export function walkStruct(
  btf: Btf,
  type: number,
  offset: number,
  size: number,
  budget = new WalkBudget(),
): Found {
  const walk: Walk = { throughUnion: false, budget };
  let id = type;
  for (let depth = 0; depth < LIMITS.btfDepthMax; depth++) {
    const step = walkOnce(btf, id, offset, size, walk);
    if (step.kind !== "struct") return step;
    id = step.type;
    offset = 0;
  }
  return { kind: "refused", why: REFUSED.noField };
}

/** Whether the struct `wanted` lies at `offset` of `type`, as itself or as the first member of what lies there. */
export function isStructAt(
  btf: Btf,
  type: number,
  offset: number,
  wanted: number,
  budget = new WalkBudget(),
): boolean {
  let id = btf.resolve(type).id;
  if (offset === 0 && id === wanted) return true;
  for (let depth = 0; depth < LIMITS.btfDepthMax; depth++) {
    const step = walkOnce(btf, id, offset, 1, { throughUnion: false, budget });
    if (step.kind !== "struct") return false;
    id = btf.resolve(step.type).id;
    if (id === wanted) return true;
    offset = 0;
  }
  return false;
}

interface Sized {
  /** The type without modifiers; of an array its elements. */
  readonly element: BtfType;
  /** Id under which the element was named. */
  readonly elementId: number;
  readonly isArray: boolean;
  readonly count: number;
  readonly size: number;
}

function walkOnce(
  btf: Btf,
  start: number,
  startOffset: number,
  size: number,
  walk: Walk,
): Step {
  let type = btf.resolve(start), offset = startOffset;
  for (let depth = 0; depth < LIMITS.btfDepthMax; depth++) {
    if (type.kind !== "struct" && type.kind !== "union") return { kind: "refused", why: REFUSED.noField };
    if (type.kind === "union" && type.members.length !== 1) walk.throughUnion = true;
    if (offset + size > type.size) {
      const last = type.members.at(-1);
      const array = last === undefined ? undefined : btf.resolve(last.type);
      const from = (last?.bitOffset ?? 0) >>> 3;
      if (array?.kind !== "array" || array.count !== 0 || offset < from) {
        return { kind: "refused", why: REFUSED.beyondStruct };
      }
      const element = btf.resolve(array.type);
      if (element.kind === "int") return { kind: "scalar" };
      if ((element.kind !== "struct" && element.kind !== "union") || element.size === 0) {
        return { kind: "refused", why: REFUSED.beyondStruct };
      }
      offset = (offset - from) % element.size;
      type = element;
      continue;
    }
    const inner = memberAt(btf, type.members, offset, size, walk);
    if (inner.kind !== "inside") return inner;
    type = inner.type;
    offset = inner.offset;
  }
  return { kind: "refused", why: REFUSED.noField };
}

function memberAt(
  btf: Btf,
  members: readonly BtfMember[],
  offset: number,
  size: number,
  walk: Walk,
): Step | { readonly kind: "inside"; readonly type: BtfType; readonly offset: number } {
  for (const member of members) {
    walk.budget.spend();
    let start = member.bitOffset >>> 3;
    if (offset + size <= start) break;
    if (member.bitfieldSize > 0) {
      const end = (member.bitOffset + member.bitfieldSize + 7) >>> 3;
      if (offset <= start && end <= offset + size) return { kind: "scalar" };
      continue;
    }
    if (offset < start) break;
    const field = sized(btf, member.type);
    if (field === undefined) return { kind: "refused", why: REFUSED.noField };
    const end = start + field.size;
    if (offset >= end) continue;
    const each = field.size / field.count;
    if (field.isArray) start += Math.floor((offset - start) / each) * each;
    const element = field.element;
    if (element.kind === "struct" || element.kind === "union") {
      if (offset === start) return { kind: "struct", type: field.elementId };
      return { kind: "inside", type: element, offset: offset - start };
    }
    if (element.kind === "ptr") {
      if (each !== size || offset !== start) return { kind: "refused", why: REFUSED.partOfPointer };
      const target = btf.resolve(element.type);
      if (target.kind !== "struct" && target.kind !== "union") return { kind: "opaque" };
      const below = btf.type(element.type);
      return {
        kind: "pointer",
        target: target.id,
        field: member.name,
        tag: below.kind === "type_tag" ? below.name : "",
        throughUnion: walk.throughUnion,
      };
    }
    if (offset + size > end && !walk.throughUnion) return { kind: "refused", why: REFUSED.beyondField };
    return { kind: "scalar" };
  }
  return { kind: "refused", why: REFUSED.noField };
}

function sized(btf: Btf, id: number): Sized | undefined {
  let type = btf.resolve(id), elementId = id, count = 1, isArray = false;
  for (let depth = 0; depth < LIMITS.btfDepthMax; depth++) {
    switch (type.kind) {
      case "array":
        isArray = true;
        count *= type.count;
        elementId = type.type;
        type = btf.resolve(type.type);
        break;
      case "ptr":
        return { element: type, elementId, isArray, count, size: count * 8 };
      case "int":
      case "struct":
      case "union":
      case "enum":
      case "enum64":
      case "float":
        return { element: type, elementId, isArray, count, size: count * type.size };
      default:
        return undefined;
    }
  }
  return undefined;
}

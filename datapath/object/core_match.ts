/**
 * Finds in the target's types what a CO-RE relocation names in the object's own ("compile once, run everywhere").
 * The rules are libbpf's: names match without their `___flavour`, fields by name at any depth of anonymous structs. @module
 */
import type { Btf, BtfMember, BtfType } from "./btf.ts";
import type { CoreKind } from "./btf_ext.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** BPF_CORE_SPEC_MAX_LEN of libbpf. */
const STEPS_MAX = 64;

/** One meaningful step: a named member or an array element. */
export interface CoreStep {
  /** Struct or enum for a named step, element type for an index. */
  readonly type: number;
  readonly index: number;
  /** Name of the member or enumerator; undefined for array elements. */
  readonly name?: string;
  readonly member?: BtfMember;
}

/** A place in a type: what a relocation's access string means. */
export interface CoreSpec {
  readonly btf: Btf;
  readonly root: number;
  readonly steps: readonly CoreStep[];
  readonly bitOffset: number;
}

/** Work that may be spent on one object's relocations: hostile types can make any comparison long. */
export class CoreBudget {
  #left = 5_000_000;
  #depth = 0;

  /** Runs a comparison one level deeper; beyond 200 levels types count as different (real ones nest about ten deep). */
  nested(compare: () => boolean): boolean {
    if (this.#depth >= 200) return false;
    this.#depth++;
    try {
      return compare();
    } finally {
      this.#depth--;
    }
  }

  /** Takes `steps` off; throws `too-large` when nothing is left. */
  spend(steps = 1): void {
    this.#left -= steps;
    if (this.#left >= 0) return;
    throw new ObjectError("too-large", "the CO-RE relocations", {
      found: "more than 5,000,000 type comparisons",
      expected: "an object whose relocations need fewer",
    });
  }
}

/** What family a relocation belongs to. */
export function familyOf(kind: CoreKind): "field" | "type" | "enumval" {
  return kind.startsWith("field") ? "field" : kind.startsWith("enumval") ? "enumval" : "type";
}

/** A name without its flavour: `task_struct___old` is `task_struct`. */
export function essentialName(name: string): string {
  const at = name.lastIndexOf("___");
  return at > 0 && at + 3 < name.length ? name.slice(0, at) : name;
}

/** Reads an access string such as `0:1:2` against the object's own types. */
export function parseSpec(btf: Btf, typeId: number, access: string, kind: CoreKind): CoreSpec {
  const subject = `CO-RE relocation ${kind} of ${btf.describe(typeId)} at ${access}`;
  const fail = (found: string, expected: string): ObjectError =>
    new ObjectError("core-relocation", subject, { found, expected });
  if (familyOf(kind) === "type") return { btf, root: typeId, steps: [], bitOffset: 0 };
  if (!/^\d{1,9}(:\d{1,9})*$/.test(access)) throw fail(`"${access}"`, "numbers joined by colons");
  const raw = access.split(":").map(Number);
  if (raw.length > STEPS_MAX) throw fail(`${raw.length} steps`, `at most ${STEPS_MAX}`);
  let type = btf.resolve(typeId);
  if (familyOf(kind) === "enumval") {
    if (type.kind !== "enum" && type.kind !== "enum64") throw fail(type.kind, "an enum");
    const value = type.values[raw[0]];
    if (value === undefined) throw fail(`enumerator ${raw[0]}`, `one of ${type.values.length}`);
    return { btf, root: typeId, steps: [{ type: type.id, index: raw[0], name: value.name }], bitOffset: 0 };
  }
  const steps: CoreStep[] = [{ type: type.id, index: raw[0] }];
  let bitOffset = raw[0] * btf.sizeOf(type.id) * 8;
  for (const index of raw.slice(1)) {
    if (type.kind === "struct" || type.kind === "union") {
      const member: BtfMember | undefined = type.members[index];
      if (member === undefined) throw fail(`member ${index}`, `one of ${type.members.length}`);
      bitOffset += member.bitOffset;
      if (member.name !== "") steps.push({ type: type.id, index, name: member.name, member });
      type = btf.resolve(member.type);
    } else if (type.kind === "array") {
      const element: BtfType = btf.resolve(type.type);
      if (index >= type.count && !isFlexible(btf, steps.at(-1), type.count)) {
        throw fail(`element ${index}`, `one of ${type.count}`);
      }
      steps.push({ type: element.id, index });
      bitOffset += index * btf.sizeOf(element.id) * 8;
      type = element;
    } else throw fail(`a step into ${type.kind}`, "a struct, union or array");
  }
  return { btf, root: typeId, steps, bitOffset };
}

/** The same place in a candidate type of the target, or undefined when it is not there. */
export function matchSpec(
  local: CoreSpec,
  kind: CoreKind,
  target: Btf,
  candidate: number,
  budget: CoreBudget,
): CoreSpec | undefined {
  budget.spend();
  const family = familyOf(kind);
  if (family === "type") {
    const same = kind === "type_matches"
      ? typesMatch(local.btf, local.root, target, candidate, false, new Set(), budget)
      : typesCompatible(local.btf, local.root, target, candidate, LIMITS.btfDepthMax, budget);
    return same ? { btf: target, root: candidate, steps: [], bitOffset: 0 } : undefined;
  }
  if (family === "enumval") {
    const type = target.resolve(candidate);
    if (type.kind !== "enum" && type.kind !== "enum64") return undefined;
    const wanted = essentialName(local.steps[0].name!);
    const index = type.values.findIndex((value) => essentialName(value.name) === wanted);
    if (index < 0) return undefined;
    const step = { type: type.id, index, name: type.values[index].name };
    return { btf: target, root: candidate, steps: [step], bitOffset: 0 };
  }
  const steps: CoreStep[] = [];
  let bitOffset = 0;
  let type = target.resolve(candidate);
  for (const [position, step] of local.steps.entries()) {
    if (step.name !== undefined) {
      const found = findMember(target, type, step.name, 0, budget);
      if (found === undefined) return undefined;
      if (!fieldsCompatible(local.btf, step.member!.type, target, found.member.type)) return undefined;
      steps.push({ type: found.owner, index: found.index, name: step.name, member: found.member });
      bitOffset += found.bitOffset;
      type = target.resolve(found.member.type);
    } else {
      if (position > 0) {
        if (type.kind !== "array") return undefined;
        if (step.index >= type.count && !isFlexible(target, steps.at(-1), type.count)) return undefined;
        type = target.resolve(type.type);
      }
      steps.push({ type: type.id, index: step.index });
      bitOffset += step.index * target.sizeOf(type.id) * 8;
    }
  }
  return { btf: target, root: candidate, steps, bitOffset };
}

/** A flexible array: no elements declared, last member of its struct. */
function isFlexible(btf: Btf, owner: CoreStep | undefined, count: number): boolean {
  if (owner?.name === undefined || count > 0) return false;
  const type = btf.type(owner.type);
  return (type.kind === "struct" || type.kind === "union") && owner.index === type.members.length - 1;
}

function findMember(
  btf: Btf,
  type: BtfType,
  name: string,
  depth: number,
  budget: CoreBudget,
): { owner: number; index: number; member: BtfMember; bitOffset: number } | undefined {
  if ((type.kind !== "struct" && type.kind !== "union") || depth > LIMITS.btfDepthMax) return undefined;
  for (const [index, member] of type.members.entries()) {
    budget.spend();
    if (member.name === name) return { owner: type.id, index, member, bitOffset: member.bitOffset };
    if (member.name !== "") continue;
    const inside = findMember(btf, btf.resolve(member.type), name, depth + 1, budget);
    if (inside !== undefined) return { ...inside, bitOffset: inside.bitOffset + member.bitOffset };
  }
  return undefined;
}

/** enum and enum64 count as one kind. */
function sameKind(a: BtfType, b: BtfType): boolean {
  const fold = (type: BtfType): string => type.kind === "enum64" ? "enum" : type.kind;
  return fold(a) === fold(b);
}

function fieldsCompatible(localBtf: Btf, localId: number, target: Btf, targetId: number): boolean {
  let a = localBtf.resolve(localId), b = target.resolve(targetId);
  for (let depth = 0; depth <= LIMITS.btfDepthMax; depth++) {
    const composite = (type: BtfType): boolean => type.kind === "struct" || type.kind === "union";
    if (composite(a) && composite(b)) return true;
    if (!sameKind(a, b)) return false;
    if (a.kind === "ptr" || a.kind === "float") return true;
    if (a.kind === "int" && b.kind === "int") return a.bitOffset === 0 && b.bitOffset === 0;
    if (a.kind === "array" && b.kind === "array") {
      a = localBtf.resolve(a.type);
      b = target.resolve(b.type);
      continue;
    }
    if (a.kind === "fwd" || a.kind === "enum" || a.kind === "enum64") {
      return a.name === "" || b.name === "" || essentialName(a.name) === essentialName(b.name);
    }
    return false;
  }
  return false;
}

function typesCompatible(
  localBtf: Btf,
  localId: number,
  target: Btf,
  targetId: number,
  depth: number,
  budget: CoreBudget,
): boolean {
  let a = localBtf.resolve(localId), b = target.resolve(targetId);
  for (; depth > 0; depth--) {
    budget.spend();
    if (!sameKind(a, b)) return false;
    if (a.kind === "int" && b.kind === "int") return a.bitOffset === 0 && b.bitOffset === 0;
    if ((a.kind === "ptr" && b.kind === "ptr") || (a.kind === "array" && b.kind === "array")) {
      a = localBtf.resolve(a.type);
      b = target.resolve(b.type);
      continue;
    }
    if (a.kind === "func_proto" && b.kind === "func_proto") {
      const others = b.parameters;
      if (a.parameters.length !== others.length) return false;
      const same = a.parameters.every((parameter, index) =>
        typesCompatible(localBtf, parameter.type, target, others[index].type, depth - 1, budget)
      );
      if (!same) return false;
      a = localBtf.resolve(a.type);
      b = target.resolve(b.type);
      continue;
    }
    return true;
  }
  return false;
}

/** Strict comparison of `bpf_core_type_matches()`: every local member must be in the target with a matching type. */
function typesMatch(
  localBtf: Btf,
  localId: number,
  target: Btf,
  targetId: number,
  behindPointer: boolean,
  seen: Set<string>,
  budget: CoreBudget,
): boolean {
  const inner = (a: number, b: number, behind: boolean): boolean =>
    budget.nested(() => typesMatch(localBtf, a, target, b, behind, seen, budget));
  budget.spend();
  const a = localBtf.resolve(localId), b = target.resolve(targetId);
  // A pair that is being compared (or was found equal) counts as equal: types may refer to themselves.
  const key = `${a.id}:${b.id}:${behindPointer}`;
  if (seen.has(key)) return true;
  seen.add(key);
  if (a.kind !== "void" && b.kind !== "void" && essentialName(a.name) !== essentialName(b.name)) return false;
  const forward = (type: BtfType): boolean =>
    type.kind === "fwd" || type.kind === "struct" || type.kind === "union";
  if (behindPointer && forward(a) && forward(b)) return true;
  if (!sameKind(a, b)) return false;
  if (a.kind === "int" && b.kind === "int") return a.size === b.size && a.signed === b.signed;
  if (a.kind === "ptr" && b.kind === "ptr") {
    return inner(a.type, b.type, true);
  }
  if (a.kind === "array" && b.kind === "array") {
    return a.count === b.count && inner(a.type, b.type, behindPointer);
  }
  if ((a.kind === "struct" || a.kind === "union") && (b.kind === "struct" || b.kind === "union")) {
    return a.members.every((member) => {
      budget.spend(b.members.length);
      const other = b.members.find((candidate) =>
        essentialName(candidate.name) === essentialName(member.name)
      );
      return other !== undefined &&
        inner(member.type, other.type, behindPointer);
    });
  }
  if ((a.kind === "enum" || a.kind === "enum64") && (b.kind === "enum" || b.kind === "enum64")) {
    budget.spend(a.values.length * b.values.length);
    return a.values.every((value) =>
      b.values.some((o) => essentialName(o.name) === essentialName(value.name))
    );
  }
  if (a.kind === "func_proto" && b.kind === "func_proto") {
    return a.parameters.length === b.parameters.length &&
      a.parameters.every((p, i) => inner(p.type, b.parameters[i].type, behindPointer)) &&
      inner(a.type, b.type, behindPointer);
  }
  return true;
}

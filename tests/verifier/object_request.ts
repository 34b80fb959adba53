/**
 * From a program of an object to the verifier's request: what the gate would say of it, read from the object's
 * own definitions and BTF.
 *
 * @module
 */

import {
  type AssembledProgram,
  type BpfObject,
  type Btf,
  type BtfTypeOf,
  kindOfContext,
  type MapDefinition,
  type ObjectProgram,
} from "@weir/object";
import type {
  MapFacts,
  SpecialField,
  SpecialFieldKind,
  SubprogramFacts,
  VerifyRequest,
} from "@weir/verifier";

const GPL = ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/** The request of one program. Map handles are the maps' indexes in the object. */
export function requestOfProgram(
  object: BpfObject,
  program: ObjectProgram,
  assembled: AssembledProgram,
  programFlags = 0,
): VerifyRequest {
  const kind = program.kind!;
  const kfuncs = [...assembled.references].filter(([, reference]) => reference.kind === "kfunc")
    .map(([at, { name }]) => ({ btfId: immediateAt(assembled.instructions, at), name }));
  return {
    name: program.name,
    programType: kind.type,
    attachType: kind.attachType,
    programFlags: kind.flags | programFlags,
    gplCompatible: GPL.includes(object.licence),
    instructions: assembled.instructions,
    maps: assembled.maps.map((index) => mapFacts(object, object.maps[index])),
    subprograms: assembled.functions.map((found) => subprogramFacts(object.btf, found, kind.type)),
    kfuncs,
  };
}

function immediateAt(instructions: Uint8Array, at: number): number {
  return new DataView(instructions.buffer, instructions.byteOffset).getInt32(at * 8 + 4, true);
}

function mapFacts(object: BpfObject, map: MapDefinition): MapFacts {
  return {
    handle: map.index,
    ...shape(object, map),
    frozen: map.frozen,
    contents: map.frozen ? map.contents : undefined,
    inner: map.inner === undefined ? undefined : shape(object, map.inner),
  };
}

function shape(object: BpfObject, map: MapDefinition) {
  return {
    type: map.type,
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
    flags: map.flags,
    specialFields: specialFields(object, map),
  };
}

const SPECIAL_STRUCTS: Record<string, SpecialFieldKind> = {
  bpf_spin_lock: "spinLock",
  bpf_res_spin_lock: "spinLock",
  bpf_timer: "timer",
  bpf_wq: "workqueue",
  bpf_list_head: "listHead",
  bpf_rb_root: "rbRoot",
  bpf_refcount: "refcount",
  bpf_list_node: "other",
  bpf_rb_node: "other",
};
const KPTR_TAGS = ["kptr", "kptr_untrusted", "percpu_kptr", "uptr"];

/** Fields of a map's value that are not for programs to touch. */
function specialFields(object: BpfObject, map: MapDefinition): SpecialField[] {
  if (object.btf === undefined || map.valueType === 0) return [];
  const found: SpecialField[] = [];
  const type = object.btf.type(map.valueType);
  if (type.kind !== "datasec") {
    collectSpecial(object.btf, map.valueType, 0, found, 0);
    return found;
  }
  for (const entry of type.variables) {
    const variable = object.btf.type(entry.type);
    if (variable.kind !== "var") continue;
    const symbol = object.elf.symbols.find((symbol) =>
      symbol.shndx === map.sectionIndex && symbol.name === variable.name
    );
    collectSpecial(object.btf, variable.type, symbol?.value ?? entry.offset, found, 0);
  }
  return found;
}

function collectSpecial(btf: Btf, id: number, offset: number, into: SpecialField[], depth: number): void {
  if (depth > 8) return;
  const type = btf.resolve(id);
  if (type.kind === "struct" || type.kind === "union") {
    const kind = SPECIAL_STRUCTS[type.name];
    if (kind !== undefined) into.push({ kind, offset, size: type.size });
    else {for (const member of type.members) {
        collectSpecial(btf, member.type, offset + (member.bitOffset >> 3), into, depth + 1);
      }}
  } else if (type.kind === "array") {
    const size = btf.sizeOf(type.type);
    for (let index = 0; index < Math.min(type.count, 64); index++) {
      collectSpecial(btf, type.type, offset + index * size, into, depth + 1);
    }
  } else if (type.kind === "ptr") {
    const target = btf.type(type.type);
    if (target.kind === "type_tag" && KPTR_TAGS.includes(target.name)) {
      into.push({ kind: "kptr", offset, size: 8 });
    }
  }
}

function subprogramFacts(
  btf: Btf | undefined,
  found: AssembledProgram["functions"][number],
  programType: number,
): SubprogramFacts {
  const facts = {
    start: found.start,
    name: found.name,
    linkage: found.isStatic ? "static" as const : "global" as const,
  };
  const func = btf !== undefined && found.type !== 0 ? btf.type(found.type) : undefined;
  if (btf === undefined || func?.kind !== "func") return facts;
  const proto = btf.type(func.type);
  if (proto.kind !== "func_proto") return facts;
  const returned = btf.resolve(proto.type);
  return {
    ...facts,
    returns: returned.kind === "void" ? "void" : isNumber(returned.kind) ? "scalar" : "other",
    arguments: proto.parameters.map((parameter, index) =>
      argument(btf, func, parameter.type, index, programType)
    ),
  };
}

function isNumber(kind: string): boolean {
  return kind === "int" || kind === "enum" || kind === "enum64";
}

/** The contract of a global function's parameter, as libbpf and the kernel read it. */
function argument(
  btf: Btf,
  func: BtfTypeOf<"func">,
  typeId: number,
  index: number,
  programType: number,
): NonNullable<SubprogramFacts["arguments"]>[number] {
  const tags = btf.tagsOf(func.id).filter((tag) => tag.componentIndex === index).map((tag) => tag.name);
  const type = btf.resolve(typeId);
  if (isNumber(type.kind)) return { kind: "scalar" };
  if (type.kind !== "ptr") return { kind: "other" };
  if (tags.includes("arg:ctx")) return { kind: "context" };
  if (tags.some((tag) => /^arg:(dynptr|trusted|untrusted|arena|nullable)$/.test(tag))) {
    return { kind: "other" };
  }
  const target = btf.resolve(type.type);
  if (target.kind === "struct" && kindOfContext(target.name)?.type === programType) {
    return { kind: "context" };
  }
  if (target.kind === "void" || target.kind === "func_proto" || target.kind === "fwd") {
    return { kind: "other" };
  }
  return { kind: tags.includes("arg:nonnull") ? "mem" : "memOrNull", size: btf.sizeOf(type.type) };
}

/** Fields of map values that programs may not touch directly: locks, timers, kernel pointers, lists. @module */
import type { SpecialField, SpecialFieldKind } from "@weir/verifier";
import type { Btf } from "./btf.ts";
import { LIMITS } from "./error.ts";
import type { MapDefinition } from "./map_definition.ts";
import type { BpfObject } from "./object.ts";

/** Kernel types by name; the numbers behind the kinds are @weir/verifier's. */
const BY_TYPE: Readonly<Record<string, SpecialFieldKind>> = {
  bpf_spin_lock: "spinLock",
  bpf_res_spin_lock: "spinLock",
  bpf_timer: "timer",
  bpf_wq: "workqueue",
  bpf_list_head: "listHead",
  bpf_list_node: "other",
  bpf_rb_root: "rbRoot",
  bpf_rb_node: "other",
  bpf_refcount: "refcount",
  bpf_task_work: "other",
};

const POINTER_TAGS = new Set(["kptr", "kptr_untrusted", "kptr_ref", "percpu_kptr", "uptr"]);

/** The kernel allows 11 (BTF_FIELDS_MAX); more are kept so that none is overlooked. */
const FIELDS_MAX = 256;

/**
 * Special fields of a value type, by rising offset; none for type 0.
 * @param kernel The kernel's types: with them kernel pointers say what they point to.
 */
export function specialFieldsOf(btf: Btf | undefined, valueType: number, kernel?: Btf): SpecialField[] {
  const fields: SpecialField[] = [];
  if (btf === undefined || valueType === 0 || btf.kind(valueType) === "datasec") return fields;
  const pending = [{ type: valueType, offset: 0, depth: 0 }];
  for (let visited = 0; pending.length > 0 && visited < 65536 && fields.length < FIELDS_MAX; visited++) {
    const { type: id, offset, depth } = pending.pop()!;
    const type = btf.resolve(id);
    if (type.kind === "struct" || type.kind === "union") {
      const kind = Object.hasOwn(BY_TYPE, type.name) ? BY_TYPE[type.name] : undefined;
      if (kind !== undefined) fields.push({ kind, offset, size: type.size });
      else if (depth < LIMITS.btfDepthMax) {
        for (const member of type.members) {
          pending.push({ type: member.type, offset: offset + (member.bitOffset >>> 3), depth: depth + 1 });
        }
      }
    } else if (type.kind === "array" && depth < LIMITS.btfDepthMax) {
      // Only arrays of things that can hold such a field are spread out.
      const element = btf.resolve(type.type);
      if (
        element.kind !== "struct" && element.kind !== "union" && element.kind !== "ptr" &&
        element.kind !== "array"
      ) {
        continue;
      }
      const size = btf.sizeOf(type.type);
      for (let index = 0; index < Math.min(type.count, 4096); index++) {
        pending.push({ type: type.type, offset: offset + index * size, depth: depth + 1 });
      }
    } else if (type.kind === "ptr" && isTagged(btf, type.type)) {
      fields.push({ kind: "kptr", offset, size: 8, ...pointedTo(btf, type.type, kernel) });
    }
  }
  return fields.sort((a, b) => a.offset - b.offset);
}

/** Special fields of a map's values, by rising offset; of a data section, those of its variables. */
export function fieldsOfMap(object: BpfObject, map: MapDefinition): SpecialField[] {
  return map.origin === "data"
    ? variableFields(object, map)
    : specialFieldsOf(object.btf, map.valueType, object.kernelBtf);
}

/** Locks and list heads may be variables too. */
function variableFields(object: BpfObject, map: MapDefinition): SpecialField[] {
  const section = object.btf === undefined || map.valueType === 0
    ? undefined
    : object.btf.type(map.valueType);
  if (object.btf === undefined || section?.kind !== "datasec") return [];
  const offsets = new Map<string, number>();
  for (const symbol of object.elf.symbols) {
    if (symbol.shndx === map.sectionIndex) offsets.set(symbol.name, symbol.value);
  }
  const fields: SpecialField[] = [];
  for (const entry of section.variables) {
    const variable = object.btf.type(entry.type);
    if (variable.kind !== "var") continue;
    const start = offsets.get(variable.name) ?? entry.offset;
    for (const field of specialFieldsOf(object.btf, variable.type, object.kernelBtf)) {
      fields.push({ ...field, offset: start + field.offset });
    }
  }
  return fields.sort((a, b) => a.offset - b.offset);
}

/** The kernel's struct of the same name; the kernel itself looks for it by nothing else (btf_find_kptr). */
function pointedTo(btf: Btf, id: number, kernel: Btf | undefined): { type?: number } {
  const target = btf.resolve(id);
  if (kernel === undefined || target.kind !== "struct" || target.name === "") return {};
  const type = kernel.find(target.name, "struct")?.id;
  return type === undefined ? {} : { type };
}

function isTagged(btf: Btf, id: number): boolean {
  let type = btf.type(id);
  for (let depth = 0; depth < LIMITS.btfDepthMax; depth++) {
    if (type.kind === "type_tag" && POINTER_TAGS.has(type.name)) return true;
    if (type.kind !== "type_tag" && type.kind !== "const" && type.kind !== "volatile") return false;
    type = btf.type(type.type);
  }
  return false;
}

/** Maps that an object declares: BTF style (`.maps`), legacy (`maps`), and the implicit maps of data sections. @module */
import type { Btf, BtfTypeOf } from "./btf.ts";
import { Bytes } from "./bytes.ts";
import { type ElfFile, type ElfSection, type ElfSymbol, SHF, SHT, STT } from "./elf.ts";
import { LIMITS, ObjectError } from "./error.ts";
import { MAP_TYPES } from "./kinds.ts";

/** BPF_F_RDONLY_PROG: programs may not write the map. */
export const MAP_FLAG_RDONLY_PROG = 0x80;
const MAP_FLAG_MMAPABLE = 0x400;

/** A map of an object. */
export interface MapDefinition {
  /** Its place in {@link BpfObject.maps}; relocated instructions name it by this number. -1 in inner templates. */
  readonly index: number;
  /** As in the source; data sections have their section's name. */
  readonly name: string;
  /** How it was declared. */
  readonly origin: "btf" | "legacy" | "data" | "inner";
  /** BPF_MAP_TYPE_*. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly mapExtra: number;
  /** 0 none, 1 by name; other numbers are loader-specific. */
  readonly pinning: number;
  /** BTF ids of key and value types, 0 when not known. For a data section `valueType` is its DATASEC. */
  readonly keyType: number;
  readonly valueType: number;
  /** Template of the maps inside, for array_of_maps and hash_of_maps. */
  readonly inner?: MapDefinition;
  /** Initial value of a data section. */
  readonly contents?: Uint8Array;
  /** Contents can never change after loading (.rodata, .kconfig): constants may be folded from them. */
  readonly frozen: boolean;
  /** Where it was declared: index of the section and offset in it. */
  readonly sectionIndex: number;
  readonly offset: number;
}

/** Reads all map definitions of an object. */
export function readMaps(elf: ElfFile, btf: Btf | undefined): MapDefinition[] {
  const maps: MapDefinition[] = [];
  const add = (map: Omit<MapDefinition, "index">): void => {
    if (maps.length >= LIMITS.mapsMax) {
      throw new ObjectError("too-large", "the maps", {
        found: `more than ${LIMITS.mapsMax}`,
        expected: `at most ${LIMITS.mapsMax}`,
      });
    }
    maps.push({ ...map, index: maps.length });
  };
  const declared = elf.section(".maps");
  if (declared !== undefined) {
    if (btf === undefined) {
      throw new ObjectError("bad-map", "section .maps", {
        found: "no BTF in the object",
        expected: "type information; compile with -g",
      });
    }
    for (const map of btfMaps(elf, declared, btf)) add(map);
  }
  for (const section of elf.sections) {
    if (section.type === SHT.null) continue;
    // `lirc_mode2/maps` is ir-keytable's place for them.
    if (section.name === "maps" || section.name.startsWith("maps/") || section.name.endsWith("/maps")) {
      for (const map of legacyMaps(section, elf)) add(map);
    } else if (isDataSection(section)) add(dataMap(section, btf));
  }
  return maps;
}

/** Whether a section becomes a map of its own, as in libbpf: .data, .rodata, .bss and their `.suffix` forms. */
function isDataSection(section: ElfSection): boolean {
  if ((section.flags & SHF.alloc) === 0 || (section.flags & SHF.execinstr) !== 0 || section.size === 0) {
    return false;
  }
  if (section.type !== SHT.progbits && section.type !== SHT.nobits) return false;
  return /^\.(data|rodata|bss)(\.|$)/.test(section.name);
}

function dataMap(section: ElfSection, btf: Btf | undefined): Omit<MapDefinition, "index"> {
  const readOnly = section.name.startsWith(".rodata");
  if (section.type === SHT.nobits && section.size > LIMITS.objectBytesMax) {
    throw new ObjectError("too-large", `section ${section.name}`, {
      found: `${section.size} bytes`,
      expected: `at most ${LIMITS.objectBytesMax}`,
    });
  }
  return {
    name: section.name,
    origin: "data",
    type: MAP_TYPES.indexOf("array"),
    keySize: 4,
    valueSize: section.size,
    maxEntries: 1,
    flags: readOnly ? MAP_FLAG_RDONLY_PROG : MAP_FLAG_MMAPABLE,
    mapExtra: 0,
    pinning: 0,
    keyType: 0,
    valueType: btf?.find(section.name, "datasec")?.id ?? 0,
    contents: section.type === SHT.nobits ? new Uint8Array(section.size) : section.data,
    frozen: readOnly,
    sectionIndex: section.index,
    offset: 0,
  };
}

function* btfMaps(elf: ElfFile, section: ElfSection, btf: Btf): Generator<Omit<MapDefinition, "index">> {
  const datasec = btf.find(".maps", "datasec");
  if (datasec === undefined) {
    throw new ObjectError("bad-map", "section .maps", { found: "no DATASEC .maps in BTF", expected: "one" });
  }
  // The offsets in an object's DATASEC are still to be relocated (.rel.BTF) and mostly 0: the symbols have them.
  const offsets = new Map<string, number>();
  for (const symbol of elf.symbols) {
    if (symbol.shndx === section.index && symbol.type === STT.object) offsets.set(symbol.name, symbol.value);
  }
  for (const entry of datasec.variables) {
    const variable = btf.type(entry.type);
    if (variable.kind !== "var") {
      throw new ObjectError("bad-map", "section .maps", {
        found: `a ${variable.kind}`,
        expected: "a variable",
      });
    }
    if (variable.linkage === "extern") continue;
    const struct = btf.resolve(variable.type);
    if (struct.kind !== "struct") {
      throw new ObjectError("bad-map", `map ${variable.name}`, { found: struct.kind, expected: "a struct" });
    }
    yield definition(struct, btf, {
      name: variable.name,
      origin: "btf",
      sectionIndex: section.index,
      offset: offsets.get(variable.name) ?? entry.offset,
    });
  }
}

function definition(
  struct: BtfTypeOf<"struct" | "union">,
  btf: Btf,
  where: Pick<MapDefinition, "name" | "origin" | "sectionIndex" | "offset">,
): Omit<MapDefinition, "index"> {
  const fields: Record<string, number> = {};
  let keyType = 0, valueType = 0, inner: MapDefinition | undefined;
  for (const member of struct.members) {
    switch (member.name) {
      case "type":
      case "max_entries":
      case "map_flags":
      case "key_size":
      case "value_size":
      case "pinning":
      case "numa_node":
      case "map_extra":
        fields[member.name] = numberField(member.type, btf, `${member.name} of map ${where.name}`);
        break;
      case "key":
        keyType = pointee(member.type, btf, `key of map ${where.name}`);
        fields.key_size = btf.sizeOf(keyType);
        break;
      case "value":
        valueType = pointee(member.type, btf, `value of map ${where.name}`);
        fields.value_size = btf.sizeOf(valueType);
        break;
      case "values":
        inner = innerTemplate(member.type, btf, where);
        break;
      default:
        // libbpf ignores unknown fields only when told so; a map with one cannot be loaded as it stands.
        throw new ObjectError("bad-map", `map ${where.name}`, {
          found: `the field ${member.name}`,
          expected:
            "type, max_entries, map_flags, key, value, key_size, value_size, pinning, numa_node, map_extra, values",
        });
    }
  }
  const type = fields.type ?? 0;
  if (type === 0) {
    throw new ObjectError("bad-map", `map ${where.name}`, { found: "no type", expected: "BPF_MAP_TYPE_*" });
  }
  const holdsNumbers = inner !== undefined || type === MAP_TYPES.indexOf("prog_array");
  return {
    ...where,
    type,
    keySize: fields.key_size ?? (holdsNumbers || type === MAP_TYPES.indexOf("perf_event_array") ? 4 : 0),
    valueSize: fields.value_size ?? (holdsNumbers || type === MAP_TYPES.indexOf("perf_event_array") ? 4 : 0),
    maxEntries: fields.max_entries ?? 0,
    flags: fields.map_flags ?? 0,
    mapExtra: fields.map_extra ?? 0,
    pinning: fields.pinning ?? 0,
    keyType,
    valueType,
    ...(inner === undefined ? {} : { inner }),
    frozen: false,
  };
}

/** `__uint(name, n)` is a pointer to an array of n ints; `__ulong` an enum with one value. */
function numberField(typeId: number, btf: Btf, subject: string): number {
  const type = btf.resolve(typeId);
  if (type.kind === "ptr") {
    const array = btf.resolve(type.type);
    if (array.kind === "array") return array.count;
  }
  if ((type.kind === "enum" || type.kind === "enum64") && type.values.length > 0) {
    return Number(BigInt.asUintN(53, type.values[0].value));
  }
  throw new ObjectError("bad-map", subject, {
    found: btf.describe(typeId),
    expected: "a number written with __uint()",
  });
}

function pointee(typeId: number, btf: Btf, subject: string): number {
  const type = btf.resolve(typeId);
  if (type.kind === "ptr") return type.type;
  throw new ObjectError("bad-map", subject, {
    found: btf.describe(typeId),
    expected: "a type written with __type()",
  });
}

/** `__array(values, struct inner)`: an array of pointers to a map's struct, or to functions in a prog_array. */
function innerTemplate(
  typeId: number,
  btf: Btf,
  where: Pick<MapDefinition, "name" | "origin" | "sectionIndex" | "offset">,
): MapDefinition | undefined {
  const array = btf.resolve(typeId);
  if (array.kind !== "array") {
    throw new ObjectError("bad-map", `values of map ${where.name}`, {
      found: btf.describe(typeId),
      expected: "__array()",
    });
  }
  const struct = btf.resolve(pointee(array.type, btf, `values of map ${where.name}`));
  if (struct.kind === "func_proto") return undefined;
  if (struct.kind !== "struct") {
    throw new ObjectError("bad-map", `values of map ${where.name}`, {
      found: struct.kind,
      expected: "a map definition or a function",
    });
  }
  // One level only, as in the kernel; an inner map that itself has `values` is refused, so this does not recurse further.
  if (where.origin === "inner") {
    throw new ObjectError("bad-map", `map ${where.name}`, {
      found: "a map in a map in a map",
      expected: "at most one level of inner maps",
    });
  }
  return {
    ...definition(struct, btf, { ...where, name: `${where.name}.inner`, origin: "inner" }),
    index: -1,
  };
}

/**
 * Legacy definitions: `struct bpf_map_def` (five 32-bit numbers), the kernel samples' form with `inner_map_idx` as the sixth,
 * and iproute2's `struct bpf_elf_map` (type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx).
 */
function legacyMaps(section: ElfSection, elf: ElfFile): Omit<MapDefinition, "index">[] {
  const symbols = elf.symbolsIn(section)
    .filter((symbol) => symbol.type !== STT.section && symbol.type !== STT.file && symbol.name !== "")
    .sort((a, b) => a.value - b.value);
  const starts = uniqueStarts(symbols);
  if (starts.length === 0) return [];
  if (section.type === SHT.nobits) {
    throw new ObjectError("bad-map", `section ${section.name}`, {
      found: "no contents",
      expected: "definitions",
    });
  }
  const stride = Math.floor(section.size / starts.length);
  if (stride < 20) {
    throw new ObjectError("bad-map", `section ${section.name}`, {
      found: `${section.size} bytes for ${starts.length} maps`,
      expected: "at least 20 bytes for each",
    });
  }
  const bytes = new Bytes(section.data, `section ${section.name}`, "bad-map");
  const raw = starts.map((symbol) => {
    const at = symbol.value;
    const field = (index: number): number => (index + 1) * 4 <= stride ? bytes.u32(at + index * 4) : 0;
    const iproute2 = stride >= 36;
    return {
      map: {
        name: symbol.name,
        origin: "legacy" as const,
        type: field(0),
        keySize: field(1),
        valueSize: field(2),
        maxEntries: field(3),
        flags: field(4),
        mapExtra: 0,
        pinning: iproute2 ? field(6) : 0,
        keyType: 0,
        valueType: 0,
        frozen: false,
        sectionIndex: section.index,
        offset: at,
      },
      id: iproute2 ? field(5) : -1,
      innerId: iproute2 ? field(7) : -1,
      innerIndex: iproute2 ? -1 : stride >= 24 ? field(5) : -1,
    };
  });
  return raw.map(({ map, innerId, innerIndex }) => {
    if (map.type !== MAP_TYPES.indexOf("array_of_maps") && map.type !== MAP_TYPES.indexOf("hash_of_maps")) {
      return map;
    }
    const inner = innerId > 0 ? raw.find((other) => other.id === innerId) : raw[innerIndex];
    if (inner === undefined || inner.map === map) return map;
    return { ...map, inner: { ...inner.map, origin: "inner" as const, index: -1 } };
  });
}

function uniqueStarts(symbols: readonly ElfSymbol[]): ElfSymbol[] {
  return symbols.filter((symbol, index) => index === 0 || symbols[index - 1].value !== symbol.value);
}

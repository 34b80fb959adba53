/**
 * Reads ELF64 little-endian relocatable files: sections, symbols, relocations.
 * Field offsets are those of the System V ABI, chapter 4. @module
 */
import { Bytes } from "./bytes.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** `e_machine` of eBPF objects. */
export const EM_BPF = 247;

/** Section types (`sh_type`) that the reader tells apart. */
export const SHT = { null: 0, progbits: 1, symtab: 2, strtab: 3, rela: 4, nobits: 8, rel: 9 } as const;

/** Section flags (`sh_flags`). */
export const SHF = { write: 1, alloc: 2, execinstr: 4 } as const;

/** Symbol types (low half of `st_info`). */
export const STT = { notype: 0, object: 1, func: 2, section: 3, file: 4 } as const;

/** Symbol bindings (high half of `st_info`). */
export const STB = { local: 0, global: 1, weak: 2 } as const;

/** Relocation types of eBPF (LLVM's docs/BPF/BPF...rst, "R_BPF_*"). */
export const R_BPF = { none: 0, ld64: 1, abs64: 2, abs32: 3, nodyld32: 4, call32: 10 } as const;

/** One section. `data` is empty for SHT_NOBITS (`.bss`), whose `size` still says how much there is. */
export interface ElfSection {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly entrySize: number;
  readonly data: Uint8Array;
}

/** One symbol. `section` is undefined for undefined, absolute and common symbols; `shndx` is the raw index. */
export interface ElfSymbol {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly binding: number;
  /** STV_*: 0 default, 2 hidden. */
  readonly visibility: number;
  readonly shndx: number;
  readonly section: ElfSection | undefined;
  /** Offset in its section. */
  readonly value: number;
  readonly size: number;
}

/** One relocation; `symbol` is already looked up. */
export interface ElfRelocation {
  /** Offset in the section that is patched. */
  readonly offset: number;
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** Only of SHT_RELA sections; 0 in SHT_REL, where the addend is in the instruction. */
  readonly addend: number;
}

/** A parsed ELF file. */
export class ElfFile {
  readonly #relocations = new Map<number, ElfRelocation[]>();

  private constructor(
    readonly machine: number,
    readonly sections: readonly ElfSection[],
    readonly symbols: readonly ElfSymbol[],
    relocations: ReadonlyMap<number, ElfRelocation[]>,
  ) {
    for (const [index, list] of relocations) this.#relocations.set(index, list);
  }

  /** Whether the bytes begin as an ELF file. */
  static isElf(data: Uint8Array): boolean {
    return data.length >= 4 && data[0] === 0x7f && data[1] === 0x45 && data[2] === 0x4c && data[3] === 0x46;
  }

  /** Contents of a section of any ELF file, a kernel image among them; undefined when it has none of that name. */
  static sectionOf(data: Uint8Array, name: string): Uint8Array | undefined {
    const file = new Bytes(data, "the ELF file");
    checkHeader(file, false);
    return readSections(file).find((section) => section.name === name)?.data;
  }

  /**
   * @param data A whole object file; kept, not copied.
   * @throws {ObjectError} when it is not an ELF64 little-endian relocatable file or any offset in it is wrong.
   */
  static parse(data: Uint8Array): ElfFile {
    if (data.length > LIMITS.objectBytesMax) {
      throw new ObjectError("too-large", "the object", {
        found: `${data.length} bytes`,
        expected: `at most ${LIMITS.objectBytesMax}`,
      });
    }
    const file = new Bytes(data, "the ELF file");
    const machine = checkHeader(file);
    const sections = readSections(file);
    const symbols = readSymbols(sections);
    return new ElfFile(machine, sections, symbols, readRelocations(sections, symbols));
  }

  /** The first section of that name. */
  section(name: string): ElfSection | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** The relocations that patch `section`, by rising offset. */
  relocationsOf(section: ElfSection): readonly ElfRelocation[] {
    return this.#relocations.get(section.index) ?? [];
  }

  /** The symbols that lie in `section`. */
  symbolsIn(section: ElfSection): ElfSymbol[] {
    return this.symbols.filter((symbol) => symbol.section === section);
  }
}

function checkHeader(file: Bytes, relocatable = true): number {
  if (!ElfFile.isElf(file.data)) {
    const start = [...file.data.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    throw new ObjectError("not-elf", "the object", {
      found: file.length === 0 ? "an empty file" : `bytes ${start}`,
      expected: "an ELF file (7f 45 4c 46)",
    });
  }
  file.check(0, 64);
  const bits = file.u8(4), order = file.u8(5), type = file.u16(16), machine = file.u16(18);
  if (bits !== 2 || order !== 1) {
    throw new ObjectError("bad-elf", "the ELF header", {
      found: `class ${bits}, byte order ${order}`,
      expected:
        "a 64-bit little-endian file (2, 1); compile with -target bpfel or -target bpf on this machine",
    });
  }
  if (relocatable && type !== 1) {
    throw new ObjectError("bad-elf", "the ELF header", {
      found: `file type ${type}`,
      expected: "a relocatable file (1)",
    });
  }
  return machine;
}

function readSections(file: Bytes): ElfSection[] {
  const tableOffset = file.size64(40);
  const entrySize = file.u16(58);
  let count = file.u16(60);
  let nameIndex = file.u16(62);
  if (tableOffset === 0) return [];
  if (entrySize !== 64) {
    throw new ObjectError("bad-elf", "the section table", {
      found: `entries of ${entrySize} bytes`,
      expected: "64",
    });
  }
  file.check(tableOffset, 64);
  // More than 0xff00 sections: count and name index are in section 0 (ELF extended numbering).
  if (count === 0) count = file.size64(tableOffset + 32);
  if (nameIndex === 0xffff) nameIndex = file.u32(tableOffset + 40);
  if (count > LIMITS.sectionsMax) {
    throw new ObjectError("too-large", "the section table", {
      found: `${count} sections`,
      expected: `at most ${LIMITS.sectionsMax}`,
    });
  }
  const table = file.slice(tableOffset, count * 64, "the section table");
  if (nameIndex >= count) {
    throw new ObjectError("bad-elf", "the section table", {
      found: `section names in section ${nameIndex}`,
      expected: `an index below ${count}`,
    });
  }
  const contents = (index: number, subject: string): Bytes => {
    const at = index * 64;
    if (table.u32(at + 4) === SHT.nobits || table.u32(at + 4) === SHT.null) {
      return new Bytes(new Uint8Array(0), subject);
    }
    return file.slice(table.size64(at + 24), table.size64(at + 32), subject);
  };
  const names = contents(nameIndex, "the section names");
  const sections: ElfSection[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * 64;
    const name = index === 0 ? "" : names.name(table.u32(at));
    sections.push({
      index,
      name,
      type: table.u32(at + 4),
      flags: Number(table.u64(at + 8) & 0xffffffffn),
      size: table.size64(at + 32),
      link: table.u32(at + 40),
      info: table.u32(at + 44),
      entrySize: table.size64(at + 56),
      data: index === 0 ? new Uint8Array(0) : contents(index, `section ${name}`).data,
    });
  }
  return sections;
}

function readSymbols(sections: readonly ElfSection[]): ElfSymbol[] {
  const tables = sections.filter((section) => section.type === SHT.symtab);
  if (tables.length === 0) return [];
  if (tables.length > 1) {
    throw new ObjectError("bad-elf", "the symbol table", {
      found: `${tables.length} of them`,
      expected: "one",
    });
  }
  const table = new Bytes(tables[0].data, "the symbol table", "bad-symbol");
  const count = Math.floor(table.length / 24);
  if (count > LIMITS.symbolsMax) {
    throw new ObjectError("too-large", "the symbol table", {
      found: `${count} symbols`,
      expected: `at most ${LIMITS.symbolsMax}`,
    });
  }
  const strings = sections[tables[0].link];
  if (strings === undefined || strings.type !== SHT.strtab) {
    throw new ObjectError("bad-symbol", "the symbol table", {
      found: `names in section ${tables[0].link}`,
      expected: "a string table",
    });
  }
  const names = new Bytes(strings.data, "the symbol names", "bad-symbol");
  const symbols: ElfSymbol[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * 24;
    const info = table.u8(at + 4), shndx = table.u16(at + 6);
    const nameOffset = table.u32(at);
    const section = shndx > 0 && shndx < 0xff00 ? sections[shndx] : undefined;
    const type = info & 15;
    const name = nameOffset === 0 ? "" : names.name(nameOffset);
    if (shndx > 0 && shndx < 0xff00 && section === undefined) {
      throw new ObjectError("bad-symbol", `symbol ${name || index}`, {
        found: `section ${shndx}`,
        expected: `an index below ${sections.length}`,
      });
    }
    const value = table.u64(at + 8), size = table.u64(at + 16);
    if (
      section !== undefined && type !== STT.file &&
      (value > BigInt(section.size) || size > BigInt(section.size) - value)
    ) {
      throw new ObjectError("bad-symbol", `symbol ${name || index}`, {
        found: `${size} bytes at ${value}`,
        expected: `a place inside the ${section.size} bytes of section ${section.name}`,
      });
    }
    symbols.push({
      index,
      name,
      type,
      binding: info >> 4,
      visibility: table.u8(at + 5) & 3,
      shndx,
      section,
      // Undefined, absolute and common symbols are never used as offsets, so a huge value is clamped, not an error.
      value: Number(value <= 0xffffffffn ? value : 0xffffffffn),
      size: Number(size <= 0xffffffffn ? size : 0xffffffffn),
    });
  }
  return symbols;
}

function readRelocations(
  sections: readonly ElfSection[],
  symbols: readonly ElfSymbol[],
): Map<number, ElfRelocation[]> {
  const all = new Map<number, ElfRelocation[]>();
  // Counted over the whole file: many sections may claim the same bytes.
  let total = 0;
  for (const section of sections) {
    if (section.type !== SHT.rel && section.type !== SHT.rela) continue;
    const target = sections[section.info];
    if (target === undefined || section.info === 0) {
      throw new ObjectError("bad-relocation", `section ${section.name}`, {
        found: `target section ${section.info}`,
        expected: `an index from 1 to ${sections.length - 1}`,
      });
    }
    const stride = section.type === SHT.rela ? 24 : 16;
    const table = new Bytes(section.data, `section ${section.name}`, "bad-relocation");
    const count = Math.floor(table.length / stride);
    total += count;
    if (total > LIMITS.relocationsMax) {
      throw new ObjectError("too-large", `section ${section.name}`, {
        found: `${total} relocations`,
        expected: `at most ${LIMITS.relocationsMax}`,
      });
    }
    const list = all.get(target.index) ?? [];
    for (let index = 0; index < count; index++) {
      const at = index * stride;
      const offset = table.size64(at);
      const type = table.u32(at + 8), symbolIndex = table.u32(at + 12);
      const symbol = symbols[symbolIndex];
      if (symbol === undefined) {
        throw new ObjectError("bad-relocation", `relocation ${index} of ${target.name}`, {
          found: `symbol ${symbolIndex}`,
          expected: `an index below ${symbols.length}`,
        });
      }
      if (offset >= target.size) {
        throw new ObjectError("bad-relocation", `relocation ${index} of ${target.name}`, {
          found: `offset ${offset}`,
          expected: `one inside the section's ${target.size} bytes`,
        });
      }
      const addend = stride === 24 ? Number(BigInt.asIntN(64, table.u64(at + 16))) : 0;
      list.push({ offset, type, symbol, addend });
    }
    list.sort((a, b) => a.offset - b.offset);
    all.set(target.index, list);
  }
  return all;
}

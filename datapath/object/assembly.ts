/**
 * Puts one program together as a loader would: its instructions, the sub-programs it calls appended, all relocations applied.
 *
 * What only a loader knows stays symbolic: a 64-bit load of a map has BPF_PSEUDO_MAP_FD (or _VALUE) in its source register
 * and the map's index in {@link BpfObject.maps} as its constant. @module
 */
import type { Btf } from "./btf.ts";
import type { BtfExt, CoreRelocation, LineInfo } from "./btf_ext.ts";
import type { CoreRelocator } from "./core_relocation.ts";
import { type ElfFile, type ElfRelocation, R_BPF, STT } from "./elf.ts";
import { LIMITS, ObjectError } from "./error.ts";
import type { Extern } from "./extern.ts";
import type { FunctionCode } from "./function_code.ts";
import type { MapDefinition } from "./map_definition.ts";

/** Values of the source register in 64-bit loads and calls (uapi/linux/bpf.h, BPF_PSEUDO_*). */
export const PSEUDO = { mapFd: 1, mapValue: 2, btfId: 3, func: 4, call: 1, kfuncCall: 2 } as const;

/** Calls of weak kernel functions that the kernel lacks have this and up as their constant (libbpf's POISON_CALL_KFUNC_BASE). */
export const ABSENT_KFUNC = 2_002_000_000;

/** A function inside an assembled program. */
export interface ProgramFunction {
  readonly name: string;
  /** First instruction and how many there are. */
  readonly start: number;
  readonly count: number;
  /** BTF id of its FUNC, 0 when not known. */
  readonly type: number;
  readonly isStatic: boolean;
}

/** What an instruction refers to, in the names of the source. */
export interface Reference {
  readonly kind: "map" | "data" | "config" | "function" | "kfunc" | "ksym";
  readonly name: string;
  /** Index of the map, for `map`, `data` and `config`. */
  readonly map?: number;
  /** Byte offset in the map's value, for `data` and `config`. */
  readonly offset?: number;
}

/** A program ready to be verified. */
export interface AssembledProgram {
  /** 8 bytes each, little-endian. */
  readonly instructions: Uint8Array;
  /** The program itself first, then its sub-programs, by rising start. */
  readonly functions: readonly ProgramFunction[];
  /** Where the source line changes, by rising instruction. */
  readonly lines: readonly { readonly instruction: number; readonly line: LineInfo }[];
  /** By instruction. */
  readonly references: ReadonlyMap<number, Reference>;
  /** Indexes of the maps that it uses, each once, by rising index. */
  readonly maps: readonly number[];
}

/** What assembly needs of its object. */
export interface AssemblyInput {
  readonly elf: ElfFile;
  readonly btf: Btf | undefined;
  readonly ext: BtfExt;
  readonly functions: ReadonlyMap<number, readonly FunctionCode[]>;
  readonly maps: readonly MapDefinition[];
  readonly externs: ReadonlyMap<string, Extern>;
  /** Undefined when the object has no BTF or there is no target. */
  readonly core: CoreRelocator | undefined;
  readonly places: PlaceIndex;
}

/** Finds maps and functions by place; built once per object, so that hostile counts do not multiply. */
export class PlaceIndex {
  readonly #functions = new Map<string, FunctionCode>();
  readonly #maps = new Map<string, MapDefinition>();

  readonly #variables = new Map<number, { name: string; start: number; end: number }[]>();

  constructor(elf: ElfFile, functions: AssemblyInput["functions"], maps: readonly MapDefinition[]) {
    for (const symbol of elf.symbols) {
      if (symbol.type !== STT.object || symbol.section === undefined || symbol.size === 0) continue;
      const entry = { name: symbol.name, start: symbol.value, end: symbol.value + symbol.size };
      const list = this.#variables.get(symbol.section.index);
      if (list === undefined) this.#variables.set(symbol.section.index, [entry]);
      else list.push(entry);
    }
    for (const list of this.#variables.values()) list.sort((a, b) => a.start - b.start);
    for (const [section, list] of functions) {
      for (const code of list) this.#functions.set(`${section}:${code.offset}`, code);
    }
    for (const map of maps) {
      this.#maps.set(
        map.origin === "data" ? `${map.sectionIndex}` : `${map.sectionIndex}:${map.offset}`,
        map,
      );
    }
  }

  function(section: number, offset: number): FunctionCode | undefined {
    return this.#functions.get(`${section}:${offset}`);
  }

  map(section: number, offset: number): MapDefinition | undefined {
    const data = this.#maps.get(`${section}`);
    if (data !== undefined) return offset >= 0 && offset <= data.valueSize ? data : undefined;
    return this.#maps.get(`${section}:${offset}`);
  }

  /** The variable that covers a place in a data section. */
  variable(section: number, offset: number): string | undefined {
    const list = this.#variables.get(section) ?? [];
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle].start <= offset) low = middle + 1;
      else high = middle;
    }
    const found = list[low - 1];
    return found !== undefined && offset < found.end ? found.name : undefined;
  }
}

interface Placed {
  readonly code: FunctionCode;
  /** First instruction in the assembled program. */
  readonly start: number;
}

/**
 * @param main The function to load.
 * @throws {ObjectError} when a relocation is wrong, a symbol is missing or a limit is reached.
 */
export function assemble(main: FunctionCode, input: AssemblyInput): AssembledProgram {
  return new Assembler(input).run(main);
}

class Assembler {
  readonly #placed: Placed[] = [];
  readonly #references = new Map<number, Reference>();
  readonly #maps = new Set<number>();
  readonly #absentNames: string[] = [];
  #count = 0;

  constructor(readonly input: AssemblyInput) {}

  run(main: FunctionCode): AssembledProgram {
    this.#place(main);
    // A queue, not recursion: each function is placed once, however deep the calls go.
    const chunks: Uint8Array[] = [];
    for (let index = 0; index < this.#placed.length; index++) {
      chunks.push(this.#relocate(this.#placed[index]));
    }
    const instructions = new Uint8Array(this.#count * 8);
    for (const [index, chunk] of chunks.entries()) instructions.set(chunk, this.#placed[index].start * 8);
    return {
      instructions,
      functions: this.#placed.map(({ code, start }) => ({
        name: code.name,
        start,
        count: code.size / 8,
        type: this.#funcType(code),
        isStatic: code.isStatic,
      })),
      lines: this.#placed.flatMap((placed) => this.#lines(placed)),
      references: this.#references,
      maps: [...this.#maps].sort((a, b) => a - b),
    };
  }

  #place(code: FunctionCode): Placed {
    const known = this.#placed.find((placed) => placed.code === code);
    if (known !== undefined) return known;
    const placed = { code, start: this.#count };
    this.#placed.push(placed);
    this.#count += code.size / 8;
    if (this.#count > LIMITS.instructionsMax) {
      throw new ObjectError("too-large", `program ${this.#placed[0].code.name}`, {
        found: `${this.#count} instructions`,
        expected: `at most ${LIMITS.instructionsMax}`,
      });
    }
    if (this.#placed.length > LIMITS.subprogramsMax) {
      throw new ObjectError("too-large", `program ${this.#placed[0].code.name}`, {
        found: `${this.#placed.length} functions`,
        expected: `at most ${LIMITS.subprogramsMax}`,
      });
    }
    return placed;
  }

  /** A copy of the function's code with everything applied that lies in it. */
  #relocate(placed: Placed): Uint8Array {
    const { code, start } = placed;
    const end = code.offset + code.size;
    const bytes = code.section.data.slice(code.offset, end);
    const view = new DataView(bytes.buffer);
    const done = new Set<number>();
    for (const relocation of within(this.input.elf.relocationsOf(code.section), code)) {
      const at = relocation.offset - code.offset;
      if (at % 8 !== 0) {
        throw new ObjectError("bad-relocation", `function ${code.name}`, {
          found: `a relocation at byte ${at}`,
          expected: "one at the start of an instruction",
        });
      }
      done.add(at);
      this.#apply(view, at, placed, relocation);
    }
    this.#applyCore(bytes, code);
    // Calls inside one section carry no relocation; they are relative to where the instruction was in the section.
    for (let at = 0; at < bytes.length; at += 8) {
      if (view.getUint8(at) === 0x18) {
        at += 8;
        continue;
      }
      if (view.getUint8(at) !== 0x85 || view.getUint8(at + 1) >> 4 !== PSEUDO.call || done.has(at)) continue;
      const target = code.offset + at + (view.getInt32(at + 4, true) + 1) * 8;
      this.#call(view, at, start, code.section.index, target);
    }
    return bytes;
  }

  #apply(view: DataView, at: number, placed: Placed, relocation: ElfRelocation): void {
    const { symbol, type } = relocation;
    const instruction = placed.start + at / 8;
    const subject = `relocation of ${symbol.name || symbol.section?.name || "a symbol"} at instruction ${
      at / 8
    } of ${placed.code.name}`;
    const opcode = view.getUint8(at);
    if (opcode === 0x85) {
      if (symbol.shndx === 0) return this.#callExtern(view, at, instruction, symbol.name, subject);
      if (symbol.section === undefined) throw unresolved(subject);
      const target = symbol.value + (view.getInt32(at + 4, true) + 1) * 8;
      return this.#call(view, at, placed.start, symbol.section.index, target);
    }
    if (opcode !== 0x18 || at + 16 > view.byteLength || (type !== R_BPF.ld64 && type !== R_BPF.none)) {
      throw new ObjectError("bad-relocation", subject, {
        found: `type ${type} on opcode 0x${opcode.toString(16)}`,
        expected: "a call or a 64-bit load",
      });
    }
    if (symbol.shndx === 0) return this.#loadExtern(view, at, instruction, symbol.name, subject);
    if (symbol.section === undefined) throw unresolved(subject);
    const addend = view.getInt32(at + 4, true);
    const offset = symbol.value + addend;
    if (this.input.functions.has(symbol.section.index)) {
      const target = this.#find(symbol.section.index, offset, subject);
      setSource(view, at, PSEUDO.func);
      view.setInt32(at + 4, target.start - instruction - 1, true);
      view.setInt32(at + 12, 0, true);
      this.#references.set(instruction, { kind: "function", name: target.code.name });
      return;
    }
    // A map is meant by its symbol alone: what inline assembly leaves in the constant is no offset.
    const named = symbol.type === STT.section
      ? undefined
      : this.input.places.map(symbol.section.index, symbol.value);
    const map = named !== undefined && named.origin !== "data"
      ? named
      : this.input.places.map(symbol.section.index, offset);
    if (map === undefined) {
      throw new ObjectError("unsupported", subject, {
        found: `an address in section ${symbol.section.name}`,
        expected: "a map, a function, or data in .data, .rodata or .bss",
      });
    }
    this.#maps.add(map.index);
    view.setInt32(at + 4, map.index, true);
    if (map.origin === "data") {
      setSource(view, at, PSEUDO.mapValue);
      view.setInt32(at + 12, offset, true);
      const name = symbol.type === STT.section ? this.#variableAt(map, offset) : symbol.name;
      this.#references.set(instruction, { kind: "data", name, map: map.index, offset });
    } else {
      setSource(view, at, PSEUDO.mapFd);
      view.setInt32(at + 12, 0, true);
      this.#references.set(instruction, { kind: "map", name: map.name, map: map.index });
    }
  }

  /** Points a call at a function of the object, which is appended if it is not there yet. */
  #call(view: DataView, at: number, start: number, section: number, target: number): void {
    const instruction = start + at / 8;
    const callee = this.#find(section, target, `the call at instruction ${instruction}`);
    setSource(view, at, PSEUDO.call);
    view.setInt32(at + 4, callee.start - instruction - 1, true);
    this.#references.set(instruction, { kind: "function", name: callee.code.name });
  }

  #find(section: number, offset: number, subject: string): Placed {
    const code = this.input.places.function(section, offset);
    if (code === undefined) {
      throw new ObjectError("bad-relocation", subject, {
        found: `offset ${offset} of section ${this.input.elf.sections[section]?.name ?? section}`,
        expected: "the start of a function",
      });
    }
    return this.#place(code);
  }

  #callExtern(view: DataView, at: number, instruction: number, name: string, subject: string): void {
    const extern = this.input.externs.get(name);
    if (extern?.kind !== "function") throw unresolved(subject);
    const kernel = this.input.core?.target;
    const target = kernel?.find(name, "func");
    this.#references.set(instruction, { kind: "kfunc", name });
    if (target === undefined && extern.weak && kernel !== undefined) {
      // As libbpf has it: a call that the kernel knows not, behind `if (bpf_ksym_exists(name))`.
      setSource(view, at, 0);
      view.setInt16(at + 2, 0, true);
      view.setInt32(at + 4, ABSENT_KFUNC + this.#absent(name), true);
      return;
    }
    setSource(view, at, PSEUDO.kfuncCall);
    view.setInt16(at + 2, 0, true);
    view.setInt32(at + 4, target?.id ?? 0, true);
  }

  /** A number for a function that the kernel lacks. */
  #absent(name: string): number {
    if (!this.#absentNames.includes(name)) this.#absentNames.push(name);
    return this.#absentNames.indexOf(name);
  }

  #loadExtern(view: DataView, at: number, instruction: number, name: string, subject: string): void {
    const extern = this.input.externs.get(name);
    if (extern === undefined || extern.kind === "unknown") throw unresolved(subject);
    if (extern.kind === "config") {
      const map = this.input.maps.find((candidate) => candidate.sectionIndex < 0)!;
      this.#maps.add(map.index);
      setSource(view, at, PSEUDO.mapValue);
      view.setInt32(at + 12, extern.offset + view.getInt32(at + 4, true), true);
      view.setInt32(at + 4, map.index, true);
      this.#references.set(instruction, { kind: "config", name, map: map.index, offset: extern.offset });
      return;
    }
    const kernel = this.input.core?.target;
    const found = extern.kind === "function" ? kernel?.find(name, "func") : kernel?.find(name, "var");
    this.#references.set(instruction, { kind: extern.kind === "function" ? "kfunc" : "ksym", name });
    if (found === undefined && extern.weak && kernel !== undefined) {
      // A weak symbol that the kernel lacks has address 0, so that `if (symbol)` is false.
      setSource(view, at, 0);
      view.setInt32(at + 4, 0, true);
    } else {
      setSource(view, at, PSEUDO.btfId);
      view.setInt32(at + 4, found?.id ?? 0, true);
    }
    view.setInt32(at + 12, 0, true);
  }

  /** By the symbols: the offsets in an object's DATASEC are still to be relocated. */
  /** Name of the variable at a place in a data section. */
  #variableAt(map: MapDefinition, offset: number): string {
    return this.input.places.variable(map.sectionIndex, offset) ?? map.name;
  }

  #applyCore(bytes: Uint8Array, code: FunctionCode): void {
    const relocations: readonly CoreRelocation[] = this.input.ext.core.get(code.section.name) ?? [];
    for (const relocation of within(relocations, code)) {
      const at = relocation.offset - code.offset;
      if (at % 8 !== 0 || (bytes[at] === 0x18 && at + 16 > bytes.length)) {
        throw new ObjectError("core-relocation", `function ${code.name}`, {
          found: `a CO-RE relocation at byte ${at}`,
          expected: "the start of an instruction",
        });
      }
      if (this.input.core === undefined) {
        throw new ObjectError("core-relocation", `function ${code.name}`, {
          found: "no types of a kernel",
          expected: "some; give a file with --btf",
        });
      }
      this.input.core.apply(bytes, at, relocation);
    }
  }

  #funcType(code: FunctionCode): number {
    const list = within(this.input.ext.functions.get(code.section.name) ?? [], code);
    return list[0]?.offset === code.offset ? list[0].type : 0;
  }

  #lines({ code, start }: Placed): { instruction: number; line: LineInfo }[] {
    return within(this.input.ext.lines.get(code.section.name) ?? [], code)
      .map((line) => ({ instruction: start + Math.floor((line.offset - code.offset) / 8), line }));
  }
}

/** The part of a list sorted by offset that lies in a function. */
function within<T extends { readonly offset: number }>(list: readonly T[], code: FunctionCode): readonly T[] {
  const first = (offset: number): number => {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle].offset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return list.slice(first(code.offset), first(code.offset + code.size));
}

function setSource(view: DataView, at: number, source: number): void {
  view.setUint8(at + 1, (view.getUint8(at + 1) & 15) | (source << 4));
}

function unresolved(subject: string): ObjectError {
  return new ObjectError("unresolved-symbol", subject, {
    found: "a symbol that neither the object nor its BTF describes",
    expected: "a definition in the object, __ksym or __kconfig",
  });
}

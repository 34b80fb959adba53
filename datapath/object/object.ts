/** One compiled eBPF object: its maps, its programs, its licence. @module */
import { assemble, type AssembledProgram, type AssemblyInput, PlaceIndex } from "./assembly.ts";
import { Btf } from "./btf.ts";
import { type BtfExt, EMPTY_BTF_EXT, parseBtfExt } from "./btf_ext.ts";
import { CoreRelocator } from "./core_relocation.ts";
import { ElfFile, EM_BPF } from "./elf.ts";
import { LIMITS, ObjectError } from "./error.ts";
import { type Extern, type KernelConfig, readExterns } from "./extern.ts";
import { type FunctionCode, readFunctions } from "./function_code.ts";
import { type MapDefinition, readMaps } from "./map_definition.ts";
import { kindOf, kindOfContext, kindOfCustom, kindOfSection, type ProgramKind } from "./section_name.ts";

/** How to read an object. */
export interface ObjectOptions {
  /** The file's name, for the guess in {@link kindOfCustom}; default none. */
  readonly name?: string;
  /** Types that CO-RE relocations are made against; default: the object's own, as if it were built for this very kernel. */
  readonly kernelBtf?: Btf;
  /** Values of `__kconfig` externs; default: unknown, and the verdict holds for all of them. */
  readonly config?: KernelConfig;
  /** Program type, in words of {@link kindOf}, of programs whose section name says nothing. */
  readonly type?: string;
  /** Function or tracepoint that tracing programs attach to whose section names none that the kernel has. */
  readonly attach?: string;
}

/** A program of an object, not yet put together. */
export interface ObjectProgram {
  readonly name: string;
  readonly section: string;
  /** Undefined when neither section name, context type nor `type` say what it is. */
  readonly kind: ProgramKind | undefined;
  /** Its place in the object. */
  readonly code: FunctionCode;
  /** Declaration tags on the function (`btf_decl_tag`), in order of their ids. */
  readonly tags: readonly string[];
}

/** A parsed object. Reading it changes nothing; {@link BpfObject.assemble} may be called any number of times. */
export class BpfObject {
  readonly #input: AssemblyInput;

  private constructor(
    readonly elf: ElfFile,
    /** The object's types; undefined when it was compiled without `-g`. */
    readonly btf: Btf | undefined,
    readonly ext: BtfExt,
    readonly maps: readonly MapDefinition[],
    readonly programs: readonly ObjectProgram[],
    /** The `license` section, empty when there is none. */
    readonly licence: string,
    readonly externs: ReadonlyMap<string, Extern>,
    /** Types of the kernel as they were given; undefined when they were not. */
    readonly kernelBtf: Btf | undefined,
    /** See {@link ObjectOptions.attach}. */
    readonly attach: string | undefined,
    input: AssemblyInput,
  ) {
    this.#input = input;
  }

  /**
   * @param data A whole object file.
   * @throws {ObjectError} when it cannot be read. What is wrong with one program only shows in {@link BpfObject.assemble}.
   */
  static parse(data: Uint8Array, options: ObjectOptions = {}): BpfObject {
    const elf = ElfFile.parse(data);
    // 0 is written by compilers of the time before the number was assigned.
    if (elf.machine !== EM_BPF && elf.machine !== 0) {
      throw new ObjectError("not-bpf", "the ELF file", {
        found: `machine ${elf.machine}`,
        expected: `eBPF (${EM_BPF}); compile with clang -target bpf`,
      });
    }
    const types = elf.section(".BTF"), more = elf.section(".BTF.ext");
    const btf = types === undefined ? undefined : Btf.parse(types.data);
    const ext = btf === undefined || more === undefined ? EMPTY_BTF_EXT : parseBtfExt(more.data, btf);
    const maps = readMaps(elf, btf);
    const { externs, map } = readExterns(elf, btf, options.config, maps.length);
    if (map !== undefined) maps.push(map);
    const functions = readFunctions(elf);
    const target = options.kernelBtf ?? btf;
    const input: AssemblyInput = {
      elf,
      btf,
      ext,
      functions,
      maps,
      externs,
      core: btf === undefined || target === undefined ? undefined : new CoreRelocator(btf, target),
      places: new PlaceIndex(elf, functions, maps),
    };
    const programs = readPrograms(functions, btf, ext, options);
    return new BpfObject(
      elf,
      btf,
      ext,
      maps,
      programs,
      readLicence(elf),
      externs,
      options.kernelBtf,
      options.attach,
      input,
    );
  }

  /** Puts a program together. @throws {ObjectError} when it cannot be. */
  assemble(program: ObjectProgram): AssembledProgram {
    return assemble(program.code, this.#input);
  }
}

function readPrograms(
  functions: ReadonlyMap<number, readonly FunctionCode[]>,
  btf: Btf | undefined,
  ext: BtfExt,
  options: ObjectOptions,
): ObjectProgram[] {
  const programs: ObjectProgram[] = [];
  const onlyText = [...functions.values()].every((list) =>
    list.every((code) => code.section.name === ".text")
  );
  for (const list of functions.values()) {
    for (const code of list) {
      // Functions in .text are sub-programs, unless there is nothing else and a type was given for them.
      if (code.section.name === ".text" && !(onlyText && options.type !== undefined && !code.isStatic)) {
        continue;
      }
      const type = funcType(code, btf, ext);
      programs.push({
        name: code.name,
        section: code.section.name,
        kind: kindOfProgram(code, type, btf, options),
        code,
        tags: btf === undefined || type === 0
          ? []
          : btf.tagsOf(type).filter((tag) => tag.componentIndex < 0).map((tag) => tag.name),
      });
    }
  }
  return programs;
}

function kindOfProgram(
  code: FunctionCode,
  type: number,
  btf: Btf | undefined,
  options: ObjectOptions,
): ProgramKind | undefined {
  const bySection = kindOfSection(code.section.name);
  if (bySection?.source === "section") return bySection;
  if (options.type !== undefined) {
    const given = kindOf(options.type);
    if (given !== undefined) return given;
  }
  const byContext = btf === undefined || type === 0 ? undefined : kindOfContext(contextName(type, btf));
  // A prefix (`xdp_filter`) and a context type that agree are as good as a section name.
  if (bySection !== undefined && (byContext === undefined || byContext.type === bySection.type)) {
    return bySection;
  }
  return bySection ?? byContext ?? kindOfCustom(code.section.name, options.name ?? "");
}

/** Name of the struct that a function's first parameter points to. */
function contextName(type: number, btf: Btf): string {
  const func = btf.type(type);
  if (func.kind !== "func") return "";
  const proto = btf.type(func.type);
  if (proto.kind !== "func_proto" || proto.parameters.length === 0) return "";
  const pointer = btf.resolve(proto.parameters[0].type);
  return pointer.kind === "ptr" ? btf.resolve(pointer.type).name : "";
}

function funcType(code: FunctionCode, btf: Btf | undefined, ext: BtfExt): number {
  const info = ext.functions.get(code.section.name)?.find((entry) => entry.offset === code.offset);
  if (info !== undefined) return info.type;
  return btf?.find(code.name, "func")?.id ?? 0;
}

function readLicence(elf: ElfFile): string {
  const section = elf.section("license");
  if (section === undefined) return "";
  const end = section.data.indexOf(0);
  return new TextDecoder().decode(
    section.data.subarray(0, Math.min(end < 0 ? section.data.length : end, LIMITS.nameBytesMax)),
  );
}

/** The functions of an object: where each begins and ends, which of them are programs. @module */
import { type ElfFile, type ElfSection, SHF, SHT, STB, STT } from "./elf.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** A function in an executable section. */
export interface FunctionCode {
  readonly name: string;
  readonly section: ElfSection;
  /** First byte in the section. */
  readonly offset: number;
  /** Bytes, a multiple of 8. */
  readonly size: number;
  readonly isStatic: boolean;
}

/**
 * All functions of an object, by section index, by rising offset. Sections without function symbols (compilers before LLVM 8,
 * assemblers) count as one function, or one per global symbol.
 */
export function readFunctions(elf: ElfFile): ReadonlyMap<number, readonly FunctionCode[]> {
  const result = new Map<number, FunctionCode[]>();
  let total = 0;
  for (const section of elf.sections) {
    if (section.type !== SHT.progbits || (section.flags & SHF.execinstr) === 0 || section.size === 0) {
      continue;
    }
    if (section.size % 8 !== 0) {
      throw new ObjectError("bad-program", `section ${section.name}`, {
        found: `${section.size} bytes`,
        expected: "a multiple of 8, the size of an instruction",
      });
    }
    const list = functionsOf(section, elf);
    total += list.length;
    if (total > LIMITS.programsMax) {
      throw new ObjectError("too-large", "the functions", {
        found: `more than ${LIMITS.programsMax}`,
        expected: `at most ${LIMITS.programsMax}`,
      });
    }
    result.set(section.index, list);
  }
  return result;
}

function functionsOf(section: ElfSection, elf: ElfFile): FunctionCode[] {
  const symbols = elf.symbolsIn(section);
  let starts = symbols.filter((symbol) => symbol.type === STT.func);
  if (starts.length === 0) {
    starts = symbols.filter((symbol) => symbol.type === STT.notype && symbol.binding !== STB.local);
  }
  starts.sort((a, b) => a.value - b.value);
  const distinct = starts.filter((symbol, index) => index === 0 || starts[index - 1].value !== symbol.value);
  if (distinct.length === 0) {
    return [{ name: section.name, section, offset: 0, size: section.size, isStatic: false }];
  }
  return distinct.map((symbol, index) => {
    // Symbols without a size reach to the next one.
    const end = distinct[index + 1]?.value ?? section.size;
    const size = symbol.size > 0 ? symbol.size : end - symbol.value;
    if (symbol.value % 8 !== 0 || size % 8 !== 0 || size === 0 || symbol.value + size > end) {
      throw new ObjectError("bad-program", `function ${symbol.name}`, {
        found: `${size} bytes at ${symbol.value}`,
        expected: `whole instructions before ${end}`,
      });
    }
    return {
      name: symbol.name,
      section,
      offset: symbol.value,
      size,
      // As libbpf does: what no other object can see has no contract of its own (STV_INTERNAL, STV_HIDDEN).
      isStatic: symbol.binding === STB.local || symbol.visibility === 1 || symbol.visibility === 2,
    };
  });
}

/** From instructions back to the source: lines, functions, names of what is referred to. @module */
import type { AssembledProgram, ProgramFunction, Reference } from "./assembly.ts";
import type { LineInfo } from "./btf_ext.ts";
import type { MapDefinition } from "./map_definition.ts";

/** What explanations need to know about one assembled program. */
export class SourceMap {
  readonly #lines: AssembledProgram["lines"];

  /**
   * @param program The assembled program.
   * @param maps All maps of its object, by index.
   */
  constructor(readonly program: AssembledProgram, readonly maps: readonly MapDefinition[]) {
    // Line 0 marks code that the compiler made up; it belongs to the line before.
    this.#lines = program.lines.filter((entry) => entry.line.line > 0);
  }

  /** How many instruction slots there are. */
  get instructionCount(): number {
    return this.program.instructions.length / 8;
  }

  /** The source line of an instruction; undefined without line information. */
  lineAt(instruction: number): LineInfo | undefined {
    const lines = this.#lines;
    let low = 0, high = lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lines[middle].instruction <= instruction) low = middle + 1;
      else high = middle;
    }
    const found = lines[low - 1];
    // The last line of one function does not reach into the next.
    return found !== undefined && this.functionAt(found.instruction) === this.functionAt(instruction)
      ? found.line
      : undefined;
  }

  /** The function an instruction lies in. */
  functionAt(instruction: number): ProgramFunction | undefined {
    return this.program.functions.find((f) => instruction >= f.start && instruction < f.start + f.count);
  }

  /** What an instruction refers to: map, variable, function. */
  referenceAt(instruction: number): Reference | undefined {
    return this.program.references.get(instruction);
  }

  /** Name of a map by the handle in the request, which is its index in the object. */
  mapName(handle: number): string | undefined {
    return this.maps[handle]?.name;
  }

  /** Raw fields of an instruction; zeros beyond the end. */
  instructionAt(
    index: number,
  ): { opcode: number; dst: number; src: number; offset: number; immediate: number } {
    const bytes = this.program.instructions;
    if (index < 0 || index * 8 + 8 > bytes.length) {
      return { opcode: 0, dst: 0, src: 0, offset: 0, immediate: 0 };
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset + index * 8, 8);
    return {
      opcode: view.getUint8(0),
      dst: view.getUint8(1) & 15,
      src: view.getUint8(1) >> 4,
      offset: view.getInt16(2, true),
      immediate: view.getInt32(4, true),
    };
  }
}

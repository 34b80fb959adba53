/** `.BTF.ext`: which function and which source line each instruction came from, and CO-RE relocations. @module */
import type { Btf } from "./btf.ts";
import { Bytes } from "./bytes.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** Where a function begins: `type` is the id of a BTF `func`. */
export interface FuncInfo {
  /** Byte offset in its section. */
  readonly offset: number;
  readonly type: number;
}

/** The source line of an instruction. */
export interface LineInfo {
  /** Byte offset in its section. */
  readonly offset: number;
  readonly file: string;
  /** The text of the line as the compiler saw it. */
  readonly text: string;
  readonly line: number;
  readonly column: number;
}

/** What a CO-RE relocation asks for, by number (`enum bpf_core_relo_kind`). */
export const CORE_KINDS = [
  "field_byte_offset",
  "field_byte_size",
  "field_exists",
  "field_signed",
  "field_lshift_u64",
  "field_rshift_u64",
  "type_id_local",
  "type_id_target",
  "type_exists",
  "type_size",
  "enumval_exists",
  "enumval_value",
  "type_matches",
] as const;

/** Name of a CO-RE relocation kind. */
export type CoreKind = (typeof CORE_KINDS)[number];

/** One CO-RE relocation. */
export interface CoreRelocation {
  /** Byte offset of the instruction in its section. */
  readonly offset: number;
  /** Local BTF type id. */
  readonly type: number;
  /** Access path such as `0:1:2`. */
  readonly access: string;
  readonly kind: CoreKind;
}

/** The parsed contents, by name of the section that they speak about. */
export interface BtfExt {
  readonly functions: ReadonlyMap<string, readonly FuncInfo[]>;
  readonly lines: ReadonlyMap<string, readonly LineInfo[]>;
  readonly core: ReadonlyMap<string, readonly CoreRelocation[]>;
}

/** No information at all, for objects without `.BTF.ext`. */
export const EMPTY_BTF_EXT: BtfExt = { functions: new Map(), lines: new Map(), core: new Map() };

/**
 * @param data Contents of `.BTF.ext`.
 * @param btf The object's BTF, whose strings it uses.
 * @throws {ObjectError} `bad-btf-ext`.
 */
export function parseBtfExt(data: Uint8Array, btf: Btf): BtfExt {
  const bytes = new Bytes(data, ".BTF.ext", "bad-btf-ext");
  if (bytes.u16(0) !== 0xeb9f) {
    throw new ObjectError("bad-btf-ext", ".BTF.ext", {
      found: `magic 0x${bytes.u16(0).toString(16)}`,
      expected: "0xeb9f, little-endian",
    });
  }
  const headerSize = bytes.u32(4);
  const part = (at: number): Bytes | undefined => {
    // Older compilers wrote a shorter header without CO-RE.
    if (at + 8 > headerSize || bytes.u32(at + 4) === 0) return undefined;
    return bytes.slice(headerSize + bytes.u32(at), bytes.u32(at + 4));
  };
  return {
    functions: records(part(8), btf, 8, (record) => ({ offset: record.u32(0), type: record.u32(4) })),
    lines: records(part(16), btf, 16, (record) => ({
      offset: record.u32(0),
      file: btf.string(record.u32(4)),
      text: btf.string(record.u32(8)),
      // 22 bits of line, 10 of column (BPF_LINE_INFO_LINE_NUM).
      line: record.u32(12) >>> 10,
      column: record.u32(12) & 0x3ff,
    })),
    core: records(part(24), btf, 16, (record) => {
      const kind = CORE_KINDS[record.u32(12)];
      if (kind === undefined) {
        throw new ObjectError("bad-btf-ext", "a CO-RE relocation", {
          found: `kind ${record.u32(12)}`,
          expected: `a kind below ${CORE_KINDS.length}`,
        });
      }
      return { offset: record.u32(0), type: record.u32(4), access: btf.string(record.u32(8)), kind };
    }),
  };
}

function records<T extends { offset: number }>(
  part: Bytes | undefined,
  btf: Btf,
  sizeMin: number,
  decode: (record: Bytes) => T,
): Map<string, T[]> {
  const result = new Map<string, T[]>();
  if (part === undefined) return result;
  const recordSize = part.u32(0);
  // The kernel's own bounds (MIN_BPF_..INFO_SIZE, MAX_FUNCINFO_REC_SIZE 252).
  if (recordSize < sizeMin || recordSize > 252 || recordSize % 4 !== 0) {
    throw new ObjectError("bad-btf-ext", ".BTF.ext", {
      found: `records of ${recordSize} bytes`,
      expected: `a multiple of 4 from ${sizeMin} to 252`,
    });
  }
  let at = 4, total = 0;
  while (at < part.length) {
    const section = btf.string(part.u32(at));
    const count = part.u32(at + 4);
    at += 8;
    total += count;
    if (total > LIMITS.relocationsMax) {
      throw new ObjectError("too-large", ".BTF.ext", {
        found: `${total} records`,
        expected: `at most ${LIMITS.relocationsMax}`,
      });
    }
    part.check(at, count * recordSize);
    const list = result.get(section) ?? [];
    for (let index = 0; index < count; index++, at += recordSize) {
      list.push(decode(part.slice(at, recordSize)));
    }
    list.sort((a, b) => a.offset - b.offset);
    result.set(section, list);
  }
  return result;
}

/** What can be wrong with an object file, as one typed error. @module */

/** Stable codes of {@link ObjectError}; @weir/report has a page for each. */
export type ObjectErrorCode =
  | "not-elf"
  | "not-bpf"
  | "truncated"
  | "bad-elf"
  | "bad-symbol"
  | "bad-relocation"
  | "bad-btf"
  | "bad-btf-ext"
  | "bad-map"
  | "bad-program"
  | "unresolved-symbol"
  | "core-relocation"
  | "unsupported"
  | "too-large";

/** An object that cannot be read: where, what was found, what was expected. */
export class ObjectError extends Error {
  override readonly name = "ObjectError";
  /** Stable code. */
  readonly code: ObjectErrorCode;
  /** What was being read, for example `section .maps` or `BTF type 12`. */
  readonly subject: string;
  readonly found: string;
  readonly expected: string;

  constructor(
    code: ObjectErrorCode,
    subject: string,
    detail: { found: string; expected: string; cause?: unknown },
  ) {
    super(
      `Cannot read ${subject}: found ${detail.found}, expected ${detail.expected}`,
      detail.cause === undefined ? undefined : { cause: detail.cause },
    );
    this.code = code;
    this.subject = subject;
    this.found = detail.found;
    this.expected = detail.expected;
  }
}

/** Limits of the reader. Each is above what real objects need and below what could hurt. */
export const LIMITS = {
  /** Bytes of one object file. */
  objectBytesMax: 64 * 1024 * 1024,
  /** ELF sections of one object. */
  sectionsMax: 16384,
  /** Symbols of one object. */
  symbolsMax: 1_000_000,
  /** Relocations of one object, all sections together. */
  relocationsMax: 1_000_000,
  /** BTF types, the kernel's own limit (BTF_MAX_TYPE in uapi/linux/btf.h). */
  btfTypesMax: 0xfffff,
  /** Type references followed in a row (typedefs, qualifiers, arrays), the kernel's MAX_RESOLVE_DEPTH is 32. */
  btfDepthMax: 32,
  /** Bytes of one name. */
  nameBytesMax: 4096,
  /** Programs of one object. */
  programsMax: 4096,
  /** Maps of one object. */
  mapsMax: 4096,
  /** Instructions of one program, the kernel's limit for privileged loads. */
  instructionsMax: 1_000_000,
  /** Sub-programs of one program, BPF_MAX_SUBPROGS. */
  subprogramsMax: 256,
} as const;

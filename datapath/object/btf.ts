/**
 * BTF, the type information of eBPF objects and of the kernel (uapi/linux/btf.h).
 *
 * Types are decoded when asked for: the kernel's own BTF has more than 100,000 of them and a relocation needs a few. @module
 */
import { Bytes } from "./bytes.ts";
import { LIMITS, ObjectError } from "./error.ts";

/** BTF kinds by number. */
export const BTF_KINDS = [
  "void",
  "int",
  "ptr",
  "array",
  "struct",
  "union",
  "enum",
  "fwd",
  "typedef",
  "volatile",
  "const",
  "restrict",
  "func",
  "func_proto",
  "var",
  "datasec",
  "float",
  "decl_tag",
  "type_tag",
  "enum64",
] as const;

/** Name of a BTF kind. */
export type BtfKind = (typeof BTF_KINDS)[number];

/** A member of a struct or union. */
export interface BtfMember {
  readonly name: string;
  readonly type: number;
  /** From the start of the struct, in bits. */
  readonly bitOffset: number;
  /** Width of a bit field in bits, 0 for an ordinary member. */
  readonly bitfieldSize: number;
}

/** A value of an enum; 64 bit wide in `enum64`, hence bigint everywhere. */
export interface BtfEnumValue {
  readonly name: string;
  readonly value: bigint;
}

/** A parameter of a function prototype. A last one with type 0 and no name is `...`. */
export interface BtfParameter {
  readonly name: string;
  readonly type: number;
}

/** A variable in a data section. */
export interface BtfSectionVariable {
  /** Id of a `var`. */
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

/** One BTF type. `name` is empty for anonymous ones; `type` is the id of the type referred to (0: void). */
export type BtfType =
  & { readonly id: number; readonly name: string }
  & (
    | { readonly kind: "void" }
    | {
      readonly kind: "int";
      readonly size: number;
      readonly bits: number;
      readonly bitOffset: number;
      readonly signed: boolean;
      readonly char: boolean;
      readonly bool: boolean;
    }
    | { readonly kind: "float"; readonly size: number }
    | {
      readonly kind: "ptr" | "typedef" | "volatile" | "const" | "restrict" | "type_tag";
      readonly type: number;
    }
    | { readonly kind: "array"; readonly type: number; readonly indexType: number; readonly count: number }
    | { readonly kind: "struct" | "union"; readonly size: number; readonly members: readonly BtfMember[] }
    | {
      readonly kind: "enum" | "enum64";
      readonly size: number;
      readonly signed: boolean;
      readonly values: readonly BtfEnumValue[];
    }
    | { readonly kind: "fwd"; readonly union: boolean }
    | { readonly kind: "func"; readonly type: number; readonly linkage: "static" | "global" | "extern" }
    | { readonly kind: "func_proto"; readonly type: number; readonly parameters: readonly BtfParameter[] }
    | { readonly kind: "var"; readonly type: number; readonly linkage: "static" | "global" | "extern" }
    | { readonly kind: "datasec"; readonly size: number; readonly variables: readonly BtfSectionVariable[] }
    | { readonly kind: "decl_tag"; readonly type: number; readonly componentIndex: number }
  );

/** A {@link BtfType} of one kind. */
export type BtfTypeOf<K extends BtfKind> = BtfType & { readonly kind: K };

const MAGIC = 0xeb9f;

/** Bytes after the 12-byte head of a type: a fixed part plus one per `vlen`. */
const EXTRA: Record<BtfKind, readonly [fixed: number, each: number]> = {
  void: [0, 0],
  int: [4, 0],
  ptr: [0, 0],
  array: [12, 0],
  struct: [0, 12],
  union: [0, 12],
  enum: [0, 8],
  fwd: [0, 0],
  typedef: [0, 0],
  volatile: [0, 0],
  const: [0, 0],
  restrict: [0, 0],
  func: [0, 0],
  func_proto: [0, 8],
  var: [4, 0],
  datasec: [0, 12],
  float: [0, 0],
  decl_tag: [4, 0],
  type_tag: [0, 0],
  enum64: [0, 12],
};

/** Type information of one object or of the kernel. */
export class Btf {
  readonly #types: Bytes;
  readonly #strings: Bytes;
  /** Offset of each type in the type section; index 0 is void and unused. */
  readonly #offsets: Uint32Array;
  readonly #cache = new Map<number, BtfType>();
  readonly #byName = new Map<string, number[]>();
  #tags: Map<number, BtfTypeOf<"decl_tag">[]> | undefined;

  private constructor(types: Bytes, strings: Bytes, offsets: Uint32Array) {
    this.#types = types;
    this.#strings = strings;
    this.#offsets = offsets;
  }

  /**
   * @param data The contents of a `.BTF` section or of `/sys/kernel/btf/vmlinux`; kept, not copied.
   * @throws {ObjectError} `bad-btf` when header, lengths or kinds are wrong. What a type refers to is checked when it is read.
   */
  static parse(data: Uint8Array): Btf {
    const bytes = new Bytes(data, "BTF", "bad-btf");
    if (bytes.u16(0) !== MAGIC) {
      throw new ObjectError("bad-btf", "BTF", {
        found: `magic 0x${bytes.u16(0).toString(16)}`,
        expected: "0xeb9f, little-endian",
      });
    }
    const headerSize = bytes.u32(4);
    if (headerSize < 24) {
      throw new ObjectError("bad-btf", "BTF", {
        found: `a header of ${headerSize} bytes`,
        expected: "at least 24",
      });
    }
    const types = bytes.slice(headerSize + bytes.u32(8), bytes.u32(12), "the BTF types");
    const strings = bytes.slice(headerSize + bytes.u32(16), bytes.u32(20), "the BTF strings");
    if (strings.length === 0 || strings.u8(0) !== 0 || strings.u8(strings.length - 1) !== 0) {
      throw new ObjectError("bad-btf", "the BTF strings", {
        found: `${strings.length} bytes`,
        expected: "a table that begins and ends with NUL",
      });
    }
    return new Btf(types, strings, indexTypes(types));
  }

  /** How many types there are, void included; ids run from 0 to this minus one. */
  get size(): number {
    return this.#offsets.length;
  }

  /** The type with that id; 0 is void. */
  type(id: number): BtfType {
    const cached = this.#cache.get(id);
    if (cached !== undefined) return cached;
    if (!Number.isInteger(id) || id < 0 || id >= this.#offsets.length) {
      throw new ObjectError("bad-btf", "BTF", {
        found: `a reference to type ${id}`,
        expected: `an id below ${this.#offsets.length}`,
      });
    }
    const type: BtfType = id === 0 ? { id: 0, name: "", kind: "void" } : this.#decode(id);
    this.#cache.set(id, type);
    return type;
  }

  /** The kind of a type without decoding all of it. */
  kind(id: number): BtfKind {
    if (id === 0) return "void";
    if (!(id > 0 && id < this.#offsets.length)) return this.type(id).kind;
    return BTF_KINDS[(this.#types.u32(this.#offsets[id] + 4) >>> 24) & 31];
  }

  /** The name of a type, empty when it has none. */
  name(id: number): string {
    if (id === 0) return "";
    if (!(id > 0 && id < this.#offsets.length)) return this.type(id).name;
    return this.#strings.name(this.#types.u32(this.#offsets[id]));
  }

  /** The string at an offset of the string table (`.BTF.ext` refers to it). */
  string(offset: number): string {
    return this.#strings.name(offset);
  }

  /** All types with that name, by rising id. */
  findAll(name: string): BtfType[] {
    if (this.#byName.size === 0) {
      for (let id = 1; id < this.#offsets.length; id++) {
        const key = this.name(id);
        if (key === "") continue;
        const ids = this.#byName.get(key);
        if (ids === undefined) this.#byName.set(key, [id]);
        else ids.push(id);
      }
    }
    return (this.#byName.get(name) ?? []).map((id) => this.type(id));
  }

  /** The first type with that name and one of those kinds. */
  find<K extends BtfKind>(name: string, ...kinds: K[]): BtfTypeOf<K> | undefined {
    return this.findAll(name).find((type) =>
      kinds.length === 0 || (kinds as BtfKind[]).includes(type.kind)
    ) as
      | BtfTypeOf<K>
      | undefined;
  }

  /** All types of one kind, by rising id. */
  *ofKind<K extends BtfKind>(kind: K): Generator<BtfTypeOf<K>> {
    for (let id = 1; id < this.#offsets.length; id++) {
      if (this.kind(id) === kind) yield this.type(id) as BtfTypeOf<K>;
    }
  }

  /** The declaration tags on a type, member and parameter tags included, by rising id. */
  tagsOf(id: number): readonly BtfTypeOf<"decl_tag">[] {
    if (this.#tags === undefined) {
      this.#tags = new Map();
      for (const tag of this.ofKind("decl_tag")) {
        const list = this.#tags.get(tag.type);
        if (list === undefined) this.#tags.set(tag.type, [tag]);
        else list.push(tag);
      }
    }
    return this.#tags.get(id) ?? [];
  }

  /** Follows typedefs, qualifiers and type tags to the type that has a layout. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let depth = 0; depth <= LIMITS.btfDepthMax; depth++) {
      switch (type.kind) {
        case "typedef":
        case "volatile":
        case "const":
        case "restrict":
        case "type_tag":
          type = this.type(type.type);
          break;
        default:
          return type;
      }
    }
    throw tooDeep(id);
  }

  /**
   * Size in bytes of a type.
   * @throws {ObjectError} `bad-btf` for a type without one (void, functions, forward declarations) or beyond 4 GiB.
   */
  sizeOf(id: number): number {
    let factor = 1;
    let type = this.resolve(id);
    for (let depth = 0; depth <= LIMITS.btfDepthMax; depth++) {
      switch (type.kind) {
        case "array":
          factor *= type.count;
          if (factor > 0xffffffff) throw noSize(id, "an array beyond 4 GiB");
          if (factor === 0) return 0;
          type = this.resolve(type.type);
          break;
        case "ptr":
          return factor * 8;
        case "int":
        case "float":
        case "struct":
        case "union":
        case "enum":
        case "enum64":
        case "datasec":
          if (factor * type.size > 0xffffffff) throw noSize(id, "a type beyond 4 GiB");
          return factor * type.size;
        case "var":
          type = this.resolve(type.type);
          break;
        default:
          throw noSize(id, `${type.kind} ${type.name}`.trim());
      }
    }
    throw tooDeep(id);
  }

  /**
   * A member of a struct or union by name, looking into anonymous structs and unions inside it; `bitOffset` is from the outermost start.
   */
  member(id: number, name: string): BtfMember | undefined {
    const pending = [{ id, bitOffset: 0, depth: 0 }];
    // Counted as well as depth-limited: an anonymous struct may list its successor many times.
    for (let visited = 0; pending.length > 0 && visited < 65536; visited++) {
      const next = pending.shift()!;
      const type = this.resolve(next.id);
      if (type.kind !== "struct" && type.kind !== "union") continue;
      for (const member of type.members) {
        if (member.name === name) return { ...member, bitOffset: next.bitOffset + member.bitOffset };
        if (member.name === "" && next.depth < LIMITS.btfDepthMax) {
          pending.push({
            id: member.type,
            bitOffset: next.bitOffset + member.bitOffset,
            depth: next.depth + 1,
          });
        }
      }
    }
    return undefined;
  }

  /** A type as a C programmer would write it, for messages: `struct iphdr *`, `__u32[4]`. */
  describe(id: number): string {
    let suffix = "";
    let type = this.type(id);
    for (let depth = 0; depth <= LIMITS.btfDepthMax; depth++) {
      switch (type.kind) {
        case "ptr":
          suffix = `*${suffix}`;
          type = this.type(type.type);
          break;
        case "array":
          suffix += `[${type.count}]`;
          type = this.type(type.type);
          break;
        case "const":
        case "volatile":
        case "restrict":
        case "type_tag":
          type = this.type(type.type);
          break;
        default: {
          const word = type.kind === "struct" || type.kind === "union" || type.kind === "enum"
            ? `${type.kind} `
            : "";
          const name = type.kind === "void" ? "void" : type.name || "(anonymous)";
          return `${word}${name}${suffix.startsWith("*") ? " " : ""}${suffix}`;
        }
      }
    }
    return `type ${id}`;
  }

  #decode(id: number): BtfType {
    const types = this.#types;
    const at = this.#offsets[id];
    const info = types.u32(at + 4), sizeOrType = types.u32(at + 8);
    const kind = BTF_KINDS[(info >>> 24) & 31], flag = info >>> 31 === 1, vlen = info & 0xffff;
    const head = { id, name: this.#strings.name(types.u32(at)) };
    const body = at + 12;
    switch (kind) {
      case "void":
        throw new ObjectError("bad-btf", `BTF type ${id}`, {
          found: "kind 0",
          expected: "a kind from 1 to 19",
        });
      case "int": {
        const encoding = types.u32(body);
        const how = (encoding >>> 24) & 15;
        const bits = encoding & 0xff;
        return {
          ...head,
          kind,
          size: sizeOrType,
          bits,
          bitOffset: (encoding >>> 16) & 0xff,
          signed: (how & 1) !== 0,
          char: (how & 2) !== 0,
          bool: (how & 4) !== 0,
        };
      }
      case "float":
        return { ...head, kind, size: sizeOrType };
      case "ptr":
      case "typedef":
      case "volatile":
      case "const":
      case "restrict":
      case "type_tag":
        return { ...head, kind, type: sizeOrType };
      case "array":
        return {
          ...head,
          kind,
          type: types.u32(body),
          indexType: types.u32(body + 4),
          count: types.u32(body + 8),
        };
      case "struct":
      case "union": {
        const members: BtfMember[] = [];
        for (let index = 0; index < vlen; index++) {
          const entry = body + index * 12;
          const offset = types.u32(entry + 8);
          members.push({
            name: this.#strings.name(types.u32(entry)),
            type: types.u32(entry + 4),
            // With the kind flag the upper byte is the width of a bit field.
            bitOffset: flag ? offset & 0xffffff : offset,
            bitfieldSize: flag ? offset >>> 24 : 0,
          });
        }
        return { ...head, kind, size: sizeOrType, members };
      }
      case "enum": {
        const values: BtfEnumValue[] = [];
        for (let index = 0; index < vlen; index++) {
          const entry = body + index * 8;
          const value = flag ? types.i32(entry + 4) : types.u32(entry + 4);
          values.push({ name: this.#strings.name(types.u32(entry)), value: BigInt(value) });
        }
        return { ...head, kind, size: sizeOrType, signed: flag, values };
      }
      case "enum64": {
        const values: BtfEnumValue[] = [];
        for (let index = 0; index < vlen; index++) {
          const entry = body + index * 12;
          const value = types.u64(entry + 4);
          values.push({
            name: this.#strings.name(types.u32(entry)),
            value: flag ? BigInt.asIntN(64, value) : value,
          });
        }
        return { ...head, kind, size: sizeOrType, signed: flag, values };
      }
      case "fwd":
        return { ...head, kind, union: flag };
      case "func":
        return { ...head, kind, type: sizeOrType, linkage: linkage(vlen) };
      case "func_proto": {
        const parameters: BtfParameter[] = [];
        for (let index = 0; index < vlen; index++) {
          const entry = body + index * 8;
          parameters.push({ name: this.#strings.name(types.u32(entry)), type: types.u32(entry + 4) });
        }
        return { ...head, kind, type: sizeOrType, parameters };
      }
      case "var":
        return { ...head, kind, type: sizeOrType, linkage: linkage(types.u32(body)) };
      case "datasec": {
        const variables: BtfSectionVariable[] = [];
        for (let index = 0; index < vlen; index++) {
          const entry = body + index * 12;
          variables.push({
            type: types.u32(entry),
            offset: types.u32(entry + 4),
            size: types.u32(entry + 8),
          });
        }
        return { ...head, kind, size: sizeOrType, variables };
      }
      case "decl_tag":
        return { ...head, kind, type: sizeOrType, componentIndex: types.i32(body) };
    }
  }
}

function indexTypes(types: Bytes): Uint32Array {
  const offsets: number[] = [0];
  let at = 0;
  while (at < types.length) {
    const info = types.u32(at + 4);
    const kind = BTF_KINDS[(info >>> 24) & 31];
    if (kind === undefined || kind === "void") {
      throw new ObjectError("bad-btf", `BTF type ${offsets.length}`, {
        found: `kind ${(info >>> 24) & 31}`,
        expected: "a kind from 1 to 19",
      });
    }
    const [fixed, each] = EXTRA[kind];
    const size = 12 + fixed + each * (info & 0xffff);
    types.check(at, size);
    offsets.push(at);
    if (offsets.length > LIMITS.btfTypesMax) {
      throw new ObjectError("too-large", "the BTF types", {
        found: `more than ${LIMITS.btfTypesMax}`,
        expected: `at most ${LIMITS.btfTypesMax}`,
      });
    }
    at += size;
  }
  return Uint32Array.from(offsets);
}

function linkage(value: number): "static" | "global" | "extern" {
  return value === 0 ? "static" : value === 1 ? "global" : "extern";
}

function tooDeep(id: number): ObjectError {
  return new ObjectError("bad-btf", `BTF type ${id}`, {
    found: "a chain of references that does not end",
    expected: `at most ${LIMITS.btfDepthMax} steps`,
  });
}

function noSize(id: number, found: string): ObjectError {
  return new ObjectError("bad-btf", `BTF type ${id}`, { found, expected: "a type with a size" });
}

/** Applies CO-RE relocations: replaces offsets, sizes and enum values by those of the target kernel. @module */
import type { Btf } from "./btf.ts";
import type { CoreKind, CoreRelocation } from "./btf_ext.ts";
import { CoreBudget, type CoreSpec, essentialName, familyOf, matchSpec, parseSpec } from "./core_match.ts";
import { ObjectError } from "./error.ts";

/** The call that libbpf puts in place of an access to something that the target lacks; fine as long as it is never reached. */
export const CORE_POISON_HELPER = 195896080;

interface Answer {
  readonly value: bigint;
  /** Bytes of the field, for loads and stores whose width may have to change. */
  readonly size?: number;
  readonly type?: number;
  /** The instruction must hold this value now, else object and BTF disagree. */
  readonly check: boolean;
}

/** Ids by name without flavour. Many objects are relocated against one kernel, whose names are 100,000. */
const NAMES = new WeakMap<Btf, Map<string, number[]>>();

/** Resolves relocations of one object against one target; candidates are remembered by name. */
export class CoreRelocator {
  readonly #candidates = new Map<number, number[]>();
  readonly #budget = new CoreBudget();

  /**
   * @param local The object's own types.
   * @param target The kernel's types.
   */
  constructor(readonly local: Btf, readonly target: Btf) {}

  /**
   * Patches the instruction at `offset` of `code`.
   * @throws {ObjectError} `core-relocation` when object and BTF contradict each other or the answer is ambiguous.
   */
  apply(code: Uint8Array, offset: number, relocation: CoreRelocation): void {
    const subject = `CO-RE relocation ${relocation.kind} of ${this.local.describe(relocation.type)}`;
    const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
    if (relocation.kind === "type_id_local") {
      return patch(view, offset, subject, undefined, { value: BigInt(relocation.type), check: false });
    }
    const spec = parseSpec(this.local, relocation.type, relocation.access, relocation.kind);
    const before = answer(spec, relocation.kind)!;
    let after: Answer | undefined;
    let found = false;
    for (const candidate of this.#candidatesOf(relocation.type)) {
      const match = matchSpec(spec, relocation.kind, this.target, candidate, this.#budget);
      if (match === undefined) continue;
      const next = answer(match, relocation.kind);
      if (found && next?.value !== after?.value) {
        throw new ObjectError("core-relocation", subject, {
          found: `several types of that name in the target that answer ${after?.value} and ${next?.value}`,
          expected: "one answer",
        });
      }
      found = true;
      after = next;
    }
    patch(
      view,
      offset,
      subject,
      before,
      after ?? answer(undefined, relocation.kind),
      this.#widthSafe(before, after),
    );
  }

  #candidatesOf(localId: number): number[] {
    const known = this.#candidates.get(localId);
    if (known !== undefined) return known;
    const type = this.local.type(localId);
    const ids = (this.#names().get(essentialName(type.name)) ?? []).filter((id) => {
      const kind = this.target.kind(id);
      return kind === type.kind || (kind.startsWith("enum") && type.kind.startsWith("enum"));
    });
    this.#candidates.set(localId, ids);
    return ids;
  }

  #names(): ReadonlyMap<string, readonly number[]> {
    let names = NAMES.get(this.target);
    if (names !== undefined) return names;
    names = new Map();
    for (let id = 1; id < this.target.size; id++) {
      const name = this.target.name(id);
      if (name === "") continue;
      const key = essentialName(name);
      const ids = names.get(key);
      if (ids === undefined) names.set(key, [id]);
      else ids.push(id);
    }
    NAMES.set(this.target, names);
    return names;
  }

  /** A load may change its width only for pointers and unsigned numbers, where zero extension keeps the value. */
  #widthSafe(before: Answer, after: Answer | undefined): boolean {
    if (after === undefined || before.size === after.size) return true;
    if (before.type === undefined || after.type === undefined) return true;
    const a = this.local.resolve(before.type), b = this.target.resolve(after.type);
    if (a.kind === "ptr" && b.kind === "ptr") return true;
    return a.kind === "int" && b.kind === "int" && !a.signed && !b.signed;
  }
}

/** What a relocation asks for, of a place that exists (`spec`) or does not. Undefined: the instruction must not be reached. */
function answer(spec: CoreSpec | undefined, kind: CoreKind): Answer | undefined {
  switch (kind) {
    case "field_exists":
    case "enumval_exists":
    case "type_exists":
    case "type_matches":
      return { value: spec === undefined ? 0n : 1n, check: true };
    case "type_size":
      return { value: spec === undefined ? 0n : BigInt(spec.btf.sizeOf(spec.root)), check: true };
    case "type_id_target":
    case "type_id_local":
      return { value: spec === undefined ? 0n : BigInt(spec.root), check: false };
    case "enumval_value": {
      if (spec === undefined) return undefined;
      const type = spec.btf.resolve(spec.steps[0].type);
      if (type.kind !== "enum" && type.kind !== "enum64") return undefined;
      return { value: type.values[spec.steps[0].index].value, check: true };
    }
    default:
      return spec === undefined ? undefined : fieldAnswer(spec, kind);
  }
}

function fieldAnswer(spec: CoreSpec, kind: CoreKind): Answer {
  const last = spec.steps.at(-1)!;
  const wrong = (found: string, expected: string): ObjectError =>
    new ObjectError("core-relocation", `CO-RE relocation ${kind}`, { found, expected });
  if (last.member === undefined) {
    const size = spec.btf.sizeOf(last.type);
    if (kind === "field_byte_offset") {
      return { value: BigInt(Math.floor(spec.bitOffset / 8)), size, type: last.type, check: true };
    }
    if (kind === "field_byte_size") return { value: BigInt(size), check: true };
    throw wrong("an array element", "a named field");
  }
  const field = spec.btf.resolve(last.member.type);
  const isBitfield = last.member.bitfieldSize > 0;
  let bytes = spec.btf.sizeOf(field.id);
  let bits = isBitfield ? last.member.bitfieldSize : bytes * 8;
  let start = Math.floor(spec.bitOffset / 8);
  if (isBitfield) {
    if (bytes === 0) throw wrong("a bit field in a type of no size", "an integer");
    // The smallest aligned unit that holds the whole bit field.
    start = Math.floor(spec.bitOffset / 8 / bytes) * bytes;
    while (spec.bitOffset + bits - start * 8 > bytes * 8) {
      if (bytes >= 8) throw wrong("a bit field across 64-bit units", "one that a single load can read");
      bytes *= 2;
      start = Math.floor(spec.bitOffset / 8 / bytes) * bytes;
    }
  }
  if (bits > 64) bits = 64;
  switch (kind) {
    case "field_byte_offset":
      return isBitfield
        ? { value: BigInt(start), check: false }
        : { value: BigInt(start), size: bytes, type: field.id, check: true };
    case "field_byte_size":
      return { value: BigInt(bytes), check: !isBitfield };
    case "field_signed": {
      const signed = (field.kind === "int" || field.kind === "enum" || field.kind === "enum64") &&
        field.signed;
      return { value: signed ? 1n : 0n, check: true };
    }
    case "field_lshift_u64":
      return { value: BigInt(64 - (spec.bitOffset + bits - start * 8)), check: !isBitfield };
    case "field_rshift_u64":
      return { value: BigInt(64 - bits), check: true };
    default:
      throw wrong(`family ${familyOf(kind)}`, "a field");
  }
}

const SIZES: Readonly<Record<number, number>> = { 8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10 };

function patch(
  view: DataView,
  offset: number,
  subject: string,
  before: Answer | undefined,
  after: Answer | undefined,
  widthSafe = true,
): void {
  const opcode = view.getUint8(offset), kind = opcode & 7;
  const wrong = (found: string, expected: string): ObjectError =>
    new ObjectError("core-relocation", `${subject} at instruction ${offset / 8}`, { found, expected });
  const agree = (found: bigint): void => {
    // Compared in 32 bits: an unsigned enumerator 0xffffffff is the instruction's constant -1.
    if (before?.check === true && BigInt.asIntN(32, found) !== BigInt.asIntN(32, before.value)) {
      throw wrong(`${found} in the instruction`, `${before.value}, which the object's BTF says`);
    }
  };
  const wide = opcode === 0x18;
  if (kind === 0 && !wide) {
    throw wrong(`opcode 0x${opcode.toString(16)}`, "a load, store, move or 64-bit constant");
  }
  if (kind === 5 || kind === 6) throw wrong("a jump", "a load, store, move or 64-bit constant");
  if ((kind === 4 || kind === 7) && (opcode & 8) !== 0) {
    throw wrong("a register operand", "a constant operand");
  }
  const isMemory = kind === 1 || kind === 2 || kind === 3;
  if (after === undefined || (isMemory && !widthSafe)) {
    for (let at = offset; at < offset + (wide ? 16 : 8); at += 8) {
      view.setUint32(at, 0x85, true);
      view.setInt32(at + 4, CORE_POISON_HELPER, true);
    }
    return;
  }
  if (wide) {
    agree(BigInt(view.getUint32(offset + 4, true)) | (BigInt(view.getUint32(offset + 12, true)) << 32n));
    view.setUint32(offset + 4, Number(BigInt.asUintN(32, after.value)), true);
    view.setUint32(offset + 12, Number(BigInt.asUintN(64, after.value) >> 32n), true);
  } else if (isMemory) {
    agree(BigInt(view.getInt16(offset + 2, true)));
    if (after.value > 32767n) throw wrong(`offset ${after.value} in the target`, "at most 32767");
    view.setInt16(offset + 2, Number(after.value), true);
    if (before?.size !== undefined && after.size !== undefined && before.size !== after.size) {
      const code = SIZES[after.size];
      if (code === undefined) throw wrong(`a field of ${after.size} bytes in the target`, "1, 2, 4 or 8");
      view.setUint8(offset, (opcode & ~0x18) | code);
    }
  } else {
    agree(BigInt(view.getInt32(offset + 4, true)));
    view.setInt32(offset + 4, Number(BigInt.asIntN(32, after.value)), true);
  }
}

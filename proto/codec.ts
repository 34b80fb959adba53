/**
 * One message, two encodings: protobuf bytes and protobuf's JSON mapping.
 *
 * Plain objects stand for messages: every scalar, list and map field is present (with its default), message fields
 * and members of a `oneof` only where they are set, enums are their names, 64-bit integers are numbers (exact up to
 * 2^53, in JSON strings), bytes are `Uint8Array` (in JSON base64).
 * @module
 */
import protobuf from "protobufjs/light";
import { encodeMessage, keepBytes } from "./encoder.ts";
import { MessageError } from "./message_error.ts";
import { typeOf } from "./root.ts";

export { MessageError };

protobuf.util.Long = undefined as unknown as typeof protobuf.util.Long;
protobuf.configure();

/** What a caller may leave out: every field, at every depth. */
export type Init<T> = T extends Uint8Array ? T
  : T extends (infer U)[] ? Init<U>[]
  : T extends object ? { [K in keyof T]?: Init<T[K]> }
  : T;

/** The encodings of one message type. All but `keep` are pure. */
export interface Message<T> {
  /** Full protobuf name, e.g. `weir.policy.v1.Policy`. */
  readonly name: string;
  /** A complete object from a partial one. */
  create(init?: Init<T>): T;
  /** Protobuf bytes. @throws {MessageError} an enumeration has no such value */
  encode(value: Init<T>): Uint8Array<ArrayBuffer>;
  /** Makes the bytes of a message once, for a part of many others. It is frozen, and given back. */
  keep(value: T): T;
  /** @throws {MessageError} the bytes are truncated or of another type */
  decode(bytes: Uint8Array): T;
  /** A JSON value; default values are left out, as protobuf's mapping has it. */
  toJson(value: Init<T>): unknown;
  /** @throws {MessageError} an unknown field, a wrong type or a number out of range, named by its path */
  fromJson(json: unknown): T;
}

type Plain = Record<string, unknown>;

/** Binds a message by its full name. Used by generated code only. */
export function bindMessage<T>(name: string): Message<T> {
  let found: protobuf.Type | undefined;
  const type = () => found ??= typeOf(name);
  return {
    name,
    create: (init) => complete(type(), (init ?? {}) as Plain) as T,
    encode: (value) => encodeMessage(type(), value as Plain),
    keep(value) {
      keepBytes(type(), value as Plain);
      return value;
    },
    decode(bytes) {
      try {
        return fromWire(type(), type().decode(bytes) as unknown as Plain) as T;
      } catch (cause) {
        if (cause instanceof MessageError) throw cause;
        throw new MessageError(`Cannot decode ${name}: ${(cause as Error).message}`, "", { cause });
      }
    },
    toJson: (value) => messageToJson(type(), value as Plain),
    fromJson: (json) => messageFromJson(type(), json, "") as T,
  };
}

function isPresence(field: protobuf.Field): boolean {
  return field.partOf !== null && field.partOf !== undefined;
}

function defaultOf(field: protobuf.Field): unknown {
  if (field.repeated) return [];
  if (field.map) return {};
  const resolved = field.resolvedType;
  if (resolved instanceof protobuf.Enum) return resolved.valuesById[0] ?? 0;
  switch (field.type) {
    case "string":
      return "";
    case "bytes":
      return new Uint8Array(0);
    case "bool":
      return false;
    default:
      return 0;
  }
}

function mapField(
  field: Pick<Slot, "repeated" | "map">,
  value: unknown,
  one: (v: unknown) => unknown,
): unknown {
  if (field.repeated) return (value as unknown[]).map(one);
  if (field.map) {
    return Object.fromEntries(Object.entries(value as Plain).map(([k, v]) => [k, one(v)]));
  }
  return one(value);
}

/** What the walks below ask of a field, found out once: they run for every message that passes. */
interface Slot {
  readonly name: string;
  readonly repeated: boolean;
  readonly map: boolean;
  readonly message: protobuf.Type | undefined;
  readonly enumeration: protobuf.Enum | undefined;
  /** It is there or not: a message, a member of a oneof. Else its default stands for it. */
  readonly isOptional: boolean;
  /** Its default, where that is one value for all; else it is made anew. */
  readonly default: unknown;
  readonly makeDefault: (() => unknown) | undefined;
  /** JSON carries it as a text. */
  readonly isLong: boolean;
}
const slots = new WeakMap<protobuf.Type, readonly Slot[]>();

function slotsOf(type: protobuf.Type): readonly Slot[] {
  const known = slots.get(type);
  if (known !== undefined) return known;
  const made = type.fieldsArray.map((field): Slot => {
    field.resolve();
    const { resolvedType, repeated, map } = field;
    const value = defaultOf(field);
    return {
      name: field.name,
      repeated,
      map,
      message: resolvedType instanceof protobuf.Type ? resolvedType : undefined,
      enumeration: resolvedType instanceof protobuf.Enum ? resolvedType : undefined,
      isOptional: !repeated && !map && (resolvedType instanceof protobuf.Type || isPresence(field)),
      default: value,
      makeDefault: typeof value === "object" ? () => defaultOf(field) : undefined,
      isLong: LONGS.has(field.type),
    };
  });
  slots.set(type, made);
  return made;
}

function complete(type: protobuf.Type, init: Plain): Plain {
  const out: Plain = {};
  for (const slot of slotsOf(type)) {
    const value = init[slot.name];
    if (value === undefined || value === null) {
      if (!slot.isOptional) {
        out[slot.name] = slot.makeDefault === undefined ? slot.default : slot.makeDefault();
      }
    } else if (slot.message === undefined) {
      out[slot.name] = value;
    } else {
      const { message } = slot;
      out[slot.name] = mapField(slot, value, (v) => complete(message, v as Plain));
    }
  }
  return out;
}

function fromWire(type: protobuf.Type, message: Plain): Plain {
  const out: Plain = {};
  for (const slot of slotsOf(type)) {
    const v = message[slot.name];
    if (v === null || !Object.hasOwn(message, slot.name)) {
      if (!slot.isOptional) {
        out[slot.name] = slot.makeDefault === undefined ? slot.default : slot.makeDefault();
      }
      continue;
    }
    const { message: inner, enumeration } = slot;
    if (inner !== undefined) {
      out[slot.name] = mapField(slot, v, (x) => fromWire(inner, x as Plain));
    } else if (enumeration !== undefined) {
      out[slot.name] = mapField(slot, v, (x) => enumeration.valuesById[x as number] ?? x);
    } else {
      out[slot.name] = v;
    }
  }
  return out;
}

/** Scalar types that JSON carries as texts. */
export const LONGS: ReadonlySet<string> = new Set(["int64", "uint64", "sint64", "fixed64", "sfixed64"]);
/** Least and greatest value of the integer types. */
export const INT_RANGE: Record<string, [number, number]> = {
  int32: [-0x80000000, 0x7fffffff],
  sint32: [-0x80000000, 0x7fffffff],
  sfixed32: [-0x80000000, 0x7fffffff],
  uint32: [0, 0xffffffff],
  fixed32: [0, 0xffffffff],
  int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  sint64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  sfixed64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
  fixed64: [0, Number.MAX_SAFE_INTEGER],
};
/** Well-known messages that stand for one scalar. */
export const WRAPPERS: RegExp =
  /^\.google\.protobuf\.(Bool|Int32|UInt32|Int64|UInt64|String|Bytes|Double|Float)Value$/;

/** JSON of the well-known messages that are no objects there; undefined for all others. Found out once: names are put together anew each time. */
const specials = new WeakMap<protobuf.Type, ((value: Plain) => unknown) | null>();

function specialOf(type: protobuf.Type): ((value: Plain) => unknown) | null {
  const known = specials.get(type);
  if (known !== undefined) return known;
  const made = type.fullName === ".google.protobuf.Timestamp"
    ? timestampToJson
    : type.fullName === ".google.protobuf.FieldMask"
    ? (value: Plain) => ((value.paths ?? []) as string[]).join(",")
    : WRAPPERS.test(type.fullName)
    ? (value: Plain) => {
      const [slot] = slotsOf(type);
      return scalarToJson(slot, value.value ?? slot.default ?? new Uint8Array(0));
    }
    : null;
  specials.set(type, made);
  return made;
}

/** JSON names follow the file: lowerCamelCase in weir.*, proto names in the Hubble packages. */
function messageToJson(type: protobuf.Type, value: Plain): unknown {
  const special = specialOf(type);
  if (special !== null) return special(value);
  const out: Plain = {};
  for (const slot of slotsOf(type)) {
    const v = value[slot.name];
    if (v === undefined || v === null) continue;
    const { message, repeated, map } = slot;
    if (repeated && (v as unknown[]).length === 0) continue;
    if (map && Object.keys(v as Plain).length === 0) continue;
    if (message !== undefined) {
      out[slot.name] = mapField(slot, v, (x) => messageToJson(message, x as Plain));
      continue;
    }
    if (!repeated && !map && !slot.isOptional) {
      if (v === "" || v === 0 || v === false || (v instanceof Uint8Array && v.length === 0)) continue;
      if (slot.enumeration !== undefined && v === slot.default) continue;
    }
    out[slot.name] = mapField(slot, v, (x) => scalarToJson(slot, x));
  }
  return out;
}

function scalarToJson({ isLong }: Slot, value: unknown): unknown {
  if (value instanceof Uint8Array) return value.toBase64();
  return isLong ? String(value) : value;
}

function timestampToJson(value: Plain): string {
  const seconds = (value.seconds ?? 0) as number, nanos = (value.nanos ?? 0) as number;
  const whole = new Date(seconds * 1000).toISOString().slice(0, 19);
  return nanos === 0 ? `${whole}Z` : `${whole}.${String(nanos).padStart(9, "0")}Z`;
}

function timestampFromJson(json: unknown, path: string): Plain {
  const m = typeof json === "string"
    ? /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(json)
    : null;
  const ms = m ? Date.parse(m[1] + m[3]) : NaN;
  if (!m || Number.isNaN(ms)) throw wrong(path, json, "an RFC 3339 time");
  return { seconds: ms / 1000, nanos: m[2] ? Number(m[2].padEnd(9, "0")) : 0 };
}

function wrong(path: string, found: unknown, expected: string): MessageError {
  const text = JSON.stringify(found) ?? String(found);
  return new MessageError(
    `${path || "Message"}: found ${
      text.length > 80 ? text.slice(0, 77) + "..." : text
    }, expected ${expected}`,
    path,
  );
}

const snake = (name: string) => name.replace(/[A-Z]/g, (c) => "_" + c.toLowerCase());

function messageFromJson(type: protobuf.Type, json: unknown, path: string): Plain {
  if (type.fullName === ".google.protobuf.Timestamp") return timestampFromJson(json, path);
  if (type.fullName === ".google.protobuf.FieldMask" && typeof json === "string") {
    return { paths: json === "" ? [] : json.split(",") };
  }
  if (WRAPPERS.test(type.fullName)) {
    return { value: scalarFromJson(type.fields.value.resolve(), json, path) };
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw wrong(path, json, "an object");
  const given: Plain = {};
  const known = new Map<string, protobuf.Field>();
  for (const field of type.fieldsArray) {
    field.resolve();
    known.set(field.name, field);
    known.set(snake(field.name), field);
  }
  for (const [key, value] of Object.entries(json)) {
    const at = path ? `${path}.${key}` : key;
    const field = known.get(key);
    if (!field) {
      throw new MessageError(
        `${at}: unknown field, expected one of ${type.fieldsArray.map((f) => f.name).join(", ")}`,
        at,
      );
    }
    if (value === null) continue;
    if (field.repeated) {
      if (!Array.isArray(value)) throw wrong(at, value, "a list");
      given[field.name] = value.map((v, i) => valueFromJson(field, v, `${at}[${i}]`));
    } else if (field.map) {
      if (typeof value !== "object" || Array.isArray(value)) throw wrong(at, value, "an object");
      given[field.name] = Object.fromEntries(
        Object.entries(value).map(([k, v]) => {
          if (!k.isWellFormed()) throw wrong(at, k, "keys without half a surrogate pair");
          return [k, valueFromJson(field, v, `${at}.${k}`)];
        }),
      );
    } else {
      given[field.name] = valueFromJson(field, value, at);
    }
  }
  return complete(type, given);
}

function valueFromJson(field: protobuf.Field, json: unknown, path: string): unknown {
  const resolved = field.resolvedType;
  if (resolved instanceof protobuf.Type) return messageFromJson(resolved, json, path);
  if (resolved instanceof protobuf.Enum) {
    if (typeof json === "string" && resolved.values[json] !== undefined) return json;
    if (typeof json === "number" && resolved.valuesById[json] !== undefined) return resolved.valuesById[json];
    throw wrong(path, json, `one of ${Object.keys(resolved.values).join(", ")}`);
  }
  return scalarFromJson(field, json, path);
}

function scalarFromJson(field: protobuf.Field, json: unknown, path: string): unknown {
  switch (field.type) {
    case "string":
      if (typeof json !== "string") throw wrong(path, json, "a string");
      if (!json.isWellFormed()) throw wrong(path, json, "a string without half a surrogate pair");
      return json;
    case "bool":
      if (typeof json !== "boolean") throw wrong(path, json, "true or false");
      return json;
    case "bytes":
      if (typeof json !== "string") throw wrong(path, json, "base64 text");
      try {
        return Uint8Array.fromBase64(json);
      } catch {
        throw wrong(path, json, "base64 text");
      }
    case "double":
    case "float": {
      const n = typeof json === "string" && json.trim() !== "" ? Number(json) : json;
      if (typeof n !== "number" || Number.isNaN(n)) throw wrong(path, json, "a number");
      return n;
    }
    default: {
      const n = typeof json === "string" && /^-?\d+$/.test(json) ? Number(json) : json;
      const [min, max] = INT_RANGE[field.type];
      if (typeof n !== "number" || !Number.isInteger(n) || n < min || n > max) {
        throw wrong(path, json, `a whole number from ${min} to ${max}`);
      }
      return n;
    }
  }
}

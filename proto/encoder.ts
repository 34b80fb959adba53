/**
 * Messages as protobuf's bytes, straight from plain objects: what each field takes of protobufjs's writer is found out once for its
 * type. Fields are written in the order of their numbers; plain ones with their default are left out.
 * @module
 */
import protobuf from "protobufjs/light";
import { MessageError } from "./message_error.ts";

type Plain = Record<string, unknown>;
/** Writes a value without its tag. */
type Put = (out: protobuf.Writer, value: unknown) => unknown;

/** What is known of a type. */
interface Encoder {
  readonly fields: readonly { readonly name: string; readonly write: Put }[];
  /** Bytes of messages that never change; undefined: none is known of this type. */
  kept: WeakMap<object, Uint8Array> | undefined;
}

const encoders = new WeakMap<protobuf.Type, Encoder>();

/** The bytes of a message. @throws {MessageError} an enumeration has no such value */
export function encodeMessage(type: protobuf.Type, value: Plain): Uint8Array<ArrayBuffer> {
  const out = protobuf.Writer.create();
  putFields(encoderOf(type), out, value);
  return out.finish() as Uint8Array<ArrayBuffer>;
}

/** Makes the bytes of a message once: wherever this very object is in another message, they are copied. It is frozen. */
export function keepBytes(type: protobuf.Type, value: Plain): void {
  const encoder = encoderOf(type);
  encoder.kept ??= new WeakMap();
  if (!encoder.kept.has(value)) encoder.kept.set(value, encodeMessage(type, freeze(value)));
}

function freeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) {
    // Bytes cannot be frozen.
    if (typeof inner === "object" && inner !== null && !ArrayBuffer.isView(inner)) freeze(inner);
  }
  return Object.freeze(value);
}

function encoderOf(type: protobuf.Type): Encoder {
  let known = encoders.get(type);
  if (known === undefined) {
    // Before that `packed` says nothing.
    type.setup();
    const fields = type.fieldsArray.toSorted((a, b) => a.id - b.id);
    known = {
      fields: fields.map((field) => ({ name: field.name, write: writerOf(field.resolve()) })),
      kept: undefined,
    };
    encoders.set(type, known);
  }
  return known;
}

function putFields({ fields }: Encoder, out: protobuf.Writer, value: Plain): void {
  for (const { name, write } of fields) {
    const of = value[name];
    if (of !== undefined && of !== null) write(out, of);
  }
}

/** Writes a field with its tag, or nothing for a default. */
function writerOf(field: protobuf.Field): Put {
  const { id, type, resolvedType, repeated, map } = field;
  if (map) return mapWriter(field as unknown as protobuf.MapField);
  const put = putOf(type, resolvedType), tag = tagOf(id, type, resolvedType);
  if (repeated) {
    if (field.packed && isPackable(type, resolvedType)) {
      return packedWriter(tagOf(id, "bytes", null), put);
    }
    return (out, values) => {
      for (const value of values as unknown[]) {
        out.uint32(tag);
        put(out, value);
      }
    };
  }
  const isOptional = resolvedType instanceof protobuf.Type ||
    (field.partOf !== null && field.partOf !== undefined);
  if (isOptional) {
    return (out, value) => {
      out.uint32(tag);
      put(out, value);
    };
  }
  const first = resolvedType instanceof protobuf.Enum ? resolvedType.valuesById[0] : undefined;
  return (out, value) => {
    if (value === "" || value === 0 || value === false || value === first && first !== undefined) return;
    if (value instanceof Uint8Array && value.length === 0) return;
    out.uint32(tag);
    put(out, value);
  };
}

function isPackable(type: string, resolved: protobuf.ReflectionObject | null): boolean {
  return resolved instanceof protobuf.Enum || Object.hasOwn(protobuf.types.packed, type);
}

function packedWriter(tag: number, put: Put): Put {
  return (out, values) => {
    if ((values as unknown[]).length === 0) return;
    out.uint32(tag);
    out.fork();
    for (const value of values as unknown[]) put(out, value);
    out.ldelim();
  };
}

/** A map is a list of pairs: key 1, value 2. */
function mapWriter({ id, keyType, type, resolvedType }: protobuf.MapField): Put {
  const tag = tagOf(id, "bytes", null),
    keyTag = tagOf(1, keyType, null),
    tagOfValue = tagOf(2, type, resolvedType);
  const putKey = putOf(keyType, null), put = putOf(type, resolvedType);
  const keyOf = keyType === "string"
    ? (text: string) => text
    : keyType === "bool"
    ? (text: string) => text === "true"
    : (text: string) => Number(text);
  return (out, map) => {
    for (const [key, value] of Object.entries(map as Plain)) {
      out.uint32(tag);
      out.fork();
      out.uint32(keyTag);
      putKey(out, keyOf(key));
      out.uint32(tagOfValue);
      put(out, value);
      out.ldelim();
    }
  };
}

function tagOf(id: number, type: string, resolved: protobuf.ReflectionObject | null): number {
  const wireType = resolved instanceof protobuf.Type
    ? 2
    : resolved instanceof protobuf.Enum
    ? 0
    : (protobuf.types.basic as Readonly<Record<string, number>>)[type];
  return (id << 3 | wireType) >>> 0;
}

function putOf(type: string, resolved: protobuf.ReflectionObject | null): Put {
  if (resolved instanceof protobuf.Type) return messagePut(resolved);
  if (resolved instanceof protobuf.Enum) {
    return (out, value) =>
      out.int32(typeof value === "string" ? enumNumber(resolved, value) : value as number);
  }
  const put = SCALARS[type];
  if (put === undefined) throw new TypeError(`A field of type ${type}, which is not known`);
  return put;
}

function messagePut(type: protobuf.Type): Put {
  let encoder: Encoder | undefined;
  return (out, value) => {
    encoder ??= encoderOf(type);
    const kept = encoder.kept?.get(value as object);
    if (kept !== undefined) return out.bytes(kept);
    out.fork();
    putFields(encoder, out, value as Plain);
    out.ldelim();
  };
}

/** By the writer's own functions, which are named as the types are. */
const SCALARS: Readonly<Record<string, Put>> = {
  ...Object.fromEntries(
    Object.keys(protobuf.types.basic).map((type) => [
      type,
      (out, value) => (out as unknown as Record<string, (value: unknown) => unknown>)[type](value),
    ]),
  ),
  // Half a character becomes U+FFFD: as it is, no reader would take it.
  string: (out, value) => out.string((value as string).toWellFormed()),
};

function enumNumber(type: protobuf.Enum, name: string): number {
  const number = type.values[name];
  if (number === undefined) {
    throw new MessageError(
      `Unknown value ${JSON.stringify(name)} of ${type.name}: expected one of ${
        Object.keys(type.values).join(", ")
      }`,
      "",
    );
  }
  return number;
}

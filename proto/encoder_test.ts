import assert from "node:assert/strict";
import protobuf from "protobufjs/light";
import { packages } from "./gen/root.ts";
import { bindMessage, MessageError } from "./codec.ts";
import { lookUp, typeOf } from "./root.ts";
import { Handle, L7RecordBatch } from "./gen/weir_l7_v1.ts";

type Plain = Record<string, unknown>;

/** Numbers in [0, 1) that a seed reproduces. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const WHOLE = [1, 127, 128, 300, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5, 2 ** 53 - 1];
const TEXTS = [
  "a",
  "k8s:app=web",
  "x".repeat(64),
  "x".repeat(65),
  "é",
  "日本語".repeat(50),
  "y".repeat(20_000),
  "😀",
];

/** A value of a type that is no default anywhere. */
function valueOf(type: protobuf.Type, next: () => number, depth = 0): Plain {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)];
  const scalar = ({ type, resolvedType }: protobuf.Field): unknown => {
    if (resolvedType instanceof protobuf.Type) return valueOf(resolvedType, next, depth + 1);
    if (resolvedType instanceof protobuf.Enum) {
      return pick(Object.keys(resolvedType.values).filter((name) => resolvedType.values[name] !== 0));
    }
    if (type === "string") return pick(TEXTS);
    if (type === "bytes") {
      return Uint8Array.from({ length: 1 + Math.floor(next() * 300) }, () => next() * 256);
    }
    if (type === "bool") return true;
    if (type === "double") return pick([1.5, -0.25, 1e300]);
    if (type === "float") return pick([1.5, -0.25]);
    const isWide = type.endsWith("64"), isSigned = !type.startsWith("u") && !type.startsWith("fixed");
    const limit = isWide ? Infinity : isSigned ? 2 ** 31 : 2 ** 32;
    const value = pick(WHOLE.filter((whole) => whole < limit));
    return isSigned && next() < 0.5 ? -value : value;
  };
  const out: Plain = {};
  for (const field of type.fieldsArray) {
    const { name, repeated, map, resolvedType } = field.resolve();
    if (resolvedType instanceof protobuf.Type && depth > 3 || next() < 0.2) continue;
    if (repeated) out[name] = Array.from({ length: 1 + Math.floor(next() * 3) }, () => scalar(field));
    else if (map) {
      const keyType = (field as unknown as protobuf.MapField).keyType;
      out[name] = Object.fromEntries(
        Array.from({ length: 2 }, (_, at) => [keyType === "string" ? `k${at}` : `${at + 1}`, scalar(field)]),
      );
    } else out[name] = scalar(field);
  }
  return out;
}

function* typesIn(name: string): Generator<protobuf.Type> {
  const found = lookUp(name);
  const nested = found instanceof protobuf.Type || found instanceof protobuf.Namespace
    ? found.nestedArray
    : [];
  if (found instanceof protobuf.Type) yield found;
  for (const one of nested) if (one instanceof protobuf.Type) yield* typesIn(one.fullName.slice(1));
}

Deno.test("Message.encode() writes the bytes that protobufjs writes, of every message there is", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 1), next = random(seed);
  let count = 0;
  for (const name of Object.keys(packages)) {
    for (const type of typesIn(name)) {
      for (let round = 0; round < 4; round++) {
        const value = valueOf(type, next);
        const bytes = bindMessage<Plain>(type.fullName.slice(1)).encode(value);
        const theirs = type.encode(type.fromObject(value)).finish();
        assert.deepEqual(new Uint8Array(bytes), new Uint8Array(theirs), `${type.fullName}, seed ${seed}`);
        count++;
      }
    }
  }
  assert.ok(count > 1000, `${count} messages`);
});

Deno.test("Message.encode() leaves defaults out, and unknown names of an enumeration are refused", () => {
  for (const name of ["weir.l7.v1.L7Record", "weir.policy.v1.MapState", "flow.Flow"]) {
    const message = bindMessage<Plain>(name);
    assert.equal(message.encode(message.create()).length, 0, name);
  }
  const kind = bindMessage<Plain>("weir.l7.v1.RuleSet");
  assert.throws(() => kind.encode({ kind: "SMTP" }), MessageError);
  // What failed leaves nothing behind.
  assert.deepEqual([...kind.encode({ id: 1 })], [8, 1]);
});

Deno.test("Message.encode() makes U+FFFD of half a character", () => {
  const type = typeOf("weir.l7.v1.Handle"), bytes = Handle.encode({ clientAddress: "a\ud800b" });
  assert.equal((type.decode(bytes) as unknown as Plain).clientAddress, "a\ufffdb");
});

Deno.test("Message.keep() makes the bytes of a part once, and freezes it", () => {
  const whole = { clientAddress: "10.0.0.1", egress: { endpoint: 7 } };
  const handle = Handle.keep(Handle.create(whole));
  const batch = (connection: Partial<Handle>) => ({ records: [{ cookie: 1, connection }, { connection }] });
  assert.deepEqual(L7RecordBatch.encode(batch(handle)), L7RecordBatch.encode(batch(Handle.create(whole))));
  assert.deepEqual(Handle.decode(Handle.encode(handle)), handle);
  assert.throws(() => handle.egress!.endpoint = 8, TypeError);
});

/** What is changed of a head before it is passed on; all other bytes stay as they came. @module */
import { type Field, isToken, listOf } from "./fields.ts";
import type { RequestHead } from "./request_head.ts";

/** A change of a head's fields that a rule asks for. */
export interface FieldChange {
  readonly action: "ADD" | "DELETE" | "REPLACE";
  readonly name: string;
  /** Of ADD and REPLACE. */
  readonly value: string;
}

/** Fields that say where a message ends or whose it is: no rule changes what was judged by them. */
const FIXED_FIELDS = new Set([
  "content-length",
  "transfer-encoding",
  "connection",
  "trailer",
  "upgrade",
  "host",
]);
/** Fields that belong to an upgrade. */
const UPGRADE_FIELDS = new Set(["upgrade", "http2-settings"]);

const encoder = new TextEncoder();
// What a field's value must not have: it would begin another field.
// deno-lint-ignore no-control-regex
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;

/** Those of the changes that may be made: none of what says where a message ends, none that would be two fields elsewhere. */
export function allowedChanges(asked: readonly FieldChange[]): readonly FieldChange[] {
  if (asked.length === 0) return asked;
  return asked.filter(({ name, value }) =>
    !FIXED_FIELDS.has(name.toLowerCase()) && isToken(name) && !CONTROL.test(value)
  );
}

/** The fields after the changes, for who judges next. */
export function changedFields(
  fields: readonly Pick<Field, "name" | "value">[],
  changes: readonly FieldChange[],
): Pick<Field, "name" | "value">[] {
  let changed = [...fields];
  for (const { action, name, value } of changes) {
    const key = name.toLowerCase();
    if (action !== "ADD") changed = changed.filter((field) => field.name.toLowerCase() !== key);
    if (action !== "DELETE") changed.push({ name, value });
  }
  return changed;
}

/**
 * The bytes of the head as they are passed on: a part of `bytes` where nothing changes.
 * @param bytes where the head was read, @param start where it begins
 */
export function forwardedHead(
  bytes: Uint8Array,
  start: number,
  head: RequestHead,
  asked: readonly FieldChange[],
): Uint8Array {
  const { target } = head;
  const changes = allowedChanges(asked);
  if (target.forwarded === target.text && changes.length === 0 && !head.hasForeignUpgrade) {
    return bytes.subarray(start, head.end);
  }
  const parts: Uint8Array[] = [
    bytes.subarray(start, head.targetStart),
    encoder.encode(target.forwarded),
    bytes.subarray(head.targetEnd, head.fieldsStart),
  ];
  const gone = new Set(
    changes.filter(({ action }) => action !== "ADD").map(({ name }) => name.toLowerCase()),
  );
  for (const field of head.fields) {
    if (gone.has(field.key)) continue;
    if (head.hasForeignUpgrade && UPGRADE_FIELDS.has(field.key)) continue;
    if (head.hasForeignUpgrade && field.key === "connection") {
      const names = listOf(field.value).filter((name) => !UPGRADE_FIELDS.has(name));
      if (names.length > 0) parts.push(encoder.encode(`${field.name}: ${names.join(", ")}\r\n`));
      continue;
    }
    parts.push(bytes.subarray(field.lineStart, field.lineEnd));
  }
  for (const { name, value } of changedFields([], changes)) {
    parts.push(encoder.encode(`${name}: ${value}\r\n`));
  }
  parts.push(bytes.subarray(head.end - 2, head.end));
  return joined(parts);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** What is changed of a request before it is passed on; all else stays as it came. @module */
import { allowedChanges, type FieldChange } from "../http1/head_change.ts";
import { HeaderField } from "./header_field.ts";
import { CONNECTION_FIELDS, type RequestFields } from "./message_fields.ts";

/** The fields as the server gets them: the path in its plain form, and what rules change. */
export function forwardedFields(
  { fields, target }: RequestFields,
  asked: readonly FieldChange[],
): readonly HeaderField[] {
  const changes = allowedChanges(asked).filter(({ name }) => {
    const key = name.toLowerCase();
    return !CONNECTION_FIELDS.has(key) && key !== "te";
  });
  if (changes.length === 0 && target.forwarded === target.text) return fields;
  let changed = fields.map((field) =>
    field.name === ":path" ? new HeaderField(":path", target.forwarded, field.isSensitive) : field
  );
  for (const { action, name, value } of changes) {
    const key = name.toLowerCase();
    if (action !== "ADD") changed = changed.filter((field) => field.name !== key);
    if (action !== "DELETE") changed.push(new HeaderField(key, latin1(value.trim())));
  }
  return changed;
}

const encoder = new TextEncoder();

/** UTF-8 of a text, one character for each byte. */
function latin1(text: string): string {
  return String.fromCharCode(...encoder.encode(text));
}

/** What is kept of objects: fields by name, since one that its reader does not know has it refuse the whole. @module */

/** These fields of an object, without those that are not said. */
export function only(value: unknown, fields: readonly string[]): Record<string, unknown> {
  const from = (value ?? {}) as Record<string, unknown>;
  return Object.fromEntries(
    fields.filter((field) => from[field] != null).map((field) => [field, from[field]]),
  );
}

/** The same of every item of a list; undefined: it is none. */
export function each(value: unknown, fields: readonly string[]): Record<string, unknown>[] | undefined {
  return Array.isArray(value) ? value.map((item) => only(item, fields)) : undefined;
}

/**
 * Values of objects as JSON has them, asked for what may not be there.
 * @module
 */

/** An object as its JSON value, and where it stands. */
export interface PlacedValue {
  readonly value: Record<string, unknown>;
  readonly file: string;
  readonly line: number;
}

export function metadataOf(
  value: unknown,
): { name?: string; namespace?: string; labels: Record<string, string> } {
  const { name, namespace, labels } = recordOf(recordOf(value).metadata);
  return { name: textsOf([name])[0], namespace: textsOf([namespace])[0], labels: labelsOf(labels) };
}

export function labelsOf(value: unknown): Record<string, string> {
  const texts = Object.entries(recordOf(value)).filter(([, text]) => typeof text === "string");
  return Object.fromEntries(texts) as Record<string, string>;
}

/** A map; an empty one for anything else. */
export function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Those that are texts and not empty. */
export function textsOf(values: readonly unknown[]): string[] {
  return values.filter((value) => typeof value === "string" && value !== "") as string[];
}

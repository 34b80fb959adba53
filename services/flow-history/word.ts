/**
 * Texts of flows as the database takes them. PostgreSQL refuses a NUL character in a text, and a key of more than 2704 bytes; one flow that
 * has either would keep out all that is written with it.
 * @module
 */

/** A word that is longer has its digest instead, in UTF-16 units: at most 600 bytes of UTF-8. */
export const WORD_LENGTH_MAX = 200;
/** Longest name of a node: as long as a DNS name. */
export const NODE_NAME_LENGTH_MAX = 253;

// deno-lint-ignore no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/;
// deno-lint-ignore no-control-regex
const CONTROLS = /[\u0000-\u001f\u007f]/g;

/** The word for a value, the same for the same value: itself, or a digest where the database would not take it. Pure. */
export function wordOf(value: string): string {
  const isPlain = value.length <= WORD_LENGTH_MAX && !CONTROL.test(value) && value.isWellFormed();
  return isPlain ? value : `#${digestOf(value)}`;
}

/** A name of a node as it is kept: without control characters, cut. Pure. */
export function nodeNameOf(name: string): string {
  if (name.length <= NODE_NAME_LENGTH_MAX && !CONTROL.test(name) && name.isWellFormed()) return name;
  return name.slice(0, NODE_NAME_LENGTH_MAX).replace(CONTROLS, "\ufffd").toWellFormed();
}

/** 64 bits of the text in hexadecimal digits (FNV-1a, twice 32). Pure. */
function digestOf(text: string): string {
  let low = 0x811c9dc5, high = 0x9dc5811c;
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193);
    high = Math.imul(high ^ text.charCodeAt(i), 0x01000197);
  }
  return [high, low].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}

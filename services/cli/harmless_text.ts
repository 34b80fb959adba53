/**
 * Text that others wrote, as a terminal may show it. Names, labels, messages and flows come from the network, from workloads and from servers that
 * may lie: none of it may move the cursor, change a title, hide text or turn it round.
 *
 * @module
 */

/** C0, DEL, C1 (U+009B begins a sequence as ESC [ does), separators of lines, and marks that turn the order of what follows round. */
const OBEYED =
  "\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ufeff";
const WORDS = new RegExp(`[${OBEYED}]`, "g");
/** The colours that our own words have; newline and tab are how text is laid out. */
// deno-lint-ignore no-control-regex
const OWN = /\x1b\[(?:0|1|3[1-6])m|[\n\t]/y;
const NAMED: Readonly<Record<string, string>> = { "\x1b": "^[", "\r": "\\r", "\n": "\\n", "\t": " " };

/** Words within a line: what a terminal would obey is shown instead. */
export function harmless(text: string): string {
  return text.replace(WORDS, shown);
}

/** Whole output, with our own colours, newlines and tabs: the last look, whatever was forgotten before. JSON stays JSON. */
export function harmlessOutput(text: string): string {
  return text.replace(WORDS, (char, at: number) => {
    OWN.lastIndex = at;
    return OWN.test(text) ? char : shown(char);
  });
}

function shown(char: string): string {
  return NAMED[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

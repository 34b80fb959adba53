/**
 * A JSON value as YAML. The library that reads manifests could write it too, and costs a tenth of a second of processor time at the
 * start of every command.
 *
 * @module
 */

/** Words that YAML 1.1 or 1.2 takes for something else than text. */
const MEANS_ELSE = /^(true|false|null|yes|no|on|off|y|n)$/i;
/** Text that stands for itself: it begins with a letter, and has nothing that YAML reads. */
const PLAIN = /^[A-Za-z_/](?:[-\w./@=,()+*%]|:(?=[^\s])| (?=[^\s#]))*$/;
/** Lines that a block shows as they are. */
// deno-lint-ignore no-control-regex
const BLOCK = /^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff])*[^\n]\n?$/;

/** What `JSON.parse()` would give, in block style, with a newline at its end. */
export function yamlText(value: unknown): string {
  const text = typeof value === "string" ? stringText(value, "  ") : written(value, "");
  return `${typeof value === "string" ? text : text.slice(1)}\n`;
}

/** What stands behind "key:" or "-": begins with a space or a newline. */
function written(value: unknown, indent: string): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return " []";
    return value.map((one) => `\n${indent}-${inItem(one, `${indent}  `)}`).join("");
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return " {}";
    return entries.map(([key, one]) => {
      // A list may stand as far left as its key; deeper reads better.
      return `\n${indent}${keyText(key)}:${written(one, `${indent}  `)}`;
    }).join("");
  }
  return typeof value === "string" ? ` ${stringText(value, indent)}` : ` ${JSON.stringify(value)}`;
}

/** The first line of a list or an object begins behind the dash. */
function inItem(value: unknown, indent: string): string {
  const text = written(value, indent);
  return text.startsWith("\n") ? ` ${text.slice(1 + indent.length)}` : text;
}

function keyText(key: string): string {
  return PLAIN.test(key) && !MEANS_ELSE.test(key) ? key : JSON.stringify(key);
}

function stringText(text: string, indent: string): string {
  if (text.includes("\n") && BLOCK.test(text)) {
    const lines = text.replace(/\n$/, "").split("\n");
    return `|${text.endsWith("\n") ? "" : "-"}\n${
      lines.map((line) => line === "" ? "" : indent + line).join("\n")
    }`;
  }
  return PLAIN.test(text) && !MEANS_ELSE.test(text) ? text : quoted(text);
}

/** JSON's strings are YAML's, but for what only YAML takes for the end of a line. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(
    /[\x7f-\x9f\u2028\u2029\ufeff]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Kubernetes' selector syntax over labels of a flow: `app=x`, `app!=x`, `app in (a, b)`, `app notin (a)`, `app`, `!app`;
 * a comma is "and". A key without source means any source.
 * @module
 */

type Match = (labels: readonly string[]) => boolean;

const KEY = "[A-Za-z0-9][-A-Za-z0-9_.:/]*";
const FORMS: [RegExp, (m: RegExpExecArray) => { key: string; values?: string[]; negated: boolean }][] = [
  [new RegExp(`^(${KEY})\\s+(in|notin)\\s+\\(([^()]*)\\)$`), (m) => ({
    key: m[1],
    values: m[3].split(",").map((v) => v.trim()),
    negated: m[2] === "notin",
  })],
  [new RegExp(`^(${KEY})\\s*!=\\s*(.*)$`), (m) => ({ key: m[1], values: [m[2].trim()], negated: true })],
  [new RegExp(`^(${KEY})\\s*==?\\s*(.*)$`), (m) => ({ key: m[1], values: [m[2].trim()], negated: false })],
  [new RegExp(`^!\\s*(${KEY})$`), (m) => ({ key: m[1], negated: true })],
  [new RegExp(`^(${KEY})$`), (m) => ({ key: m[1], negated: false })],
];

/** Value of a key among labels, or undefined; a key without source finds any source. */
function valueOf(labels: readonly string[], key: string): string | undefined {
  for (const label of labels) {
    const equals = label.indexOf("=");
    const full = equals < 0 ? label : label.slice(0, equals);
    if (full === key || full.slice(full.indexOf(":") + 1) === key) {
      return equals < 0 ? "" : label.slice(equals + 1);
    }
  }
  return undefined;
}

/** Splits at the commas outside parentheses. */
function terms(text: string): string[] {
  const found: string[] = [];
  let depth = 0, start = 0;
  for (let i = 0; i <= text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (i === text.length || (text[i] === "," && depth === 0)) {
      found.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return found;
}

/** Compiles a selector; `fail` makes the error for a text that is none. */
export function compileLabelSelector(text: string, fail: (expected: string) => Error): Match {
  const parts = terms(text).map((term): Match => {
    for (const [form, read] of FORMS) {
      const m = form.exec(term);
      if (!m) continue;
      const { key, values, negated } = read(m);
      const wanted = values && new Set(values);
      return (labels) => {
        const value = valueOf(labels, key);
        return (value !== undefined && (!wanted || wanted.has(value))) !== negated;
      };
    }
    throw fail("a selector such as app=web, tier in (a, b) or !canary");
  });
  return (labels) => parts.every((p) => p(labels));
}

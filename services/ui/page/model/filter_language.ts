/**
 * The filter that people type: the flags of `weir observe`, with or without dashes.
 *
 *     from-pod=shop/cart not port=53 verdict=DROPPED
 *     --from-pod shop/cart --not --port 53        (as it stands in a command; a whole command can be pasted)
 *
 * Words with blanks stand in quotes. The server reads the values; here only the form and the names of parameters are known.
 * @module
 */
import type { Names } from "../../api.ts";

/** One condition. */
export interface FilterTerm {
  /** Name of the parameter, without "not-". */
  readonly name: string;
  readonly value: string;
  readonly not: boolean;
}

/** What a text means; `fault` says what is wrong with it, and where (index of a character). */
export interface Filter {
  readonly terms: readonly FilterTerm[];
  readonly fault?: { readonly text: string; readonly at: number };
}

/** Flags that take no value in a command, and what they mean as a term; null: nothing that a filter says. */
const SWITCHES: Readonly<Record<string, readonly [name: string, value: string] | null>> = {
  "follow": null,
  "f": null,
  "all": null,
  "reply": ["reply", "true"],
  "encrypted": ["encrypted", "true"],
  "4": ["ip-version", "4"],
  "ipv4": ["ip-version", "4"],
  "6": ["ip-version", "6"],
  "ipv6": ["ip-version", "6"],
};
/** Flags of a command that are no filters: time is the strip's. */
const IGNORED = new Set(["o", "output", "last", "first", "since", "until", "server", "lab", "node", "P"]);
const SHORT: Readonly<Record<string, string>> = { n: "namespace", l: "label", t: "type" };

/** The verdicts and other words of closed sets are upper case; people may type them in any. */
const UPPER = new Set(["verdict", "drop-reason-desc", "drop-reason", "traffic-direction"]);

interface Word {
  readonly text: string;
  readonly at: number;
  /** The quote was closed, or there was none. */
  readonly whole: boolean;
}

/** Splits at blanks; quotes keep blanks. */
function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  let i = 0;
  while (i < text.length) {
    if (/\s/.test(text[i])) {
      i++;
      continue;
    }
    const at = i;
    let word = "", quote = "";
    for (; i < text.length && (quote !== "" || !/\s/.test(text[i])); i++) {
      const c = text[i];
      if (quote !== "") {
        if (c === quote) quote = "";
        else word += c;
      } else if (c === '"' || c === "'") quote = c;
      else word += c;
    }
    words.push({ text: word, at, whole: quote === "" });
  }
  return words;
}

/**
 * Reads a filter.
 * @param known Names of parameters, as the server has them ("from-pod", "not-from-pod"); empty: every name is taken.
 */
export function readFilter(text: string, known: readonly string[] = []): Filter {
  const words = wordsOf(text);
  const names = new Set(known.filter((name) => !name.startsWith("not-")));
  const terms: FilterTerm[] = [];
  const fail = (message: string, at: number): Filter => ({ terms, fault: { text: message, at } });
  let not = false, i = 0;
  // A pasted command.
  if (words[0] && /^(weir|hubble)$/.test(words[0].text)) i = words[1]?.text === "observe" ? 2 : 1;
  for (; i < words.length; i++) {
    const { text: word, at, whole } = words[i];
    if (!whole) return fail("A quote is not closed", at);
    if (/^(--)?not$/i.test(word)) {
      if (not) return fail("“not” stands before one condition", at);
      not = true;
      continue;
    }
    const match = /^(-{0,2})([A-Za-z0-9][-A-Za-z0-9]*)(?:=([\s\S]*))?$/.exec(word);
    if (!match) return fail(`“${word}” is no condition: expected name=value, such as from-pod=shop/cart`, at);
    const dashes = match[1] !== "";
    let name = SHORT[match[2]] && dashes ? SHORT[match[2]] : match[2];
    let value = match[3];
    if (!dashes && name.startsWith("not-")) {
      name = name.slice(4);
      not = !not;
    }
    if (value === undefined && dashes && name in SWITCHES) {
      const term = SWITCHES[name];
      if (term) terms.push({ name: term[0], value: term[1], not });
      not = false;
      continue;
    }
    if (value === undefined) {
      const next = words[i + 1];
      if (!dashes && (!next || !names.has(name))) {
        return fail(
          names.size > 0 && !names.has(name)
            ? `“${name}” is no condition that there is${hint(name, names)}`
            : `“${name}” has no value: expected ${name}=…`,
          at,
        );
      }
      if (!next) return fail(`“${word}” has no value`, at);
      value = next.text;
      if (!next.whole) return fail("A quote is not closed", next.at);
      i++;
    }
    if (dashes && IGNORED.has(name)) continue;
    if (names.size > 0 && !names.has(name)) {
      return fail(`“${name}” is no condition that there is${hint(name, names)}`, at);
    }
    if (value === "") return fail(`“${name}” has no value`, at);
    for (const one of UPPER.has(name) ? value.split(",") : [value]) {
      terms.push({ name, value: UPPER.has(name) ? one.toUpperCase() : one, not });
    }
    not = false;
  }
  if (not) return fail("“not” stands before a condition, and none follows", text.length);
  return { terms };
}

function hint(name: string, names: ReadonlySet<string>): string {
  const near = [...names].filter((n) =>
    n.includes(name) || (name.length > 2 && n.startsWith(name.slice(0, 3)))
  );
  return near.length > 0 ? `; did you mean ${near.slice(0, 3).join(", ")}?` : "";
}

const quoted = (value: string) =>
  /[\s"']/.test(value) ? (value.includes('"') ? `'${value}'` : `"${value}"`) : value;

/** The terms as text, in their order. */
export function formatFilter(terms: readonly FilterTerm[]): string {
  return terms.map(({ name, value, not }) => `${not ? "not " : ""}${name}=${quoted(value)}`).join(" ");
}

/** The terms as parameters of the server. */
export function filterParameters(terms: readonly FilterTerm[]): [name: string, value: string][] {
  return terms.map(({ name, value, not }) => [not ? `not-${name}` : name, value]);
}

/** What may stand where the cursor is. */
export interface Completion {
  /** The text from `from` to the cursor is replaced. */
  readonly from: number;
  readonly options: readonly { readonly text: string; readonly kind: "condition" | "value" }[];
}

const OPTIONS_MAX = 12;

/** Which words complete a condition's value. */
function valuesFor(name: string, names: Names): readonly string[] {
  const what = name.replace(/^(from|to)-/, "");
  const sets: Record<string, readonly string[]> = {
    "pod": names.pods,
    "namespace": names.namespaces,
    "workload": names.workloads,
    "label": names.labels,
    "node-name": names.nodes,
    "verdict": names.verdicts,
    "drop-reason-desc": names.dropReasons,
    "drop-reason": names.dropReasons,
    "type": names.types,
    "protocol": names.protocols,
    "reply": ["true", "false"],
    "encrypted": ["true", "false"],
    "ip-version": ["4", "6"],
    "traffic-direction": ["INGRESS", "EGRESS"],
    "identity": ["host", "world", "remote-node", "health", "kube-apiserver", "init"],
  };
  return sets[what] ?? [];
}

/** Words that begin so come first, then words that hold it. */
function matching(words: readonly string[], typed: string): string[] {
  const low = typed.toLowerCase();
  const starts: string[] = [], holds: string[] = [];
  for (const word of words) {
    const at = word.toLowerCase().indexOf(low);
    if (at === 0) starts.push(word);
    else if (at > 0) holds.push(word);
    if (starts.length >= OPTIONS_MAX) break;
  }
  return [...starts, ...holds].slice(0, OPTIONS_MAX);
}

/** Completes the word before the cursor. */
export function completeFilter(text: string, cursor: number, names: Names): Completion {
  const before = text.slice(0, cursor);
  const from = before.length - (/\S*$/.exec(before)?.[0].length ?? 0);
  const word = before.slice(from);
  const equals = word.indexOf("=");
  if (equals > 0) {
    const name = word.slice(0, equals).replace(/^-+/, "").replace(/^not-/, "");
    const options = matching(valuesFor(name, names), word.slice(equals + 1).replace(/^["']/, ""));
    return {
      from: from + equals + 1,
      options: options.map((value) => ({ text: quoted(value), kind: "value" })),
    };
  }
  const plain = word.replace(/^-+/, "");
  const words = ["not", ...names.parameters.filter((name) => !name.startsWith("not-"))];
  return {
    from,
    options: matching(words, plain).map((name) => ({
      text: name === "not" ? "not " : `${name}=`,
      kind: "condition",
    })),
  };
}

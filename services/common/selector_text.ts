/**
 * The text of selectors, as people and kubectl write it: `app=web`, `app==web`, `app!=web`, `app in (a, b)`,
 * `app notin (a)`, `app`, `!app`; a comma is "and". A key may name its source (`k8s:app`); one that does not means any.
 * @module
 */
import { parseLabelKey, SOURCE_ANY } from "./labels.ts";
import { type Requirement, Selector, SELECTOR_REQUIREMENTS_MAX, SelectorError } from "./selector.ts";

const KEY = "([^\\s!=,()]+)";
const SET = new RegExp(`^${KEY}\\s+(in|notin)\\s+\\(([^()]*)\\)$`);
const EQUALITY = new RegExp(`^${KEY}\\s*(!=|==?)\\s*([^\\s=,()]*)$`);
const EXISTENCE = new RegExp(`^(!?)\\s*${KEY}$`);
const EXPECTED = "KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY notin (A, B), KEY or !KEY";

/** Reads a selector. @throws {SelectorError} on an empty term, or one that is none of these forms */
export function parseSelector(text: string): Selector {
  return parseSelectorTerms(splitTerms(text));
}

/** Reads a selector of single terms. No terms select everything. @throws {SelectorError} */
export function parseSelectorTerms(terms: readonly string[]): Selector {
  if (terms.length > SELECTOR_REQUIREMENTS_MAX) {
    throw new SelectorError("it", `${terms.length} terms`, `at most ${SELECTOR_REQUIREMENTS_MAX}`);
  }
  return Selector.of(terms.map((term) => parseTerm(term.trim())));
}

function parseTerm(term: string): Requirement {
  const set = SET.exec(term);
  if (set) return requirement(term, set[1], set[2] === "in" ? "In" : "NotIn", set[3].split(","));
  const equality = EQUALITY.exec(term);
  if (equality) return requirement(term, equality[1], equality[2] === "!=" ? "NotIn" : "In", [equality[3]]);
  const existence = EXISTENCE.exec(term);
  if (existence) return requirement(term, existence[2], existence[1] === "" ? "Exists" : "DoesNotExist", []);
  throw fault(term);
}

function requirement(
  term: string,
  name: string,
  operator: Requirement["operator"],
  values: readonly string[],
): Requirement {
  const { source, key } = parseLabelKey(name, { defaultSource: SOURCE_ANY });
  if (key === "" || source === "") throw fault(term);
  return { source, key, operator, values: values.map((value) => value.trim()) };
}

function fault(term: string): SelectorError {
  return new SelectorError("a term", JSON.stringify(term.slice(0, 120)), EXPECTED);
}

/** Splits at the commas outside parentheses. */
function splitTerms(text: string): string[] {
  const terms: string[] = [];
  let depth = 0, start = 0;
  for (let at = 0; at <= text.length; at++) {
    if (text[at] === "(") depth++;
    else if (text[at] === ")") depth--;
    else if (at === text.length || (text[at] === "," && depth === 0)) {
      terms.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return terms;
}

/** Whether labels in the form of {@link formatLabel} fulfil the selector; for many sets that are looked at once each. */
export function selectsTexts(selector: Selector, labels: readonly string[]): boolean {
  return selector.requirements.every(({ source, key, operator, values }) => {
    let present = false, among = false;
    for (const label of labels) {
      const equals = label.indexOf("=");
      const name = equals < 0 ? label : label.slice(0, equals);
      const colon = name.indexOf(":");
      if (name.slice(colon + 1) !== key) continue;
      if (source !== SOURCE_ANY && name.slice(0, Math.max(0, colon)) !== source) continue;
      present = true;
      if (values.includes(equals < 0 ? "" : label.slice(equals + 1))) among = true;
    }
    if (operator === "In") return among;
    if (operator === "NotIn") return !among;
    return present === (operator === "Exists");
  });
}

/** What callers send, read and checked. @module */
import { invalidArgument, LabelError, LabelSet, Prefix, ProblemError } from "@weir/common";

/** Longest node and holder names in characters. */
export const NAME_CHARS_MAX = 253;

/** Labels of an endpoint. @throws {ProblemError} LABEL_INVALID */
export function parseLabels(texts: string[]): LabelSet {
  try {
    return LabelSet.parse(texts);
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
    throw new ProblemError("LABEL_INVALID", {
      detail: error.message,
      found: error.subject.slice(0, 200),
      expected: error.expected,
      action: "Correct the label of the endpoint",
    });
  }
}

/** The two names of a holder. @throws {ProblemError} */
export function checkHolder(request: { node: string; holder: string }): { node: string; holder: string } {
  checkName("node", request.node);
  checkName("holder", request.holder);
  return { node: request.node, holder: request.holder };
}

/** @param what "node" or "holder", for the message. @throws {ProblemError} */
export function checkName(what: string, name: string): void {
  if (name !== "" && name.length <= NAME_CHARS_MAX) return;
  throw invalidArgument(`Cannot take the ${what}: its name has ${name.length} characters`, {
    found: name.slice(0, 80),
    expected: `1 to ${NAME_CHARS_MAX} characters`,
  });
}

/** A prefix in its canonical form. @throws {ProblemError} */
export function canonicalPrefix(text: string): string {
  return readPrefix(text).text;
}

/** @throws {ProblemError} */
export function readPrefix(text: string): Prefix {
  const prefix = Prefix.tryParse(text);
  if (prefix === undefined) {
    throw invalidArgument("Cannot read the prefix", {
      found: text.slice(0, 80),
      expected: "address or address/length",
    });
  }
  return prefix;
}

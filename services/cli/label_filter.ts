/**
 * `-l KEY=VALUE,KEY!=VALUE,KEY,!KEY` as kubectl reads it, on labels with sources.
 *
 * @module
 */
import { type Label, LabelError, parseLabel } from "@weir/common";
import { UsageError } from "./context.ts";

/** Answers whether a list of `source:key=value` texts fulfils a selector. */
export function labelFilter(selector: string | undefined): (labels: readonly string[]) => boolean {
  if (selector === undefined || selector.trim() === "") return () => true;
  const terms = selector.split(",").map((text) => readTerm(text.trim()));
  return (labels) => {
    const parsed = labels.map((label) => parseLabel(label));
    return terms.every((term) => term(parsed));
  };
}

function readTerm(text: string): (labels: Label[]) => boolean {
  const match = /^(!)?(?:([a-z0-9-]+):)?([^=!:]+?)(?:(!=|==|=)(.*))?$/.exec(text);
  if (match === null) {
    throw new UsageError(`Cannot read the selector "${text}": expected KEY=VALUE, KEY!=VALUE, KEY or !KEY`);
  }
  const [, not, source, key, operator, value] = match;
  const same = (label: Label) => label.key === key && (source === undefined || label.source === source);
  if (operator === undefined) {
    return (labels) => labels.some(same) === (not === undefined);
  }
  const has = (labels: Label[]) => labels.some((label) => same(label) && label.value === value);
  return operator === "!=" ? (labels) => !has(labels) : has;
}

/** A label that a person wrote: without a source it gets `defaultSource`. */
export function readLabel(text: string, defaultSource: string): Label {
  try {
    return parseLabel(text, { defaultSource });
  } catch (error) {
    if (error instanceof LabelError) throw new UsageError(error.message);
    throw error;
  }
}

/**
 * What people write of labels on the command line: selectors (`-l`) and single labels.
 *
 * @module
 */
import { type Label, LabelError, parseLabel } from "@weir/common/labels";
import { SelectorError } from "@weir/common/selector";
import { parseSelector, selectsTexts } from "@weir/common/selector-text";
import { UsageError } from "./context.ts";

/** Answers whether a list of `source:key=value` texts fulfils a selector. */
export function labelMatcher(selector: string | undefined): (labels: readonly string[]) => boolean {
  if (selector === undefined || selector.trim() === "") return () => true;
  const read = asUsage(() => parseSelector(selector));
  return (labels) => selectsTexts(read, labels);
}

/** A label that a person wrote: without a source it gets `defaultSource`. */
export function readLabel(text: string, defaultSource: string): Label {
  return asUsage(() => parseLabel(text, { defaultSource }));
}

function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof LabelError || error instanceof SelectorError) throw new UsageError(error.message);
    throw error;
  }
}

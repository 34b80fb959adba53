/** The labels that a node's host is known by: what `nodeSelector` of policies looks at. @module */
import {
  type Label,
  LabelError,
  LabelSet,
  makeLabel,
  parseLabel,
  SOURCE_NODE,
  SOURCE_RESERVED,
} from "./labels.ts";

/** Name of the endpoint that stands for the node itself. No other one can have it. */
export const HOST_ENDPOINT = "reserved:host";
/** Its number on every node (ENDPOINT_HOST of the programs). */
export const HOST_ENDPOINT_ID = 4095;

/**
 * `reserved:host` and the node's labels with the source `node`, whatever source they name. @param nodeLabels "key=value"; what is no label
 * is left out
 */
export function hostLabels(nodeLabels: Iterable<string>): LabelSet {
  const labels: Label[] = [makeLabel(SOURCE_RESERVED, "host")];
  for (const text of nodeLabels) {
    try {
      const { key, value } = parseLabel(text);
      labels.push(makeLabel(SOURCE_NODE, key, value));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
    }
  }
  return LabelSet.from(labels);
}

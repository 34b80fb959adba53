/**
 * Whom the CIDR rules of policies mean beside addresses outside of the cluster: `--policy-cidr-match`.
 * @module
 */
import { invalidArgument } from "./problem.ts";

/** What {@link readCidrMatch} reads. */
export interface CidrMatch {
  /** Pods too, as in Kubernetes' model; in Cilium's a CIDR never means a pod. */
  readonly pods: boolean;
}

/** Reads the words of the option, each once or more. @throws {ProblemError} INVALID_ARGUMENT for an unknown word */
export function readCidrMatch(words: readonly string[]): CidrMatch {
  for (const word of words) {
    if (word === "pods") continue;
    throw invalidArgument(`Cannot match CIDR rules with ${word}`, { found: word, expected: "pods" });
  }
  return { pods: words.includes("pods") };
}

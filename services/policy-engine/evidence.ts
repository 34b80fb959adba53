/**
 * What nodes know better than a database that was lost or is an older copy: the newest policy set that was in force there. A
 * node says it with each request for map states and prefixes, so that it is judged before anything older is answered.
 * @module
 */
import { invalidArgument, peerOf } from "@weir/common";

/** Headers of a node's requests: its name (its certificate's counts more), and the policy revision. */
export const NODE_HEADER = "weir-node", REVISION_HEADER = "weir-policy-revision";
/** No policy set has a greater number: what counts on from a claim must stay a whole number of JSON. */
export const POLICY_REVISION_MAX = 2 ** 48;

/** A policy set that was in force somewhere. */
export interface Evidence {
  readonly node: string;
  readonly policyRevision: number;
}

/** What the sender of a request says; undefined: nothing. @throws {ProblemError} INVALID_ARGUMENT */
export function evidenceOf(request: Request): Evidence | undefined {
  const text = request.headers.get(REVISION_HEADER);
  const peer = peerOf(request);
  // People read; they have nothing in force.
  if (text === null || (peer !== undefined && peer.role !== "node" && peer.role !== "control-plane")) return;
  const node = peer?.role === "node" ? peer.node : request.headers.get(NODE_HEADER) ?? "";
  const policyRevision = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  checkPolicyRevision(policyRevision, node);
  return node === "" || policyRevision === 0 ? undefined : { node, policyRevision };
}

/** @throws {ProblemError} INVALID_ARGUMENT for one that no policy set has */
export function checkPolicyRevision(policyRevision: number, node: string): void {
  if (policyRevision >= 0 && policyRevision <= POLICY_REVISION_MAX) return;
  throw invalidArgument(`Cannot take what is in force at ${node}: no policy set has this revision`, {
    found: policyRevision,
    expected: `0 to ${POLICY_REVISION_MAX}`,
  });
}

/**
 * What nodes know better than a database that was lost or is an older copy: the newest policy set that was in force there. A
 * node says it with each request for map states and prefixes, so that it is judged before anything older is answered.
 *
 * A number alone does not tell a policy set: a copy that was written to after it was restored gives the same numbers to other
 * sets. So each has a random tag beside its number, and a node says the newest one that the engine named to it, too.
 * @module
 */
import { invalidArgument, peerOf } from "@weir/common";

/** Headers of a node's requests: its name (its certificate's counts more), the policy revision, and a policy set with its tag. */
export const NODE_HEADER = "weir-node",
  REVISION_HEADER = "weir-policy-revision",
  POLICY_SET_HEADER = "weir-policy-set";
/** No policy set has a greater number: what counts on from a claim must stay a whole number of JSON. */
export const POLICY_REVISION_MAX = 2 ** 48;

/** A policy set that was in force somewhere. */
export interface Evidence {
  readonly node: string;
  readonly policyRevision: number;
  /** A set that was in force there, not newer than that, with its tag; undefined: the node was told of none. */
  readonly policySet?: PolicySet;
}

/** One policy set of one history of the database. */
export interface PolicySet {
  readonly policyRevision: number;
  /** 16 hexadecimal digits. */
  readonly tag: string;
  /** All policies of it came from Kubernetes, and could be read: Kubernetes tells them again. */
  readonly isMirrored: boolean;
}

/** `20:0123456789abcdef`, with `:mirrored` behind it where it is that. */
export function formatPolicySet({ policyRevision, tag, isMirrored }: PolicySet): string {
  return `${policyRevision}:${tag}${isMirrored ? ":mirrored" : ""}`;
}

/** Undefined for a text that is none. */
export function parsePolicySet(text: string): PolicySet | undefined {
  const match = /^(\d{1,15}):([0-9a-f]{16})(:mirrored)?$/.exec(text);
  if (match === null) return undefined;
  return { policyRevision: Number(match[1]), tag: match[2], isMirrored: match[3] !== undefined };
}

/** Whether all that a witness had in force came from Kubernetes: of a set newer than the one that it was told of nobody knows. */
export function isMirrored({ policyRevision, policySet }: Evidence): boolean {
  return policySet !== undefined && policySet.isMirrored && policySet.policyRevision >= policyRevision;
}

/** The node that sends a request; undefined: none does. Whoever calls locally is believed. */
export function senderOf(request: Request): string | undefined {
  const peer = peerOf(request);
  if (peer?.role === "node") return peer.node;
  // People read; they have nothing in force.
  if (peer !== undefined && peer.role !== "control-plane") return;
  return request.headers.get(NODE_HEADER) || undefined;
}

/** Whether a request says what is in force at its node, be it nothing. Not all that calls with a node's certificate does. */
export function saysWhatIsInForce(request: Request): boolean {
  return request.headers.has(REVISION_HEADER);
}

/** What the sender of a request says; undefined: nothing. @throws {ProblemError} INVALID_ARGUMENT */
export function evidenceOf(request: Request): Evidence | undefined {
  const text = request.headers.get(REVISION_HEADER), node = senderOf(request);
  if (text === null || node === undefined) return;
  const policyRevision = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  checkPolicyRevision(policyRevision, node);
  const policySet = parsePolicySet(request.headers.get(POLICY_SET_HEADER) ?? "");
  return policyRevision === 0 ? undefined : { node, policyRevision, policySet };
}

/** @throws {ProblemError} INVALID_ARGUMENT for one that no policy set has */
export function checkPolicyRevision(policyRevision: number, node: string): void {
  if (policyRevision >= 0 && policyRevision <= POLICY_REVISION_MAX) return;
  throw invalidArgument(`Cannot take what is in force at ${node}: no policy set has this revision`, {
    found: policyRevision,
    expected: `0 to ${POLICY_REVISION_MAX}`,
  });
}

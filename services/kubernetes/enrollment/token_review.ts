/** Whose token a node's pod shows, as the API server says it. @module */
import { ProblemError } from "@weir/common";
import type { ApiClient } from "../api/client.ts";
import { RESOURCES } from "../api/resource.ts";

/** Audience of the tokens that nodes show: one for the API server itself is not taken, and one of ours not there. */
export const AUDIENCE = "weir";
/** What the API server says of a token that is bound to a pod (Kubernetes 1.30 on). */
const NODE_NAME = "authentication.kubernetes.io/node-name";
const CREDENTIAL_ID = "authentication.kubernetes.io/credential-id";
const REVIEW_MS_MAX = 8000;

/** A node by its pod's token. */
export interface ReviewedNode {
  readonly node: string;
  /** Of this very token: another one has another. */
  readonly credential: string;
}

interface ReviewStatus {
  authenticated?: boolean;
  audiences?: string[];
  error?: string;
  user?: { username?: string; extra?: Record<string, string[]> };
}

/**
 * Asks the API server about a token.
 * @param serviceAccount "NAMESPACE/NAME" whose tokens nodes have
 * @throws {ProblemError} TOKEN_REFUSED (401): no such token, or another audience; SERVICE_ACCOUNT_WRONG (403);
 * TOKEN_UNBOUND (403): it says no node; or what keeps the API server from answering
 */
export async function reviewToken(
  client: ApiClient,
  token: string,
  serviceAccount: string,
): Promise<ReviewedNode> {
  const { status } = await client.create(RESOURCES.TokenReview, { spec: { token, audiences: [AUDIENCE] } }, {
    deadlineMs: REVIEW_MS_MAX,
  });
  const { authenticated, audiences, error, user } = (status ?? {}) as ReviewStatus;
  if (authenticated !== true || !audiences?.includes(AUDIENCE)) {
    throw new ProblemError("TOKEN_REFUSED", {
      status: 401,
      detail: `Cannot enroll: the API server does not take the token${
        error ? `: ${error.slice(0, 300)}` : ""
      }`,
      expected: `the present token of the pod's service account, of the audience "${AUDIENCE}"`,
    });
  }
  const [namespace, name] = serviceAccount.split("/");
  const expected = `system:serviceaccount:${namespace}:${name}`;
  if (user?.username !== expected) {
    throw new ProblemError("SERVICE_ACCOUNT_WRONG", {
      status: 403,
      detail: "Cannot enroll: the token is of another service account than that of Weir's nodes",
      found: user?.username?.slice(0, 300),
      expected,
    });
  }
  const node = user.extra?.[NODE_NAME]?.[0];
  if (!node) {
    throw new ProblemError("TOKEN_UNBOUND", {
      status: 403,
      detail: "Cannot enroll: the token does not say on which node its pod runs",
      expected: `${NODE_NAME}, which Kubernetes 1.30 and later put into tokens of pods`,
    });
  }
  return { node, credential: user.extra?.[CREDENTIAL_ID]?.[0] ?? token };
}

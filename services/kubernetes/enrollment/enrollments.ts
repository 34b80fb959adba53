/**
 * `POST /v1/enrollments`: a node's pod shows its service account's token, and gets a join token for exactly that node. What
 * a token was worth once it is not worth again: a copy that leaks from a pod lets nobody in.
 * @module
 */
import { createHash } from "node:crypto";
import {
  type Clock,
  invalidArgument,
  type Logger,
  type MetricsRegistry,
  ProblemError,
  RateLimit,
} from "@weir/common";
import type { WeirClient } from "@weir/client";
import { CreateTokenRequest, CreateTokenResponse } from "@weir/proto/certificate";
import type { EnrollmentRequest, EnrollmentResponse } from "@weir/proto/kubernetes";
import type { ApiClient } from "../api/client.ts";
import { ApiServerError } from "../api/error.ts";
import type { ClusterFacts } from "./cluster_facts.ts";
import { reviewToken } from "./token_review.ts";

/** Options of {@link Enrollments}. */
export interface EnrollmentsOptions {
  client: ApiClient;
  /** Client of the certificate authority, as the control plane. */
  authority: WeirClient;
  facts: ClusterFacts;
  /** "NAMESPACE/NAME" of the nodes' service account. */
  serviceAccount: string;
  clock: Clock;
  log: Logger;
  metrics: MetricsRegistry;
}

const TOKEN_CHARS_MAX = 16_384;
const NODE_CHARS_MAX = 253;
/** Reviews at once: each is a request to the API server. */
const REVIEWS_MAX = 16;
/** How long a credential is remembered: longer than the tokens of pods live, a day and an hour at most. */
const REMEMBERED_MS = 25 * 3_600_000;
const CREDENTIALS_MAX = 50_000;
/** How long a node may take from here to the certificate authority. */
const JOIN_TOKEN_S = 300;
/**
 * A node that did not hear the answer, or not the authority's, asks again: it is the same answer for as long as the join token in
 * it lives, which lets one machine in, once. Less, and a node on a machine that is slow is locked out until the kubelet renews
 * its token, the most of an hour.
 */
const REPEAT_MS = JOIN_TOKEN_S * 1000;

interface Spent {
  readonly atMs: number;
  readonly answer: EnrollmentResponse;
}

/** See the module. */
export class Enrollments {
  readonly #options: EnrollmentsOptions;
  readonly #failures = new RateLimit({ perKey: 20, inAll: 600 });
  readonly #spent = new Map<string, Spent>();
  readonly #busy = new Set<string>();

  constructor(options: EnrollmentsOptions) {
    this.#options = options;
  }

  /**
   * @param from the caller's address
   * @throws {ProblemError} TOO_MANY_ATTEMPTS (429), TOKEN_REFUSED (401), SERVICE_ACCOUNT_WRONG, TOKEN_UNBOUND, NODE_WRONG,
   * TOKEN_SPENT (403), NOT_REACHABLE (503), or what keeps the API server or the authority from answering
   */
  async enroll(request: EnrollmentRequest, from = ""): Promise<EnrollmentResponse> {
    const { clock, log, metrics } = this.#options;
    const counter = metrics.counter("weir_enrollments_total", "Enrollments of nodes, by what became of them");
    const waitMs = this.#failures.waitMs(from, clock.monotonicMs());
    try {
      if (waitMs > 0) throw tooMany(`${Math.ceil(waitMs / 1000)} s`);
      const answer = await this.#enroll(request);
      counter.increment({ result: "ENROLLED" });
      log.info("A node enrolls", { node: answer.node, from });
      return answer;
    } catch (error) {
      const { code = "INTERNAL_ERROR", status = 500 } = error as Partial<ProblemError>;
      counter.increment({ result: code });
      if (status >= 400 && status < 500 && status !== 429) this.#failures.failed(from, clock.monotonicMs());
      log.warn("Enrollment refused", { from, node: request.node.slice(0, NODE_CHARS_MAX), error });
      throw error;
    }
  }

  async #enroll({ token, node }: EnrollmentRequest): Promise<EnrollmentResponse> {
    const { client, serviceAccount } = this.#options;
    if (token.length > TOKEN_CHARS_MAX || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) {
      throw invalidArgument("Cannot enroll: this is no token of a service account", {
        found: `${token.length} characters`,
        expected: `a JSON Web Token of up to ${TOKEN_CHARS_MAX} characters`,
      });
    }
    // One at a time for each token, so that two callers at once do not both have it unspent.
    const key = createHash("sha256").update(token).digest("base64");
    if (this.#busy.has(key) || this.#busy.size >= REVIEWS_MAX) throw tooMany("a moment");
    this.#busy.add(key);
    try {
      const reviewed = await reviewToken(client, token, serviceAccount).catch((error) => {
        // What the API server refuses of ours is no fault of the node's.
        if (error instanceof ApiServerError) throw unavailable(error);
        throw error;
      });
      if (reviewed.node !== node) {
        throw new ProblemError("NODE_WRONG", {
          status: 403,
          detail: "Cannot enroll: the token is of another node",
          found: node.slice(0, NODE_CHARS_MAX),
          expected: reviewed.node,
        });
      }
      return await this.#spend(reviewed.credential, node);
    } finally {
      this.#busy.delete(key);
    }
  }

  async #spend(credential: string, node: string): Promise<EnrollmentResponse> {
    const { clock } = this.#options;
    const key = createHash("sha256").update(credential).digest("base64"), nowMs = clock.monotonicMs();
    const before = this.#spent.get(key);
    if (before !== undefined && nowMs - before.atMs < REPEAT_MS) return before.answer;
    if (before !== undefined && nowMs - before.atMs < REMEMBERED_MS) {
      throw new ProblemError("TOKEN_SPENT", {
        status: 403,
        detail: `Cannot enroll: node ${node} enrolled with this token before`,
        found: `${Math.round((nowMs - before.atMs) / 1000)} s ago`,
        expected: "a token for each enrollment",
        action:
          "Wait until the kubelet has renewed the pod's token, or delete the pod: the next one has another",
      });
    }
    const answer = await this.#joinToken(node);
    this.#spent.delete(key);
    this.#spent.set(key, { atMs: nowMs, answer });
    if (this.#spent.size > CREDENTIALS_MAX) this.#spent.delete(this.#spent.keys().next().value!);
    return answer;
  }

  async #joinToken(node: string): Promise<EnrollmentResponse> {
    const { authority, facts } = this.#options;
    const { cluster, addresses } = await facts.fetch();
    const { text } = await authority.call("/v1/tokens", {
      request: {
        message: CreateTokenRequest,
        value: { kind: "join", role: "node", name: "kubernetes", node, uses: 1, lifetimeS: JOIN_TOKEN_S },
      },
      response: CreateTokenResponse,
    });
    return { joinToken: text, node, cluster, addresses: [...addresses] };
  }
}

function tooMany(pause: string): ProblemError {
  return new ProblemError("TOO_MANY_ATTEMPTS", {
    status: 429,
    detail: "Cannot enroll now: too many attempts",
    expected: `a pause of ${pause}`,
  });
}

function unavailable(cause: ApiServerError): ProblemError {
  return new ProblemError("REVIEW_UNAVAILABLE", {
    status: 503,
    detail: `Cannot enroll: the API server cannot be asked about the token: ${cause.message}`,
    cause,
  });
}

/**
 * Who is answered, and when: the guards of the engine's collections and actions. Each is asked where something is read, so a
 * list, an object, a watch and a part of a joint watch are judged alike.
 *
 *     toPolicies       the policies were read from the database
 *     toState          and identities and port names are complete: an empty list would look like "no policy"
 *     toNodePolicies   and what the caller has in force was judged
 *     toMapStates      and who has nothing in force waits for those that may know better (roll_call.ts)
 *     toPrefixes       and the database is not older than what is in force: a prefix that is missing would be taken for gone
 *
 * @module
 */
import { type Guard, type Health, ProblemError } from "@weir/common";
import { type Evidence, evidenceOf, saysWhatIsInForce, senderOf } from "./evidence.ts";
import type { RollCall } from "./roll_call.ts";

/** What {@link Admission} asks of the engine. */
export interface AdmissionParts {
  health: Health;
  rollCall: RollCall;
  /** Policies were read. */
  isLoaded: () => boolean;
  /** What is resolved is whole. */
  isReady: () => boolean;
  /** The database is older than what is in force. */
  isBehind: () => boolean;
  /** The policy set that is shown. */
  shownRevision: () => number;
  /** Shows what the tables have. */
  catchUp: () => Promise<void>;
  /** Resolves when what a node says was compared with the database, and noted. */
  judge: (evidence: Evidence) => Promise<void>;
  signal: AbortSignal;
}

/** See the top of the file. Every guard rejects with {@link ProblemError} NOT_READY, DATABASE_UNAVAILABLE or INVALID_ARGUMENT. */
export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  readonly toPolicies: Guard = () => this.#assert(this.#parts.isLoaded());

  readonly toState: Guard = () => this.#assert(this.#parts.isReady());

  readonly toNodePolicies: Guard = async (request) => {
    await this.toState(request);
    await this.#judge(request);
  };

  readonly toMapStates: Guard = async (request) => {
    const { rollCall, signal, shownRevision, catchUp } = this.#parts;
    await this.toState(request);
    const evidence = await this.#judge(request);
    const isNew = senderOf(request) !== undefined && evidence === undefined;
    if (isNew && !await rollCall.wait(signal)) {
      const missing = rollCall.missing().slice(0, 3).join(", ");
      throw notReady(`nodes may have newer policies and were not heard yet: ${missing}`);
    }
    // The tables may have it already, and what is shown not yet: nobody gets older policies than it has.
    if (shownRevision() < (evidence?.policyRevision ?? 0)) await catchUp();
  };

  readonly toPrefixes: Guard = async (request) => {
    await this.toMapStates(request);
    if (this.#parts.isBehind()) {
      throw notReady("the policy database is older than what is in force; see /v1/policyfaults");
    }
  };

  async #judge(request: Request): Promise<Evidence | undefined> {
    const evidence = evidenceOf(request), sender = senderOf(request);
    if (evidence !== undefined) await this.#parts.judge(evidence);
    // Judged before it counts as heard: who waits for it is answered after that.
    if (sender !== undefined && saysWhatIsInForce(request)) this.#parts.rollCall.heard(sender);
    return evidence;
  }

  #assert(isReady: boolean): void {
    if (isReady) return;
    const waits = this.#parts.health.list().filter((check) => !check.ok).map((check) => check.message);
    throw notReady(waits.join("; ") || "starting");
  }
}

function notReady(why: string): ProblemError {
  return new ProblemError("NOT_READY", {
    status: 503,
    detail: `Cannot answer yet: ${why}`,
    action: "Try again; /readyz?verbose says what is waited for",
  });
}

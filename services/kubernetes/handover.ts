/**
 * Tells the services when all that Kubernetes has was handed on to them, and gives up a policy database that was lost.
 *
 *     a new database        answers no node before it has what Kubernetes has: "no policy" would open, "no service" would cut off
 *     an older database     is held for what nodes had in force. Where that was Kubernetes' policies alone, and all of them are handed
 *                           on again, nothing is lost by it: it is accepted without a person
 *
 * @module
 */
import { type Clock, type Health, type Logger, ProblemError, toProblem } from "@weir/common";
import type { WeirClient } from "@weir/client";
import { ApplyResponse as ServicesResponse } from "@weir/proto/loadbalancer";
import { AcceptRequest, ApplyResponse, PolicyFault } from "@weir/proto/policy";

/** How far what Kubernetes has of something was handed on. */
export interface Handed {
  /** Every kind was read, and all that a service takes is there. */
  readonly isRead: boolean;
  /** Why not all is in force that Kubernetes has now; "": it is. */
  readonly missing: string;
}

/** What it is made of. */
export interface HandoverParts {
  policyEngine: WeirClient;
  loadBalancer: WeirClient;
  policies: () => Handed;
  services: () => Handed;
  clock: Clock;
  log: Logger;
  health: Health;
}

/** A database may be lost again at any time. */
const LOOK_MS = 5000;
const LOOK_FIRST_MS = 200;
/** So long a doubt stands before it is resolved: other nodes may know more, and take as long to say it. */
const DOUBT_MS = 15_000;
/** The policy engine's name for the fault of a database that is older than what is in force. */
const DATABASE_FAULT = "database";
const HEALTH = "policy-database";

/** See the module. */
export class Handover {
  readonly #parts: HandoverParts;
  #doubtedMs: number | undefined;
  #told = "";

  constructor(parts: HandoverParts) {
    this.#parts = parts;
  }

  /** Looks until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    while (!signal.aborted) {
      const isDone = await this.look();
      await clock.sleep(isDone ? LOOK_MS : LOOK_FIRST_MS, signal);
    }
  }

  /** One look. False while something is not handed on. */
  async look(): Promise<boolean> {
    const { policyEngine, loadBalancer, log } = this.#parts;
    const policies = this.#parts.policies(), services = this.#parts.services();
    try {
      if (policies.isRead) {
        await policyEngine.call("/v1/policies:kubernetes-read", { method: "POST", response: ApplyResponse });
        await this.#resolveDoubt(policies);
      }
      if (services.isRead) {
        await loadBalancer.call("/v1/services:kubernetes-read", {
          method: "POST",
          response: ServicesResponse,
        });
      }
      this.#told = "";
      return policies.isRead && services.isRead;
    } catch (error) {
      const { message } = toProblem(error);
      if (message !== this.#told) log.warn("Cannot say that all was handed on", { error });
      this.#told = message;
      return false;
    }
  }

  async #resolveDoubt({ missing }: Handed): Promise<void> {
    const { policyEngine, clock, log, health } = this.#parts;
    const fault = await policyEngine.collection("policyfaults", PolicyFault).get(DATABASE_FAULT)
      .catch((error) => {
        if (toProblem(error).code === "NOT_READY") return undefined;
        throw error;
      });
    if (fault === undefined) {
      this.#doubtedMs = undefined;
      return health.ok(HEALTH, "ok");
    }
    const nowMs = clock.monotonicMs();
    this.#doubtedMs ??= nowMs;
    if (missing !== "") return health.ok(HEALTH, `${fault.error}; not accepted by itself: ${missing}`);
    if (nowMs - this.#doubtedMs < DOUBT_MS) {
      return health.ok(HEALTH, `${fault.error}; Kubernetes has all: it is accepted soon`);
    }
    try {
      await policyEngine.call("/v1/policies:accept-database", {
        request: { message: AcceptRequest, value: { mirrored: true } },
        response: ApplyResponse,
      });
      log.warn("The policy database was lost, and Kubernetes has all that it had: it is accepted", {
        why: fault.error,
      });
      this.#doubtedMs = undefined;
    } catch (error) {
      if (!(error instanceof ProblemError) || error.code !== "DATABASE_IN_DOUBT") throw error;
      health.ok(HEALTH, `${fault.error}; not accepted by itself: ${error.message}`);
    }
  }
}

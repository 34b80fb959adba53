/**
 * What is not as it should be of endpoints that work: which policy stays in force, and why.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import type { EndpointManagerConfig } from "./config.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import type { PolicyReconciler } from "./policy_reconciler.ts";
import { settledIdentity, variantOf, type Workload } from "./workload.ts";
import type { Failure } from "./work_queue.ts";

/** A map state that waits for prefixes for longer is said to be late, milliseconds. */
const LATE_MS = 5_000;

/** What {@link EndpointConditions} is made of. */
export interface EndpointConditionsParts {
  config: EndpointManagerConfig;
  table: EndpointTable;
  policies: PolicyReconciler;
  clock: Clock;
}

/** Judges endpoints, and says so in the table. */
export class EndpointConditions {
  readonly #parts: EndpointConditionsParts;
  /** Endpoints with map states that wait for prefixes, since when. */
  readonly #waiting = new Map<string, number>();

  constructor(parts: EndpointConditionsParts) {
    this.#parts = parts;
  }

  /** Names of endpoints with map states that wait for prefixes. */
  waiting(): Iterable<string> {
    return this.#waiting.keys();
  }
  isWaiting(name: string): boolean {
    return this.#waiting.has(name);
  }
  setWaiting(name: string, isWaiting: boolean): void {
    if (!isWaiting) this.#waiting.delete(name);
    else if (!this.#waiting.has(name)) this.#waiting.set(name, this.#parts.clock.nowMs());
  }

  /** The last work of an endpoint failed, or did not: one that runs goes on with what it has. */
  judgeFailure(workload: Workload, failure: Failure | undefined): void {
    const { table } = this.#parts;
    const silent = failure?.error instanceof ProblemError &&
      ["DEADLINE_EXCEEDED", "UNREACHABLE"].includes(failure.error.code);
    const runs = workload.status.policy !== "" || workload.restored;
    table.setCondition(workload, "DATAPATH_SILENT", silent ? failure!.error.message : undefined);
    if (!failure || silent || !runs) return;
    table.setCondition(workload, "POLICY_FAILED", `${this.#whatStays(workload)}: ${failure.error.message}`);
  }

  #whatStays({ status }: Workload): string {
    const { policyRevision } = status;
    return `${
      policyRevision === 0 ? "What the kernel has" : `The policy of revision ${policyRevision}`
    } stays in force`;
  }

  /** Shows whether the policy in force is the newest. */
  judgePolicy(workload: Workload, number: number): void {
    const { policies, table } = this.#parts;
    const mapState = policies.mapState(number), heldUntilMs = policies.heldUntilMs(number);
    const runs = workload.status.policy !== "" || workload.restored;
    let stale: string | undefined;
    if (!mapState && runs) {
      stale = `${this.#whatStays(workload)}: the policy engine says nothing (yet) of identity ${number}`;
    } else if (heldUntilMs !== undefined) {
      stale =
        `${
          this.#whatStays(workload)
        }: the policy engine came back older than that and would let more through; ` +
        `it is taken at its word from ${new Date(heldUntilMs).toISOString()} on`;
    } else if (this.isLate(workload)) {
      const identity = mapState && policies.missing(mapState, variantOf(workload, this.#parts.config));
      if (identity !== undefined) {
        stale =
          `${this.#whatStays(workload)}: the newest one was made with a prefix (identity ${identity}) ` +
          "that the policy engine has not told, or the kernel has no room for";
      }
    } else if (policies.error) {
      stale = `${this.#whatStays(workload)}: ${policies.error.message}`;
    }
    table.setCondition(workload, "POLICY_STALE", stale);
    if (mapState?.error) {
      table.setCondition(workload, "POLICY_FAILED", `${this.#whatStays(workload)}: ${mapState.error}`);
    }
  }

  /** Whether its map state waits for longer than is usual. */
  isLate({ spec: { name } }: Workload): boolean {
    const sinceMs = this.#waiting.get(name);
    return sinceMs !== undefined && this.#parts.clock.nowMs() - sinceMs >= LATE_MS;
  }

  /** Looks at the conditions of all endpoints again: the policy engine was lost, or is back. */
  judgePolicies(): void {
    const { table, config } = this.#parts;
    for (const workload of table.workloads()) {
      const number = settledIdentity(workload, config)?.number ?? workload.status.identity;
      if (number !== 0 && !workload.deleting) this.judgePolicy(workload, number);
    }
  }
}

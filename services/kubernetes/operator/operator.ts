/**
 * The operator: of several one leads, and writes what Weir knows as objects that people and their tools read.
 *
 *     Weir's services ──list, watch──▶ feeds ──▶ parts: what is wanted ─┐
 *                                                                       ├─ differs ─▶ queue ─▶ request, while the term holds
 *     API server ──────list, watch──▶ what is there ────────────────────┘
 *
 * @module
 */
import { type Clock, systemClock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import type { ApiClient } from "../api/mod.ts";
import { keepDefinitions } from "./crd_keeper.ts";
import { endpointPart } from "./endpoint_part.ts";
import { endpointSlicePart } from "./endpoint_slice_part.ts";
import { Feeds, type FeedTargets } from "./feeds.ts";
import { identityPart } from "./identity_part.ts";
import { LeaderElection } from "./leader_election.ts";
import { nodePart } from "./node_part.ts";
import { type Part, type PartContext, runPart } from "./part.ts";
import { policyPart } from "./policy_part.ts";
import { poolPart } from "./pool_part.ts";
import { readinessPart } from "./readiness_part.ts";
import { LEASE_NAME } from "./rights.ts";
import { servicePart } from "./service_part.ts";
import type { LeaseTimes, Term } from "./term.ts";
import type { WriteFault } from "./write_queue.ts";
import type { OnWrite } from "./writer.ts";

/** Options of {@link Operator}. */
export interface OperatorOptions {
  /** Weir's own services. */
  targets: FeedTargets;
  /** Of the Lease. */
  namespace: string;
  /** Who this is; of no other operator. */
  holder: string;
  /** Writes one CiliumEndpoint for each pod beside the slices. Default false. */
  singleEndpoints?: boolean;
  times?: LeaseTimes;
  clock?: Clock;
  log?: Logger;
  onWrite?: OnWrite;
}

/** Longest wait for a term's beginning to be tried again, milliseconds. */
const RETRY_MS = 5000;

/** Takes part in the election until `stop()`. */
export class Operator {
  readonly #client: ApiClient;
  readonly #options: OperatorOptions;
  readonly #clock: Clock;
  readonly #election: LeaderElection;
  #parts: Part[] = [];

  constructor(client: ApiClient, options: OperatorOptions) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#election = new LeaderElection(client, {
      namespace: options.namespace,
      name: LEASE_NAME,
      holder: options.holder,
      lead: (term) => this.#lead(term),
      times: options.times,
      clock: this.#clock,
      log: options.log,
    });
  }

  /** Whether this one leads, and may write. */
  get isLeading(): boolean {
    return this.#election.isLeading;
  }
  /** Who leads, as far as is known; "": nobody. */
  get leader(): string {
    return this.#election.holder;
  }
  /** Why the Lease cannot be taken or read; undefined when it can. */
  get error(): Error | undefined {
    return this.#election.error;
  }
  /** Objects that wait to be looked at, by resource. */
  get waiting(): Record<string, number> {
    return Object.fromEntries(this.#writers().map(({ name, waiting }) => [name, waiting]));
  }
  /** What could not be written, by "RESOURCE KEY". */
  get faults(): Map<string, WriteFault> {
    return new Map(
      this.#writers().flatMap(({ name, faults }) =>
        [...faults].map(([key, fault]): [string, WriteFault] => [`${name} ${key}`, fault])
      ),
    );
  }

  start(): this {
    this.#election.start();
    return this;
  }

  /** Ends, gives the Lease back, and resolves when nothing runs any more. */
  stop(): Promise<void> {
    return this.#election.stop();
  }

  async #lead(term: Term): Promise<void> {
    const { targets, log, onWrite, singleEndpoints } = this.#options;
    // What has no definition of its own, above all Nodes, waits for the first attempt and not for its success.
    const { defined, tried } = this.#define(term);
    await tried;
    const feeds = new Feeds(targets, { clock: this.#clock, log });
    const context: PartContext = { client: this.#client, term, feeds, clock: this.#clock, log, onWrite };
    const makers = [
      readinessPart,
      policyPart,
      servicePart,
      poolPart,
      nodePart,
      identityPart,
      (made: PartContext) => endpointSlicePart(made),
      ...(singleEndpoints ? [(made: PartContext) => endpointPart(made)] : []),
    ];
    this.#parts = makers.map((make) => make(context));
    feeds.start();
    try {
      await Promise.all([defined, ...this.#parts.map((part) => runPart(part, term))]);
    } finally {
      this.#parts = [];
      await feeds.stop();
    }
  }

  /** Puts the definitions in place, however often it takes. */
  #define(term: Term): { defined: Promise<void>; tried: Promise<void> } {
    const { log } = this.#options;
    const tried = Promise.withResolvers<void>();
    const define = async () => {
      while (!term.signal.aborted) {
        try {
          term.check();
          await keepDefinitions(this.#client, { signal: term.signal, log });
          return;
        } catch (error) {
          if (term.signal.aborted) return;
          log?.warn("Cannot put the definitions of custom resources in place", { error });
        }
        tried.resolve();
        await this.#clock.sleep(RETRY_MS, term.signal);
      }
    };
    return { defined: define().finally(tried.resolve), tried: tried.promise };
  }

  #writers() {
    return this.#parts.flatMap(({ writers }) => writers);
  }
}

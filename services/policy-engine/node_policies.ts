/**
 * Which policy set is in force at which node. Nodes say up to which revision of this engine's tables their datapath is;
 * what policy set that is, the engine knows by the points at which it published one. Both are kept in the database, in
 * batches, so that every replica answers the same.
 *
 *     points   (epoch, revision of the tables) -> policy revision     one for each policy set and replica
 *     nodes    node -> (epoch, revision), policy revision, heard       the newest of each node
 *
 * @module
 */
import {
  Backoff,
  type Clock,
  invalidArgument,
  type Logger,
  type Position,
  ProblemError,
  unixSeconds,
} from "@weir/common";
import type { Database } from "@weir/common/state";
import { NodePolicy, type WaitRequest, WaitResponse } from "@weir/proto/policy";
import { checkPolicyRevision, type Evidence } from "./evidence.ts";
import {
  type Point,
  POLICY_POINTS_MAX,
  readNodePolicies,
  type Told,
  writeNodePolicies,
} from "./node_policy_rows.ts";

/** Nodes that may tell; more than there are nodes can only be a mistake. */
export const NODE_POLICIES_MAX = 20_000;
/** Longest wait of one call, in seconds. */
export const POLICY_WAIT_S_MAX = 8;
/** Nodes that an answer names. */
const BEHIND_MAX = 100;
/** How often what nodes said is written, and what other replicas wrote is read, in milliseconds. */
const BATCH_MS = 1000;
/** A node that the cluster no longer knows is forgotten when it was not heard for so long, in seconds. */
const FORGET_S = 600;
/** A node that told something is counted for so long although the directory does not name it (yet), in seconds. */
const NEW_NODE_S = 60;
/**
 * How long a node need not say again what has not changed: a sign of life costs this engine 0.2 ms. Ten thousand nodes say it
 * each half minute; before {@link NEW_NODE_S}, so that one of them may be lost.
 */
const REPEAT_S_MIN = 6, REPEAT_S_PER_NODE = 0.003, REPEAT_S_MAX = 28;
/** Least time between two looks of a waiter: ten thousand nodes tell within a second. */
const LOOK_MS = 20;

/** What {@link NodePolicies} needs of the engine. */
export interface NodePoliciesOptions {
  database: Database;
  clock: Clock;
  log: Logger;
  /** Names of the cluster's nodes; undefined while they are not known. */
  nodes: () => Iterable<string> | undefined;
  /** Revision of the stored policy set. */
  policyRevision: () => number;
  /** A node says that this policy set was in force there. */
  onClaim?: (evidence: Evidence) => void;
  /** A node said something, here or to another replica. */
  onHeard?: (node: string) => void;
}

/** See the top of the file. */
export class NodePolicies {
  readonly #options: NodePoliciesOptions;
  readonly #told = new Map<string, Told>();
  /** By epoch, ascending. */
  readonly #points = new Map<string, Point[]>();
  /** When each policy set was published, ascending. */
  readonly #published: { readonly policyRevision: number; readonly unixS: number }[] = [];
  /** When this engine saw a node first that never told anything. */
  readonly #seen = new Map<string, number>();
  readonly #unsavedNodes = new Set<string>();
  readonly #unsavedPoints: Point[] = [];
  readonly #waiting = new Set<() => void>();
  /** Newest batch that was read; -1 before the first. */
  #batch = -1;

  constructor(options: NodePoliciesOptions) {
    this.#options = options;
  }

  /** True when the database has everything. */
  get saved(): boolean {
    return this.#batch >= 0 && this.#unsavedNodes.size + this.#unsavedPoints.length === 0;
  }

  /** Follows the database until `signal` aborts; the schema is there when it is called. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, database, log } = this.#options;
    const backoff = new Backoff({ delayMsMin: BATCH_MS, delayMsMax: 10_000 });
    while (!signal.aborted) {
      try {
        await this.#read();
        await this.#write();
        backoff.reset();
        await clock.sleep(BATCH_MS, signal);
      } catch (error) {
        log.debug("Cannot keep what nodes have in force", { error: database.explain(error) });
        await clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  /** The engine's tables reflect a policy set from this revision on. False when that is known. */
  published({ epoch, revision }: Position, policyRevision: number, policySet: string): boolean {
    const last = this.#points.get(epoch)?.at(-1);
    if (last !== undefined && last.policyRevision >= policyRevision) return false;
    const unixS = unixSeconds(this.#options.clock);
    const point: Point = { epoch, revision, policyRevision, unixS, policySet };
    this.#learn(point);
    this.#unsavedPoints.push(point);
    this.#resolveAll();
    return true;
  }

  /** What a node says. @throws {ProblemError} INVALID_ARGUMENT, TOO_MANY_NODES */
  put(name: string, value: NodePolicy): NodePolicy {
    if (value.node !== "" && value.node !== name) {
      throw invalidArgument(`Cannot take what is in force at ${name}: it is of another node`, {
        found: value.node,
        expected: name,
      });
    }
    if (value.epoch.length > 64 || value.prefixEpoch.length > 64 || value.error.length > 4096) {
      throw invalidArgument(`Cannot take what is in force at ${name}: its epoch or error is too long`, {
        found: `${value.epoch.length} and ${value.error.length} characters`,
        expected: "at most 64 and 4096",
      });
    }
    checkPolicyRevision(value.newestPolicyRevision, name);
    const before = this.#told.get(name);
    if (before === undefined && this.#told.size >= NODE_POLICIES_MAX) {
      throw new ProblemError("TOO_MANY_NODES", {
        status: 507,
        detail: `Cannot take what is in force at ${name}: ${this.#told.size} nodes have told already`,
        expected: `at most ${NODE_POLICIES_MAX}`,
      });
    }
    const { newestPolicyRevision: policyRevision } = value;
    if (policyRevision > 0) this.#options.onClaim?.({ node: name, policyRevision });
    const told: Told = {
      node: name,
      ...this.#earlier(value, before),
      policyRevision: before?.policyRevision ?? 0,
      sinceUnixS: before?.sinceUnixS ?? 0,
      error: value.error,
      endpoints: value.endpoints,
      heardUnixS: unixSeconds(this.#options.clock),
    };
    this.#told.set(name, told);
    this.#unsavedNodes.add(name);
    this.#resolve(told);
    this.#wake();
    this.#options.onHeard?.(name);
    const policySet = this.#pointAt(told)?.policySet ?? "";
    const repeatS = Math.min(REPEAT_S_MAX, Math.max(REPEAT_S_MIN, this.#told.size * REPEAT_S_PER_NODE));
    return { ...this.#describe(name, told), policySet, repeatS };
  }

  /** Every node of the cluster, and those that told something lately; sorted. */
  list(): NodePolicy[] {
    return this.#names().map((name) => this.#describe(name, this.#told.get(name)));
  }

  get(name: string): NodePolicy | undefined {
    return this.#names().includes(name) ? this.#describe(name, this.#told.get(name)) : undefined;
  }

  #names(): string[] {
    const names = new Set(this.#options.nodes() ?? []);
    const recent = unixSeconds(this.#options.clock) - NEW_NODE_S;
    for (const [name, told] of this.#told) if (told.heardUnixS > recent) names.add(name);
    return [...names].sort();
  }

  /** Waits until a policy set is in force everywhere; see `WaitRequest`. @throws {ProblemError} NOT_READY */
  async wait(request: WaitRequest): Promise<WaitResponse> {
    const { clock, policyRevision } = this.#options;
    const wanted = request.policyRevision || policyRevision();
    const seconds = Math.min(POLICY_WAIT_S_MAX, Math.max(0, request.timeoutS || 0));
    const endMs = clock.monotonicMs() + seconds * 1000;
    while (true) {
      const answer = this.#progress(wanted);
      const leftMs = endMs - clock.monotonicMs();
      if (answer.inForce || leftMs <= 0) return answer;
      await this.#changed(leftMs);
      await clock.sleep(Math.min(LOOK_MS, Math.max(0, endMs - clock.monotonicMs())));
    }
  }

  #progress(wanted: number): WaitResponse {
    if (this.#options.nodes() === undefined) {
      throw new ProblemError("NOT_READY", {
        status: 503,
        detail: "Cannot say what is in force: the nodes of the cluster are not known yet",
        action: "Try again; /readyz?verbose says what is waited for",
      });
    }
    const names = this.#names();
    const revisionOf = (name: string) => this.#told.get(name)?.policyRevision ?? 0;
    const behind = names.filter((name) => revisionOf(name) < wanted || this.#told.get(name)?.error !== "");
    behind.sort((a, b) => revisionOf(a) - revisionOf(b) || (a < b ? -1 : 1));
    return WaitResponse.create({
      inForce: behind.length === 0,
      policyRevision: wanted,
      nodes: names.length,
      nodesInForce: names.length - behind.length,
      behind: behind.slice(0, BEHIND_MAX).map((name) => this.#describe(name, this.#told.get(name))),
    });
  }

  #describe(name: string, told: Told | undefined): NodePolicy {
    const newest = this.#options.policyRevision();
    const policyRevision = told?.policyRevision ?? 0;
    const behind = policyRevision < newest || (told?.error ?? "") !== "";
    return NodePolicy.create({
      ...told,
      node: name,
      policyRevision,
      behind,
      behindSinceUnixS: behind ? this.#behindSince(name, policyRevision) : 0,
    });
  }

  /** When the first policy set came that a node does not have. */
  #behindSince(name: string, policyRevision: number): number {
    if (policyRevision > 0) {
      const first = this.#published[this.#firstAfter(policyRevision)];
      if (first !== undefined) return first.unixS;
    }
    const seen = this.#seen.get(name) ?? unixSeconds(this.#options.clock);
    this.#seen.set(name, seen);
    return seen;
  }

  /** Index of the first published policy set that is newer than this one. */
  #firstAfter(policyRevision: number): number {
    let low = 0, high = this.#published.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#published[middle].policyRevision <= policyRevision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Of two positions of different replicas the one with the older policy set; what was told before while one is not known. */
  #earlier(value: NodePolicy, before: Told | undefined): Position {
    const mapStates = { epoch: value.epoch, revision: value.revision };
    if (value.prefixEpoch === "") return mapStates;
    const prefixes = { epoch: value.prefixEpoch, revision: value.prefixRevision };
    const a = this.#pointAt(mapStates), b = this.#pointAt(prefixes);
    if (a === undefined || b === undefined) {
      return { epoch: before?.epoch ?? "", revision: before?.revision ?? 0 };
    }
    return a.policyRevision <= b.policyRevision ? mapStates : prefixes;
  }

  #pointAt({ epoch, revision }: Position): Point | undefined {
    return this.#points.get(epoch)?.findLast((point) => point.revision <= revision);
  }

  /** Finds the policy set of what a node told; false when its epoch is not known here. */
  #resolve(told: Told): boolean {
    const point = this.#pointAt(told);
    if (point === undefined) return false;
    if (point.policyRevision === told.policyRevision) return true;
    // Not a reason to write: every replica finds the same, and the node may have told another one more since.
    told.policyRevision = point.policyRevision;
    told.sinceUnixS = unixSeconds(this.#options.clock);
    return true;
  }

  #resolveAll(): void {
    for (const told of this.#told.values()) this.#resolve(told);
    this.#wake();
  }

  #learn(point: Point): void {
    const points = this.#points.get(point.epoch) ?? [];
    if (points.some(({ policyRevision }) => policyRevision === point.policyRevision)) return;
    points.push(point);
    points.sort((a, b) => a.revision - b.revision || a.policyRevision - b.policyRevision);
    if (points.length > POLICY_POINTS_MAX) points.shift();
    this.#points.set(point.epoch, points);
    const { policyRevision, unixS } = point, at = this.#firstAfter(policyRevision);
    if (this.#published[at - 1]?.policyRevision !== policyRevision) {
      this.#published.splice(at, 0, { policyRevision, unixS });
    }
    if (this.#published.length > POLICY_POINTS_MAX) this.#published.shift();
  }

  /** What other replicas, or an earlier life, wrote. */
  async #read(): Promise<void> {
    const { nodes, points, batch, isOlder } = await readNodePolicies(this.#options.database, this.#batch);
    for (const point of points) this.#learn(point);
    for (const told of nodes) {
      const name = told.node;
      // The first reading has what was said in earlier lives.
      if (this.#batch >= 0 && !isOlder) this.#options.onHeard?.(name);
      // What came later was written later; clocks of replicas say nothing. What was heard here since is newer than both.
      if (this.#unsavedNodes.has(name) || (isOlder && this.#told.has(name))) continue;
      this.#told.set(name, told);
    }
    this.#batch = batch;
    if (nodes.length + points.length > 0) this.#resolveAll();
  }

  async #write(): Promise<void> {
    this.#forgetGone();
    if (this.#unsavedNodes.size + this.#unsavedPoints.length === 0) return;
    const names = [...this.#unsavedNodes], points = this.#unsavedPoints.splice(0);
    this.#unsavedNodes.clear();
    try {
      const told = names.map((node) => [node, this.#told.get(node)] as const);
      await writeNodePolicies(this.#options.database, new Map(told), points);
    } catch (error) {
      for (const name of names) this.#unsavedNodes.add(name);
      this.#unsavedPoints.unshift(...points);
      throw error;
    }
  }

  #forgetGone(): void {
    const nodes = this.#options.nodes();
    if (nodes === undefined) return;
    const known = new Set(nodes), old = unixSeconds(this.#options.clock) - FORGET_S;
    for (const [name, { heardUnixS }] of this.#told) {
      if (known.has(name) || heardUnixS > old) continue;
      this.#told.delete(name);
      this.#unsavedNodes.add(name);
    }
    for (const name of this.#seen.keys()) if (!known.has(name)) this.#seen.delete(name);
  }

  /** Looks at everything again: the cluster's nodes changed. */
  wake(): void {
    this.#wake();
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }

  async #changed(ms: number): Promise<void> {
    const stop = new AbortController();
    await Promise.race([
      new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
        stop.signal.addEventListener("abort", () => this.#waiting.delete(resolve));
      }),
      this.#options.clock.sleep(ms, stop.signal),
    ]);
    stop.abort();
  }
}

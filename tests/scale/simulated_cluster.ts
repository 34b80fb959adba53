/**
 * A simulated cluster against real services: begun, looked at, disturbed.
 *
 *     workers (processes) ─▶ nodes by what they have of the ipcache ─┐
 *     a stream of its own from now on ───────────────────────────────┴─▶ the same at every node: converged
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import { IpcacheEntry } from "@weir/proto/identity";
import { WaitRequest, WaitResponse } from "@weir/proto/policy";
import { FollowedWatch } from "./followed_watch.ts";
import type { WorkerLoad, WorkerState, WorkerTrouble } from "./worker_messages.ts";
import { Processes, type SERVICES } from "./processes.ts";
import type { Counted } from "./watch_count.ts";

/** Label sets that the pods have. */
const LABEL_SETS = 300;

/** Options of {@link SimulatedCluster}. */
export interface ClusterOptions
  extends Pick<WorkerLoad, "pods" | "seed" | "isJoint" | "allocatesEach" | "heartbeatMs"> {
  nodes: number;
  /** Nodes that register and announce the pods; the others only watch and acknowledge. */
  announcing: number;
  /** Processes that play the nodes. */
  workers: number;
  /** Of all nodes. */
  mirrors: number;
  atOnce: number;
  /** Of sockets and databases; exists. */
  directory: string;
  /** Tree that the services run from. */
  root: string;
  /** Directory for CPU profiles of services and workers. */
  profile?: string;
  /** A wait longer than this fails, in seconds. */
  timeoutS: number;
}

/** Sums over all workers. */
export type ClusterState = Pick<WorkerState, "begun" | "bytes" | "reads" | "acknowledgements" | "reopened">;

/** See the top of the file. */
export class SimulatedCluster {
  readonly processes: Processes;
  readonly allocator: WeirClient;
  readonly engine: WeirClient;
  /** What went wrong and was tried again, and how often: calls, and streams that were cut. */
  readonly failures = new Map<string, number>();
  readonly cuts = new Map<string, number>();
  readonly #options: ClusterOptions;
  readonly #states: (WorkerState | undefined)[] = [];
  #reference: FollowedWatch | undefined;
  #written = 0;
  #entry: IpcacheEntry | undefined;

  constructor(options: ClusterOptions) {
    this.#options = options;
    const processes = this.processes = new Processes(options);
    const client = (name: typeof SERVICES[number]) =>
      new WeirClient({ socket: processes.socket(name) }, { deadlineMs: 120_000 });
    this.allocator = client("identity-allocator");
    this.engine = client("policy-engine");
  }

  /** Starts the workers: from here on nodes begin. The services run. */
  begin(): void {
    const { nodes: count, workers, mirrors, atOnce, ...options } = this.#options;
    for (let worker = 0; worker < workers; worker++) {
      const nodes = Array.from({ length: count }, (_, i) => i).filter((i) => i % workers === worker);
      this.#states.push(undefined);
      const load: WorkerLoad = {
        allocator: this.processes.socket("identity-allocator"),
        engine: this.processes.socket("policy-engine"),
        nodes,
        mirrors: Math.min(nodes.length, Math.ceil(mirrors / workers)),
        isJoint: options.isJoint,
        allocatesEach: options.allocatesEach,
        heartbeatMs: options.heartbeatMs,
        atOnce: Math.ceil(atOnce / workers),
        announcing: options.announcing,
        pods: options.pods,
        labelSets: LABEL_SETS,
        seed: options.seed,
      };
      this.processes.startWorker(load, (said) => {
        if (said.kind === "state") this.#states[worker] = said as unknown as WorkerState;
        else this.#trouble(worker, said as unknown as WorkerTrouble);
      });
    }
  }

  #trouble(worker: number, { kind, what, count }: WorkerTrouble): void {
    const troubles = kind === "cut" ? this.cuts : this.failures;
    troubles.set(`worker ${worker} ${what}`, count);
  }

  get state(): ClusterState {
    const sums = { begun: 0, bytes: 0, reads: 0, acknowledgements: 0, reopened: 0 };
    for (const state of this.#states) {
      if (state === undefined) continue;
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += state[name];
    }
    return sums;
  }

  /** Waits, and answers how long it took, in ms. @throws when it takes longer than `timeoutS` */
  async until(what: string, done: () => boolean | Promise<boolean>, everyMs = 100): Promise<number> {
    const startMs = performance.now(), { timeoutS } = this.#options;
    while (!(await done())) {
      if (performance.now() - startMs > timeoutS * 1000) throw new Error(`${what}: not within ${timeoutS} s`);
      await pause(everyMs);
    }
    return performance.now() - startMs;
  }

  /** Waits until every node has what a reader is given who begins now: every pod. */
  async converged(onWait: (nodes: number) => void = () => {}): Promise<void> {
    const { nodes, pods } = this.#options;
    const { puts, sum } = await this.#refer();
    if (puts !== pods) throw new Error(`the ipcache has ${puts} entries of ${pods}`);
    const expected = [`${puts} ${sum}`, `mirror ${pods}`];
    await this.until("every node has every pod", () => {
      let count = 0;
      for (const state of this.#states) {
        for (const key of expected) count += state?.ipcache[key] ?? 0;
      }
      onWait(count);
      return count === nodes;
    });
  }

  /** A stream of the ipcache from now on, to compare those of the nodes with. */
  async #refer(): Promise<Counted> {
    this.#reference?.close();
    const reference = this.#reference = new FollowedWatch({
      socket: this.processes.socket("identity-allocator"),
      watched: [{ collection: "ipcache" }],
      isApart: !this.#options.isJoint,
      onCut: (why) => this.cuts.set(`reference: ${why}`, (this.cuts.get(`reference: ${why}`) ?? 0) + 1),
    });
    await this.until("a list of the ipcache", () => reference.counted("ipcache")?.isSynced === true, 10);
    this.#written = reference.counted("ipcache")!.puts;
    return { ...reference.counted("ipcache")! };
  }

  /** Changes one entry of the ipcache. After {@link converged}. */
  async change(podName: string): Promise<void> {
    const ipcache = this.allocator.collection("ipcache", IpcacheEntry);
    const entry = this.#entry ??= (await ipcache.list({ limit: "1" } as never)).items[0];
    await ipcache.put(entry.prefix, { ...entry, podName });
    this.#written++;
  }

  /** Waits until every node has heard of every {@link change}; answers how long it took, in ms. */
  async heard(what: string): Promise<number> {
    return await this.until(`every node has heard of ${what}`, () => {
      const { puts = 0, revision = 0 } = this.#reference!.counted("ipcache") ?? {};
      return puts >= this.#written && this.#states.every((state) => state!.revision >= revision);
    }, 50);
  }

  /** Puts a policy between two label sets in force; answers how long it took until all acknowledged it, in ms. */
  async applyPolicy(number: number): Promise<number> {
    const { seed } = this.#options;
    const manifest = JSON.stringify({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: `p${number}`, namespace: "default" },
      spec: {
        podSelector: { matchLabels: { app: `a${(seed * 31 + number * 7) % LABEL_SETS}` } },
        ingress: [{
          from: [{ podSelector: { matchLabels: { app: `a${(seed * 17 + number) % LABEL_SETS}` } } }],
        }],
      },
    });
    const answer = await this.engine.send("/v1/policies:apply", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ manifest }),
    });
    const { policyRevision: revision } = await answer.json();
    if (!(Number(revision) > 0)) throw new Error("policies:apply named no revision");
    return await this.acknowledged(Number(revision));
  }

  /** Waits until every node says that a policy set is in force there, 0: the newest; answers how long it took, in ms. */
  async acknowledged(policyRevision = 0): Promise<number> {
    const { announcing } = this.#options;
    return await this.until(`policy set ${policyRevision} in force`, async () => {
      try {
        const { inForce, nodes } = await this.engine.call("/v1/policies:wait", {
          request: { message: WaitRequest, value: { policyRevision, timeoutS: 8 } },
          response: WaitResponse,
        });
        return inForce && nodes >= announcing;
      } catch (error) {
        // An engine that has begun does not know the nodes yet.
        if ((error as { code?: string }).code === "NOT_READY") return false;
        throw error;
      }
    });
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    this.#reference?.close();
    await this.processes.stop();
    this.allocator.close();
    this.engine.close();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

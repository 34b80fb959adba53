/**
 * What people ask of endpoints: PUT and DELETE. What was accepted is on disk before it is answered; what cannot be written
 * does not hold.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import type { Deletions } from "./deletions.ts";
import type { LabelConfig } from "./endpoint_labels.ts";
import { readEndpointSpec, sameSpec } from "./endpoint_spec.ts";
import type { EndpointStore } from "./endpoint_store.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import { IpamError } from "./ipam.ts";
import { settledIdentity, type Workload } from "./workload.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** What {@link EndpointIntake} is made of. */
export interface EndpointIntakeParts {
  table: EndpointTable;
  store: EndpointStore;
  deletions: Deletions;
  config: LabelConfig;
  clock: Clock;
  /** @throws {IpamError} */
  giveAddresses: (workload: Workload) => void;
  /** Waits until the cluster was asked for more addresses of a named pool, which is begun. */
  awaitAddresses: () => Promise<void>;
  /** It is wanted as it is now. */
  onPut: (workload: Workload) => void;
  /** It was not accepted: its number and addresses are free. */
  onRefused: (workload: Workload) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Takes requests, one after another of each name. */
export class EndpointIntake {
  readonly #parts: EndpointIntakeParts;
  /** The request of a name that is being written. */
  readonly #writing = new Map<string, Promise<unknown>>();
  /** Files to write again. */
  readonly #files: WorkQueue;

  constructor(parts: EndpointIntakeParts) {
    this.#parts = parts;
    this.#files = new WorkQueue({
      clock: parts.clock,
      work: (name) => this.#save(name),
      onResult: parts.onResult,
    });
  }

  /**
   * Upsert of the whole spec. Repeatable; a changed label set relabels the running endpoint.
   * @throws {ProblemError} NAME_MISMATCH, ENDPOINT_INVALID, ENDPOINT_DELETING, ENDPOINT_IMMUTABLE, ENDPOINT_TAKEN, IPAM_*,
   * ENDPOINT_STORE_FAILED
   */
  async put(name: string, given: Endpoint): Promise<Endpoint> {
    if (given.name !== "" && given.name !== name) {
      throw new ProblemError("NAME_MISMATCH", {
        status: 422,
        detail: `Cannot put endpoint ${name}: the body names another`,
        found: given.name,
        expected: name,
      });
    }
    const spec = readEndpointSpec({ ...given, name });
    return await this.#inTurn(name, async () => {
      const { table, onPut } = this.#parts;
      const before = table.get(name);
      if (before?.deleting) throw deleting(name);
      if (before && sameSpec(before.spec, spec)) return table.publish(before);
      const workload = before ? await this.#change(before, spec) : await this.#add(spec);
      onPut(workload);
      return table.publish(workload);
    });
  }

  /** Deletes, as {@link Deletions.delete} has it. @throws {ProblemError} */
  async delete(name: string): Promise<void> {
    await this.#writing.get(name)?.catch(() => {});
    await this.#parts.deletions.delete(name);
  }

  /** Begins to delete, as {@link Deletions.mark} has it. @throws {ProblemError} */
  async beginDelete(name: string): Promise<void> {
    await this.#writing.get(name)?.catch(() => {});
    await this.#parts.deletions.mark(name);
  }

  /** What is to be kept of an endpoint has changed. */
  keep(name: string): void {
    this.#files.add(name);
  }
  /** Nothing of an endpoint is left. */
  forget(name: string): void {
    this.#files.forget(name);
  }

  async idle(): Promise<void> {
    await this.#files.idle();
  }
  get isIdle(): boolean {
    return this.#files.isIdle;
  }
  async stop(): Promise<void> {
    await this.#files.stop();
  }

  async #inTurn<T>(name: string, task: () => Promise<T>): Promise<T> {
    const turn = (this.#writing.get(name) ?? Promise.resolve()).catch(() => {}).then(task);
    this.#writing.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#writing.get(name) === turn) this.#writing.delete(name);
    }
  }

  async #add(spec: Endpoint): Promise<Workload> {
    const { table, onRefused } = this.#parts;
    const workload = orProblem(() => table.add(spec));
    workload.unwritten = true;
    try {
      await this.#giveAddresses(workload);
      await this.#save(spec.name);
      workload.unwritten = false;
      return workload;
    } catch (error) {
      onRefused(workload);
      throw error;
    }
  }

  /** A named pool may have more for this node, which it gets when it asks. */
  async #giveAddresses(workload: Workload): Promise<void> {
    const { giveAddresses, awaitAddresses } = this.#parts, { spec } = workload;
    try {
      return giveAddresses(workload);
    } catch (error) {
      if (!(error instanceof IpamError) || spec.poolV4 + spec.poolV6 === "") {
        return orProblem(() => {
          throw error;
        });
      }
    }
    await awaitAddresses();
    // Of two families each may lack.
    try {
      return giveAddresses(workload);
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
    }
    await awaitAddresses();
    orProblem(() => giveAddresses(workload));
  }

  async #change(workload: Workload, spec: Endpoint): Promise<Workload> {
    const { table, onPut } = this.#parts;
    const before = workload.spec;
    table.refuseMove(before, spec);
    workload.spec = spec;
    try {
      await this.#save(spec.name);
    } catch (error) {
      workload.spec = before;
      onPut(workload);
      throw error;
    }
    if (workload.status.state === "READY") table.setState(workload, "REGENERATING");
    return workload;
  }

  async #save(name: string): Promise<void> {
    await this.#parts.store.save(name, () => {
      const workload = this.#parts.table.get(name);
      return workload && this.#keptOf(workload);
    });
  }

  /** What is kept of it. Its identity's labels only where the number is that of the labels of now. */
  #keptOf(workload: Workload): Endpoint | undefined {
    if (workload.deleting) return undefined;
    const { spec, status } = workload;
    const settled = settledIdentity(workload, this.#parts.config);
    const identityLabels = settled?.number === status.identity ? status.identityLabels : [];
    return Endpoint.create({ ...spec, status: { ...status, identityLabels } });
  }
}

function orProblem<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    throw new ProblemError(error.code, {
      status: error.code === "IPAM_TAKEN" ? 409 : 422,
      detail: error.message,
      action: error.code === "IPAM_EXHAUSTED"
        ? "Delete endpoints or give the node a larger CIDR"
        : "Ask for another address",
    });
  }
}

function deleting(name: string): ProblemError {
  return new ProblemError("ENDPOINT_DELETING", {
    status: 409,
    detail: `Cannot put endpoint ${name}: it is being deleted`,
    action: "Try again when it is gone",
  });
}

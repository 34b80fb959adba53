/**
 * This node's services in the datapath: follows the load balancer's service ports and backends, makes the node's view of
 * them (`service_view.ts`) and gives the datapath what changed since it was told last (`service_delta.ts`).
 *
 *     service ports, backends ─▶ which services are touched ─▶ view - given = one small update ─▶ datapath
 *
 * A touched service is compared as a whole only when it must be: its own object changed, or hints came into force. One
 * changed backend of 50,000 costs one comparison and one request. A datapath that is there anew gets everything in one
 * update that replaces; what it could not realize is kept as state and given again, later and later.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import type { Init } from "@weir/proto";
import {
  type DatapathBackend,
  DatapathService,
  type HealthCheckStatus,
  type ServicesUpdate,
  type ServicesUpdateResponse,
} from "@weir/proto/datapath";
import type { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { HeldRows, type HeldRowsOptions } from "./held_rows.ts";
import { BULK_DEADLINE_MS, type Peer } from "./peer.ts";
import type { Datapath, Mirror, ServiceSource } from "./sources.ts";
import {
  commitDelta,
  deltaOf,
  emptyState,
  type ServiceDelta,
  type ServiceState,
  sizeOf,
} from "./service_delta.ts";
import { type HealthAnswer, healthAnswerOf } from "./health_check/health_answer.ts";
import { type NodePlace, viewService } from "./service_view.ts";

/** Objects in one update; a service is never split, so the last one may exceed it. */
export const UPDATE_OBJECTS_MAX = 10_000;

/** A load balancer that has nothing. */
export const NO_SERVICES: ServiceSource = { servicePorts: () => nothing(), backends: () => nothing() };

function nothing<T>(): Mirror<T> {
  return {
    synced: true,
    error: undefined,
    lastHeardMs: 0,
    position: undefined,
    values: () => [],
    get: () => undefined,
    [Symbol.dispose]: () => {},
  };
}

/** What the reconciler is made of. */
export interface ServiceReconcilerParts {
  source: ServiceSource;
  /** The load balancer. Absent: there is none. */
  sourcePeer?: Peer;
  datapath: Pick<Datapath, "updateServices">;
  datapathPeer: Peer;
  place: NodePlace;
  /** Called when there is something to reconcile. */
  onDirty: () => void;
  /** Called when health check node ports may have changed. */
  onHealthCheck?: () => void;
  /** What is to be shown of a health check node port; undefined: nobody listens for this service. */
  healthCheckStatus?: (port: number) => HealthCheckStatus | undefined;
  clock: Clock;
  /** How long services stay that a load balancer which lost its database does not have, milliseconds. */
  holdMs?: number;
}

/** Follows and tells. */
export class ServiceReconciler implements Disposable {
  readonly #states = new Map<number, ServiceState>();
  readonly #dirty = new Set<number>();
  readonly #failed = new Set<number>();
  /** Health check node port -> ids of the ports of its service. */
  readonly #healthPorts = new Map<number, Set<number>>();
  readonly #ports: Mirror<ServicePort>;
  readonly #backends: Mirror<Backend>;
  readonly #place: NodePlace;
  readonly #parts: ServiceReconcilerParts;
  readonly #heldPorts: HeldRows<ServicePort>;
  readonly #heldBackends: HeldRows<Backend>;
  /** What the datapath was told since the start, and what it took. */
  readonly totals = { updates: 0, objects: 0, mapWrites: 0, datapathSeconds: 0 };
  #replacing = true;
  /** Grows when the datapath is there anew: answers to what was sent before mean nothing then. */
  #generation = 0;

  constructor(parts: ServiceReconcilerParts) {
    this.#parts = parts;
    this.#place = { ...parts.place };
    const changed = () => {
      if (this.synced) parts.onDirty();
    };
    const synced = () => {
      changed();
      if (this.synced) parts.onHealthCheck?.();
    };
    this.#heldPorts = new HeldRows({
      ...this.#holding("services"),
      onChange: (_, port, previous) => {
        if (previous && previous.id !== port?.id) this.#touch(previous.id).port = undefined;
        if (port) this.#touch(port.id).port = port;
        this.#indexHealth(port, previous);
        changed();
      },
      // A new database numbers anew: a service is not there under two numbers.
      keyOf: ({ namespace, service, portName, protocol }) =>
        `${namespace}/${service}/${portName}/${protocol}`,
    });
    this.#heldBackends = new HeldRows({
      ...this.#holding("backends"),
      onChange: (name, backend, previous) => {
        if (previous && previous.service !== backend?.service) {
          this.#touch(previous.service, name).backends.delete(name);
        }
        if (backend) this.#touch(backend.service, name).backends.set(name, backend);
        changed();
      },
    });
    this.#ports = parts.source.servicePorts({
      onChange: (name, port, previous, lost) => this.#heldPorts.change(name, port, previous, lost),
      onSynced: synced,
    });
    this.#backends = parts.source.backends({
      onChange: (name, backend, previous, lost) => this.#heldBackends.change(name, backend, previous, lost),
      onSynced: synced,
    });
    parts.sourcePeer?.follow(this.#ports);
    parts.sourcePeer?.follow(this.#backends);
  }

  /** True once both collections were received. */
  get synced(): boolean {
    return this.#ports?.synced === true && this.#backends?.synced === true;
  }

  /** True when the datapath was told of everything. */
  get complete(): boolean {
    return this.synced && !this.#replacing && this.#dirty.size === 0;
  }

  /** Number of services that the datapath could not realize. */
  get failures(): number {
    return this.#failed.size;
  }

  /** The services as the datapath was given them, with what it could not do. */
  *list(): Generator<DatapathService> {
    for (const id of this.#states.keys()) {
      const service = this.get(id);
      if (service) yield service;
    }
  }

  /** One of {@link list}. */
  get(id: number): DatapathService | undefined {
    const state = this.#states.get(id);
    const service = state?.port && viewService(state.port, this.#place);
    if (!state || !service) return undefined;
    const { failure, givenBackends } = state;
    let active = 0;
    for (const { state } of givenBackends.values()) if (state === "ACTIVE") active++;
    return DatapathService.create({
      ...service,
      status: {
        healthCheck: this.#parts.healthCheckStatus?.(state.port!.healthCheckNodePort),
        backends: givenBackends.size,
        activeBackends: active,
        error: failure && {
          kind: "service",
          error: failure.error,
          sinceUnixS: failure.sinceMs / 1000,
          attempts: failure.attempts,
        },
      },
    });
  }

  /** Where this node is, from now on. */
  setPlace({ zone, labels }: Omit<NodePlace, "nodeName">): void {
    const before = { ...this.#place };
    Object.assign(this.#place, { zone, labels });
    const isMoved = zone !== before.zone, isLabelled = String(labels) !== String(before.labels);
    if (!isMoved && !isLabelled) return;
    for (const [id, { port }] of this.#states) {
      if ((isMoved && port?.topologyHints) || (isLabelled && port?.nodeSelector.length)) this.#touch(id);
    }
    if (isLabelled) this.#parts.onHealthCheck?.();
    if (this.synced) this.#parts.onDirty();
  }

  /** Services that this node answers for on a port of its own, by that port, in which every source is in sync. */
  healthChecks(): Map<number, HealthAnswer> {
    const checks = new Map<number, HealthAnswer>();
    if (this.synced) { for (const port of this.#healthPorts.keys()) this.#answer(port, checks); }
    return checks;
  }

  /** What is to be said on a health check node port now; undefined: no service of this node has it. */
  healthAnswer(port: number): HealthAnswer | undefined {
    const found = new Map<number, HealthAnswer>();
    this.#answer(port, found);
    return found.get(port);
  }

  #answer(port: number, answers: Map<number, HealthAnswer>): void {
    const states = [...this.#healthPorts.get(port) ?? []].flatMap((id) => this.#states.get(id) ?? []);
    const answer = healthAnswerOf(states, this.#place);
    if (answer !== undefined) answers.set(port, answer);
  }

  /** Keeps who has which health check node port. */
  #indexHealth(port: ServicePort | undefined, previous: ServicePort | undefined): void {
    const before = previous?.healthCheckNodePort ?? 0, after = port?.healthCheckNodePort ?? 0;
    if (before === after && port?.id === previous?.id) return;
    if (before !== 0) {
      const ids = this.#healthPorts.get(before);
      if (ids?.delete(previous!.id) && ids.size === 0) this.#healthPorts.delete(before);
    }
    if (after !== 0) {
      const ids = this.#healthPorts.get(after) ?? new Set();
      this.#healthPorts.set(after, ids.add(port!.id));
    }
    if (before !== 0 || after !== 0) this.#parts.onHealthCheck?.();
  }

  /** The datapath is there anew. */
  forget(): void {
    this.#generation++;
    this.#replacing = true;
    this.#failed.clear();
    for (const [id, state] of this.#states) {
      state.given = undefined;
      state.givenBackends.clear();
      this.#touch(id);
    }
  }

  /**
   * Tells the datapath what it lacks. Does nothing before both collections are in sync: half of them would remove.
   * @returns true when frontends changed, so that a service that failed may find room now
   */
  async reconcile(): Promise<boolean> {
    let frontends = false;
    if (!this.synced) return frontends;
    while (this.#dirty.size > 0 || this.#replacing) {
      const replace = this.#replacing;
      // Only a whole list can replace.
      const batch = this.#collect(this.#dirty, { objectsMax: replace ? Infinity : UPDATE_OBJECTS_MAX });
      if (batch.size === 0 && !replace) continue;
      if (await this.#send(batch, replace) && replace) this.#replacing = false;
      for (const delta of batch.values()) frontends ||= delta.deleted || delta.service !== undefined;
    }
    return frontends;
  }

  /** Tells the datapath again of the services that it could not realize. @throws {Error} when some still fail */
  async retryFailed(): Promise<void> {
    if (!this.complete || this.#failed.size === 0) return;
    await this.#send(this.#collect(new Set(this.#failed), { objectsMax: Infinity, again: true }), false);
    if (this.#failed.size === 0) return;
    const first = this.#states.get(this.#failed.values().next().value!)?.failure?.error;
    throw new Error(`Cannot realize ${this.#failed.size} services: ${first}`);
  }

  [Symbol.dispose](): void {
    this.#ports[Symbol.dispose]();
    this.#backends[Symbol.dispose]();
    this.#heldPorts[Symbol.dispose]();
    this.#heldBackends[Symbol.dispose]();
  }

  #holding<T>(what: string): Pick<HeldRowsOptions<T>, "clock" | "graceMs" | "onHeld"> {
    const { clock, holdMs, sourcePeer } = this.#parts;
    return {
      clock,
      graceMs: holdMs,
      onHeld: (count, untilMs) =>
        sourcePeer?.setStale(
          what,
          count === 0
            ? undefined
            : `It lost ${count} ${what}; they stay until ${new Date(untilMs).toISOString()}`,
        ),
    };
  }

  /** Marks a service: one backend of it, else the whole. */
  #touch(id: number, backend?: string): ServiceState {
    let state = this.#states.get(id);
    if (!state) this.#states.set(id, state = emptyState());
    if (backend === undefined) state.touched = undefined;
    else state.touched?.add(backend);
    this.#dirty.add(id);
    return state;
  }

  /** Takes services from `ids` until the update is full; those that are gone first, for their frontends may move. */
  #collect(
    ids: Set<number>,
    options: { objectsMax: number; again?: boolean },
  ): Map<number, ServiceDelta> {
    const batch = new Map<number, ServiceDelta>();
    let objects = 0;
    const take = (id: number) => {
      ids.delete(id);
      const state = this.#states.get(id);
      if (!state) return;
      const delta = deltaOf(state, this.#place, options.again);
      state.touched = new Set();
      const size = sizeOf(delta);
      if (size > 0) batch.set(id, delta);
      else if (!state.port && state.backends.size === 0) this.#states.delete(id);
      objects += size;
    };
    for (const id of ids) if (!this.#states.get(id)?.port) take(id);
    for (const id of ids) {
      if (objects >= options.objectsMax) break;
      take(id);
    }
    return batch;
  }

  /** Sends a batch; false when the datapath began anew meanwhile, so that the batch means nothing. */
  async #send(batch: Map<number, ServiceDelta>, replace: boolean): Promise<boolean> {
    const generation = this.#generation;
    let response: ServicesUpdateResponse;
    try {
      response = await this.#parts.datapathPeer.call(
        "update services",
        () => this.#parts.datapath.updateServices(updateOf(batch, replace)),
        BULK_DEADLINE_MS,
      );
    } catch (error) {
      for (const id of batch.keys()) this.#touch(id);
      // Whether it was done is not known: everything is told, which is the same whatever is there.
      if (!(error instanceof ProblemError) || error.status >= 500) this.forget();
      throw error;
    }
    this.totals.updates++;
    this.totals.mapWrites += response.mapWrites;
    this.totals.datapathSeconds += response.timeUs / 1e6;
    if (generation !== this.#generation) return false;
    for (const [id, delta] of batch) {
      const state = this.#states.get(id)!;
      commitDelta(state, delta);
      this.totals.objects += sizeOf(delta);
      if (!state.port && state.backends.size === 0 && !this.#dirty.has(id)) this.#states.delete(id);
    }
    this.#noteFailures(batch, response);
    return true;
  }

  #noteFailures(batch: Map<number, ServiceDelta>, response: ServicesUpdateResponse): void {
    const errors = new Map(response.failedServices.map((id, i) => [id, response.errors[i]?.error ?? ""]));
    for (const id of batch.keys()) {
      const state = this.#states.get(id), error = errors.get(id);
      if (state && error !== undefined) {
        const { sinceMs = this.#parts.clock.nowMs(), attempts = 0 } = state.failure ?? {};
        state.failure = { error, sinceMs, attempts: attempts + 1 };
        this.#failed.add(id);
      } else {
        if (state) state.failure = undefined;
        this.#failed.delete(id);
      }
    }
  }
}

function updateOf(batch: Map<number, ServiceDelta>, replace: boolean): Init<ServicesUpdate> {
  const services: Init<DatapathService>[] = [], deletedServices: number[] = [];
  const backends: Init<DatapathBackend>[] = [], deletedBackends: Init<DatapathBackend>[] = [];
  for (const [id, delta] of batch) {
    if (delta.deleted) deletedServices.push(id);
    if (delta.service) services.push(delta.service);
    for (const backend of delta.backends.values()) backends.push(backend);
    for (const { service, address, port } of delta.deletedBackends.values()) {
      deletedBackends.push({ service, address, port });
    }
  }
  return { services, deletedServices, backends, deletedBackends, replace };
}

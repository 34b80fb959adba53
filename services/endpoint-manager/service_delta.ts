/**
 * One service as the load balancer and this node's datapath have it, and the difference between the two.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Init } from "@weir/proto";
import type { DatapathBackend, DatapathService } from "@weir/proto/datapath";
import type { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { type HintsInForce, hintsInForce, type NodePlace, viewBackend, viewService } from "./service_view.ts";

/** What is known of one service. */
export interface ServiceState {
  port?: ServicePort;
  readonly backends: Map<string, Backend>;
  /** Names of the backends to compare; undefined: all of them. */
  touched: Set<string> | undefined;
  /** Which hints were in force when it was compared last. */
  hints: HintsInForce;
  /** The service as it was given; undefined: it was not, or must be given again. */
  given?: Init<DatapathService>;
  /** Backends as they were given. */
  readonly givenBackends: Map<string, Init<DatapathBackend>>;
  /** Why the datapath could not realize it. */
  failure?: { error: string; sinceMs: number; attempts: number };
}

/** What must be told of one service, and what is true when it was. */
export interface ServiceDelta {
  service?: Init<DatapathService>;
  deleted: boolean;
  backends: Map<string, Init<DatapathBackend>>;
  deletedBackends: Map<string, Init<DatapathBackend>>;
  given: Init<DatapathService> | undefined;
  hints: HintsInForce;
}

/** A service nothing is known of yet. */
export function emptyState(): ServiceState {
  return { backends: new Map(), touched: new Set(), hints: "", givenBackends: new Map() };
}

function same(a: Init<DatapathBackend>, b: Init<DatapathBackend>): boolean {
  return a.state === b.state && a.weight === b.weight && a.internal === b.internal &&
    a.external === b.external && a.address === b.address && a.port === b.port;
}

/** What the datapath lacks. With `again` the service is told as a whole. Pure. */
export function deltaOf(state: ServiceState, place: NodePlace, again = false): ServiceDelta {
  const { port } = state;
  const service = port && viewService(port, place);
  const delta: ServiceDelta = {
    deleted: false,
    backends: new Map(),
    deletedBackends: new Map(),
    given: undefined,
    hints: "",
  };
  if (!port || !service) {
    // Its backends go with it.
    delta.deleted = state.given !== undefined;
    return delta;
  }
  delta.given = service;
  if (again || !isDeepStrictEqual(service, state.given)) delta.service = service;
  delta.hints = hintsInForce(port, state.backends.values(), place);
  const whole = again || state.given === undefined || state.touched === undefined ||
    delta.hints !== state.hints;
  const names = whole ? new Set([...state.backends.keys(), ...state.givenBackends.keys()]) : state.touched!;
  for (const name of names) {
    const backend = state.backends.get(name), before = state.givenBackends.get(name);
    const view = backend && viewBackend(port, backend, { place, hints: delta.hints });
    if (view && (again || !before || !same(view, before))) delta.backends.set(name, view);
    else if (!view && before) delta.deletedBackends.set(name, before);
  }
  return delta;
}

/** Objects that a delta tells of. */
export function sizeOf(delta: ServiceDelta): number {
  return Number(delta.deleted) + Number(delta.service !== undefined) + delta.backends.size +
    delta.deletedBackends.size;
}

/** Notes that the datapath has taken a delta. */
export function commitDelta(state: ServiceState, delta: ServiceDelta): void {
  state.given = delta.given;
  state.hints = delta.hints;
  if (delta.given === undefined) {
    state.givenBackends.clear();
    state.failure = undefined;
  }
  for (const [name, backend] of delta.backends) state.givenBackends.set(name, backend);
  for (const name of delta.deletedBackends.keys()) state.givenBackends.delete(name);
}

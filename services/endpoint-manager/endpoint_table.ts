/**
 * The endpoints of this node: who is there, and what people are shown of each.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import {
  type Clock,
  HOST_ENDPOINT,
  HOST_ENDPOINT_ID,
  ProblemError,
  SOURCE_CIDR,
  WatchedTable,
} from "@weir/common";
import {
  Endpoint,
  type EndpointConditionKind,
  EndpointStatus,
  type EndpointStatusState,
} from "@weir/proto/endpoint";
import type { KeptEndpoint } from "./endpoint_store.ts";
import { EndpointIds } from "./ipam.ts";
import type { LabelConfig } from "./endpoint_labels.ts";
import { askedLabels, type Workload } from "./workload.ts";

const PLACES = ["netns", "device", "cgroup"] as const;
const FIXED = [
  ...PLACES,
  "containerDevice",
  "ipv4",
  "ipv6",
  "mac",
  "containerId",
  "poolV4",
  "poolV6",
] as const;

/** See {@link EndpointTable.workloads}. */
export class EndpointTable {
  /** The API's view of every endpoint. */
  readonly view: WatchedTable<Endpoint>;
  readonly #workloads = new Map<string, Workload>();
  readonly #ids = new EndpointIds();
  readonly #clock: Clock;
  readonly #config: LabelConfig;

  constructor(options: { clock: Clock; config: LabelConfig }) {
    this.#clock = options.clock;
    this.#config = options.config;
    this.view = new WatchedTable<Endpoint>({
      name: "endpoints",
      entriesMax: EndpointIds.max + 1,
      // Those of an earlier process are always older.
      revision: Math.floor(this.#clock.nowMs()) * 1000,
    });
  }

  get(name: string): Workload | undefined {
    return this.#workloads.get(name);
  }
  /** All of them, those that are being deleted too. */
  workloads(): IterableIterator<Workload> {
    return this.#workloads.values();
  }
  names(): string[] {
    return [...this.#workloads.keys()];
  }
  /** Whether an endpoint has this number. */
  hasId(id: number): boolean {
    return this.#ids.has(id) || (id === HOST_ENDPOINT_ID && this.#workloads.has(HOST_ENDPOINT));
  }

  /** A workload with a number of its own, not shown yet. @throws {ProblemError} ENDPOINT_TAKEN, {IpamError} IPAM_EXHAUSTED */
  add(spec: Endpoint): Workload {
    this.#refuseDouble(spec);
    const workload: Workload = {
      spec,
      status: EndpointStatus.create({
        state: "WAITING_FOR_IDENTITY",
        id: spec.host ? HOST_ENDPOINT_ID : this.#ids.allocate(),
      }),
      restored: false,
      announced: false,
      conditions: new Map(),
    };
    this.#workloads.set(spec.name, workload);
    return workload;
  }

  /** Takes back what was kept. False when its number is taken: two files have one. */
  restore({ endpoint, deleting }: KeptEndpoint): boolean {
    const { status, ...rest } = endpoint;
    const { id = 0, identity = 0, identityLabels = [] } = status ?? {};
    const number = this.#restoredId(rest.host, id);
    if (number === undefined) return false;
    const kept = {
      spec: Endpoint.create(rest),
      status: EndpointStatus.create({
        ...status,
        id: number,
        state: deleting ? "DISCONNECTING" : "RESTORING",
      }),
    };
    // Whether addresses counted then may have changed since.
    const cidrMeansPods = identityLabels.some((label) => label.startsWith(`${SOURCE_CIDR}:`));
    const workload: Workload = {
      ...kept,
      // Kept with labels: the number is that of these labels, until the directory says otherwise.
      given: identity !== 0 && identityLabels.length > 0
        ? {
          number: identity,
          labels: identityLabels,
          askedFor: askedLabels(kept, { ...this.#config, cidrMeansPods }),
          confirmed: false,
        }
        : undefined,
      // One without an identity was never attached.
      restored: identity !== 0 || deleting,
      announced: identity !== 0,
      conditions: new Map(),
    };
    this.#workloads.set(kept.spec.name, workload);
    this.publish(workload);
    return true;
  }

  /** What cannot change while it runs. @throws {ProblemError} ENDPOINT_IMMUTABLE */
  refuseMove(before: Endpoint, after: Endpoint): void {
    for (const key of FIXED) {
      if (before[key] === after[key]) continue;
      throw new ProblemError("ENDPOINT_IMMUTABLE", {
        status: 409,
        detail: `Cannot change ${key} of endpoint ${before.name}: it is fixed when the endpoint is added`,
        found: after[key],
        expected: before[key],
        action: "Delete the endpoint and add it again",
      });
    }
  }

  /** Nothing is left of it. */
  drop({ spec, status }: Workload): void {
    this.#ids.release(status.id);
    this.#workloads.delete(spec.name);
    this.view.delete(spec.name);
  }

  setState(workload: Workload, state: EndpointStatusState): void {
    workload.status.state = state;
    this.publish(workload);
  }

  /** Sets a condition, or ends it where `message` is undefined. It keeps the time at which it began. */
  setCondition(workload: Workload, kind: EndpointConditionKind, message: string | undefined): void {
    const before = workload.conditions.get(kind);
    if (before?.message === message) return;
    if (message === undefined) workload.conditions.delete(kind);
    else workload.conditions.set(kind, { message, sinceMs: before?.sinceMs ?? this.#clock.nowMs() });
    workload.status.conditions = [...workload.conditions].map(([kind, { message, sinceMs }]) => ({
      kind,
      message,
      sinceUnixS: sinceMs / 1000,
    }));
    this.publish(workload);
  }

  /** Shows it to people as it is now; nothing when they have seen that. */
  publish(workload: Workload): Endpoint {
    const { spec, status } = workload;
    const value = Endpoint.create({ ...spec, status: { ...status } });
    if (this.#workloads.get(spec.name) !== workload) return value;
    const before = this.view.get(spec.name);
    if (!before || !isDeepStrictEqual(before, value)) this.view.put(spec.name, value);
    return value;
  }

  /** A pod that has what is the host's number since gets another. Undefined: taken. */
  #restoredId(host: boolean, id: number): number | undefined {
    if (host) return id === HOST_ENDPOINT_ID ? id : undefined;
    if (id === HOST_ENDPOINT_ID && !this.#ids.isFull) return this.#ids.allocate();
    return this.#ids.claim(id) ? id : undefined;
  }

  #refuseDouble(spec: Endpoint): void {
    for (const { spec: other } of this.#workloads.values()) {
      for (const key of PLACES) {
        if (spec[key] === "" || other[key] !== spec[key]) continue;
        if (key === "netns" && other.containerDevice !== spec.containerDevice) continue;
        throw new ProblemError("ENDPOINT_TAKEN", {
          status: 409,
          detail: `Cannot add endpoint ${spec.name}: ${key} ${spec[key]} belongs to endpoint ${other.name}`,
          action: "Delete that endpoint first",
        });
      }
    }
  }
}

/** A node's kernel in memory: endpoints, policies, ipcache and services, as the datapath service keeps them. @module */
import {
  IDENTITY_WORLD_IPV4,
  type IpAddress,
  isLocalIdentity,
  MapState as Lookup,
  Prefix,
} from "@weir/common";
import { ChangeTable } from "../../services/endpoint-manager/testing.ts";
import type { Datapath } from "@weir/endpoint-manager";
import type { Init } from "@weir/proto";
import {
  type DatapathBackend,
  DatapathEndpoint,
  DatapathPolicy,
  ServicesUpdateResponse,
} from "@weir/proto/datapath";
import { MapState as MapStateMessage } from "@weir/proto/policy";
import type { SimulatedProcess } from "./network.ts";
import type { VirtualTime } from "./virtual_time.ts";

/** Outlives the processes that write it. */
export class ModelDatapath {
  readonly endpoints: ChangeTable<DatapathEndpoint> = new ChangeTable<DatapathEndpoint>();
  readonly policies = new Map<string, DatapathPolicy>();
  /** Identity by prefix. */
  readonly ipcache = new Map<string, number>();
  /** Name of each service, by its id. */
  readonly services = new Map<number, string>();
  /** "ID ADDRESS PORT" of each backend. */
  readonly backends = new Set<string>();
  /** Told after each change of one thing in the kernel. */
  onWrite: (() => void) | undefined;
  readonly #time: VirtualTime;
  readonly #lookups = new WeakMap<DatapathPolicy, Lookup>();

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** Whether a new TCP connection passes at the endpoint, as the kernel judges it. */
  passes(endpoint: DatapathEndpoint, remote: number, direction: "INGRESS" | "EGRESS", port: number): boolean {
    if (endpoint.policy === "") return true; // enforces nothing
    const policy = this.policies.get(endpoint.policy);
    if (!policy) return false;
    let lookup = this.#lookups.get(policy);
    if (!lookup) {
      lookup = Lookup.of(
        stateOf(policy),
      );
      this.#lookups.set(policy, lookup);
    }
    return lookup.lookup(remote, direction, 6, port).allowed;
  }

  /** The identity of an address: that of the longest prefix around it, else the world's. */
  identityOf(address: IpAddress): number {
    let identity = IDENTITY_WORLD_IPV4, longest = -1;
    for (const [text, of] of this.ipcache) {
      const prefix = Prefix.parse(text);
      if (prefix.length > longest && prefix.contains(address)) [identity, longest] = [of, prefix.length];
    }
    return identity;
  }

  /** The datapath as one life of an endpoint manager sees it. */
  attach(process: SimulatedProcess, write: <R>(action: () => Promise<R>) => Promise<R>): Datapath {
    const alive = async () => {
      this.#time.touch();
      await Promise.resolve();
      while (process.frozen && !process.dead) await this.#time.clock(process).sleep(1);
      if (process.dead) await new Promise<never>(() => {});
    };
    const nothing = async () => await alive();
    const change = async <R>(action: () => R): Promise<R> => {
      await alive();
      return await write(() =>
        Promise.resolve().then(() => {
          const result = action();
          this.onWrite?.();
          return result;
        })
      );
    };
    return {
      found: () =>
        change(() => ({
          policies: structuredClone([...this.policies.values()]),
          left: [],
          process: "",
          prefixes: [...this.ipcache].filter(([, identity]) => isLocalIdentity(identity))
            .map(([prefix, identity]) => ({ prefix, identity })),
        })),
      inUse: () => change(() => new Set<string>()),
      putNodeConfig: nothing,
      putEndpoint: (endpoint) =>
        change(() => {
          const { name, policy } = endpoint;
          if (policy && !this.policies.has(policy)) throw new Error(`No policy ${policy}`);
          const given = DatapathEndpoint.create({ ...endpoint, status: { ready: true, ifindex: 7 } });
          this.endpoints.put(name!, given);
          return given;
        }),
      deleteEndpoint: (name) =>
        change(() => {
          this.endpoints.delete(name);
        }),
      putPolicy: (policy) =>
        change(() => {
          const given = DatapathPolicy.create(policy);
          this.policies.set(given.name, given);
          return given;
        }),
      deletePolicy: (name) =>
        change(() => {
          if ([...this.endpoints.rows.values()].some(({ policy }) => policy === name)) {
            throw new Error(`Policy ${name} is in use`);
          }
          this.policies.delete(name);
        }),
      updateIpcache: ({ replace, upserts = [], deletes = [] }) =>
        change(() => {
          // Like the kernel's, one entry after the other.
          const named = new Set(upserts.map(({ prefix }) => prefix));
          const gone = replace ? [...this.ipcache.keys()].filter((prefix) => !named.has(prefix)) : [];
          for (const { prefix, identity } of upserts) {
            this.ipcache.set(prefix!, identity!);
            this.onWrite?.();
          }
          for (const prefix of [...deletes, ...gone]) {
            this.ipcache.delete(prefix);
            this.onWrite?.();
          }
          return [];
        }),
      putRemoteNode: nothing,
      deleteRemoteNode: nothing,
      updateServices: (update) => {
        const { replace, services = [], deletedServices = [], backends = [], deletedBackends = [] } = update;
        return change(() => {
          if (replace) this.services.clear();
          if (replace) this.backends.clear();
          for (const id of deletedServices) {
            this.services.delete(id);
            for (const key of this.backends) if (key.startsWith(`${id} `)) this.backends.delete(key);
          }
          for (const { id, name } of services) this.services.set(id!, name!);
          for (const backend of deletedBackends) this.backends.delete(backendKey(backend));
          for (const backend of backends) {
            if (!this.services.has(backend.service!)) throw new Error(`No service ${backend.service}`);
            this.backends.add(backendKey(backend));
          }
          return ServicesUpdateResponse.create({ services: services.length, backends: backends.length });
        });
      },
      sync: nothing,
      endpoints: () => this.endpoints.mirror({ onChange: () => {}, onSynced: () => {} }),
    };
  }
}

function backendKey({ service, address, port }: Init<DatapathBackend>): string {
  return `${service} ${address} ${port}`;
}

function stateOf(policy: DatapathPolicy): MapStateMessage {
  const { enforceIngress, enforceEgress, entries } = policy;
  return MapStateMessage.create({ enforceIngress, enforceEgress, entries });
}

/**
 * Services by the id that events carry and by frontend: a local copy that follows the load balancer.
 * @module
 */
import { Reflector, type WeirClient } from "@weir/client";
import type { Logger } from "@weir/common";
import { ServicePort } from "@weir/proto/loadbalancer";
import type { ServiceName } from "./flow_builder.ts";

/** Services that are remembered after they are gone, because flows of them still come. */
export const SERVICES_GONE_MAX = 4096;

const keyOf = (address: string, port: number, protocol: string) => `${address} ${port} ${protocol}`;

/** Names of services, those of the last {@link SERVICES_GONE_MAX} that are gone too. */
export class ServiceNames {
  readonly #byId = new Map<number, ServiceName>();
  readonly #gone = new Map<number, ServiceName>();
  readonly #byFrontend = new Map<string, number>();
  /** Services with a frontend at an address, for ports of it that are no frontend. */
  readonly #byAddress = new Map<string, Set<number>>();
  readonly #reflector: Reflector<ServicePort>;

  constructor(loadBalancer: WeirClient, log?: Logger) {
    this.#reflector = new Reflector(loadBalancer.collection("serviceports", ServicePort), {
      log,
      onChange: (_, port, previous) => this.take(port, previous),
    });
  }

  get synced(): boolean {
    return this.#reflector.synced;
  }

  start(): void {
    this.#reflector.start();
  }

  async stop(): Promise<void> {
    await this.#reflector.stop();
  }

  get(id: number): ServiceName | undefined {
    return this.#byId.get(id) ?? this.#gone.get(id);
  }

  /** The service that has this frontend; of a closed port the one that has the address, if it is one only. */
  at(address: string, port: number, protocol: string): ServiceName | undefined {
    const id = this.#byFrontend.get(keyOf(address, port, protocol));
    if (id !== undefined) return this.get(id);
    const names = [...this.#byAddress.get(address) ?? []].map((each) => this.get(each));
    const [first] = names;
    return names.every((name) => name?.name === first?.name && name?.namespace === first?.namespace)
      ? first
      : undefined;
  }

  /** A change of one service port. */
  take(port: ServicePort | undefined, previous: ServicePort | undefined): void {
    for (const { address, port: number } of previous?.frontends ?? []) {
      const key = keyOf(address, number, previous!.protocol);
      // Another service may have got the frontend meanwhile.
      if (this.#byFrontend.get(key) === previous!.id) this.#byFrontend.delete(key);
      const there = this.#byAddress.get(address);
      there?.delete(previous!.id);
      if (there?.size === 0) this.#byAddress.delete(address);
    }
    if (previous && previous.id !== port?.id) {
      this.#gone.set(previous.id, { namespace: previous.namespace, name: previous.service });
      this.#byId.delete(previous.id);
      if (this.#gone.size > SERVICES_GONE_MAX) this.#gone.delete(this.#gone.keys().next().value!);
    }
    if (!port) return;
    this.#byId.set(port.id, { namespace: port.namespace, name: port.service });
    for (const { kind, address, port: number } of port.frontends) {
      if (address === "") continue;
      this.#byFrontend.set(keyOf(address, number, port.protocol), port.id);
      // Other addresses may be a node's, with ports that are no service's.
      if (kind !== "CLUSTER_IP" && kind !== "LOAD_BALANCER") continue;
      const there = this.#byAddress.get(address);
      if (there) there.add(port.id);
      else this.#byAddress.set(address, new Set([port.id]));
    }
  }
}

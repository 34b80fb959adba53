/**
 * What the cluster knows by address, identity and cookie, as flows need it: local copies that follow their services.
 * While a service is away the names stay as they were.
 * @module
 */
import { Reflector, type WeirClient } from "@weir/client";
import type { Logger } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { CidrIdentity, Rule } from "@weir/proto/policy";
import type { KnownAddress, Names, ServiceName } from "./flow_builder.ts";
import { ServiceNames } from "./service_names.ts";

/** The services that know names. */
export interface NameSources {
  allocator: WeirClient;
  policyEngine: WeirClient;
  endpointManager: WeirClient;
  /** Absent: services have no names. */
  loadBalancer?: WeirClient;
  nodeName: string;
  cluster: string;
  log?: Logger;
}

/** Rules that are remembered after they are gone, because flows of them still come. */
export const RULES_GONE_MAX = 4096;

/** See the module comment. */
export class KnownNames implements Names {
  readonly nodeName: string;
  readonly cluster: string;
  private readonly identities: Reflector<Identity>;
  private readonly ipcache: Reflector<IpcacheEntry>;
  private readonly nodes: Reflector<Node>;
  private readonly rules: Reflector<Rule>;
  private readonly cidrs: Reflector<CidrIdentity>;
  private readonly endpoints: Reflector<Endpoint>;
  private readonly cidrLabels = new Map<number, readonly string[]>();
  private readonly addressesById = new Map<number, string[]>();
  private readonly devices = new Map<number, string>();
  private readonly nodeByAddress = new Map<string, KnownAddress>();
  private readonly services: ServiceNames | undefined;
  private readonly rulesGone = new Map<number, Rule>();

  constructor(sources: NameSources) {
    const { allocator, policyEngine, endpointManager, log } = sources;
    this.nodeName = sources.nodeName;
    this.cluster = sources.cluster;
    this.services = sources.loadBalancer && new ServiceNames(sources.loadBalancer, log);
    this.identities = new Reflector(allocator.collection("identities", Identity), { log });
    this.ipcache = new Reflector(allocator.collection("ipcache", IpcacheEntry), { log });
    this.nodes = new Reflector(allocator.collection("nodes", Node), {
      log,
      onChange: () => this.indexNodes(),
    });
    this.rules = new Reflector(policyEngine.collection("rules", Rule), {
      log,
      onChange: (_, rule, previous) => {
        if (rule === undefined && previous !== undefined) this.rememberGone(previous);
      },
    });
    this.cidrs = new Reflector(policyEngine.collection("cidridentities", CidrIdentity), {
      log,
      onChange: (_, cidr, previous) => {
        if (previous) this.cidrLabels.delete(previous.identity);
        if (cidr) this.cidrLabels.set(cidr.identity, cidr.labels);
      },
    });
    this.endpoints = new Reflector(endpointManager.collection("endpoints", Endpoint), {
      log,
      onChange: (_, endpoint, previous) => {
        if (previous?.status) {
          this.addressesById.delete(previous.status.id);
          this.devices.delete(previous.status.ifindex);
        }
        if (!endpoint?.status) return;
        const { id, ipv4, ipv6, ifindex, hostDevice } = endpoint.status;
        this.addressesById.set(id, [ipv4, ipv6].filter((a) => a !== ""));
        if (ifindex !== 0) this.devices.set(ifindex, hostDevice);
      },
    });
  }

  private get all() {
    const always = [this.identities, this.ipcache, this.nodes, this.rules, this.cidrs, this.endpoints];
    return this.services ? [...always, this.services] : always;
  }

  start(): void {
    for (const reflector of this.all) reflector.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.all.map((reflector) => reflector.stop()));
  }

  /** What readiness waits for; empty when every copy is complete. */
  waitingFor(): string[] {
    const named: [string, Reflector<unknown>][] = [
      ["identities", this.identities as Reflector<unknown>],
      ["ipcache", this.ipcache as Reflector<unknown>],
      ["nodes", this.nodes as Reflector<unknown>],
      ["rules", this.rules as Reflector<unknown>],
      ["endpoints", this.endpoints as Reflector<unknown>],
    ];
    const waits = named.filter(([, reflector]) => !reflector.synced).map(([name]) => name);
    return this.services?.synced === false ? [...waits, "services"] : waits;
  }

  address(ip: string): KnownAddress | undefined {
    const entry = this.ipcache.get(ip + (ip.includes(":") ? "/128" : "/32"));
    if (entry) {
      return {
        identity: entry.identity,
        namespace: entry.namespace,
        podName: entry.podName || entry.endpoint.split("/").at(-1)!,
        labels: entry.labels,
      };
    }
    return this.nodeByAddress.get(ip);
  }

  identityLabels(identity: number): readonly string[] | undefined {
    return this.identities.get(`${identity}`)?.labels ?? this.cidrLabels.get(identity);
  }

  rule(cookie: number): Rule | undefined {
    return cookie === 0 ? undefined : this.rules.get(`${cookie}`) ?? this.rulesGone.get(cookie);
  }

  endpointAddresses(id: number): readonly string[] {
    return this.addressesById.get(id) ?? [];
  }

  interfaceName(ifindex: number): string {
    return this.devices.get(ifindex) ?? "";
  }

  service(id: number): ServiceName | undefined {
    return this.services?.get(id);
  }

  serviceAt(address: string, port: number, protocol: string): ServiceName | undefined {
    return this.services?.at(address, port, protocol);
  }

  private indexNodes(): void {
    this.nodeByAddress.clear();
    for (const node of this.nodes.list()) {
      const name = node.name === this.nodeName ? "host" : "remote-node";
      const known = {
        identity: name === "host" ? 1 : 6,
        namespace: "",
        podName: "",
        labels: [`reserved:${name}`],
      };
      for (const address of [node.ipv4, node.ipv6]) {
        if (address !== "") this.nodeByAddress.set(address, known);
      }
    }
  }

  private rememberGone(rule: Rule): void {
    this.rulesGone.set(rule.cookie, rule);
    if (this.rulesGone.size > RULES_GONE_MAX) this.rulesGone.delete(this.rulesGone.keys().next().value!);
  }
}

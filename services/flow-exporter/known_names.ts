/**
 * What the cluster knows by address, identity and cookie, as flows need it: local copies that follow their services.
 * While a service is away the names stay as they were.
 * @module
 */
import { Reflector, type WeirClient } from "@weir/client";
import { type Clock, COOKIE_MIN, failsafeRule, isFqdnIdentity, type Logger, systemClock } from "@weir/common";
import { Endpoint, FqdnIdentity, KnownName } from "@weir/proto/endpoint";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { CidrIdentity, Rule } from "@weir/proto/policy";
import type { KnownAddress, Names, ServiceName } from "./flow_builder.ts";
import { AgentEvents } from "./hubble/agent_events.ts";
import { Namespaces } from "./hubble/namespaces.ts";
import type { PodLifetimes, PodName } from "./metrics/pod_lifetimes.ts";
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
  /** Told which pods have addresses. */
  pods?: PodLifetimes;
  clock?: Clock;
  log?: Logger;
}

/** Rules that are remembered after they are gone, because flows of them still come. */
export const RULES_GONE_MAX = 4096;

/** Names for flows, from copies of what the services have. */
export class KnownNames implements Names {
  readonly nodeName: string;
  readonly cluster: string;
  /** What changed beside traffic, and which namespaces there are. */
  readonly events: AgentEvents;
  readonly namespaces: Namespaces;
  readonly #stopping = new AbortController();
  readonly #identities: Reflector<Identity>;
  readonly #ipcache: Reflector<IpcacheEntry>;
  readonly #nodes: Reflector<Node>;
  readonly #rules: Reflector<Rule>;
  readonly #cidrs: Reflector<CidrIdentity>;
  readonly #endpoints: Reflector<Endpoint>;
  readonly #dnsNames: Reflector<KnownName>;
  readonly #fqdnIdentities: Reflector<FqdnIdentity>;
  readonly #cidrLabels = new Map<number, readonly string[]>();
  /** Names of an address, by the number of the endpoint that knows it by them. */
  readonly #namesByAddress = new Map<string, Map<number, Set<string>>>();
  readonly #endpointsById = new Map<number, { addresses: string[]; known: KnownAddress }>();
  readonly #devices = new Map<number, string>();
  readonly #nodeByAddress = new Map<string, KnownAddress>();
  readonly #services: ServiceNames | undefined;
  readonly #rulesGone = new Map<number, Rule>();

  constructor(sources: NameSources) {
    const { allocator, policyEngine, endpointManager, log } = sources;
    this.nodeName = sources.nodeName;
    this.cluster = sources.cluster;
    const clock = sources.clock ?? systemClock, { signal } = this.#stopping;
    this.events = new AgentEvents({
      nowMs: () => clock.nowMs(),
      later: (ms, call) => void clock.sleep(ms, signal).then(() => signal.aborted || call()),
    });
    this.namespaces = new Namespaces(() => clock.nowMs());
    this.#services = sources.loadBalancer && new ServiceNames(sources.loadBalancer, log);
    this.#identities = new Reflector(allocator.collection("identities", Identity), { log });
    this.#ipcache = new Reflector(allocator.collection("ipcache", IpcacheEntry), {
      log,
      onChange: (_, entry, previous) => {
        this.namespaces.change(previous?.namespace, entry?.namespace);
        sources.pods?.change(previous && podOf(previous), entry && podOf(entry));
        this.events.address(entry, previous);
      },
    });
    this.#nodes = new Reflector(allocator.collection("nodes", Node), {
      log,
      onChange: () => this.#indexNodes(),
    });
    this.#rules = new Reflector(policyEngine.collection("rules", Rule), {
      log,
      onChange: (_, rule, previous) => {
        if (rule === undefined && previous !== undefined) this.#rememberGone(previous);
        this.events.rule(rule, previous);
      },
    });
    this.#cidrs = new Reflector(policyEngine.collection("cidridentities", CidrIdentity), {
      log,
      onChange: (_, cidr, previous) => {
        if (previous) this.#cidrLabels.delete(previous.identity);
        if (cidr) this.#cidrLabels.set(cidr.identity, cidr.labels);
      },
    });
    this.#dnsNames = new Reflector(endpointManager.collection("names", KnownName), {
      log,
      onChange: (_, known, previous) => this.#indexNames(known, previous),
    });
    this.#fqdnIdentities = new Reflector(endpointManager.collection("fqdnidentities", FqdnIdentity), { log });
    this.#endpoints = new Reflector(endpointManager.collection("endpoints", Endpoint), {
      log,
      onChange: (_, endpoint, previous) => {
        this.events.endpoint(endpoint, previous);
        if (previous?.status) {
          this.#endpointsById.delete(previous.status.id);
          this.#devices.delete(previous.status.ifindex);
        }
        if (!endpoint?.status) return;
        const { id, ipv4, ipv6, ifindex, hostDevice, identity, identityLabels } = endpoint.status;
        this.#endpointsById.set(id, {
          addresses: [ipv4, ipv6].filter((a) => a !== ""),
          known: {
            identity,
            namespace: endpoint.namespace,
            podName: endpoint.podName || endpoint.name.split("/").at(-1)!,
            labels: identityLabels,
          },
        });
        if (ifindex !== 0) this.#devices.set(ifindex, hostDevice);
      },
    });
  }

  get #all() {
    const cluster = [this.#identities, this.#ipcache, this.#nodes, this.#rules, this.#cidrs];
    const always = [...cluster, this.#endpoints, this.#dnsNames, this.#fqdnIdentities];
    return this.#services ? [...always, this.#services] : always;
  }

  start(): void {
    for (const reflector of this.#all) reflector.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#all.map((reflector) => reflector.stop()));
  }

  /** Every node of the cluster. */
  nodes(): Node[] {
    return this.#nodes.list();
  }

  /** What readiness waits for; empty when every copy is complete. */
  waitingFor(): string[] {
    const named: [string, Reflector<unknown>][] = [
      ["identities", this.#identities as Reflector<unknown>],
      ["ipcache", this.#ipcache as Reflector<unknown>],
      ["nodes", this.#nodes as Reflector<unknown>],
      ["rules", this.#rules as Reflector<unknown>],
      ["endpoints", this.#endpoints as Reflector<unknown>],
    ];
    const waits = named.filter(([, reflector]) => !reflector.synced).map(([name]) => name);
    return this.#services?.synced === false ? [...waits, "services"] : waits;
  }

  address(ip: string): KnownAddress | undefined {
    const entry = this.#ipcache.get(ip + (ip.includes(":") ? "/128" : "/32"));
    if (entry) return { identity: entry.identity, ...podOf(entry), labels: entry.labels };
    return this.#nodeByAddress.get(ip);
  }

  identityLabels(identity: number): readonly string[] | undefined {
    if (isFqdnIdentity(identity)) return this.#fqdnIdentities.get(`${identity}`)?.labels;
    return this.#identities.get(`${identity}`)?.labels ?? this.#cidrLabels.get(identity);
  }

  dnsNames(address: string, endpointId: number): readonly string[] {
    const names = this.#namesByAddress.get(address)?.get(endpointId);
    return names === undefined ? [] : [...names].sort();
  }

  rule(cookie: number): Rule | undefined {
    return cookie < COOKIE_MIN
      ? failsafeRule(cookie)
      : this.#rules.get(`${cookie}`) ?? this.#rulesGone.get(cookie);
  }

  endpointAddresses(id: number): readonly string[] {
    return this.#endpointsById.get(id)?.addresses ?? [];
  }

  endpoint(id: number): KnownAddress | undefined {
    return this.#endpointsById.get(id)?.known;
  }

  interfaceName(ifindex: number): string {
    return this.#devices.get(ifindex) ?? "";
  }

  service(id: number): ServiceName | undefined {
    return this.#services?.get(id);
  }

  serviceAt(address: string, port: number, protocol: string): ServiceName | undefined {
    return this.#services?.at(address, port, protocol);
  }

  #indexNames(known: KnownName | undefined, previous: KnownName | undefined): void {
    for (const [row, isThere] of [[previous, false], [known, true]] as const) {
      for (const { address } of row?.addresses ?? []) {
        const byEndpoint = this.#namesByAddress.get(address) ?? new Map<number, Set<string>>();
        const names = byEndpoint.get(row!.endpoint) ?? new Set<string>();
        if (isThere) names.add(row!.query);
        else names.delete(row!.query);
        if (names.size > 0) byEndpoint.set(row!.endpoint, names);
        else byEndpoint.delete(row!.endpoint);
        if (byEndpoint.size > 0) this.#namesByAddress.set(address, byEndpoint);
        else this.#namesByAddress.delete(address);
      }
    }
  }

  #indexNodes(): void {
    this.#nodeByAddress.clear();
    for (const node of this.#nodes.list()) {
      const name = node.name === this.nodeName ? "host" : "remote-node";
      const known = {
        identity: name === "host" ? 1 : 6,
        namespace: "",
        podName: "",
        labels: [`reserved:${name}`],
      };
      for (const address of [node.ipv4, node.ipv6]) {
        if (address !== "") this.#nodeByAddress.set(address, known);
      }
    }
  }

  #rememberGone(rule: Rule): void {
    this.#rulesGone.set(rule.cookie, rule);
    if (this.#rulesGone.size > RULES_GONE_MAX) this.#rulesGone.delete(this.#rulesGone.keys().next().value!);
  }
}

function podOf({ namespace, podName, endpoint }: IpcacheEntry): PodName {
  return { namespace, podName: podName || endpoint.split("/").at(-1)! };
}

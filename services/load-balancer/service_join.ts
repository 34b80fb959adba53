/**
 * The tables: services, slices, pods and what was given to them in; service ports, backends and services as people see
 * them out. One writer, in memory, pure of input and output; a change costs in proportion to what it touches.
 *
 *     setService  setAssignment  setSlice  setPod  setOverride  ──▶ entries, marked ──▶ flush() ──▶ three watched tables
 *
 * @module
 */
import { WatchedTable } from "@weir/common";
import {
  type Assignment,
  type Backend,
  type BackendOverride,
  type Pod,
  Service,
  type ServicePeers,
  type ServicePort,
} from "@weir/proto/loadbalancer";
import type { AssignmentTable } from "./assignment_table.ts";
import {
  candidateOfHostPort,
  type Candidates,
  candidatesOfPod,
  candidatesOfSlice,
  sameBackend,
} from "./backend_candidates.ts";
import { conditionsOf } from "./conditions.ts";
import { EXCLUDED_MAX, excludedPod } from "./excluded_pod.ts";
import { FrontendClaims } from "./frontend_claims.ts";
import { portKey, type ServiceSpec, type SliceSpec } from "./model.ts";
import { SelectorIndex } from "./selector_index.ts";
import {
  backendsDiffer,
  familyOfKey,
  PortEntry,
  ServiceEntry,
  type ServiceSource,
  SOURCE_POD,
  SOURCE_SLICE,
} from "./service_entry.ts";
import { servicePeersOf } from "./service_peers.ts";

/** Most backends in the table. */
export const BACKENDS_MAX = 1_000_000;
/** Changes that are held for watchers: one service may have thousands of backends. */
const HISTORY_MAX = 65_536;

/** Services, frontends and backends as tables, joined from every source. */
export class ServiceJoin {
  readonly services: WatchedTable<Service> = new WatchedTable({ name: "services", historyMax: HISTORY_MAX });
  /** What policies mean by services. */
  readonly peers: WatchedTable<ServicePeers> = new WatchedTable({ name: "servicepeers" });
  readonly servicePorts: WatchedTable<ServicePort> = new WatchedTable({
    name: "serviceports",
    historyMax: HISTORY_MAX,
  });
  readonly backends: WatchedTable<Backend> = new WatchedTable({
    name: "backends",
    historyMax: HISTORY_MAX,
    entriesMax: BACKENDS_MAX,
  });
  readonly #entries = new Map<string, ServiceEntry>();
  readonly #slices = new Map<string, SliceSpec>();
  readonly #pods = new Map<string, Pod>();
  readonly #index = new SelectorIndex();
  readonly #claims = new FrontendClaims();
  readonly #assignments: AssignmentTable;
  /** Entries whose frontends, and whose backends or conditions, are to be looked at again. */
  readonly #frontendsDirty = new Set<string>();
  readonly #dirty = new Set<string>();
  /** Backends that may have changed, by port and "address/port". */
  readonly #backendsDirty = new Map<PortEntry, { entry: ServiceEntry; keys: Set<string> }>();
  /** Names of backends whose port is gone. */
  readonly #backendsGone = new Set<string>();
  readonly #portsGone = new Set<string>();
  /** Services without the address of a pool that they want. */
  readonly #waiting = new Set<string>();
  /** Table sizes that grew and are not stored yet: service -> port -> size. */
  readonly #grown = new Map<string, Map<string, number>>();

  constructor(assignments: AssignmentTable) {
    this.#assignments = assignments;
  }

  /** The service as the tables keep it. */
  entry(name: string): ServiceEntry | undefined {
    return this.#entries.get(name);
  }
  entries(): Iterable<ServiceEntry> {
    return this.#entries.values();
  }
  pod(name: string): Pod | undefined {
    return this.#pods.get(name);
  }
  sliceNames(): string[] {
    return [...this.#slices.keys()];
  }
  podNames(): string[] {
    return [...this.#pods.keys()];
  }

  /** Puts or (undefined) deletes a service. */
  setService(name: string, source: ServiceSource | undefined): void {
    const entry = this.#entryOf(name);
    const before = entry.spec;
    entry.source = source;
    const spec = source?.spec;
    if (!source?.hostPorts) this.#index.setService(name, spec?.namespace ?? "", spec?.selector);
    this.#reshape(entry, backendsDiffer(before, spec));
  }

  /** Puts or (undefined) deletes what a service was given. */
  setAssignment(name: string, assignment: Assignment | undefined): void {
    const entry = this.#entryOf(name);
    const families = entry.families.join();
    entry.assignment = assignment;
    this.#reshape(entry, families !== entry.families.join());
  }

  /** Puts or (undefined) deletes a slice; the name is "KIND/NAMESPACE/NAME". */
  setSlice(name: string, slice: SliceSpec | undefined): void {
    const before = this.#slices.get(name);
    const serviceOf = (one: SliceSpec | undefined) =>
      one === undefined || one.service === "" ? undefined : `${one.namespace}/${one.service}`;
    if (slice === undefined) this.#slices.delete(name);
    else this.#slices.set(name, slice);
    for (const service of new Set([serviceOf(before), serviceOf(slice)])) {
      if (service === undefined) continue;
      const entry = this.#entryOf(service);
      const hadSlices = this.#hasEndpointSlices(entry);
      if (service === serviceOf(slice)) entry.slices.add(name);
      else entry.slices.delete(name);
      this.#dirty.add(service);
      // Endpoints count only where there are no slices: where there are, they say the same, later.
      if (hadSlices !== this.#hasEndpointSlices(entry)) this.#regather(entry);
      else this.#give(entry, SOURCE_SLICE + name, this.#candidatesOf(entry, name));
      this.#sweep(entry);
    }
  }

  /** Puts or (undefined) deletes a pod. */
  setPod(name: string, pod: Pod | undefined): void {
    const before = this.#pods.get(name);
    const services = new Set<string>();
    if (before) {
      for (const one of this.#index.servicesFor(before.namespace, before.labels)) services.add(one);
    }
    if (pod) { for (const one of this.#index.servicesFor(pod.namespace, pod.labels)) services.add(one); }
    this.#index.setPod(name, pod?.namespace ?? "", pod?.labels);
    if (pod) this.#pods.set(name, pod);
    else this.#pods.delete(name);
    for (const service of services) {
      const entry = this.#entries.get(service)!;
      const meant = pod !== undefined && entry.spec !== undefined && selects(entry.spec, pod);
      this.#givePod(entry, name, meant ? pod : undefined);
    }
    const own = this.#entries.get(hostPortName(name));
    if (own) this.#regather(own);
  }

  /** Puts or (undefined) deletes what a person says of one backend address of a service. */
  setOverride(service: string, address: string, override: BackendOverride | undefined): void {
    const entry = this.#entryOf(service);
    if (override) entry.overrides.set(address, override);
    else entry.overrides.delete(address);
    for (const port of entry.ports.values()) {
      for (const key of port.backends.keys()) {
        if (key.slice(0, key.lastIndexOf("/")) === address) this.#markBackend(entry, port, key);
      }
    }
    this.#sweep(entry);
  }

  /** Looks again at what is said of services that wait for an address of a pool. */
  recheckPools(): void {
    for (const name of this.#waiting) this.#dirty.add(name);
  }

  /** Brings the three tables up to date: new ports, then backends, then what is gone. */
  flush(): void {
    this.#claimFrontends();
    for (const { entry } of this.#backendsDirty.values()) this.#dirty.add(entry.name);
    for (const name of this.#dirty) this.#countActive(this.#entries.get(name));
    for (const name of this.#dirty) this.#publishPorts(this.#entries.get(name));
    for (const [port, { entry, keys }] of this.#backendsDirty) {
      if (port.published === undefined) continue;
      for (const key of keys) this.#publishBackend(entry, port, key);
    }
    for (const name of this.#backendsGone) this.backends.delete(name);
    for (const name of this.#portsGone) this.servicePorts.delete(name);
    for (const name of this.#dirty) this.#publishService(name);
    this.#backendsDirty.clear();
    this.#backendsGone.clear();
    this.#portsGone.clear();
    this.#dirty.clear();
  }

  /** Table sizes that grew since the last call. */
  takeGrown(): Map<string, Map<string, number>> {
    const grown = new Map(this.#grown);
    this.#grown.clear();
    return grown;
  }

  #entryOf(name: string): ServiceEntry {
    let entry = this.#entries.get(name);
    if (entry === undefined) this.#entries.set(name, entry = new ServiceEntry(name));
    return entry;
  }

  /** Forgets an entry about which nothing is known any more. */
  #sweep(entry: ServiceEntry): void {
    const empty = entry.source === undefined && entry.assignment === undefined && entry.slices.size === 0 &&
      entry.overrides.size === 0;
    if (!empty) return;
    this.#frontendsDirty.delete(entry.name);
    this.#claims.set({ owner: entry.name, createdUnixS: 0 }, []).forEach((name) =>
      this.#frontendsDirty.add(name)
    );
    this.#dirty.add(entry.name);
    this.#entries.delete(entry.name);
  }

  /** Makes the entry's ports those of its spec and assignment; `regather`: its backends may be others now. */
  #reshape(entry: ServiceEntry, regather: boolean): void {
    this.#frontendsDirty.add(entry.name);
    this.#dirty.add(entry.name);
    const specs = new Map(
      (entry.ignored === "" ? entry.spec?.ports ?? [] : []).map((port) => [portKey(port), port]),
    );
    const ids = new Map((entry.assignment?.ports ?? []).map((port) => [port.key, port]));
    for (const [key, port] of entry.ports) {
      if (specs.has(key) && ids.get(key)?.id === port.id) continue;
      this.#removePort(port);
      entry.ports.delete(key);
    }
    for (const [key, spec] of specs) {
      const given = ids.get(key);
      if (given === undefined) continue;
      const port = entry.ports.get(key) ?? new PortEntry(spec, given.id);
      port.spec = spec;
      port.tableSize = Math.max(port.tableSize, given.tableSize);
      if (!entry.ports.has(key)) regather = true;
      entry.ports.set(key, port);
    }
    if (regather) this.#regather(entry);
    this.#sweep(entry);
  }

  #removePort(port: PortEntry): void {
    // Those that were taken out a moment ago are published still.
    for (const key of this.#backendsDirty.get(port)?.keys ?? []) this.#backendsGone.add(`${port.id}/${key}`);
    this.#backendsDirty.delete(port);
    for (const key of port.backends.keys()) this.#backendsGone.add(`${port.id}/${key}`);
    if (port.published) this.#portsGone.add(String(port.id));
    port.published = undefined;
  }

  /** Asks every source of the entry again. */
  #regather(entry: ServiceEntry): void {
    const wanted = new Map<string, Candidates | undefined>();
    entry.excluded.clear();
    for (const source of entry.given.keys()) wanted.set(source, undefined);
    const { spec } = entry;
    if (spec !== undefined && entry.ports.size > 0) {
      for (const name of entry.slices) wanted.set(SOURCE_SLICE + name, this.#candidatesOf(entry, name));
      const context = { spec, families: entry.families };
      if (entry.source?.hostPorts) {
        const pod = this.#pods.get(`${spec.namespace}/${spec.name}`);
        const found: Candidates = new Map();
        for (const port of spec.ports) {
          if (pod) found.set(portKey(port), candidateOfHostPort(pod, port.targetPort as number));
        }
        wanted.set(SOURCE_POD + spec.name, found);
      } else if (spec.selector) {
        for (const name of this.#index.podsFor(spec.namespace, spec.selector)) {
          const pod = this.#pods.get(name)!, candidates = candidatesOfPod(pod, context);
          wanted.set(SOURCE_POD + name, candidates);
          const excluded = excludedPod(pod, spec, candidates);
          if (excluded !== undefined) entry.excluded.set(name, excluded);
        }
      }
    }
    for (const [source, candidates] of wanted) this.#give(entry, source, candidates);
  }

  /** Makes the entry's backends of a pod, and why it is none, what they are now; undefined: it means no such pod. */
  #givePod(entry: ServiceEntry, name: string, pod: Pod | undefined): void {
    const { spec, families } = entry;
    const candidates = pod && candidatesOfPod(pod, { spec: spec!, families });
    this.#give(entry, SOURCE_POD + name, candidates);
    const before = entry.excluded.get(name);
    const excluded = candidates && excludedPod(pod!, spec!, candidates);
    if (excluded === undefined) entry.excluded.delete(name);
    else entry.excluded.set(name, excluded);
    if (before?.reason !== excluded?.reason || before?.node !== excluded?.node) this.#dirty.add(entry.name);
  }

  #hasEndpointSlices(entry: ServiceEntry): boolean {
    for (const name of entry.slices) if (name.startsWith("EndpointSlice/")) return true;
    return false;
  }

  #candidatesOf(entry: ServiceEntry, name: string): Candidates | undefined {
    const slice = this.#slices.get(name);
    if (slice === undefined || entry.spec === undefined || !entry.slices.has(name)) return undefined;
    if (slice.kind === "Endpoints" && this.#hasEndpointSlices(entry)) return undefined;
    return candidatesOfSlice(slice, { spec: entry.spec, families: entry.families });
  }

  /** Makes `candidates` all that a source gives to the entry. */
  #give(entry: ServiceEntry, source: string, candidates: Candidates | undefined): void {
    const before = entry.given.get(source);
    if (before === undefined && candidates === undefined) return;
    if (candidates === undefined) entry.given.delete(source);
    else entry.given.set(source, candidates);
    for (const [key, port] of entry.ports) {
      const after = new Map((candidates?.get(key) ?? []).map((one) => [`${one.address}/${one.port}`, one]));
      for (const old of before?.get(key) ?? []) {
        const name = `${old.address}/${old.port}`;
        if (after.has(name)) continue;
        const named = port.backends.get(name);
        if (!named?.delete(source)) continue;
        if (named.size === 0) {
          port.backends.delete(name);
          port.count[familyOfKey(name)].all--;
        }
        this.#markBackend(entry, port, name);
      }
      for (const [name, one] of after) {
        let named = port.backends.get(name);
        if (named === undefined) {
          port.backends.set(name, named = new Map());
          port.count[familyOfKey(name)].all++;
        } else if (sameBackend(named.get(source), one)) continue;
        named.set(source, one);
        this.#markBackend(entry, port, name);
      }
    }
  }

  #markBackend(entry: ServiceEntry, port: PortEntry, key: string): void {
    const marked = this.#backendsDirty.get(port);
    if (marked) marked.keys.add(key);
    else this.#backendsDirty.set(port, { entry, keys: new Set([key]) });
  }

  /** Claims what changed entries ask for; who gains or loses by it is looked at as well. */
  #claimFrontends(): void {
    for (const name of this.#frontendsDirty) {
      const entry = this.#entries.get(name);
      this.#dirty.add(name);
      if (entry === undefined) continue;
      const claims = [...entry.ports.values()].flatMap((port) => entry.wantedFrontends(port.spec))
        .map(({ claim }) => claim);
      const claimant = { owner: name, createdUnixS: entry.source?.createdUnixS ?? 0 };
      for (const other of this.#claims.set(claimant, claims)) this.#dirty.add(other);
    }
    this.#frontendsDirty.clear();
  }

  /** Active backends of the ports that changed: by what changed, so a service of thousands costs no more. */
  #countActive(entry: ServiceEntry | undefined): void {
    for (const port of entry?.ports.values() ?? []) {
      const marked = this.#backendsDirty.get(port);
      if (marked === undefined) continue;
      for (const key of marked.keys) {
        const before = this.backends.get(`${port.id}/${key}`)?.state === "ACTIVE";
        const after = entry!.backend(port, key)?.state === "ACTIVE";
        // A port that nobody was told of has published no backend, whatever an earlier port of its id had.
        const count = port.count[familyOfKey(key)];
        count.active += Number(after) - Number(port.published !== undefined && before);
      }
    }
  }

  #publishPorts(entry: ServiceEntry | undefined): void {
    for (const port of entry?.ports.values() ?? []) {
      const frontends = entry!.wantedFrontends(port.spec)
        .filter(({ claim }) => this.#claims.holder(claim)?.owner === entry!.name)
        .map(({ frontend, claim }) => ({ ...frontend, closed: this.#claims.isClosing(claim) }));
      const sizeBefore = port.tableSize;
      const next = entry!.servicePort(port, frontends, this.#assignments.config);
      if (port.tableSize !== sizeBefore) this.#grow(entry!.name, portKey(port.spec), port.tableSize);
      this.#portsGone.delete(next.name);
      if (port.published !== undefined && same(port.published, next)) continue;
      port.published = next;
      this.servicePorts.put(next.name, next);
    }
  }

  #grow(service: string, port: string, size: number): void {
    const sizes = this.#grown.get(service) ?? new Map<string, number>();
    sizes.set(port, size);
    this.#grown.set(service, sizes);
  }

  #publishBackend(entry: ServiceEntry, port: PortEntry, key: string): void {
    const name = `${port.id}/${key}`;
    this.#backendsGone.delete(name);
    const next = entry.backend(port, key);
    if (next === undefined) this.backends.delete(name);
    else if (!sameBackend(this.backends.get(name), next)) this.backends.put(name, next);
  }

  #publishService(name: string): void {
    const entry = this.#entries.get(name);
    const source = entry?.source;
    this.#waiting.delete(name);
    const peers = entry && servicePeersOf(entry, this.#slices);
    if (peers === undefined) this.peers.delete(name);
    else if (!same(this.peers.get(name), peers)) this.peers.put(name, peers);
    if (entry === undefined || source === undefined) return void this.services.delete(name);
    const { spec } = source;
    const ports = [...entry.ports.values()];
    const external = ports.flatMap((port) => port.published?.frontends ?? [])
      .filter(({ kind }) => kind === "EXTERNAL_IP" || kind === "LOAD_BALANCER").map(({ address }) => address);
    const next = Service.create({
      name,
      namespace: spec.namespace,
      serviceName: spec.name,
      type: source.hostPorts ? "HostPort" : spec.type,
      clusterIps: entry.assignment?.clusterIps ?? [],
      externalIps: [...new Set(external)],
      ports: ports.flatMap((port) => port.published ?? []),
      backends: Math.max(0, ...ports.map((port) => port.all)),
      activeBackends: Math.max(0, ...ports.map((port) => port.active)),
      ignored: entry.ignored,
      conditions: conditionsOf(entry, this.#claims, this.#assignments, this.#slices),
      manifest: source.manifest,
      file: source.file,
      line: source.line,
      createdUnixS: source.createdUnixS,
      excluded: [...entry.excluded.values()].slice(0, EXCLUDED_MAX),
      excludedPods: entry.excluded.size,
      externalName: spec.externalName,
    });
    if (next.conditions.some(({ type, ok }) => type === "AddressPool" && !ok)) this.#waiting.add(name);
    if (!same(this.services.get(name), next)) this.services.put(name, next);
  }
}

/** Name of the entry that stands for the host ports of a pod "NAMESPACE/NAME". */
export function hostPortName(pod: string): string {
  return `hostport:${pod}`;
}

function selects({ namespace, selector }: ServiceSpec, pod: Pod): boolean {
  if (selector === undefined || namespace !== pod.namespace) return false;
  return Object.entries(selector).every(([key, value]) => pod.labels[key] === value);
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

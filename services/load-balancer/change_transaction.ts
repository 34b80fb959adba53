/**
 * One change of what is stored: objects, and what they are given. Numbers are taken in memory at once and given back by
 * `undo()` when the transaction fails.
 * @module
 */
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { type Clock, unixSeconds, type WatchedTable } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import {
  type AddressPool,
  type Assignment,
  type BackendOverride,
  type Pod,
  Source,
} from "@weir/proto/loadbalancer";
import type { PoolTable } from "./address_pool.ts";
import type { AssignmentTable } from "./assignment_table.ts";
import { hostPortsOf } from "./host_port.ts";
import type { LbObject } from "./manifest.ts";
import { portKey, type ServiceSpec, SPEC_VERSION } from "./model.ts";
import { ASSIGNMENTS, claimsOf, OVERRIDES, PODS, POOLS, SOURCES, writeClaims } from "./schema.ts";
import type { ServiceAssigner } from "./service_assigner.ts";
import { hostPortName, type ServiceJoin } from "./service_join.ts";

/** Whether the API server has given the object what there is to give. */
function isOfKubernetes(file: string | undefined): boolean {
  return file?.startsWith(KUBERNETES_FILE_MARK) === true;
}

/** What the change reads and takes from. */
export interface ChangeParts {
  sources: WatchedTable<Source>;
  pools: PoolTable;
  assignments: AssignmentTable;
  assigner: ServiceAssigner;
  tables: ServiceJoin;
  clock: Clock;
}

/** Where an object came from. */
export interface Origin {
  file: string;
  /** "api", or a manifest directory. */
  origin: string;
}

/** One change of what is stored. */
export class ChangeTransaction {
  readonly #parts: ChangeParts;
  readonly #undo: (() => void)[] = [];
  /** Services of this change, with their new spec; undefined: deleted. */
  readonly #specs = new Map<string, ServiceSpec | undefined>();
  /** Services of this change that the API server gave their node ports. */
  readonly #ofKubernetes = new Set<string>();
  #poolsChanged = false;
  #addressesFreed = false;

  constructor(readonly tx: StoreTransaction, parts: ChangeParts) {
    this.#parts = parts;
  }

  /** Puts an object as it was read; answers what that changed. */
  async putObject(object: LbObject, origin: Origin): Promise<"created" | "configured" | "unchanged"> {
    const { sources, clock } = this.#parts;
    if (object.kind === "ignored") return "unchanged";
    if (object.kind === "AddressPool") {
      return await this.putPool({ ...object.spec, ...origin, manifest: object.manifest });
    }
    const name = `${object.kind}/${object.name}`;
    const before = sources.get(name);
    const spec = JSON.stringify(object.spec);
    const same = before?.manifest === object.manifest && before.spec === spec;
    if (
      same && before.file === origin.file && before.line === object.line && before.origin === origin.origin
    ) {
      return "unchanged";
    }
    const slash = object.name.indexOf("/");
    await this.tx.put<Source>(
      SOURCES,
      name,
      Source.create({
        name,
        kind: object.kind,
        namespace: object.name.slice(0, slash),
        objectName: object.name.slice(slash + 1),
        manifest: object.manifest,
        file: origin.file,
        line: object.line,
        spec,
        specVersion: SPEC_VERSION,
        createdUnixS: before?.createdUnixS ?? unixSeconds(clock),
        origin: origin.origin,
      }),
    );
    if (object.kind === "Service") {
      this.#specs.set(object.name, object.spec);
      if (isOfKubernetes(origin.file)) this.#ofKubernetes.add(object.name);
      await this.#assign(object.name, object.spec);
    }
    return before === undefined ? "created" : same ? "unchanged" : "configured";
  }

  /** Deletes a Service, EndpointSlice or Endpoints; false when there was none. */
  async deleteObject(kind: LbObject["kind"], name: string): Promise<boolean> {
    if (kind === "AddressPool") return await this.deletePool(name);
    const existed = await this.tx.delete(SOURCES, `${kind}/${name}`);
    if (existed && kind === "Service") {
      this.#specs.set(name, undefined);
      await this.#store(name, undefined, undefined);
    }
    return existed;
  }

  async putPool(
    pool: Partial<AddressPool> & { name: string; ranges: string[]; serviceSelector: string[] },
  ): Promise<"created" | "configured" | "unchanged"> {
    const { pools, clock } = this.#parts;
    const before = pools.messages().find((one) => one.name === pool.name);
    const next: AddressPool = {
      name: pool.name,
      ranges: pool.ranges,
      serviceSelector: pool.serviceSelector,
      disabled: pool.disabled ?? false,
      status: undefined,
      manifest: pool.manifest ?? "",
      origin: pool.origin ?? "",
      file: pool.file ?? "",
      createdUnixS: before?.createdUnixS ?? unixSeconds(clock),
    } as AddressPool;
    if (before !== undefined && JSON.stringify({ ...before, status: undefined }) === JSON.stringify(next)) {
      return "unchanged";
    }
    await this.tx.put(POOLS, pool.name, next);
    this.#setPool(pool.name, next, before);
    return before === undefined ? "created" : "configured";
  }

  async deletePool(name: string): Promise<boolean> {
    const before = this.#parts.pools.messages().find((one) => one.name === name);
    if (!await this.tx.delete(POOLS, name)) return false;
    this.#setPool(name, undefined, before);
    return true;
  }

  async putPod(pod: Pod): Promise<void> {
    await this.tx.put(PODS, pod.name, pod);
    await this.#assignHostPorts(pod.name, hostPortsOf(pod).map(portKey));
  }

  async deletePod(name: string): Promise<boolean> {
    if (!await this.tx.delete(PODS, name)) return false;
    await this.#assignHostPorts(name, []);
    return true;
  }

  async putOverride(override: BackendOverride): Promise<void> {
    await this.tx.put(OVERRIDES, override.name, override);
  }
  async deleteOverride(name: string): Promise<boolean> {
    return await this.tx.delete(OVERRIDES, name);
  }

  /** Keeps the sizes of tables that grew. */
  async storeTableSizes(grown: ReadonlyMap<string, ReadonlyMap<string, number>>): Promise<void> {
    for (const [name, sizes] of grown) {
      const { assignments } = this.#parts;
      const before = assignments.get(name);
      if (before === undefined) continue;
      const ports = before.ports.map((port) => ({
        ...port,
        tableSize: Math.max(port.tableSize, sizes.get(port.key) ?? 0),
      }));
      await this.#store(name, { ...before, ports }, assignments.specOf(name));
    }
  }

  /** Last step: addresses that were freed, or pools that changed, go to the services that wait. */
  async finish(): Promise<void> {
    if (!this.#poolsChanged && !this.#addressesFreed) return;
    const { tables, assigner } = this.#parts;
    const waiting = [...tables.entries()].filter(({ name, spec }) =>
      spec?.type === "LoadBalancer" && !this.#specs.has(name)
    ).sort((a, b) => a.source!.createdUnixS - b.source!.createdUnixS)
      .map(({ name, spec }): [string, ServiceSpec] => [name, spec!]);
    for (const [name, spec] of this.#specs) if (spec?.type === "LoadBalancer") waiting.push([name, spec]);
    for (const [name, spec] of waiting) {
      if (this.#poolsChanged || assigner.couldGetMore(name, spec)) await this.#assign(name, spec);
    }
  }

  /** Gives back what was taken in memory. */
  undo(): void {
    for (const step of this.#undo.reverse()) step();
    this.#undo.length = 0;
  }

  #setPool(name: string, next: AddressPool | undefined, before: AddressPool | undefined): void {
    const { pools } = this.#parts;
    this.#undo.push(() => pools.set(name, before));
    pools.set(name, next);
    this.#poolsChanged = true;
  }

  async #assign(name: string, spec: ServiceSpec): Promise<void> {
    const { assigner } = this.#parts;
    const before = this.#remember(name);
    const anyNodePort = this.#ofKubernetes.has(name) ||
      (!this.#specs.has(name) && isOfKubernetes(this.#parts.tables.entry(name)?.source?.file));
    await this.#write(name, before, assigner.assign(name, spec, { anyNodePort }), spec);
  }

  async #assignHostPorts(pod: string, keys: string[]): Promise<void> {
    const { assignments, assigner } = this.#parts;
    const name = hostPortName(pod);
    if (keys.length === 0 && assignments.get(name) === undefined) return;
    const before = this.#remember(name);
    await this.#write(name, before, assigner.assignHostPorts(name, keys), undefined);
  }

  async #store(
    name: string,
    assignment: Assignment | undefined,
    spec: ServiceSpec | undefined,
  ): Promise<void> {
    const before = this.#remember(name);
    this.#parts.assignments.set(name, assignment, spec);
    await this.#write(name, before, assignment, spec);
  }

  #remember(name: string): { assignment: Assignment | undefined; spec: ServiceSpec | undefined } {
    const { assignments } = this.#parts;
    const assignment = assignments.get(name), spec = assignments.specOf(name);
    this.#undo.push(() => assignments.set(name, assignment, spec));
    return { assignment, spec };
  }

  async #write(
    name: string,
    before: { assignment: Assignment | undefined; spec: ServiceSpec | undefined },
    after: Assignment | undefined,
    spec: ServiceSpec | undefined,
  ): Promise<void> {
    const had = before.assignment;
    await writeClaims(this.tx, name, claimsOf(had, before.spec), claimsOf(after, spec));
    if (JSON.stringify(had) === JSON.stringify(after)) return;
    if (after === undefined) await this.tx.delete(ASSIGNMENTS, name);
    else await this.tx.put(ASSIGNMENTS, name, after);
    this.#addressesFreed ||= (had?.loadBalancerIps ?? []).some((one) =>
      !after?.loadBalancerIps.includes(one)
    );
  }
}

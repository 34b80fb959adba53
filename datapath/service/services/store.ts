/**
 * Services in the kernel. What changed is worked out per service, and written in an order in which every packet finds a
 * whole choice:
 *
 *     backends' records ─▶ source ranges ─▶ selections ─▶ frontends ─▶ frontends that go ─▶ ranges that go
 *       ─▶ (nobody can be looking any more) ─▶ records of backends that go, slots that go
 *
 * What does not fit is left out before anything of it is written, named, and tried again. A write that fails leaves a
 * state like that of a process that was killed there: the kernel is read anew, and the services are done again.
 *
 * @module
 */
import { errorText, ProblemError } from "@weir/common";
import { FrontendKey } from "@weir/maps";
import type { ObjectError } from "@weir/proto/common";
import { DatapathBackend, DatapathService, ServicesUpdateResponse } from "@weir/proto/datapath";
import type { ServicesUpdate } from "@weir/proto/datapath";
import { unmapped } from "../kernel/addresses.ts";
import { BackendTable } from "./backend_table.ts";
import { FrontendTable } from "./frontend_table.ts";
import { MapWrites } from "../kernel/map_writes.ts";
import type { ServiceMaps } from "../kernel/service_maps.ts";
import { SelectionTable } from "./selection_table.ts";
import { ServiceChanges } from "./changes.ts";
import { wantedBackend, type WantedService, wantedService } from "./image.ts";
import { type HeldService, ServicePlanner, type Slots } from "./planner.ts";
import { SourceRangeTable } from "./source_range_table.ts";

/** Services that could not be realized are tried again this much later, or when something changes. */
const RETRY_MS = 5000;

/** Services in the kernel. */
export class ServiceStore implements Disposable {
  readonly writes = new MapWrites();
  readonly #held = new Map<number, HeldService>();
  /** Services with something that could not be had. */
  readonly #waiting = new Set<number>();
  #retryAtMs = 0;
  /** Backends that were given up since this process began. */
  retired = 0;
  /** Services that had affinity and have it no more. */
  affinitiesEnded = 0;
  /** A write failed: what the kernel has is no longer known. */
  #stale = false;
  /** Services of the process before that were asked for again. */
  adopted = 0;
  frontends!: FrontendTable;
  backends!: BackendTable;
  selections!: SelectionTable;
  ranges!: SourceRangeTable;
  readonly #maps: ServiceMaps;
  readonly #clock: { nowMs(): number; monotonicMs(): number };

  constructor(
    maps: ServiceMaps,
    clock: { nowMs(): number; monotonicMs(): number },
  ) {
    this.#maps = maps;
    this.#clock = clock;
    this.#readKernel();
  }

  [Symbol.dispose](): void {
    this.selections[Symbol.dispose]();
  }

  get size(): number {
    return this.#held.size;
  }
  services(): IterableIterator<HeldService> {
    return this.#held.values();
  }
  get(id: number): HeldService | undefined {
    return this.#held.get(id);
  }
  nameOf(id: number): string {
    return this.#held.get(id)?.wanted.name ?? "";
  }
  errors(): ObjectError[] {
    return [...this.#held.values()].flatMap(({ error }) => error === undefined ? [] : [error]);
  }
  /** Services of the process before that nobody asked for yet. */
  leftovers(): number[] {
    return [...new Set([...this.frontends.unadopted, ...this.backends.unadopted, ...this.ranges.services])]
      .filter((id) => !this.#held.has(id));
  }

  /** Applies an update. Repeatable. @throws {ProblemError} for what is no service or backend; nothing is changed then */
  apply(update: ServicesUpdate): ServicesUpdateResponse {
    const started = performance.now(), writesBefore = this.writes.count;
    if (this.#stale) this.#recover();
    const { services, backends } = this.#read(update);
    const dirty = new Set<number>(), removed = new Map<number, HeldService>();
    const remove = (id: number) => {
      const held = this.#held.get(id);
      if (held === undefined) return;
      removed.set(id, held);
      if (held.wanted.affinityTimeout > 0) this.affinitiesEnded++;
      this.#held.delete(id);
      this.#waiting.delete(id);
    };
    const strays = new Set(update.deletedServices.some((id) => !this.#held.has(id)) ? this.leftovers() : []);
    update.deletedServices.forEach(remove);
    if (update.replace) {
      const named = new Set(services.map(({ wanted }) => wanted.id));
      for (const id of [...this.#held.keys()]) if (!named.has(id)) remove(id);
      for (const { wanted } of services) this.#held.get(wanted.id)?.backends.clear();
    }
    for (const { given, wanted } of services) {
      const before = this.#held.get(wanted.id)?.wanted.affinityTimeout ?? 0;
      if (before > 0 && wanted.affinityTimeout === 0) this.affinitiesEnded++;
      const { id } = wanted, again = removed.get(id);
      again?.backends.clear();
      const held = this.#held.get(id) ?? again;
      if (held === undefined && this.frontends.finds(id)) this.adopted++;
      this.#held.set(
        id,
        held === undefined ? this.#adopt(given, wanted) : Object.assign(held, { given, wanted }),
      );
      removed.delete(id);
      dirty.add(wanted.id);
    }
    for (const { service, address, port } of update.deletedBackends) {
      const { text } = wantedBackend(DatapathBackend.create({ service, address, port }));
      if (this.#held.get(service)?.backends.delete(text)) dirty.add(service);
    }
    for (const backend of backends) {
      this.#held.get(backend.service)!.backends.set(backend.text, backend);
      dirty.add(backend.service);
    }
    // Only what goes makes room; else who waits is tried again by the clock.
    const makesRoom = update.replace || update.deletedServices.length + update.deletedBackends.length > 0;
    if (makesRoom) { for (const id of this.#waiting) dirty.add(id); }
    const gone = update.replace ? this.leftovers() : update.deletedServices.filter((id) => strays.has(id));
    this.#realize(dirty, [...removed.values()], gone.filter((id) => !this.#held.has(id) && !removed.has(id)));
    const failed = [...dirty].filter((id) => this.#held.get(id)?.error !== undefined);
    return ServicesUpdateResponse.create({
      services: this.#held.size,
      frontends: this.frontends.size,
      backends: this.backends.size,
      mapWrites: this.writes.count - writesBefore,
      timeUs: (performance.now() - started) * 1000,
      errors: failed.map((id) => this.#held.get(id)!.error!),
      failedServices: failed,
    });
  }

  /** To be called now and then: frees ids that rested, and tries again what could not be had. */
  tick(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#stale) this.#recover();
    this.backends.clearRested(nowMs);
    if (this.#waiting.size === 0 || nowMs < this.#retryAtMs) return;
    this.#realize(new Set(this.#waiting), [], []);
  }

  /** Removes what the process before left and nobody asked for. @returns how many services */
  sweep(): number {
    if (this.#stale) this.#recover();
    const leftovers = this.leftovers();
    if (leftovers.length > 0) this.#realize(new Set(), [], leftovers);
    return leftovers.length;
  }

  #read(update: ServicesUpdate) {
    const services = update.services.map((given) => ({ given, wanted: wantedService(given) }));
    const backends = update.backends.map(wantedBackend);
    const named = new Set(services.map(({ wanted }) => wanted.id)), deleted = new Set(update.deletedServices);
    for (const { service, text } of backends) {
      if (named.has(service) || (!update.replace && this.#held.has(service) && !deleted.has(service))) {
        continue;
      }
      throw new ProblemError("SERVICE_UNKNOWN", {
        status: 422,
        detail: `Cannot update backend ${text}: there is no service with id ${service}; nothing was changed`,
        found: String(service),
        expected: "the id of a service in this update or before",
      });
    }
    for (const { service, address, port } of update.deletedBackends) {
      wantedBackend(DatapathBackend.create({ service, address, port }));
    }
    return { services, backends };
  }

  #readKernel(): void {
    this.selections?.[Symbol.dispose]();
    this.frontends = new FrontendTable(this.#maps, this.writes);
    this.backends = new BackendTable(this.#maps.backends, this.writes, this.#clock.monotonicMs());
    // The map of backends was made anew (another layout): ids in old selections would soon be somebody else's.
    if (this.backends.size + this.backends.resting === 0) this.frontends.clearSlots();
    this.selections = new SelectionTable(this.#maps.selections, this.writes, this.frontends.slots);
    this.ranges = new SourceRangeTable(this.#maps.sourceRanges, this.writes);
  }

  /** A service with what the kernel has of it already. */
  #adopt(given: DatapathService, wanted: WantedService): HeldService {
    const frontends = this.frontends.adopt(wanted.id);
    const slots: Slots = [[0, 0], [0, 0]];
    for (const key of frontends) {
      const { selections: [internal, external] } = this.frontends.get(key)!;
      // Frontends that are not for the outside have no slot for it; the others of a family have the same.
      const family = slots[isV4(key) ? 0 : 1];
      family[0] ||= internal;
      family[1] ||= external;
    }
    return {
      given,
      wanted,
      backends: new Map(),
      frontends: new Set(frontends),
      ids: this.backends.adopt(wanted.id),
      slots,
      claims: new Set(frontends),
      tables: new Map(),
    };
  }

  #realize(dirty: Set<number>, removed: readonly HeldService[], leftovers: readonly number[]): void {
    try {
      const changes = new ServiceChanges();
      const planner = new ServicePlanner(this, changes, dirty, this.#held);
      for (const held of removed) planner.remove(held);
      for (const id of leftovers) planner.remove(this.#adopt(NOBODY, { ...wantedService(NOBODY), id }));
      const refused = new Map<HeldService, string[]>();
      // Planning one service may free what another waits for: the set grows while it is walked.
      for (const ids of [dirty, planner.again]) {
        for (const id of ids) {
          const held = this.#held.get(id);
          if (held !== undefined) refused.set(held, planner.plan(held));
        }
      }
      changes.write(this, this.#clock.monotonicMs());
      changes.clearCounters(this.#maps.counters, this.writes);
      this.retired += changes.retired.length;
      for (const [held, refusals] of refused) this.#note(held, refusals);
    } catch (error) {
      this.#stale = true;
      this.#retryAtMs = 0;
      throw new ProblemError("SERVICES_FAILED", {
        status: 500,
        detail: `Cannot update services: ${errorText(error)}`,
        action: "The kernel is read anew, and everything is tried again",
      });
    }
  }

  /** Failures are state: what could not be had, since when, when it is tried again. */
  #note(held: HeldService, refusals: readonly string[]): void {
    const { id, name } = held.wanted;
    if (refusals.length === 0) {
      held.error = undefined;
      this.#waiting.delete(id);
      return;
    }
    const nowS = this.#clock.nowMs() / 1000;
    held.error = {
      kind: `service ${name}`,
      error: `Cannot serve all of service ${name} (id ${id}): ${refusals.join("; ")}`,
      sinceUnixS: held.error?.sinceUnixS ?? nowS,
      nextRetryUnixS: nowS + RETRY_MS / 1000,
      attempts: (held.error?.attempts ?? 0) + 1,
    };
    this.#waiting.add(id);
    this.#retryAtMs = this.#clock.monotonicMs() + RETRY_MS;
  }

  /** What was written is as after a crash: taken over from the kernel, and done again. */
  #recover(): void {
    this.#stale = true;
    this.#readKernel();
    this.#stale = false;
    for (const [id, { given, wanted, backends, error }] of [...this.#held]) {
      this.#held.set(id, { ...this.#adopt(given, wanted), backends, error });
      this.#waiting.add(id);
    }
    this.#retryAtMs = 0;
  }
}

/** Stands for a service of the process before. */
const NOBODY = DatapathService.create({ id: 1, protocol: "TCP" });

function isV4(key: string): boolean {
  return !unmapped(FrontendKey.decode(Uint8Array.fromHex(key)).address).includes(":");
}

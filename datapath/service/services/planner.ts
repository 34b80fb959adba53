/**
 * What must change in the kernel for one service: `plan.ts` says what is wanted, the tables what is there. Who has
 * a frontend, an id or a slot is settled here, before anything is written; what does not fit is left out and named.
 *
 * @module
 */
import { type Backend, BACKEND_ACTIVE, type Frontend, FRONTEND_EXTERNAL } from "@weir/maps";
import { FRONTEND_SOURCE_DENY, FRONTEND_SOURCE_RANGES, SELECTION_ENTRIES_MAX } from "@weir/maps";
import type { ObjectError } from "@weir/proto/common";
import type { DatapathService } from "@weir/proto/datapath";
import { backendKey } from "./backend_table.ts";
import { maglevTable } from "./maglev.ts";
import { reduced } from "./selection_change.ts";
import type { SelectionContent } from "./selection_table.ts";
import type { ServiceChanges } from "./changes.ts";
import type { WantedBackend, WantedService } from "./image.ts";
import { describeFrontend, flagsOf, type PlannedFrontend, planService, selected, STATES } from "./plan.ts";
import type { ServiceTables } from "./tables.ts";

/** Slots by family: internal, external. */
export type Slots = [[number, number], [number, number]];

/** A service and what the kernel has of it. */
export interface HeldService {
  /** As it was given. */
  given: DatapathService;
  wanted: WantedService;
  /** By `text`. */
  backends: Map<string, WantedBackend>;
  /** What the kernel has. */
  frontends: Set<string>;
  /** Backend ids by key of {@link backendKey}. */
  ids: Map<string, number>;
  slots: Slots;
  /** Claimed frontends, those that another service has included. */
  claims: Set<string>;
  /** Maglev tables by slot: who is in them. */
  tables: Map<number, string>;
  error?: ObjectError;
}

/** What must change in the kernel for one service. One per update. */
export class ServicePlanner {
  /** Services that were planned before somebody else gave up what they wait for. */
  readonly again = new Set<number>();
  readonly #planned = new Set<number>();
  readonly #tables: ServiceTables;
  readonly #changes: ServiceChanges;
  readonly #dirty: Set<number>;
  readonly #held: ReadonlyMap<number, HeldService>;

  /**
   * @param changes filled by each service
   * @param dirty services to plan; whoever gets what another gave up is added
   * @param held every service that is asked for
   */
  constructor(
    tables: ServiceTables,
    changes: ServiceChanges,
    dirty: Set<number>,
    held: ReadonlyMap<number, HeldService>,
  ) {
    this.#tables = tables;
    this.#changes = changes;
    this.#dirty = dirty;
    this.#held = held;
  }

  /** Takes a service out of the kernel. */
  remove(held: HeldService): void {
    const { id } = held.wanted, changes = this.#changes;
    for (const key of held.claims) this.#unclaim(key, id);
    for (const key of held.frontends) changes.frontendsGone.add(key);
    for (const backend of held.ids.values()) changes.retired.push(backend);
    for (const slot of slotsOf(held.slots)) changes.slots.push(slot);
    changes.rangesGone.push(...this.#tables.ranges.of(id));
    changes.counters.push(id);
  }

  /** Makes the kernel have what is wanted of it. @returns what cannot be had, in words */
  plan(held: HeldService): string[] {
    const { wanted } = held;
    this.#planned.add(wanted.id);
    const { frontends, backends, refusals } = planService(wanted, held.backends.values());
    this.#claim(held, frontends, refusals);
    const ids = this.#acquire(held, frontends, backends, refusals);
    const usable = backends.filter((backend) => ids.has(keyOf(wanted, backend)));
    this.#planBackends(held, usable, ids);
    this.#planSelections(held, frontends, usable, refusals);
    const outside = this.#planRanges(held, refusals);
    this.#planFrontends(held, frontends, outside);
    return refusals;
  }

  /** Takes out of `frontends` what another service has. */
  #claim(held: HeldService, frontends: Map<string, PlannedFrontend>, refusals: string[]): void {
    const { id } = held.wanted;
    for (const key of held.claims) {
      if (frontends.has(key)) continue;
      held.claims.delete(key);
      this.#unclaim(key, id);
    }
    for (const [key, { closed }] of [...frontends]) {
      held.claims.add(key);
      const owner = this.#tables.frontends.claim(key, id);
      if (owner === id) continue;
      frontends.delete(key);
      // Two services that close the rest of one address mean the same.
      if (closed) continue;
      const name = this.#held.get(owner)?.wanted.name ?? "of the process before";
      refusals.push(`${describeFrontend(key)} is that of service ${name} (id ${owner}), which had it first`);
    }
  }

  #unclaim(key: string, service: number): void {
    const heir = this.#tables.frontends.unclaim(key, service);
    if (heir === undefined || !this.#held.has(heir)) return;
    if (this.#planned.has(heir)) this.again.add(heir);
    else this.#dirty.add(heir);
  }

  /** Ids of the backends. When the service as a whole does not fit, nothing new of it is taken. */
  #acquire(
    held: HeldService,
    frontends: Map<string, PlannedFrontend>,
    backends: readonly WantedBackend[],
    refusals: string[],
  ): Map<string, number> {
    const keys = backends.map((backend) => keyOf(held.wanted, backend));
    const newFrontends = [...frontends.keys()].filter((key) => !this.#tables.frontends.has(key));
    const newBackends = keys.filter((key) => !this.#tables.backends.knows(key));
    const shortages = this.#shortages(held, newFrontends, newBackends);
    const ids = new Map<string, number>();
    refusals.push(...shortages);
    for (const key of shortages.length > 0 ? newFrontends : []) frontends.delete(key);
    for (const key of keys) {
      if (shortages.length > 0 && !held.ids.has(key)) continue;
      const id = this.#tables.backends.acquire(key);
      if (id !== undefined) ids.set(key, id);
    }
    return ids;
  }

  #shortages(held: HeldService, newFrontends: readonly string[], newBackends: readonly string[]): string[] {
    const { frontends, backends, selections } = this.#tables, shortages: string[] = [];
    const pending = this.#changes.frontendsNew;
    if (newFrontends.length > frontends.room - pending) {
      shortages.push(
        `${newFrontends.length} more frontends are wanted (${describeFrontend(newFrontends[0])}), ` +
          `but ${frontends.size + pending} of ${frontends.entriesMax} are taken`,
      );
    }
    if (newBackends.length > backends.room) {
      const [first] = [...held.backends.values()].filter((each) =>
        newBackends.includes(keyOf(held.wanted, each))
      );
      shortages.push(
        `${newBackends.length} more backends are wanted (${first.text}), ` +
          `but ${backends.size} of ${backends.idsMax - 1} ids are taken and ${backends.resting} rest`,
      );
    }
    // Up to four selections are wanted, and a service that has none yet must find room for them.
    if (slotsOf(held.slots).length === 0 && held.backends.size > 0 && selections.room < 4) {
      shortages.push(
        `a service takes up to 4 selections, but ${selections.size} of ${selections.slotsMax - 1} are taken`,
      );
    }
    return shortages;
  }

  /** Records before selections name them, and states that end something after they did. */
  #planBackends(held: HeldService, backends: readonly WantedBackend[], ids: Map<string, number>): void {
    const { wanted } = held, changes = this.#changes;
    for (const backend of backends) {
      const key = keyOf(wanted, backend), id = ids.get(key)!, state = STATES[backend.state];
      if (this.#tables.backends.stateOf(id) === state) continue;
      const { address, port, service } = backend;
      const record: Backend = { address, portBe: port, protocol: wanted.protocol, state, service };
      const early = state === BACKEND_ACTIVE || !held.ids.has(key);
      (early ? changes.records : changes.recordsLater).push([id, record]);
    }
    for (const [key, id] of held.ids) if (!ids.has(key)) changes.retired.push(id);
    held.ids = ids;
  }

  #planSelections(
    held: HeldService,
    frontends: ReadonlyMap<string, PlannedFrontend>,
    backends: readonly WantedBackend[],
    refusals: string[],
  ): void {
    const freed = (slot: number) => {
      if (slot === 0) return;
      this.#changes.slots.push(slot);
      held.tables.delete(slot);
    };
    for (const family of [0, 1] as const) {
      const mine = [...frontends.values()].filter((frontend) =>
        frontend.family === family && !frontend.closed
      );
      const [before, beforeOut] = held.slots[family];
      if (mine.length === 0) {
        freed(before);
        if (beforeOut !== before) freed(beforeOut);
        held.slots[family] = [0, 0];
        continue;
      }
      const internal = selected(backends, family, "internal");
      const slot = this.#fill(held, before, internal, refusals);
      if (!mine.some((frontend) => frontend.external)) {
        if (beforeOut !== before) freed(beforeOut);
        held.slots[family] = [slot, 0];
        continue;
      }
      const external = selected(backends, family, "external");
      const same = internal.length === external.length && internal.every((each, i) => each === external[i]);
      // Those that were apart once stay apart: who is where changes often, and then both would be made anew.
      const shared = same && (beforeOut === before || beforeOut === 0);
      const out = shared ? slot : this.#fill(held, beforeOut === before ? 0 : beforeOut, external, refusals);
      held.slots[family] = [slot, out];
    }
  }

  /** @returns the slot that has these backends, 0 if nobody ever was in it */
  #fill(held: HeldService, before: number, members: readonly WantedBackend[], refusals: string[]): number {
    const { selections } = this.#tables, { contents } = this.#changes, { wanted, tables } = held;
    if (before === 0 && members.length === 0) return 0;
    const slot = before || selections.allocate();
    if (slot === undefined) {
      refusals.push(
        `all ${selections.slotsMax - 1} selections are taken: nobody is served by one of its own`,
      );
      return 0;
    }
    const content = this.#content(held, slot, members, refusals);
    if (content !== undefined) contents.set(slot, content);
    if (!wanted.maglev) tables.delete(slot);
    return slot;
  }

  /** Undefined when it is as it was. */
  #content(
    held: HeldService,
    slot: number,
    members: readonly WantedBackend[],
    refusals: string[],
  ): SelectionContent | undefined {
    const { wanted: { maglev, tableSize: size, seed } } = held;
    const idOf = (backend: WantedBackend) => held.ids.get(keyOf(held.wanted, backend))!;
    if (!maglev) {
      const weights = reduced(
        new Map(members.map((each) => [idOf(each), each.weight])),
        SELECTION_ENTRIES_MAX - 1,
      );
      if (weights !== undefined) return { weights };
      refusals.push(`${members.length} backends are more than a selection has entries`);
      return undefined;
    }
    if (members.length > size) {
      refusals.push(
        `a Maglev table of ${size} has no entry for ${members.length - size} of ${members.length} backends`,
      );
    }
    const who = `${held.wanted.protocol} ${size} ${seed} ${
      members.map(({ text, weight }) => `${text}*${weight}`).sort().join(" ")
    }`;
    if (held.tables.get(slot) === who) return undefined;
    held.tables.set(slot, who);
    if (members.length === 0) return { table: new Uint32Array(0) };
    const table = maglevTable(members, { size, seed }), ids = members.map(idOf);
    for (let place = 0; place < size; place++) table[place] = ids[table[place]];
    return { table };
  }

  /** @returns false when the ranges do not fit: then nobody from outside is let in */
  #planRanges(held: HeldService, refusals: string[]): boolean {
    const { wanted } = held, { ranges } = this.#tables, changes = this.#changes;
    const before = ranges.of(wanted.id);
    const coming = [...wanted.ranges].filter((key) => !before.has(key));
    for (const key of before) if (!wanted.ranges.has(key)) changes.rangesGone.push(key);
    const taken = ranges.size + changes.ranges.length;
    if (coming.length > ranges.entriesMax - taken) {
      refusals.push(
        `${coming.length} more source ranges are wanted, but ${taken} of ${ranges.entriesMax} are taken: ` +
          `nobody from outside is let in`,
      );
      return false;
    }
    changes.ranges.push(...coming);
    return true;
  }

  #planFrontends(
    held: HeldService,
    frontends: ReadonlyMap<string, PlannedFrontend>,
    outside: boolean,
  ): void {
    const { wanted } = held, changes = this.#changes;
    for (const [key, planned] of frontends) {
      const flags = flagsOf(wanted, planned, outside);
      const [internal, external] = planned.closed ? [0, 0] : held.slots[planned.family];
      const frontend: Frontend = {
        selections: [internal, planned.external ? external : 0],
        service: wanted.id,
        flags,
        affinityTimeout: planned.closed ? 0 : wanted.affinityTimeout,
        seed: planned.closed ? 0 : wanted.seed,
      };
      const before = this.#tables.frontends.get(key);
      if (before === undefined && !changes.frontends.has(key)) changes.frontendsNew++;
      changes.frontends.set(key, frontend);
      // From "only these" to "not these" or back: while the ranges change, nobody from outside is let in.
      const BOTH = FRONTEND_SOURCE_RANGES | FRONTEND_EXTERNAL;
      const turned = before !== undefined && ((before.flags ^ flags) & FRONTEND_SOURCE_DENY) !== 0;
      if (turned && (before.flags & flags & BOTH) === BOTH) {
        changes.shut.set(key, { ...before, flags: before.flags & ~FRONTEND_EXTERNAL });
      }
    }
    for (const key of held.frontends) if (!frontends.has(key)) changes.frontendsGone.add(key);
    held.frontends = new Set(frontends.keys());
  }
}

/** Made once: a service of thousands of backends is planned anew whenever one of them changes. */
function keyOf({ id, protocol }: WantedService, backend: WantedBackend): string {
  if (backend.key?.protocol !== protocol) {
    const { address, port: portBe } = backend;
    backend.key = { protocol, text: backendKey({ service: id, protocol, address, portBe }) };
  }
  return backend.key.text;
}

function slotsOf(slots: Slots): number[] {
  return [...new Set(slots.flat())].filter((slot) => slot !== 0);
}

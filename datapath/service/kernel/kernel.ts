/**
 * The programs and maps of one instance in the kernel: loaded once per node through the gate, pinned, and taken over from
 * the process before. A map whose layout is the same is reused with its contents, one whose values have grown is filled from the
 * one before; programs are replaced under their links only when their instructions differ.
 *
 * @module
 */
import {
  BpfError,
  BpfLink,
  BpfMap,
  BpfObject,
  type BpfProgram,
  closeFd,
  createMap,
  ensureBpffs,
  expedited,
  type Gate,
  type GateDecision,
  listPins,
  mapInfo,
  type MapSlot,
  MapType,
  openPin,
  pin,
  type ProgramInfo,
  programInfo,
  u32,
  unpin,
  waitForPrograms,
} from "@weir/loader";
import {
  type Bytes,
  ClockSample,
  GcRequest,
  HANDLES_MAX,
  Limits,
  PolicyEntry,
  PolicyKey,
  RevisionRequest,
  REVISIONS_MAX,
} from "@weir/maps";
import { CarryOver } from "./carry_over.ts";
import type { ServiceMaps } from "./service_maps.ts";
import { type MapName, type MapOf, typedMap } from "./typed_map.ts";
import type { Pins } from "./pins.ts";

/** More changes at once than this send every flow through the slow path, which is cheaper. */
const REVISIONS_AT_ONCE_MAX = 1024;

/** Maps whose contents outlive their layout, and the size of a value since which it has only grown at its end, where zero says nothing. */
const CARRIED: Record<string, number> = { weir_ct: 104, weir_config: 152 };
/** Maps that hold nothing from one packet to the next. */
const WORKING_MEMORY = ["weir_ct_new", "weir_ct_claims"];

/** Sizes of maps that differ from the object's own. */
export type MapSizes = Record<string, number>;

/** The programs and maps of one instance in the kernel. */
export class Kernel {
  /** Programs found under a pin with the same instructions. */
  programsAdopted = 0;
  /** Pinned maps whose layout differs: made anew. */
  mapsRebuilt: string[] = [];
  /** Pinned maps whose values were smaller: made anew, and filled from the ones before. Entries by map. */
  readonly mapsCarried: Map<string, { carried: number; left: number }> = new Map();
  /** Pinned maps and programs that this version does not have: removed. */
  pinsRemoved: string[] = [];
  /** Programs whose instructions changed since the process before. */
  readonly programsChanged: Set<string> = new Set();
  readonly #object: BpfObject;
  readonly #maps = new Map<string, BpfMap>();
  /** Maps of the version before, as long as its programs may use them. */
  readonly #carryOvers = new Map<string, CarryOver>();
  /** Program by the id of the one whose pin it took. */
  readonly #successors = new Map<number, string>();

  readonly config: MapOf<"weir_config">;
  readonly endpoints: MapOf<"weir_endpoints">;
  readonly ifindexes: MapOf<"weir_ifindex">;
  readonly cgroups: MapOf<"weir_cgroups">;
  readonly netnsCookies: MapOf<"weir_netns">;
  readonly counters: MapOf<"weir_counters">;
  readonly addresses: MapOf<"weir_addresses">;
  readonly ipcache: MapOf<"weir_ipcache">;
  readonly ipcacheExact: MapOf<"weir_ipcache_exact">;
  readonly policySlots: MapOf<"weir_policy_slots">;
  readonly ct: MapOf<"weir_ct">;
  readonly metrics: MapOf<"weir_metrics">;
  readonly lost: MapOf<"weir_lost">;
  readonly eventCounts: MapOf<"weir_event_counts">;

  private constructor(object: BpfObject, readonly pins: Pins) {
    this.#object = object;
    for (const slot of object.maps) if (!slot.internal) this.#maps.set(slot.name, object.openMap(slot.name));
    this.config = this.typed("weir_config");
    this.endpoints = this.typed("weir_endpoints");
    this.ifindexes = this.typed("weir_ifindex");
    this.cgroups = this.typed("weir_cgroups");
    this.netnsCookies = this.typed("weir_netns");
    this.counters = this.typed("weir_counters");
    this.addresses = this.typed("weir_addresses");
    this.ipcache = this.typed("weir_ipcache");
    this.ipcacheExact = this.typed("weir_ipcache_exact");
    this.policySlots = this.typed("weir_policy_slots");
    this.ct = this.typed("weir_ct");
    this.metrics = this.typed("weir_metrics");
    this.lost = this.typed("weir_lost");
    this.eventCounts = this.typed("weir_event_counts");
  }

  /** Loads the object, takes over what is pinned, pins the rest. @throws {GateError} @throws {LoadError} */
  static load(
    options: { object: Uint8Array<ArrayBuffer>; pins: Pins; gate: Gate; sizes?: MapSizes },
  ): Kernel {
    const { pins } = options;
    ensureBpffs();
    const object = BpfObject.open(options.object, { name: "weir" });
    const rebuilt: string[] = [], fresh: string[] = [];
    const grown = new Map<string, BpfMap>();
    try {
      for (const slot of object.maps) {
        if (slot.internal) continue;
        const size = options.sizes?.[slot.name];
        if (size !== undefined) slot.setEntriesMax(size);
        const fd = openPin(pins.map(slot.name));
        const reused = fd !== undefined && slot.reuse(fd);
        if (fd !== undefined && !reused && canCarry(slot, fd)) {
          grown.set(slot.name, new BpfMap(fd, slot.name));
          continue;
        }
        if (fd !== undefined) closeFd(fd); // libbpf keeps a copy of its own
        if (!reused) (fd === undefined ? fresh : rebuilt).push(slot.name);
      }
      object.load(options.gate, (name) => openPin(pins.program(name)));
      const kernel = new Kernel(object, pins);
      kernel.mapsRebuilt = rebuilt;
      // Revisions that begin anew must not come to what flows remember.
      if (rebuilt.includes("weir_revisions")) kernel.#scatterRevisions();
      const limits = {
        ctEntriesMax: kernel.ct.entriesMax,
        natEntriesMax: kernel.map("weir_nat").info.entriesMax,
        handlesMax: Math.min(kernel.map("weir_handles").info.entriesMax, HANDLES_MAX),
      };
      kernel.map("weir_limits").update(u32(0), Limits.encode(limits));
      for (const [name, map] of grown) kernel.#carryOvers.set(name, new CarryOver(map, kernel.map(name)));
      for (const carryOver of kernel.#carryOvers.values()) carryOver.begin();
      for (const name of [...fresh, ...rebuilt, ...grown.keys()]) pin(kernel.map(name).fd, pins.map(name));
      for (const name of object.programNames) kernel.#takeOver(name);
      kernel.#removeStrangers();
      // Everything else that they read is there: the new programs can take over at once.
      if (grown.size > 0 && fresh.length === 0 && rebuilt.every((name) => WORKING_MEMORY.includes(name))) {
        kernel.#switchLinks();
      }
      kernel.#catchUp();
      return kernel;
    } catch (error) {
      grown.forEach((map) => map.close());
      object.close();
      throw error;
    }
  }

  /** To be called when no program of the version before is on a hook any more: what it has put into its maps comes along. */
  finishTakeover(): void {
    waitForPrograms();
    this.#catchUp();
    for (const carryOver of this.#carryOvers.values()) carryOver[Symbol.dispose]();
    this.#carryOvers.clear();
  }

  /** What services are made of. */
  get serviceMaps(): ServiceMaps {
    return {
      frontends: this.map("weir_frontends"),
      state: this.map("weir_state"),
      backends: this.map("weir_backends"),
      selections: this.map("weir_selections"),
      sourceRanges: this.map("weir_source_ranges"),
      counters: this.map("weir_service_counters"),
    };
  }

  /** Kernel's name of every map, pinned by us. */
  get mapNames(): string[] {
    return [...this.#maps.keys()];
  }
  get programNames(): string[] {
    return this.#object.programNames;
  }
  /** What the gate said of each program. */
  get decisions(): readonly GateDecision[] {
    return this.#object.decisions;
  }

  map(name: string): BpfMap {
    const found = this.#maps.get(name);
    if (found === undefined) throw new Error(`Cannot find map ${name} in the object`);
    return found;
  }
  /** The same with the codecs of its key and value. */
  typed<N extends MapName>(name: N): MapOf<N> {
    return typedMap(name, this.map(name));
  }
  program(name: string): BpfProgram {
    return this.#object.program(name);
  }

  /** Descriptor and facts of the program that goes on hooks. */
  attachable(name: string): { fd: number; info: ProgramInfo } {
    const { fd, info } = this.program(name);
    return { fd, info };
  }

  /** Jiffies and monotonic time, as programs see them. */
  sampleClock(): { jiffies: bigint; time: bigint } {
    const ctx = new Uint8Array(ClockSample.bytes);
    return ClockSample.decode(this.program("weir_clock").testRun({ ctx }).ctx);
  }

  /** Runs the conntrack collector. */
  collect(request: Partial<GcRequest> & { mode: number }): GcRequest {
    const ctx = GcRequest.encode({
      endpoint: 0,
      address: new Uint8Array(16),
      age: 0,
      ageOver: 0,
      heldMax: 0,
      visited: 0,
      deleted: 0,
      live: 0,
      natVisited: 0,
      natDeleted: 0,
      natLive: 0,
      ...request,
    });
    return GcRequest.decode(this.program("weir_gc").testRun({ ctx }).ctx);
  }

  /** Established flows of these prefixes look at the ipcache anew. Called after what changed has been written. */
  revise(prefixes: readonly { address: Bytes; prefixlen: number }[]): void {
    if (prefixes.length > REVISIONS_AT_ONCE_MAX) return this.reviseAll();
    for (const prefix of prefixes) {
      const ctx = RevisionRequest.encode({ ...prefix, revised: 0 });
      this.program("weir_revise").testRun({ ctx });
    }
  }

  #scatterRevisions(): void {
    const revisions = this.map("weir_revisions");
    const start = crypto.getRandomValues(new Uint32Array(1))[0];
    for (let element = 0; element < REVISIONS_MAX; element++) revisions.update(u32(element), u32(start));
  }

  /** Every established flow does. */
  reviseAll(): void {
    this.revise([{ address: new Uint8Array(16), prefixlen: 0 }]);
  }

  /** A map for the entries of one policy. */
  createPolicyMap(entriesMax: number): BpfMap {
    const BPF_F_NO_PREALLOC = 1;
    return createMap({
      type: MapType.HASH,
      name: "weir_policy",
      keySize: PolicyKey.bytes,
      valueSize: PolicyEntry.bytes,
      entriesMax,
      flags: BPF_F_NO_PREALLOC,
    });
  }

  /** Closes the descriptors; everything pinned goes on. */
  close(): void {
    for (const carryOver of this.#carryOvers.values()) carryOver[Symbol.dispose]();
    this.#carryOvers.clear();
    this.#object.close();
  }

  /** Has every link run the successor of its program: within milliseconds, so that flows see one conntrack, not one per device. */
  #switchLinks(): void {
    expedited(() => {
      for (const path of listPins(this.pins.links)) {
        using link = openPinnedLink(path);
        const successor = link && this.#successors.get(link.info.programId);
        if (link === undefined || successor === undefined) continue;
        try {
          link.update(this.program(successor).fd);
        } catch (error) {
          // Its device is gone: whoever is told of the endpoint makes another.
          if (!(error instanceof BpfError)) throw error;
        }
      }
      waitForPrograms();
    });
  }

  #catchUp(): void {
    for (const [name, carryOver] of this.#carryOvers) {
      carryOver.catchUp();
      this.mapsCarried.set(name, { carried: carryOver.carried, left: carryOver.left });
    }
  }

  #removeStrangers(): void {
    for (const [room, names] of [["maps", this.mapNames], ["progs", this.programNames]] as const) {
      for (const path of listPins(`${this.pins.root}/${room}`)) {
        const name = path.slice(path.lastIndexOf("/") + 1);
        if (!names.includes(name) && unpin(path)) this.pinsRemoved.push(name);
      }
    }
  }

  /** Pins the program, unless it is the one that was pinned. */
  #takeOver(name: string): void {
    if (this.#object.isAdopted(name)) {
      this.programsAdopted++;
      return;
    }
    const path = this.pins.program(name), before = openPin(path);
    if (before !== undefined) {
      this.#successors.set(programInfo(before).id, name);
      closeFd(before);
      this.programsChanged.add(name);
    }
    pin(this.program(name).fd, path);
  }
}

/** Whether what the pinned map holds can be that of the new one. */
function canCarry(slot: MapSlot, fd: number): boolean {
  const since = CARRIED[slot.name];
  return since !== undefined && slot.extends(fd) && mapInfo(fd).valueSize >= since;
}

/** A pinned link, undefined when there is none. */
export function openPinnedLink(path: string): BpfLink | undefined {
  const fd = openPin(path);
  return fd === undefined ? undefined : new BpfLink(fd, path);
}

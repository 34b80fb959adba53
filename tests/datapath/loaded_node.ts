/**
 * Programs and maps of a node in the kernel. The kernel takes more than a second to verify them all, so a program is loaded when it
 * is first asked for, and what a test gives back is emptied and taken by the next test of the same file.
 * @module
 */
import {
  type BpfMap,
  BpfObject,
  type BpfProgram,
  Gate,
  MapType,
  RingReader,
  StructuralVerifier,
  u32,
  waitForPrograms,
} from "@weir/loader";
import { HANDLES_MAX } from "@weir/maps";
import { buildPrograms } from "../../datapath/bpf/build.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const out = new URL("../../.build/bpf", import.meta.url).pathname;
/** How many nodes wait for the next test: a cluster has two, and each holds some 80 MB of the kernel's memory. */
const IDLE_MAX = 2;
/** What every test needs and the kernel verifies in no time. */
const LOADED_AT_ONCE = ["weir_clock", "weir_revise", "weir_gc", "weir_unanswered", "weir_in_use"];
/** Elements that are emptied with one call. */
const BATCH_ELEMENTS = 1 << 14;
/** Large arrays that stay empty as long as no test asks for a map or a program of this name. */
const EMPTY_WITHOUT: Record<string, string> = {
  weir_backends: "weir_backends",
  weir_selections: "weir_selections",
  weir_service_counters: "weir_frontends",
  weir_socket_places: "socket_",
  weir_handles: "socket_",
};

const idle: LoadedNode[] = [];
let devicesMade = 0;
addEventListener("unload", () => idle.splice(0).forEach((node) => node.close()));

export class LoadedNode {
  readonly ring: RingReader;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();
  readonly #objects: BpfObject[];
  readonly #devices: { name: string; ifindex: number }[] = [];
  #devicesTaken = 0;

  /** Size of weir_handles. */
  get handlesMax(): number {
    return (JSON.parse(this.sizes) as [string, number][]).find(([name]) => name === "weir_handles")?.[1] ??
      HANDLES_MAX;
  }

  private constructor(readonly sizes: string, readonly object: BpfObject, readonly bytes: Bytes) {
    this.#objects = [object];
    this.ring = new RingReader(object.openMap("weir_events").fd);
  }

  /** One whose maps are empty. Builds if needed. @param entriesMax sizes maps, e.g. `{ weir_ct: 64 }` */
  static async take(entriesMax: Record<string, number>): Promise<LoadedNode> {
    const sizes = JSON.stringify(Object.entries(entriesMax).sort());
    const waiting = idle.findIndex((node) => node.sizes === sizes);
    if (waiting >= 0) {
      const [node] = idle.splice(waiting, 1);
      node.#empty();
      return node;
    }
    const bytes = Deno.readFileSync(await buildPrograms({ out }));
    const object = BpfObject.open(bytes, { name: "weir" });
    try {
      for (const [name, entries] of Object.entries(entriesMax)) object.map(name).setEntriesMax(entries);
      loadOnly(object, LOADED_AT_ONCE);
      return new LoadedNode(sizes, object, bytes);
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** A device without addresses, down, of our name; gone with the node. */
  addDevice(): number {
    const known = this.#devices[this.#devicesTaken++];
    if (known) return known.ifindex;
    const name = `wtd${Deno.pid % 100000}n${devicesMade++}`;
    const { success, stderr } = new Deno.Command("ip", {
      args: ["link", "add", name, "type", "bridge"],
      stderr: "piped",
    }).outputSync();
    if (!success) throw new Error(`Cannot add device ${name}: ${new TextDecoder().decode(stderr)}`);
    const ifindex = Number(Deno.readTextFileSync(`/sys/class/net/${name}/ifindex`));
    this.#devices.push({ name, ifindex });
    return ifindex;
  }

  /** Leaves it to the next test. Nothing may hang on its programs any more. */
  giveBack(): void {
    this.#devicesTaken = 0;
    idle.push(this);
    if (idle.length > IDLE_MAX) idle.shift()!.close();
  }

  close(): void {
    this.ring[Symbol.dispose]();
    this.#objects.forEach((object) => object.close());
    for (const { name } of this.#devices) {
      new Deno.Command("ip", { args: ["link", "delete", name], stderr: "null" }).outputSync();
    }
  }

  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) this.#maps.set(name, map = this.object.openMap(name));
    return map;
  }

  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (!program) this.#programs.set(name, program = this.#load(name));
    return program;
  }

  #load(name: string): BpfProgram {
    if (LOADED_AT_ONCE.includes(name)) return this.object.program(name);
    const object = BpfObject.open(this.bytes, { name: "weir" });
    this.#objects.push(object);
    for (const slot of object.maps) {
      const { fd, info } = this.object.openMap(slot.name);
      slot.setEntriesMax(info.entriesMax);
      if (!slot.reuse(fd)) throw new Error(`Cannot share map ${slot.name}`);
    }
    loadOnly(object, [name]);
    return object.program(name);
  }

  /** Makes every map what it was when it was new. */
  #empty(): void {
    waitForPrograms();
    while (this.ring.drain());
    const asked = [...this.#maps.keys(), ...this.#programs.keys()];
    for (const { name, type } of this.object.maps) {
      const cause = EMPTY_WITHOUT[name];
      const empty = cause !== undefined && !asked.some((one) => one === name || one.startsWith(cause));
      if (empty || type === MapType.RINGBUF) continue;
      const map = this.object.openMap(name);
      if (type === MapType.ARRAY || type === MapType.PERCPU_ARRAY) zero(map);
      else if (type === MapType.ARRAY_OF_MAPS) removeInner(map);
      else map.clear();
    }
  }
}

function loadOnly(object: BpfObject, programs: readonly string[]): void {
  for (const name of object.programNames) object.setAutoload(name, programs.includes(name));
  object.load(new Gate(new StructuralVerifier()));
}

/** The keys 0 to `count - 1` of an array, one after another. */
function keysOf(first: number, count: number): Bytes {
  return new Uint8Array(Uint32Array.from({ length: count }, (_, i) => first + i).buffer);
}

function zero(map: BpfMap): void {
  const { entriesMax } = map.info, count = Math.min(entriesMax, BATCH_ELEMENTS);
  const nothing = new Uint8Array(count * map.valueBytes);
  for (let first = 0; first < entriesMax; first += count) {
    const now = Math.min(count, entriesMax - first);
    map.updatePacked(keysOf(first, now), nothing.subarray(0, now * map.valueBytes), now);
  }
}

/** Takes every map out of a map of maps. Empty slots are not among the entries. */
function removeInner(map: BpfMap): void {
  for (const slot of new Uint32Array(map.packed().keys.slice().buffer)) map.delete(u32(slot));
}

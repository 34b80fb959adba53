/**
 * An eBPF object: opened from bytes, its maps sized or shared, loaded through the gate.
 *
 *     using object = BpfObject.open(bytes, { name: "bpf_lxc" });
 *     object.map("weir_ct").setEntriesMax(65536);
 *     object.load(gate);
 *     object.program("from_container").testRun({ data: packet });
 *
 * @module
 */
import { BpfObject as ObjectFile, ElfFile, fieldsOfMap } from "@weir/object";
import type { SpecialField } from "@weir/verifier";
import { BpfError, lastVerifierLines, LoadError } from "./errors.ts";
import { type Gate, type GateDecision, guardSections, withGate } from "./gate.ts";
import { mapInfo, programInfo } from "./info.ts";
import { closeFd, cString, libbpf, textAt } from "./library.ts";
import { BpfMap } from "./map.ts";
import { capturePrint } from "./print.ts";
import { BpfProgram } from "./program.ts";
import type { GateMap, GateRequest } from "./verifier.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const BPF_F_RDONLY_PROG = 0x80;

/** Largest object file that is read. */
export const OBJECT_BYTES_MAX = 64 << 20;

/** A map of an object before it is loaded; afterwards `BpfObject.openMap()` gives the real one. */
export class MapSlot {
  /** Template of the maps inside, for maps of maps. Read at once: libbpf throws it away when it has made the map. */
  readonly inner: GateMap["inner"];

  constructor(readonly name: string, readonly pointer: Deno.PointerValue) {
    const inner = libbpf().bpf_map__inner_map(pointer);
    if (inner === null) return;
    const { type, keySize, valueSize, entriesMax, flags } = new MapSlot("", inner);
    this.inner = { type, keySize, valueSize, entriesMax, flags };
  }

  get type(): number {
    return libbpf().bpf_map__type(this.pointer);
  }
  get keySize(): number {
    return libbpf().bpf_map__key_size(this.pointer);
  }
  get valueSize(): number {
    return libbpf().bpf_map__value_size(this.pointer);
  }
  get entriesMax(): number {
    return libbpf().bpf_map__max_entries(this.pointer);
  }
  get flags(): number {
    return libbpf().bpf_map__map_flags(this.pointer);
  }
  /** Data sections (.rodata, .bss, .data) that libbpf makes maps of. */
  get internal(): boolean {
    return libbpf().bpf_map__is_internal(this.pointer);
  }

  /** Before loading only. */
  setEntriesMax(entries: number): void {
    const result = libbpf().bpf_map__set_max_entries(this.pointer, entries);
    if (result < 0) throw new BpfError("map-failed", `Cannot size map ${this.name}`, { errno: -result });
  }

  /** Uses a map that exists. @returns false when its layout differs: then a new one is made */
  reuse(fd: number): boolean {
    const info = mapInfo(fd);
    const same = info.type === this.type && info.keySize === this.keySize &&
      info.valueSize === this.valueSize &&
      info.entriesMax === this.entriesMax && info.flags === this.flags;
    if (!same) return false;
    const result = libbpf().bpf_map__reuse_fd(this.pointer, fd);
    if (result < 0) throw new BpfError("map-failed", `Cannot reuse map ${this.name}`, { errno: -result });
    return true;
  }

  /** Whether a map has the same keys, and values that begin like this one's if nothing but a tail was added. */
  extends(fd: number): boolean {
    const info = mapInfo(fd);
    return info.type === this.type && info.keySize === this.keySize && info.flags === this.flags &&
      info.valueSize <= this.valueSize;
  }

  /** First contents of a data section; `change` alters a copy before loading. */
  setInitialValue(change: (bytes: Bytes) => void): void {
    const size = new BigUint64Array(1);
    const pointer = libbpf().bpf_map__initial_value(this.pointer, new Uint8Array(size.buffer));
    if (pointer === null) {
      throw new BpfError("map-failed", `Cannot set ${this.name}: it has no initial value`);
    }
    const bytes = new Uint8Array(Number(size[0]));
    new Deno.UnsafePointerView(pointer).copyInto(bytes);
    change(bytes);
    const result = libbpf().bpf_map__set_initial_value(this.pointer, bytes, BigInt(bytes.length));
    if (result < 0) throw new BpfError("map-failed", `Cannot set ${this.name}`, { errno: -result });
  }
}

/** An eBPF object. Closing it closes every map and program that is not pinned or attached. */
export class BpfObject implements Disposable {
  readonly maps: readonly MapSlot[];
  readonly decisions: GateDecision[] = [];
  #pointer: Deno.PointerValue;
  readonly #programs = new Map<string, Deno.PointerValue>();
  readonly #bytes: Bytes;
  /** Descriptors of programs that were in the kernel before. */
  readonly #adopted = new Map<string, number>();

  private constructor(readonly name: string, bytes: Bytes, pointer: Deno.PointerValue) {
    this.#bytes = bytes;
    this.#pointer = pointer;
    const maps: MapSlot[] = [];
    for (
      let map = libbpf().bpf_object__next_map(pointer, null);
      map;
      map = libbpf().bpf_object__next_map(pointer, map)
    ) {
      maps.push(new MapSlot(textAt(libbpf().bpf_map__name(map)), map));
    }
    this.maps = maps;
    for (
      let p = libbpf().bpf_object__next_program(pointer, null);
      p;
      p = libbpf().bpf_object__next_program(pointer, p)
    ) {
      this.#programs.set(textAt(libbpf().bpf_program__name(p)), p);
    }
  }

  /** Opens an object from its bytes; nothing reaches the kernel yet. @throws {BpfError} open-failed */
  static open(bytes: Bytes, options: { name: string }): BpfObject {
    if (bytes.length > OBJECT_BYTES_MAX) {
      throw new BpfError("open-failed", `Cannot open object ${options.name}: it is too large`, {
        found: `${bytes.length} bytes`,
        expected: `at most ${OBJECT_BYTES_MAX}`,
      });
    }
    guardSections(programSections(bytes));
    const name = cString(options.name);
    const opts = new BigUint64Array([16n, Deno.UnsafePointer.value(Deno.UnsafePointer.of(name))]);
    const { result: pointer, log } = capturePrint(() =>
      libbpf().bpf_object__open_mem(bytes, BigInt(bytes.length), new Uint8Array(opts.buffer))
    );
    if (pointer === null || Deno.UnsafePointer.value(pointer) > 0xffff_ffff_ffff_f000n) {
      throw new BpfError(
        "open-failed",
        `Cannot open object ${options.name}: ${log.trim() || "libbpf says nothing"}`,
      );
    }
    return new BpfObject(options.name, bytes, pointer);
  }

  /** Opens an object file. */
  static openFile(path: string): BpfObject {
    const name = path.slice(path.lastIndexOf("/") + 1).replace(/\.o$/, "");
    return BpfObject.open(Deno.readFileSync(path), { name });
  }

  /** Names of all programs. */
  get programNames(): string[] {
    return [...this.#programs.keys()];
  }

  /** A map by its name in the source; ".rodata" and its like by that. @throws {BpfError} not-found */
  map(name: string): MapSlot {
    // libbpf puts the object's name before the section's.
    const found = this.maps.find((map) =>
      map.name === name || name.startsWith(".") && map.name.endsWith(name)
    );
    if (!found) throw new BpfError("not-found", `Cannot find map ${name} in object ${this.name}`);
    return found;
  }

  /** Whether loading loads this program, default true. */
  setAutoload(program: string, load: boolean): void {
    libbpf().bpf_program__set_autoload(this.#program(program), load);
  }

  /**
   * Creates the maps and loads the programs, each through the gate.
   * @param known Opens the program of this name that was loaded before, if there is one. When it has the same instructions and the
   *   same maps, it is used, and the kernel need not verify it again.
   * @throws {GateError} @throws {LoadError}
   */
  load(gate: Gate, known?: (program: string) => number | undefined): void {
    const elf = ElfFile.parse(this.#bytes);
    const license = sectionBytes(elf, "license");
    const isData = (id: number) =>
      this.maps.some((map) => map.internal && mapInfo(libbpf().bpf_map__fd(map.pointer)).id === id);
    const object = {
      object: this.name,
      license: license === undefined ? "" : new TextDecoder().decode(license).split("\0")[0],
      btf: sectionBytes(elf, ".BTF"),
      maps: onceLazily(() => gateMaps(this.maps, this.#bytes)),
      decisions: this.decisions,
      adopt: (decision: GateDecision, request: GateRequest) => {
        const fd = known?.(decision.program);
        if (fd === undefined) return false;
        const same = isSame(fd, decision, request, isData);
        if (same) this.#adopted.set(decision.program, fd);
        else closeFd(fd);
        return same;
      },
    };
    withGate(gate, object, () => {
      const { result, log } = capturePrint(() => libbpf().bpf_object__load(this.#pointer));
      if (result < 0) throw new LoadError(this.name, -result, lastVerifierLines(log), log);
    });
  }

  /** A loaded program. The descriptor belongs to the object: do not close it. */
  program(name: string): BpfProgram {
    const pointer = this.#program(name);
    const fd = this.#adopted.get(name) ?? libbpf().bpf_program__fd(pointer);
    if (fd < 0) throw new BpfError("not-found", `Cannot use program ${name}: it is not loaded`);
    return new BpfProgram(fd, name, textAt(libbpf().bpf_program__section_name(pointer)));
  }

  /** Whether the kernel had it before this load. */
  isAdopted(program: string): boolean {
    return this.#adopted.has(program);
  }

  /** A map of the loaded object. The descriptor belongs to the object: do not close it. */
  openMap(name: string): BpfMap {
    const fd = libbpf().bpf_map__fd(this.map(name).pointer);
    if (fd < 0) throw new BpfError("not-found", `Cannot use map ${name}: object ${this.name} is not loaded`);
    return new BpfMap(fd, name);
  }

  close(): void {
    if (this.#pointer !== null) libbpf().bpf_object__close(this.#pointer);
    this.#pointer = null;
    this.#adopted.forEach(closeFd);
    this.#adopted.clear();
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #program(name: string): Deno.PointerValue {
    const found = this.#programs.get(name);
    if (found === undefined) {
      throw new BpfError("not-found", `Cannot find program ${name} in object ${this.name}`);
    }
    return found;
  }
}

/**
 * Whether a loaded program is the one that would be loaded: its type, its instructions by the kernel's tag, and its maps, which the
 * kernel lists in the order in which the instructions name them. After them come data sections that libbpf ties to every program.
 */
function isSame(
  fd: number,
  { tags }: GateDecision,
  { type, maps }: GateRequest,
  isData: (mapId: number) => boolean,
): boolean {
  const info = programInfo(fd), named = info.mapIds.slice(0, maps.length);
  return info.type === type && tags.includes(info.tag) && named.length === maps.length &&
    maps.every((map, i) => map.info.id === named[i]) && info.mapIds.slice(maps.length).every(isData);
}

/** All maps, with what the object's types say of their values. Throws when these cannot be read: the load is aborted. */
function gateMaps(slots: readonly MapSlot[], bytes: Bytes): GateMap[] {
  const file = ObjectFile.parse(bytes);
  return slots.map((slot) => {
    // libbpf puts the object's name before the section's.
    const map = file.maps.find(({ name }) => name === slot.name || slot.internal && slot.name.endsWith(name));
    if (map === undefined) {
      throw new BpfError(
        "gate-failed",
        `Cannot judge map ${slot.name}: the object's reader does not find it`,
      );
    }
    return gateMap(slot, fieldsOfMap(file, map), map.inner && fieldsOfMap(file, map.inner));
  });
}

function gateMap(slot: MapSlot, specialFields: SpecialField[], innerFields?: SpecialField[]): GateMap {
  const fd = libbpf().bpf_map__fd(slot.pointer);
  const map = new BpfMap(fd, slot.name);
  return {
    fd,
    info: map.info,
    name: slot.name,
    frozen: isFrozenConstant(map) ? map.lookup(new Uint8Array(4)) : undefined,
    inner: slot.inner && { ...slot.inner, specialFields: innerFields },
    specialFields,
  };
}

/** Constants can be folded only from what neither program nor user space can write. */
function isFrozenConstant(map: BpfMap): boolean {
  if ((map.info.flags & BPF_F_RDONLY_PROG) === 0 || map.info.entriesMax !== 1) return false;
  return /^frozen:\s*1$/m.test(Deno.readTextFileSync(`/proc/self/fdinfo/${map.fd}`));
}

/** Names of the sections that hold programs: executable, not `.text` (sub-programs belong to their callers). */
function programSections(bytes: Bytes): string[] {
  const SHF_EXECINSTR = 4;
  return ElfFile.parse(bytes).sections
    .filter((section) => (section.flags & SHF_EXECINSTR) !== 0 && section.data.length > 0)
    .map((section) => section.name)
    .filter((name) => name !== ".text");
}

function sectionBytes(elf: ElfFile, name: string): Bytes | undefined {
  return elf.section(name)?.data.slice() as Bytes | undefined;
}

function onceLazily<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

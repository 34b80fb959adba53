/**
 * Loads the programs of an object into the kernel, to compare verdicts and times: maps are made as the object
 * declares them, programs are the bytes that our verifier gets. Without BTF, so maps with special fields
 * and contracts of global functions are beyond it.
 *
 * @module
 */

import {
  type AssembledProgram,
  type BpfObject,
  type MapDefinition,
  type ObjectProgram,
  PSEUDO,
} from "@weir/object";
import type { Kernel, LoadResult } from "../../scripts/probe/kernel.ts";

/** Entries that a map of an oracle needs: contents do not matter. */
const ENTRIES_MAX = 1024;
const RINGBUF = 27, ARRAY = 2, PERF = 4, ARRAY_OF_MAPS = 12, HASH_OF_MAPS = 13;

/** The maps of one object in the kernel. */
export class KernelMaps {
  readonly #fds = new Map<number, number>();

  constructor(readonly kernel: Kernel, readonly object: BpfObject) {}

  /** The descriptor of a map, which is made when it is first asked for; null when the kernel will not make it. */
  fd(index: number): number | null {
    let fd = this.#fds.get(index);
    if (fd === undefined) {
      try {
        fd = this.#make(this.object.maps[index]);
      } catch {
        return null;
      }
      this.#fds.set(index, fd);
    }
    return fd;
  }

  /** Gives the maps back. */
  close(): void {
    for (const fd of this.#fds.values()) this.kernel.closeFd(fd);
    this.#fds.clear();
  }

  #make(map: MapDefinition): number {
    const innerFd = map.type === ARRAY_OF_MAPS || map.type === HASH_OF_MAPS
      ? this.#make(map.inner ?? { ...map, type: ARRAY, keySize: 4, valueSize: 4, flags: 0, inner: undefined })
      : undefined;
    const fd = this.kernel.createMap({
      type: map.type,
      keyBytes: map.keySize,
      valueBytes: innerFd !== undefined || map.type === PERF ? 4 : map.valueSize,
      entriesMax: map.type === RINGBUF
        ? 4096
        : map.origin === "data"
        ? 1
        : Math.min(Math.max(map.maxEntries, 1), ENTRIES_MAX),
      flags: map.flags,
      innerFd,
    });
    if (map.contents !== undefined) this.kernel.update(fd, new Uint8Array(4), new Uint8Array(map.contents));
    if (map.frozen) this.kernel.freeze(fd);
    return fd;
  }
}

/** The program's bytes with descriptors in the place of map indexes; null when a map cannot be had. */
function withDescriptors(
  assembled: AssembledProgram,
  fdOf: (index: number) => number | null,
): Uint8Array<ArrayBuffer> | null {
  const bytes = new Uint8Array(assembled.instructions);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 8) {
    if (bytes[at] !== 0x18) continue;
    const source = bytes[at + 1] >> 4;
    if (source === PSEUDO.mapFd || source === PSEUDO.mapValue) {
      const fd = fdOf(view.getInt32(at + 4, true));
      if (fd === null) return null;
      view.setInt32(at + 4, fd, true);
    }
    at += 8;
  }
  return bytes;
}

/** What the kernel says to a program of an object, with its own statistics in the log; null when it cannot be asked. */
export function loadInKernel(
  maps: KernelMaps,
  program: ObjectProgram,
  assembled: AssembledProgram,
  options: { logLevel?: number; logBytes?: number; flags?: number } = {},
): LoadResult | null {
  if (program.kind === undefined) return null;
  const instructions = withDescriptors(assembled, (index) => maps.fd(index));
  if (instructions === null) return null;
  return maps.kernel.load({
    type: program.kind.type,
    expectedAttachType: program.kind.attachType,
    flags: program.kind.flags | (options.flags ?? 0),
    license: maps.object.licence,
    instructions,
    ...options,
  });
}

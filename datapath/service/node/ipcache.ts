/** The ipcache in the kernel: single addresses in a hash, shorter prefixes in a trie. @module */
import { type Prefix, ProblemError } from "@weir/common";
import { type Bytes, IpcacheEntry } from "@weir/maps";
import type { IpcacheUpdate, IpcacheUpdateResponse } from "@weir/proto/datapath";
import { hex, mapped, parsePrefix } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";

interface Place {
  exact: boolean;
  prefixlen: number;
  address: Bytes;
}

/** See the module comment. */
export class IpcacheStore {
  /** Keys that are in the kernel; read once at the start. */
  readonly #present = new Map<string, string>();

  constructor(private readonly kernel: Kernel) {
    for (const [address, entry] of kernel.ipcacheExact.entries()) {
      this.#present.set(keyOf({ exact: true, prefixlen: 128, address }), hex(IpcacheEntry.encode(entry)));
    }
    for (const [key, entry] of kernel.ipcache.entries()) {
      this.#present.set(keyOf({ exact: false, ...key }), hex(IpcacheEntry.encode(entry)));
    }
  }

  get size(): number {
    return this.#present.size;
  }
  get entriesMax(): number {
    return this.kernel.ipcacheExact.entriesMax;
  }

  /** Applies an update; what is there already is not written. @throws {ProblemError} IPCACHE_FULL before anything is written */
  apply(update: IpcacheUpdate): IpcacheUpdateResponse {
    const upserts = new Map<string, { place: Place; entry: IpcacheEntry }>();
    for (const upsert of update.upserts) {
      const place = placeOf(parsePrefix(upsert.prefix));
      const node = mapped(upsert.nodeIpv4 || upsert.nodeIpv6);
      upserts.set(keyOf(place), { place, entry: { identity: upsert.identity, flags: 0, node } });
    }
    const deletes = new Map(update.deletes.map((text) => {
      const place = placeOf(parsePrefix(text));
      return [keyOf(place), place] as const;
    }));
    if (update.replace) {
      for (const key of this.#present.keys()) if (!upserts.has(key)) deletes.set(key, placeAt(key));
    }
    this.#refuseOverflow(upserts, deletes);
    const changed: Place[] = [];
    // Additions first: an address that moves from a prefix of its own to a wider one is never unknown.
    for (const [key, { place, entry }] of upserts) {
      const image = hex(IpcacheEntry.encode(entry));
      if (this.#present.get(key) === image) continue;
      if (place.exact) this.kernel.ipcacheExact.put(place.address, entry);
      else this.kernel.ipcache.put({ prefixlen: place.prefixlen, address: place.address }, entry);
      this.#present.set(key, image);
      changed.push(place);
    }
    for (const [key, place] of deletes) {
      if (upserts.has(key) || !this.#present.delete(key)) continue;
      if (place.exact) this.kernel.ipcacheExact.delete(place.address);
      else this.kernel.ipcache.delete({ prefixlen: place.prefixlen, address: place.address });
      changed.push(place);
    }
    if (changed.length > 0) this.kernel.revise(changed);
    return { entries: this.size, entriesMax: this.entriesMax };
  }

  #refuseOverflow(
    upserts: ReadonlyMap<string, { place: Place }>,
    deletes: ReadonlyMap<string, unknown>,
  ): void {
    for (
      const [exact, entriesMax] of [[true, this.kernel.ipcacheExact.entriesMax], [
        false,
        this.kernel.ipcache.entriesMax,
      ]]
    ) {
      const kind = exact ? "e" : "p";
      // Additions are written before deletions, so both must fit at once.
      const count = [...this.#present.keys()].filter((key) => key.startsWith(kind)).length +
        [...upserts].filter(([key, { place }]) => place.exact === exact && !this.#present.has(key)).length;
      if (count <= (entriesMax as number)) continue;
      void deletes;
      throw new ProblemError("IPCACHE_FULL", {
        status: 507,
        detail:
          `Cannot update the ipcache: it would hold ${count} of at most ${entriesMax} entries; nothing was written`,
        found: count,
        expected: `at most ${entriesMax}`,
        action: "Raise --ipcache-entries-max",
      });
    }
  }
}

function placeOf(prefix: Prefix): Place {
  const v4 = prefix.family === 4;
  const address = mapped(prefix.address.text);
  return { exact: prefix.isHost, prefixlen: v4 ? 96 + prefix.length : prefix.length, address };
}

function keyOf(place: Place): string {
  return `${place.exact ? "e" : "p"}${place.prefixlen}/${hex(place.address)}`;
}

function placeAt(key: string): Place {
  const [length, address] = key.slice(1).split("/");
  return {
    exact: key[0] === "e",
    prefixlen: Number(length),
    address: Uint8Array.fromHex(address) as Bytes,
  };
}

/**
 * What a map holds goes into the one that takes its place because values have grown: old bytes first, then zeros. Programs of the
 * version before fill the old one until they are replaced, so it is done twice: before the new map is used, and after.
 *
 * @module
 */
import { type BpfMap, MapFull } from "@weir/loader";

type Bytes = Uint8Array<ArrayBuffer>;

/** One map on its way into another. Owns the old one. */
export class CarryOver implements Disposable {
  /** Entries that came into the new map. */
  carried = 0;
  /** Entries that found no room there. */
  left = 0;
  readonly #from: BpfMap;
  readonly #to: BpfMap;
  /** Keys that were seen, as text: what was carried and is gone from the new map was deleted there, and stays so. */
  readonly #seen = new Set<string>();

  /** @param to of the same keys, with values as large or larger */
  constructor(from: BpfMap, to: BpfMap) {
    this.#from = from;
    this.#to = to;
  }

  /** Copies all there is, with one call per table. Only while nobody else writes the new map. @throws {BpfError} */
  begin(): void {
    const { keys, values, count } = this.#from.packed();
    const grown = this.#grow(values, count);
    for (let i = 0; i < count; i++) this.#see(keys, i);
    try {
      this.#to.updatePacked(keys, grown, count);
      this.carried = this.#seen.size;
    } catch (error) {
      if (!(error instanceof MapFull)) throw error;
      this.carried = this.#to.info.entriesMax;
      this.left = this.#seen.size - this.carried;
    }
  }

  /** Copies what came since, except over what the new programs have made themselves. Repeatable. @throws {BpfError} */
  catchUp(): void {
    const { keys, values, count } = this.#from.packed();
    const grown = this.#grow(values, count);
    const { keySize, valueSize } = this.#to.info;
    for (let i = 0; i < count; i++) {
      if (!this.#see(keys, i)) continue;
      const key = keys.slice(i * keySize, (i + 1) * keySize);
      try {
        if (this.#to.insert(key, grown.subarray(i * valueSize, (i + 1) * valueSize))) this.carried++;
      } catch (error) {
        if (!(error instanceof MapFull)) throw error;
        this.left++;
      }
    }
  }

  /** @returns whether the key is new */
  #see(keys: Bytes, index: number): boolean {
    const { keySize } = this.#from.info, before = this.#seen.size;
    this.#seen.add(String.fromCharCode(...keys.subarray(index * keySize, (index + 1) * keySize)));
    return this.#seen.size > before;
  }

  #grow(values: Bytes, count: number): Bytes {
    const from = this.#from.info.valueSize, to = this.#to.info.valueSize;
    if (from === to) return values;
    const grown = new Uint8Array(count * to);
    for (let i = 0; i < count; i++) grown.set(values.subarray(i * from, (i + 1) * from), i * to);
    return grown;
  }

  [Symbol.dispose](): void {
    this.#seen.clear();
    this.#from.close();
  }
}

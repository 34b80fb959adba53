/** A map with codecs: what the services' code sees of the kernel's maps. @module */
import type { BpfMap } from "@weir/loader";
import { MAPS, type StructCodec } from "@weir/maps";

/** Name of a map whose key and value have types. */
export type MapName = keyof typeof MAPS;
type Decoded<C> = C extends StructCodec<infer T> ? T : never;
/** The typed map of a name. */
export type MapOf<N extends MapName> = TypedMap<
  Decoded<typeof MAPS[N]["key"]>,
  Decoded<typeof MAPS[N]["value"]>
>;

/** Gives a map the codecs that its declaration in the programs says. */
export function typedMap<N extends MapName>(name: N, map: BpfMap): MapOf<N> {
  const { key, value } = MAPS[name] as { key: StructCodec<unknown>; value: StructCodec<unknown> };
  return new TypedMap(map, key, value) as unknown as MapOf<N>;
}

/** One map, typed. */
export class TypedMap<K, V> {
  constructor(readonly map: BpfMap, readonly key: StructCodec<K>, readonly value: StructCodec<V>) {}

  get entriesMax(): number {
    return this.map.info.entriesMax;
  }
  get(key: K): V | undefined {
    const found = this.map.lookup(this.key.encode(key));
    return found && this.value.decode(found);
  }
  /** The value in each CPU. */
  getPerCpu(key: K): V[] {
    return (this.map.lookupPerCpu(this.key.encode(key)) ?? []).map((part) => this.value.decode(part));
  }
  put(key: K, value: V): void {
    this.map.update(this.key.encode(key), this.value.encode(value));
  }
  /** Zeroes the value, in each CPU where there is one per CPU. */
  clear(key: K): void {
    this.map.update(this.key.encode(key), new Uint8Array(this.map.valueBytes));
  }
  delete(key: K): boolean {
    return this.map.delete(this.key.encode(key));
  }
  entries(): [K, V][] {
    return this.map.entries().map(([key, value]) => [this.key.decode(key), this.value.decode(value)]);
  }
  entriesPerCpu(): [K, V[]][] {
    return this.map.entries().map(([key, value]) => [
      this.key.decode(key),
      this.map.splitPerCpu(value).map((part) => this.value.decode(part)),
    ]);
  }
}

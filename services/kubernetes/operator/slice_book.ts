/**
 * Which endpoint is in which slice. Pure. An endpoint stays where it is for as long as it lives; a new one goes where a write
 * is due anyway, else into the fullest slice with room: the fewest slices change.
 * @module
 */

/** Most endpoints of one slice. */
export const SLICE_ENDPOINTS_MAX = 100;

interface Slice {
  readonly namespace: string;
  readonly members: Set<string>;
}

/** Holds the slices of all namespaces. */
export class SliceBook {
  readonly #slices = new Map<string, Slice>();
  /** Slices of each namespace. */
  readonly #byNamespace = new Map<string, Set<string>>();
  /** Slice of each endpoint. */
  readonly #sliceOf = new Map<string, string>();

  /** @param nameOf a name that no slice has */
  constructor(
    readonly nameOf: (namespace: string) => string,
    readonly endpointsMax = SLICE_ENDPOINTS_MAX,
  ) {}

  /** Names of all slices that have endpoints. */
  names(): IterableIterator<string> {
    return this.#slices.keys();
  }

  /** Endpoints in a slice, and their namespace; undefined when there is no such slice. */
  get(slice: string): { namespace: string; members: ReadonlySet<string> } | undefined {
    return this.#slices.get(slice);
  }

  sliceOf(endpoint: string): string | undefined {
    return this.#sliceOf.get(endpoint);
  }

  /**
   * A slice was found with these endpoints: those that no other slice has stay in it.
   * @param endpoints "NAMESPACE/POD", of those that there are
   */
  adopt(slice: string, namespace: string, endpoints: Iterable<string>): void {
    for (const endpoint of endpoints) {
      const members = this.#slices.get(slice)?.members.size ?? 0;
      if (this.#sliceOf.has(endpoint) || members >= this.endpointsMax) continue;
      if (namespaceOf(endpoint) === namespace) this.#put(endpoint, slice, namespace);
    }
  }

  /**
   * An endpoint is there; answers its slice.
   * @param isDue whether a slice is to be written anyway
   */
  put(endpoint: string, isDue: (slice: string) => boolean): string {
    const found = this.#sliceOf.get(endpoint);
    if (found !== undefined) return found;
    const namespace = namespaceOf(endpoint);
    let best: string | undefined, bestDue = false, bestSize = -1;
    for (const name of this.#byNamespace.get(namespace) ?? []) {
      const { size } = this.#slices.get(name)!.members;
      if (size >= this.endpointsMax) continue;
      const due = isDue(name);
      if (due === bestDue ? size <= bestSize : !due) continue;
      [best, bestDue, bestSize] = [name, due, size];
    }
    const slice = best ?? this.nameOf(namespace);
    this.#put(endpoint, slice, namespace);
    return slice;
  }

  /** An endpoint is gone; answers the slice that it was in. */
  remove(endpoint: string): string | undefined {
    const name = this.#sliceOf.get(endpoint);
    if (name === undefined) return undefined;
    this.#sliceOf.delete(endpoint);
    const slice = this.#slices.get(name)!;
    slice.members.delete(endpoint);
    if (slice.members.size === 0) {
      this.#slices.delete(name);
      const names = this.#byNamespace.get(slice.namespace)!;
      names.delete(name);
      if (names.size === 0) this.#byNamespace.delete(slice.namespace);
    }
    return name;
  }

  #put(endpoint: string, name: string, namespace: string): void {
    let slice = this.#slices.get(name);
    if (slice === undefined) {
      this.#slices.set(name, slice = { namespace, members: new Set() });
      let names = this.#byNamespace.get(namespace);
      if (names === undefined) this.#byNamespace.set(namespace, names = new Set());
      names.add(name);
    }
    slice.members.add(endpoint);
    this.#sliceOf.set(endpoint, name);
  }
}

function namespaceOf(endpoint: string): string {
  return endpoint.slice(0, endpoint.indexOf("/"));
}

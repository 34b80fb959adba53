/**
 * Values by prefix, found by what lies inside another prefix or around it. A binary trie, one level per bit.
 * @module
 */
import type { IpAddress } from "./address.ts";
import type { Prefix } from "./prefix.ts";

interface Node<V> {
  zero?: Node<V>;
  one?: Node<V>;
  values?: Set<V>;
}

/** Values by prefix, found by what lies inside another prefix or around it. Several values may share a prefix. */
export class PrefixTrie<V> {
  readonly #roots: Record<4 | 6, Node<V>> = { 4: {}, 6: {} };

  /** Adds a value; repeatable. */
  add(prefix: Prefix, value: V): void {
    let node = this.#roots[prefix.family];
    for (let bit = 0; bit < prefix.length; bit++) {
      node = child(node, bitAt(prefix.address, bit)) ?? grow(node, prefix, bit);
    }
    (node.values ??= new Set()).add(value);
  }

  /** Removes a value, and the branches that nothing needs any more. Repeatable. */
  delete(prefix: Prefix, value: V): void {
    const path: Node<V>[] = [this.#roots[prefix.family]];
    for (let bit = 0; bit < prefix.length; bit++) {
      const next = child(path[bit], bitAt(prefix.address, bit));
      if (!next) return;
      path.push(next);
    }
    const last = path[prefix.length];
    last.values?.delete(value);
    if (last.values?.size === 0) last.values = undefined;
    for (let bit = prefix.length - 1; bit >= 0; bit--) {
      const below = path[bit + 1];
      if (below.zero || below.one || below.values) return;
      if (bitAt(prefix.address, bit)) path[bit].one = undefined;
      else path[bit].zero = undefined;
    }
  }

  /** Values whose prefix is the given one or lies inside it. */
  *inside(prefix: Prefix): Generator<V> {
    let node: Node<V> | undefined = this.#roots[prefix.family];
    for (let bit = 0; bit < prefix.length && node; bit++) node = child(node, bitAt(prefix.address, bit));
    const open = node ? [node] : [];
    while (open.length > 0) {
      const { zero, one, values } = open.pop()!;
      if (values) yield* values;
      if (one) open.push(one);
      if (zero) open.push(zero);
    }
  }

  /** Values whose prefix is the given one or contains it, shortest first. */
  *around(prefix: Prefix): Generator<V> {
    let node: Node<V> | undefined = this.#roots[prefix.family];
    for (let bit = 0; node; bit++) {
      if (node.values) yield* node.values;
      if (bit === prefix.length) return;
      node = child(node, bitAt(prefix.address, bit));
    }
  }
}

function bitAt(address: IpAddress, bit: number): boolean {
  return ((address.byteAt(bit >> 3) >> (7 - (bit & 7))) & 1) === 1;
}

function child<V>(node: Node<V>, one: boolean): Node<V> | undefined {
  return one ? node.one : node.zero;
}

function grow<V>(node: Node<V>, prefix: Prefix, bit: number): Node<V> {
  const made: Node<V> = {};
  if (bitAt(prefix.address, bit)) node.one = made;
  else node.zero = made;
  return made;
}

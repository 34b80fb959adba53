/**
 * Which items of a block: a set of numbers 0 to 255.
 *
 *     up to 24 of them: two hexadecimal digits each, in order     more: 64 digits, bit n of byte n / 8 for item n
 *
 * @module
 */

/** Items that a set can have. */
export const ITEMS_MAX = 256;
/** So many are written one by one; as bits they would be longer. */
const LISTED_MAX = 24;
const BYTES = ITEMS_MAX / 8;

/** 256 bits. */
export type ItemSet = Uint8Array;

/** Every item. */
export function allItems(): ItemSet {
  return new Uint8Array(BYTES).fill(255);
}

/** What is in both. Pure. */
export function intersect(a: ItemSet, b: ItemSet): ItemSet {
  return a.map((byte, index) => byte & b[index]);
}

/** What is in one of them. Pure. */
export function unite(a: ItemSet, b: ItemSet): ItemSet {
  return a.map((byte, index) => byte | b[index]);
}

/** There is none. */
export function isEmpty(set: ItemSet): boolean {
  return set.every((byte) => byte === 0);
}

/** Whether item `index` is in it. */
export function hasItem(set: ItemSet, index: number): boolean {
  return (set[index >> 3] & 1 << (index & 7)) !== 0;
}

/** A set of these items, 0 to 255. */
export function itemSetOf(items: Iterable<number>): ItemSet {
  const set = new Uint8Array(BYTES);
  for (const item of items) set[item >> 3] |= 1 << (item & 7);
  return set;
}

/** Its text. */
export function formatItems(items: readonly number[]): string {
  return items.length <= LISTED_MAX ? Uint8Array.from(items).toHex() : itemSetOf(items).toHex();
}

/** Reads it. Text that is none means every item: then the filter itself decides. */
export function parseItems(text: string): ItemSet {
  if (text.length === 2 * BYTES) return bytesOf(text) ?? allItems();
  const items = bytesOf(text);
  return items === undefined ? allItems() : itemSetOf(items);
}

function bytesOf(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.fromHex(text);
  } catch {
    return undefined;
  }
}

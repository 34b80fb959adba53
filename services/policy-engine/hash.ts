/** A small hash that is the same in every process. @module */

/** FNV-1a over UTF-16 units, 32 bits. */
export function fnv1a(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ (text.charCodeAt(i) & 0xff), 0x01000193);
    value = Math.imul(value ^ (text.charCodeAt(i) >> 8), 0x01000193);
  }
  return value >>> 0;
}

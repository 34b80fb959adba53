/** placeholder header, see below @module */

/** A backend as the table knows it. */
export interface MaglevBackend {
  /** The same text on every node: "address:port". */
  text: string;
  /** Share relative to the others', at least 1. */
  weight: number;
}

/** Table of indexes into `backends`. */
export function maglevTable(
  backends: readonly MaglevBackend[],
  options: { size: number; seed: number },
): Uint32Array<ArrayBuffer> {
  const { size, seed } = options, count = backends.length;
  const table = new Uint32Array(size);
  if (count === 0) return table;
  const order = backends.map((_, i) => i).sort((a, b) => backends[a].text < backends[b].text ? -1 : 1);
  let weights = 0;
  for (const { weight } of backends) weights += weight;
  const at = new Uint32Array(count), skip = new Uint32Array(count), quota = new Uint32Array(count);
  let before = 0, given = 0;
  for (let i = 0; i < count; i++) {
    const { text, weight } = backends[order[i]];
    at[i] = hashText(text, seed) % size;
    skip[i] = 1 + hashText(text, seed ^ 0x5bd1e995) % (size - 1);
    before += weight;
    const until = Math.floor(size * before / weights);
    quota[i] = until - given;
    given = until;
  }
  table.fill(0xffffffff);
  for (let left = size; left > 0;) {
    for (let i = 0; i < count; i++) {
      if (quota[i] === 0) continue;
      const place = at[i];
      at[i] = (place + skip[i]) % size;
      if (table[place] !== 0xffffffff) continue;
      table[place] = order[i];
      quota[i]--;
      left--;
    }
  }
  return table;
}

function hashText(text: string, seed: number): number {
  let h = seed >>> 0;
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 0xcc9e2d51);
    h = Math.imul(h << 15 | h >>> 17, 0x1b873593);
  }
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return (h ^ h >>> 16) >>> 0;
}

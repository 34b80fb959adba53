/**
 * How a selection's entries follow its backends: an entry is written only where it must differ, and any prefix of the
 * writes leaves a table of backends that are wanted or were.
 *
 * @module
 */

/** Backend ids with how often each occurs. */
export type Weights = ReadonlyMap<number, number>;

/** Entries to write (places from 0), and how many there are afterwards. */
export interface SelectionWrites {
  places: number[];
  ids: number[];
  next: Uint32Array<ArrayBuffer>;
}

/**
 * Entries of a selection from which any may be taken. What stays, stays in its place; who comes takes the places of who
 * goes, then the end; holes that are left are filled from the end. Pure.
 */
export function rearrange(current: Uint32Array, wanted: Weights): SelectionWrites {
  const left = new Map(wanted);
  let length = 0;
  for (const weight of wanted.values()) length += weight;
  const next = new Uint32Array(length);
  const holes: number[] = [], moving: number[] = [];
  for (let place = 0; place < current.length; place++) {
    const id = current[place], more = left.get(id) ?? 0;
    if (more > 0) left.set(id, more - 1);
    if (place < length) {
      if (more > 0) next[place] = id;
      else holes.push(place);
    } else if (more > 0) moving.push(id);
  }
  for (let place = current.length; place < length; place++) holes.push(place);
  const coming = moving;
  for (const [id, count] of left) for (let i = 0; i < count; i++) coming.push(id);
  holes.forEach((place, at) => next[place] = coming[at]);
  return { places: holes, ids: coming, next };
}

/** Places where two tables of one size differ. Pure. */
export function differing(current: Uint32Array, next: Uint32Array<ArrayBuffer>): SelectionWrites {
  const places: number[] = [], ids: number[] = [];
  for (let place = 0; place < next.length; place++) {
    if (current[place] === next[place]) continue;
    places.push(place);
    ids.push(next[place]);
  }
  return { places, ids, next };
}

/** Weights with the same shares whose sum is at most `max`; undefined when there are more backends than that. */
export function reduced(weights: Weights, max: number): Weights | undefined {
  if (weights.size > max) return undefined;
  let divisor = 0, sum = 0;
  for (const weight of weights.values()) {
    divisor = gcd(divisor, weight);
    sum += weight;
  }
  if (divisor <= 1 && sum <= max) return weights;
  divisor ||= 1;
  if (sum / divisor <= max) return new Map([...weights].map(([id, weight]) => [id, weight / divisor]));
  const room = (max - weights.size) / sum;
  return new Map([...weights].map(([id, weight]) => [id, 1 + Math.floor(weight * room)]));
}

function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/** Frames with something wrong in them, for tests. @module */

/** Whole numbers below a limit that a seed repeats. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** Frames with a few things that are not legal: bits, lengths, kinds, numbers, order, an end too early. */
export function spoilt(frames: Uint8Array[], dice: Dice): Uint8Array[] {
  for (let changes = dice.below(4); changes > 0; changes--) {
    const at = dice.below(frames.length), bytes = frames[at];
    switch (dice.below(7)) {
      case 0:
        bytes[dice.below(bytes.length)] ^= 1 << dice.below(8);
        break;
      case 1:
        bytes[2] = dice.below(256);
        break;
      case 2:
        bytes[3] = dice.below(11);
        break;
      case 3:
        bytes[4] = dice.below(64);
        break;
      case 4:
        bytes[8] = dice.below(24);
        break;
      case 5:
        frames.splice(at, 0, frames[dice.below(frames.length)]);
        break;
      case 6:
        frames[at] = bytes.subarray(0, dice.below(bytes.length));
    }
  }
  return frames;
}

/** In pieces as a network may cut them. */
export function cut(frames: readonly Uint8Array[], dice: Dice): Uint8Array[] {
  const all = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0)), pieces: Uint8Array[] = [];
  let end = 0;
  for (const one of frames) {
    all.set(one, end);
    end += one.length;
  }
  for (let at = 0; at < end;) {
    const next = Math.min(end, at + 1 + dice.below(dice.below(4) === 0 ? 20 : 5000));
    pieces.push(all.subarray(at, next));
    at = next;
  }
  return pieces;
}

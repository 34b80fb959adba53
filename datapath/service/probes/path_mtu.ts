/**
 * Which size of packets arrives. As long as the wanted one does, that alone is asked; when it was lost twice while small ones arrived,
 * the largest that arrives is searched, eight sizes at a time. Then the wanted size, the one found and one byte more are asked: each
 * may have changed. Pure. @module
 */

/** Lost so often in a row, a size does not arrive: packets are lost now and then everywhere. */
const LOST_MIN = 2;
const SIZES_PER_ROUND = 8;

/** Sizes are bytes of a whole IP packet. */
export class PathMtu {
  #mode: "whole" | "search" | "found" = "whole";
  /** Whether the wanted size has arrived, ever. */
  #known = false;
  #lostInARow = 0;
  #good: number;
  #bad = Infinity;
  /** Sizes of the round of a search: what came of them, undefined while they are on their way. */
  #round = new Map<number, boolean | undefined>();
  #hint = 0;
  readonly #small: number;
  readonly wanted: number;

  /** @param small size that is known to arrive where anything does */
  constructor(wanted: number, small: number) {
    this.wanted = wanted;
    this.#small = small;
    this.#good = small;
  }

  /** Largest size that arrives, as far as it is known. */
  get mtu(): number | undefined {
    return this.#mode === "whole" ? (this.#known ? this.wanted : undefined) : this.#good;
  }

  get searching(): boolean {
    return this.#mode === "search";
  }

  /** Smaller than it should be, or about to be found so. */
  get suspect(): boolean {
    return this.#mode === "search" || this.#lostInARow > 0;
  }

  /** Sizes to ask now. */
  sizes(): number[] {
    if (this.#mode === "whole") return [this.wanted];
    if (this.#mode === "found") {
      return [...new Set([this.wanted, this.#good, Math.min(this.wanted, this.#good + 1)])];
    }
    if (this.#round.size === 0) this.#begin();
    return [...new Set([this.wanted, ...this.#round.keys()])];
  }

  /** A packet of that size arrived. */
  arrived(size: number): void {
    if (size === this.wanted) {
      this.#known = true;
      this.#mode = "whole";
      this.#lostInARow = 0;
      this.#round.clear();
      return;
    }
    if (this.#mode === "found" && size > this.#good) this.#search(size, this.wanted);
    else if (this.#mode === "found" && size === this.#good) this.#lostInARow = 0;
    this.#note(size, true);
  }

  /** A packet of that size was lost while small ones arrived. */
  lost(size: number): void {
    if (this.#mode === "whole" && size === this.wanted) {
      if (++this.#lostInARow >= LOST_MIN) this.#search(this.#small, this.wanted);
    } else if (this.#mode === "found" && size === this.#good && size > this.#small) {
      if (++this.#lostInARow >= LOST_MIN) this.#search(this.#small, size);
    }
    this.#note(size, false);
  }

  /** It is not known what became of a packet of that size. */
  unjudged(size: number): void {
    if (!this.#round.has(size)) return;
    this.#round.delete(size);
    if (this.#round.size > 0) this.#narrow();
  }

  /** Who refused a packet says what fits: 0 where it does not. */
  hint(mtu: number): void {
    this.#hint = mtu;
  }

  #search(good: number, bad: number): void {
    this.#mode = "search";
    this.#good = good;
    this.#bad = bad;
    this.#lostInARow = 0;
    this.#round.clear();
  }

  #begin(): void {
    const room = this.#bad - this.#good - 1, parts = Math.min(SIZES_PER_ROUND, room);
    for (let i = 1; i <= parts; i++) {
      this.#round.set(this.#good + Math.round(i * (room + 1) / (parts + 1)), undefined);
    }
    for (const size of [this.#hint, this.#hint + 1]) {
      if (size > this.#good && size < this.#bad) this.#round.set(size, undefined);
    }
    this.#hint = 0;
    if (this.#round.size === 0) this.#mode = "found";
  }

  #note(size: number, arrived: boolean): void {
    if (this.#mode !== "search" || !this.#round.has(size)) return;
    this.#round.set(size, arrived);
    this.#narrow();
  }

  /** When nothing of the round is on its way any more. */
  #narrow(): void {
    const results = [...this.#round];
    if (results.some(([, arrived]) => arrived === undefined)) return;
    this.#good = Math.max(this.#good, ...results.filter(([, arrived]) => arrived).map(([size]) => size));
    const lost = results.filter(([size, arrived]) => !arrived && size > this.#good).map(([size]) => size);
    this.#bad = Math.min(this.#bad, ...lost);
    this.#round.clear();
    if (this.#bad - this.#good <= 1) this.#mode = "found";
  }
}

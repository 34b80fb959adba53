/**
 * Numbers of a range that are given out once each, in a circle so that one that was given back is not soon given again.
 * @module
 */

/**
 * Numbers of a range that are given out once each, in a circle so that one that was given back is not soon given again.
 */
export class NumberPool {
  readonly #owners = new Map<number, string>();
  #next: number;

  /** @param dynamicFrom where numbers that nobody asked for begin; those before are given when the others are taken */
  constructor(readonly min: number, readonly max: number, readonly dynamicFrom: number = min) {
    this.#next = dynamicFrom;
  }

  get used(): number {
    return this.#owners.size;
  }
  ownerOf(number: number): string | undefined {
    return this.#owners.get(number);
  }

  /** Takes a number that is known; the caller knows that it is free or its own. */
  take(number: number, owner: string): void {
    this.#owners.set(number, owner);
  }

  /** Gives back; nothing when it is another owner's. */
  release(number: number, owner: string): void {
    if (this.#owners.get(number) === owner) this.#owners.delete(number);
  }

  /** Takes the next free number; undefined when all are taken. */
  takeFree(owner: string): number | undefined {
    const size = this.max - this.min + 1;
    if (this.#owners.size >= size) return undefined;
    for (let i = 0; i <= this.max - this.dynamicFrom; i++) {
      const number = this.#next;
      this.#next = number >= this.max ? this.dynamicFrom : number + 1;
      if (!this.#owners.has(number)) return this.take(number, owner), number;
    }
    for (let number = this.min; number < this.dynamicFrom; number++) {
      if (!this.#owners.has(number)) return this.take(number, owner), number;
    }
    return undefined;
  }

  /** Numbers after the highest that is taken come next: after a start, what was given back before is not reused at once. */
  continueAfterHighest(): void {
    let highest = this.dynamicFrom - 1;
    for (const number of this.#owners.keys()) if (number > highest) highest = number;
    this.#next = highest >= this.max ? this.dynamicFrom : highest + 1;
  }
}

/** Counts the system calls that write maps, and can fail one of them: a fault point for tests. @module */

/** Counts the system calls that write maps, and can fail one of them. */
export class MapWrites {
  count = 0;
  /** Fails the write after this many; undefined: none. */
  failAfter: number | undefined;

  /** To be called before a write. @throws {Error} at the fault point */
  before(): void {
    if (this.failAfter !== undefined && this.failAfter-- <= 0) throw new Error("Cannot write: fault point");
  }
  /** Takes what a write cost. */
  add(calls: number): void {
    this.count += calls;
  }
}

/**
 * Keeps work that strangers ask for from standing in the way of everything else in the process: after some milliseconds it rests
 * until all that waits has had its turn. Of all calls together one goes on in each turn.
 *
 *     call 1: filter filter | events, answers | call 2: filter filter | events, answers | call 1: filter ...
 *
 * @module
 */

/** Works so long at a stretch, and so long when it begins, in milliseconds. */
const WORK_MS_MAX = 10, FIRST_MS_MAX = 1;

let last: Promise<void> = Promise.resolve();

/** The pace of one call. */
export class Pace {
  #untilMs = performance.now() + FIRST_MS_MAX;

  /** Whether it has worked long enough. */
  get isOver(): boolean {
    return performance.now() > this.#untilMs;
  }

  /** Lets what waits go first. */
  async rest(): Promise<void> {
    last = last.then(() => new Promise((resolve) => setTimeout(resolve)));
    await last;
    this.#untilMs = performance.now() + WORK_MS_MAX;
  }
}

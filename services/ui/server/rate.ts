/** How often something happens now: an average over the last seconds in which what is older counts less and less. @module */

/** Seconds after which an event counts a third (1/e). */
const MEAN_S = 10;
/** Below this nobody counts: one in 200 seconds. */
const RATE_MIN = 0.005;

/** One rate. 16 bytes. */
export class Rate {
  #sum = 0;
  #atS = 0;

  /** Something happened at `atS`, Unix seconds; what is told late counts as much as if it had been told in time. */
  add(atS: number): void {
    if (atS >= this.#atS) {
      this.#sum = this.#sum * Math.exp((this.#atS - atS) / MEAN_S) + 1;
      this.#atS = atS;
    } else this.#sum += Math.exp((atS - this.#atS) / MEAN_S);
  }

  /** Per second. */
  at(nowS: number): number {
    const rate = this.#sum / MEAN_S * Math.exp(Math.min(0, this.#atS - nowS) / MEAN_S);
    return rate < RATE_MIN ? 0 : rate;
  }
}

/** With two digits, so that a steady rate stays one number: 0.13, 4.7, 120. */
export function twoDigits(rate: number): number {
  return rate === 0 ? 0 : Number(rate.toPrecision(2));
}

/** What came of many comparisons. @module */
import assert from "node:assert/strict";

/** What came of the same bytes, read by us and by Envoy. */
export interface Compared {
  /** Where Envoy read another request than was judged. */
  readonly wrong: readonly string[];
  /** What we judged and passed on, and Envoy would not: the reason, or the request. */
  readonly refusals: readonly string[];
  /** Requests that both read alike. */
  readonly agreed: number;
  /** Requests that Envoy alone passes on, and we refuse. */
  readonly stricter: number;
}

/** So many are asked about at once: most of the time is waiting. */
const AT_ONCE = 16;
/** Of what is wrong, as a failure shows it. */
const SHOWN_MAX = 5;

/** Their sum. */
export class Tally {
  agreed = 0;
  stricter = 0;
  readonly #wrong: string[] = [];
  readonly #refusals: [what: string, refusal: string][] = [];

  get refused(): number {
    return this.#refusals.length;
  }

  get text(): string {
    return `${this.agreed} read alike, ${this.stricter} refused only by us, ${this.refused} only by Envoy`;
  }

  /** Asks about all of them. @param ask about the one with this index */
  async ofEach(count: number, ask: (index: number) => Promise<void>): Promise<void> {
    let next = 0;
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (next < count) await ask(next++);
    }));
  }

  /** @param what the bytes, as a failure names them */
  add(what: string, { wrong, refusals, agreed, stricter }: Compared): void {
    this.agreed += agreed;
    this.stricter += stricter;
    this.#wrong.push(...wrong.map((one) => `${what}: ${one}`));
    this.#refusals.push(...refusals.map((one) => [what, one] as [string, string]));
  }

  /** Nothing is wrong, and what Envoy refuses is known. @param known parts of refusals, with the reason why we pass it on */
  check(known: Readonly<Record<string, string>>): void {
    assert.deepEqual(this.#wrong.slice(0, SHOWN_MAX), [], `${this.#wrong.length} are read otherwise`);
    const unknown = this.#refusals.filter(([, one]) =>
      !Object.keys(known).some((part) => one.includes(part))
    );
    assert.deepEqual(
      unknown.slice(0, SHOWN_MAX),
      [],
      `Envoy refuses ${unknown.length} for reasons that are not listed`,
    );
  }
}

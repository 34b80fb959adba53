/** What a service waits for before it is ready, and what is wrong with it now. @module */

/** One condition of readiness. */
export interface HealthCheck {
  name: string;
  ok: boolean;
  /** What it waits for, or what failed. */
  message: string;
  /** Since when it has been so, Unix seconds. */
  sinceUnixS: number;
}

/** Named conditions; the service is ready when all are ok. And turns of its work, by which it is known to live. */
export class Health {
  #checks = new Map<string, HealthCheck>();
  /** When the next turn of each piece of work is due at the latest, on the monotonic clock. */
  #turns = new Map<string, { lastMs: number; dueMs: number }>();
  readonly #nowMs: () => number;
  readonly #monotonicMs: () => number;

  constructor(
    nowMs: () => number = () => Date.now(),
    monotonicMs: () => number = () => performance.now(),
  ) {
    this.#nowMs = nowMs;
    this.#monotonicMs = monotonicMs;
  }

  /**
   * A turn of this work has ended, well or not, and the next ends within `withinMs`. When it does not, `/livez` says so and
   * the supervisor starts the service anew: only for work that turns by itself, whatever its peers do.
   */
  alive(name: string, withinMs: number): void {
    const lastMs = this.#monotonicMs();
    this.#turns.set(name, { lastMs, dueMs: lastMs + withinMs });
  }

  /** This work has ended for good. */
  rest(name: string): void {
    this.#turns.delete(name);
  }

  /** Work that stands still: "resync has not turned for 75 s"; undefined when none does. */
  get stuck(): string | undefined {
    const nowMs = this.#monotonicMs();
    const late = [...this.#turns].filter(([, { dueMs }]) => dueMs < nowMs);
    if (late.length === 0) return undefined;
    return late.map(([name, { lastMs }]) =>
      `${name} has not turned for ${Math.floor((nowMs - lastMs) / 1000)} s`
    ).join("; ");
  }

  /** Not ready for now: `message` says what is waited for. */
  waitFor(name: string, message: string): void {
    this.#set(name, false, message);
  }

  /** The condition holds. */
  ok(name: string, message = "ok"): void {
    this.#set(name, true, message);
  }

  /** The condition is no longer asked. */
  remove(name: string): void {
    this.#checks.delete(name);
  }

  get ready(): boolean {
    return [...this.#checks.values()].every((check) => check.ok);
  }

  list(): HealthCheck[] {
    return [...this.#checks.values()].map((check) => ({ ...check }));
  }

  #set(name: string, ok: boolean, message: string): void {
    const before = this.#checks.get(name);
    const sinceUnixS = before?.ok === ok ? before.sinceUnixS : this.#nowMs() / 1000;
    this.#checks.set(name, { name, ok, message, sinceUnixS });
  }
}

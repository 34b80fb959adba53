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

/** Named conditions; the service is ready when all are ok. */
export class Health {
  #checks = new Map<string, HealthCheck>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => Date.now()) {
    this.#nowMs = nowMs;
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

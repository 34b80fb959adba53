/**
 * Which nodes spoke since this engine began. Its database may be an older copy, and only nodes that had newer policies in force know
 * it; a node that comes new knows nothing. So it is answered after those that there are were heard and judged.
 *
 *     engine begins ─▶ node-1 (had 20) ─▶ judged ─▶ heard ─┐
 *                      node-3 (new) ── waits ──────────────┴─▶ answered      a node that says nothing: after ROLL_CALL_MS
 *
 * @module
 */
import type { Clock } from "@weir/common";

/** How long an engine that began waits for nodes: longer than they take to connect again, milliseconds. */
export const ROLL_CALL_MS = 15_000;
/** Longest wait of one request, milliseconds. */
const REQUEST_MS_MAX = 2000;
const LOOK_MS = 50;

/** What {@link RollCall} is made of. */
export interface RollCallParts {
  clock: Clock;
  /** Names of the cluster's nodes; undefined while they are not known. */
  nodes: () => Iterable<string> | undefined;
}

/** See the top of the file. */
export class RollCall {
  readonly #parts: RollCallParts;
  readonly #heard = new Set<string>();
  #beganMs: number | undefined;
  #isOver = false;

  constructor(parts: RollCallParts) {
    this.#parts = parts;
  }

  /** The engine can answer. Repeatable: the first time counts. */
  begin(): void {
    this.#beganMs ??= this.#parts.clock.monotonicMs();
  }

  /** A node spoke, and what it said was judged. */
  heard(node: string): void {
    if (!this.#isOver) this.#heard.add(node);
  }

  /** Nodes of the cluster that were not heard. */
  missing(): string[] {
    return [...this.#parts.nodes() ?? []].filter((node) => !this.#heard.has(node)).sort();
  }

  /** Whether a node that has nothing in force may be answered; false after a while in which it may not. */
  async wait(signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#parts, endMs = clock.monotonicMs() + REQUEST_MS_MAX;
    while (!this.#look()) {
      if (signal.aborted || clock.monotonicMs() >= endMs) return false;
      await clock.sleep(LOOK_MS, signal);
    }
    return true;
  }

  #look(): boolean {
    if (this.#isOver) return true;
    const { clock } = this.#parts;
    const isLate = this.#beganMs !== undefined && clock.monotonicMs() - this.#beganMs >= ROLL_CALL_MS;
    if (!isLate && this.missing().length > 0) return false;
    // From here on every policy set that is given out is one that this engine knows.
    this.#isOver = true;
    this.#heard.clear();
    return true;
  }
}

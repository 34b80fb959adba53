/**
 * The keyspace that names without one are in. A server runs a connection's requests side by side, so while a `USE` is
 * on its way, and after several that overlapped, more than one is possible, and a request must be allowed in each.
 * @module
 */

/** Keyspaces that may be possible at once; a further `USE` is refused. */
export const KEYSPACES_MAX = 16;

/** A `USE` that was sent: what {@link ConnectionKeyspace} needs to know when the answer comes. */
export interface PendingUse {
  readonly keyspace: string;
  /** Whether it made the keyspace possible. */
  readonly added: boolean;
}

/** Keyspaces of one connection. "" stands for none. */
export class ConnectionKeyspace {
  #possible = new Set([""]);
  #pending = 0;
  #overlapped = false;

  /** Those that a request may meet that is sent now; valid until the next call. */
  get possible(): ReadonlySet<string> {
    return this.#possible;
  }

  /** A `USE` is sent; null: too many are possible already. */
  begin(keyspace: string): PendingUse | null {
    const added = !this.#possible.has(keyspace);
    if (added && this.#possible.size >= KEYSPACES_MAX) return null;
    this.#overlapped = this.#pending > 0;
    this.#pending++;
    this.#possible.add(keyspace);
    return { keyspace, added };
  }

  /** The answer to a `USE`: the keyspace that the server names, null if it refused, undefined if it cannot be told. */
  end(use: PendingUse, answered: string | null | undefined): void {
    this.#pending--;
    if (this.#pending > 0) this.#overlapped = true;
    if (answered === undefined) return;
    if (answered === null) {
      if (!this.#overlapped && use.added) this.#possible.delete(use.keyspace);
    } else if (!this.#overlapped && answered === use.keyspace) {
      this.#possible = new Set([answered]);
    } else if (this.#possible.size < KEYSPACES_MAX) {
      this.#possible.add(answered);
    }
  }

  /** A server set a keyspace that no `USE` is known to have asked for. */
  set(keyspace: string): void {
    if (this.#pending === 0) this.#possible = new Set([keyspace]);
    else if (this.#possible.size < KEYSPACES_MAX) this.#possible.add(keyspace);
  }
}

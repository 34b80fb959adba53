/**
 * Requests of one connection that the server has not answered yet, by stream id.
 * @module
 */

import type { PendingUse } from "./connection_keyspace.ts";
import type { CqlStatement } from "@weir/l7-rules";
import type { EndVerdict } from "../end_verdict.ts";
import type { CassandraQuestion } from "./verdict.ts";

/** What was judged, and how. */
export interface JudgedRequest extends CassandraQuestion {
  readonly ends: readonly EndVerdict[];
}

/** A request on its way. */
export interface PendingRequest {
  readonly opcode: number;
  readonly sentMs: number;
  /** Keyspaces in which the server may look names up that lack one; grows by each `USE` that is sent meanwhile. */
  readonly keyspaces: Set<string>;
  /** Statements with such names. */
  readonly unqualified: readonly CqlStatement[];
  readonly use: PendingUse | null;
  /** What a PREPARE's id will stand for. */
  readonly prepares: { readonly statements: readonly CqlStatement[]; readonly use: string | null } | null;
  /** Whether the answer may set a keyspace that nobody saw asked for. */
  readonly unread: boolean;
  /** What was judged, for the record of the answer; null: nothing was. */
  readonly judged: JudgedRequest | null;
}

/** The table of them. */
export class PendingRequests {
  readonly #byStream = new Map<number, PendingRequest>();
  #unqualified = 0;

  get size(): number {
    return this.#byStream.size;
  }

  /** Statements of them with names that lack a keyspace. */
  get unqualified(): number {
    return this.#unqualified;
  }

  has(stream: number): boolean {
    return this.#byStream.has(stream);
  }

  get(stream: number): PendingRequest | undefined {
    return this.#byStream.get(stream);
  }

  add(stream: number, request: PendingRequest): void {
    this.#byStream.set(stream, request);
    this.#unqualified += request.unqualified.length;
  }

  delete(stream: number): void {
    const request = this.#byStream.get(stream);
    if (request === undefined) return;
    this.#byStream.delete(stream);
    this.#unqualified -= request.unqualified.length;
  }

  /** Each different statement among them with a name that lacks a keyspace. */
  unqualifiedStatements(): CqlStatement[] {
    const found = new Map<string, CqlStatement>();
    for (const request of this.#byStream.values()) {
      for (const statement of request.unqualified) {
        found.set(`${statement.action} ${statement.table}`, statement);
      }
    }
    return [...found.values()];
  }

  /** A `USE` of `keyspace` is sent: it may come before any of them. */
  mayMeet(keyspace: string): void {
    for (const request of this.#byStream.values()) {
      if (request.unqualified.length > 0) request.keyspaces.add(keyspace);
    }
  }
}

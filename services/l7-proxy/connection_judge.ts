/**
 * Judges the requests of one connection by the newest rules of both of its ends. What passes must be allowed by each; the server's rules see a
 * request as the client's leave it.
 * @module
 */
import type { HeaderChange, HttpRequest, L7Request } from "@weir/l7-rules";
import type { Handle, L7Kind } from "@weir/proto/l7";
import type { EndVerdict } from "./end_verdict.ts";
import type { Place, RuleBook } from "./rule_book.ts";

/** What one end's rules say. */
export interface SideVerdict extends EndVerdict {
  readonly missingHeaders: readonly string[];
  /** Of a denial the rules of which none allows it, in words; empty where there are none. */
  readonly deniedBy: readonly string[];
}

/** What all say. */
export interface ConnectionVerdict {
  readonly verdict: "allowed" | "denied" | "closed";
  /** Of each end that was asked; the last one decides where it is not allowed. */
  readonly sides: readonly SideVerdict[];
  readonly changes: readonly HeaderChange[];
  /** Of `closed`: unknown-policy, policy-denies. */
  readonly why: string;
}

const NOTHING: readonly never[] = [];

/** Judges for one connection. */
export class ConnectionJudge {
  #version = 0;
  #places: readonly Place[] = [];
  readonly #book: RuleBook;
  readonly #handle: Handle;

  constructor(book: RuleBook, handle: Handle) {
    this.#book = book;
    this.#handle = handle;
  }

  /** The newest places. */
  get places(): readonly Place[] {
    if (this.#version !== this.#book.version) {
      this.#places = this.#book.places(this.#handle);
      this.#version = this.#book.version;
    }
    return this.#places;
  }

  /**
   * The protocol that the rules are about; undefined: nothing restricts the connection, and nothing says what it is.
   * `mixed`: the two ends are about two protocols.
   */
  get kind(): L7Kind | "mixed" | undefined {
    const kinds = new Set<L7Kind>();
    for (const place of this.places) if (place.kind === "rules") kinds.add(place.rules.kind);
    return kinds.size > 1 ? "mixed" : [...kinds][0];
  }

  /** Judges one request. */
  judge(request: L7Request): ConnectionVerdict {
    const sides: SideVerdict[] = [];
    let changes: readonly HeaderChange[] = NOTHING, seen = request;
    for (const place of this.places) {
      const { side } = place;
      if (place.kind !== "rules") {
        const allowed = place.kind === "open";
        sides.push({ side, allowed, cookie: place.cookie, missingHeaders: NOTHING, deniedBy: NOTHING });
        if (place.kind === "closed") return { verdict: "closed", sides, changes: NOTHING, why: place.why };
        continue;
      }
      const { allowed, cookie, headers, missingHeaders } = place.rules.judge(seen);
      const deniedBy = allowed ? NOTHING : place.rules.deniedBy;
      sides.push({ side, allowed, cookie, missingHeaders, deniedBy });
      if (!allowed) return { verdict: "denied", sides, changes: NOTHING, why: "" };
      if (headers.length > 0 && seen.kind === "HTTP") {
        changes = [...changes, ...headers];
        seen = changed(seen, headers);
      }
    }
    // Neither end is known: nobody allows it.
    if (sides.length === 0) return { verdict: "closed", sides, changes: NOTHING, why: "unknown-policy" };
    return { verdict: "allowed", sides, changes, why: "" };
  }
}

/** The request as it is after changes of its headers. */
function changed(request: HttpRequest, changes: readonly HeaderChange[]): HttpRequest {
  return {
    ...request,
    header: (name) => {
      let value = request.header(name);
      for (const change of changes) {
        if (change.name.toLowerCase() !== name) continue;
        if (change.action === "DELETE") value = undefined;
        else {value = change.action === "REPLACE" || value === undefined
            ? change.value
            : `${value},${change.value}`;}
      }
      return value;
    },
  };
}

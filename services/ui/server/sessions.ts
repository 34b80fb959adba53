/**
 * Who was let in. A ticket is shown once, in an address; the browser then has a cookie, which is good for a day, and also with the
 * next process that has the same key. Neither is kept: a cookie says until when it is good, and its seal that we said so.
 * @module
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/** Bytes of a key. */
export const SESSION_KEY_BYTES = 32;
const SESSION_S = 86_400;
const TICKET_S = 600, TICKETS_MAX = 64;

/** What both are made with. */
export interface SessionOptions {
  /** {@link SESSION_KEY_BYTES} random bytes. */
  readonly key: Uint8Array;
  /** The time of day in seconds. */
  readonly nowS: () => number;
}

/** Sessions of browsers. */
export class Sessions {
  /** Name of the cookie. It is the key's own: browsers send the cookies of one host to each of its ports. */
  readonly cookie: string;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.cookie = `weir-ui-${createHash("sha256").update(options.key).digest("hex").slice(0, 12)}`;
  }

  /** The cookie's value for a browser that is let in. */
  begin(): string {
    const untilS = Math.floor(this.#options.nowS() + SESSION_S);
    return `${untilS}.${this.#seal(untilS)}`;
  }

  /** Whether it is one of ours, and good. */
  holds(value: string): boolean {
    const [, until, seal] = /^(\d{1,12})\.([\w-]{43})$/.exec(value) ?? [];
    if (until === undefined) return false;
    const untilS = Number(until), nowS = this.#options.nowS();
    // One for longer than any was given comes from a clock that jumped.
    return untilS > nowS && untilS <= nowS + 2 * SESSION_S && isSame(seal, this.#seal(untilS));
  }

  #seal(untilS: number): string {
    return createHmac("sha256", this.#options.key).update(`until ${untilS}`).digest("base64url");
  }
}

/** Ways in, each for one browser. */
export class Tickets {
  /** Digest of a token -> until when it is good. */
  readonly #open = new Map<string, number>();
  constructor(readonly nowS: () => number) {}

  /** A new one; where too many are open, the oldest is none any more. */
  give(): { token: string; expiresS: number } {
    const token = randomBytes(32).toString("base64url"), expiresS = this.nowS() + TICKET_S;
    if (this.#open.size >= TICKETS_MAX) this.#open.delete(this.#open.keys().next().value!);
    this.#open.set(digestOf(token), expiresS);
    return { token, expiresS };
  }

  /** Whether it is good; it is none any more then. */
  take(token: string): boolean {
    const key = digestOf(token), expiresS = this.#open.get(key);
    this.#open.delete(key);
    return expiresS !== undefined && expiresS > this.nowS();
  }
}

/** Compares in a time that says nothing: digests have one length. */
export function isSame(given: string, expected: string): boolean {
  return timingSafeEqual(
    createHash("sha256").update(given).digest(),
    createHash("sha256").update(expected).digest(),
  );
}

function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

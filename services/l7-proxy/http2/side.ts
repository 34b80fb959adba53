/**
 * One side of a connection: what it granted us, what we granted it, what is written to it.
 *
 * No body is held, because a sender is granted what the receiver has granted: its window with us is never larger than the receiver's, but for
 * what was under way when a receiver took some back. So at all times: credit of the sender + what is held of it <= window of the receiver.
 *
 * @module
 */
import { FRAME, SETTING, WINDOW_FIRST, WINDOW_MAX } from "./frame.ts";
import type { HeaderField } from "./header_field.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import { Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { Outflow } from "./outflow.ts";

/** Leave that is less is not passed on alone, as long as there is more than {@link CREDIT_LOW} left. */
const GRANT_MIN = 4096, CREDIT_LOW = 16_384;

/** One direction of one stream. */
export class Way {
  /** Bytes that the sender may still send. */
  credit: number;
  /** Bytes that the receiver still takes. */
  window: number;
  /** What came and cannot go on yet. */
  held: Uint8Array[] = [];
  heldBytes = 0;
  /** The sender has ended it. */
  isEnded = false;
  /** Its end went on too. */
  isDone = false;
  trailer: readonly HeaderField[] | undefined;
  /** Bytes of the body that must still come; undefined: nobody said. */
  left: number | undefined;

  constructor(credit: number, window: number) {
    this.credit = credit;
    this.window = window;
  }
}

/** One side. */
export class Side {
  readonly out: Outflow;
  readonly encoder = new HpackEncoder();
  /** Bytes of all streams together that it still takes. */
  window = WINDOW_FIRST;
  /** Bytes of all streams together that it may still send. */
  credit = WINDOW_FIRST;
  /** Window of its new streams, by its SETTINGS. */
  streamWindow = WINDOW_FIRST;
  /** Credit of its new streams, by ours. */
  streamCredit = WINDOW_FIRST;
  /** Bytes that came from it and cannot go on yet. */
  held = 0;
  /** Its preface and SETTINGS are out. */
  isOpen = false;
  /** SETTINGS that it has not answered yet: what its streams' credit shrinks by once it has. */
  #unanswered: number | undefined;
  #wanted: readonly (readonly [number, number])[] | undefined;
  #wake: (() => void) | undefined;

  constructor(readonly name: "client" | "server", onError: (error: unknown) => void) {
    this.out = new Outflow(onError);
  }

  /** Bytes came. @throws {Http2Error} window-exceeded */
  spend(bytes: number): void {
    this.credit -= bytes;
    if (this.credit < 0) throw new Http2Error("window-exceeded", `${-this.credit} bytes`);
  }

  /** It takes more of everything. @throws {Http2Error} window-overflow */
  widen(increment: number): void {
    this.window += increment;
    if (this.window > WINDOW_MAX) throw new Http2Error("window-overflow");
  }

  /** Passes on what `receiver` has granted for all streams. */
  grant(receiver: Side): void {
    const more = receiver.window - this.held - this.credit;
    if (!this.isOpen || more <= 0 || (more < GRANT_MIN && this.credit >= CREDIT_LOW)) return;
    this.credit += more;
    this.out.number(FRAME.WINDOW_UPDATE, 0, more);
  }

  /** Likewise for one stream of which `way` is its direction. */
  grantStream(stream: number, way: Way): void {
    const more = way.window - way.heldBytes - way.credit;
    // Settings that wait give all streams their leave together.
    if (
      this.#wanted !== undefined || way.isEnded || more <= 0 || (more < GRANT_MIN && way.credit >= CREDIT_LOW)
    ) return;
    way.credit += more;
    this.out.number(FRAME.WINDOW_UPDATE, stream, more);
  }

  /**
   * Tells it settings; while it has not answered the last ones, they wait, the newest alone.
   * @returns by how much the credit of its open streams grows at once
   */
  announce(settings: readonly (readonly [number, number])[]): number {
    if (this.#unanswered !== undefined) {
      this.#wanted = settings;
      return 0;
    }
    const credit = settings.find(([id]) => id === SETTING.INITIAL_WINDOW_SIZE)?.[1] ?? this.streamCredit;
    const more = credit - this.streamCredit;
    this.#unanswered = Math.min(more, 0);
    if (more > 0) this.streamCredit = credit;
    this.out.settings(settings);
    return Math.max(more, 0);
  }

  /**
   * It has answered our settings.
   * @returns by how much the credit of its open streams changes
   */
  answered(): number {
    const less = this.#unanswered ?? 0, wanted = this.#wanted;
    this.#unanswered = this.#wanted = undefined;
    this.streamCredit += less;
    return wanted === undefined ? less : less + this.announce(wanted);
  }

  /** Keeps bytes of one stream of it until the receiver takes them. */
  hold(way: Way, bytes: Uint8Array): void {
    way.held.push(bytes.slice());
    way.heldBytes += bytes.length;
    this.held += bytes.length;
  }

  /** Forgets `bytes` that are held. */
  letGo(bytes: number): void {
    this.held -= bytes;
    if (this.held <= HTTP2_LIMITS.held) this.wake();
  }

  /** Waits until no more than the limit is held of it, or the connection ends. */
  async heldRoom(isOver: () => boolean): Promise<void> {
    while (this.held > HTTP2_LIMITS.held && !isOver()) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** Lets {@link Side.heldRoom} look again. */
  wake(): void {
    this.#wake?.();
  }
}

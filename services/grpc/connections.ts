/**
 * The connections of a server: so many at once and no more. Where all places are taken, one that nobody uses makes room for the
 * next, so that who opens many and is silent keeps nobody out.
 *
 *     socket ─▶ handshake (TLS) ─▶ session ─▶ calls          counted where it is cut: weir_grpc_refused_total{reason}
 *
 * @module
 */
import type * as http2 from "node:http2";
import type { Socket } from "node:net";
import type { Clock, MetricsRegistry } from "@weir/common";
import type { FilteredSocket } from "./goaway_filter.ts";

/** Limits of connections. Milliseconds. */
export interface ConnectionLimits {
  /** At once; so many more may be at their handshake. */
  readonly connectionsMax: number;
  /** A connection without a call or ping is closed after this time; one with calls is asked for a sign of life as often. */
  readonly idleMsMax: number;
  /** Longest wait for the answer to that. */
  readonly requestMsMax: number;
}

/** Why a connection or call was cut. */
export type RefusedReason =
  | "certificate"
  | "connections"
  | "handshake"
  | "idle"
  | "protocol"
  | "silent"
  | "stalled";

/** What may wait in a socket before it is left alone; and how many pings and settings are answered into one that stands still. */
const CLOGGED_BYTES = 1 << 18, UNREAD_ANSWERS_MAX = 1000;

interface Use {
  calls: number;
  /** Made one at all. */
  isKnown: boolean;
  sinceMs: number;
  /** Pinged since it was looked at. */
  hasPinged: boolean;
  /** Pings and settings that came while it read nothing. */
  unread: number;
}

/** What {@link Connections} need. */
export interface ConnectionParts {
  readonly limits: ConnectionLimits;
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
}

/** All connections of one server. */
export class Connections {
  readonly #parts: ConnectionParts;
  readonly #uses = new Map<http2.Http2Session, Use>();
  readonly #sockets = new WeakMap<http2.Http2Session, FilteredSocket>();
  /** By the caller's address and port: a TLS socket is another object than the one that it came from. */
  readonly #handshakes = new Map<string, Socket>();

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    parts.metrics.gauge("weir_grpc_connections", "gRPC connections open now").collect(() => this.#uses.size);
  }

  /** Counts one that was cut. */
  refused(reason: RefusedReason): void {
    this.#parts.metrics.counter("weir_grpc_refused_total", "gRPC connections and calls refused")
      .increment({ reason });
  }

  /** A socket whose TLS handshake begins: it has so long as a request has, and the oldest goes where too many have not ended theirs. The server counts it. */
  handshake(socket: Socket): void {
    if (this.#handshakes.size >= this.#parts.limits.connectionsMax) {
      const [[key, oldest]] = this.#handshakes;
      this.#handshakes.delete(key);
      oldest.destroy();
    }
    const key = keyOf(socket), ended = new AbortController();
    this.#handshakes.set(key, socket);
    const forget = () => {
      const isThis = this.#handshakes.get(key) === socket;
      if (isThis) this.#handshakes.delete(key);
      return isThis;
    };
    socket.on("close", () => {
      ended.abort();
      forget();
    });
    const { clock, limits } = this.#parts;
    clock.sleep(limits.requestMsMax, ended.signal).then(() => {
      if (!ended.signal.aborted && forget()) socket.destroy();
    });
  }

  /** A session begins on a socket, whose handshake is over. */
  opened(session: http2.Http2Session, filtered: FilteredSocket, socket: Socket): void {
    this.#sockets.set(session, filtered);
    this.#handshakes.delete(keyOf(socket));
  }

  /**
   * Ends a connection by its socket, without GOAWAY: a peer on Deno may die of one, on a connection with many calls behind it
   * (denoland/deno#36788, `goaway_filter.ts`).
   */
  end(session: http2.Http2Session): void {
    this.#sockets.get(session)?.destroy();
  }

  /** Takes a session in, and looks after it. */
  add(session: http2.ServerHttp2Session): void {
    const { limits, clock } = this.#parts;
    session.on("error", (error: Error & { code?: string }) => {
      if (error.code?.startsWith("ERR_HTTP2")) this.refused("protocol");
    });
    if (this.#uses.size >= limits.connectionsMax && !this.#makeRoom()) {
      this.refused("connections");
      this.end(session);
      return;
    }
    const use: Use = { calls: 0, isKnown: false, sinceMs: clock.monotonicMs(), hasPinged: false, unread: 0 };
    this.#uses.set(session, use);
    const end = new AbortController();
    const look = () => {
      use.unread = this.isClogged(session) ? use.unread + 1 : 0;
      if (use.unread <= UNREAD_ANSWERS_MAX) return;
      this.refused("stalled");
      this.end(session);
    };
    // Who keeps a connection for its next call says so by pings.
    session.on("ping", () => {
      use.hasPinged = true;
      look();
    });
    session.on("remoteSettings", look);
    session.on("close", () => {
      this.#uses.delete(session);
      end.abort();
    });
    this.#keepAlive(session, use, end.signal);
  }

  /** A call begins. @returns what tells its end */
  call(session: http2.Http2Session): () => void {
    const use = this.#uses.get(session);
    if (use === undefined) return () => {};
    use.calls++;
    use.isKnown = true;
    return () => {
      use.calls--;
      use.sinceMs = this.#parts.clock.monotonicMs();
    };
  }

  /** So much waits in its socket that nothing more should be written. */
  isClogged(session: http2.Http2Session): boolean {
    return (this.#sockets.get(session)?.writableLength ?? 0) > CLOGGED_BYTES;
  }

  readonly #drains = new WeakMap<http2.Http2Session, Promise<void>>();

  /** Until its socket has taken everything, or is closed. */
  drained(session: http2.Http2Session): Promise<void> {
    const known = this.#drains.get(session);
    if (known !== undefined) return known;
    const drain = new Promise<void>((resolve) => {
      const done = () => {
        this.#drains.delete(session);
        resolve();
      };
      this.#sockets.get(session)!.once("drain", done);
      session.once("close", done);
    });
    this.#drains.set(session, drain);
    return drain;
  }

  /** Ends those without calls; with `isNow` all. */
  close(isNow: boolean): void {
    for (const socket of this.#handshakes.values()) socket.destroy();
    for (const [session, { calls }] of [...this.#uses]) {
      if (isNow) this.end(session);
      // What was answered last may be on its way still.
      else if (calls === 0) this.#sockets.get(session)?.destroySoon();
    }
  }

  /** Closes one without calls: first of those that never made one, the one that is silent for longest. */
  #makeRoom(): boolean {
    let found: [http2.Http2Session, Use] | undefined;
    for (const one of this.#uses) {
      if (one[1].calls === 0 && (found === undefined || isBefore(one[1], found[1]))) found = one;
    }
    if (found === undefined) return false;
    this.refused("idle");
    // Its place is free when this returns, whenever the socket's end comes.
    this.#uses.delete(found[0]);
    this.end(found[0]);
    return true;
  }

  /** Closes connections that nobody uses, and those with calls that give no sign of life. */
  async #keepAlive(session: http2.ServerHttp2Session, use: Use, signal: AbortSignal): Promise<void> {
    const { limits, clock } = this.#parts;
    for (;;) {
      await clock.sleep(limits.idleMsMax, signal);
      if (signal.aborted) return;
      const hasPinged = use.hasPinged;
      use.hasPinged = false;
      if (hasPinged) continue;
      if (use.calls === 0) return this.end(session);
      let heard = false;
      try {
        session.ping(() => heard = true);
      } catch {
        return this.end(session);
      }
      await clock.sleep(limits.requestMsMax, signal);
      if (heard || signal.aborted) continue;
      this.refused("silent");
      return this.end(session);
    }
  }
}

const keyOf = ({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">) =>
  `${remoteAddress} ${remotePort}`;

function isBefore(a: Use, b: Use): boolean {
  return a.isKnown === b.isKnown ? a.sinceMs < b.sinceMs : b.isKnown;
}

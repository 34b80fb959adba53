/**
 * The connections of a server: so many at once and no more. Where all places are taken, one that nobody uses makes room for the
 * next, or else one of the client that has the most: who opens many keeps nobody out, silent or not. An eighth of the places is
 * for unix sockets alone.
 *
 *     socket ─▶ handshake (TLS) ─▶ session ─▶ calls          counted where it is cut: weir_grpc_refused_total{reason}
 *
 * @module
 */
import type * as http2 from "node:http2";
import type { Socket } from "node:net";
import type { Clock, Logger, MetricsRegistry } from "@weir/common";
import { abuseOf } from "./abuse.ts";
import type { FilteredSocket } from "./goaway_filter.ts";
import { addressPeer, type GrpcPeer, overShare, peerOf, type Share } from "./peer_share.ts";

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
  | "share"
  | "silent"
  | "stalled";

/** What may wait in a socket before it is left alone; and how many pings and settings are answered into one that stands still. */
const CLOGGED_BYTES = 1 << 18, UNREAD_ANSWERS_MAX = 1000;
/** Of all places, for unix sockets. */
const LOCAL_SHARE = 1 / 8;
/** Who takes too many is named so often. */
const TELL_MS = 60_000;

interface Use {
  readonly peer: GrpcPeer;
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
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
}

/** How a session came. */
interface Origin {
  readonly filtered: FilteredSocket;
  readonly peer: GrpcPeer;
}

/** All connections of one server. */
export class Connections {
  readonly #parts: ConnectionParts;
  readonly #uses = new Map<http2.Http2Session, Use>();
  readonly #origins = new WeakMap<http2.Http2Session, Origin>();
  /** By the caller's address and port: a TLS socket is another object than the one that it came from. */
  readonly #handshakes = new Map<string, { readonly socket: Socket; readonly peer: GrpcPeer }>();
  #toldMs = -Infinity;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    parts.metrics.gauge("weir_grpc_connections", "gRPC connections open now").collect(() => this.#uses.size);
  }

  /** Counts one that was cut. */
  refused(reason: RefusedReason): void {
    this.#parts.metrics.counter("weir_grpc_refused_total", "gRPC connections and calls refused")
      .increment({ reason });
  }

  /**
   * A socket whose TLS handshake begins: it has so long as a request has. Where too many have not ended theirs, one of the address
   * with the most goes, else the oldest. The server counts it.
   */
  handshake(socket: Socket): void {
    const peer = addressPeer(socket);
    if (this.#handshakes.size >= this.#parts.limits.connectionsMax) {
      const waiting = [...this.#handshakes].map(([key, { peer }]) => [key, peer] as const);
      const cut = overShare(waiting, peer)?.newest ?? waiting[0][0];
      const { socket } = this.#handshakes.get(cut)!;
      this.#handshakes.delete(cut);
      socket.destroy();
    }
    const key = keyOf(socket), ended = new AbortController();
    this.#handshakes.set(key, { socket, peer });
    const forget = () => {
      const isThis = this.#handshakes.get(key)?.socket === socket;
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
    this.#origins.set(session, { filtered, peer: peerOf(socket) });
    this.#handshakes.delete(keyOf(socket));
  }

  /**
   * Ends a connection by its socket, without GOAWAY: a peer on Deno may die of one, on a connection with many calls behind it
   * (denoland/deno#36788, `goaway_filter.ts`).
   */
  end(session: http2.Http2Session): void {
    this.#origins.get(session)?.filtered.destroy();
  }

  /** Takes a session in, and looks after it. */
  add(session: http2.ServerHttp2Session): void {
    const { clock } = this.#parts, origin = this.#origins.get(session);
    if (origin === undefined) return session.destroy();
    const { peer, filtered } = origin;
    let errno: number | undefined;
    session.on("error", (error: Error & { code?: string; errno?: number }) => {
      if (error.code === "ERR_HTTP2_ERROR") errno = error.errno;
    });
    session.on("close", () => this.#judge(errno, filtered));
    if (!this.#makeRoom(peer)) {
      this.refused("connections");
      this.end(session);
      return;
    }
    const use: Use = {
      peer,
      calls: 0,
      isKnown: false,
      sinceMs: clock.monotonicMs(),
      hasPinged: false,
      unread: 0,
    };
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
    return (this.#origins.get(session)?.filtered.writableLength ?? 0) > CLOGGED_BYTES;
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
      this.#origins.get(session)!.filtered.once("drain", done);
      session.once("close", done);
    });
    this.#drains.set(session, drain);
    return drain;
  }

  /** Ends those without calls; with `isNow` all. */
  close(isNow: boolean): void {
    for (const { socket } of this.#handshakes.values()) socket.destroy();
    for (const [session, { calls }] of [...this.#uses]) {
      if (isNow) this.end(session);
      // What was answered last may be on its way still.
      else if (calls === 0) this.#origins.get(session)?.filtered.destroySoon();
    }
  }

  /** Counts what ended by what its peer did to HTTP/2, by kind. */
  #judge(errno: number | undefined, { goawayCode, recentFrames }: FilteredSocket): void {
    const kind = abuseOf({ errno, goawayCode, recentFrames });
    if (kind === undefined) return;
    this.refused("protocol");
    this.#parts.metrics.counter("weir_grpc_abuse_total", "gRPC connections cut for what they did to HTTP/2")
      .increment({ kind });
  }

  /**
   * A place for a client: a free one, that of a connection without calls (first of those that never made one, the one that is silent
   * for longest), or one of the client that has the most, if that is two more than this one has. @returns whether there is one
   */
  #makeRoom(peer: GrpcPeer): boolean {
    const { connectionsMax } = this.#parts.limits, uses = [...this.#uses];
    const remote = uses.filter(([, { peer }]) => !peer.isLocal);
    const remoteMax = connectionsMax - Math.floor(connectionsMax * LOCAL_SHARE);
    const isRemoteFull = !peer.isLocal && remote.length >= remoteMax;
    if (uses.length < connectionsMax && !isRemoteFull) return true;
    // A place that is kept for unix sockets is of no use to others.
    const taken = isRemoteFull ? remote : uses;
    let idle: [http2.Http2Session, Use] | undefined;
    for (const one of taken) {
      if (one[1].calls === 0 && (idle === undefined || isBefore(one[1], idle[1]))) idle = one;
    }
    if (idle !== undefined) return this.#giveUp(idle[0], "idle");
    const most = overShare(taken.map(([session, { peer }]) => [session, peer]), peer);
    this.#tell(peer, taken.length, most);
    return most !== undefined && this.#giveUp(most.newest, "share");
  }

  #giveUp(session: http2.Http2Session, reason: RefusedReason): true {
    this.refused(reason);
    // Its place is free when this returns, whenever the socket's end comes.
    this.#uses.delete(session);
    this.end(session);
    return true;
  }

  /** Names who has the most, now and then. */
  #tell({ name }: GrpcPeer, taken: number, most: Share | undefined): void {
    const { clock, log } = this.#parts, nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < TELL_MS) return;
    this.#toldMs = nowMs;
    if (most === undefined) {
      log.warn("All gRPC connections are taken, and one was refused", { client: name, taken });
    } else {
      const fields = { client: most.name, connections: most.count, taken, for: name };
      log.warn("All gRPC connections are taken: the client with the most gives one up", fields);
    }
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

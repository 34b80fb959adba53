/**
 * TCP with mutual TLS (1.3) for callers on other machines. A certificate of the cluster says who calls; people and tools
 * may show a bearer token instead; everybody else is `anonymous`, whom the access table gives next to nothing.
 *
 *     connection ── TLS 1.3 ── certificate: signed? this cluster? valid now? not removed? ─┐
 *                                none: Authorization: Bearer weir_ID_SECRET ──────────────┼─▶ Peer ─▶ handler
 *                                neither: anonymous ──────────────────────────────────────┘
 *
 * `Deno.serve` cannot demand client certificates (it ignores the options); `node:https` can. Deno checks the chain and
 * that the caller holds the key; what it checks is checked here again, so that a wrong certificate gets words.
 * @module
 */
import type * as https from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { X509Certificate } from "node:crypto";
import { assertValidNow, type CertificateFacts, verifyCertificate } from "./certificate.ts";
import { countCertificate } from "./certificate_times.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Handler } from "./handler.ts";
import type { Listener } from "./listener.ts";
import { Logger } from "./log.ts";
import { MetricsRegistry } from "./metrics.ts";
import { serveNodeRequest } from "./node_http.ts";
import { type Peer, setPeer } from "./peer.ts";
import { ProblemError } from "./problem.ts";
import type { TlsCredentials, TlsFiles } from "./tls_files.ts";
import type { TrustSource } from "./trust.ts";

/** Limits of one listener; each has a default. */
export interface TlsLimits {
  /** Connections at once. */
  connectionsMax: number;
  /** Connections at once of one certificate's holder (role and node). */
  connectionsPerHolderMax: number;
  /** Connections at once that showed no certificate, or not yet, in all and of one address. */
  strangersMax: number;
  strangersPerAddressMax: number;
  /** Longest TLS handshake, longest wait for a request's headers and for its body, in milliseconds. */
  handshakeMsMax: number;
  headersMsMax: number;
  requestMsMax: number;
  /** A connection without a request is closed after this time. Longer than clients keep theirs (60 s). */
  idleMsMax: number;
  headerBytesMax: number;
  /** How often certificates on disk and those of open connections are looked at. */
  checkEveryMs: number;
}

/** Defaults. The agent gives `connectionsMax` by the files that a process may have open. */
export const TLS_LIMITS: TlsLimits = {
  connectionsMax: 20_000,
  connectionsPerHolderMax: 1024,
  strangersMax: 2048,
  strangersPerAddressMax: 256,
  handshakeMsMax: 5000,
  headersMsMax: 10_000,
  requestMsMax: 60_000,
  idleMsMax: 120_000,
  headerBytesMax: 16_384,
  checkEveryMs: 2000,
};

/** How long a connection goes on whose holder was just removed. */
const WITHDRAWN_GRACE_MS = 250;

/** Options of {@link listenTls}. */
export interface TlsListenOptions {
  hostname: string;
  port: number;
  files: TlsFiles;
  trust: TrustSource;
  limits?: Partial<TlsLimits>;
  clock?: Clock;
  log?: Logger;
  metrics?: MetricsRegistry;
}

/** Who is at the other end of one connection, as its handshake said. */
type Holder = { readonly facts: CertificateFacts } | { readonly error: ProblemError } | "none";

/**
 * Listens. Certificates are taken anew when their files change, without closing a connection.
 * @throws {ProblemError} CREDENTIALS_MISSING and the like, TCP_FAILED
 */
export async function listenTls(handler: Handler, options: TlsListenOptions): Promise<Listener> {
  // 11 MB that only those pay who answer other machines.
  const { createServer } = await import("node:https");
  const listener = new TlsListener(createServer, handler, options);
  await listener.listen();
  return listener;
}

class TlsListener implements Listener {
  port = 0;
  readonly #options: Required<Omit<TlsListenOptions, "limits">>;
  readonly #limits: TlsLimits;
  readonly #handler: Handler;
  #credentials: TlsCredentials;
  #server: https.Server;
  #holders = new Map<TLSSocket, Holder>();
  #sockets = new Set<Socket>();
  /** Tokens in use on connections, so that a withdrawn one ends its streams. */
  #tokens = new Map<TLSSocket, string>();
  /** Connections by `keyOf`, the oldest first, and how many there are of each address. */
  #strangers = new Map<string, { socket: Socket; address: string; hasToken: boolean }>();
  #strangersOf = new Map<string, number>();
  /** Open connections of each certificate's holder, by role and node. */
  #connectionsOf = new Map<string, number>();
  #stop = new AbortController();

  constructor(createServer: typeof https.createServer, handler: Handler, options: TlsListenOptions) {
    this.#handler = handler;
    this.#limits = { ...TLS_LIMITS, ...options.limits };
    this.#options = {
      clock: systemClock,
      log: Logger.silent(),
      metrics: new MetricsRegistry(),
      ...options,
    };
    this.#credentials = this.#options.files.get(this.#options.clock.monotonicMs());
    this.#server = createServer({ ...this.#serverOptions(), ...this.#context() }, this.#serve);
    this.#server.headersTimeout = this.#limits.headersMsMax;
    this.#server.requestTimeout = this.#limits.requestMsMax;
    this.#server.keepAliveTimeout = this.#limits.idleMsMax;
  }

  get address(): string {
    const { hostname } = this.#options;
    return `https://${hostname.includes(":") ? `[${hostname}]` : hostname}:${this.port}`;
  }

  async listen(): Promise<void> {
    const { hostname, port, log, trust, metrics } = this.#options;
    const refused = this.#refusedCounter;
    countCertificate(metrics, this.#credentials.certificate, `${hostname}:${port}`);
    metrics.gauge("weir_tls_connections", "TCP connections open now").collect(() => this.#sockets.size);
    this.#server.on("connection", this.#accept);
    this.#server.on("secureConnection", this.#greet);
    this.#server.on("tlsClientError", (error: Error) => {
      refused.increment({ reason: "handshake" });
      log.debug("TLS handshake failed", { error });
    });
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(port, hostname, () => resolve());
      });
    } catch (cause) {
      throw new ProblemError("TCP_FAILED", {
        status: 500,
        detail: `Cannot listen on ${hostname}:${port}: ${(cause as Error).message}`,
        action: "Is the address this machine's, and the port free?",
        cause,
      });
    }
    this.#server.on("error", (error: Error) => log.error("Listener failed", { error }));
    this.port = (this.#server.address() as { port: number }).port;
    trust.onWithdrawn(async () => {
      // New requests are refused at once. What runs has a moment: whoever gives itself up is still to hear the answer.
      await this.#options.clock.sleep(WITHDRAWN_GRACE_MS, this.#stop.signal);
      this.#cutWithdrawn();
    });
    this.#checkLoop();
  }

  async shutdown(graceMs = 1000): Promise<void> {
    this.#stop.abort();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await Promise.race([closed, this.#options.clock.sleep(graceMs)]);
    for (const socket of this.#sockets) socket.destroy();
    await Promise.race([closed, this.#options.clock.sleep(graceMs)]);
  }

  #serverOptions(): https.ServerOptions & { handshakeTimeout: number } {
    return {
      handshakeTimeout: this.#limits.handshakeMsMax,
      maxHeaderSize: this.#limits.headerBytesMax,
      connectionsCheckingInterval: this.#limits.headersMsMax / 2,
      requestCert: true,
      // A wrong certificate, or none, is told so in HTTP, where there are words.
      rejectUnauthorized: false,
      minVersion: "TLSv1.3",
    };
  }

  /** The authority goes along with the certificate: `weir join` compares it with the hash in its token. */
  #context() {
    const { cert, key, authority } = this.#credentials;
    return { cert: cert + authority, key, ca: [authority] };
  }

  get #refusedCounter() {
    return this.#options.metrics.counter(
      "weir_tls_refused_total",
      "Connections and requests refused, by reason",
    );
  }

  /** Until the handshake has shown a good certificate, whoever connects is a stranger. */
  #accept = (socket: Socket): void => {
    const address = socket.remoteAddress ?? "", key = keyOf(socket);
    const { connectionsMax, strangersMax, strangersPerAddressMax } = this.#limits;
    let full: string | undefined;
    if (this.#sockets.size >= connectionsMax) full = "connections";
    else if ((this.#strangersOf.get(address) ?? 0) >= strangersPerAddressMax) {
      full = this.#evict(address) ? undefined : "strangers";
    } else if (this.#strangers.size >= strangersMax) full = this.#evict() ? undefined : "strangers";
    if (full !== undefined) {
      this.#refusedCounter.increment({ reason: full });
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    this.#strangers.set(key, { socket, address, hasToken: false });
    this.#strangersOf.set(address, (this.#strangersOf.get(address) ?? 0) + 1);
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#sockets.delete(socket);
      this.#isKnown(key, address);
    });
  };

  /**
   * Makes room for a newcomer, who may be a member behind the same address as those who only hold places: the oldest
   * stranger (of `address`) who has shown nothing so far goes. False when all have shown a token.
   */
  #evict(address?: string): boolean {
    for (const [key, stranger] of this.#strangers) {
      if ((address !== undefined && stranger.address !== address) || stranger.hasToken) continue;
      this.#refusedCounter.increment({ reason: "evicted" });
      this.#isKnown(key, stranger.address);
      stranger.socket.destroy();
      return true;
    }
    return false;
  }

  #isKnown(key: string, address: string): void {
    if (!this.#strangers.delete(key)) return;
    const left = (this.#strangersOf.get(address) ?? 1) - 1;
    if (left > 0) this.#strangersOf.set(address, left);
    else this.#strangersOf.delete(address);
  }

  /** The handshake is done: the certificate is looked at once per connection. */
  #greet = (socket: TLSSocket): void => {
    const holder = this.#holderOf(socket);
    this.#holders.set(socket, holder);
    socket.on("close", () => {
      this.#holders.delete(socket);
      this.#tokens.delete(socket);
    });
    if (typeof holder === "object" && "facts" in holder) {
      this.#isKnown(keyOf(socket), socket.remoteAddress ?? "");
      this.#count(socket, holder.facts.peer);
    }
  };

  /** One machine cannot take all places: what it opens beyond its share is closed. */
  #count(socket: TLSSocket, { role, node }: Peer): void {
    const key = `${role}/${node}`, open = this.#connectionsOf.get(key) ?? 0;
    if (open >= this.#limits.connectionsPerHolderMax) {
      this.#refusedCounter.increment({ reason: "holder" });
      socket.destroy();
      return;
    }
    this.#connectionsOf.set(key, open + 1);
    socket.on("close", () => {
      const left = this.#connectionsOf.get(key)! - 1;
      if (left > 0) this.#connectionsOf.set(key, left);
      else this.#connectionsOf.delete(key);
    });
  }

  #holderOf(socket: TLSSocket): Holder {
    const raw = socket.getPeerCertificate()?.raw as Uint8Array | undefined;
    if (raw === undefined) return "none";
    try {
      const { authorities, facts: own } = this.#credentials;
      const facts = verifyCertificate(new X509Certificate(raw), {
        authorities,
        cluster: own.cluster,
        nowMs: this.#options.clock.nowMs(),
      });
      if (!socket.authorized) throw this.#unauthorized(socket);
      return { facts };
    } catch (error) {
      return { error: error instanceof ProblemError ? error : this.#unauthorized(socket, error) };
    }
  }

  #unauthorized(socket: TLSSocket, cause?: unknown): ProblemError {
    return new ProblemError("CERTIFICATE_INVALID", {
      status: 401,
      detail: `Cannot take the certificate: ${socket.authorizationError ?? "it cannot be read"}`,
      cause,
    });
  }

  #serve = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const socket = incoming.socket as TLSSocket;
    serveNodeRequest(incoming, outgoing, {
      handler: this.#handler,
      begin: (request) => {
        try {
          const peer = this.#peerOf(socket, request), holder = this.#holders.get(socket);
          setPeer(request, peer, {
            remoteAddress: socket.remoteAddress ?? "",
            ...(typeof holder === "object" && "facts" in holder &&
              { issuedUnixMs: holder.facts.issuedUnixMs }),
          });
        } catch (error) {
          this.#refusedCounter.increment({ reason: (error as ProblemError).code });
          throw error;
        }
      },
    });
  };

  #peerOf(socket: TLSSocket, request: Request): Peer {
    const { trust, clock } = this.#options;
    const holder = this.#holders.get(socket);
    if (holder === undefined) throw this.#unauthorized(socket);
    if (typeof holder === "object" && "error" in holder) throw holder.error;
    const header = request.headers.get("authorization");
    if (holder === "none" && header === null) return { role: "anonymous", node: "" };
    if (trust.pending !== undefined) {
      throw new ProblemError("NOT_READY", {
        status: 503,
        detail: `Cannot say who may ask: ${trust.pending}`,
        action: "Try again",
      });
    }
    if (holder === "none") {
      const token = header!.replace(/^Bearer /, "");
      this.#tokens.delete(socket);
      const peer = trust.peerOfToken(token, clock.nowMs());
      this.#tokens.set(socket, token);
      const stranger = this.#strangers.get(keyOf(socket));
      if (stranger !== undefined) stranger.hasToken = true;
      return peer;
    }
    try {
      assertValidNow(holder.facts, clock.nowMs());
      trust.assertMember(holder.facts);
    } catch (error) {
      // Nothing runs on this connection, and it is told why: cutting it would take the words along.
      this.#holders.set(socket, { error: error as ProblemError });
      throw error;
    }
    return holder.facts.peer;
  }

  /** Ends the connections of machines and tokens that are believed no more, streams included. */
  #cutWithdrawn(): void {
    const { trust, clock, log } = this.#options;
    for (const [socket, holder] of this.#holders) {
      try {
        if (typeof holder === "object" && "facts" in holder) {
          assertValidNow(holder.facts, clock.nowMs());
          trust.assertMember(holder.facts);
        }
        const token = this.#tokens.get(socket);
        if (token !== undefined) trust.peerOfToken(token, clock.nowMs());
      } catch (error) {
        log.info("Connection cut", { error });
        this.#refusedCounter.increment({ reason: (error as ProblemError).code });
        socket.destroy();
      }
    }
  }

  async #checkLoop(): Promise<void> {
    const { clock, files, log, metrics, hostname, port } = this.#options;
    const { signal } = this.#stop;
    let told: ProblemError | undefined;
    while (!signal.aborted) {
      await clock.sleep(this.#limits.checkEveryMs, signal);
      if (signal.aborted) return;
      try {
        const credentials = files.get(clock.monotonicMs());
        if (credentials !== this.#credentials) {
          this.#credentials = credentials;
          countCertificate(metrics, credentials.certificate, `${hostname}:${port}`);
          this.#server.setSecureContext({ ...this.#serverOptions(), ...this.#context() } as never);
          log.info("Certificate renewed", {
            until: new Date(credentials.facts.notAfterUnixMs).toISOString(),
          });
        }
        if (files.error !== undefined && files.error.code !== told?.code) {
          log.warn("Certificate files cannot be used; the old ones stay", { error: files.error });
        }
        told = files.error;
        this.#cutWithdrawn();
      } catch (error) {
        log.error("Certificate check failed", { error });
      }
    }
  }
}

/** The plain socket and the TLS one on top are two objects of one connection. */
function keyOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

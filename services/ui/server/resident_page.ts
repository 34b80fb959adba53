/**
 * The page of a process that is always there: on a unix socket, and on a port where it was told to. What cannot be listened on is tried
 * again, and said among the checks of readiness without holding it back.
 *
 * A port has no owner and no mode: nobody reads there without a ticket, which the service's own socket gives, a token, or a certificate.
 * @module
 */
import {
  type Clock,
  errorText,
  type Health,
  hostPort,
  isLoopback,
  type Logger,
  type MetricsRegistry,
  removeStaleSocket,
  SOCKET_MODE,
} from "@weir/common";
import type { Ticket } from "@weir/proto/ui";
import { guard } from "./guard.ts";
import { type PageAddress, readPageAddress } from "./listen_address.ts";
import type { OpenPage } from "./page_server.ts";
import type { Sessions, Tickets } from "./sessions.ts";
import { listenWeb, type WebListener, type WebTls } from "./web_listener.ts";
import { readWebTls, readWebToken } from "./web_tls.ts";

const RETRY_MS = 2000;

/** Where, and for whom. */
export interface ResidentOptions {
  readonly page: OpenPage;
  readonly sessions: Sessions;
  readonly tickets: Tickets;
  /** Path of the unix socket with the page. */
  readonly socket: string;
  /** ADDRESS[:12000]; "": on no port. */
  readonly listen: string;
  readonly hosts: readonly string[];
  /** Of the port; "": none. */
  readonly tlsDirectory: string;
  readonly tokenFile: string;
  readonly health: Health;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** The page where it is served. */
export class ResidentPage {
  readonly #options: ResidentOptions;
  readonly #refused: (code: string) => void;
  readonly #listeners = new Set<WebListener>();
  #address = "";
  #unserved = "";

  /** Begins to serve, and goes on trying until the signal aborts. */
  constructor(options: ResidentOptions) {
    this.#options = options;
    const refused = options.metrics.counter(
      "weir_ui_refused_total",
      "Requests of browsers that were refused, by code",
    );
    this.#refused = (code) => refused.increment({ code });
    this.#keep("page socket", () => this.#onSocket());
    if (options.listen !== "") this.#keep("page", () => this.#onPort());
  }

  /** A way in for one browser. */
  ticket(): Ticket {
    const { token, expiresS } = this.#options.tickets.give();
    return {
      token,
      expiresUnixS: expiresS,
      address: this.#address,
      basePath: this.#options.page.base,
      unserved: this.#unserved,
    };
  }

  /** Cuts who still reads. */
  async stop(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.shutdown()));
  }

  async #keep(what: string, serve: () => Promise<string>): Promise<void> {
    const { health, log, clock, signal } = this.#options;
    for (let told = ""; !signal.aborted; await clock.sleep(RETRY_MS, signal)) {
      try {
        health.ok(what, await serve());
        return;
      } catch (error) {
        const text = errorText(error);
        health.ok(what, `not served: ${text}`);
        if (what === "page") this.#unserved = text;
        if (text !== told) log.warn("Cannot serve the page yet", { error });
        told = text;
      }
    }
  }

  async #onSocket(): Promise<string> {
    const { socket } = this.#options;
    await removeStaleSocket(socket);
    // Through this socket come those who may open it, and those whom they let through: a port that is led here.
    await this.#listen({ path: socket }, { hosts: [], loopback: true });
    Deno.chmodSync(socket, SOCKET_MODE);
    return `serves ${socket}`;
  }

  async #onPort(): Promise<string> {
    const { listen, tlsDirectory, tokenFile, page } = this.#options;
    const tls = tlsDirectory === "" ? undefined : readWebTls(tlsDirectory);
    const token = tokenFile === "" ? undefined : readWebToken(tokenFile);
    const address = readPageAddress(listen, tls !== undefined && (token ?? tls.authority) !== undefined);
    const { hostname } = address;
    const listener = await this.#listen(address, {
      hosts: [hostname],
      loopback: isLoopback(hostname),
      token,
      tls,
    });
    this.#address = `${tls === undefined ? "http" : "https"}://${
      hostPort(hostname, listener.port)
    }${page.base}`;
    this.#unserved = "";
    if (tls !== undefined) this.#renew(listener, tls);
    return `serves ${this.#address}`;
  }

  async #listen(
    address: PageAddress | { readonly path: string },
    { hosts, loopback, token, tls }: { hosts: string[]; loopback: boolean; token?: string; tls?: WebTls },
  ): Promise<WebListener> {
    const { page, sessions, tickets, log, clock, signal } = this.#options;
    const listener = await listenWeb(
      guard(page.handler, {
        base: page.base,
        hosts: [...hosts, ...this.#options.hosts].map((name) => name.toLowerCase()),
        loopback,
        token,
        tickets,
        takesCertificates: tls?.authority !== undefined,
        sessions,
        tls: tls !== undefined,
        nowMs: () => clock.monotonicMs(),
        onRefused: this.#refused,
      }),
      { address, tls, log, clock },
    );
    this.#listeners.add(listener);
    if (signal.aborted) await listener.shutdown();
    return listener;
  }

  /** Takes new certificates as they come. A pair that does not fit together is half written: the old one is shown until it does. */
  async #renew(listener: WebListener, used: WebTls): Promise<void> {
    const { tlsDirectory, health, log, clock, signal } = this.#options, serves = `serves ${this.#address}`;
    for (let last = used; !signal.aborted; await clock.sleep(RETRY_MS, signal)) {
      try {
        const tls = readWebTls(tlsDirectory);
        health.ok("page", serves);
        if (tls.cert === last.cert && tls.key === last.key && tls.authority === last.authority) continue;
        listener.renew(tls);
        last = tls;
        log.info("Took a new certificate for the page");
      } catch (error) {
        health.ok("page", `${serves}, with an older certificate: ${errorText(error)}`);
        log.debug("Cannot take the new certificate yet", { error });
      }
    }
  }
}

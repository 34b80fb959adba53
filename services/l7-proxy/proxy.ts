/**
 * The proxy: takes connections, finds out whose they are, and runs each by the protocol that its rules are about.
 *
 *     accept ─▶ handle ─▶ protocol of the newest rules ─▶ HTTP, ... ─▶ end, counted by why
 *
 * @module
 */
import { type Clock, errorText, type Logger, type MetricsRegistry } from "@weir/common";
import type { Handle, L7Kind } from "@weir/proto/l7";
import type { ProxyConnection } from "@weir/proto/proxy";
import { CassandraShared } from "./cassandra/mod.ts";
import { CassandraHost } from "./cassandra_host.ts";
import { DnsShared, DnsStream } from "./dns/mod.ts";
import type { HandlePrefixes } from "./handle_address.ts";
import type { Peer } from "./handle_source.ts";
import { ConnectError } from "./http1/connection.ts";
import { runHttp } from "./http_host.ts";
import { KafkaShared } from "./kafka/mod.ts";
import { KafkaHost } from "./kafka_host.ts";
import { MemcacheShared } from "./memcache/mod.ts";
import { MemcacheHost } from "./memcache_host.ts";
import type { RecordSink } from "./record_sender.ts";
import { payerOf, RedirectedConnection } from "./redirected_connection.ts";
import type { RuleBook } from "./rule_book.ts";
import { closeQuietly, NO_SOCKET, type Socket } from "./socket.ts";
import { TlsShared } from "./tls/mod.ts";
import { TlsHost } from "./tls_host.ts";

/** Connections at once: each has two sockets. */
export const CONNECTIONS_MAX = 16_384;
/** Of one client, so that none takes what another client of the same server needs. */
export const CLIENT_CONNECTIONS_MAX = 4096;
/** Towards one server, so that clients without number leave something to the others'. */
export const SERVER_CONNECTIONS_MAX = 8192;
/** Nobody holds more than this many times what is free (as in the datapath, bpf/lib/share.h): who comes next always finds a place. */
const SHARE_FACTOR = 2;
const CONNECT_MS_MAX = 10_000;
const SWEEP_MS = 1000;

/** A connection as the listener hands it over. */
export interface Accepted {
  readonly socket: Socket;
  /** Address at which it was taken: the handle's. */
  readonly address: string;
  /** The client, as its socket tells it. */
  readonly peer?: Peer;
}

/** What {@link Proxy} is made of. */
export interface ProxyParts {
  readonly prefixes: HandlePrefixes;
  readonly book: RuleBook;
  readonly records: RecordSink;
  /** Whose the connection with this number is; undefined: nobody's any more. */
  readonly handleOf: (number: number, peer?: Peer) => Promise<Handle | undefined>;
  /** Connects to a handle's address; the datapath makes that the server. */
  readonly connect: (address: string) => Promise<Socket>;
  readonly metrics: MetricsRegistry;
  readonly clock: Clock;
  readonly log?: Logger;
  /** Default: names are told to nobody, and what is denied is refused. */
  readonly dns?: DnsShared;
  readonly connectionsMax?: number;
  readonly clientConnectionsMax?: number;
  readonly serverConnectionsMax?: number;
}

/** What all connections of one protocol share. */
interface Shared {
  readonly cassandra: CassandraShared;
  readonly dns: DnsShared;
  readonly kafka: KafkaShared;
  readonly memcache: MemcacheShared;
  readonly tls: TlsShared;
}

/** Runs one protocol. @returns why the connection ended */
type Runner = (connection: RedirectedConnection, shared: Shared) => Promise<string>;

const RUNNERS: Partial<Record<L7Kind, Runner>> = {
  HTTP: runHttp,
  CASSANDRA: (connection, { cassandra }) => new CassandraHost(connection, cassandra).run(),
  DNS: (connection, { dns }) => new DnsStream(connection, dns).run(),
  KAFKA: (connection, { kafka }) => new KafkaHost(connection, kafka).run(),
  MEMCACHE: (connection, { memcache }) => new MemcacheHost(connection, memcache).run(),
  TLS: (connection, { tls }) => new TlsHost(connection, tls).run(),
};

/** All connections of this node that have L7 rules. */
export class Proxy {
  #last = 0;
  #running = 0;
  readonly #connections = new Map<number, RedirectedConnection>();
  /** Connections by client and by server. */
  readonly #held = new Map<string, number>();
  readonly #shared: Shared;
  readonly #parts: ProxyParts;
  /** Counters of requests, by kind and verdict. */
  readonly #requests = new Map<string, () => void>();

  constructor(parts: ProxyParts) {
    this.#parts = parts;
    this.#shared = {
      cassandra: new CassandraShared(),
      dns: parts.dns ?? new DnsShared(parts),
      kafka: new KafkaShared(),
      memcache: new MemcacheShared(),
      tls: new TlsShared(),
    };
    parts.metrics.gauge("weir_l7_connections", "Redirected connections that are open now")
      .collect(() => this.#running);
  }

  /** Connections that are open, as the API shows them. */
  list(): ProxyConnection[] {
    return [...this.#connections.values()].map((connection) => connection.message());
  }

  /** Ends what has waited for too long, until `signal` aborts; then ends everything. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    while (!signal.aborted) {
      await clock.sleep(SWEEP_MS, signal);
      const nowMs = clock.monotonicMs();
      for (const connection of this.#connections.values()) connection.expire(nowMs);
      this.#shared.dns.expire();
    }
    for (const connection of this.#connections.values()) connection.end("stopped");
  }

  /** Runs a connection to its end. Never rejects. */
  async serve({ socket, address, peer }: Accepted): Promise<void> {
    const { connectionsMax = CONNECTIONS_MAX } = this.#parts;
    if (this.#running >= connectionsMax) {
      this.#ended("connections-full", "L7_KIND_UNSPECIFIED");
      return closeQuietly(socket);
    }
    this.#running++;
    let end: string, connection: RedirectedConnection | undefined;
    try {
      const number = this.#parts.prefixes.numberOf(address);
      if (number === undefined) end = "not-redirected";
      else {
        const handle = await this.#handleOf(number, peer);
        if (handle === undefined) end = "unknown-handle";
        else {
          const opened = this.#open(socket, address, handle);
          if (typeof opened !== "string") connection = opened;
          end = typeof opened === "string" ? opened : await this.#run(opened);
        }
      }
    } catch (error) {
      this.#parts.log?.error("A connection failed", { error, address });
      end = "internal";
    }
    this.#running--;
    closeQuietly(socket);
    if (connection !== undefined) this.#close(connection);
    this.#ended(connection?.endedBy || end, connection?.kind ?? "L7_KIND_UNSPECIFIED");
  }

  async #handleOf(number: number, peer: Peer | undefined): Promise<Handle | undefined> {
    try {
      return await this.#parts.handleOf(number, peer);
    } catch (error) {
      this.#parts.log?.warn("Cannot ask whose a connection is", { number, error: errorText(error) });
      return undefined;
    }
  }

  /** A flow of datagrams: judged, recorded and counted as a connection is, but without a socket of its own. */
  flow(handle: Handle): RedirectedConnection {
    return this.#connectionOf(0, NO_SOCKET, handle, () => Promise.reject(new Error("a flow of datagrams")));
  }

  #connectionOf(
    number: number,
    client: Socket,
    handle: Handle,
    open: () => Promise<Socket>,
  ): RedirectedConnection {
    const { book, records, clock, metrics } = this.#parts;
    const faults = metrics.counter(
      "weir_l7_faults_total",
      "Connections that could not be read on, by what was wrong",
    );
    return new RedirectedConnection({
      number,
      client,
      handle,
      book,
      records,
      clock,
      open,
      onRequest: (verdict, kind) => this.#countRequest(verdict, kind),
      onFault: (code, kind) => faults.increment({ code, kind }),
    });
  }

  #countRequest(verdict: "forwarded" | "denied", kind: L7Kind): void {
    const name = `${kind} ${verdict}`;
    let count = this.#requests.get(name);
    if (count === undefined) {
      count = this.#parts.metrics.counter("weir_l7_requests_total", "Requests by what became of them")
        .of({ kind, verdict });
      this.#requests.set(name, count);
    }
    count();
  }

  /** @returns why not, when it may not be */
  #open(socket: Socket, address: string, handle: Handle): RedirectedConnection | string {
    const {
      connectionsMax = CONNECTIONS_MAX,
      clientConnectionsMax = CLIENT_CONNECTIONS_MAX,
      serverConnectionsMax = SERVER_CONNECTIONS_MAX,
    } = this.#parts;
    const share = SHARE_FACTOR * (connectionsMax - this.#running + 1), [client, server] = payers(handle);
    const isFull = (payer: string, most: number) => (this.#held.get(payer) ?? 0) >= Math.min(most, share);
    if (isFull(client, clientConnectionsMax)) return "client-connections-full";
    if (isFull(server, serverConnectionsMax)) return "server-connections-full";
    const connection = this.#connectionOf(++this.#last, socket, handle, () => this.#connect(address));
    for (const payer of [client, server]) this.#held.set(payer, (this.#held.get(payer) ?? 0) + 1);
    this.#connections.set(this.#last, connection);
    return connection;
  }

  async #run(connection: RedirectedConnection): Promise<string> {
    const { judge } = connection, { kind } = judge;
    const closed = judge.places.find((place) => place.kind === "closed");
    if (closed?.kind === "closed" || judge.places.length === 0) {
      const why = closed?.kind === "closed" ? closed.why : "unknown-policy";
      connection.fault(why, CLOSED_TEXTS[why]);
      return why;
    }
    if (kind === undefined) {
      connection.fault("rules-gone", CLOSED_TEXTS["rules-gone"]);
      return "rules-gone";
    }
    const run = kind === "mixed" ? undefined : RUNNERS[kind];
    if (run === undefined) {
      connection.fault("not-judged", `rules of kind ${kind} are not judged here`);
      return "not-judged";
    }
    connection.kind = kind as L7Kind;
    return await run(connection, this.#shared);
  }

  async #connect(address: string): Promise<Socket> {
    const { connect, clock, metrics } = this.#parts;
    const late = new AbortController();
    const failures = metrics.counter("weir_l7_connect_failures_total", "Servers that could not be reached");
    const opening = connect(address);
    try {
      const socket = await Promise.race([
        opening,
        clock.sleep(CONNECT_MS_MAX, late.signal).then(() => undefined),
      ]);
      if (socket !== undefined) return socket;
      void opening.then(closeQuietly, () => {});
      throw new ConnectError(`no answer within ${CONNECT_MS_MAX / 1000} s`);
    } catch (error) {
      failures.increment();
      throw error;
    } finally {
      late.abort();
    }
  }

  #close(connection: RedirectedConnection): void {
    connection.end("");
    this.#connections.delete(connection.number);
    for (const payer of payers(connection.handle)) {
      const held = this.#held.get(payer) ?? 1;
      if (held > 1) this.#held.set(payer, held - 1);
      else this.#held.delete(payer);
    }
  }

  #ended(why: string, kind: L7Kind): void {
    this.#parts.metrics.counter(
      "weir_l7_connections_ended_total",
      "Redirected connections that are over, by why",
    )
      .increment({ why, kind });
  }
}

const CLOSED_TEXTS: Readonly<Record<string, string>> = {
  "unknown-policy":
    "the proxy has no policy of this endpoint yet, and lets nothing through that it cannot judge",
  "policy-denies": "the policy does not allow this connection any more",
  "rules-gone":
    "the L7 rules that brought this connection here are gone, and nothing says what it carries; the next one goes its own way",
};

/** Whose shares a connection is of: the client's, and those of all clients of the server. */
function payers(handle: Handle): [string, string] {
  return [payerOf(handle), `server ${handle.serverAddress}`];
}

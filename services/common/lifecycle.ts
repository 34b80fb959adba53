/**
 * The life of a service process: read the configuration, build, listen, and on a signal (or when the supervisor is gone)
 * stop in order. No error of background work ends the process; it is state that /readyz shows.
 * @module
 */
import { ApiServer } from "./api_server.ts";
import { type Clock, systemClock } from "./clock.ts";
import { type Config, type ConfigSpec, configUsage, loadConfig } from "./config.ts";
import { Health } from "./health.ts";
import { guardAccess, parseAccess } from "./access_control.ts";
import { readInputTextSync } from "./input_file.ts";
import type { Handler } from "./handler.ts";
import { type Listener, listenTcp, listenUnix, readOnly } from "./listener.ts";
import { errorText, Logger, parseLogLevel } from "./log.ts";
import { MetricsRegistry } from "./metrics.ts";
import { credentialPaths, TlsFiles } from "./tls_files.ts";
import { listenTls, TLS_LIMITS, type TlsListenOptions } from "./tls_listener.ts";
import type { TrustSource } from "./trust.ts";
import { WEIR_VERSION } from "./version.ts";

/** Options that every service has. */
export const SERVICE_CONFIG = {
  socket: { kind: "text", description: "unix socket to serve, e.g. /run/weir/<service>.sock" },
  readSocket: {
    kind: "text",
    description: "unix socket that answers what changes nothing: GET, and questions by POST",
  },
  listen: {
    kind: "text",
    description: "TCP address to serve too, e.g. 127.0.0.1:9901, or 10.0.0.1:7441 with TLS",
  },
  tlsDirectory: {
    kind: "text",
    description: "directory with node.crt, node.key and ca.crt: mutual TLS for --listen",
  },
  trust: { kind: "text", description: "address of the certificate authority, for --listen with TLS" },
  access: { kind: "text", default: "", description: "rows of the access table, for --listen with TLS" },
  connectionsMax: {
    kind: "number",
    default: TLS_LIMITS.connectionsMax,
    min: 16,
    max: 10_000_000,
    description: "connections at once on --listen with TLS",
  },
  tokenFile: { kind: "text", description: "file with the bearer token for --listen on loopback" },
  logLevel: { kind: "text", default: "info", description: "debug, info, warn or error" },
  supervised: { kind: "flag", description: "end when standard input closes" },
} as const satisfies ConfigSpec;

/** What a service is built from. */
export interface ServiceContext<S extends ConfigSpec> {
  name: string;
  config: Config<S> & Config<typeof SERVICE_CONFIG>;
  log: Logger;
  metrics: MetricsRegistry;
  health: Health;
  clock: Clock;
  /** A server with this context's health, metrics and log. */
  api: ApiServer;
  /** Aborts when the service is to stop; background loops end then. */
  signal: AbortSignal;
}

/** What `create` gives back. */
export interface Service {
  /** Default: `context.api.fetch`. */
  fetch?: Handler;
  /** Whom callers on other machines may be; default: what `RunOptions.trust` gives. */
  trust?: TrustSource;
  /** Called once, after nothing is listened to any more. */
  stop?(): Promise<void> | void;
}

/** Options of {@link runService}. */
export interface RunOptions<S extends ConfigSpec> {
  /** Name of the service, e.g. "identity-allocator". */
  name: string;
  /** Options beside {@link SERVICE_CONFIG}. */
  config?: S;
  /** Mode of its socket, default 0660; the socket for reading always has the default. */
  socketMode?: number;
  create: (context: ServiceContext<S>) => Promise<Service | void> | Service | void;
  /** Makes the source of trust from the authority's address, for services that answer other machines. */
  trust?: (address: string, parts: { log: Logger; clock: Clock; signal: AbortSignal }) => TrustSource;
  /** Longest time for an orderly stop, default 5000. */
  stopMsMax?: number;
}

/** Runs a service until it is told to stop; then ends the process: 0 after an orderly stop, 1 when it could not start. */
export async function runService<const S extends ConfigSpec>(options: RunOptions<S>): Promise<never> {
  const spec = { ...SERVICE_CONFIG, ...options.config } as S & typeof SERVICE_CONFIG;
  if (Deno.args.includes("--help")) {
    console.log(`${options.name} ${WEIR_VERSION}\n${configUsage(spec)}`);
    Deno.exit(0);
  }
  let log = new Logger({ name: options.name });
  const stopping = new AbortController();
  const listeners: Listener[] = [];
  let service: Service | void = undefined;
  try {
    const config = loadConfig(spec) as ServiceContext<S>["config"];
    log = new Logger({ name: options.name, level: parseLogLevel(config.logLevel as string) });
    const health = new Health();
    const metrics = new MetricsRegistry();
    catchStrays(log, health, metrics);
    const stopped = waitForStop(config.supervised as boolean, log);
    const api = new ApiServer({ name: options.name, health, metrics, log, clock: systemClock });
    service = await options.create({
      name: options.name,
      config,
      log,
      metrics,
      health,
      clock: systemClock,
      api,
      signal: stopping.signal,
    });
    const handler = service?.fetch ?? api.fetch;
    if (config.socket) {
      const { socketMode: mode } = options;
      // Who answers other machines has many watchers, and pays for `node:http` already.
      const isForMany = Boolean(config.listen);
      listeners.push(await listenUnix(handler, config.socket as string, { mode, isForMany }));
    }
    if (config.readSocket) {
      listeners.push(await listenUnix(readOnly(handler, api.isQuestion), config.readSocket as string));
    }
    const tcp = config as unknown as TcpConfig;
    if (tcp.listen && tcp.tlsDirectory) {
      const { signal } = stopping;
      const trust = service?.trust ?? options.trust?.(tcp.trust ?? "", { log, clock: systemClock, signal });
      if (trust === undefined) throw new Error(`${options.name} does not answer other machines`);
      openTls(guardAccess(handler, parseAccess(tcp.access)), {
        ...addressOf(tcp.listen),
        files: new TlsFiles(credentialPaths(tcp.tlsDirectory)),
        limits: { connectionsMax: tcp.connectionsMax },
        trust,
        log,
        metrics,
      }, { health, signal }).then((listener) => listener && listeners.push(listener));
    } else if (tcp.listen) {
      listeners.push(listenTcp(handler, { ...addressOf(tcp.listen), token: readToken(tcp.tokenFile) }));
    }
    log.info("Listening", {
      version: WEIR_VERSION,
      addresses: listeners.map((l) => l.address),
      pid: Deno.pid,
    });
    log.info("Stopping", { reason: await stopped });
  } catch (error) {
    log.error("Cannot start", { error, problem: (error as { problem?: unknown }).problem });
    Deno.exit(1);
  }
  setTimeout(() => {
    log.warn("Stop took too long", { stopMsMax: options.stopMsMax ?? 5000 });
    Deno.exit(0);
  }, options.stopMsMax ?? 5000);
  stopping.abort();
  await Promise.all(listeners.map((listener) => listener.shutdown(300)));
  try {
    await service?.stop?.();
  } catch (error) {
    log.error("Stop failed", { error });
  }
  Deno.exit(0);
}

/** Certificates, keys and tokens are small. */
const SECRET_BYTES_MAX = 1 << 20;

interface TcpConfig {
  listen: string;
  tlsDirectory?: string;
  trust?: string;
  access: string;
  connectionsMax: number;
  tokenFile?: string;
}

function readToken(path: string | undefined): string | undefined {
  return path === undefined ? undefined : readInputTextSync(path, { bytesMax: SECRET_BYTES_MAX }).trim();
}

/** "10.0.0.1:7440" or "[fd00::1]:7440" in parts. */
function addressOf(text: string): { hostname: string; port: number } {
  const at = text.lastIndexOf(":");
  return {
    hostname: text.slice(0, Math.max(0, at)).replace(/^\[(.*)\]$/, "$1") || "127.0.0.1",
    port: Number(text.slice(at + 1)),
  };
}

const TLS_RETRY_MS = 500;

/** Listens as soon as there are certificates and the address is free; until then readiness says what is missing. */
async function openTls(
  handler: Handler,
  options: TlsListenOptions,
  { health, signal }: { health: Health; signal: AbortSignal },
): Promise<Listener | undefined> {
  health.waitFor("tls", "waiting for a certificate");
  while (!signal.aborted) {
    try {
      const listener = await listenTls(handler, options);
      health.ok("tls", listener.address);
      options.log?.info("Listening", { address: listener.address });
      return listener;
    } catch (error) {
      health.waitFor("tls", errorText(error));
      await systemClock.sleep(TLS_RETRY_MS, signal);
    }
  }
  return undefined;
}

/** Errors that nobody awaited become state and a log line, never the process's end. */
function catchStrays(log: Logger, health: Health, metrics: MetricsRegistry): void {
  const strays = metrics.counter("weir_stray_errors_total", "Errors that no code handled");
  const record = (kind: string, error: unknown) => {
    strays.increment({ kind });
    health.ok("stray-errors", `last: ${errorText(error)}`);
    log.error("Unhandled error", { kind, error, stack: error instanceof Error ? error.stack : undefined });
  };
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    record("rejection", event.reason);
  });
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    record("error", event.error);
  });
}

/** Resolves with the reason: SIGTERM, SIGINT, or the end of standard input when supervised. */
function waitForStop(supervised: boolean, log: Logger): Promise<string> {
  return new Promise((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(name, () => resolve(name));
    if (!supervised) return;
    (async () => {
      const buffer = new Uint8Array(256);
      try {
        while (await Deno.stdin.read(buffer) !== null);
      } catch (error) {
        log.debug("Standard input failed", { error });
      }
      resolve("the supervisor is gone");
    })();
  });
}

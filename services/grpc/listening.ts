/**
 * Where a service of ours serves gRPC: a unix socket, and TCP on loopback, or anywhere with mutual TLS. What cannot be listened on
 * is tried again, and said among the checks of readiness without holding it back: the rest of the service works without.
 * @module
 */
import type { X509Certificate } from "node:crypto";
import {
  type Clock,
  countCertificate,
  credentialPaths,
  errorText,
  type Health,
  IpAddress,
  isLoopback,
  type Logger,
  type MetricsRegistry,
  parseHostPort,
  ProblemError,
  readTlsPair,
  removeStaleSocket,
  TlsFiles,
  type TlsPair,
} from "@weir/common";
import type { GrpcAddress, GrpcListening, GrpcServer, GrpcTls } from "./server.ts";

const RETRY_MS = 2000;

/** Where and for how long. */
export interface ListeningOptions {
  /** Path of the unix socket, "" for none. */
  readonly socket: string;
  /** Where else; undefined for nowhere. */
  readonly tcp: { readonly hostname: string; readonly port: number } | undefined;
  /** Directory with node.crt, node.key and ca.crt for `tcp`; "": plain. */
  readonly tlsDirectory: string;
  /** Of `tcp` with TLS: as {@link GrpcTls.check}; looked at again as long as a caller is connected. */
  readonly check?: (certificate: X509Certificate, own: TlsPair) => void;
  readonly health: Health;
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Reads `ADDRESS[:PORT]`; "" is nowhere.
 * @throws {ProblemError} HUBBLE_ADDRESS_INVALID, HUBBLE_NEEDS_TLS: beyond loopback a client needs a certificate
 */
export function readListenAddress(
  listen: string,
  { portDefault, tlsDirectory, tlsFlag }: { portDefault: number; tlsDirectory: string; tlsFlag: string },
): { hostname: string; port: number } | undefined {
  if (listen === "") return undefined;
  const { hostname, port } = parseHostPort(listen, portDefault) ?? { hostname: "", port: 0 };
  const address = IpAddress.tryParse(hostname.replace(/^\[|\]$/g, ""));
  if (address === undefined) {
    throw new ProblemError("HUBBLE_ADDRESS_INVALID", {
      detail: `Cannot serve Hubble's API on ${listen}`,
      found: listen,
      expected: `an address with a port, such as 127.0.0.1:${portDefault}`,
    });
  }
  if (!isLoopback(address.text) && tlsDirectory === "") {
    throw new ProblemError("HUBBLE_NEEDS_TLS", {
      detail: `Cannot serve flows on ${listen} to everybody`,
      action: `Listen on loopback, or give ${tlsFlag}: beyond loopback a client needs a certificate`,
    });
  }
  return { hostname: address.text, port };
}

/** Begins to serve, and goes on trying until `signal` aborts. The caller stops the server. */
export function keepListening(server: GrpcServer, options: ListeningOptions): void {
  const { socket, tcp, tlsDirectory } = options;
  if (socket !== "") keep(server, `unix://${socket}`, { path: socket }, undefined, options);
  if (tcp !== undefined) {
    const files = tlsDirectory === ""
      ? undefined
      : new TlsFiles(credentialPaths(tlsDirectory), { read: readTlsPair });
    keep(server, `${tcp.hostname}:${tcp.port}`, tcp, files, options);
  }
}

async function keep(
  server: GrpcServer,
  what: string,
  address: GrpcAddress,
  files: TlsFiles<TlsPair> | undefined,
  { check, health, log, metrics, clock, signal }: ListeningOptions,
): Promise<void> {
  for (let told = ""; !signal.aborted;) {
    try {
      const tls = files && tlsOf(files, clock, check);
      countCertificate(metrics, files?.get(clock.monotonicMs()).certificate, what);
      if ("path" in address) await removeStaleSocket(address.path);
      const listening = await server.listen(address, tls);
      if ("path" in address) await Deno.chmod(address.path, 0o660);
      health.ok(what, "serves Hubble's API");
      log.info("Listening", { address: what });
      if (files !== undefined) await renew(files, tls!, listening);
      return;
    } catch (error) {
      const text = errorText(error);
      health.ok(what, `not served: ${text}`);
      if (text !== told) log.warn("Cannot serve Hubble's API yet", { address: what, error });
      told = text;
      await clock.sleep(RETRY_MS, signal);
    }
  }
  /** Takes new certificates as they come. */
  async function renew(files: TlsFiles<TlsPair>, used: GrpcTls, listening: GrpcListening): Promise<void> {
    for (let last = used.cert; !signal.aborted; await clock.sleep(RETRY_MS, signal)) {
      listening.recheck();
      const tls = tlsOf(files, clock, check);
      if (tls.cert === last) continue;
      last = tls.cert;
      listening.renew(tls);
      countCertificate(metrics, files.get(clock.monotonicMs()).certificate, what);
      log.info("Took a new certificate for Hubble's API", { address: what });
    }
  }
}

function tlsOf(files: TlsFiles<TlsPair>, clock: Clock, check: ListeningOptions["check"]): GrpcTls {
  const own = files.get(clock.monotonicMs()), { cert, key, authority } = own;
  return {
    cert: cert + authority,
    key,
    clientAuthority: authority,
    check: check && ((certificate) => check(certificate, own)),
  };
}

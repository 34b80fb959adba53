/** Where Hubble's clients come in: a unix socket, and TCP (4244). @module */
import { watchTrust } from "@weir/client";
import {
  assertRelay,
  type Clock,
  type Health,
  HUBBLE_PORT,
  type Logger,
  type MetricsRegistry,
  OBSERVER_NAME,
} from "@weir/common";
import { GrpcServer, healthMethods, keepListening, readListenAddress } from "@weir/grpc";
import type { FlowExporter } from "../flow_exporter.ts";
import type { KnownNames } from "../known_names.ts";
import { OBSERVER_HEALTH, observerMethods } from "./observer.ts";
import { peerMethods } from "./peers.ts";

/** What the server is made of. */
export interface HubbleParts {
  readonly exporter: FlowExporter;
  readonly names: KnownNames;
  readonly nodeName: string;
  readonly cluster: string;
  /** Path of the unix socket, "" for none. */
  readonly socket: string;
  /** `ADDRESS[:4244]`, "" for none. */
  readonly listen: string;
  /** Directory with node.crt, node.key and ca.crt, "" for none: anything beyond loopback needs one. */
  readonly tlsDirectory: string;
  /** `ADDRESS:4244` for the relays of the cluster, "" for none; with the machine's certificate that reads. */
  readonly clusterListen: string;
  readonly clusterTlsDirectory: string;
  /** Certificate authority, which knows the members. */
  readonly authority: string;
  readonly isServing: () => boolean;
  readonly health: Health;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Serves until `signal` aborts. @throws {ProblemError} HUBBLE_ADDRESS_INVALID, HUBBLE_NEEDS_TLS */
export function serveHubble(parts: HubbleParts): void {
  const { exporter, names, nodeName, cluster, clock, signal, health, log, metrics } = parts;
  const { listen, tlsDirectory } = parts;
  const tcp = readListenAddress(listen, {
    portDefault: HUBBLE_PORT,
    tlsDirectory,
    tlsFlag: "--hubble-tls-directory",
  });
  const { clusterListen, clusterTlsDirectory } = parts;
  const inCluster = readListenAddress(clusterListen, {
    portDefault: HUBBLE_PORT,
    tlsDirectory: clusterTlsDirectory,
    tlsFlag: "--cluster-tls-directory",
  });
  const isTls = inCluster !== undefined || (tcp !== undefined && tlsDirectory !== "");
  const startMs = clock.monotonicMs();
  const sleep = (ms: number, until: AbortSignal) => clock.sleep(ms, until);
  const server = new GrpcServer({
    methods: {
      ...observerMethods({
        exporter,
        events: names.events,
        namespaces: names.namespaces,
        nodeName,
        cluster,
        uptimeMs: () => clock.monotonicMs() - startMs,
        address: () => clusterListen || listen || `unix://${parts.socket}`,
        isTls,
      }),
      ...peerMethods({
        nodes: () => names.nodes(),
        port: () => (inCluster ?? tcp)?.port ?? HUBBLE_PORT,
        isTls,
        serverName: inCluster && OBSERVER_NAME,
        sleep,
      }),
      ...healthMethods([OBSERVER_HEALTH], parts.isServing, sleep),
    },
    log,
    metrics,
    clock,
  });
  signal.addEventListener("abort", () => server.stop());
  keepListening(server, { socket: parts.socket, tcp, tlsDirectory, health, log, metrics, clock, signal });
  if (inCluster === undefined) return;
  const table = watchTrust(parts.authority, { log, clock, signal, membersOnly: true });
  keepListening(server, {
    socket: "",
    tcp: inCluster,
    tlsDirectory: clusterTlsDirectory,
    check: (certificate, own) => assertRelay(certificate, own, { cluster, table, clock }),
    health,
    log,
    metrics,
    clock,
    signal,
  });
}

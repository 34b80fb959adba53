/**
 * What no policy for this node's host may cut off of Weir's own and of the administrator's, as texts for the endpoint manager:
 *
 *     KIND/DIRECTION/PROTOCOL/PORT/WHO      WHO: an address, `nodes`, or `established`: connections that are open
 *
 * Addresses that are names are not in it: who they are is not known here.
 *
 * @module
 */
import { HUBBLE_PORT, IpAddress, isLoopback, parseHostPort, SERVICE_PORTS } from "@weir/common";
import type { AgentConfig } from "./config.ts";

/** Ports at which API servers are found that are nodes of the cluster. */
const API_SERVER_PORTS = [6443, 443];

/** @param peers addresses of services that this node asks: "unix:PATH", "https://ADDRESS:PORT#DIRECTORY", several with commas */
export function hostFailsafes(config: AgentConfig, peers: readonly string[]): string[] {
  const found = new Set<string>();
  for (const port of config.sshPort) found.add(`ssh/ingress/tcp/${port}/established`);
  for (const target of peers.flatMap((peer) => peer.split(","))) {
    const asked = addressOf(target);
    if (asked) found.add(`control-plane/egress/tcp/${asked.port}/${asked.address}`);
  }
  const database = addressOf(config.databaseUrl, 5432);
  if (database) found.add(`control-plane/egress/tcp/${database.port}/${database.address}`);
  if (config.listen !== "") {
    const { port } = parseHostPort(config.listen)!;
    for (const own of new Set(Object.values(SERVICE_PORTS))) {
      found.add(`control-plane/ingress/tcp/${port + own}/nodes`);
    }
  }
  if (config.listen !== "" || (config.authority ?? "") !== "") {
    // The relay, wherever it runs, asks every node for its flows.
    for (const direction of ["ingress", "egress"]) {
      found.add(`control-plane/${direction}/tcp/${HUBBLE_PORT}/nodes`);
    }
  }
  if (config.kubernetes || config.kubernetesJoin !== "") {
    for (const port of API_SERVER_PORTS) {
      for (const direction of ["ingress", "egress"]) found.add(`api-server/${direction}/tcp/${port}/nodes`);
    }
    const server = addressOf(config.kubernetesApiServer, 443);
    if (server) found.add(`api-server/egress/tcp/${server.port}/${server.address}`);
  }
  return [...found];
}

/** Where a URL leads; undefined where it names no address, or this machine. */
function addressOf(url: string, portDefault = 443): { address: string; port: number } | undefined {
  if (!url.includes("://") || !URL.canParse(url)) return undefined;
  const { hostname, port } = new URL(url);
  const text = hostname.replace(/^\[|\]$/g, "");
  const address = IpAddress.tryParse(text);
  return address === undefined || isLoopback(text)
    ? undefined
    : { address: address.text, port: Number(port) || portDefault };
}

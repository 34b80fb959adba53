/** What the sockets at the far end mean for a connection. Pure. @module */
import { IpAddress } from "@weir/common/address";
import { hostPort } from "@weir/common/join-token";
import { protocolName } from "@weir/common/map-state";
import type { EndpointSockets, ListeningSocket } from "@weir/proto/datapath";
import { type Stage, stage } from "./stage.ts";

/** What is asked of the sockets of an endpoint. */
export interface SocketQuestion {
  readonly title: string;
  readonly protocol: number;
  readonly port: number;
  readonly sockets: EndpointSockets;
  /** Where the connection goes; undefined: whichever address the endpoint has. */
  readonly address?: string;
  /** The service that led there: its target port may be what is wrong. */
  readonly service?: string;
}

/** Whether somebody takes what arrives. Only of TCP and UDP. */
export function socketStage(question: SocketQuestion): Stage {
  const { title, protocol, port, sockets, address, service } = question;
  const name = protocolName(protocol);
  const alike = sockets.listening.filter((socket) => socket.protocol === name);
  const here = alike.filter((socket) => socket.port === port);
  const open = here.filter((socket) => !isLoopback(socket.address));
  const broken = (message: string, fixes: string[]) => stage("socket", title, "broken", message, { fixes });
  const [first] = open;
  if (first !== undefined && address !== undefined && !open.some((socket) => takes(socket, address))) {
    const [has, wants] = address.includes(":") ? ["IPv4", "::"] : ["IPv6", "0.0.0.0"];
    return broken(`${describe(first)} for ${has} only: connections to ${address} are refused`, [
      `Let it listen on ${wants} too, or connect to an ${has} address of it`,
    ]);
  }
  if (first !== undefined) {
    const full = open.find(({ queue, queueMax }) => protocol === 6 && queue > queueMax);
    if (full !== undefined) {
      return broken(
        `${
          describe(full)
        } takes no connections: ${full.queue} wait to be accepted and its backlog is ${full.queueMax}`,
        [`Look at the process${full.pid === 0 ? "" : ` ${full.pid}`}: it is stopped or too busy to accept`],
      );
    }
    const taker = address === undefined ? first : open.find((socket) => takes(socket, address)) ?? first;
    const waiting = protocol === 6 && taker.queue > 0
      ? `; ${taker.queue} wait to be accepted: is it stopped?`
      : "";
    return stage("socket", title, "ok", `${describe(taker)}${waiting}`);
  }
  if (here.length > 0) {
    return broken(`${describe(here[0])} only: nobody else reaches it there`, [
      `Let it listen on 0.0.0.0 or :: instead of ${here[0].address}`,
    ]);
  }
  if (sockets.truncated) return stage("socket", title, "unknown", "it has more sockets than were read");
  const others = alike.filter(({ address }) => !isLoopback(address)).map((socket) => describe(socket));
  return broken(
    `nothing listens on ${port}/${name}${
      others.length === 0 ? "" : `; ${[...new Set(others)].slice(0, 4).join(", ")}`
    }`,
    others.length === 0
      ? ["Start what is to listen there: it ended, or was never started"]
      : service === undefined
      ? ["Start what is to listen there, or ask for a port that is listened on"]
      : [
        `Set the target port of service ${service} (targetPort, or the port in its EndpointSlice) to one that is listened on: ${
          [...new Set(openPorts(alike))].slice(0, 4).join(", ")
        }`,
        `Start what is to listen on ${port}/${name}`,
      ],
  );
}

/** Ports that others can reach. */
function openPorts(sockets: readonly ListeningSocket[]): number[] {
  return sockets.filter(({ address }) => !isLoopback(address)).map(({ port }) => port);
}

/** "python3 (pid 77) listens on 0.0.0.0:8080/TCP". */
function describe({ process, pid, address, port, protocol }: ListeningSocket): string {
  const who = process === "" ? "a process" : pid === 0 ? process : `${process} (pid ${pid})`;
  return `${who} listens on ${hostPort(address, port)}/${protocol}`;
}

/** Whether a socket gets what is sent to this address: of its family, or "::" that takes IPv4 as well. */
function takes(socket: ListeningSocket, address: string): boolean {
  return address.includes(":")
    ? socket.address.includes(":")
    : !socket.address.includes(":") || (socket.address === "::" && !socket.v6only);
}

function isLoopback(address: string): boolean {
  return address === "::1" || (IpAddress.tryParse(address)?.family === 4 && address.startsWith("127."));
}

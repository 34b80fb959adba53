/**
 * The network of one endpoint: a veth pair whose inner end is born in the pod's namespace, with addresses, routes and MTU;
 * or a device that somebody else made. Idempotent: what is there and right is kept.
 *
 *     host: lxc<hash>, alias weir:<instance>:<endpoint>, neighbour and route to the pod
 *     pod:  eth0, address /32 and /128, gateway on link, default routes by the gateway
 *
 * @module
 */
import { createHash } from "node:crypto";
import { ProblemError } from "@weir/common";
import {
  addAddress,
  changeDevice,
  createVeth,
  deleteDevice,
  deleteRoute,
  type Device,
  deviceAt,
  ensureSysctl,
  findDevice,
  NetlinkSocket,
  Netns,
  parseMac,
  putNeighbour,
  putRoute,
  writeSysctl,
} from "@weir/net";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import { parseAddress } from "../kernel/addresses.ts";
import type { Pins } from "../kernel/pins.ts";

/** What the node says about every pod's network. */
export interface PodNetworkConfig {
  gatewayV4: string;
  gatewayV6: string;
  /** MTU of pods. */
  mtu: number;
}

/** What was made or found. */
export interface PodDevice {
  ifindex: number;
  hostDevice: string;
  hostMac: string;
  /** Inside. */
  mac: string;
  /** Found from before and kept. */
  adopted: boolean;
  /** Whether this device is a veth with its peer in a namespace. */
  peer: boolean;
  /** The node's id of that namespace. */
  netnsId?: number;
}

const IPV4_ANY = new Uint8Array(4), IPV6_ANY = new Uint8Array(16);

/** Name of an endpoint's host device: the same for ever, so that it can be found again. */
export function hostDeviceName(instance: string, endpoint: string): string {
  return "lxc" + createHash("sha256").update(`${instance}\0${endpoint}`).digest("hex").slice(0, 10);
}

/** Makes or finds the device of an endpoint; it stays down until {@link raise}. @throws {NetError} @throws {ProblemError} */
export function ensureDevice(
  socket: NetlinkSocket,
  endpoint: DatapathEndpoint,
  config: PodNetworkConfig,
  pins: Pins,
): PodDevice {
  return endpoint.kind === "NETNS"
    ? ensureVeth(socket, endpoint, config, pins)
    : adoptDevice(socket, endpoint, pins);
}

function ensureVeth(
  socket: NetlinkSocket,
  endpoint: DatapathEndpoint,
  config: PodNetworkConfig,
  pins: Pins,
): PodDevice {
  const name = hostDeviceName(pins.instance, endpoint.name), alias = pins.alias(endpoint.name);
  const inside = endpoint.containerDevice || "eth0";
  using netns = Netns.open(endpoint.netns);
  using pod = new NetlinkSocket(netns);
  let host = findDevice(socket, name);
  let peer = findDevice(pod, inside);
  const adopted = host !== undefined && peer !== undefined && host.alias === alias && peer.kind === "veth";
  if (host !== undefined && !adopted && (host.alias === alias || host.mac === macOf(`${alias}\0host`))) {
    // Ours (by alias, or by address when we were cut short), but its other end is gone or elsewhere: make a new pair.
    deleteDevice(socket, host.ifindex);
    host = undefined;
    peer = findDevice(pod, inside);
  }
  if (!adopted) {
    createVeth(socket, {
      name,
      mac: macOf(`${alias}\0host`),
      peerName: inside,
      peerMac: endpoint.mac || macOf(alias),
      netns,
      mtu: config.mtu,
    });
    host = findDevice(socket, name)!;
    peer = findDevice(pod, inside)!;
    changeDevice(socket, host.ifindex, { alias, noLinkLocal: true });
    configurePod(pod, netns, peer, endpoint, config, host.mac);
  }
  return {
    ifindex: host!.ifindex,
    hostDevice: name,
    hostMac: host!.mac,
    mac: peer!.mac,
    adopted,
    peer: true,
    netnsId: host!.peerNetnsId,
  };
}

function configurePod(
  pod: NetlinkSocket,
  netns: Netns,
  peer: Device,
  endpoint: DatapathEndpoint,
  config: PodNetworkConfig,
  gatewayMac: string,
): void {
  netns.enter(() => {
    // A pod is no router's client: the datapath answers for its gateway, nothing else may.
    writeSysctl(`ipv6/conf/${peer.name}/accept_ra`, "0");
    writeSysctl(`ipv6/conf/${peer.name}/accept_dad`, "0");
  });
  const loopback = findDevice(pod, "lo");
  if (loopback && !loopback.up) changeDevice(pod, loopback.ifindex, { up: true });
  changeDevice(pod, peer.ifindex, { up: true });
  const { ifindex } = peer;
  const { mtu } = config;
  for (
    const [text, gatewayText, any] of [
      [endpoint.ipv4, config.gatewayV4, IPV4_ANY],
      [endpoint.ipv6, config.gatewayV6, IPV6_ANY],
    ] as const
  ) {
    if (text === "") continue;
    const address = parseAddress(text).bytes;
    const bits = address.length * 8;
    addAddress(pod, ifindex, address, bits);
    if (gatewayText === "") continue;
    const gateway = parseAddress(gatewayText).bytes;
    // Known from the start: a question that is lost while the device comes up is asked again only after a second.
    putNeighbour(pod, ifindex, gateway, parseMac(gatewayMac));
    putRoute(pod, { destination: gateway, prefixLength: bits, ifindex });
    putRoute(pod, { destination: any, prefixLength: 0, ifindex, gateway, onlink: true, mtu });
  }
}

function adoptDevice(socket: NetlinkSocket, endpoint: DatapathEndpoint, pins: Pins): PodDevice {
  const device = findDevice(socket, endpoint.device);
  if (device === undefined) {
    throw new ProblemError("DEVICE_NOT_FOUND", {
      status: 404,
      detail: `Cannot attach endpoint ${endpoint.name}: device ${endpoint.device} does not exist`,
      found: "nothing",
      expected: endpoint.device,
    });
  }
  if (endpoint.mac === "") {
    throw new ProblemError("MAC_MISSING", {
      status: 422,
      detail:
        `Cannot attach endpoint ${endpoint.name}: the link-layer address behind ${endpoint.device} is not given`,
      expected: "mac",
      action: "Give the MAC address of the machine behind the device",
    });
  }
  const alias = pins.alias(endpoint.name);
  if (device.alias !== "" && device.alias !== alias) {
    throw new ProblemError("DEVICE_TAKEN", {
      status: 409,
      detail: `Cannot attach endpoint ${endpoint.name}: device ${endpoint.device} belongs to ${device.alias}`,
      found: device.alias,
      expected: "a device without an alias",
    });
  }
  if (device.alias === "") changeDevice(socket, device.ifindex, { alias });
  return {
    ifindex: device.ifindex,
    hostDevice: device.name,
    hostMac: device.mac,
    mac: endpoint.mac,
    adopted: device.alias === alias,
    peer: false,
  };
}

/** Ups the host's end, with neighbours and routes to the endpoint's addresses. Called when programs hang on it. */
export function raise(socket: NetlinkSocket, device: PodDevice, endpoint: DatapathEndpoint): void {
  ensureSysctl(`ipv4/conf/${device.hostDevice}/rp_filter`, "0");
  changeDevice(socket, device.ifindex, { up: true });
  for (const text of [endpoint.ipv4, endpoint.ipv6]) {
    if (text === "") continue;
    const destination = parseAddress(text).bytes;
    putNeighbour(socket, device.ifindex, destination, parseMac(device.mac));
    putRoute(socket, { destination, prefixLength: destination.length * 8, ifindex: device.ifindex });
  }
}

/**
 * Ends a device's traffic: a veth that we made goes, a device that we found goes down. Before its programs are taken off, so
 * that nothing passes unjudged; whoever wants to use a found device without us takes it up himself.
 */
export function silenceDevice(socket: NetlinkSocket, kind: string, ifindex: number, alias: string): void {
  const device = deviceAt(socket, ifindex);
  if (device === undefined || device.alias !== alias) return; // gone, or the number has come again
  if (kind === "NETNS") deleteDevice(socket, ifindex);
  else if (device.up) changeDevice(socket, ifindex, { up: false });
}

/** Removes what {@link ensureDevice} and {@link raise} made, after {@link silenceDevice}. */
export function removeDevice(
  socket: NetlinkSocket,
  endpoint: { kind: string; ipv4: string; ipv6: string },
  ifindex: number,
  alias: string,
): void {
  const device = deviceAt(socket, ifindex);
  if (device === undefined || device.alias !== alias) return; // gone, or the number has come again
  if (endpoint.kind === "NETNS") {
    deleteDevice(socket, ifindex);
    return;
  }
  for (const text of [endpoint.ipv4, endpoint.ipv6]) {
    if (text === "") continue;
    const destination = parseAddress(text).bytes;
    deleteRoute(socket, { destination, prefixLength: destination.length * 8, ifindex });
  }
  changeDevice(socket, ifindex, { alias: "" });
}

/** A locally administered address that is the same for the same text. */
export function macOf(text: string): string {
  const bytes = createHash("sha256").update(text).digest().subarray(0, 6);
  bytes[0] = (bytes[0] & 0xfc) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/**
 * What became of the network that an endpoint was given. Weir gives it once; whoever rules the namespace may take a device down, an
 * address or a route away. Nothing is put back: it may be meant.
 *
 * @module
 */
import { IpAddress } from "@weir/common";
import { type Device, findDevice, listAddresses, listRoutes, NetlinkSocket, type Netns } from "@weir/net";
import { type DatapathEndpoint, EndpointNetwork } from "@weir/proto/datapath";

/**
 * Compares a namespace with what its endpoint was given.
 * @param hostDevice name of the other end of its device
 * @param gateways of both families; "": none
 * @throws {NetError}
 */
export function readEndpointNetwork(
  netns: Netns,
  { containerDevice, ipv4, ipv6 }: DatapathEndpoint,
  hostDevice: string,
  gateways: readonly string[],
): EndpointNetwork {
  using inside = new NetlinkSocket(netns);
  using node = new NetlinkSocket();
  const name = containerDevice || "eth0";
  const device = findDevice(inside, name);
  const host = {
    hostDevice,
    hostState: stateOf(findDevice(node, hostDevice)),
    gateways: gateways.filter(isGiven),
  };
  if (device === undefined) return EndpointNetwork.create({ device: name, state: stateOf(device), ...host });
  const given = [ipv4, ipv6].filter(isGiven);
  const addresses = new Set(
    listAddresses(inside, device.ifindex).map(({ bytes }) => IpAddress.fromBytes(bytes).text),
  );
  const routes = listRoutes(inside);
  const leadsOut = (length: number) =>
    routes.some(({ destination, prefixLength, gateway }) =>
      destination.length === length && (prefixLength === 0 || gateway !== undefined)
    );
  return EndpointNetwork.create({
    device: name,
    state: stateOf(device),
    absentAddresses: given.filter((text) => !addresses.has(IpAddress.parse(text).text)),
    absentRoutes: given.flatMap((text) => {
      const { family, bytes } = IpAddress.parse(text);
      return leadsOut(bytes.length) ? [] : [`IPv${family}`];
    }),
    ...host,
  });
}

function stateOf(device: Device | undefined): string {
  return device === undefined ? "missing" : device.up ? "up" : "down";
}

function isGiven(text: string): boolean {
  return text !== "";
}

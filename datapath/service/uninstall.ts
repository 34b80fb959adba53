/** Removes everything of Weir from this namespace's kernel state: links, programs, maps, pins, devices, routes. @module */
import { BpfMap, detachClsact, listPins, openPin, probeFeature, unpin } from "@weir/loader";
import { Config } from "@weir/maps";
import {
  changeDevice,
  deleteAddress,
  deleteDevice,
  deleteRoute,
  type Device,
  findDevice,
  listDevices,
  listLocalRoutes,
  listRoutes,
  NetlinkSocket,
  ROUTE_PROTOCOL,
} from "@weir/net";
import { unmapped } from "./kernel/addresses.ts";
import { parseAddress } from "./kernel/addresses.ts";
import { PIN_ROOT, Pins } from "./kernel/pins.ts";

/** How much went. */
export interface Removed {
  instances: string[];
  pins: number;
  devices: number;
  routes: number;
}

/**
 * Removes one instance, or all. Devices that Weir found and did not make go down and lose their mark. Repeatable.
 * @param instance undefined: every instance whose pins or devices are seen from here
 */
export function uninstall(instance?: string): Removed {
  using socket = new NetlinkSocket();
  const instances = instance !== undefined ? [new Pins(instance).instance] : knownInstances(socket);
  const removed: Removed = { instances, pins: 0, devices: 0, routes: 0 };
  for (const name of instances) {
    const pins = new Pins(name);
    removeGateways(socket, pins);
    // What passes a device of ours is judged until the device is gone, or down.
    for (const device of ownDevices(socket, pins)) {
      if (isOurs(device)) deleteDevice(socket, device.ifindex);
      else if (device.up) changeDevice(socket, device.ifindex, { up: false });
      removed.devices++;
    }
    // Links first: from here on no packet meets a program whose maps are going.
    for (const path of [...listPins(pins.links), ...listPins(pins.root)]) if (unpin(path)) removed.pins++;
    removeDirectory(pins.root);
    for (const device of ownDevices(socket, pins)) {
      if (probeFeature("tcx links") === "no") {
        for (const direction of ["ingress", "egress"] as const) detachClsact(device.ifindex, direction);
      }
      changeDevice(socket, device.ifindex, { alias: "" });
    }
  }
  // Routes carry our number and no name: they go with the last instance that was here.
  const wasHere = removed.pins + removed.devices > 0;
  const last = instance === undefined || (wasHere && knownInstances(socket).length === 0);
  for (const route of last ? [...listRoutes(socket, ROUTE_PROTOCOL), ...listLocalRoutes(socket)] : []) {
    if (deleteRoute(socket, route)) removed.routes++;
  }
  try {
    Deno.removeSync(PIN_ROOT); // only when it is empty
  } catch {
    // Other instances are there.
  }
  return removed;
}

function ownDevices(socket: NetlinkSocket, pins: Pins): Device[] {
  return listDevices(socket).filter((device) => device.alias.startsWith(pins.alias("")));
}

/** Made by Weir; else found, like a VM's tap. */
function isOurs(device: Device): boolean {
  return device.kind === "vxlan" || device.name.startsWith("lxc");
}

function knownInstances(socket: NetlinkSocket): string[] {
  const found = new Set<string>();
  try {
    for (const entry of Deno.readDirSync(PIN_ROOT)) if (entry.isDirectory) found.add(entry.name);
  } catch {
    // No pins at all.
  }
  for (const device of listDevices(socket)) {
    const match = /^weir:([^:]+):/.exec(device.alias);
    if (match) found.add(match[1]);
  }
  return [...found];
}

/** The gateways' addresses are on the loopback device; the configuration record knows them. */
function removeGateways(socket: NetlinkSocket, pins: Pins): void {
  const fd = openPin(pins.map("weir_config"));
  const loopback = findDevice(socket, "lo");
  if (fd === undefined || loopback === undefined) return;
  using map = new BpfMap(fd, "weir_config");
  const bytes = map.info.valueSize === Config.bytes ? map.lookup(new Uint8Array(4)) : undefined;
  if (bytes === undefined) return;
  const config = Config.decode(bytes);
  const v4 = [24, 16, 8, 0].map((shift) => (config.gatewayIpv4Be >>> shift) & 255).join(".");
  for (const text of [v4, unmapped(config.gatewayIpv6)]) {
    const address = parseAddress(text).bytes;
    if (address.every((byte) => byte === 0)) continue;
    deleteAddress(socket, loopback.ifindex, address, address.length * 8);
  }
}

function removeDirectory(path: string): void {
  try {
    for (const entry of Deno.readDirSync(path)) {
      if (entry.isDirectory) removeDirectory(`${path}/${entry.name}`);
    }
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * The node's own addresses where nobody named them.
 * @module
 */
import { IpAddress } from "./address.ts";

/** Devices that carry no address of the node: ours, and those of containers. */
const NOT_OURS = /^(lo|weir|veth|docker|br-|cni|lxc)/;

/** The first global address of a family on a device that is the node's own, or `""`. */
export function nodeAddress(interfaces: readonly Deno.NetworkInterfaceInfo[], family: 4 | 6): string {
  for (const device of interfaces) {
    if (device.family !== `IPv${family}` || NOT_OURS.test(device.name)) continue;
    const address = IpAddress.tryParse(device.address.split("%")[0]);
    if (!address) continue;
    const first = address.byteAt(0), second = address.byteAt(1);
    const linkLocal = family === 4
      ? first === 169 && second === 254
      : first === 0xfe && (second & 0xc0) === 0x80;
    if (!linkLocal && first !== 127) return address.text;
  }
  return "";
}

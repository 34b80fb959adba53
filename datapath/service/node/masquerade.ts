/** Masquerade in the kernel: who is excepted, and as whom endpoints leave by each outer device. @module */
import {
  type Bytes,
  CONFIG_MASQUERADE_V4,
  CONFIG_MASQUERADE_V6,
  CONFIG_NO_BACKEND_DROP,
  CONFIG_NO_SOCKET_LB,
  MasqueradeException,
  OuterAddresses,
} from "@weir/maps";
import { IpAddress } from "@weir/common";
import { u32 } from "@weir/loader";
import type { Device, DeviceAddress } from "@weir/net";
import type { NodeConfig } from "@weir/proto/datapath";
import { hex, ipv4Number, mapped, parsePrefix } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";

const GLOBAL_SCOPE = 0;

/** What of the node's flags is for translation. In a family that the node has no address of, endpoints keep theirs. */
export function serviceFlags(config: NodeConfig): number {
  return (config.masquerade && config.ipv4 !== "" ? CONFIG_MASQUERADE_V4 : 0) |
    (config.masquerade && config.ipv6 !== "" ? CONFIG_MASQUERADE_V6 : 0) |
    (config.noBackendDrop ? CONFIG_NO_BACKEND_DROP : 0) |
    (config.socketLb === false ? CONFIG_NO_SOCKET_LB : 0);
}

/** Masquerade in the kernel. The kernel's maps are its only memory. */
export class MasqueradeStore {
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Makes these prefixes the excepted destinations. @throws {ProblemError} for what is no prefix, before anything is written */
  apply(prefixes: readonly string[]): void {
    const map = this.#kernel.map("weir_masquerade_exceptions");
    const wanted = new Map(prefixes.map((text): [string, Bytes] => {
      const prefix = parsePrefix(text);
      const prefixlen = prefix.family === 4 ? 96 + prefix.length : prefix.length;
      const key = MasqueradeException.encode({ prefixlen, address: mapped(prefix.address.text) });
      return [hex(key), key];
    }));
    const present = new Map(map.keys().map((key) => [hex(key), key]));
    for (const [text, key] of wanted) if (!present.has(text)) map.update(key, u32(1));
    for (const [text, key] of present) if (!wanted.has(text)) map.delete(key);
  }

  /** Tells which outer devices have other addresses than the node's own. Called now and then: addresses come and go. */
  refresh(config: NodeConfig, outer: readonly Device[], addresses: readonly DeviceAddress[]): void {
    const map = this.#kernel.map("weir_outer_addresses");
    const wanted = new Map<number, Bytes>();
    for (const { ifindex } of outer) {
      const mine = addresses.filter((each) => each.ifindex === ifindex && each.scope === GLOBAL_SCOPE);
      const own = (length: number, text: string) => {
        const family = mine.filter(({ bytes }) => bytes.length === length).map(({ bytes }) => textOf(bytes));
        return text !== "" && family.some((each) => hex(mapped(each)) === hex(mapped(text)))
          ? ""
          : family[0] ?? "";
      };
      const ipv4 = own(4, config.ipv4), ipv6 = own(16, config.ipv6);
      if (ipv4 === "" && ipv6 === "") continue;
      wanted.set(ifindex, OuterAddresses.encode({ ipv4Be: ipv4Number(ipv4), ipv6: mapped(ipv6) }));
    }
    for (const [key, value] of map.entries()) {
      const ifindex = new DataView(key.buffer).getUint32(0, true), next = wanted.get(ifindex);
      if (next === undefined) map.delete(key);
      else if (hex(next) === hex(value)) wanted.delete(ifindex);
    }
    for (const [ifindex, value] of wanted) map.update(u32(ifindex), value);
  }
}

function textOf(bytes: Uint8Array): string {
  return IpAddress.fromBytes(bytes).text;
}

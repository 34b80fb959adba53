/**
 * Results of ADD, and what a plugin before in a list has made. Pure.
 * @module
 */
import type { Endpoint } from "@weir/proto/endpoint";
import type { Attachment } from "./attachment.ts";
import { CniError } from "./cni_error.ts";
import { asObject, type JsonObject, type NetworkConfig } from "./network_config.ts";
import { has } from "./versions.ts";

/** Router addresses of the node's endpoints; "" where it has none of a family. */
export interface Gateways {
  readonly v4: string;
  readonly v6: string;
}

/** What ADD prints for an endpoint that is READY, in the version of the configuration. */
export function resultOf(
  { status, containerDevice, netns }: Endpoint,
  gateways: Gateways,
  { cniVersion, dns }: NetworkConfig,
): JsonObject {
  const families = [
    { version: "4", address: status?.ipv4 ?? "", bits: 32, gateway: gateways.v4, any: "0.0.0.0/0" },
    { version: "6", address: status?.ipv6 ?? "", bits: 128, gateway: gateways.v6, any: "::/0" },
  ].filter(({ address }) => address !== "");
  return {
    cniVersion,
    interfaces: [
      { name: status?.hostDevice ?? "" },
      { name: containerDevice || "eth0", mac: status?.mac ?? "", sandbox: netns },
    ],
    ips: families.map(({ version, address, bits, gateway }) => ({
      ...(has(cniVersion, "addressesWithoutVersion") ? {} : { version }),
      interface: 1,
      address: `${address}/${bits}`,
      ...(gateway === "" ? {} : { gateway }),
    })),
    routes: families.filter(({ gateway }) => gateway !== "").map(({ any, gateway }) => ({
      dst: any,
      gw: gateway,
    })),
    dns,
  };
}

/** What the plugin before has made of the container's device. */
export interface FoundDevice {
  /** The end on the host. */
  readonly hostDevice: string;
  /** Link-layer address inside. */
  readonly mac: string;
  /** "" where it has none of a family. */
  readonly ipv4: string;
  readonly ipv6: string;
}

/**
 * The container's device in the result of the plugin before, as ptp and bridge give it: the host's end stands right before the
 * container's, and has no sandbox.
 * @throws {CniError} there is none
 */
export function foundDevice(result: JsonObject, { ifname, netns }: Attachment): FoundDevice {
  const listOf = (key: string) => {
    const value = result[key] ?? [];
    if (!Array.isArray(value)) throw missing(`${key} is no list`);
    return value.map((one, i) => asObject(`prevResult.${key}[${i}]`, one));
  };
  const interfaces = listOf("interfaces");
  const text = (value: unknown) => typeof value === "string" ? value : "";
  const index = interfaces.findIndex(({ name, sandbox }) => name === ifname && text(sandbox) !== "");
  if (index < 0) throw missing(`no interface of it is ${ifname} in a sandbox`);
  const sandbox = text(interfaces[index].sandbox);
  if (netns !== "" && sandbox !== netns) throw missing(`${ifname} is in ${sandbox}, not in ${netns}`);
  const host = interfaces.slice(0, index).findLast((one) => text(one.sandbox) === "");
  if (text(host?.name) === "") throw missing(`no interface on the host stands before ${ifname}`);
  const addresses = listOf("ips").filter((ip) => ip.interface === index || ip.interface === undefined)
    .map(({ address }) => text(address).split("/")[0]);
  return {
    hostDevice: text(host!.name),
    mac: text(interfaces[index].mac),
    ipv4: addresses.find((address) => address.includes(".")) ?? "",
    ipv6: addresses.find((address) => address.includes(":")) ?? "",
  };
}

/** The addresses that a result gives this container's device. */
export function addressesIn(result: JsonObject): string[] {
  const { ips = [] } = result;
  if (!Array.isArray(ips)) return [];
  return ips.map((ip) => String((ip as { address?: unknown } | null)?.address ?? "").split("/")[0])
    .filter((address) => address !== "");
}

function missing(why: string): CniError {
  return new CniError(
    "INVALID_NETWORK_CONFIG",
    `Cannot take the device that another plugin made: ${why} (prevResult)`,
  );
}

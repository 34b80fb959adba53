/**
 * Checks of objects that are put whole, not as manifests: pods and pools.
 * @module
 */
import { invalidArgument, IpAddress, parseSelectorTerms, SelectorError } from "@weir/common";
import type { AddressPool, Pod } from "@weir/proto/loadbalancer";
import { parseRange, rangeText } from "./address_range.ts";
import { RANGES_MAX } from "./pool_manifest.ts";

/** Most addresses and ports of one pod. */
const POD_ADDRESSES_MAX = 16;
const POD_PORTS_MAX = 256;

/** The pool with its ranges in canonical form. @throws {ProblemError} INVALID_ARGUMENT */
export function checkPool(name: string, value: AddressPool): AddressPool {
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) {
    throw invalidArgument("Cannot take this name of a pool", {
      found: name.slice(0, 80),
      expected: "lower case letters, digits, - and .",
    });
  }
  if (value.ranges.length > RANGES_MAX) {
    throw invalidArgument("Cannot take the pool: it has too many ranges", {
      found: value.ranges.length,
      expected: `at most ${RANGES_MAX}`,
    });
  }
  const ranges = value.ranges.map((text) => {
    const range = parseRange(text);
    if (range !== undefined) return rangeText(range);
    throw invalidArgument("Cannot take the pool: one of its ranges is none", {
      found: text,
      expected: "a prefix, or FIRST-LAST of one family",
    });
  });
  try {
    parseSelectorTerms(value.serviceSelector);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    throw invalidArgument("Cannot take the pool: its serviceSelector cannot be read", {
      found: error.found,
      expected: error.expected,
    });
  }
  return { ...value, name, ranges };
}

/** The pod with its addresses in canonical form. @throws {ProblemError} INVALID_ARGUMENT */
export function checkPod(name: string, value: Pod): Pod {
  const match = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)\/([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$/.exec(name);
  if (match === null) {
    throw invalidArgument("Cannot take the pod: its name is none", {
      found: name.slice(0, 80),
      expected: "NAMESPACE/NAME",
    });
  }
  if (value.addresses.length > POD_ADDRESSES_MAX || value.ports.length > POD_PORTS_MAX) {
    throw invalidArgument(`Cannot take pod ${name}: it has too many addresses or ports`, {
      found: `${value.addresses.length} addresses, ${value.ports.length} ports`,
      expected: `at most ${POD_ADDRESSES_MAX} and ${POD_PORTS_MAX}`,
    });
  }
  const addresses = value.addresses.map((text) => {
    const address = IpAddress.tryParse(text);
    if (address !== undefined) return address.text;
    throw invalidArgument(`Cannot take pod ${name}: one of its addresses is none`, { found: text });
  });
  const ports = value.ports.map((port) => {
    const protocol = port.protocol || "TCP";
    if (
      port.port < 1 || port.port > 65535 || port.hostPort > 65535 ||
      !["TCP", "UDP", "SCTP"].includes(protocol)
    ) {
      throw invalidArgument(`Cannot take pod ${name}: one of its ports is none`, {
        found: `${port.name} ${port.port}/${protocol} host port ${port.hostPort}`,
        expected: "1 to 65535, TCP, UDP or SCTP",
      });
    }
    if (port.hostIp !== "" && IpAddress.tryParse(port.hostIp) === undefined) {
      throw invalidArgument(`Cannot take pod ${name}: one of its host addresses is none`, {
        found: port.hostIp,
      });
    }
    return { ...port, protocol };
  });
  if (value.weight > 100) {
    throw invalidArgument(`Cannot take pod ${name}: its weight is too large`, {
      found: value.weight,
      expected: "1 to 100",
    });
  }
  return { ...value, name, namespace: match[1], addresses, ports };
}

/**
 * What a PUT of an endpoint may say. All faults are reported at once.
 * @module
 */
import {
  formatLabel,
  HOST_ENDPOINT,
  IpAddress,
  LabelError,
  parseLabel,
  ProblemError,
  SOURCE_CIDR,
} from "@weir/common";
import type { ProblemCause } from "@weir/common";
import type { Endpoint } from "@weir/proto/endpoint";
import { fitsFileName } from "./endpoint_store.ts";

export const NAMED_PORTS_MAX = 64;
/** A device name is at most 15 bytes (IFNAMSIZ less the terminator) and has no slash or white space. */
const DEVICE = /^[^\s/:]{1,15}$/;
const NAME = /^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/;
const POOL = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i;
const PROTOCOLS = ["TCP", "UDP", "SCTP"];

/**
 * The spec in canonical form: labels sorted with their source, protocols in upper case, no status.
 * @throws {ProblemError} ENDPOINT_INVALID with every fault by path
 */
export function readEndpointSpec(given: Endpoint): Endpoint {
  const causes: ProblemCause[] = [];
  const fault = (path: string, detail: string) => causes.push({ path, detail });
  const isHost = given.host && given.name === HOST_ENDPOINT;
  if (given.host && !isHost) fault("host", `found true, expected the endpoint ${HOST_ENDPOINT} alone`);
  if (!isHost && (!NAME.test(given.name) || !fitsFileName(given.name))) {
    fault(
      "name",
      `found ${JSON.stringify(given.name)}, expected letters, digits, . _ - and / (at most 230 bytes)`,
    );
  }
  const kinds = (["netns", "device", "cgroup"] as const).filter((k) => given[k] !== "");
  if (kinds.length !== (given.host ? 0 : 1)) {
    fault("netns, device, cgroup", `found ${kinds.join(" and ") || "none"}, expected exactly one`);
  }
  for (const key of ["netns", "cgroup"] as const) {
    if (given[key] !== "" && !given[key].startsWith("/")) {
      fault(key, `found ${given[key]}, expected an absolute path`);
    }
  }
  for (const key of ["device", "containerDevice"] as const) {
    if (given[key] !== "" && !DEVICE.test(given[key])) {
      fault(key, `found ${JSON.stringify(given[key])}, expected a device name of 1 to 15 bytes`);
    }
  }
  if (given.mac !== "" && !MAC.test(given.mac)) {
    fault("mac", `found ${given.mac}, expected six hex bytes with colons`);
  } else if (given.mac === "" && given.device !== "") {
    fault("mac", "found none, expected the link-layer address of the workload behind the device");
  }
  for (const key of ["poolV4", "poolV6"] as const) {
    if (given[key] !== "" && !POOL.test(given[key])) {
      fault(key, `found ${JSON.stringify(given[key])}, expected the name of a pool`);
    }
  }
  for (const [key, family] of [["ipv4", 4], ["ipv6", 6]] as const) {
    if (given[key] !== "" && IpAddress.tryParse(given[key])?.family !== family) {
      fault(key, `found ${given[key]}, expected an IPv${family} address`);
    }
  }
  const labels = new Set<string>();
  for (const [i, text] of given.labels.entries()) {
    try {
      const label = parseLabel(text);
      if (label.source === SOURCE_CIDR) {
        fault(
          `labels[${i}]`,
          `found ${text}, expected no label of an address: --policy-cidr-match gives those`,
        );
      }
      labels.add(formatLabel(label));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
      fault(`labels[${i}]`, error.message);
    }
  }
  if (given.namedPorts.length > NAMED_PORTS_MAX) {
    fault("namedPorts", `found ${given.namedPorts.length}, expected at most ${NAMED_PORTS_MAX}`);
  }
  const namedPorts = given.namedPorts.map((p, i) => {
    const protocol = (p.protocol || "TCP").toUpperCase();
    if (!PROTOCOLS.includes(protocol)) {
      fault(`namedPorts[${i}].protocol`, `found ${p.protocol}, expected one of ${PROTOCOLS.join(", ")}`);
    }
    if (p.port < 1 || p.port > 65535) fault(`namedPorts[${i}].port`, `found ${p.port}, expected 1 to 65535`);
    if (p.name === "") fault(`namedPorts[${i}].name`, "found no name");
    return { ...p, protocol };
  });
  if (causes.length > 0) {
    throw new ProblemError("ENDPOINT_INVALID", {
      status: 422,
      detail: `Cannot accept endpoint ${JSON.stringify(given.name)}: ${
        causes.map((c) => `${c.path}: ${c.detail}`).join("; ")
      }`,
      action: "Correct the fields and send it again",
      causes,
    });
  }
  const { status: _, ...spec } = given;
  return { ...spec, mac: given.mac.toLowerCase(), labels: [...labels].sort(), namedPorts };
}

/** True when two specs ask for the same thing. */
export function sameSpec(a: Endpoint, b: Endpoint): boolean {
  const { status: _a, ...x } = a;
  const { status: _b, ...y } = b;
  return JSON.stringify(x) === JSON.stringify(y);
}

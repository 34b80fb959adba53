/**
 * The network configuration that a runtime gives on standard input. Pure. What is not known is left alone: configurations are
 * written for several plugins.
 *
 *     { "cniVersion": "1.1.0", "name": "weir", "type": "weir-cni",
 *       "labels": ["app=web"], "namespace": "shop",        of containers that no Kubernetes describes
 *       "prevResult": {...} }                              of the plugin before in a list
 *
 * @module
 */
import { CniError } from "./cni_error.ts";
import { type CniVersion, isCniVersion } from "./versions.ts";

/** A JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** An attachment that a runtime says is alive. */
export interface ValidAttachment {
  readonly containerId: string;
  readonly ifname: string;
}

/** What of a configuration matters here. */
export interface NetworkConfig {
  readonly cniVersion: CniVersion;
  /** Of the network, e.g. "weir". */
  readonly name: string;
  readonly labels: readonly string[];
  readonly namespace: string;
  /** What plugins before made; undefined: there are none. */
  readonly prevResult?: JsonObject;
  readonly dns: JsonObject;
  /** Of GC; undefined: the runtime does not say. */
  readonly validAttachments?: readonly ValidAttachment[];
}

const LABELS_MAX = 128;

/** @throws {CniError} no JSON, another version, a wrong type */
export function readNetworkConfig(bytes: Uint8Array): NetworkConfig {
  const given = parse(bytes);
  const { cniVersion = "0.2.0", name = "", labels = [], namespace = "", prevResult, dns = {} } = given;
  if (!isCniVersion(cniVersion)) {
    throw new CniError(
      "INCOMPATIBLE_VERSION",
      `Cannot speak CNI ${String(cniVersion).slice(0, 20)}: expected 0.3.0 to 1.1.0`,
    );
  }
  const text = (key: string, value: unknown) => {
    if (typeof value === "string") return value;
    throw wrong(key, "a text");
  };
  if (
    !Array.isArray(labels) || labels.length > LABELS_MAX || labels.some((label) => typeof label !== "string")
  ) {
    throw wrong("labels", `a list of at most ${LABELS_MAX} texts`);
  }
  return {
    cniVersion,
    name: text("name", name),
    labels,
    namespace: text("namespace", namespace),
    prevResult: prevResult === undefined || prevResult === null
      ? undefined
      : asObject("prevResult", prevResult),
    dns: asObject("dns", dns),
    validAttachments: readAttachments(given["cni.dev/valid-attachments"]),
  };
}

/** The version to answer a request in that cannot be read. */
export function versionOf(bytes: Uint8Array): string {
  try {
    const { cniVersion } = parse(bytes);
    return isCniVersion(cniVersion) ? cniVersion : "1.0.0";
  } catch {
    return "1.0.0";
  }
}

/** @throws {CniError} */
export function asObject(key: string, value: unknown): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw wrong(key, "an object");
}

function parse(bytes: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CniError(
      "DECODING_FAILURE",
      `Cannot read the network configuration: ${(cause as Error).message}`,
      { cause },
    );
  }
  return asObject("the whole", value);
}

function readAttachments(value: unknown): ValidAttachment[] | undefined {
  if (value === undefined || value === null) return undefined;
  const key = "cni.dev/valid-attachments";
  if (!Array.isArray(value)) throw wrong(key, "a list");
  return value.map((one, i) => {
    const { containerID, ifname } = asObject(`${key}[${i}]`, one);
    if (typeof containerID === "string" && typeof ifname === "string") {
      return { containerId: containerID, ifname };
    }
    throw wrong(`${key}[${i}]`, "containerID and ifname");
  });
}

function wrong(key: string, expected: string): CniError {
  return new CniError(
    "INVALID_NETWORK_CONFIG",
    `Cannot take the network configuration: ${key} is wrong, expected ${expected}`,
  );
}

/**
 * What a machine keeps of its membership, in the instance's state directory (/var/lib/weir/<instance>):
 *
 *     node.crt  node.key  ca.crt     its certificate, its key (0600, the services' user's), the authority
 *     join.json                      cluster, name, role, where the control plane is (0600, root's)
 *     withdrawals                    whom the cluster does not believe any more (0640, root's): see withdrawal.ts
 *     reader/                        the same three files for what only reads, and shows flows to those who read
 *
 * A new pair is written whole beside the old one before it takes its place, so that a crash at any moment leaves a pair.
 * @module
 */
import { readInputTextSync } from "./input_file.ts";
import { hostPort, parseHostPort } from "./join_token.ts";
import { ProblemError } from "./problem.ts";
import { credentialPaths, readCredentials, type TlsCredentials } from "./tls_files.ts";

/** Content of join.json. */
export interface Membership {
  readonly version: 1;
  readonly cluster: string;
  readonly node: string;
  readonly role: "node" | "control-plane";
  /** Certificate authorities of the control plane, "10.0.0.1:7440". */
  readonly addresses: readonly string[];
  /** Of the control plane: where this machine listens. */
  readonly listen?: string;
  /** Of the control plane: the database it shares. */
  readonly databaseUrl?: string;
}

/** Who owns the credentials. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Ports of the services that other machines reach, counted from that of the certificate authority. */
export const SERVICE_PORTS = {
  "certificate-authority": 0,
  "identity-allocator": 1,
  "policy-engine": 2,
  "load-balancer": 3,
  "kubernetes": 4,
} as const;
/** A service that other machines reach. */
export type PlaneService = keyof typeof SERVICE_PORTS;

/** Ports of Hubble's API on a node and at the relay, of its metrics, and of the web page. */
export const HUBBLE_PORT = 4244, RELAY_PORT = 4245, METRICS_PORT = 9965, UI_PORT = 12_000;
/** A node holds so many flows at most, of Hubble's form 2^n - 1. */
export const RING_FLOWS_MAX = 65535;

/** Target of a service of the control plane for a client on a machine that joined. */
export function planeTarget(addresses: readonly string[], service: PlaneService, directory: string): string {
  return addresses.map((address) => {
    const { hostname, port } = parseHostPort(address)!;
    return `https://${hostPort(hostname, port + SERVICE_PORTS[service])}`;
  }).join(",") + `#${directory}`;
}

/** Directory of the credentials of role `reader`, beside a machine's own. */
export function readerDirectory(directory: string): string {
  return `${directory}/reader`;
}

/**
 * Name in a reader's certificate under which its holder may serve the flows of its machine. Nobody looks for the control plane under
 * it; which machine it is says the certificate's URI.
 */
export const OBSERVER_NAME = "observer.weir.internal";

const FILE = "join.json";
const FILE_BYTES_MAX = 1 << 16;

/** Reads join.json; undefined when there is none. @throws {ProblemError} MEMBERSHIP_INVALID */
export function readMembership(directory: string): Membership | undefined {
  const path = `${directory}/${FILE}`;
  let text: string;
  try {
    text = readInputTextSync(path, { bytesMax: FILE_BYTES_MAX });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw invalid(path, (error as Error).message);
  }
  let found: Membership;
  try {
    found = JSON.parse(text);
  } catch (error) {
    throw invalid(path, (error as Error).message);
  }
  const good = found?.version === 1 && typeof found.cluster === "string" && typeof found.node === "string" &&
    (found.role === "node" || found.role === "control-plane") && Array.isArray(found.addresses) &&
    found.addresses.length > 0 &&
    found.addresses.every((one) => typeof one === "string" && parseHostPort(one));
  if (!good) throw invalid(path, "a part of it is missing");
  return found;
}

/** Writes join.json, mode 0600. */
export function writeMembership(directory: string, membership: Membership): void {
  replaceFile(`${directory}/${FILE}`, JSON.stringify(membership, null, 2) + "\n", 0o600);
}

/** Writes a new certificate with its key and the authority. */
export function writeCredentials(
  directory: string,
  pem: { cert: string; key: string; authority: string },
  owner: Owner,
): void {
  const paths = credentialPaths(directory);
  replaceFile(paths.authority, pem.authority, 0o644, owner);
  write(`${paths.key}.new`, pem.key, 0o600, owner);
  write(`${paths.cert}.new`, pem.cert, 0o644, owner);
  Deno.renameSync(`${paths.key}.new`, paths.key);
  Deno.renameSync(`${paths.cert}.new`, paths.cert);
}

/**
 * Reads the credentials; finishes what a crash in {@link writeCredentials} left half done. Undefined when there are none.
 * @throws {ProblemError} CREDENTIALS_MISMATCH, CERTIFICATE_INVALID
 */
export function recoverCredentials(directory: string): TlsCredentials | undefined {
  const paths = credentialPaths(directory);
  try {
    return readCredentials(paths);
  } catch (error) {
    try {
      const whole = readCredentials({ ...paths, cert: `${paths.cert}.new` });
      Deno.renameSync(`${paths.cert}.new`, paths.cert);
      return whole;
    } catch {
      if ((error as ProblemError).code === "CREDENTIALS_MISSING") return undefined;
      throw error;
    }
  }
}

/** Forgets the membership: the key is gone for good. Repeatable. */
export function removeMembership(directory: string): void {
  const paths = credentialPaths(directory);
  const files = [
    ...Object.values(paths),
    `${paths.key}.new`,
    `${paths.cert}.new`,
    `${directory}/${FILE}`,
    `${directory}/withdrawals`,
  ];
  for (const file of [...files, readerDirectory(directory)]) {
    try {
      Deno.removeSync(file, { recursive: true });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

/** Writes a file whole beside the old one, and puts it in its place. */
export function replaceFile(path: string, text: string | Uint8Array, mode: number, owner?: Owner): void {
  write(`${path}.new`, text, mode, owner);
  Deno.renameSync(`${path}.new`, path);
}

/** The file has its mode from its first byte on: a key is never readable by others, not for a moment. */
function write(path: string, text: string | Uint8Array, mode: number, owner?: Owner): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  using file = Deno.openSync(path, { write: true, createNew: true, mode: 0o600 });
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  for (let written = 0; written < bytes.length;) written += file.writeSync(bytes.subarray(written));
  file.syncSync();
  if (owner !== undefined) Deno.chownSync(path, owner.uid, owner.gid);
  Deno.chmodSync(path, mode);
}

/** Whether an error, or what caused it, says that there is no such file. */
export function isNotFound(error: unknown): boolean {
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    if (one instanceof Deno.errors.NotFound || (one as { code?: string }).code === "ENOENT") return true;
  }
  return false;
}

function invalid(path: string, found: string): ProblemError {
  return new ProblemError("MEMBERSHIP_INVALID", {
    status: 500,
    detail: `Cannot read ${path}: ${found}`,
    found,
    expected: "what weir join wrote",
    action: "Join again: weir cluster leave --force, weir join TOKEN",
  });
}

/**
 * What the pod of a node is given to join with, in one directory: its service account's token and the ConfigMap `weir-cluster`.
 *
 *     token           of the audience "weir", bound to the pod and so to its node; the kubelet renews it
 *     cluster         name of the cluster
 *     addresses       of the control plane: "10.0.0.1:7440,10.0.0.2:7440"
 *     authority.crt   the cluster's certificate authority, PEM
 *
 * @module
 */
import { parseHostPort, ProblemError, publicKeyHash } from "@weir/common";
import { readInputTextSync } from "@weir/common/input-file";
import { X509Certificate } from "node:crypto";

/** The directory's content. */
export interface JoinDirectory {
  readonly token: string;
  readonly cluster: string;
  /** Certificate authorities of the control plane, "10.0.0.1:7440", at least one. */
  readonly addresses: readonly string[];
  readonly authorityPem: string;
  /** SHA-256 of the public key of each authority in it, in hex. */
  readonly authorityHashes: readonly string[];
}

const FILE_BYTES_MAX = 1 << 16;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** Reads the directory. @throws {ProblemError} JOIN_DIRECTORY_INVALID, with the file and what it should be */
export function readJoinDirectory(directory: string): JoinDirectory {
  const read = (name: string, expected: string): string => {
    let text: string;
    try {
      text = readInputTextSync(`${directory}/${name}`, { bytesMax: FILE_BYTES_MAX }).trim();
    } catch (error) {
      throw invalid(`${directory}/${name}`, (error as Error).message, expected);
    }
    if (text === "") throw invalid(`${directory}/${name}`, "it is empty", expected);
    return text;
  };
  const token = read("token", "the token of the pod's service account");
  const cluster = read("cluster", "the name of the cluster");
  const addresses = read("addresses", "addresses of the control plane").split(",").map((one) => one.trim());
  const wrong = addresses.find((one) => parseHostPort(one) === undefined);
  if (wrong !== undefined) {
    throw invalid(`${directory}/addresses`, `"${wrong}" is no address`, "ADDRESS:7440, comma-separated");
  }
  const authorityPem = read("authority.crt", "the certificate of the cluster's authority");
  return { token, cluster, addresses, authorityPem, authorityHashes: hashesOf(authorityPem, directory) };
}

function hashesOf(pem: string, directory: string): string[] {
  const path = `${directory}/authority.crt`;
  try {
    const hashes = (pem.match(CERTIFICATE) ?? []).map((one) => publicKeyHash(new X509Certificate(one)));
    if (hashes.length > 0) return hashes;
  } catch (error) {
    throw invalid(path, (error as Error).message, "certificates in PEM");
  }
  throw invalid(path, "there is no certificate in it", "certificates in PEM");
}

function invalid(path: string, found: string, expected: string): ProblemError {
  return new ProblemError("JOIN_DIRECTORY_INVALID", {
    status: 500,
    detail: `Cannot join by ${path}: ${found}`,
    found,
    expected,
    action: "Is the ConfigMap weir-cluster there? The control plane's service kubernetes writes it",
  });
}

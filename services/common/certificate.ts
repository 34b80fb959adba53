/**
 * X.509 certificates of a cluster: who one names, and whether it may be believed. Each names its holder in one URI
 *
 *     URI:weir://CLUSTER/ROLE/NAME          weir://default/node/node-2
 *
 * and carries in its serial number when it was issued, so that everything issued before a removal can be refused:
 *
 *     byte 0     1            6            7              16
 *          0x01  │ Unix ms, big endian     │ random        │
 *
 * @module
 */
import type { X509Certificate } from "node:crypto";
import { nodeCrypto } from "./node_crypto.ts";
import { type Peer, PEER_ROLES, type PeerRole } from "./peer.ts";
import { ProblemError } from "./problem.ts";

/** Certificates begin this long before they are issued: clocks of machines differ. */
export const CLOCK_SKEW_MS_MAX = 5 * 60_000;

/** What a certificate says. */
export interface CertificateFacts {
  readonly peer: Peer;
  readonly cluster: string;
  /** When it was issued, Unix milliseconds; 0 when its serial number does not tell. */
  readonly issuedUnixMs: number;
  readonly notBeforeUnixMs: number;
  readonly notAfterUnixMs: number;
}

/** The URI that names a holder. */
export function peerUri(cluster: string, peer: Peer): string {
  return `weir://${encodeURIComponent(cluster)}/${peer.role}/${encodeURIComponent(peer.node)}`;
}

/** A serial number (32 hex digits) for a certificate that is issued now. `random` has 9 bytes. */
export function serialNumberAt(unixMs: number, random: Uint8Array): string {
  const hex = [...random.subarray(0, 9)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return "01" + Math.floor(unixMs).toString(16).padStart(12, "0") + hex;
}

/** When a serial number was made, Unix milliseconds; 0 for one that is not ours. */
function issuedAt(serialNumber: string): number {
  const match = /^0?1([0-9a-f]{12})[0-9a-f]{18}$/i.exec(serialNumber);
  return match === null ? 0 : parseInt(match[1], 16);
}

/** SHA-256 of a certificate's public key (SPKI), in hex: what a join token carries of the authority. */
export function publicKeyHash(certificate: X509Certificate): string {
  const der = certificate.publicKey.export({ type: "spki", format: "der" });
  return nodeCrypto().createHash("sha256").update(der).digest("hex");
}

/** The first certificate of a PEM text. @throws {ProblemError} CERTIFICATE_INVALID */
export function parseCertificate(pem: string | Uint8Array): X509Certificate {
  try {
    return new (nodeCrypto().X509Certificate)(pem);
  } catch (cause) {
    throw invalid("it cannot be parsed", "a certificate in PEM", cause);
  }
}

/** Reads what a certificate says; believes nothing. @throws {ProblemError} CERTIFICATE_INVALID */
export function readCertificate(certificate: X509Certificate): CertificateFacts {
  const names = (certificate.subjectAltName ?? "").split(", ").filter((name) =>
    name.startsWith("URI:weir://")
  );
  const match = names.length === 1 ? /^URI:weir:\/\/([^/]+)\/([^/]+)\/([^/]+)$/.exec(names[0]) : null;
  if (match === null || !PEER_ROLES.includes(match[2] as PeerRole) || match[2] === "anonymous") {
    throw invalid(
      `its names are ${certificate.subjectAltName ?? "none"}`,
      "one URI weir://CLUSTER/ROLE/NAME",
    );
  }
  try {
    return {
      peer: { role: match[2] as PeerRole, node: decodeURIComponent(match[3]) },
      cluster: decodeURIComponent(match[1]),
      issuedUnixMs: issuedAt(certificate.serialNumber),
      notBeforeUnixMs: Date.parse(certificate.validFrom),
      notAfterUnixMs: Date.parse(certificate.validTo),
    };
  } catch (cause) {
    throw invalid(`its names are ${names[0]}`, "one URI weir://CLUSTER/ROLE/NAME", cause);
  }
}

/**
 * Reads a certificate that must be of this cluster and valid now.
 * @throws {ProblemError} CERTIFICATE_INVALID, CERTIFICATE_UNKNOWN, CERTIFICATE_EXPIRED, CLOCK_SKEW; status 401
 */
export function verifyCertificate(
  certificate: X509Certificate,
  expected: { authorities: readonly X509Certificate[]; cluster: string; nowMs: number },
): CertificateFacts {
  const signed = expected.authorities.some((authority) => {
    try {
      return authority.ca && certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
    } catch {
      return false; // a key of another kind
    }
  });
  if (!signed || certificate.ca) {
    throw new ProblemError("CERTIFICATE_UNKNOWN", {
      status: 401,
      detail: "Cannot take the certificate: it was not issued by this cluster's authority",
      found: `issuer ${certificate.issuer.replaceAll("\n", ", ")}`,
      expected: `issuer ${expected.authorities.map((a) => a.subject.replaceAll("\n", ", ")).join(" or ")}`,
      action: "Join this cluster: weir join TOKEN",
    });
  }
  const facts = readCertificate(certificate);
  if (facts.cluster !== expected.cluster) {
    throw new ProblemError("CERTIFICATE_UNKNOWN", {
      status: 401,
      detail: "Cannot take the certificate: it is of another cluster",
      found: facts.cluster,
      expected: expected.cluster,
      action: "Join this cluster: weir join TOKEN",
    });
  }
  assertValidNow(facts, expected.nowMs);
  return facts;
}

/** @throws {ProblemError} CERTIFICATE_EXPIRED, CLOCK_SKEW; status 401 */
export function assertValidNow(facts: CertificateFacts, nowMs: number): void {
  const time = (ms: number) => new Date(ms).toISOString();
  // Not written as `now > end`: a date that cannot be read must not be valid for ever.
  if (!(nowMs < facts.notAfterUnixMs)) {
    throw new ProblemError("CERTIFICATE_EXPIRED", {
      status: 401,
      detail: `Cannot take the certificate of ${facts.peer.node}: it has expired`,
      found: `ends ${time(facts.notAfterUnixMs)}`,
      expected: `an end after ${time(nowMs)}`,
      action: "Is the clock right? A machine that was off for longer than its certificate lives joins again",
    });
  }
  if (!(nowMs >= facts.notBeforeUnixMs)) {
    throw new ProblemError("CLOCK_SKEW", {
      status: 401,
      detail: `Cannot take the certificate of ${facts.peer.node}: it begins in the future`,
      found: `begins ${time(facts.notBeforeUnixMs)}`,
      expected: `a begin before ${time(nowMs)}`,
      action: "Set the clocks of both machines (timedatectl set-ntp true)",
    });
  }
}

function invalid(found: string, expected: string, cause?: unknown): ProblemError {
  return new ProblemError("CERTIFICATE_INVALID", {
    status: 401,
    detail: `Cannot take the certificate: ${found}`,
    found,
    expected,
    cause,
  });
}

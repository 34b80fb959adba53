/** Who may see the flows of a machine from another one, by certificate. @module */
import type { X509Certificate } from "node:crypto";
import { type CertificateFacts, verifyCertificate } from "./certificate.ts";
import type { Clock } from "./clock.ts";
import { peerText } from "./peer.ts";
import { ProblemError } from "./problem.ts";
import type { TlsPair } from "./tls_files.ts";
import type { TrustTable } from "./trust.ts";

/** What certificates are judged by. */
export interface ObserverTrust {
  readonly cluster: string;
  readonly table: TrustTable;
  readonly clock: Clock;
}

/**
 * A machine of the control plane, whose relay asks for flows.
 * @throws {ProblemError} of another cluster, expired, removed, not such a machine, or not known yet: nobody is let in then
 */
export function assertRelay(certificate: X509Certificate, own: TlsPair, trust: ObserverTrust): void {
  const { peer } = assertMember(certificate, own, trust);
  if (peer.role === "control-plane" || (peer.role === "reader" && trust.table.isControlPlane(peer.node))) {
    return;
  }
  throw new ProblemError("FORBIDDEN", {
    status: 403,
    detail: `Cannot show flows to ${
      peerText(peer)
    }: only the control plane's relay sees those of other machines`,
  });
}

/**
 * A person with a certificate of the cluster, or a machine of the control plane: who may see the flows of all nodes.
 * @throws {ProblemError} as {@link assertRelay}
 */
export function assertViewer(certificate: X509Certificate, own: TlsPair, trust: ObserverTrust): void {
  const { peer } = assertMember(certificate, own, trust);
  const isPlane = peer.role === "reader" && trust.table.isControlPlane(peer.node);
  if (peer.role === "viewer" || peer.role === "admin" || peer.role === "control-plane" || isPlane) return;
  throw new ProblemError("FORBIDDEN", {
    status: 403,
    detail: `Cannot show the cluster's flows to ${peerText(peer)}`,
    action: "weir cluster certificate NAME on the control plane makes a certificate that may see them",
  });
}

/** The machine of this name. @throws {ProblemError} as {@link assertRelay} */
export function assertObserver(
  certificate: X509Certificate,
  own: TlsPair,
  trust: ObserverTrust,
  node: string,
): void {
  const { peer } = assertMember(certificate, own, trust);
  if (peer.node === node && (peer.role === "reader" || peer.role === "control-plane")) return;
  throw new ProblemError("FORBIDDEN", {
    status: 403,
    detail: `Cannot take flows of ${node} from ${peerText(peer)}: another machine has this address`,
  });
}

function assertMember(
  certificate: X509Certificate,
  { authorities }: TlsPair,
  { cluster, table, clock }: ObserverTrust,
): CertificateFacts {
  if (table.pending !== undefined) {
    throw new ProblemError("NOT_READY", {
      status: 503,
      detail: `Cannot judge a certificate yet: ${table.pending}`,
    });
  }
  const facts = verifyCertificate(certificate, { authorities, cluster, nowMs: clock.nowMs() });
  table.assertMember(facts);
  return facts;
}

/**
 * The first words with a control plane that is known by the hash of its authority's key alone: its certificates are looked
 * at before anything is said, so that a secret is never told to whoever answers at that address.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { connect, type PeerCertificate } from "node:tls";
import { publicKeyHash, readCertificate, verifyCertificate } from "@weir/common/certificate";
import { type Clock, systemClock } from "@weir/common/clock";
import { hostPort, type JoinToken, parseHostPort } from "@weir/common/join-token";
import { ProblemError } from "@weir/common/problem";

const CONNECT_MS_MAX = 5000;
const CHAIN_MAX = 4;

/** A control plane that is the one the token means. */
export interface CheckedAuthority {
  /** "10.0.0.1:7440". */
  readonly address: string;
  readonly authorityPem: string;
  readonly cluster: string;
}

/**
 * Finds the first of the token's addresses that answers, and checks that it is the cluster that made the token.
 * @throws {ProblemError} ADDRESS_UNREACHABLE, AUTHORITY_WRONG, CLOCK_SKEW, CERTIFICATE_EXPIRED
 */
export async function checkAuthority(
  token: JoinToken,
  clock: Clock = systemClock,
): Promise<CheckedAuthority> {
  const faults: string[] = [];
  for (const address of token.addresses) {
    const { hostname, port } = parseHostPort(address)!;
    let chain: X509Certificate[];
    try {
      chain = await certificatesOf(hostname, port);
    } catch (error) {
      faults.push(`${address}: ${(error as Error).message}`);
      continue;
    }
    return check(hostPort(hostname, port), chain, token, clock.nowMs());
  }
  throw new ProblemError("ADDRESS_UNREACHABLE", {
    status: 503,
    detail: `Cannot reach the control plane: ${faults.join("; ")}`,
    action:
      `Does "weir agent --control-plane --listen ADDRESS" run there, and do firewalls let TCP ports 7440 to 7443 pass?`,
  });
}

function check(
  address: string,
  [leaf, ...rest]: X509Certificate[],
  token: JoinToken,
  nowMs: number,
): CheckedAuthority {
  const authority = rest.find((one) => one.ca && publicKeyHash(one) === token.authorityHash);
  if (authority === undefined) {
    throw new ProblemError("AUTHORITY_WRONG", {
      status: 409,
      detail: `Cannot join: whoever answers at ${address} is not the cluster that made this token`,
      found: rest.map(publicKeyHash).join(", ") || "no authority",
      expected: `an authority whose key has the hash ${token.authorityHash}`,
      action: "Nothing was told to it. Is the token of this cluster? Is somebody in between?",
    });
  }
  // The name of the cluster is what its certificate says: the authority that signed it is the right one.
  const { cluster } = readCertificate(leaf);
  const facts = verifyCertificate(leaf, { authorities: [authority], cluster, nowMs });
  if (facts.peer.role !== "control-plane") {
    throw new ProblemError("AUTHORITY_WRONG", {
      status: 409,
      detail: `Cannot join: ${facts.peer.node} at ${address} is no machine of the control plane`,
      found: facts.peer.role,
      expected: "control-plane",
    });
  }
  return { address, authorityPem: authority.toString(), cluster };
}

/** The certificates that a server shows, its own first; believes nothing. */
function certificatesOf(hostname: string, port: number): Promise<X509Certificate[]> {
  return new Promise((resolve, reject) => {
    // Not verified here: that is what `check` is for, and nothing is sent on this connection.
    const socket = connect({ host: hostname, port, rejectUnauthorized: false }, () => {
      const chain: X509Certificate[] = [];
      let one: PeerCertificate | undefined = socket.getPeerCertificate(true);
      while (one?.raw !== undefined && chain.length < CHAIN_MAX) {
        const certificate = new X509Certificate(one.raw);
        chain.push(certificate);
        const next: PeerCertificate | undefined =
          (one as { issuerCertificate?: PeerCertificate }).issuerCertificate;
        one = next === one ? undefined : next;
      }
      finish();
      if (chain.length === 0) reject(new Error("it shows no certificate"));
      else resolve(chain);
    });
    const timer = setTimeout(() => {
      finish();
      reject(new Error(`no answer within ${CONNECT_MS_MAX / 1000} s`));
    }, CONNECT_MS_MAX);
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
    };
    socket.on("error", (error: Error) => {
      finish();
      reject(error);
    });
  });
}

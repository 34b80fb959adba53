/**
 * Whom a service believes beside the signature on a certificate: machines that were removed, and tokens of people and
 * tools. Kept from the authority's collections `members` and `tokens`; while they were never read, nobody is believed.
 * @module
 */
import type { Member, Token } from "@weir/proto/certificate";
import type { CertificateFacts } from "./certificate.ts";
import type { Peer } from "./peer.ts";
import { nodeCrypto } from "./node_crypto.ts";
import { ProblemError } from "./problem.ts";

/** Prefix of an access token's text: `weir_ID_SECRET`. */
export const ACCESS_TOKEN_PREFIX = "weir_";
/** Removed machines, and tokens that are gone, that are remembered; the oldest is forgotten first. */
const REMEMBERED_MAX = 50_000;
/** Longest token text that is looked at. */
const TOKEN_CHARS_MAX = 200;

/** What a listener asks for each request. */
export interface TrustSource {
  /** What it waits for before it can answer; undefined once it can. */
  readonly pending: string | undefined;
  /** @throws {ProblemError} CERTIFICATE_REMOVED, status 401 */
  assertMember(facts: CertificateFacts): void;
  /** Who a bearer token stands for. @throws {ProblemError} UNAUTHENTICATED, status 401 */
  peerOfToken(text: string, nowMs: number): Peer;
  /** Calls `listener` after each change that takes something away. */
  onWithdrawn(listener: () => void): void;
}

/** A {@link TrustSource} that is fed by its owner. */
export class TrustTable implements TrustSource {
  pending: string | undefined = "waiting for members and tokens of the certificate authority";
  #removed = new Map<string, number>();
  readonly #planes = new Set<string>();
  #tokens = new Map<string, Token>();
  /** Tokens that were there and are not: a database that was restored has them again. */
  #gone = new Set<string>();
  #listeners = new Set<() => void>();
  #telling = false;

  /** One member as it is now; undefined when it is gone. A removal that was seen stands: a restored database does not know it. */
  setMember(name: string, member: Member | undefined): void {
    const removedMs = (member?.removedUnixS ?? 0) * 1000;
    if (member?.role === "control-plane") this.#planes.add(name);
    else this.#planes.delete(name);
    if (removedMs <= (this.#removed.get(name) ?? 0)) return;
    this.#removed.delete(name);
    this.#removed.set(name, removedMs);
    if (this.#removed.size > REMEMBERED_MAX) this.#removed.delete(this.#removed.keys().next().value!);
    this.#tell();
  }

  /** One token as it is now; undefined when it is gone, for good. */
  setToken(id: string, token: Token | undefined): void {
    const known = this.#tokens.delete(id);
    if ((token?.kind === "access" || token?.kind === "certificate") && !this.#gone.has(id)) {
      this.#tokens.set(id, token);
    }
    if (!known) return;
    if (token === undefined) this.#gone.add(id);
    if (this.#gone.size > REMEMBERED_MAX) this.#gone.delete(this.#gone.keys().next().value!);
    this.#tell();
  }

  assertMember(facts: CertificateFacts): void {
    const { role, node } = facts.peer;
    // A person's certificate is as good as what stands for it among the tokens: who revokes that ends it.
    if (role === "viewer" || role === "admin") return this.#assertPerson(role, node);
    assertNotRemoved(facts.peer.node, facts.issuedUnixMs, this.#removed.get(facts.peer.node) ?? 0);
  }

  #assertPerson(role: string, id: string): void {
    const token = this.#tokens.get(id);
    if (token?.kind === "certificate" && token.role === role) return;
    throw new ProblemError("CERTIFICATE_REMOVED", {
      status: 401,
      detail: `Cannot take the certificate ${id}: it was revoked, or is not known here`,
      action: "Make a new one on the control plane: weir cluster certificate NAME --out DIR",
    });
  }

  /** Whether this machine runs the cluster's services: who reads flows of others must. */
  isControlPlane(node: string): boolean {
    return this.#planes.has(node);
  }

  peerOfToken(text: string, nowMs: number): Peer {
    const match = text.length > TOKEN_CHARS_MAX ? null : /^weir_([0-9a-z]+)_([\w-]+)$/.exec(text);
    const token = match === null ? undefined : this.#tokens.get(match[1]);
    // The same work whether the token exists or not, so that time tells nothing about names.
    const given = nodeCrypto().createHash("sha256").update(match?.[2] ?? "").digest();
    const kept = token?.secretHash.length === given.length ? token.secretHash : new Uint8Array(given.length);
    const same = nodeCrypto().timingSafeEqual(given, kept);
    if (!same || token?.kind !== "access") throw unauthenticated("the bearer token is missing or wrong");
    if (token.expiresUnixS > 0 && nowMs >= token.expiresUnixS * 1000) {
      throw unauthenticated(`token ${token.id} has expired`);
    }
    if (token.role !== "admin" && token.role !== "viewer") {
      throw unauthenticated(`token ${token.id} has no role that a person may have`);
    }
    return { role: token.role, node: token.name || token.id };
  }

  onWithdrawn(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Once for all changes that come at once. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

/**
 * Refuses a certificate that was issued before its machine was removed.
 * @param removedMs when it was, Unix milliseconds; 0: never
 * @throws {ProblemError} CERTIFICATE_REMOVED, status 401
 */
export function assertNotRemoved(node: string, issuedUnixMs: number, removedMs: number): void {
  // Seconds with a fraction were milliseconds once: half of one is the most that is lost.
  if (removedMs === 0 || issuedUnixMs > removedMs + 0.5) return;
  throw new ProblemError("CERTIFICATE_REMOVED", {
    status: 401,
    detail: `Cannot take the certificate of ${node}: this machine was removed from the cluster`,
    found: `removed ${new Date(removedMs).toISOString()}`,
    action: "Join again with a new token: weir cluster token (on the control plane), weir join TOKEN",
  });
}

function unauthenticated(why: string): ProblemError {
  return new ProblemError("UNAUTHENTICATED", {
    status: 401,
    detail: `Cannot answer: ${why}`,
    expected: "Authorization: Bearer TOKEN",
    action: "weir cluster token --role admin|viewer makes one",
  });
}

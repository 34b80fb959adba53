/** Tokens of people, tools and joining machines, within one transaction of the store. @module */
import { createHash, timingSafeEqual } from "node:crypto";
import { type CreateTokenRequest, Token } from "@weir/proto/certificate";
import { invalidArgument, ProblemError, unixSeconds } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AuthorityParts } from "./config.ts";

/** Name of the watched collection. */
export const TOKENS = "tokens";
export const TOKENS_MAX = 10_000;
const ROLES: Record<string, readonly string[]> = {
  join: ["node", "control-plane"],
  access: ["viewer", "admin"],
  certificate: ["viewer"],
};
const LIFETIME_S: Record<string, number> = { join: 86_400, access: 90 * 86_400, certificate: 90 * 86_400 };
const LIFETIME_S_MAX = 3650 * 86_400;
const USES_MAX = 10_000;
const NAME_CHARS_MAX = 100;
/** Names that a machine may have. */
export const NODE_NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;

/** Makes a token and its secret, which is kept as its hash only. That of a certificate has none: the certificate is what is shown. */
export function makeToken(
  request: CreateTokenRequest,
  parts: AuthorityParts,
): { token: Token; secret: string } {
  const kind = request.kind || "join";
  const roles = ROLES[kind];
  const role = request.role || roles?.[0];
  if (roles === undefined || !roles.includes(role)) {
    throw invalidArgument("Cannot make the token: there is no such kind and role", {
      found: `${kind}, ${role}`,
      expected: "join: node or control-plane; access: viewer or admin; certificate: viewer",
    });
  }
  const lifetimeS = request.lifetimeS || LIFETIME_S[kind];
  const uses = kind === "join" ? request.uses || 1 : 0;
  // Written so that NaN is refused.
  if (!(lifetimeS >= 1 && lifetimeS <= LIFETIME_S_MAX) || uses > USES_MAX) {
    throw invalidArgument("Cannot make the token: its lifetime or its number of uses is out of range", {
      found: `${lifetimeS} s, ${uses} uses`,
      expected: `1 to ${LIFETIME_S_MAX} s, up to ${USES_MAX} uses`,
    });
  }
  if (request.name.length > NAME_CHARS_MAX || !/^[\w.@ -]*$/.test(request.name)) {
    throw invalidArgument("Cannot make the token: its name is too long or has other characters", {
      found: request.name.slice(0, NAME_CHARS_MAX),
      expected: `up to ${NAME_CHARS_MAX} letters, digits and . _ @ - blank`,
    });
  }
  if (request.node !== "" && (kind !== "join" || role !== "node" || !NODE_NAME.test(request.node))) {
    throw invalidArgument("Cannot make the token: what is bound to one machine is a node's join token", {
      found: `${kind}, ${role}, ${request.node.slice(0, NAME_CHARS_MAX)}`,
      expected: "join, node and the name of a machine",
    });
  }
  const now = unixSeconds(parts.clock);
  const secret = base64url(crypto.getRandomValues(new Uint8Array(32)));
  const token = Token.create({
    id: base36(crypto.getRandomValues(new Uint8Array(6))),
    kind,
    role,
    name: request.name,
    createdUnixS: now,
    expiresUnixS: now + lifetimeS,
    usesLeft: uses,
    secretHash: kind === "certificate" ? new Uint8Array() : hashOf(secret),
    node: request.node,
  });
  return { token, secret };
}

/**
 * The join token that a secret ("ID.SECRET") belongs to, as it is stored now.
 * @throws {ProblemError} TOKEN_REFUSED: no such token, or a wrong secret; TOKEN_EXPIRED, TOKEN_USED. Status 401
 */
export async function checkJoinSecret(
  store: StoreTransaction,
  parts: AuthorityParts,
  text: string,
): Promise<Token> {
  const [id, secret] = text.split(".", 2);
  const token = text.length > 200 ? undefined : await store.get<Token>(TOKENS, id);
  // The same work whether there is such a token or not.
  const given = hashOf(secret ?? "");
  const kept = token?.secretHash.length === given.length ? token.secretHash : new Uint8Array(given.length);
  if (!timingSafeEqual(given, kept) || token === undefined || token.kind !== "join") {
    throw new ProblemError("TOKEN_REFUSED", {
      status: 401,
      detail: "Cannot join: this cluster has no such join token (any more)",
      action: "Make a new one on the control plane: weir cluster token",
    });
  }
  if (unixSeconds(parts.clock) >= token.expiresUnixS) {
    throw new ProblemError("TOKEN_EXPIRED", {
      status: 401,
      detail: "Cannot join: the join token has expired",
      found: `expired ${new Date(token.expiresUnixS * 1000).toISOString()}`,
      expected: `an end after ${new Date(parts.clock.nowMs()).toISOString()}`,
      action: "Make a new one on the control plane: weir cluster token",
    });
  }
  return token;
}

/** @throws {ProblemError} TOKEN_REFUSED, status 401: the token was made for another machine */
export function assertFor(token: Token | undefined, node: string): void {
  if (token === undefined || token.node === "" || token.node === node) return;
  throw new ProblemError("TOKEN_REFUSED", {
    status: 401,
    detail: `Cannot join as ${node}: the join token is for another machine`,
    found: node,
    expected: token.node,
  });
}

/** One use less. @throws {ProblemError} TOKEN_USED, status 401 */
export async function spend(store: StoreTransaction, token: Token): Promise<void> {
  if (token.usesLeft === 0) {
    throw new ProblemError("TOKEN_USED", {
      status: 401,
      detail: "Cannot join: the join token was used as often as it may be",
      action: "Make a new one on the control plane: weir cluster token [--uses N]",
    });
  }
  await store.put(TOKENS, token.id, { ...token, usesLeft: token.usesLeft - 1 });
}

export function hashOf(secret: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(secret).digest());
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function base36(bytes: Uint8Array): string {
  return bytes.reduce((value, byte) => value * 256n + BigInt(byte), 0n).toString(36);
}

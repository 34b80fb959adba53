/**
 * The text that makes a machine a member: where the control plane is, the hash of its authority's public key, and a secret.
 *
 *     weir-join.BASE64URL({"v":1,"r":"node","a":["10.0.0.1:7440"],"h":"<64 hex digits>","s":"ID.SECRET"})
 *
 * @module
 */
import { ProblemError } from "./problem.ts";

/** First characters of every join token. */
export const JOIN_TOKEN_PREFIX = "weir-join.";
/** Port of the certificate authority unless an address says otherwise. */
export const AUTHORITY_PORT = 7440;
const TOKEN_CHARS_MAX = 4096;
const ADDRESSES_MAX = 16;

/** What a join token says. */
export interface JoinToken {
  /** What the machine becomes; the authority has the last word. */
  readonly role: "node" | "control-plane";
  /** Of certificate authorities, "10.0.0.1:7440", at least one. */
  readonly addresses: readonly string[];
  /** SHA-256 of the authority's public key (SPKI), 64 hex digits. */
  readonly authorityHash: string;
  /** "ID.SECRET". */
  readonly secret: string;
}

export function formatJoinToken(token: JoinToken): string {
  const json = JSON.stringify({
    v: 1,
    r: token.role,
    a: token.addresses,
    h: token.authorityHash,
    s: token.secret,
  });
  return JOIN_TOKEN_PREFIX + btoa(json).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @throws {ProblemError} TOKEN_INVALID */
export function parseJoinToken(text: string): JoinToken {
  const word = text.trim();
  const invalid = (found: string) =>
    new ProblemError("TOKEN_INVALID", {
      detail: `Cannot read the join token: ${found}`,
      found,
      expected: `the whole text that "weir cluster token" printed, which begins with ${JOIN_TOKEN_PREFIX}`,
      action: "Copy it again: one line, nothing left out",
    });
  if (!word.startsWith(JOIN_TOKEN_PREFIX)) {
    throw invalid(`it begins with ${JSON.stringify(word.slice(0, 10))}`);
  }
  if (word.length > TOKEN_CHARS_MAX) throw invalid(`it has ${word.length} characters`);
  let document: { v?: unknown; r?: unknown; a?: unknown; h?: unknown; s?: unknown };
  try {
    document = JSON.parse(
      atob(word.slice(JOIN_TOKEN_PREFIX.length).replaceAll("-", "+").replaceAll("_", "/")),
    );
  } catch {
    throw invalid("it is damaged");
  }
  const { v, r, a, h, s } = document ?? {};
  if (v !== 1) throw invalid(`it is of version ${v}`);
  const good = (r === "node" || r === "control-plane") && Array.isArray(a) && a.length > 0 &&
    a.length <= ADDRESSES_MAX &&
    a.every((one) => typeof one === "string" && parseHostPort(one) !== undefined) &&
    typeof h === "string" && /^[0-9a-f]{64}$/.test(h) && typeof s === "string" &&
    /^[0-9a-z]+\.[\w-]+$/.test(s);
  if (!good) throw invalid("a part of it is missing");
  return {
    role: r as JoinToken["role"],
    addresses: a as string[],
    authorityHash: h as string,
    secret: s as string,
  };
}

/** An address with its port: "10.0.0.1:7440", "[fd00::1]:7440", "plane.example:7440"; undefined when it is none. */
export function parseHostPort(
  text: string,
  portDefault = AUTHORITY_PORT,
): { hostname: string; port: number } | undefined {
  const match =
    /^(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+)|([0-9a-fA-F:]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*))(?::(\d{1,5}))?$/.exec(
      text,
    );
  if (match === null) return undefined;
  const port = match[4] === undefined ? portDefault : Number(match[4]);
  const hostname = match[1] ?? match[2] ?? match[3];
  return port > 0 && port < 65536 && hostname !== "" ? { hostname, port } : undefined;
}

/** "10.0.0.1:7440" or "[fd00::1]:7440". */
export function hostPort(hostname: string, port: number): string {
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** Certificate and token of the page as files. @module */
import { certificatesOf, credentialPaths, ensurePair, ProblemError, readInputTextSync } from "@weir/common";
import type { WebTls } from "./web_listener.ts";

const FILE_BYTES_MAX = 1 << 20, TOKEN_LENGTH_MIN = 16;

/**
 * Reads node.crt and node.key of a directory, and ca.crt, if there is one. A listener that is given a key of another certificate says
 * nothing, and fails each client.
 * @throws {InputFileError} @throws {ProblemError} CREDENTIALS_MISMATCH, CERTIFICATE_INVALID
 */
export function readWebTls(directory: string): WebTls {
  const read = (path: string) => readInputTextSync(path, { bytesMax: FILE_BYTES_MAX });
  const paths = credentialPaths(directory), cert = read(paths.cert), key = read(paths.key);
  ensurePair(paths, { cert, key });
  const authority = isThere(paths.authority) ? read(paths.authority) : undefined;
  if (authority === undefined || certificatesOf(authority).length > 0) return { cert, key, authority };
  throw new ProblemError("CERTIFICATE_INVALID", { detail: `${paths.authority} holds no certificate` });
}

/** Reads the token that must be shown. @throws {ProblemError} TOKEN_INVALID @throws {InputFileError} */
export function readWebToken(path: string): string {
  const token = readInputTextSync(path, { bytesMax: FILE_BYTES_MAX }).trim();
  if (token.length >= TOKEN_LENGTH_MIN && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new ProblemError("TOKEN_INVALID", {
    detail: `${path} holds no token`,
    expected: `${TOKEN_LENGTH_MIN} characters or more, without spaces`,
  });
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

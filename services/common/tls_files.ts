/**
 * Certificate, key and authority as files that somebody else renews. They are read again when they change; a pair that
 * does not fit together (half written) is left alone until it does.
 * @module
 */
import type { X509Certificate } from "node:crypto";
import { type CertificateFacts, parseCertificate, readCertificate } from "./certificate.ts";
import { readInputTextSync } from "./input_file.ts";
import { nodeCrypto } from "./node_crypto.ts";
import { ProblemError } from "./problem.ts";

/** Certificates and keys are small. */
const FILE_BYTES_MAX = 1 << 20;

/** Names of the three files in a directory of credentials. */
export const CREDENTIAL_FILES = { cert: "node.crt", key: "node.key", authority: "ca.crt" } as const;

/** Paths of the three files. */
export interface TlsPaths {
  readonly cert: string;
  readonly key: string;
  readonly authority: string;
}

/** The files' content, in agreement: a certificate of anybody's. */
export interface TlsPair {
  /** PEM texts. */
  readonly cert: string;
  readonly key: string;
  readonly authority: string;
  readonly authorities: readonly X509Certificate[];
  readonly certificate: X509Certificate;
}

/** The same of a machine or person of a cluster, whose certificate says who it is. */
export interface TlsCredentials extends TlsPair {
  readonly facts: CertificateFacts;
}

/** The paths in a directory that `weir join` or the agent fills. */
export function credentialPaths(directory: string): TlsPaths {
  return {
    cert: `${directory}/${CREDENTIAL_FILES.cert}`,
    key: `${directory}/${CREDENTIAL_FILES.key}`,
    authority: `${directory}/${CREDENTIAL_FILES.authority}`,
  };
}

/**
 * Reads the three files, with a certificate of a cluster.
 * @throws {ProblemError} CREDENTIALS_MISSING, CREDENTIALS_MISMATCH, CERTIFICATE_INVALID
 */
export function readCredentials(paths: TlsPaths): TlsCredentials {
  const pair = readTlsPair(paths);
  return { ...pair, facts: readCertificate(pair.certificate) };
}

/**
 * Reads the three files, whoever made them: a certificate for Hubble's clients may have any names.
 * @throws {ProblemError} CREDENTIALS_MISSING, CREDENTIALS_MISMATCH, CERTIFICATE_INVALID
 */
export function readTlsPair(paths: TlsPaths): TlsPair {
  const read = (path: string) => {
    try {
      return readInputTextSync(path, { bytesMax: FILE_BYTES_MAX });
    } catch (cause) {
      throw new ProblemError("CREDENTIALS_MISSING", {
        status: 503,
        detail: `Cannot read ${path}: ${(cause as Error).message}`,
        action: "The agent writes it: see its log",
        cause,
      });
    }
  };
  const [cert, key, authority] = [paths.cert, paths.key, paths.authority].map(read);
  const certificate = ensurePair(paths, { cert, key });
  return { cert, key, authority, authorities: certificatesOf(authority), certificate };
}

/**
 * The certificate, if the key is its own: a pair that is half written is none. PEM texts.
 * @throws {ProblemError} CREDENTIALS_MISMATCH, CERTIFICATE_INVALID
 */
export function ensurePair(
  paths: Pick<TlsPaths, "cert" | "key">,
  { cert, key }: { readonly cert: string; readonly key: string },
): X509Certificate {
  const certificate = parseCertificate(cert);
  let fits = false;
  try {
    fits = certificate.checkPrivateKey(nodeCrypto().createPrivateKey(key));
  } catch {
    // Not a key, or half of one.
  }
  if (!fits) {
    throw new ProblemError("CREDENTIALS_MISMATCH", {
      status: 503,
      detail: `Cannot use ${paths.key}: it is not the key of ${paths.cert}`,
      action: "They are being renewed, or one of them was put back from a backup",
    });
  }
  return certificate;
}

/** All certificates of a PEM text, in order; none where it holds none. @throws {ProblemError} CERTIFICATE_INVALID */
export function certificatesOf(pem: string): X509Certificate[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    parseCertificate,
  );
}

/** Keeps credentials as fresh as their files; asks the disk at most once per `everyMs`. */
export class TlsFiles<T extends TlsPair = TlsCredentials> {
  readonly #paths: TlsPaths;
  readonly #everyMs: number;
  #askedMs = -Infinity;
  #stamp = "";
  #credentials: T | undefined;
  #error: ProblemError | undefined;

  readonly #readFiles: (paths: TlsPaths) => T;

  /** @param options.read default {@link readCredentials} */
  constructor(paths: TlsPaths, options: { everyMs?: number; read?: (paths: TlsPaths) => T } = {}) {
    this.#readFiles = options.read ?? (readCredentials as unknown as (paths: TlsPaths) => T);
    this.#paths = paths;
    this.#everyMs = options.everyMs ?? 1000;
  }

  /** Why the newest files are not in use; undefined while they are. */
  get error(): ProblemError | undefined {
    return this.#error;
  }

  /**
   * The newest credentials that fit together; the same object until they change.
   * @param monotonicMs the time now, of a clock that only goes forward
   * @throws {ProblemError} as {@link readCredentials}, while there never were any
   */
  get(monotonicMs: number): T {
    if (monotonicMs - this.#askedMs >= this.#everyMs) {
      this.#askedMs = monotonicMs;
      const stamp = Object.values(this.#paths).map(stampOf).join();
      if (stamp !== this.#stamp || this.#error !== undefined) this.#read(stamp);
    }
    if (this.#credentials === undefined) throw this.#error!;
    return this.#credentials;
  }

  #read(stamp: string): void {
    try {
      this.#credentials = this.#readFiles(this.#paths);
      this.#stamp = stamp;
      this.#error = undefined;
    } catch (error) {
      this.#error = error as ProblemError;
    }
  }
}

/** What changes when a file is written or replaced. */
function stampOf(path: string): string {
  try {
    const { mtime, ino, size } = Deno.statSync(path);
    return `${mtime?.getTime()}/${ino}/${size}`;
  } catch {
    return "none";
  }
}

/**
 * The key that signs a cluster's certificates, and the signing. A function of its arguments: the caller keeps the key and
 * tells the time.
 * @module
 */
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import {
  CLOCK_SKEW_MS_MAX,
  IpAddress,
  type Peer,
  peerUri,
  ProblemError,
  serialNumberAt,
  withdrawalBytes,
} from "@weir/common";
import { Withdrawal } from "@weir/proto/certificate";
import { KEY_ALGORITHM, privateKeyPem } from "@weir/common/certificate-request";

/** Longest request in characters: one with a key of 4,096 bits has 1,700. */
export const REQUEST_CHARS_MAX = 16_384;
/** How long an authority lives. */
export const AUTHORITY_LIFETIME_MS = 10 * 365 * 86_400_000;

/** An authority as it is stored: PEM texts. */
export interface StoredAuthority {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** What one certificate is to say. */
export interface IssueOptions {
  readonly peer: Peer;
  /** Addresses or names under which the holder may serve; empty: it is a client only. */
  readonly hosts: readonly string[];
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

/** A certificate that was just issued. */
export interface Issued {
  readonly certificatePem: string;
  readonly notAfterUnixMs: number;
  /** SHA-256 of its public key (SPKI). */
  readonly keyHash: Uint8Array;
}

/** Makes the key and the certificate of a new authority. */
export async function createAuthority(cluster: string, nowMs: number): Promise<StoredAuthority> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ O: ["Weir"] }, { CN: [`${cluster} certificate authority`] }],
    serialNumber: serialNumberAt(nowMs, crypto.getRandomValues(new Uint8Array(9))),
    notBefore: new Date(nowMs - CLOCK_SKEW_MS_MAX),
    notAfter: new Date(nowMs + AUTHORITY_LIFETIME_MS),
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: certificate.toString("pem") + "\n", keyPem: await privateKeyPem(keys.privateKey) };
}

/** An authority that can sign. Made by {@link Authority.load}. */
export class Authority {
  readonly #certificate: X509Certificate;
  readonly #key: CryptoKey;

  private constructor(readonly cluster: string, readonly certificatePem: string, key: CryptoKey) {
    this.#certificate = new X509Certificate(certificatePem);
    this.#key = key;
  }

  static async load(cluster: string, stored: StoredAuthority): Promise<Authority> {
    const bytes = Uint8Array.from(
      atob(stored.keyPem.replace(/-----[^-]+-----|\s/g, "")),
      (char) => char.charCodeAt(0),
    );
    const key = await crypto.subtle.importKey("pkcs8", bytes, KEY_ALGORITHM, false, ["sign"]);
    return new Authority(cluster, stored.certificatePem, key);
  }

  /** A signed withdrawal. */
  async withdraw(what: Omit<Withdrawal, "signature">): Promise<Withdrawal> {
    const withdrawal = Withdrawal.create(what);
    const bytes = withdrawalBytes(this.cluster, withdrawal);
    const signature = new Uint8Array(await crypto.subtle.sign(KEY_ALGORITHM, this.#key, bytes));
    return { ...withdrawal, signature };
  }

  /** When the authority itself ends, Unix milliseconds. */
  get notAfterUnixMs(): number {
    return this.#certificate.notAfter.getTime();
  }

  /**
   * Signs a certificate for the key of a request. Nothing else of the request is believed.
   * @throws {ProblemError} REQUEST_INVALID
   */
  async issue(requestPem: string, options: IssueOptions): Promise<Issued> {
    const publicKey = await checkRequest(requestPem);
    const { peer, hosts, nowMs } = options;
    const notAfterUnixMs = Math.min(nowMs + options.lifetimeMs, this.notAfterUnixMs);
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumberAt(nowMs, crypto.getRandomValues(new Uint8Array(9))),
      subject: [{ O: ["Weir"] }, { OU: [peer.role] }, { CN: [peer.node.slice(0, 64)] }],
      issuer: this.#certificate.subjectName,
      notBefore: new Date(nowMs - CLOCK_SKEW_MS_MAX),
      notAfter: new Date(notAfterUnixMs),
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: KEY_ALGORITHM,
      extensions: [
        new SubjectAlternativeNameExtension([
          { type: "url", value: peerUri(this.cluster, peer) },
          ...hosts.map((host) => ({ type: IpAddress.tryParse(host) ? "ip" : "dns", value: host } as const)),
        ]),
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        // Who may not serve cannot pose as the control plane either.
        new ExtendedKeyUsageExtension([
          ExtendedKeyUsage.clientAuth,
          ...(hosts.length > 0 ? [ExtendedKeyUsage.serverAuth] : []),
        ]),
        await AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
        await SubjectKeyIdentifierExtension.create(publicKey),
      ],
    });
    return {
      certificatePem: certificate.toString("pem") + "\n",
      notAfterUnixMs,
      keyHash: new Uint8Array(await crypto.subtle.digest("SHA-256", publicKey.rawData)),
    };
  }
}

/** The public key of a request whose sender has the private one. @throws {ProblemError} REQUEST_INVALID */
async function checkRequest(requestPem: string): Promise<PublicKey> {
  const invalid = (found: string, cause?: unknown) =>
    new ProblemError("REQUEST_INVALID", {
      detail: `Cannot issue a certificate: ${found}`,
      found,
      expected: "a PKCS #10 request in PEM, signed with its own ECDSA key on P-256",
      cause,
    });
  if (requestPem.length > REQUEST_CHARS_MAX) {
    throw invalid(`the request has ${requestPem.length} of at most ${REQUEST_CHARS_MAX} characters`);
  }
  let request: Pkcs10CertificateRequest;
  try {
    request = new Pkcs10CertificateRequest(requestPem);
  } catch (cause) {
    throw invalid("the request cannot be parsed", cause);
  }
  const { name, namedCurve } = request.publicKey.algorithm as { name?: string; namedCurve?: string };
  if (name !== KEY_ALGORITHM.name || namedCurve !== KEY_ALGORITHM.namedCurve) {
    throw invalid(`the request's key is ${name} ${namedCurve ?? ""}`.trim());
  }
  let signed = false;
  try {
    signed = await request.verify();
  } catch (cause) {
    throw invalid("the request's signature cannot be read", cause);
  }
  if (!signed) throw invalid("the request is not signed with its own key");
  return request.publicKey;
}

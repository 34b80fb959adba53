/**
 * New keys and the requests for their certificates. A key never leaves the machine that made it: the request carries the
 * public half and is signed with the private one.
 * @module
 */
import { Pkcs10CertificateRequestGenerator } from "@peculiar/x509";

/** Kind of every key of a cluster: ECDSA on P-256. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** A key and what to send to the authority. */
export interface CertificateRequest {
  /** PKCS #8 in PEM: for the disk of this machine alone, mode 0600. */
  readonly keyPem: string;
  /** PKCS #10 in PEM. */
  readonly requestPem: string;
}

/** Makes a key and a request for it. `name` is for people: the authority says whom the certificate names. */
export async function createCertificateRequest(name: string): Promise<CertificateRequest> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys,
    signingAlgorithm: KEY_ALGORITHM,
  });
  return { keyPem: await privateKeyPem(keys.privateKey), requestPem: request.toString("pem") + "\n" };
}

/** A private key as PKCS #8 in PEM. */
export async function privateKeyPem(key: CryptoKey): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.exportKey("pkcs8", key));
  const base64 = btoa(String.fromCharCode(...bytes)).replace(/.{64}/g, "$&\n");
  return `-----BEGIN PRIVATE KEY-----\n${base64}\n-----END PRIVATE KEY-----\n`;
}

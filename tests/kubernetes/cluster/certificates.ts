/** Keys, certificates and tokens of a cluster. They are as old as the cluster and end with it. @module */
import * as x509 from "@peculiar/x509";
import { API_ADDRESS, API_PORT, type ClusterOptions, NETWORK, nodeName } from "./options.ts";

const EC: EcKeyGenParams & EcdsaParams = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000, VALID_DAYS = 365, IMAGE_VALID_DAYS = 10 * VALID_DAYS;

/** Who has a token beside the nodes: file of its kubeconfig, user, groups. */
const USERS = {
  admin: { user: "admin", groups: ["system:masters"] },
  "kube-controller-manager": { user: "system:kube-controller-manager", groups: [] },
  "kube-scheduler": { user: "system:kube-scheduler", groups: [] },
  "kube-proxy": { user: "system:kube-proxy", groups: [] },
} as const;

/** Folder of the keys and certificates. */
export const pki = (directory: string): string => `${directory}/pki`;

/** File of somebody's kubeconfig: `admin`, `kube-scheduler`, ..., `node-1`. */
export function kubeconfig(directory: string, name: string): string {
  return `${directory}/kubeconfigs/${name}`;
}

/** A server's certificate that only itself vouches for, as `FOLDER/localhost.crt` and `.key`: it is for who does not look at it. */
export async function writeSelfSigned(folder: string): Promise<void> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...life(IMAGE_VALID_DAYS),
    name: "CN=localhost",
    keys,
    signingAlgorithm: EC,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: "dns", value: "localhost" }])],
  });
  await Deno.writeTextFile(`${folder}/localhost.crt`, certificate.toString("pem"));
  await writeKey(`${folder}/localhost.key`, keys);
  // Not a secret, and containers need not be root.
  await Deno.chmod(`${folder}/localhost.key`, 0o644);
}

/** Makes the authority, the certificates, the key of service accounts, and a token with a kubeconfig for everybody. */
export async function makeCredentials(directory: string, options: ClusterOptions): Promise<void> {
  const folder = pki(directory);
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  await Deno.mkdir(`${directory}/kubeconfigs`, { recursive: true, mode: 0o700 });

  const authorityKeys = await newKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...life(),
    name: "CN=weir-test-cluster",
    keys: authorityKeys,
    signingAlgorithm: EC,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authorityKeys.publicKey),
    ],
  });
  await Deno.writeTextFile(`${folder}/ca.crt`, authority.toString("pem"));
  await writeKey(`${folder}/ca.key`, authorityKeys);

  const issue = async (name: string, subject: string, names: x509.JsonGeneralNames = []) => {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      ...life(),
      subject,
      issuer: authority.subject,
      publicKey: keys.publicKey,
      signingKey: authorityKeys.privateKey,
      signingAlgorithm: EC,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
        ...names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [],
      ],
    });
    await Deno.writeTextFile(`${folder}/${name}.crt`, certificate.toString("pem"));
    await writeKey(`${folder}/${name}.key`, keys);
  };
  const service = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
  ];
  await issue("apiserver", "CN=kube-apiserver", [
    ...[...service, "localhost"].map((value) => ({ type: "dns" as const, value })),
    ...[NETWORK.apiService, "127.0.0.1", API_ADDRESS].map((value) => ({ type: "ip" as const, value })),
  ]);
  await issue("kubelet-client", "O=system:masters, CN=kube-apiserver-kubelet-client");
  await issue("front-proxy", "CN=front-proxy-client");

  const accounts = await newKeys();
  await writeKey(`${folder}/service-accounts.key`, accounts);
  const publicKey = await crypto.subtle.exportKey("spki", accounts.publicKey);
  await Deno.writeTextFile(
    `${folder}/service-accounts.pub`,
    x509.PemConverter.encode(publicKey, "PUBLIC KEY"),
  );

  await writeTokens(directory, authority.toString("pem"), options.nodes);
}

/** The file that the API server reads tokens from, and a kubeconfig for each. */
async function writeTokens(directory: string, authority: string, nodes: number): Promise<void> {
  const everybody: [string, { user: string; groups: readonly string[] }][] = Object.entries(USERS);
  for (let index = 1; index <= nodes; index++) {
    everybody.push([nodeName(index), { user: `system:node:${nodeName(index)}`, groups: ["system:nodes"] }]);
  }
  const lines: string[] = [];
  for (const [number, [name, { user, groups }]] of everybody.entries()) {
    const token = crypto.randomUUID();
    lines.push([token, user, number, ...groups.map((group) => `"${group}"`)].join(","));
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{
        name: "weir-test",
        cluster: {
          server: `https://${API_ADDRESS}:${API_PORT}`,
          "certificate-authority-data": btoa(authority),
        },
      }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: "weir-test", user: name } }],
      "current-context": name,
    };
    await Deno.writeTextFile(kubeconfig(directory, name), JSON.stringify(config, undefined, 2), {
      mode: 0o600,
    });
  }
  await Deno.writeTextFile(`${pki(directory)}/tokens.csv`, `${lines.join("\n")}\n`, { mode: 0o600 });
}

function newKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(EC, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

async function writeKey(path: string, { privateKey }: CryptoKeyPair): Promise<void> {
  const bytes = await crypto.subtle.exportKey("pkcs8", privateKey);
  await Deno.writeTextFile(path, x509.PemConverter.encode(bytes, "PRIVATE KEY"), { mode: 0o600 });
}

/** An hour ago is for clocks that were set meanwhile. */
function life(days = VALID_DAYS): { notBefore: Date; notAfter: Date; serialNumber: string } {
  const nowMs = Date.now();
  const serial = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0"))
    .join("");
  return {
    notBefore: new Date(nowMs - DAY_MS / 24),
    notAfter: new Date(nowMs + days * DAY_MS),
    serialNumber: `00${serial}`,
  };
}

import { deepEqual, equal, throws } from "node:assert/strict";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { createCertificateRequest } from "./certificate_request.ts";
import {
  planeTarget,
  readMembership,
  recoverCredentials,
  removeMembership,
  writeCredentials,
  writeMembership,
} from "./membership.ts";
import { credentialPaths } from "./tls_files.ts";

const OWNER = { uid: Deno.uid()!, gid: Deno.gid()! };
const NODE = {
  version: 1,
  cluster: "default",
  node: "n",
  role: "node",
  addresses: ["10.0.0.1:7440", "[fd00::1]:7440"],
} as const;

async function issue(): Promise<{ cert: string; key: string; authority: string }> {
  const authority = await Authority.load("default", await createAuthority("default", Date.now()));
  const { keyPem, requestPem } = await createCertificateRequest("n");
  const { certificatePem } = await authority.issue(requestPem, {
    peer: { role: "node", node: "n" },
    hosts: [],
    nowMs: Date.now(),
    lifetimeMs: 3_600_000,
  });
  return { cert: certificatePem, key: keyPem, authority: authority.certificatePem };
}

Deno.test("a membership is kept, read and forgotten; a damaged one is said to be", async () => {
  const directory = await Deno.makeTempDir();
  try {
    equal(readMembership(directory), undefined);
    writeMembership(directory, NODE);
    deepEqual(readMembership(directory), NODE);
    equal(Deno.statSync(`${directory}/join.json`).mode! & 0o777, 0o600);
    for (const text of ["", "null", "{}", '{"version":1}', JSON.stringify({ ...NODE, addresses: ["/"] })]) {
      Deno.writeTextFileSync(`${directory}/join.json`, text);
      throws(() => readMembership(directory), { code: "MEMBERSHIP_INVALID" }, text);
    }
    removeMembership(directory);
    removeMembership(directory);
    deepEqual([...Deno.readDirSync(directory)], []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("credentials survive a crash at every step of their renewal", async () => {
  const directory = await Deno.makeTempDir(), paths = credentialPaths(directory);
  try {
    equal(recoverCredentials(directory), undefined);
    const [old, next] = [await issue(), await issue()];
    writeCredentials(directory, old, OWNER);
    equal(Deno.statSync(paths.key).mode! & 0o777, 0o600);
    // Before the first rename: the old pair is in place.
    Deno.writeTextFileSync(`${paths.key}.new`, next.key);
    Deno.writeTextFileSync(`${paths.cert}.new`, next.cert.slice(0, 100));
    equal(recoverCredentials(directory)!.key, old.key);
    // Between the renames: the new pair is completed.
    Deno.writeTextFileSync(`${paths.cert}.new`, next.cert);
    Deno.renameSync(`${paths.key}.new`, paths.key);
    equal(recoverCredentials(directory)!.cert, next.cert);
    equal(Deno.readTextFileSync(paths.cert), next.cert);
    // A pair that nothing can complete is not taken for none.
    Deno.writeTextFileSync(paths.key, old.key);
    throws(() => recoverCredentials(directory), { code: "CREDENTIALS_MISMATCH" });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("planeTarget() names every place of a service, and the certificates", () => {
  equal(
    planeTarget(NODE.addresses, "policy-engine", "/var/lib/weir/host"),
    "https://10.0.0.1:7442,https://[fd00::1]:7442#/var/lib/weir/host",
  );
});

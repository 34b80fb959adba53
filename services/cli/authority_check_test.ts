import { equal, rejects } from "node:assert/strict";
import { createServer } from "node:https";
import { type JoinToken, parseCertificate, type Peer, publicKeyHash, systemClock } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { checkAuthority } from "./authority_check.ts";

const PLANE: Peer = { role: "control-plane", node: "a" };
const HOUR_MS = 3_600_000;

async function authorityOf(cluster = "prod"): Promise<Authority> {
  return await Authority.load(cluster, await createAuthority(cluster, Date.now()));
}

/** Somebody who answers with a certificate; `shows` is the authority that comes along with it. */
async function somebody(
  signer: Authority,
  options: { peer?: Peer; nowMs?: number; shows?: Authority } = {},
) {
  const { keyPem, requestPem } = await createCertificateRequest("a");
  const { certificatePem } = await signer.issue(requestPem, {
    peer: options.peer ?? PLANE,
    hosts: ["127.0.0.1"],
    nowMs: options.nowMs ?? Date.now(),
    lifetimeMs: HOUR_MS,
  });
  let requests = 0;
  const server = createServer({
    cert: certificatePem + (options.shows ?? signer).certificatePem,
    key: keyPem,
  }, (_, answer) => {
    requests++;
    answer.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { port: number };
  return {
    address: `127.0.0.1:${port}`,
    requests: () => requests,
    close: () =>
      new Promise<void>((resolve) => (server.closeAllConnections(), server.close(() => resolve()))),
  };
}

const tokenOf = (authority: Authority, ...addresses: string[]): JoinToken => ({
  role: "node",
  addresses,
  authorityHash: publicKeyHash(parseCertificate(authority.certificatePem)),
  secret: "id.secret",
});

Deno.test("checkAuthority() takes the cluster that the token means, at the first address that answers", async () => {
  const authority = await authorityOf(), good = await somebody(authority);
  try {
    const found = await checkAuthority(tokenOf(authority, "127.0.0.1:1", good.address));
    equal(found.address, good.address);
    equal(found.cluster, "prod");
    equal(publicKeyHash(parseCertificate(found.authorityPem)), tokenOf(authority).authorityHash);
  } finally {
    await good.close();
  }
});

Deno.test("checkAuthority() says nothing to anybody else", async () => {
  const authority = await authorityOf(), other = await authorityOf();
  const cases: [string, Awaited<ReturnType<typeof somebody>>, string][] = [
    ["another cluster", await somebody(other), "AUTHORITY_WRONG"],
    [
      "one in between who shows the right authority",
      await somebody(other, { shows: authority }),
      "CERTIFICATE_UNKNOWN",
    ],
    [
      "a node of the cluster",
      await somebody(authority, { peer: { role: "node", node: "n" } }),
      "AUTHORITY_WRONG",
    ],
    [
      "a clock that is ahead of ours",
      await somebody(authority, { nowMs: Date.now() + HOUR_MS }),
      "CLOCK_SKEW",
    ],
    [
      "a clock that is far behind",
      await somebody(authority, { nowMs: Date.now() - 2 * HOUR_MS }),
      "CERTIFICATE_EXPIRED",
    ],
  ];
  for (const [what, server, code] of cases) {
    await rejects(checkAuthority(tokenOf(authority, server.address), systemClock), { code }, what);
    equal(server.requests(), 0, what);
    await server.close();
  }
  await rejects(checkAuthority(tokenOf(authority, "127.0.0.1:1", "[::1]:1")), {
    code: "ADDRESS_UNREACHABLE",
  });
});

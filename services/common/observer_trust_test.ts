import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createCertificateRequest } from "./certificate_request.ts";
import { systemClock } from "./clock.ts";
import type { Peer } from "./peer.ts";
import type { TlsCredentials } from "./tls_files.ts";
import { TrustTable } from "./trust.ts";
import { Member, Token } from "@weir/proto/certificate";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { assertObserver, assertRelay, assertViewer } from "./observer_trust.ts";

Deno.test("flows are shown to the control plane's machines and taken from the machine that is meant, and from nobody else", async () => {
  const make = async (cluster: string) => {
    const stored = await createAuthority(cluster, Date.now());
    return { stored, authority: await Authority.load(cluster, stored) };
  };
  const { stored, authority } = await make("c"), other = await make("c");
  const issue = async (by: Authority, role: Peer["role"], node: string, nowMs = Date.now()) => {
    const { requestPem } = await createCertificateRequest(node);
    const options = { peer: { role, node }, hosts: [], nowMs, lifetimeMs: 3_600_000 };
    return new X509Certificate((await by.issue(requestPem, options)).certificatePem);
  };
  const own = { authorities: [new X509Certificate(stored.certificatePem)] } as unknown as TlsCredentials;
  const table = new TrustTable(), trust = { cluster: "c", table, clock: systemClock };
  const relay = await issue(authority, "reader", "plane");
  assert.throws(() => assertRelay(relay, own, trust), { code: "NOT_READY" });
  table.pending = undefined;
  assert.throws(() => assertRelay(relay, own, trust), { code: "FORBIDDEN" }, "nobody knows that it is one");
  table.setMember("plane", Member.create({ name: "plane", role: "control-plane" }));
  table.setMember("n", Member.create({ name: "n", role: "node" }));
  assertRelay(relay, own, trust);
  assertRelay(await issue(authority, "control-plane", "plane"), own, trust);
  for (const role of ["node", "reader"] as const) {
    const node = await issue(authority, role, "n");
    assert.throws(() => assertRelay(node, own, trust), { code: "FORBIDDEN" });
  }
  const foreign = await issue(other.authority, "reader", "plane");
  assert.throws(() => assertRelay(foreign, own, trust), { code: "CERTIFICATE_UNKNOWN" });
  assert.throws(() => assertRelay(relay, own, { ...trust, cluster: "d" }), { code: "CERTIFICATE_UNKNOWN" });
  const old = await issue(authority, "reader", "plane", Date.now() - 7_200_000);
  assert.throws(() => assertRelay(old, own, trust), { code: "CERTIFICATE_EXPIRED" });

  const node = await issue(authority, "reader", "n");
  assertObserver(node, own, trust, "n");
  assert.throws(() => assertObserver(node, own, trust, "m"), { code: "FORBIDDEN" });
  const key = await issue(authority, "node", "n");
  assert.throws(() => assertObserver(key, own, trust, "n"), { code: "FORBIDDEN" });
  // People: while their certificate stands among the tokens, and nobody's machine.
  const eva = await issue(authority, "viewer", "t1");
  assert.throws(() => assertViewer(eva, own, trust), { code: "CERTIFICATE_REMOVED" }, "not known");
  table.setToken("t1", Token.create({ id: "t1", kind: "access", role: "viewer" }));
  assert.throws(
    () => assertViewer(eva, own, trust),
    { code: "CERTIFICATE_REMOVED" },
    "a token of another kind",
  );
  const token = Token.create({ id: "t1", kind: "certificate", role: "viewer" });
  table.setToken("t1", token);
  assertViewer(eva, own, trust);
  assert.throws(
    () => assertRelay(eva, own, trust),
    { code: "FORBIDDEN" },
    "a node shows its flows to the relay",
  );
  assert.throws(
    () => table.peerOfToken("weir_t1_", Date.now()),
    { code: "UNAUTHENTICATED" },
    "it is no bearer token",
  );
  const boss = await issue(authority, "admin", "t1");
  assert.throws(() => assertViewer(boss, own, trust), { code: "CERTIFICATE_REMOVED" }, "another role");
  assertViewer(relay, own, trust);
  for (const role of ["node", "reader"] as const) {
    const machine = await issue(authority, role, "n");
    assert.throws(() => assertViewer(machine, own, trust), { code: "FORBIDDEN" }, role);
  }
  table.setToken("t1", undefined);
  assert.throws(() => assertViewer(eva, own, trust), { code: "CERTIFICATE_REMOVED" }, "revoked");
  table.setToken("t1", token);
  assert.throws(
    () => assertViewer(eva, own, trust),
    { code: "CERTIFICATE_REMOVED" },
    "a database that was restored",
  );
  table.setMember("n", Member.create({ name: "n", role: "node", removedUnixS: Date.now() / 1000 + 1 }));
  assert.throws(() => assertObserver(node, own, trust, "n"), { code: "CERTIFICATE_REMOVED" });
  table.setMember("plane", undefined);
  assert.throws(() => assertRelay(relay, own, trust), { code: "FORBIDDEN" });
});

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { Database } from "@weir/common/state";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { parseJoinToken, type Peer, readCertificate, verifyCertificate } from "@weir/common";
import { CreateTokenRequest, IssueRequest, RenewRequest } from "@weir/proto/certificate";
import type { CertificateAuthority } from "./certificate_authority.ts";
import { createCertificateAuthority } from "./routes.ts";
import { isMember } from "./member.ts";
import { RateLimit } from "@weir/common";

const STRANGER: { peer: Peer; address: string } = {
  peer: { role: "anonymous", node: "" },
  address: "192.0.2.7",
};
const DAY_MS = 86_400_000;

class Fixture {
  readonly clock: FakeClock;
  readonly database: Database;
  ca!: CertificateAuthority;

  constructor(url = "sqlite::memory:", clock = new FakeClock(Date.now())) {
    this.clock = clock;
    this.database = new Database(url);
  }

  /** An authority whose control plane is one machine, node-1. */
  static async make(url?: string): Promise<Fixture> {
    const f = new Fixture(url);
    await f.open();
    await f.local("node-1");
    return f;
  }

  async open(): Promise<void> {
    this.ca = createCertificateAuthority({ database: this.database, clock: this.clock });
    await this.ca.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ca.stop();
    await this.database.close();
  }

  async local(node: string) {
    return await this.ca.issue(
      await requestOf(node, { role: "control-plane", addresses: [`192.0.2.1:7440`] }),
      {},
    );
  }

  async token(more: Partial<CreateTokenRequest> = {}) {
    const { text } = await this.ca.createToken(CreateTokenRequest.create(more));
    return parseJoinToken(text);
  }

  async join(node: string, secret: string, more: Partial<IssueRequest> = {}) {
    return await this.ca.issue(await requestOf(node, { secret, ...more }), STRANGER);
  }
}

async function requestOf(node: string, more: Partial<IssueRequest>): Promise<IssueRequest> {
  const { requestPem } = await createCertificateRequest(node);
  return IssueRequest.create({ requestPem, node, ...more });
}

const code = (expected: string) => (error: unknown) => (error as { code: string }).code === expected;

Deno.test("issue() gives a machine with a join token a certificate of its name, for its own key, that cannot serve", async () => {
  await using f = await Fixture.make();
  const { secret, addresses } = await f.token();
  deepEqual(addresses, ["192.0.2.1:7440"]);
  const { keyPem, requestPem } = await createCertificateRequest("whatever");
  const answer = await f.ca.issue(IssueRequest.create({ requestPem, secret, node: "node-2" }), STRANGER);
  const certificate = new X509Certificate(answer.certificatePem);
  const facts = verifyCertificate(certificate, {
    authorities: [new X509Certificate(answer.authorityPem)],
    cluster: "default",
    nowMs: f.clock.nowMs(),
  });
  deepEqual(facts.peer, { role: "node", node: "node-2" });
  const { createPrivateKey } = await import("node:crypto");
  equal(certificate.checkPrivateKey(createPrivateKey(keyPem)), true);
  equal(certificate.ca, false);
  ok(!certificate.subjectAltName!.includes("IP"), `${certificate.subjectAltName}`);
  equal(f.ca.members.get("node-2")!.role, "node");
});

Deno.test("issue() gives a person a certificate for reading, to a local caller alone, that is listed and ends with its token", async () => {
  await using f = await Fixture.make();
  const asks = await requestOf("eva", { role: "viewer", lifetimeS: 3600 });
  await rejects(f.ca.issue(asks, STRANGER), code("TOKEN_REFUSED"));
  const answer = await f.ca.issue(asks, {});
  const facts = readCertificate(new X509Certificate(answer.certificatePem));
  const [token] = f.ca.tokens.list();
  deepEqual([token.kind, token.role, token.name], ["certificate", "viewer", "eva"]);
  deepEqual(facts.peer, { role: "viewer", node: token.id });
  ok(Math.abs(facts.notAfterUnixMs - f.clock.nowMs() - 3_600_000) < 2000);
  equal(f.ca.members.get("eva"), undefined, "she is no machine");
  const renew = RenewRequest.create({ requestPem: asks.requestPem });
  await rejects(f.ca.renew(renew, facts.peer, facts.issuedUnixMs), code("INVALID_ARGUMENT"));
  await rejects(
    f.ca.createToken(CreateTokenRequest.create({ kind: "certificate", role: "viewer" })),
    code("INVALID_ARGUMENT"),
  );
  await rejects(
    f.ca.issue(await requestOf("eva", { role: "viewer", lifetimeS: 1e12 }), {}),
    code("INVALID_ARGUMENT"),
  );
  equal(await f.ca.revoke(token.id), true);
  equal(f.ca.withdrawals.list().length, 1);
});

Deno.test("issue() refuses tokens that are wrong, used up, expired, removed or of another kind", async () => {
  await using f = await Fixture.make();
  const one = await f.token(), two = await f.token({ uses: 2 }), short = await f.token({ lifetimeS: 10 });
  await f.join("a", one.secret);
  await rejects(f.join("b", one.secret), code("TOKEN_USED"));
  await f.join("b", two.secret);
  await f.join("c", two.secret);
  await rejects(f.join("d", two.secret), code("TOKEN_USED"));
  await f.clock.advance(11_000);
  await rejects(f.join("d", short.secret), code("TOKEN_EXPIRED"));
  const gone = await f.token();
  await f.ca.api.fetch(new Request(`http://x/v1/tokens/${gone.secret.split(".")[0]}`, { method: "DELETE" }));
  await rejects(f.join("d", gone.secret), code("TOKEN_REFUSED"));
  const person = await f.ca.createToken(CreateTokenRequest.create({ kind: "access", role: "admin" }));
  await rejects(f.join("d", person.text.slice(5).replace("_", ".")), code("TOKEN_REFUSED"));
  for (const text of ["", ".", "x.y", one.secret + "x", "x".repeat(10_000)]) {
    await f.clock.advance(60_000);
    await rejects(f.join("d", text), code("TOKEN_REFUSED"), text.slice(0, 30));
  }
});

Deno.test("two machines at once with a token for one: one joins", async () => {
  await using f = await Fixture.make();
  const { secret } = await f.token();
  const results = await Promise.allSettled(["a", "b", "c", "d"].map((node) => f.join(node, secret)));
  equal(results.filter((result) => result.status === "fulfilled").length, 1);
});

Deno.test("a machine that did not hear the answer asks again with its key; another takes no living machine's name", async () => {
  await using f = await Fixture.make();
  const { secret } = await f.token();
  const request = await requestOf("node-2", { secret });
  await f.ca.issue(request, STRANGER);
  await f.ca.issue(request, STRANGER);
  // Not with a token of another role: a member's request that somebody has seen would change what it is.
  const plane = await f.token({ role: "control-plane" });
  const seen = { ...request, secret: plane.secret, addresses: ["192.0.2.2:7440"] };
  await rejects(f.ca.issue(seen, STRANGER), code("NAME_TAKEN"));
  equal(f.ca.members.get("node-2")?.role, "node");
  const next = await f.token();
  await rejects(f.join("node-2", next.secret), code("NAME_TAKEN"));
  await rejects(f.join("node-1", next.secret), code("NAME_TAKEN"));
  // The refusals used nothing up.
  await f.join("node-3", next.secret);
  await f.clock.advance(31 * DAY_MS);
  await f.join("node-2", (await f.token()).secret);
});

Deno.test("issue() stops listening to who fails too often, and to nobody else", async () => {
  await using f = await Fixture.make();
  for (let n = 0; n < 10; n++) await rejects(f.join("a", "x.y"), code("TOKEN_REFUSED"));
  const { secret } = await f.token();
  await rejects(f.join("a", secret), code("TOO_MANY_ATTEMPTS"));
  await f.ca.issue(await requestOf("b", { secret }), { ...STRANGER, address: "192.0.2.8" });
  await f.clock.advance(7000);
  await rejects(f.join("a", "x.y"), code("TOKEN_REFUSED"));
});

Deno.test("RateLimit holds for all keys together, and forgets keys in the order they came", () => {
  const limit = new RateLimit({ perKey: 2, inAll: 6, keysMax: 3 });
  for (const key of ["a", "b", "c"]) limit.failed(key, 0), limit.failed(key, 0);
  equal(limit.waitMs("d", 0), 10_000);
  equal(limit.waitMs("d", 10_000), 0);
  limit.failed("d", 60_000);
  equal(limit.waitMs("a", 60_000), 0);
});

Deno.test("issue() refuses names that are none and requests that are none", async () => {
  await using f = await Fixture.make();
  for (const node of ["", "a/b", "-a", "a b", "x".repeat(300), "a,URI:weir://default/admin/x", "é"]) {
    await rejects(f.join(node, "x.y"), code("INVALID_ARGUMENT"), node);
  }
  const { secret } = await f.token({ uses: 9 });
  const good = (await createCertificateRequest("x")).requestPem;
  const bytes = Uint8Array.from(atob(good.replace(/-----[^-]+-----|\s/g, "")), (char) => char.charCodeAt(0));
  bytes[bytes.length - 1] ^= 1; // of the signature
  const tampered = `-----BEGIN CERTIFICATE REQUEST-----\n${
    btoa(String.fromCharCode(...bytes)).replace(/.{64}/g, "$&\n")
  }\n-----END CERTIFICATE REQUEST-----\n`;
  const rsa = await crypto.subtle.generateKey(
    {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
      hash: "SHA-256",
    },
    true,
    ["sign", "verify"],
  );
  const { Pkcs10CertificateRequestGenerator } = await import("@peculiar/x509");
  const weak = (await Pkcs10CertificateRequestGenerator.create({
    name: "CN=x",
    keys: rsa,
    signingAlgorithm: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  })).toString("pem");
  for (const requestPem of ["", "text", good.slice(0, 200), tampered, weak, "x".repeat(20_000)]) {
    await rejects(f.join("n", secret, { requestPem }), code("REQUEST_INVALID"), requestPem.slice(0, 40));
  }
  equal(f.ca.tokens.get(secret.split(".")[0])!.usesLeft, 9, "nothing was used up");
});

Deno.test("renew() keeps who one is; a removed machine's later certificates are later than its removal", async () => {
  await using f = await Fixture.make();
  await f.join("node-2", (await f.token()).secret);
  await f.clock.advance(15 * DAY_MS);
  const { requestPem } = await createCertificateRequest("node-1");
  const renewed = await f.ca.renew(RenewRequest.create({ requestPem }), {
    role: "node",
    node: "node-2",
  }, f.clock.nowMs());
  const facts = readCertificate(new X509Certificate(renewed.certificatePem));
  deepEqual(facts.peer, { role: "node", node: "node-2" });
  equal(await f.ca.remove("node-2"), true);
  equal(await f.ca.remove("node-2"), false);
  const { removedUnixS } = f.ca.members.get("node-2")!;
  ok(facts.issuedUnixMs <= removedUnixS * 1000 + 0.5);
  const again = await f.join("node-2", (await f.token()).secret);
  ok(readCertificate(new X509Certificate(again.certificatePem)).issuedUnixMs > removedUnixS * 1000 + 0.5);
  for (const peer of [undefined, { role: "admin", node: "x" } as const, STRANGER.peer]) {
    await rejects(
      f.ca.renew(RenewRequest.create({ requestPem }), peer, f.clock.nowMs()),
      code("INVALID_ARGUMENT"),
    );
  }
});

Deno.test("renew() does not undo a removal that the listener has not heard of", async () => {
  await using f = await Fixture.make();
  const peer: Peer = { role: "node", node: "node-2" };
  const issuedUnixMs = async (from: Promise<{ certificatePem: string }>) =>
    readCertificate(new X509Certificate((await from).certificatePem)).issuedUnixMs;
  const stolen = await issuedUnixMs(f.join("node-2", (await f.token()).secret));
  await f.clock.advance(DAY_MS);
  await f.ca.remove("node-2");
  const { requestPem } = await createCertificateRequest("node-2");
  const renew = (issued: number) => f.ca.renew(RenewRequest.create({ requestPem }), peer, issued);
  await rejects(renew(stolen), code("CERTIFICATE_REMOVED"));
  equal(isMember(f.ca.members.get("node-2")!), false);
  // Nor does the old certificate take the place of the machine that has the name now.
  const fresh = await issuedUnixMs(f.join("node-2", (await f.token()).secret));
  await rejects(renew(stolen), code("CERTIFICATE_REMOVED"));
  equal((await renew(fresh)).role, "node");
});

Deno.test("sweep() forgets old tokens and removed machines once their certificates have ended, and nobody else", async () => {
  await using f = await Fixture.make();
  await f.join("node-2", (await f.token()).secret);
  await f.join("node-3", (await f.token()).secret);
  await f.ca.remove("node-2");
  await f.ca.sweep();
  deepEqual([f.ca.members.size, f.ca.tokens.size], [3, 2]);
  await f.clock.advance(31 * DAY_MS);
  await f.ca.sweep();
  deepEqual(f.ca.members.list().map(({ name }) => name), ["node-1", "node-3"]);
  equal(f.ca.tokens.size, 0);
});

Deno.test("a restart keeps the authority, and createToken() says what it needs", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const hashes: string[] = [];
    for (let n = 0; n < 2; n++) {
      const f = new Fixture(`sqlite:${directory}/ca.db`);
      await f.open();
      if (n === 0) {
        await rejects(f.token(), code("NOT_REACHABLE"));
        await f.local("node-1");
      }
      for (
        const more of [{ kind: "x" }, { role: "admin" }, { lifetimeS: -1 }, { lifetimeS: Infinity }, {
          uses: 99_999,
        }]
      ) {
        await rejects(f.token(more), code("INVALID_ARGUMENT"), JSON.stringify(more));
      }
      hashes.push((await f.token()).authorityHash);
      await f[Symbol.asyncDispose]();
    }
    equal(hashes[0], hashes[1]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "replicas on one PostgreSQL share one authority, and a token for one machine is good for one",
  ignore: postgresMissing() !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    try {
      const url = await postgres.createDatabase("authority");
      const a = new Fixture(url), b = new Fixture(url);
      await Promise.all([a.open(), b.open()]);
      await a.local("node-1");
      const { secret, authorityHash } = await a.token();
      const results = await Promise.allSettled([a.join("x", secret), b.join("y", secret)]);
      equal(results.filter((result) => result.status === "fulfilled").length, 1);
      await b.local("node-2");
      equal((await b.token()).authorityHash, authorityHash);
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
    } finally {
      await postgres.close();
    }
  },
});

Deno.test("a token for one machine lets that machine in alone, once, also in the place of what it was before", async () => {
  await using f = await Fixture.make();
  const first = await f.token({ node: "node-2" });
  await rejects(f.join("node-3", first.secret), code("TOKEN_REFUSED"));
  equal((await f.join("node-2", first.secret)).role, "node");
  await rejects(f.join("node-2", first.secret), code("TOKEN_USED"));
  await rejects(f.join("node-2", (await f.token()).secret), code("NAME_TAKEN"));
  const again = await f.join("node-2", (await f.token({ node: "node-2" })).secret);
  equal(again.role, "node");
  // A node never becomes a machine of the control plane by its name.
  await rejects(f.join("node-1", (await f.token({ node: "node-1" })).secret), code("NAME_TAKEN"));
  for (const more of [{ role: "control-plane" }, { kind: "access", role: "admin" }, { node: "a/b" }]) {
    await rejects(f.token({ node: "node-2", ...more }), code("INVALID_ARGUMENT"));
  }
});

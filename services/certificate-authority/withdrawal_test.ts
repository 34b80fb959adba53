/** The authority's database comes back older. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { Database } from "@weir/common/state";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { parseJoinToken, type Peer, readCertificate, TrustTable, writeWithdrawals } from "@weir/common";
import { CreateTokenRequest, IssueRequest, RenewRequest, type Withdrawal } from "@weir/proto/certificate";
import type { CertificateAuthority } from "./certificate_authority.ts";
import { createCertificateAuthority } from "./routes.ts";
import { isMember } from "./member.ts";

const STRANGER: Peer = { role: "anonymous", node: "" }, NODE: Peer = { role: "node", node: "node-2" };
const DAY_MS = 86_400_000;
const code = (expected: string) => (error: unknown) => (error as { code: string }).code === expected;
const issuedAt = (pem: string) => readCertificate(new X509Certificate(pem)).issuedUnixMs;

/** An authority whose database can be put back to what it was. */
class Restorable implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly clock = new FakeClock(Date.now());
  readonly kept = `${this.directory}/kept`;
  #database!: Database;
  ca!: CertificateAuthority;

  static async make(): Promise<Restorable> {
    const made = new Restorable();
    await made.#open();
    const { requestPem } = await createCertificateRequest("node-1");
    await made.ca.issue(
      IssueRequest.create({
        requestPem,
        node: "node-1",
        role: "control-plane",
        addresses: ["192.0.2.1:7440"],
      }),
      {},
    );
    return made;
  }

  async #open(): Promise<void> {
    this.#database = new Database(`sqlite:${this.directory}/ca.db`);
    this.ca = createCertificateAuthority({
      database: this.#database,
      clock: this.clock,
      config: { withdrawalsFile: this.kept },
    });
    await this.ca.start();
  }

  async #close(): Promise<void> {
    await this.ca.stop();
    await this.#database.close();
  }

  async backUp(): Promise<void> {
    await this.#close();
    Deno.copyFileSync(`${this.directory}/ca.db`, `${this.directory}/backup.db`);
    await this.#open();
    await this.clock.advance(DAY_MS);
  }

  async restore(): Promise<void> {
    await this.clock.advance(DAY_MS);
    await this.#close();
    Deno.copyFileSync(`${this.directory}/backup.db`, `${this.directory}/ca.db`);
    await this.#open();
  }

  async token(): Promise<string> {
    return parseJoinToken(
      (await this.ca.createToken(CreateTokenRequest.create({ lifetimeS: 30 * 86_400 }))).text,
    ).secret;
  }

  /** @returns when the certificate was issued, Unix ms */
  async join(node: string, secret: string): Promise<number> {
    const { requestPem } = await createCertificateRequest(node);
    const request = IssueRequest.create({ requestPem, node, secret });
    return issuedAt((await this.ca.issue(request, { peer: STRANGER, address: "192.0.2.7" })).certificatePem);
  }

  async renew(issuedUnixMs: number): Promise<number> {
    const { requestPem } = await createCertificateRequest("node-2");
    return issuedAt(
      (await this.ca.renew(RenewRequest.create({ requestPem }), NODE, issuedUnixMs)).certificatePem,
    );
  }

  get isIn(): boolean {
    return isMember(this.ca.members.get("node-2")!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("handBack() removes a machine again whose removal the database has forgotten, with all that it got meanwhile", async () => {
  await using f = await Restorable.make();
  const first = await f.token(), second = await f.token();
  const stolen = await f.join("node-2", first);
  await f.backUp();
  await f.ca.remove("node-2");
  await f.join("node-3", second);
  const kept = f.ca.withdrawals.list();
  deepEqual(kept.map(({ kind }) => kind).sort(), ["member", "token", "token"]);
  await f.restore();
  equal(f.isIn, true, "this is what an older copy says");
  const more = await f.renew(stolen);
  // (The first token was used up before the copy was made.)
  deepEqual(await f.ca.handBack(kept), { taken: 2, refused: 0 });
  equal(f.isIn, false);
  for (const one of [stolen, more]) await rejects(f.renew(one), code("CERTIFICATE_REMOVED"));
  await rejects(f.join("node-2", second), code("TOKEN_REFUSED"), "a token that was used up");
  // Who joins again, with a new token, is in, whatever is handed back then.
  const again = await f.join("node-2", await f.token());
  deepEqual(await f.ca.handBack(kept), { taken: 0, refused: 0 });
  equal(f.isIn, true);
  ok(await f.renew(again) > again);
});

Deno.test("handBack() leaves in who joined again after the removal, though the database has forgotten both", async () => {
  await using f = await Restorable.make();
  const old = await f.join("node-2", await f.token());
  await f.backUp();
  await f.ca.remove("node-2");
  await f.clock.advance(1000);
  const fresh = await f.join("node-2", await f.token());
  const kept = f.ca.withdrawals.list();
  await f.restore();
  await f.ca.handBack(kept);
  await rejects(f.renew(old), code("CERTIFICATE_REMOVED"));
  ok(await f.renew(fresh) > fresh);
  equal(f.isIn, true);
});

Deno.test("handBack() knows a machine of which the database has never heard", async () => {
  await using f = await Restorable.make();
  await f.backUp();
  const stolen = await f.join("node-2", await f.token());
  await f.ca.remove("node-2");
  const kept = f.ca.withdrawals.list();
  await f.restore();
  equal(f.ca.members.get("node-2"), undefined);
  await f.ca.handBack(kept);
  await rejects(f.renew(stolen), code("CERTIFICATE_REMOVED"));
});

Deno.test("the authority knows what its machine has kept before it gives a certificate", async () => {
  await using f = await Restorable.make();
  const stolen = await f.join("node-2", await f.token());
  await f.backUp();
  await f.ca.remove("node-2");
  writeWithdrawals(f.kept, f.ca.withdrawals.list(), { uid: Deno.uid()!, gid: Deno.gid()! });
  await f.restore();
  equal(f.isIn, false);
  await rejects(f.renew(stolen), code("CERTIFICATE_REMOVED"));
  // A file that cannot be read keeps it from nothing.
  Deno.writeTextFileSync(f.kept, "\xff none");
  await f.restore();
  equal(f.isIn, true);
});

Deno.test("handBack() takes nothing that the authority has not signed", async () => {
  await using f = await Restorable.make();
  await f.join("node-2", await f.token());
  await f.join("node-3", await f.token());
  await f.ca.remove("node-3");
  const [real] = f.ca.withdrawals.list().filter(({ kind }) => kind === "member");
  const forged: Partial<Withdrawal>[] = [
    { name: "node-2" },
    { kind: "token" },
    { withdrawnUnixS: real.withdrawnUnixS + 1 },
    { name: "node-2", signature: new Uint8Array() },
    { name: "node-2", signature: new Uint8Array(64) },
    { name: "node-2", withdrawnUnixS: NaN },
    { name: "node-2", withdrawnUnixS: Infinity },
  ];
  for (const change of forged) {
    const { taken } = await f.ca.handBack([{ ...real, ...change }]);
    equal(taken, 0, JSON.stringify(change));
    equal(f.isIn, true);
  }
  deepEqual(await f.ca.handBack([{ ...real, name: "node-2", expiresUnixS: NaN }]), { taken: 0, refused: 0 });
});

Deno.test("a removal of a version that signed none is signed at the next start", async () => {
  await using f = await Restorable.make();
  await f.join("node-2", await f.token());
  await f.ca.remove("node-2");
  await f.backUp();
  const database = new Database(`sqlite:${f.directory}/backup.db`);
  const { sql } = await import("kysely");
  await database.transaction((tx) =>
    sql`delete from weir_objects where collection = 'withdrawals'`.execute(tx)
  );
  await database.close();
  await f.restore();
  deepEqual(f.ca.withdrawals.list().filter(({ kind }) => kind === "member").map(({ name }) => name), [
    "node-2",
  ]);
});

Deno.test("TrustTable: what was withdrawn stays so when the authority's database comes back older", () => {
  const trust = new TrustTable();
  const facts = { peer: NODE, cluster: "c", issuedUnixMs: 1000, notBeforeUnixMs: 0, notAfterUnixMs: 9e15 };
  const believed = () => {
    try {
      trust.assertMember(facts);
      return true;
    } catch {
      return false;
    }
  };
  trust.setMember("node-2", { removedUnixS: 5 } as never);
  equal(believed(), false);
  trust.setMember("node-2", { removedUnixS: 0 } as never);
  trust.setMember("node-2", undefined);
  equal(believed(), false);
});

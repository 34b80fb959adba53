import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import {
  credentialPaths,
  Health,
  Logger,
  readCertificate,
  readerDirectory,
  readMembership,
  removeMembership,
  systemClock,
  writeMembership,
} from "@weir/common";
import { WeirClient } from "@weir/client";
import { IssueResponse, RenewRequest } from "@weir/proto/certificate";
import { createCertificateAuthority } from "../certificate-authority/mod.ts";
import { Database } from "../common/state.ts";
import { CertificateKeeper } from "./certificate_keeper.ts";
import { Joined, OWNER } from "./testing/joined.ts";

Deno.test("a machine of the control plane gets its certificate, announces where it listens, and renews at half of its life", async () => {
  const directory = await Deno.makeTempDir();
  const database = new Database("sqlite::memory:");
  let aheadMs = 0;
  const startMs = Date.now();
  const clock = { ...systemClock, nowMs: () => startMs + aheadMs };
  const ca = createCertificateAuthority({ database, clock, config: { certificateLifetimeMs: 1_000_000 } });
  await ca.start();
  const health = new Health();
  const keeper = (listen: string, node = "a") =>
    new CertificateKeeper({
      directory,
      owner: OWNER,
      node,
      cluster: "default",
      plane: { authority: { handler: ca.api.fetch }, listen },
      clock,
      health,
      log: Logger.silent(),
    });
  const serial = () =>
    new X509Certificate(Deno.readTextFileSync(credentialPaths(directory).cert)).serialNumber;
  try {
    const first = keeper("192.0.2.1:7440");
    equal(await first.step(), 0);
    const issued = serial();
    await first.step();
    equal(serial(), issued);
    aheadMs = 499_000;
    await first.step();
    equal(serial(), issued);
    aheadMs = 501_000;
    await first.step();
    equal(serial() === issued, false);
    equal((await first.step()) > 0, true);
    // Another address: told at the next start.
    await keeper("192.0.2.9:7440").step();
    const certificate = new X509Certificate(Deno.readTextFileSync(credentialPaths(directory).cert));
    equal(certificate.checkIP("192.0.2.9"), "192.0.2.9");
    equal(readCertificate(certificate).peer.role, "control-plane");
    equal(ca.members.get("a")!.addresses.join(), "192.0.2.9:7440");
    // A key that was put back from a backup is replaced.
    Deno.writeTextFileSync(credentialPaths(directory).key, "none");
    await keeper("192.0.2.9:7440").step();
    equal((await keeper("192.0.2.9:7440").step()) >= 0, true);
  } finally {
    await ca.stop();
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a machine that joined has a second certificate, which reads, is renewed with its own, and is removed with it", async () => {
  await using f = await Joined.make();
  const keeper = f.keeper();
  const reads = readerDirectory(f.directory);
  equal((await keeper.step()) > 0, true);
  const first = f.reader();
  deepEqual(first.peer, { role: "reader", node: "n" });
  equal(Deno.statSync(reads).mode! & 0o7777, 0o750);
  equal(Deno.statSync(`${reads}/node.key`).mode! & 0o7777, 0o600);
  await keeper.step();
  equal(f.reader().issuedUnixMs, first.issuedUnixMs, "it is good");
  // Who reads cannot renew itself into more.
  const client = new WeirClient({ url: f.address, tlsDirectory: reads });
  await rejects(
    client.call("/v1/certificates:renew", {
      request: { message: RenewRequest, value: { role: "reader" } } as never,
      response: IssueResponse,
    }),
    { code: "FORBIDDEN" },
  );
  client.close();
  // At half of its life the machine's own is renewed, and this one after it.
  f.aheadMs = 201_000;
  equal(await keeper.step(), 0);
  await keeper.step();
  equal(f.reader().issuedUnixMs > first.issuedUnixMs + 200_000, true);
  // One of another machine, half a pair and none are replaced.
  for (
    const spoil of [
      () => Deno.writeTextFileSync(`${reads}/node.key`, "x"),
      () => Deno.removeSync(reads, { recursive: true }),
    ]
  ) {
    spoil();
    await keeper.step();
    equal(f.reader().peer.role, "reader");
  }
  equal(await f.isBelieved(reads), true);
  await f.ca.remove("n");
  f.trust.setMember("n", f.ca.members.get("n"));
  equal(await f.isBelieved(reads), false);
  equal(await f.isBelieved(f.directory), false);
  // Joined again: what was there is older than the machine's own certificate.
  await f.join();
  await keeper.step();
  equal(await f.isBelieved(reads), true);
  removeMembership(f.directory);
  deepEqual([...Deno.readDirSync(f.directory)], []);
});

Deno.test("a control plane that knows no readers gives the flow exporter no machine's certificate", async () => {
  await using f = await Joined.make();
  const renew = f.ca.renew.bind(f.ca);
  f.ca.renew = (request, peer, issued) => renew({ ...request, role: "" }, peer, issued);
  await rejects(f.keeper().step(), { code: "READER_REFUSED" });
  throws(() => f.reader(), { code: "CREDENTIALS_MISSING" });
});

Deno.test("a node whose certificate is gone says so, is not ready, and goes on asking", async () => {
  const directory = await Deno.makeTempDir();
  writeMembership(directory, {
    version: 1,
    cluster: "default",
    node: "n",
    role: "node",
    addresses: ["127.0.0.1:1"],
  });
  const health = new Health(), stop = new AbortController();
  let slept = 0;
  const keeper = new CertificateKeeper({
    directory,
    owner: OWNER,
    node: "n",
    cluster: "default",
    clock: {
      ...systemClock,
      sleep: () => {
        if (++slept === 3) stop.abort();
        return Promise.resolve();
      },
    },
    health,
    log: Logger.silent(),
  });
  try {
    await rejects(keeper.step(), { code: "NOT_A_MEMBER" });
    await keeper.run(stop.signal);
    equal(health.ready, false);
    match(health.list()[0].message, /Cannot renew the certificate/);
    equal(readMembership(directory)?.node, "n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import { deepEqual, equal } from "node:assert/strict";
import { Logger, readWithdrawals, removeMembership, withdrawalsPath, writeWithdrawals } from "@weir/common";
import { CreateTokenRequest, IssueRequest } from "@weir/proto/certificate";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { isMember } from "../certificate-authority/mod.ts";
import { Joined, OWNER } from "./testing/joined.ts";
import { WithdrawalKeeper } from "./withdrawal_keeper.ts";

const keeperOf = (f: Joined) =>
  new WithdrawalKeeper({ directory: f.directory, gid: OWNER.gid, clock: f.clock, log: Logger.silent() });

async function issue(f: Joined, node: string): Promise<void> {
  const { requestPem } = await createCertificateRequest(node);
  await f.ca.issue(IssueRequest.create({ requestPem, node, role: "node" }), {});
}

Deno.test("a machine that joined keeps what was removed, and tells an authority that has forgotten it", async () => {
  await using f = await Joined.make();
  await issue(f, "stolen");
  const { token } = await f.ca.createToken(CreateTokenRequest.create({ kind: "access" }));
  let yesterday = new Uint8Array();
  await f.restart(() => yesterday = Deno.readFileSync(f.databaseFile));
  const keeper = keeperOf(f), path = withdrawalsPath(f.directory);
  await keeper.step();
  equal(readWithdrawals(path).length, 0);
  await f.ca.remove("stolen");
  await f.ca.revoke(token!.id);
  await keeper.step();
  deepEqual(readWithdrawals(path).map(({ kind, name }) => [kind, name]), [["member", "stolen"], [
    "token",
    token!.id,
  ]]);
  equal(Deno.statSync(path).mode! & 0o7777, 0o640);
  const { ino } = Deno.statSync(path);
  await keeper.step();
  equal(Deno.statSync(path).ino, ino, "nothing is written that is there");
  for (const one of [keeper, keeperOf(f)]) {
    await f.restart(() => Deno.writeFileSync(f.databaseFile, yesterday));
    equal(isMember(f.ca.members.get("stolen")!), true, "an older copy believes it");
    await one.step();
    equal(isMember(f.ca.members.get("stolen")!), false);
    equal(f.ca.tokens.get(token!.id), undefined);
    equal(f.ca.withdrawals.size, 2);
  }
  // What is over is forgotten everywhere.
  f.aheadMs = 400 * 86_400_000;
  await f.ca.sweep();
  equal(f.ca.withdrawals.size, 0);
});

Deno.test("what another cluster's authority has signed is neither kept nor handed back", async () => {
  await using f = await Joined.make();
  await using other = await Joined.make();
  await issue(other, "n2");
  await other.ca.remove("n2");
  writeWithdrawals(withdrawalsPath(f.directory), other.ca.withdrawals.list(), OWNER);
  await issue(f, "n2");
  await keeperOf(f).step();
  equal(isMember(f.ca.members.get("n2")!), true);
  deepEqual(readWithdrawals(withdrawalsPath(f.directory)), []);
  // A file that is none is as good as no file.
  Deno.writeTextFileSync(withdrawalsPath(f.directory), "\xff none");
  await f.ca.remove("n2");
  await keeperOf(f).step();
  equal(readWithdrawals(withdrawalsPath(f.directory)).length, 1);
  removeMembership(f.directory);
  deepEqual([...Deno.readDirSync(f.directory)], []);
});

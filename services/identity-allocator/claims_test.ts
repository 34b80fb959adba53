import assert from "node:assert/strict";
import { sql } from "kysely";
import { ClaimRequest } from "@weir/proto/identity";
import type { TestPostgres } from "@weir/common/testing/postgres";
import { type Case, open, testOnBoth, until } from "./testing.ts";

type Opened = Awaited<ReturnType<typeof open>>;

/** What three nodes ran before the database was lost: two of them share `app=web`. */
const RUNNING = {
  "node-1": [{ holder: "web-1", number: 300, labels: ["k8s:app=web"] }],
  "node-2": [
    { holder: "web-2", number: 300, labels: ["k8s:app=web"] },
    { holder: "db", number: 301, labels: ["k8s:app=db"] },
  ],
  "node-3": [{ holder: "cache", number: 65535, labels: ["k8s:app=cache"] }],
};
const NODES = Object.keys(RUNNING) as (keyof typeof RUNNING)[];

/** One number for each label set and one label set for each number, in the API and in the database. */
async function assertOneToOne(a: Opened): Promise<void> {
  const identities = (await a.identities.list()).items.filter(({ number }) => number >= 256);
  assert.equal(new Set(identities.map(({ number }) => number)).size, identities.length);
  assert.equal(new Set(identities.map(({ labels }) => labels.join())).size, identities.length);
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((first, at) => permutations(items.toSpliced(at, 1)).map((rest) => [first, ...rest]));
}

const CASES: Record<string, Case> = {
  async "an empty database: whatever order nodes claim in, all keep their numbers and new endpoints get others"(
    url,
  ) {
    for (const [at, order] of permutations(NODES).entries()) {
      // Numbers of this life would begin where those of the last one are.
      const a = await open(at === 0 ? url : `sqlite::memory:`, {}, undefined, () => (300 - 256) / 65280);
      for (const node of order) {
        const results = await a.claim(node, RUNNING[node]);
        assert.deepEqual(results.map(({ code }) => code), RUNNING[node].map(() => ""));
        assert.deepEqual(
          results.map(({ identity }) => identity!.number),
          RUNNING[node].map(({ number }) => number),
        );
        await assert.rejects(a.allocate(["k8s:app=new"], "new", "node-4"), {
          code: "CLAIMS_PENDING",
          status: 503,
        });
      }
      assert.equal(
        (await a.allocate(["k8s:app=db"], "db-2", "node-4")).number,
        301,
        "known labels do not wait",
      );
      await a.clock.advance(20_000);
      const fresh = await a.allocate(["k8s:app=new"], "new", "node-4");
      assert.ok(![300, 301, 65535].includes(fresh.number), `${fresh.number}`);
      await assertOneToOne(a);
      await a.close();
    }
  },

  async "a new endpoint that asks before anybody claims keeps its number, and the claim moves"(url) {
    const a = await open(url, {}, undefined, () => (300 - 256) / 65280);
    assert.equal((await a.allocate(["k8s:app=new"], "new", "node-4")).number, 300);
    const [taken] = await a.claim("node-1", RUNNING["node-1"]);
    assert.deepEqual([taken.code, taken.identity], ["IDENTITY_TAKEN", undefined]);
    assert.match(taken.detail, /300.*belongs to other labels/);
    await a.clock.advance(20_000);
    const [moved] = await a.claim("node-1", RUNNING["node-1"]);
    assert.equal(moved.code, "IDENTITY_TAKEN");
    assert.notEqual(moved.identity!.number, 300);
    assert.equal((await a.allocate(["k8s:app=web"], "web-9", "node-2")).number, moved.identity!.number);
    await assertOneToOne(a);
    await a.close();
  },

  async "the numbers of an empty database begin at a random place, those of a loaded one far beyond its cursor"(
    url,
  ) {
    const clock = undefined;
    const a = await open(url, {}, clock, () => 0.5);
    const first = (await a.allocate(["k8s:app=a"])).number;
    assert.equal(first, 256 + 65280 / 2);
    assert.equal((await a.allocate(["k8s:app=b"])).number, first + 1);
    await a.close();
    const b = await open(url);
    assert.equal((await b.allocate(["k8s:app=a"], "again")).number, first);
    const next = (await b.allocate(["k8s:app=c"])).number;
    assert.equal(next, first + 2 + 4096, "4096 may have been handed out after the copy was taken");
    assert.equal((await b.allocate(["k8s:app=d"])).number, next + 1);
    await b.close();
  },

  async "an older copy in which a number has other labels: those keep it, the running endpoint moves"(url) {
    const a = await open(url, {}, undefined, () => 0);
    assert.equal((await a.allocate(["k8s:app=old"], "old")).number, 256);
    assert.equal((await a.allocate(["k8s:app=known"], "known")).number, 257);
    const results = await a.claim("node-2", [
      { holder: "x", number: 256, labels: ["k8s:app=later"] },
      { holder: "y", number: 300, labels: ["k8s:app=known"] },
      { holder: "z", number: 258, labels: ["k8s:app=later-too"] },
    ]);
    assert.deepEqual(results.map(({ code, identity }) => [code, identity?.number]), [
      ["IDENTITY_TAKEN", undefined],
      ["IDENTITY_MOVED", 257],
      ["", 258],
    ]);
    assert.deepEqual(results[1].identity!.labels, ["k8s:app=known"]);
    await a.clock.advance(20_000);
    const { number } = await a.allocate(["k8s:app=later"], "x", "node-2");
    assert.ok(![256, 257, 258, 300].includes(number), "300 is in use until its endpoint has moved");
    await assertOneToOne(a);
    await a.close();
  },

  async "two claims for one number, or with one set of labels: the first is granted, the second moves"(url) {
    const a = await open(url, { claimGraceS: 0 });
    await a.claim("node-1", [{ holder: "a", number: 400, labels: ["k8s:app=a"] }]);
    const [other, same] = await a.claim("node-2", [
      { holder: "b", number: 400, labels: ["k8s:app=b"] },
      { holder: "a", number: 401, labels: ["k8s:app=a"] },
    ]);
    assert.equal(other.code, "IDENTITY_TAKEN");
    assert.notEqual(other.identity!.number, 400);
    assert.deepEqual([same.code, same.identity!.number], ["IDENTITY_MOVED", 400]);
    await assertOneToOne(a);
    await a.close();
  },

  async "claims that lie are refused one by one, and the honest one beside them is granted"(url) {
    const a = await open(url, { clusterId: 3, claimGraceS: 0 });
    const base = 3 << 16;
    const labels = (name: string) => [`k8s:app=${name}`];
    const results = await a.claim("node-1", [
      { holder: "reserved", number: 1, labels: labels("reserved") },
      { holder: "host", number: 2, labels: ["reserved:host"] },
      { holder: "below", number: base + 255, labels: labels("below") },
      { holder: "other-cluster", number: (4 << 16) + 300, labels: labels("other-cluster") },
      { holder: "no-cluster", number: 300, labels: labels("no-cluster") },
      { holder: "cidr", number: 0x0100_0001, labels: labels("cidr") },
      { holder: "huge", number: 0xffff_ffff, labels: labels("huge") },
      { holder: "filtered", number: base + 500, labels: ["k8s:app=filtered", "k8s:pod-template-hash=1"] },
      { holder: "broken", number: base + 501, labels: ["k8s:a b=1"] },
      { holder: "", number: base + 502, labels: labels("nameless") },
      { holder: "x".repeat(254), number: base + 503, labels: labels("long") },
      { holder: "fixed", number: base + 504, labels: ["k8s:io.cilium.fixed-identity=70"] },
      { holder: "no-labels", number: base + 505, labels: [] },
      { holder: "honest", number: base + 506, labels: labels("honest") },
    ]);
    assert.deepEqual(results.map(({ code }) => code), [
      "IDENTITY_OUT_OF_RANGE",
      "IDENTITY_MOVED",
      "IDENTITY_OUT_OF_RANGE",
      "IDENTITY_OUT_OF_RANGE",
      "IDENTITY_OUT_OF_RANGE",
      "IDENTITY_OUT_OF_RANGE",
      "IDENTITY_OUT_OF_RANGE",
      "LABELS_FILTERED",
      "LABEL_INVALID",
      "INVALID_ARGUMENT",
      "INVALID_ARGUMENT",
      "INVALID_ARGUMENT",
      "IDENTITY_MOVED",
      "",
    ]);
    for (const { code, identity } of results) {
      if (/INVALID/.test(code)) assert.equal(identity, undefined);
      else if (identity!.number >= 256) assert.equal(identity!.number >> 16, 3);
    }
    assert.equal(results[1].identity!.number, 1);
    assert.equal(results[12].identity!.number, 5, "no labels: init");
    const filtered = results[7].identity!;
    assert.deepEqual(filtered.labels, ["k8s:app=filtered"]);
    assert.notEqual(
      filtered.number,
      base + 500,
      "a number that stood for other labels is not given to these",
    );
    await assertOneToOne(a);
    await a.close();
  },

  async "a claim is repeatable, and a holder that claims another number holds that alone"(url) {
    const a = await open(url);
    const claim = [{ holder: "web", number: 300, labels: ["k8s:app=web"] }];
    await a.claim("node-1", claim);
    const before = await a.heartbeat("node-1");
    assert.deepEqual((await a.claim("node-1", claim)).map(({ code }) => code), [""]);
    assert.deepEqual(await a.heartbeat("node-1"), before);
    await a.claim("node-1", [{ holder: "web", number: 301, labels: ["k8s:app=web2"] }]);
    assert.deepEqual(await a.allocator.fetchHolders("node-1"), [{
      node: "node-1",
      holder: "web",
      number: 301,
    }]);
    assert.ok((await a.identities.get("300"))!.releasedUnixS > 0);
    await a.close();
  },

  async "70,000 claims are refused with the limit named, and nothing of them is written"(url) {
    const a = await open(url);
    const claims = Array.from({ length: 70_000 }, (_, i) => ({
      holder: `p${i}`,
      number: 256 + i,
      labels: [`k8s:app=a${i}`],
    }));
    assert.ok(
      ClaimRequest.encode({ node: "node-1", claims }).length < 8 << 20,
      "the body is not what is refused",
    );
    await assert.rejects(a.claim("node-1", claims), {
      code: "TOO_MANY_CLAIMS",
      status: 413,
      message: /70000 claims at once: at most 512/,
    });
    assert.equal(a.allocator.identities.size, 0);
    await a.close();
  },

  async "a node that lies for ever stops new numbers once in ten minutes only"(url) {
    const a = await open(url);
    const lie = (i: number) =>
      a.claim("liar", [{ holder: "x", number: 256 + i, labels: [`k8s:app=lie${i}`] }]);
    await lie(0);
    await assert.rejects(a.allocate(["k8s:app=a"]), { code: "CLAIMS_PENDING" });
    await a.clock.advance(20_000);
    await lie(1);
    await a.allocate(["k8s:app=a"]);
    await a.clock.advance(300_000);
    await lie(2);
    await a.allocate(["k8s:app=b"]);
    await a.clock.advance(301_000);
    await lie(3);
    await assert.rejects(a.allocate(["k8s:app=c"]), { code: "CLAIMS_PENDING" });
    await a.close();
  },

  async "a node that has seen what the database does not remember makes claims come first, whatever it asks"(
    url,
  ) {
    const a = await open(url);
    const seen = { epoch: a.allocator.identities.epoch, revision: a.allocator.identities.revision };
    await a.allocate(["k8s:app=a"], "a", "node-1", seen);
    await a.heartbeat("node-1", seen);
    await a.allocate(["k8s:app=b"], "b", "node-1", { epoch: seen.epoch, revision: 0 });
    const lost = { epoch: "0123456789abcdef", revision: 7 };
    await assert.rejects(a.allocate(["k8s:app=c"], "c", "node-1", lost), { code: "CLAIMS_PENDING" });
    assert.ok(await a.allocate(["k8s:app=a"], "a2", "node-1", lost), "known labels do not wait");
    await a.close();
    const b = await open(url.startsWith("sqlite") ? "sqlite::memory:" : url, {}, a.clock);
    await b.clock.advance(700_000);
    assert.equal((await b.heartbeat("node-1", lost)).epoch, b.allocator.identities.epoch);
    await assert.rejects(b.allocate(["k8s:app=new"]), { code: "CLAIMS_PENDING" }, "a heartbeat tells it too");
    await b.close();
  },

  async "a wall clock that jumps ends neither the time of claims nor that of a number that was claimed"(url) {
    const a = await open(url);
    await a.claim("node-1", [{ holder: "w1", number: 300, labels: ["k8s:app=a"] }]);
    await a.claim("node-2", [{ holder: "w2", number: 300, labels: ["k8s:app=b"] }]);
    for (const hours of [1, -2, 1]) {
      a.clock.jump(hours * 3600_000);
      await assert.rejects(a.allocate(["k8s:app=c"]), { code: "CLAIMS_PENDING" });
    }
    a.clock.jump(-3600_000);
    await a.clock.advance(20_000);
    assert.ok(await a.allocate(["k8s:app=c"]));
    await a.close();
  },

  async "a database that was replaced under the running process makes claims come first"(url) {
    const a = await open(url);
    await a.allocate(["k8s:app=a"]);
    await sql`update weir_epoch set epoch = 'fedcba9876543210'`.execute(a.database.kysely);
    await a.clock.advance(5_000); // the poll sees another history
    await until(() => a.allocator.identities.remembers({ epoch: "fedcba9876543210", revision: 0 }));
    await assert.rejects(a.allocate(["k8s:app=b"]), { code: "CLAIMS_PENDING" });
    assert.ok(await a.allocate(["k8s:app=a"], "again"));
    await a.clock.advance(20_000);
    assert.ok(await a.allocate(["k8s:app=b"]));
    await a.close();
  },
};

const REPLICATED: Record<string, (postgres: TestPostgres) => Promise<void>> = {
  async "a replica that has begun an epoch is no evidence of a lost database for the other"(postgres) {
    const url = await postgres.createDatabase("epochs");
    const a = await open(url), b = await open(url);
    const { epoch, revision } = b.allocator.identities;
    assert.notEqual(epoch, a.allocator.identities.epoch);
    assert.ok(await a.allocate(["k8s:app=a"], "a", "node-1", { epoch, revision }));
    await Promise.all([a.close(), b.close()]);
  },

  async "two replicas agree who has a number that both are asked for at once"(postgres) {
    const url = await postgres.createDatabase("claims");
    const [a, b] = [await open(url), await open(url)];
    const claims = (app: string) =>
      Array.from({ length: 20 }, (_, i) => ({
        holder: `${app}${i}`,
        number: 300 + i,
        labels: [`k8s:app=${app}${i}`],
      }));
    const [one, two] = await Promise.all([a.claim("node-1", claims("a")), b.claim("node-2", claims("b"))]);
    for (let i = 0; i < 20; i++) {
      assert.deepEqual([one[i].code, two[i].code].sort(), ["", "IDENTITY_TAKEN"], `${300 + i}`);
    }
    await assert.rejects(a.allocate(["k8s:app=new"]), { code: "CLAIMS_PENDING" }, "whoever heard the claim");
    await assert.rejects(b.allocate(["k8s:app=new"]), { code: "CLAIMS_PENDING" });
    await Promise.all([a.clock.advance(20_000), b.clock.advance(20_000)]);
    await Promise.all([a.claim("node-1", claims("a")), b.claim("node-2", claims("b"))]);
    await assertOneToOne(a);
    await until(() => b.allocator.identities.size === 40);
    await Promise.all([a.close(), b.close()]);
  },
};

testOnBoth("Claims", CASES, REPLICATED);

Deno.test("A node holds at most 4,095 identities, those that it has it may claim again", async () => {
  const a = await open("sqlite::memory:");
  const claims = Array.from({ length: 4096 }, (_, i) => ({
    holder: `p${i}`,
    number: 256 + i,
    labels: [`k8s:app=a${i}`],
  }));
  const codes: string[] = [];
  for (let at = 0; at < claims.length; at += 512) {
    codes.push(...(await a.claim("node-1", claims.slice(at, at + 512))).map(({ code }) => code));
  }
  assert.deepEqual([codes[4094], codes[4095]], ["", "HOLDERS_FULL"]);
  await assert.rejects(a.allocate(["k8s:app=a1"], "one-more"), {
    code: "HOLDERS_FULL",
    message: /node-1.*4095/,
  });
  assert.equal(a.allocator.identities.size, 4095, "no number is left that nothing holds");
  assert.equal((await a.claim("node-1", claims.slice(0, 1)))[0].code, "");
  assert.equal((await a.heartbeat("node-1")).holdersCount, 4095);
  await a.allocate(["k8s:app=a1"], "other", "node-2");
  await a.close();
});

Deno.test("An allocator that is started on yesterday's copy lets what was made since be claimed", async () => {
  const directory = await Deno.makeTempDir();
  const file = `${directory}/x.db`, url = `sqlite:${file}`;
  const today = await open(url, {}, undefined, () => 0);
  await today.allocate(["k8s:app=old"]);
  await sql`vacuum into ${`${directory}/copy.db`}`.execute(today.database.kysely);
  const since = await today.allocate(["k8s:app=since"], "since", "node-2");
  const { epoch, revision } = today.allocator.identities;
  await today.close();
  for (const suffix of ["-wal", "-shm"]) await Deno.remove(file + suffix).catch(() => {});
  await Deno.rename(`${directory}/copy.db`, file);
  const restored = await open(url, {}, undefined, () => 0);
  // The epoch is known, the revision is not: the copy is older.
  const answer = await restored.heartbeat("node-2", { epoch, revision });
  assert.deepEqual([answer.known, answer.holdersCount], [false, 0]);
  await assert.rejects(restored.allocate(["k8s:app=new"]), { code: "CLAIMS_PENDING" });
  const [claim] = await restored.claim("node-2", [{
    holder: "since",
    number: since.number,
    labels: ["k8s:app=since"],
  }]);
  assert.deepEqual([claim.code, claim.identity!.number], ["", since.number]);
  await restored.clock.advance(20_000);
  assert.notEqual((await restored.allocate(["k8s:app=new"])).number, since.number);
  await assertOneToOne(restored);
  await restored.close();
  await Deno.remove(directory, { recursive: true });
});

/** Changes that wait to be confirmed when others write meanwhile, the database is older or damaged, or they cannot be put back. @module */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { sql } from "kysely";
import { WeirClient } from "@weir/client";
import { Logger, setPeer, systemClock } from "@weir/common";
import { ApplyResponse, DeleteRequest, MapState, PendingChange, type Policy } from "@weir/proto/policy";
import type { PolicyEngine } from "./policy_engine.ts";
import { CIDR_IDENTITIES_MAX } from "./cidr_identities.ts";
import {
  ahead,
  apply,
  end,
  fails,
  live,
  MORE,
  NEW,
  OLD,
  onDatabases,
  policy,
  stored,
  until,
  withUrl,
} from "./testing/pending_life.ts";

const PENDING = "pending-policies";
const OTHER = policy("changed", "192.0.2.77/32");

/** As a replica of a version that knows of no confirmations writes a policy. */
const writeBlindly = ({ store }: PolicyEngine, name: string, was: Policy) =>
  store.store.transact(async (tx) => {
    const row = { ...was, manifest: OTHER.replace("changed", name), policyRevision: tx.revision + 1 };
    await tx.put<Policy>("policies", row.name, row);
  });
const deleteLater = (client: WeirClient, name: string, confirmWithinS: number) =>
  client.call("/v1/policies:delete", {
    request: { message: DeleteRequest, value: DeleteRequest.create({ names: [name], confirmWithinS }) },
    response: ApplyResponse,
  });
const waiting = async (client: WeirClient) =>
  (await client.collection("pendingchanges", PendingChange).list()).items;
const manifestOf = ({ store }: PolicyEngine, name: string) =>
  store.policies.get(`cnp:shop/${name}`)?.manifest;
/** Its time has passed. */
const expire = ({ store }: PolicyEngine, change: PendingChange) =>
  store.store.transact((tx) =>
    tx.put<PendingChange>(PENDING, change.id, { ...change, deadlineUnixS: Date.now() / 1000 - 1 })
  );
const equal = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);
function logTo(lines: string[]): Logger {
  return new Logger({ name: "policy-engine", write: (line) => lines.push(line) });
}

onDatabases(
  "What another wrote over a change that waits is left as it is, and told, while the rest is put back",
  async (url) => {
    const lines: string[] = [];
    await live(
      url,
      async ({ client, engine }) => {
        await apply(client, { manifest: OLD, file: "old.yaml" });
        await apply(client, { files: [NEW, MORE], confirmWithinS: 600 });
        await writeBlindly(engine, "changed", engine.store.policies.get("cnp:shop/changed")!);
        const { items } = await end(client, "rollback");
        assert.deepEqual(items.map(({ name, change }) => `${name} ${change}`), [
          "cnp:shop/changed changed since, not rolled back",
          "cnp:shop/created rolled back",
        ]);
        assert.equal(manifestOf(engine, "changed"), OTHER);
        assert.equal(manifestOf(engine, "created"), undefined);
        assert.equal(engine.store.pending.size, 0);

        // What was deleted and has come again is of whoever wrote it; and so when the time has passed.
        const was = engine.store.policies.get("cnp:shop/stays")!;
        const { pending } = await deleteLater(client, "cnp:shop/stays", 600);
        await writeBlindly(engine, "stays", was);
        const { policyRevision } = engine.store;
        await expire(engine, pending!);
        await until(() => engine.store.pending.size === 0);
        assert.match(manifestOf(engine, "stays")!, /192\.0\.2\.77/);
        assert.ok(engine.store.policyRevision > policyRevision);
        await until(() => lines.some((line) => line.includes('"changedSince":"cnp:shop/stays"')));

        // A note of a version that did not say what it wrote is put back as that version would.
        const old = await apply(client, { ...NEW, confirmWithinS: 600 });
        await engine.store.store.transact((tx) =>
          tx.put<PendingChange>(PENDING, old.pending!.id, { ...old.pending!, policyRevision: 0 })
        );
        await end(client, "rollback");
        assert.equal(manifestOf(engine, "changed"), OTHER);
      },
      systemClock,
      logTo(lines),
    );
  },
);

onDatabases(
  "While the database is in doubt nothing is rolled back; once it is accepted it is, by itself",
  async (url) => {
    await live(url, async ({ client, engine }) => {
      await apply(client, { manifest: OLD });
      const before = await stored(client);
      const { pending } = await apply(client, { files: [NEW, MORE], confirmWithinS: 600 });
      const policyRevision = engine.store.policyRevision + 50;
      await engine.store.note({ node: "node-1", policyRevision }, engine.repository.policyRevision);
      await expire(engine, pending!);
      await until(async () => (await waiting(client))[0]?.error.includes("older than what is in force"));
      assert.equal((await fails(end(client, "rollback", pending!.id))).code, "DATABASE_IN_DOUBT");
      assert.equal(manifestOf(engine, "created"), MORE.manifest);
      await client.call("/v1/policies:accept-database", { method: "POST", response: ApplyResponse });
      await until(() => engine.store.pending.size === 0);
      await until(async () => equal(await stored(client), before));
    });
  },
);

Deno.test("A copy of the database from just before a confirmation is known to be older by what nodes have", async () => {
  await withUrl(async (url) => {
    const copy = `${url}.copy`;
    const confirmed = await live(url, async ({ client, engine }) => {
      await apply(client, { manifest: OLD });
      await apply(client, { files: [NEW, MORE], confirmWithinS: 600 });
      const { policyRevision } = engine.store;
      const file = new DatabaseSync(url.slice("sqlite:".length));
      file.exec(`vacuum into '${copy.slice("sqlite:".length)}'`);
      file.close();
      const answer = await end(client, "confirm");
      assert.ok(answer.policyRevision > policyRevision, "a confirmation is a policy set of its own");
      assert.equal(answer.policyRevision, engine.store.policyRevision);
      return { revision: engine.store.policyRevision, set: engine.follower.policySet };
    });
    /** What a node that has the confirmed set in force is told. */
    const asNode = async (engine: PolicyEngine) => {
      const handler = (request: Request) => {
        setPeer(request, { role: "node", node: "node-1" });
        return engine.handler(request);
      };
      const headers = () => ({
        "weir-policy-revision": `${confirmed.revision}`,
        "weir-policy-set": confirmed.set,
      });
      await new WeirClient({ handler }, { headers }).collection("mapstates", MapState).list();
    };
    await live(copy, async ({ client, engine }) => {
      await asNode(engine);
      assert.deepEqual([...engine.store.doubts.keys()], ["node-1"]);
      await expire(engine, engine.store.pending.list()[0]);
      await until(async () => (await waiting(client))[0]?.error.includes("older than what is in force"));
      assert.equal(manifestOf(engine, "created"), MORE.manifest);
    });
    // Neither does the next engine, although its time has passed.
    await live(copy, ({ engine }) => {
      assert.equal(engine.store.pending.size, 1);
      assert.equal(manifestOf(engine, "created"), MORE.manifest);
      return Promise.resolve();
    }, ahead(700));
  });
});

/** Others have taken all numbers of prefixes. */
const takeAllNumbers = ({ store }: PolicyEngine) =>
  store.store.transact((tx) =>
    sql`insert into weir_cidr_number (number, prefix, released_unix_s)
      with recursive taken(i) as (select 1 union all select i + 1 from taken where i < ${CIDR_IDENTITIES_MAX})
      select 900000000 + i, 'taken-' || i, 0 from taken`.execute(tx.tx)
  );
const GIVE_BACK = "delete from weir_cidr_number where number > 900000000";
const giveNumbersBack = ({ store }: PolicyEngine) =>
  store.store.transact((tx) => sql.raw(GIVE_BACK).execute(tx.tx));

/** Two that wait: the first to be looked at needs numbers to be put back, the other none. Answers what was before. */
async function twoWait({ client, engine }: { client: WeirClient; engine: PolicyEngine }): Promise<unknown> {
  await apply(client, { manifest: OLD });
  const before = await stored(client);
  const { pending } = await apply(client, { ...NEW, confirmWithinS: 600 });
  await engine.store.store.transact(async (tx) => {
    await tx.delete(PENDING, pending!.id);
    await tx.put<PendingChange>(PENDING, "change-0", { ...pending!, id: "change-0" });
  });
  await apply(client, { ...MORE, confirmWithinS: 600 });
  await takeAllNumbers(engine);
  return before;
}

onDatabases(
  "A change that cannot be rolled back holds up no other, says why, and is tried again until it can",
  async (url) => {
    await live(url, async (life) => {
      const { client, engine } = life, before = await twoWait(life);
      for (const change of engine.store.pending.list()) await expire(engine, change);
      await until(() => engine.store.pending.size === 1);
      await until(() => manifestOf(engine, "created") === undefined);
      assert.equal(manifestOf(engine, "changed"), NEW.manifest);
      await until(async () => /prefixes/.test((await waiting(client))[0].error));
      await giveNumbersBack(engine);
      await until(() => engine.store.pending.size === 0);
      await until(async () => equal(await stored(client), before));
    });
  },
);

Deno.test("An engine starts although a change that nobody confirmed cannot be rolled back yet", async () => {
  await withUrl(async (url) => {
    const before = await live(url, twoWait), failed: string[] = [];
    const log = new Logger({
      name: "policy-engine",
      write: (line) => {
        if (!line.includes("Cannot roll back")) return;
        failed.push(line);
        const file = new DatabaseSync(url.slice("sqlite:".length));
        file.exec(GIVE_BACK);
        file.close();
      },
    });
    await live(
      url,
      async ({ client, engine }) => {
        assert.equal(manifestOf(engine, "created"), undefined);
        assert.match(failed[0], /change-0/);
        await until(() => engine.store.pending.size === 0);
        await until(async () => equal(await stored(client), before));
        assert.equal(failed.length, 1);
      },
      ahead(601),
      log,
    );
  });
});

onDatabases(
  "A change whose row cannot be read stands in no write's way, is named, and goes when somebody keeps it",
  async (url) => {
    const lines: string[] = [];
    const id = await live(url, async ({ client, engine }) => {
      const { pending } = await apply(client, { ...NEW, confirmWithinS: 600 });
      const damaged = new Uint8Array([0xff]), { id } = pending!;
      await engine.store.store.transact(async (tx) => {
        for (const table of ["weir_objects", "weir_log"]) {
          await sql`update ${sql.table(table)} set body = ${damaged}
            where collection = ${PENDING} and name = ${id}`.execute(tx.tx);
        }
      });
      return id;
    });
    await live(
      url,
      async ({ client, engine }) => {
        await apply(client, MORE);
        await apply(client, { manifest: policy("later", "192.0.2.0/24"), confirmWithinS: 600 });
        await end(client, "rollback");
        const [broken, ...more] = await waiting(client);
        assert.deepEqual([broken.id, more], [id, []]);
        assert.match(broken.error, /^it cannot be read/);
        assert.ok(lines.some((line) => line.includes("cannot be read") && line.includes(id)), lines.join(""));
        assert.equal((await fails(end(client, "rollback", id))).code, "OBJECT_UNREADABLE");
        await end(client, "confirm", id);
        await until(async () => (await waiting(client)).length === 0);
        assert.equal(manifestOf(engine, "changed"), NEW.manifest);
      },
      ahead(601),
      logTo(lines),
    );
  },
);

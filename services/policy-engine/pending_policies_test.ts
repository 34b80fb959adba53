import assert from "node:assert/strict";
import { ApplyResponse, DeleteRequest, type PendingChange, Policy } from "@weir/proto/policy";
import {
  ahead,
  apply,
  end,
  fails,
  live,
  MORE,
  NEW,
  OLD,
  policy,
  stored,
  until,
  withUrl,
} from "./testing/pending_life.ts";

Deno.test("A change of several files that nobody confirms goes by itself, all of it, to exactly what was before", async () => {
  await live("sqlite::memory:", async ({ client, engine }) => {
    await apply(client, { manifest: OLD, file: "old.yaml" });
    const before = await stored(client), { policyRevision } = engine.repository;
    const { items, pending } = await apply(client, { files: [NEW, MORE], confirmWithinS: 1, by: "ann" });
    assert.deepEqual(items.map(({ name, change }) => `${name} ${change}`), [
      "cnp:shop/changed configured",
      "cnp:shop/created created",
    ]);
    assert.equal(pending?.by, "ann");
    assert.notDeepEqual(await stored(client), before);
    await until(() => engine.store.pending.size === 0);
    await until(() => engine.repository.policy("cnp:shop/created") === undefined);
    assert.deepEqual(await stored(client), before);
    assert.ok(engine.repository.policyRevision > policyRevision + 2, "nodes take what is newer");
  });
});

Deno.test("What is deleted comes back when nobody confirms, or at once by a rollback", async () => {
  await live("sqlite::memory:", async ({ client, engine }) => {
    await apply(client, { manifest: OLD });
    const before = await stored(client);
    const remove = (confirmWithinS: number) =>
      client.call("/v1/policies:delete", {
        request: {
          message: DeleteRequest,
          value: DeleteRequest.create({ names: ["cnp:shop/stays", "cnp:shop/absent"], confirmWithinS }),
        },
        response: ApplyResponse,
      });
    const { items, pending } = await remove(600);
    assert.deepEqual(items.map(({ change }) => change), ["deleted", "absent"]);
    assert.deepEqual(pending?.policies.map(({ name }) => name), ["cnp:shop/stays"]);
    assert.equal(engine.repository.policy("cnp:shop/stays"), undefined);
    const back = await end(client, "rollback");
    assert.deepEqual(back.items.map(({ name, change }) => `${name} ${change}`), [
      "cnp:shop/stays rolled back",
    ]);
    assert.deepEqual(await stored(client), before);
    assert.equal((await fails(end(client, "rollback", pending!.id))).code, "NOT_PENDING");
    await remove(1);
    await until(() => engine.repository.policy("cnp:shop/stays") !== undefined);
    assert.deepEqual(await stored(client), before);
  });
});

Deno.test("While a change waits others of its policies are refused with whose it is; confirmed it stays", async () => {
  await withUrl(async (url) => {
    await live(url, async ({ client, engine }) => {
      const { pending } = await apply(client, { ...NEW, confirmWithinS: 600, by: "ann" });
      const refused = await fails(apply(client, { ...NEW, manifest: policy("changed", "192.0.2.1/32") }));
      assert.deepEqual([refused.code, refused.status], ["POLICY_PENDING", 409]);
      assert.match(refused.problem.found!, /^change-[0-9a-f]{10} of ann, rolled back at 20\d\d-/);
      const gone = await fails(client.collection("policies", Policy).delete("cnp:shop/changed"));
      assert.equal(gone.code, "POLICY_PENDING");
      await apply(client, MORE);
      assert.equal((await fails(end(client, "confirm", "change-0"))).code, "NOT_PENDING");
      assert.equal((await end(client, "confirm")).pending?.id, pending!.id);
      assert.equal(engine.store.pending.size, 0);
      await apply(client, { ...NEW, manifest: policy("changed", "192.0.2.1/32") });
      // What changes nothing leaves nothing to take back.
      const same = await apply(client, { ...MORE, confirmWithinS: 600 });
      assert.equal(same.pending, undefined);
      for (const confirmWithinS of [0.5, -1, 90_000, NaN]) {
        const wrong = await fails(apply(client, { ...NEW, confirmWithinS }));
        assert.match(wrong.code, /CONFIRM_TIME_INVALID|INVALID/, `${confirmWithinS}`);
      }
      const twice = await fails(
        apply(client, { files: [NEW, { ...NEW, file: "b.yaml" }], confirmWithinS: 9 }),
      );
      assert.match(twice.problem.found!, /^new\.yaml:1 and b\.yaml:1$/);
    });
    await live(url, async ({ client }) => {
      const { items } = await client.collection("policies", Policy).list();
      assert.deepEqual(items.map(({ name }) => name).sort(), ["cnp:shop/changed", "cnp:shop/created"]);
    });
  });
});

Deno.test("A deadline that passes while no engine is there is kept at the next start, before anybody is answered", async () => {
  await withUrl(async (url) => {
    const before = await live(url, async ({ client }) => {
      await apply(client, { manifest: OLD });
      const before = await stored(client);
      await apply(client, { files: [NEW, MORE], confirmWithinS: 600 });
      return before;
    });
    // Before its time it waits over a restart.
    await live(url, async ({ engine }) => {
      assert.equal(engine.store.pending.size, 1);
      assert.ok(engine.repository.policy("cnp:shop/created") !== undefined);
      await Promise.resolve();
    }, ahead(300));
    await live(url, async ({ client, engine }) => {
      // The first that anybody can see.
      assert.deepEqual(await stored(client), before);
      assert.equal(engine.store.pending.size, 0);
      assert.equal((await fails(end(client, "confirm"))).code, "NOT_PENDING");
    }, ahead(601));
  });
});

Deno.test("Of two engines one puts back, once, and a confirmation that comes too late is refused", async () => {
  await withUrl(async (url) => {
    await live(url, async (one) => {
      await live(url, async (other) => {
        await apply(one.client, { manifest: OLD });
        const { pending } = await apply(one.client, { files: [NEW, MORE], confirmWithinS: 1 });
        const id = pending!.id;
        // Replicas of a file are told of nothing: they look.
        await other.engine.store.store.pull();
        assert.ok(other.engine.store.pending.get(id) !== undefined);
        const engines = [one.engine, other.engine];
        await until(async () => {
          for (const { store } of engines) await store.store.pull();
          return engines.every(({ store }) => store.pending.size === 0);
        });
        await until(() =>
          engines.every(({ repository }) => repository.policy("cnp:shop/created") === undefined)
        );
        const revisions = engines.map(({ store }) => store.policyRevision);
        // Both asked; neither finds it a second time.
        assert.deepEqual(await Promise.all(engines.map(({ store }) => store.rollBack(id))), [
          undefined,
          undefined,
        ]);
        assert.deepEqual(engines.map(({ store }) => store.policyRevision), revisions);
        assert.equal(revisions[0], revisions[1]);
        assert.equal((await fails(end(other.client, "confirm", id))).code, "NOT_PENDING");
      });
    });
  });
  await live("sqlite::memory:", async ({ client, engine }) => {
    // A replica whose clock is behind has not put it back yet.
    const change = await apply(client, { ...NEW, confirmWithinS: 600 });
    const late = { ...change.pending!, deadlineUnixS: Date.now() / 1000 - 1 };
    await engine.store.store.transact((tx) => tx.put<PendingChange>("pending-policies", late.id, late));
    const error = await fails(end(client, "confirm", late.id));
    assert.match(error.code, /^(TOO_LATE|NOT_PENDING)$/);
    await until(() => engine.store.pending.size === 0);
    assert.equal(engine.store.policies.get("cnp:shop/changed"), undefined);
  });
});

Deno.test("Policies of Kubernetes do not wait, and what Kubernetes says of one that waits is not taken back", async () => {
  await live("sqlite::memory:", async ({ client, engine }) => {
    await apply(client, { ...NEW, file: "kubernetes:shop/changed" });
    const refused = await fails(
      apply(client, { ...NEW, manifest: policy("changed", "192.0.2.1/32"), confirmWithinS: 9 }),
    );
    assert.equal(refused.code, "KUBERNETES_POLICY");
    assert.match(refused.problem.detail!, /comes from Kubernetes, which tells it again/);
    const stays = { file: "stays.yaml", manifest: policy("stays", "192.0.2.0/24") };
    await apply(client, { files: [MORE, stays], confirmWithinS: 600 });
    await apply(client, { ...MORE, file: "kubernetes:shop/created" });
    assert.deepEqual(engine.store.pending.list()[0].policies.map(({ name }) => name), ["cnp:shop/stays"]);
    await end(client, "rollback");
    assert.deepEqual(engine.store.policies.list().map(({ name }) => name).sort(), [
      "cnp:shop/changed",
      "cnp:shop/created",
    ]);
  });
});

Deno.test("A change whose row was stored without its manifest's meaning is put back all the same, and named as a fault", async () => {
  await live("sqlite::memory:", async ({ client, engine }) => {
    await apply(client, { ...NEW });
    const { pending } = await apply(client, {
      ...NEW,
      manifest: policy("changed", "192.0.2.1/32"),
      confirmWithinS: 600,
    });
    const [one] = pending!.policies, before = { ...one.before!, manifest: "kind: Newer\n" };
    await engine.store.store.transact((tx) =>
      tx.put<PendingChange>("pending-policies", pending!.id, { ...pending!, policies: [{ ...one, before }] })
    );
    await end(client, "rollback");
    assert.equal(engine.store.policies.get("cnp:shop/changed")?.manifest, "kind: Newer\n");
    assert.match(engine.follower.faults()[0].error, /"Newer" is no policy/);
  });
});

Deno.test("PolicyEngine says which policies select hosts: those may cut off whoever applies them", async () => {
  await live("sqlite::memory:", async ({ client }) => {
    const of = async (selector: string) => {
      const manifest =
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: { name: a }\nspec:\n" +
        `  ${selector}: {}\n  ingress: [{}]\n`;
      return (await apply(client, { manifest, dryRun: true })).selectsHost;
    };
    assert.deepEqual([await of("nodeSelector"), await of("endpointSelector")], [true, false]);
  });
});

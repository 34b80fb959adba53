import assert from "node:assert/strict";
import { sql } from "kysely";
import { ApiServer, type Clock, systemClock, WatchedTable } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, MapState } from "@weir/proto/policy";
import { LostObjects } from "./lost_objects.ts";
import { createPolicyEngine } from "./create_policy_engine.ts";
import type { PolicyEngine } from "./policy_engine.ts";

Deno.test("LostObjects forgets after the grace, in order, and not what was found", async () => {
  const clock = new FakeClock(), forgotten: string[] = [];
  const lost = new LostObjects<string>(clock, 100);
  const keep = (key: string) => lost.keep(key, () => forgotten.push(key));
  for (const key of ["a", "b", "c"]) keep(key);
  await clock.advance(60);
  lost.found("b");
  keep("a");
  await clock.advance(60);
  assert.deepEqual(forgotten, ["c"]);
  await clock.advance(60);
  assert.deepEqual(forgotten, ["c", "a"]);
  keep("d");
  await clock.advance(100);
  assert.deepEqual([forgotten, lost.size], [["c", "a", "d"], 0]);
  await lost.stop();
});

Deno.test("A deny stays when the allocator's database is lost; an identity that is deleted in order goes", async () => {
  const directory = (numbers: readonly [number, string][]) => {
    const api = new ApiServer({ name: "identity-allocator" });
    const identities = new WatchedTable<Identity>({ name: "identities" });
    api.collection({ name: "identities", message: Identity, table: identities });
    api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
    api.collection({ name: "nodes", message: Node, table: new WatchedTable({ name: "nodes" }) });
    for (const [number, app] of numbers) {
      const labels = [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=default"];
      identities.put(`${number}`, Identity.create({ number, labels }));
    }
    return { api, identities };
  };
  const before = directory([[300, "server"], [301, "bad"], [302, "bad"]]),
    after = directory([[300, "server"]]);
  let serve: (request: Request) => Promise<Response> = before.api.fetch;
  const cut = new AbortController();
  const allocator = new WeirClient({
    handler: async (request) => {
      const answer = await serve(request);
      if (serve === after.api.fetch || answer.body === null) return answer;
      return new Response(answer.body.pipeThrough(new TransformStream(), { signal: cut.signal }), answer);
    },
  });
  const database = new Database("sqlite::memory:");
  const engine = createPolicyEngine({ database, allocator });
  let next: PolicyEngine | undefined;
  engine.start();
  try {
    await engine.waitReady();
    const client = new WeirClient({ handler: engine.handler });
    const manifest =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: default},
      spec: {endpointSelector: {matchLabels: {app: server}}, ingress: [{}],
      ingressDeny: [{fromEndpoints: [{matchLabels: {app: bad}}]}]}}`;
    await client.call("/v1/policies:apply", {
      request: { message: ApplyRequest, value: { manifest } },
      response: ApplyResponse,
    });
    const denied = async () => {
      engine.publishNow();
      const state = (await client.collection("mapstates", MapState).get("300"))!;
      return state.entries.filter(({ deny }) => deny).map(({ identity }) => identity);
    };
    const until = async (what: () => Promise<boolean> | boolean) => {
      while (!await what()) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await until(async () => (await denied()).join() === "301,302");
    before.identities.delete("302");
    await until(async () => (await denied()).join() === "301");
    serve = after.api.fetch;
    cut.abort();
    await until(() => engine.directory.lostIdentities > 0);
    assert.deepEqual(await denied(), [301], "nodes still have the number in their ipcache");
    // The next process does not know the number: it says nothing before nodes have let go of it.
    await engine.stop();
    const held = Promise.withResolvers<void>();
    const clock: Clock = {
      nowMs: () => systemClock.nowMs(),
      monotonicMs: () => systemClock.monotonicMs(),
      sleep: (ms, signal) => ms > 20_000 && ms <= 75_000 ? held.promise : systemClock.sleep(ms, signal),
    };
    next = createPolicyEngine({ database, allocator, clock });
    next.start();
    const restarted = new WeirClient({ handler: next.handler });
    const why = async () => {
      try {
        await restarted.collection("mapstates", MapState).list();
        return "";
      } catch (error) {
        return (error as Error).message;
      }
    };
    await until(async () => /lost just now: nodes carry identities.* for \d+ s more/.test(await why()));
    assert.match(
      await (await next.handler(new Request("http://x/readyz?verbose"))).text(),
      /lost-identities/,
    );
    held.resolve();
    await until(async () => await why() === "");
    await next.stop();
    next = createPolicyEngine({
      database,
      allocator,
      clock: { ...clock, nowMs: () => systemClock.nowMs() + 80_000 },
    });
    next.start();
    await next.waitReady();
  } finally {
    await engine.stop();
    await next?.stop();
    await database.close();
  }
});

Deno.test("An engine that was not running when the allocator's database was lost waits until nodes have let go of what it had", async () => {
  const directory = () => {
    const api = new ApiServer({ name: "identity-allocator" });
    const identities = new WatchedTable<Identity>({ name: "identities" });
    api.collection({ name: "identities", message: Identity, table: identities });
    api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
    api.collection({ name: "nodes", message: Node, table: new WatchedTable({ name: "nodes" }) });
    const labels = ["k8s:app=server", "k8s:io.kubernetes.pod.namespace=default"];
    identities.put("300", Identity.create({ number: 300, labels }));
    return { api, identities };
  };
  const yesterday = directory(), restored = directory();
  let isAway = false;
  const clientOf = ({ api }: { api: ApiServer }) =>
    new WeirClient({
      handler: (request) => isAway ? Promise.reject(new Error("away")) : Promise.resolve(api.fetch(request)),
    });
  const database = new Database("sqlite::memory:");
  const until = async (what: () => Promise<boolean> | boolean) => {
    while (!await what()) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  let held = Promise.withResolvers<void>(), aheadMs = 0;
  const clock: Clock = {
    nowMs: () => systemClock.nowMs() + aheadMs,
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
    sleep: (ms, signal) =>
      ms > 20_000 && ms <= 75_000 ? held.promise : systemClock.sleep(ms === 3000 ? 1 : ms, signal),
  };
  const kept = async () =>
    (await database.query((kysely) =>
      sql<{ revision: number }>`select revision from weir_directory_position`.execute(kysely)
    )).rows.map(({ revision }) => Number(revision));
  const life = async (allocator: WeirClient, run: (engine: PolicyEngine) => Promise<void>) => {
    const engine = createPolicyEngine({ database, allocator, clock });
    engine.start();
    try {
      await run(engine);
    } finally {
      await engine.stop();
    }
  };
  const why = async (engine: PolicyEngine) =>
    await (await engine.handler(new Request("http://x/v1/mapstates"))).text();
  try {
    await life(clientOf(yesterday), async (engine) => {
      await engine.waitReady();
      await until(async () => (await kept()).length > 0);
    });
    // What the allocator does while no engine runs is no loss.
    yesterday.identities.put("301", Identity.create({ number: 301, labels: ["k8s:app=x"] }));
    await life(clientOf(yesterday), async (engine) => {
      await engine.waitReady();
      await until(async () => (await kept())[0] === yesterday.identities.revision);
    });
    isAway = true;
    await life(clientOf(restored), async (engine) => {
      await until(async () => /waiting for the identities/.test(await why(engine)));
      isAway = false;
      await until(async () => /lost just now: nodes carry identities/.test(await why(engine)));
      assert.equal(engine.ready, false);
    });
    // Another start in that time goes on waiting; after it there is nothing to wait for.
    await life(clientOf(restored), async (engine) => {
      await until(async () => /lost just now/.test(await why(engine)));
      held.resolve();
      await engine.waitReady();
    });
    held = Promise.withResolvers();
    aheadMs = 80_000;
    await life(clientOf(restored), (engine) => engine.waitReady());
  } finally {
    await database.close();
  }
});

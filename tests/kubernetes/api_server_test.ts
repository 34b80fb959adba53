/** The client and the reflector on a real API server, also one whose store is put back to an older copy. @module */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { type ApiClient, type KubernetesObject, Reflector, RESOURCES } from "@weir/kubernetes/api";
import { missingPrograms, RealApiServer } from "../../services/kubernetes/testing/real_api_server.ts";

const { ConfigMap, CustomResourceDefinition, CiliumNode } = RESOURCES;
const why = missingPrograms();
if (why !== undefined) console.log(`SKIP tests with a real API server: ${why}`);

const namespace = "default";
const configMap = (name: string, a: string): KubernetesObject => ({
  metadata: { name, namespace },
  data: { a },
});
const prune = ({ data }: KubernetesObject) => ({ a: (data as { a?: string } | undefined)?.a });

async function refused(code: string, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, { code });
}

Deno.test({
  name: "A real API server is read, watched and written, restarted, and put back to an older copy",
  ignore: why !== undefined,
  fn: async (t) => {
    await using server = await RealApiServer.start();
    const client = server.client();
    await t.step("objects are made, changed and deleted", () => writes(client));
    await t.step("who may not is told so", async () => {
      await refused("UNAUTHENTICATED", server.client("nobody's").list(ConfigMap));
    });
    await t.step("a kind that comes later is found", () => laterKind(client));
    const reflector = new Reflector(client, ConfigMap, {
      namespace,
      prune,
      pageObjects: 50,
      backoff: { delayMsMin: 20, delayMsMax: 200 },
    }).start();
    await t.step("a list in pages and what comes after it", async () => {
      for (let i = 0; i < 120; i++) await client.create(ConfigMap, configMap(`cm-${i}`, "1"));
      await until("they are there", () => reflector.has("default/cm-119"), 20);
      await client.patch(ConfigMap, "cm-3", { data: { a: "2" } }, { namespace });
      await client.delete(ConfigMap, "cm-4", { namespace });
      await until("the changes are there", () => {
        return reflector.get("default/cm-3")?.a === "2" && !reflector.has("default/cm-4");
      }, 20);
    });
    await t.step("a restart of the API server loses nothing", async () => {
      await server.stopKube();
      await until("it is seen", () => reflector.state === "AWAY", 20);
      assert.ok(reflector.has("default/cm-0"));
      server.startKube();
      await server.waitReady();
      await client.create(ConfigMap, configMap("after", "1"));
      await until("it follows again", () => reflector.has("default/after"), 50);
      assert.equal(reflector.state, "WATCHING");
    });
    await t.step("a store that was put back to an older copy is followed", async () => {
      await server.stopKube();
      await server.stopEtcd();
      await new Deno.Command("cp", {
        args: ["-r", `${server.directory}/etcd`, `${server.directory}/older`],
      }).output();
      server.startEtcd();
      server.startKube();
      await server.waitReady();
      await client.create(ConfigMap, configMap("lost", "1"));
      await client.patch(ConfigMap, "cm-0", { data: { a: "lost" } }, { namespace });
      await until("it has what will be lost", () => reflector.get("default/cm-0")?.a === "lost", 50);
      await server.stopKube();
      await server.stopEtcd();
      server.startEtcd(`${server.directory}/older`);
      server.startKube();
      await server.waitReady();
      await until("it is as in the copy", () => {
        return !reflector.has("default/lost") && reflector.get("default/cm-0")?.a === "1";
      }, 50);
      await client.create(ConfigMap, configMap("new", "1"));
      await until("it follows the copy", () => reflector.has("default/new"), 50);
    });
    await reflector.stop();
  },
});

async function writes(client: ApiClient): Promise<void> {
  const made = await client.create(ConfigMap, configMap("a", "1"));
  await refused("ALREADY_EXISTS", client.create(ConfigMap, configMap("a", "1")));
  const changed = await client.update(ConfigMap, { ...made, data: { a: "2" } });
  await refused("CONFLICT", client.update(ConfigMap, { ...made, data: { a: "3" } }));
  assert.equal(changed.metadata.uid, made.metadata.uid);
  await client.apply(ConfigMap, { metadata: { name: "a", namespace }, data: { b: "1" } });
  await refused("CONFLICT", client.apply(ConfigMap, configMap("a", "4"), { fieldManager: "other" }));
  const forced = await client.apply(ConfigMap, configMap("a", "4"), { fieldManager: "other", force: true });
  assert.deepEqual(forced.data, { a: "4", b: "1" });
  await client.patch(ConfigMap, "a", [{ op: "remove", path: "/data/b" }], { namespace, type: "json" });
  assert.deepEqual((await client.get(ConfigMap, "a", { namespace })).data, { a: "4" });
  const { data, metadata } = await client.get(ConfigMap, "a", { namespace, metadataOnly: true });
  assert.equal(data, undefined);
  await client.create(ConfigMap, configMap("dry", "1"), { dryRun: true });
  await refused("NOT_FOUND", client.get(ConfigMap, "dry", { namespace }));
  await refused("CONFLICT", client.delete(ConfigMap, "a", { namespace, uid: "another" }));
  assert.equal(await client.delete(ConfigMap, "a", { namespace, uid: metadata.uid }), true);
  assert.equal(await client.delete(ConfigMap, "a", { namespace }), false);
}

async function laterKind(client: ApiClient): Promise<void> {
  const clock = {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms: number, signal?: AbortSignal) => client.clock.sleep(Math.min(ms, 200), signal),
  };
  const reflector = new Reflector(client, CiliumNode, { prune: ({ spec }) => ({ spec }), clock }).start();
  await reflector.waitSettled();
  assert.equal(reflector.state, "ABSENT");
  const { kind, plural, group, version } = CiliumNode;
  const open = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  await client.apply(CustomResourceDefinition, {
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: "Cluster",
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{
        name: version,
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema: { type: "object", properties: { spec: open, status: open } } },
      }],
    },
  });
  await until("the kind is there", () => reflector.state === "WATCHING", 50);
  const node = await client.create(CiliumNode, { metadata: { name: "n" }, spec: { a: 1 } });
  await until("its object is there", () => reflector.has("n"), 20);
  // What is no status stays as it is.
  await client.updateStatus(CiliumNode, { ...node, spec: { a: 2 }, status: { b: 3 } });
  const found = await client.get(CiliumNode, "n");
  assert.deepEqual([found.spec, found.status], [{ a: 1 }, { b: 3 }]);
  await reflector.stop();
}

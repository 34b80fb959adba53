/** Kinds of policies whose definitions Weir does not install, at an API server that has none of them, and then one. @module */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { ApiClient, RESOURCES } from "@weir/kubernetes";
import { FakeApiServer, heldBody } from "../../services/kubernetes/testing/fake_api_server.ts";
import { Plane } from "./plane.ts";

const { AdminNetworkPolicy } = RESOURCES;

Deno.test("kubernetes service reads policies of administrators once somebody has installed their kind, and lacks nothing before", async () => {
  await using server = new FakeApiServer(AdminNetworkPolicy);
  await using plane = new Plane();
  await plane.start();
  const streams: { end(): void }[] = [];
  let isInstalled = false;
  server.intercept = async (request, url) => {
    // What it writes of the cluster is as it wrote it.
    if (request.method !== "GET") return Response.json(JSON.parse(await request.text()));
    const isOurs = url.pathname.endsWith(`/${AdminNetworkPolicy.plural}`);
    if (isOurs && isInstalled) return undefined;
    if (url.pathname.startsWith(`/apis/${AdminNetworkPolicy.group}/`)) {
      return new Response("404 page not found\n", { status: 404 });
    }
    if (url.searchParams.get("watch") !== "true") {
      return Response.json({ kind: "List", metadata: { resourceVersion: "1" }, items: [] });
    }
    const stream = heldBody();
    streams.push(stream);
    return new Response(stream.body);
  };
  const client = new ApiClient({ server: server.url, authorities: [] });
  const service = plane.kubernetes(client);
  const readiness = async () =>
    await (await service.api.fetch(new Request("http://x/readyz?verbose"))).text();
  const spec = {
    priority: 7,
    subject: { namespaces: {} },
    ingress: [{ name: "no-db", action: "Deny", from: [{ namespaces: { matchLabels: { team: "db" } } }] }],
  };
  const stateOf = (plural: string) =>
    service.reflections().find(({ name }) => name.startsWith(`${plural}.`))?.state;
  await until("everything else is read", () => service.api.health.ready);
  assert.equal(stateOf(AdminNetworkPolicy.plural), "ABSENT");
  assert.doesNotMatch(await readiness(), /ABSENT/);
  isInstalled = true;
  server.objects.set("a", {
    apiVersion: "policy.networking.k8s.io/v1alpha1",
    kind: "AdminNetworkPolicy",
    metadata: { name: "a", uid: "u", resourceVersion: "101" },
    spec,
    status: { conditions: [] },
  });
  await until("it is taken up", async () => await plane.policyNames() === "anp:a");
  const { manifest, file } = (await plane.policies.get("anp:a"))!;
  assert.equal(file, "kubernetes:AdminNetworkPolicy/a");
  assert.deepEqual(JSON.parse(manifest).spec, spec);
  assert.equal(stateOf("clusternetworkpolicies"), "ABSENT");
  await service.stop();
  for (const stream of streams) stream.end();
  server.endWatches();
  client.close();
});

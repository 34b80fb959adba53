import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { EndpointFiles } from "./endpoint_store.ts";

Deno.test("EndpointFiles.load() gives back what save() was given and sets broken files aside", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const store = new EndpointFiles(`${directory}/endpoints`);
    assert.deepEqual(await store.load(), { endpoints: [], broken: [] });
    const kept = Endpoint.create({
      name: "default/web",
      netns: "/run/netns/web",
      labels: ["k8s:app=web"],
      status: { id: 7, ipv4: "10.0.0.5", state: "READY", identity: 300 },
    });
    await store.save(kept.name, () => kept);
    await Deno.writeTextFile(`${directory}/endpoints/broken.json`, '{"name": 5');
    const { endpoints, broken } = await store.load();
    assert.equal(endpoints.length, 1);
    assert.equal(endpoints[0].endpoint.status?.id, 7);
    assert.equal(endpoints[0].endpoint.status?.state, "STATE_UNSPECIFIED");
    assert.match(broken[0].file, /broken\.json$/);
    assert.equal((await store.load()).broken.length, 0);
    await store.remove("default/web");
    await store.remove("default/web");
    assert.equal((await store.load()).endpoints.length, 0);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("EndpointFiles.load() reads what version bb843b6 wrote (testdata/endpoints-0), and save() loses none of it", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const old = new URL("testdata/endpoints-0/", import.meta.url);
    for await (const { name } of Deno.readDir(old)) {
      await Deno.copyFile(new URL(encodeURIComponent(name), old), `${directory}/${name}`);
    }
    const store = new EndpointFiles(directory);
    const { endpoints, broken } = await store.load();
    assert.deepEqual(broken, []);
    const [nginx, web] = endpoints.map(({ endpoint }) => endpoint);
    assert.deepEqual(endpoints.map(({ deleting }) => deleting), [false, false]);
    assert.deepEqual([nginx.name, nginx.cgroup], ["nginx", "/sys/fs/cgroup/system.slice/nginx.service"]);
    assert.deepEqual([nginx.status?.id, nginx.status?.identity, nginx.labels], [9, 301, [
      "unspec:app=nginx",
    ]]);
    assert.deepEqual([web.name, web.netns, web.namedPorts[0]?.name], [
      "shop/web-1",
      "/run/netns/web",
      "http",
    ]);
    const { id, identity, ipv4, ipv6, mac } = web.status!;
    assert.deepEqual([id, identity, ipv4, ipv6, mac], [7, 300, "10.0.0.5", "fd00::5", "02:00:00:00:00:05"]);
    for (const { endpoint } of endpoints) await store.save(endpoint.name, () => endpoint);
    assert.deepEqual((await store.load()).endpoints, endpoints);
    const names = [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["nginx.json", "shop%2Fweb-1.json"], "in the same files");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { EndpointStore } from "./endpoint_store.ts";

Deno.test("EndpointStore.load() gives back what save() was given and sets broken files aside", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const store = new EndpointStore(`${directory}/endpoints`);
    assert.deepEqual(await store.load(), { endpoints: [], broken: [] });
    await store.save(Endpoint.create({
      name: "default/web",
      netns: "/run/netns/web",
      labels: ["k8s:app=web"],
      status: { id: 7, ipv4: "10.0.0.5", state: "READY", identity: 300 },
    }));
    await Deno.writeTextFile(`${directory}/endpoints/broken.json`, '{"name": 5');
    const { endpoints, broken } = await store.load();
    assert.equal(endpoints.length, 1);
    assert.equal(endpoints[0].status?.id, 7);
    assert.equal(endpoints[0].status?.state, "STATE_UNSPECIFIED");
    assert.match(broken[0].file, /broken\.json$/);
    assert.equal((await store.load()).broken.length, 0);
    await store.remove("default/web");
    await store.remove("default/web");
    assert.equal((await store.load()).endpoints.length, 0);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

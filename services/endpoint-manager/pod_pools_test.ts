import assert from "node:assert/strict";
import { IpAddress } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Endpoint } from "@weir/proto/endpoint";
import { NodePool } from "@weir/proto/identity";
import { PodAddresses } from "./ipam.ts";
import { BLOCK_REST_MS, PodPools } from "./pod_pools.ts";
import { TestNode } from "./testing.ts";

const given = (pool: string, cidrs: string[], error = "", families = [4]) =>
  NodePool.create({ pool, cidrs, error, families });
function bench() {
  const clock = new FakeClock();
  const asked: string[] = [];
  const pools: PodPools = new PodPools({
    clock,
    onNeed: () =>
      asked.push(
        pools.requests().map(({ pool, neededV4, neededV6 }) => `${pool} ${neededV4} ${neededV6}`).join(),
      ),
  });
  return { clock, asked, pools };
}

Deno.test("PodPools asks for a pool with its first endpoint, for more before it is empty, and says why there is none", () => {
  const { asked, pools } = bench();
  assert.throws(() => pools.allocate("edge", 4, "a"), /no block of edge yet/);
  assert.deepEqual(asked.splice(0), ["edge 8 0"]);
  pools.take([given("edge", ["10.50.0.0/28"])]);
  const names = Array.from({ length: 9 }, (_, i) => `ep${i}`);
  assert.equal(pools.allocate("edge", 4, "ep")?.text, "10.50.0.2");
  for (const name of names) pools.allocate("edge", 4, name);
  assert.equal(asked.splice(0).at(-1), "edge 18 0", "three are left of thirteen");
  pools.take([given("edge", ["10.50.0.0/28"], "every /28 is taken")]);
  for (const name of ["x", "y", "z"]) pools.allocate("edge", 4, name);
  assert.throws(
    () => pools.allocate("edge", 4, "one more"),
    /all 13 of this node's are in use, and every \/28 is taken/,
  );
  assert.deepEqual(pools.usage().map(({ used, usable, error }) => [used, usable, error]), [[
    13,
    13,
    "every /28 is taken",
  ]]);
  pools.free("10.50.0.7", "somebody else");
  assert.throws(() => pools.allocate("edge", 4, "one more"));
  pools.free("10.50.0.7", "ep4");
  assert.equal(pools.allocate("edge", 4, "one more")?.text, "10.50.0.7");
});

Deno.test("PodPools gives no address of a family that the pool does not have", () => {
  const { pools } = bench();
  assert.throws(() => pools.allocate("edge", 6, "a"));
  pools.take([given("edge", ["10.50.0.0/28"])]);
  assert.equal(pools.allocate("edge", 4, "a")?.text, "10.50.0.2");
  assert.equal(pools.allocate("edge", 6, "a"), undefined);
  pools.take([given("edge", ["10.50.0.0/28"], "", [4, 6])]);
  assert.throws(() => pools.allocate("edge", 6, "a"), /no block of it/);
  pools.take([given("edge", ["10.50.0.0/28", "fd50::/124"], "", [4, 6])]);
  assert.equal(pools.allocate("edge", 6, "a")?.text, "fd50::2");
});

Deno.test("PodPools gives back blocks that were empty for a minute, the last one when nobody uses the pool, and none that it is using", async () => {
  const { clock, pools } = bench();
  pools.take([given("edge", ["10.50.0.0/28", "10.50.0.16/28", "10.50.0.32/28"])]);
  pools.allocate("edge", 4, "a");
  assert.deepEqual(pools.release(), []);
  await clock.advance(BLOCK_REST_MS);
  assert.equal(pools.isDue, true);
  const released = pools.release();
  assert.deepEqual(released, ["10.50.0.16/28"], "two blocks have sixteen to spare");
  pools.keep();
  assert.deepEqual(pools.release(), released);
  pools.take([given("edge", ["10.50.0.0/28", "10.50.0.32/28"])]);
  assert.deepEqual(pools.usage().map(({ name, used }) => [name, used]), [["10.50.0.0/28", 1], [
    "10.50.0.32/28",
    0,
  ]]);
  pools.free("10.50.0.2", "a");
  await clock.advance(BLOCK_REST_MS);
  assert.deepEqual(pools.requests(), []);
  assert.deepEqual(pools.release(), ["10.50.0.0/28", "10.50.0.32/28"]);
  assert.throws(() => pools.allocate("edge", 4, "b"), "they are being given back");
});

Deno.test("PodAddresses goes on behind the address that was given last, in the next process too", () => {
  const pool = new PodAddresses("10.0.0.0/29");
  for (const name of ["a", "b", "c"]) pool.allocate(name);
  pool.release("10.0.0.4", "c");
  const next = new PodAddresses("10.0.0.0/29", pool.lastGiven);
  next.claim(IpAddress.parse("10.0.0.2"), "a");
  next.claim(IpAddress.parse("10.0.0.3"), "b");
  assert.deepEqual([1, 2, 3].map((i) => next.allocate(`n${i}`).text), ["10.0.0.5", "10.0.0.6", "10.0.0.4"]);
  assert.equal(new PodAddresses("10.0.0.0/29", "10.0.0.6").allocate("x").text, "10.0.0.2", "in a circle");
  assert.equal(new PodAddresses("10.0.0.0/29", "192.0.2.1").allocate("x").text, "10.0.0.2", "another node's");
});

const endpoint = (name: string, more: Partial<Endpoint> = {}) =>
  Endpoint.create({ name, netns: `/run/netns/${name.replace("/", "-")}`, labels: ["k8s:app=web"], ...more });

Deno.test("EndpointManager gives an address of the pool that an endpoint names, asks for more, and keeps it over a restart", async () => {
  await using node = await new TestNode().start();
  const { neighbours } = node;
  neighbours.poolBlocks = (requests) =>
    requests.map(({ pool = "", neededV4 = 0 }) => ({
      pool,
      cidrs: Array.from({ length: Math.ceil(neededV4 / 13) }, (_, i) => `10.50.0.${16 * i}/28`),
    }));
  const put = async (name: string) => {
    const { status } = await node.manager.put(name, endpoint(name, { poolV4: "edge" }));
    return `${status?.ipv4} ${status?.ipv6}`;
  };
  assert.equal(await put("default/a"), "10.50.0.2 fd00:1::2");
  for (let i = 0; i < 13; i++) await put(`default/more-${i}`);
  assert.equal(await put("default/last"), "10.50.0.19 fd00:1::10");
  await node.settle();
  const remote = () => node.manager.addresses().filter(({ pool }) => pool === "edge").map(({ used }) => used);
  assert.deepEqual(remote(), [13, 2]);
  await node.restart();
  assert.deepEqual(remote(), [13, 2]);
  assert.equal(node.manager.table.view.get("default/last")?.status?.ipv4, "10.50.0.19");
  await assert.rejects(
    node.manager.put("default/a", endpoint("default/a", { poolV4: "core" })),
    { code: "ENDPOINT_IMMUTABLE" },
  );
});

Deno.test("EndpointManager says of an endpoint whose pool has nothing left why, and leaves nothing of it", async () => {
  await using node = await new TestNode().start();
  node.neighbours.poolBlocks = (requests) =>
    requests.map(({ pool }) => ({ pool, error: "every /28 of 10.50.0.0/26 is taken" }));
  await assert.rejects(node.manager.put("default/a", endpoint("default/a", { poolV4: "edge" })), {
    code: "IPAM_EXHAUSTED",
    message:
      /address of pool edge: this node has no block of it, and every \/28 of 10\.50\.0\.0\/26 is taken/,
  });
  assert.equal(node.manager.table.view.get("default/a"), undefined);
  const [short] = node.manager.addresses().filter(({ pool }) => pool === "edge");
  assert.deepEqual([short.name, short.error], ["pool:edge", "every /28 of 10.50.0.0/26 is taken"]);
});

Deno.test("EndpointManager does not give the address that was freed last to the first endpoint after a restart", async () => {
  await using node = await new TestNode().start();
  for (const name of ["default/a", "default/b"]) await node.manager.put(name, endpoint(name));
  await node.settle();
  await node.manager.delete("default/b");
  await node.settle();
  await node.restart();
  const { status } = await node.manager.put("default/c", endpoint("default/c"));
  assert.deepEqual([status?.ipv4, status?.ipv6], ["10.0.1.4", "fd00:1::4"]);
});

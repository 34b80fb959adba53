import assert from "node:assert/strict";
import { PodPool } from "@weir/proto/identity";
import { WeirClient } from "@weir/client";
import { type Case, open, testOnBoth } from "./testing.ts";

type Open = Awaited<ReturnType<typeof open>>;
const pools = (a: Open) => new WeirClient({ handler: a.allocator.api.fetch }).collection("podpools", PodPool);
const EDGE = { cidrsV4: ["10.50.0.0/26"], lengthV4: 28, cidrsV6: ["fd50::/120"], lengthV6: 124 };
const needs = (neededV4: number, neededV6 = 0, pool = "edge") => ({
  requestedPools: [{ pool, neededV4, neededV6 }],
});

const CASES: Record<string, Case> = {
  async "a node gets blocks until it has what it needs, keeps them, and gives back what it names"(url) {
    const a = await open(url);
    await pools(a).put("edge", EDGE);
    const blocks = async (node: string, more: Parameters<typeof a.nodes.put>[1]) => {
      const { pools } = await a.nodes.put(node, more);
      return pools.map(({ pool, cidrs, error }) => `${pool} ${cidrs.join()}${error && ` (${error})`}`).join(
        "; ",
      );
    };
    assert.equal(await blocks("n1", needs(8, 8)), "edge 10.50.0.0/28,fd50::/124");
    assert.equal(await blocks("n1", needs(14)), "edge 10.50.0.0/28,10.50.0.16/28,fd50::/124");
    assert.equal(
      await blocks("n1", {}),
      "edge 10.50.0.0/28,10.50.0.16/28,fd50::/124",
      "it keeps what it has",
    );
    assert.equal(
      await blocks("n2", needs(27)),
      "edge 10.50.0.32/28,10.50.0.48/28 (every /28 of 10.50.0.0/26 (pool edge) is taken)",
    );
    assert.deepEqual(
      (await pools(a).get("edge"))!.status,
      { blocksV4: 4, usedV4: 4, blocksV6: 16, usedV6: 1 },
    );
    assert.equal(
      await blocks("n1", { ...needs(8), releasedCidrs: ["10.50.0.0/28"] }),
      "edge 10.50.0.16/28,fd50::/124",
    );
    assert.equal(await blocks("n2", needs(27)), "edge 10.50.0.0/28,10.50.0.32/28,10.50.0.48/28");
    await a.nodes.delete("n2");
    assert.equal(
      await blocks("n1", needs(40)),
      "edge 10.50.0.0/28,10.50.0.16/28,10.50.0.32/28,10.50.0.48/28,fd50::/124",
    );
    await a.close();
  },

  async "a pool that is not there keeps no node from registering; it gets its blocks when the pool is"(url) {
    const a = await open(url);
    const [missing] = (await a.nodes.put("n1", needs(8))).pools;
    assert.deepEqual([missing.cidrs, missing.error], [[], "there is no pool edge"]);
    await pools(a).put("edge", { cidrsV4: ["10.50.0.0/26"], lengthV4: 28 });
    const [given] = (await a.nodes.put("n1", needs(8, 8))).pools;
    assert.deepEqual([given.cidrs, given.error], [["10.50.0.0/28"], ""], "it has no IPv6, which is no error");
    await pools(a).delete("edge");
    assert.deepEqual((await a.nodes.put("n1", {})).pools[0].cidrs, ["10.50.0.0/28"], "in use");
    await a.close();
  },

  async "blocks that a node says it has are taken where they are blocks of the pool and nobody else's"(url) {
    const a = await open(url);
    await pools(a).put("edge", EDGE);
    const has = (...cidrs: string[]) => ({ pools: [{ pool: "edge", cidrs }] });
    assert.deepEqual((await a.nodes.put("n1", has("10.50.0.32/28"))).pools[0].cidrs, ["10.50.0.32/28"]);
    const [other] = (await a.nodes.put("n2", has("10.50.0.32/28", "10.50.0.0/27", "192.0.2.0/28"))).pools;
    assert.deepEqual(other.cidrs, []);
    assert.match(other.error, /192\.0\.2\.0\/28 is no block of pool edge/);
    await a.close();
  },

  async "blocks of the cluster's pool and of a named one within it never overlap"(url) {
    const a = await open(url, { podPoolV4: "10.9.0.0/22", podPoolV6: "" });
    await pools(a).put("in", { cidrsV4: ["10.9.0.0/23"], lengthV4: 25 });
    assert.equal((await a.nodes.put("n1", {})).podCidrV4, "10.9.0.0/24");
    assert.deepEqual((await a.nodes.put("n1", needs(8, 0, "in"))).pools[0].cidrs, ["10.9.1.0/25"]);
    assert.equal((await a.nodes.put("n2", {})).podCidrV4, "10.9.2.0/24");
    await a.close();
  },

  async "pools that overlap, have blocks that do not fit, or names that are none are refused"(url) {
    const a = await open(url);
    await pools(a).put("edge", EDGE);
    await pools(a).put("edge", { ...EDGE, cidrsV4: ["10.50.0.0/24"] });
    const cases: [string, Parameters<ReturnType<typeof pools>["put"]>[1], string][] = [
      ["two", { cidrsV4: ["10.50.0.128/25"], lengthV4: 28 }, "POD_POOL_OVERLAPS"],
      ["two", { cidrsV4: ["10.51.0.0/24", "10.51.0.0/25"], lengthV4: 28 }, "POD_POOL_OVERLAPS"],
      ["two", { cidrsV4: ["10.51.0.0/24"], lengthV4: 23 }, "INVALID_ARGUMENT"],
      ["two", { cidrsV4: ["10.51.0.0/24"], lengthV4: 31 }, "INVALID_ARGUMENT"],
      ["two", { cidrsV4: ["fd50::/64"], lengthV4: 80 }, "INVALID_ARGUMENT"],
      ["two", {}, "INVALID_ARGUMENT"],
      ["Two", EDGE, "INVALID_ARGUMENT"],
    ];
    for (const [name, pool, code] of cases) {
      await assert.rejects(pools(a).put(name, pool), { code }, JSON.stringify(pool));
    }
    await assert.rejects(a.nodes.put("n1", needs(100_000)), { code: "INVALID_ARGUMENT" });
    await a.close();
  },
};

testOnBoth("PoolBlocks", CASES);

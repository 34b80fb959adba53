/** While prefixes and policies come and go, whatever restarts, no write to the kernel opens or cuts what both policies agree on. */
import assert from "node:assert/strict";
import { IDENTITY_WORLD_IPV4, IpAddress, MapState as Lookup, Prefix, ProblemError } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { MapState, MapStateEntry } from "@weir/proto/policy";
import { TestNode } from "./testing.ts";

const SUBJECT = 256;
const WIDE = { prefix: "198.51.0.0/16", identity: 0x100_0001, labels: [] };
const NARROW = { prefix: "198.51.100.0/24", identity: 0x100_0002, labels: [] };
const OTHER = { prefix: "203.0.113.0/24", identity: 0x100_0003, labels: [] };
/** Every policy set of these tests denies the first and allows the second. */
const DENIED = IpAddress.parse("198.51.100.7"), ALLOWED = IpAddress.parse("203.0.113.7");

const entry = (identity: number, deny = false) =>
  MapStateEntry.create({ direction: "EGRESS", identity, deny, precedence: deny ? 2 : 1 });

interface PolicySet {
  readonly prefixes: readonly typeof WIDE[];
  readonly entries: readonly MapStateEntry[];
  readonly silent?: readonly number[];
}
const SETS: readonly PolicySet[] = [
  // Closed, but for one prefix.
  { prefixes: [OTHER], entries: [entry(OTHER.identity)] },
  // Open, but for one prefix.
  { prefixes: [NARROW], entries: [entry(IDENTITY_WORLD_IPV4), entry(NARROW.identity, true)] },
  // Open, with an exception that has no entry.
  { prefixes: [NARROW], entries: [entry(IDENTITY_WORLD_IPV4)], silent: [NARROW.identity] },
  // Another prefix around the same address, and one that is open.
  {
    prefixes: [WIDE, OTHER],
    entries: [entry(IDENTITY_WORLD_IPV4), entry(WIDE.identity, true), entry(OTHER.identity)],
  },
  // The same prefix under another identity.
  {
    prefixes: [{ ...NARROW, identity: 0x100_0009 }],
    entries: [entry(IDENTITY_WORLD_IPV4), entry(0x100_0009, true)],
  },
];

/** A node with one endpoint and a policy set in force, and what its kernel lets through. */
async function withPolicy(first: PolicySet) {
  const node = await new TestNode().start();
  const { neighbours } = node,
    { mapStateTable, cidrTable, kernel, kernelPolicies, kernelIpcache } = neighbours;
  let revision = 1;
  const publish = {
    prefixes(set: PolicySet) {
      for (const name of [...cidrTable.rows.keys()]) {
        if (!set.prefixes.some(({ prefix }) => prefix === name)) cidrTable.delete(name);
      }
      for (const row of set.prefixes) cidrTable.put(row.prefix, row);
      cidrTable.beat();
    },
    mapState({ entries, silent = [] }: PolicySet) {
      mapStateTable.put(
        `${SUBJECT}`,
        MapState.create({
          identity: SUBJECT,
          policyRevision: ++revision,
          enforceEgress: true,
          entries: [...entries],
          selfDescribed: true,
          silent: [...silent],
        }),
      );
      mapStateTable.beat();
    },
  };
  const passes = (address: IpAddress) => {
    let identity = IDENTITY_WORLD_IPV4, longest = -1;
    for (const [text, of] of kernelIpcache) {
      const prefix = Prefix.parse(text);
      if (prefix.length > longest && prefix.contains(address)) [identity, longest] = [of, prefix.length];
    }
    const policy = kernelPolicies.get(kernel.get("default/a")!.policy)!;
    return Lookup.of(MapState.create(policy)).lookup(identity, "EGRESS", 17, 53).allowed;
  };
  publish.prefixes(first);
  publish.mapState(first);
  await node.manager.put(
    "default/a",
    Endpoint.create({ name: "default/a", netns: "/run/netns/a", labels: ["k8s:app=a"] }),
  );
  await node.settle();
  const wrong: string[] = [];
  let writes = 0;
  neighbours.onKernel = () => {
    writes++;
    if (passes(DENIED)) wrong.push(`write ${writes}: what both deny passes`);
    if (!passes(ALLOWED)) wrong.push(`write ${writes}: what both allow does not pass`);
  };
  const policyInForce = () => kernelPolicies.get(`${SUBJECT}`);
  return { node, neighbours, publish, wrong, passes, policyInForce, writes: () => writes };
}

const RESTARTS: Record<string, (node: TestNode, news: () => void) => Promise<void>> = {
  // deno-lint-ignore require-await
  "nothing restarts": async (_, news) => news(),
  "the endpoint manager restarts": async (node, news) => {
    news();
    await node.restart();
  },
  "the datapath restarts": async (node, news) => {
    node.neighbours.restartDatapath();
    node.neighbours.forgetPolicies();
    news();
    node.neighbours.reconnect();
    await node.settle();
  },
  "the datapath restarts, and the node hears of it late": async (node, news) => {
    node.neighbours.restartDatapath();
    node.neighbours.forgetPolicies();
    news();
    await node.settle();
    await node.pass(3_000);
    node.neighbours.reconnect();
    await node.settle();
  },
  "both restart": async (node, news) => {
    node.neighbours.restartDatapath();
    node.neighbours.forgetPolicies();
    node.neighbours.datapathTable.epoch = node.neighbours.datapathEpoch;
    news();
    await node.restart();
  },
};

for (const [what, restart] of Object.entries(RESTARTS)) {
  for (const order of ["prefixes first", "map state first"] as const) {
    Deno.test(`${what}, ${order}: at every write what both policy sets deny is closed and what both allow is open`, async () => {
      for (const [from, before] of SETS.entries()) {
        for (const [to, after] of SETS.entries()) {
          if (from === to) continue;
          const bench = await withPolicy(before);
          await using node = bench.node;
          const { publish, wrong, neighbours, policyInForce } = bench;
          await restart(node, () => {
            if (order === "prefixes first") publish.prefixes(after);
            publish.mapState(after);
            if (order !== "prefixes first") publish.prefixes(after);
          });
          await node.settle();
          await node.pass(15_000);
          assert.deepEqual(wrong, [], `from set ${from} to ${to}`);
          assert.ok(bench.writes() > 0);
          assert.deepEqual(
            policyInForce()?.entries,
            after.entries,
            `from set ${from} to ${to}: no copy is left`,
          );
          assert.equal(neighbours.kernel.get("default/a")!.policy, `${SUBJECT}`);
          const prefixes = [...neighbours.kernelIpcache].filter(([, identity]) => identity >= 0x100_0000);
          assert.deepEqual(
            new Map(prefixes),
            new Map(after.prefixes.map(({ prefix, identity }) => [prefix, identity])),
            `from set ${from} to ${to}`,
          );
        }
      }
    });
  }
}

Deno.test("a map state waits for its prefixes, however long, and says so; what was in force stays", async () => {
  const bench = await withPolicy(SETS[0]);
  await using node = bench.node;
  const { publish, wrong, policyInForce } = bench;
  publish.mapState(SETS[1]);
  await node.pass(120_000);
  assert.deepEqual(policyInForce()?.entries, SETS[0].entries);
  const conditions = () => node.manager.table.view.get("default/a")!.status!.conditions.map((c) => c.message);
  assert.match(conditions().join(), /made with a prefix \(identity 16777218\)/);
  publish.prefixes(SETS[1]);
  await node.pass(5_000);
  assert.deepEqual([policyInForce()?.entries, wrong, conditions()], [SETS[1].entries, [], []]);
});

Deno.test("prefixes stay out while a policy has no room to cover them, and policies that mean them wait", async () => {
  const bench = await withPolicy(SETS[1]);
  await using node = bench.node;
  const { publish, wrong, neighbours, policyInForce, passes } = bench;
  neighbours.fail = "putPolicy";
  neighbours.failure = new ProblemError("POLICY_MAP_FULL", { status: 507, detail: "full" });
  publish.prefixes(SETS[3]);
  publish.mapState(SETS[3]);
  await node.pass(90_000);
  assert.deepEqual(policyInForce()?.entries, SETS[1].entries);
  assert.equal(neighbours.kernelIpcache.has(WIDE.prefix), false);
  assert.equal(neighbours.kernelIpcache.has(NARROW.prefix), true, "the policy in force knows it");
  assert.deepEqual([passes(DENIED), passes(ALLOWED)], [false, true]);
  neighbours.fail = undefined;
  await node.pass(30_000);
  assert.deepEqual([policyInForce()?.entries, wrong], [SETS[3].entries, []]);
});

Deno.test("a policy engine that does not say which prefixes it knows is taken to know all of them", async () => {
  const bench = await withPolicy(SETS[0]);
  await using node = bench.node;
  const { publish, neighbours, policyInForce } = bench;
  publish.prefixes(SETS[1]);
  neighbours.mapStateTable.put(
    `${SUBJECT}`,
    MapState.create({
      identity: SUBJECT,
      policyRevision: 9,
      enforceEgress: true,
      entries: [...SETS[1].entries],
    }),
  );
  await node.settle();
  await node.pass(5_000);
  assert.deepEqual(policyInForce()?.entries, SETS[1].entries);
  assert.deepEqual(
    [...neighbours.kernelIpcache].filter(([, identity]) => identity >= 0x100_0000).map(([prefix]) => prefix),
    [NARROW.prefix],
  );
});

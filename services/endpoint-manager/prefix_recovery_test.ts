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
    mapState({ entries, silent = [] }: PolicySet, identity = SUBJECT) {
      mapStateTable.put(
        `${identity}`,
        MapState.create({
          identity,
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
  const passes = (address: IpAddress, endpoint = "default/a") => {
    let identity = IDENTITY_WORLD_IPV4, longest = -1;
    for (const [text, of] of kernelIpcache) {
      const prefix = Prefix.parse(text);
      if (prefix.length > longest && prefix.contains(address)) [identity, longest] = [of, prefix.length];
    }
    const policy = kernelPolicies.get(kernel.get(endpoint)!.policy)!;
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

Deno.test("a prefix that has no room in the kernel keeps the policies that mean it waiting, and no others", async () => {
  const bench = await withPolicy(SETS[0]);
  await using node = bench.node;
  const { publish, wrong, neighbours, policyInForce } = bench;
  const left = { prefix: "192.0.2.0/28", identity: 0x100_0007, labels: [] };
  neighbours.roomless.add(left.prefix);
  // A prefix has another number from now on, and another one finds no room.
  const moved = { ...OTHER, identity: 0x100_0008 };
  const after = {
    prefixes: [moved, NARROW, left],
    entries: [entry(moved.identity)],
  };
  publish.prefixes(after);
  publish.mapState(after);
  await node.pass(30_000);
  assert.deepEqual([policyInForce()?.entries, wrong], [after.entries, []]);
  publish.mapState({ ...after, entries: [...after.entries, entry(left.identity)] });
  await node.pass(30_000);
  assert.deepEqual(policyInForce()?.entries, after.entries, "it waits for the one without room");
  neighbours.roomless.clear();
  neighbours.kernelIpcache.set(left.prefix, left.identity);
  publish.prefixes({ ...after, prefixes: [...after.prefixes, { ...WIDE, identity: 0x100_0009 }] });
  await node.pass(30_000);
  assert.equal(policyInForce()?.entries.length, 2);
  assert.deepEqual(wrong, []);
});

Deno.test("a policy that is full holds up the prefixes that it tells from what is around them, and no others", async () => {
  const bench = await withPolicy(SETS[0]);
  await using node = bench.node;
  const { publish, wrong, neighbours, policyInForce, passes } = bench;
  const { kernelIpcache } = neighbours;
  const second = SUBJECT + 1;
  await node.manager.put(
    "default/b",
    Endpoint.create({ name: "default/b", netns: "/run/netns/b", labels: ["k8s:app=b"] }),
  );
  publish.mapState({ prefixes: [OTHER], entries: [entry(IDENTITY_WORLD_IPV4)] }, second);
  await node.settle();
  assert.equal(passes(DENIED, "default/b"), true);
  neighbours.policyEntriesMax = 1;
  // One inside of what the first policy allows, the same prefix anew, and one that is nothing to it.
  const inner = { prefix: "203.0.113.128/25", identity: 0x100_0004, labels: [] };
  const again = { ...WIDE, identity: 0x100_0005 };
  const after = { prefixes: [OTHER, inner, NARROW, again], entries: [entry(IDENTITY_WORLD_IPV4)] };
  publish.prefixes(after);
  // The second policy makes an exception of it; the world's entries are not copied for the others.
  publish.mapState(
    { ...after, silent: [NARROW.identity, inner.identity, again.identity, OTHER.identity] },
    second,
  );
  await node.pass(60_000);
  assert.deepEqual(
    [NARROW, again, OTHER, inner].map(({ prefix }) => kernelIpcache.get(prefix)),
    [undefined, undefined, OTHER.identity, undefined],
    "the second one is full too, and would judge each otherwise",
  );
  // It has room for the copies, but the first one has not.
  neighbours.policyEntriesMax = 5;
  const fill = [300, 301, 302, 303].map((identity) =>
    MapStateEntry.create({ direction: "INGRESS", identity, precedence: 1 })
  );
  const full = { prefixes: after.prefixes, entries: [entry(OTHER.identity), ...fill] };
  publish.mapState(full);
  await node.pass(60_000);
  assert.deepEqual(policyInForce()?.entries, full.entries);
  assert.deepEqual(
    [NARROW, again, OTHER, inner].map(({ prefix }) => kernelIpcache.get(prefix)),
    [NARROW.identity, again.identity, OTHER.identity, undefined],
    "the first one tells only the inner one from what is around it",
  );
  assert.deepEqual([passes(ALLOWED), passes(IpAddress.parse("203.0.113.200"))], [true, true]);
  const condition = () => node.manager.table.view.get("default/b")!.status!.conditions.map((c) => c.message);
  assert.match(condition().join(), /made with a prefix \(identity 16777220\)/, "who means that one waits");
  publish.mapState({ ...after, silent: [NARROW.identity, again.identity] }, second);
  await node.pass(20_000);
  assert.deepEqual([passes(DENIED, "default/b"), condition()], [false, []], "and nobody else");
  // Its own prefix under another identity: the old one stays, and with it the policy.
  const moved = { ...OTHER, identity: 0x100_0006 };
  publish.prefixes({ ...after, prefixes: [moved, inner, NARROW, again] });
  publish.mapState({ ...full, entries: [entry(moved.identity), ...fill] });
  await node.pass(60_000);
  assert.equal(kernelIpcache.get(OTHER.prefix), OTHER.identity);
  assert.deepEqual(policyInForce()?.entries, full.entries);
  neighbours.policyEntriesMax = 7;
  await node.pass(60_000);
  assert.deepEqual(
    [...kernelIpcache].filter(([, identity]) => identity >= 0x100_0000).sort(),
    [moved, inner, NARROW, again].map(({ prefix, identity }) => [prefix, identity]).sort(),
  );
  assert.deepEqual(wrong, []);
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

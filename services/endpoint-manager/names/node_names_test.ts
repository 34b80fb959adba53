/** What is answered to who has learnt names, also where disk, policies, ipcache or datapath fail. */
import assert from "node:assert/strict";
import { IDENTITY_WORLD_IPV4, ProblemError } from "@weir/common";
import { Endpoint, LearnedNames } from "@weir/proto/endpoint";
import { FqdnSelector, MapState, MapStateEntry } from "@weir/proto/policy";
import { TestNode } from "../testing.ts";
import { NameFile, type NameRecord } from "./name_file.ts";
import { ADDRESSES_PER_NAME_MAX, NameTable, PAIRS_PER_ENDPOINT_MAX } from "./name_table.ts";

const SELECTOR = FqdnSelector.create({
  name: "matchPattern:*.example.com",
  matchPattern: "*.example.com",
  identity: 0x100_1000,
});
const WWW = "www.example.com", ADDRESS = "198.51.100.1";

async function bench(options: { proxy?: boolean } = {}) {
  const node = await new TestNode(options).start();
  const entry = (identity: number, port: number, ruleSet = 0) =>
    MapStateEntry.create({
      direction: "EGRESS",
      identity,
      protocol: 6,
      port,
      portPrefixLength: 16,
      precedence: ruleSet === 0 ? 1 : 2,
      cookie: 1,
      ruleSet,
    });
  const publish = (ruleSet = 0) =>
    node.neighbours.mapStateTable.put(
      "256",
      MapState.create({
        identity: 256,
        policyRevision: 2,
        enforceEgress: true,
        selfDescribed: true,
        fqdnSelectors: [SELECTOR],
        entries: [entry(SELECTOR.identity, 80, ruleSet), entry(IDENTITY_WORLD_IPV4, 443)],
        ruleSets: ruleSet === 0 ? [] : [{ id: ruleSet, kind: "HTTP", http: [{ path: "/public" }] }],
      }),
    );
  publish(options.proxy ? 1 : 0);
  await node.manager.put(
    "default/a",
    Endpoint.create({ name: "default/a", netns: "/run/netns/a", labels: ["k8s:app=a"] }),
  );
  await node.settle();
  const { id } = node.manager.table.get("default/a")!.status;
  const learn = async (name: string, addresses: string[], ttlS = 600): Promise<string> => {
    let result: string | undefined;
    node.manager.names.learn(LearnedNames.create({ names: [{ endpoint: id, name, addresses, ttlS }] }))
      .then(() => result = "ok", (error) => result = error.code);
    await node.turns(800);
    if (result === undefined) await node.pass(2_500);
    return result ?? "no answer";
  };
  const { kernelIpcache, kernelPolicies } = node.neighbours;
  const has = (address: string) => kernelIpcache.get(`${address}/32`);
  return { node, neighbours: node.neighbours, learn, has, policy: () => kernelPolicies.get("256")!, id };
}

Deno.test("NodeNames.learn() is answered when policies have the identity and then the ipcache has the address", async () => {
  const { node, neighbours, learn, has, policy } = await bench();
  await using _ = node;
  neighbours.take();
  assert.equal(await learn("WWW.example.com.", [ADDRESS]), "ok");
  assert.deepEqual(neighbours.take(), ["putPolicy 256", "updateIpcache +1 -0"]);
  const identity = has(ADDRESS)!;
  assert.deepEqual(
    policy().entries.filter((entry) => entry.identity === identity).map(({ port }) => port),
    [80, 443],
    "of the selector and of the world around",
  );
  assert.equal(await learn(WWW, [ADDRESS]), "ok");
  assert.equal(await learn("other.example.com", ["198.51.100.2"]), "ok");
  assert.deepEqual(neighbours.take(), ["updateIpcache +1 -0"], "the same set has the same number");
  assert.equal(has("198.51.100.2"), identity);
  assert.equal(await learn("www.example.org", ["198.51.100.3"]), "ok");
  assert.deepEqual([neighbours.take(), has("198.51.100.3")], [[], undefined], "no policy means it");
});

Deno.test("NodeNames.learn() refuses what is no address, and takes no groups, loopback or mapped ones for others", async () => {
  const { node, learn, has } = await bench();
  await using _ = node;
  assert.equal(await learn(WWW, ["192.0.2.999"]), "INVALID_ARGUMENT");
  assert.equal(
    await learn(WWW, Array.from({ length: ADDRESSES_PER_NAME_MAX + 1 }, () => ADDRESS)),
    "INVALID_ARGUMENT",
  );
  assert.equal(
    await learn(WWW, ["127.0.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "::1", "0.0.0.0"]),
    "ok",
  );
  assert.deepEqual(
    [...node.neighbours.kernelIpcache.values()].filter((identity) => identity >= 0x200_0000),
    [],
  );
  assert.equal(await learn(WWW, [`::ffff:${ADDRESS}`]), "ok");
  assert.ok(has(ADDRESS), "it is that IPv4 address");
});

Deno.test("NodeNames.learn() opens nothing of a name that cannot be kept, and goes on where no policy means it", async () => {
  const { node, learn, has } = await bench();
  await using _ = node;
  node.disk.full = new ProblemError("ENDPOINT_STORE_FAILED", { status: 507, detail: "full" });
  assert.equal(await learn(WWW, [ADDRESS]), "ENDPOINT_STORE_FAILED");
  assert.equal(has(ADDRESS), undefined);
  assert.equal(await learn("www.example.org", [ADDRESS]), "ok");
  node.disk.full = undefined;
  assert.equal(await learn(WWW, [ADDRESS]), "ok");
  assert.ok(has(ADDRESS));
});

Deno.test("NodeNames.learn() says when a policy or the ipcache has no room, or the datapath hangs; later it is in force", async () => {
  const { node, neighbours, learn, has, policy } = await bench();
  await using _ = node;
  const before = structuredClone(policy().entries);
  neighbours.policyEntriesMax = before.length;
  assert.equal(await learn(WWW, [ADDRESS]), "NAMES_NOT_IN_FORCE");
  assert.deepEqual([policy().entries, has(ADDRESS)], [before, undefined], "nothing is opened");
  neighbours.policyEntriesMax = Infinity;
  neighbours.roomless.add(`${ADDRESS}/32`);
  assert.equal(await learn(WWW, [ADDRESS]), "NAMES_NOT_IN_FORCE");
  neighbours.roomless.clear();
  assert.equal(await learn(WWW, [ADDRESS]), "ok");
  assert.ok(has(ADDRESS));
  neighbours.hang.add("updateIpcache");
  assert.equal(await learn("api.example.com", ["198.51.100.9"]), "NAMES_NOT_IN_FORCE");
});

Deno.test("an address that has ended stays while a connection uses it, or one of the same name; then it goes", async () => {
  const { node, neighbours, learn, has, id } = await bench();
  await using _ = node;
  await learn(WWW, [ADDRESS, "198.51.100.2"], 1);
  neighbours.used.add(ADDRESS);
  await node.pass(120_000);
  assert.ok(has(ADDRESS) && has("198.51.100.2"));
  const shown = node.manager.names.shown.get(`${id}/${WWW}`)!;
  assert.deepEqual(shown.addresses.map(({ inUse }) => inUse), [true, true]);
  await node.restart();
  assert.ok(has(ADDRESS), "the next process knows that too");
  neighbours.used.clear();
  await node.pass(60_000);
  assert.deepEqual([has(ADDRESS), node.manager.names.shown.get(`${id}/${WWW}`)], [undefined, undefined]);
});

Deno.test("a pod's address keeps its identity, whatever names it has, also for a process that does not know pods yet", async () => {
  const { node, neighbours, learn, has } = await bench();
  await using _ = node;
  const pod = "10.9.9.9";
  neighbours.ipcacheTable.put(`${pod}/32`, {
    prefix: `${pod}/32`,
    identity: 300,
    node: "node-2",
    nodeIpv4: "192.0.2.2",
    nodeIpv6: "",
    endpoint: "default/b",
    labels: [],
  } as never);
  await node.pass(5_000);
  neighbours.kernelIpcache.set(`${pod}/32`, 300);
  assert.equal(await learn(WWW, [pod]), "ok");
  assert.equal(has(pod), 300);
  for (const table of [neighbours.nodeTable, neighbours.ipcacheTable, neighbours.cidrTable]) {
    table.synced = false;
  }
  await node.restart();
  assert.equal(await learn(WWW, [pod, ADDRESS]), "ok");
  assert.equal(has(pod), 300);
  assert.ok(has(ADDRESS)! >= 0x200_0000, "without the control plane");
});

Deno.test("the L7 proxy has a name's rules before connections to its addresses come to it", async () => {
  const { node, neighbours, learn, has } = await bench({ proxy: true });
  await using _ = node;
  neighbours.take();
  assert.equal(await learn(WWW, [ADDRESS]), "ok");
  assert.deepEqual(neighbours.take(), ["proxy policy 256", "putPolicy 256", "updateIpcache +1 -0"]);
  const entries = node.proxy.policyTable.rows.get("256")!.entries.filter(({ identity }) =>
    identity === has(ADDRESS)
  );
  assert.deepEqual(entries.map(({ port, ruleSet }) => [port, ruleSet]), [[443, 0], [80, 1]]);
});

Deno.test("NameTable keeps what ends last where there is too much", () => {
  const table = new NameTable(() => {}, () => {});
  const addresses = (from: number, count: number) => Array.from({ length: count }, (_, n) => `a${from + n}`);
  table.learn({ endpoint: 1, query: "x", addresses: addresses(0, ADDRESSES_PER_NAME_MAX), untilMs: 1 }, true);
  table.learn({ endpoint: 1, query: "x", addresses: addresses(10_000, 10), untilMs: 2 }, true);
  const { addresses: known } = table.get(1, "x")!;
  assert.deepEqual([known.size, known.has("a10009"), known.has("a0")], [ADDRESSES_PER_NAME_MAX, true, false]);
  for (let n = 0; n < 8; n++) {
    table.learn({ endpoint: 1, query: `n${n}`, addresses: addresses(0, 4000), untilMs: 10 + n }, true);
  }
  assert.ok(table.pairsOf(1) <= PAIRS_PER_ENDPOINT_MAX);
  assert.ok(table.get(1, "n7")!.addresses.size === 4000 && table.evicted > 0);
  table.forget(1);
  assert.deepEqual([table.pairs, [...table.queries()], [...table.queriesOf("a1")]], [0, [], []]);
});

Deno.test("NameFile gives back what was added, drops half a line, and sets a broken file aside", async () => {
  const directory = await Deno.makeTempDir(), path = `${directory}/names.jsonl`;
  try {
    const records: NameRecord[] = [
      { name: { endpoint: 1, query: "x.example", addresses: ["192.0.2.1", "2001:db8::1"], untilMs: 5 } },
      { selector: { identity: 0x100_0001, name: "matchName:x.example" } },
    ];
    await new NameFile(path).add(records);
    await Deno.writeTextFile(path, `{"name":"y.exa`, { append: true });
    const file = new NameFile(path);
    assert.deepEqual(await file.load(), { records, broken: "" });
    await file.add([records[1]]);
    assert.deepEqual((await new NameFile(path).load()).records, [...records, records[1]]);
    await file.replace(records);
    assert.deepEqual((await new NameFile(path).load()).records, records);
    await Deno.writeTextFile(path, `nonsense\n`, { append: true });
    assert.deepEqual(await new NameFile(path).load(), { records, broken: `${path}.broken` });
    assert.deepEqual(await new NameFile(path).load(), { records: [], broken: "" });
    await assert.rejects(new NameFile(`${directory}/none/x`).add(records), { code: "ENDPOINT_STORE_FAILED" });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

/** A database that was lost or is an older copy: nodes know better, and nothing opens until an operator says so. @module */
import assert from "node:assert/strict";
import { ApiServer, type ProblemError, setPeer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { Reflector, WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import {
  ApplyRequest,
  ApplyResponse,
  CidrIdentity,
  MapState,
  NodePolicy,
  PolicyFault,
} from "@weir/proto/policy";
import { createPolicyEngine } from "./create_policy_engine.ts";
import type { PolicyEngine } from "./policy_engine.ts";

const manifest = (name: string) =>
  `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, spec: {endpointSelector: {},
  ingressDeny: [{fromEntities: [world]}], ingress: [{}]}}`;
const MANIFEST = ["a", "b", "c"].map(manifest).join("\n---\n");

/** @param onNodes is given the nodes */
function allocator(onNodes?: (nodes: WatchedTable<Node>) => void): WeirClient {
  const api = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  const nodes = new WatchedTable<Node>({ name: "nodes" });
  api.collection({ name: "identities", message: Identity, table: identities });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  api.collection({ name: "nodes", message: Node, table: nodes });
  nodes.put("node-2", Node.create({ name: "node-2" }));
  onNodes?.(nodes);
  const labels = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];
  identities.put("300", Identity.create({ number: 300, labels }));
  return new WeirClient({ handler: api.fetch });
}

/** The same for every life: one that is made anew has lost what was read. */
const ALLOCATOR = allocator();

async function life(
  database: Database,
  run: (engine: PolicyEngine, client: WeirClient) => Promise<void>,
  directory: WeirClient = ALLOCATOR,
): Promise<void> {
  const engine = createPolicyEngine({ database, allocator: directory });
  engine.start();
  try {
    await engine.waitReady();
    await run(engine, new WeirClient({ handler: engine.handler }));
  } finally {
    await engine.stop();
  }
}

const stateOf = async (client: WeirClient) => (await client.collection("mapstates", MapState).get("300"))!;
const prefixesOf = async (client: WeirClient) =>
  (await client.collection("cidridentities", CidrIdentity).list()).items;
const faultsOf = async (client: WeirClient) =>
  (await client.collection("policyfaults", PolicyFault).list()).items;
const apply = (client: WeirClient, text: string) =>
  client.call("/v1/policies:apply", {
    request: { message: ApplyRequest, value: { manifest: text } },
    response: ApplyResponse,
  });
const accept = (client: WeirClient) =>
  client.call("/v1/policies:accept-database", { method: "POST", response: ApplyResponse });
/** A node says what was in force there. */
const tell = (client: WeirClient, newestPolicyRevision: number, node = "node-2") =>
  client.collection("nodepolicies", NodePolicy).put(node, { node, newestPolicyRevision });
/** A client as a node has it: it says what is in force there with each request, and has one stream. */
const nodeClient = (engine: PolicyEngine, policyRevision: number, node = "node-2", policySet = "") =>
  new WeirClient({ handler: engine.handler }, {
    joint: true,
    headers: () => ({
      "weir-node": node,
      "weir-policy-revision": `${policyRevision}`,
      "weir-policy-set": policySet,
    }),
  });
async function doubted(engine: PolicyEngine): Promise<void> {
  while (engine.follower.faults().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}
/** What a node's stream begins with: its map state and the prefixes, or why there are none. */
async function streamOf(node: WeirClient) {
  const states = new Map<string, MapState>(), problems: Record<string, ProblemError | undefined> = {};
  const backoff = { delayMsMin: 5, delayMsMax: 20 };
  const onState = (name: string) => (error: ProblemError | undefined) => problems[name] ??= error;
  const mapStates = new Reflector(node.collection("mapstates", MapState), {
    names: ["300"],
    onChange: (name, state) => states.set(name, state!),
    onState: onState("mapstates"),
    backoff,
  }).start();
  const prefixes = new Reflector(node.collection("cidridentities", CidrIdentity), {
    onState: onState("cidridentities"),
    backoff,
  }).start();
  const isDecided = (name: string, reflector: { synced: boolean }) =>
    reflector.synced || problems[name] !== undefined;
  while (!isDecided("mapstates", mapStates) || !isDecided("cidridentities", prefixes)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const found = {
    state: states.get("300"),
    prefixes: prefixes.synced ? prefixes.list() : undefined,
    problems,
  };
  await Promise.all([mapStates.stop(), prefixes.stop()]);
  return found;
}
async function isReady(engine: PolicyEngine): Promise<boolean> {
  return (await engine.handler(new Request("http://x/readyz"))).status === 200;
}

Deno.test("An empty database is not believed while a node had policies in force, also by the next process, until it is accepted", async () => {
  const first = new Database("sqlite::memory:"), empty = new Database("sqlite::memory:");
  let revision = 0;
  try {
    await life(first, async (engine, client) => {
      await apply(client, MANIFEST);
      revision = (await stateOf(client)).policyRevision;
      await tell(client, revision);
      await engine.store.store.pull();
      assert.deepEqual(await faultsOf(client), [], "who has what the database has gives no doubt");
      assert.equal(await isReady(engine), true);
    });
    await life(first, async (engine, client) => {
      await tell(client, revision);
      assert.deepEqual([await faultsOf(client), await isReady(engine)], [[], true], "nor after a restart");
    });
    await life(empty, async (engine, client) => {
      await tell(client, 0);
      assert.equal((await stateOf(client)).error, "", "a fresh cluster starts without questions");
      await tell(client, revision);
      await doubted(engine);
      const held = await stateOf(client);
      assert.match(held.error, /older than what is in force on node-2 \(policy revision \d+\): restore/);
      const [fault] = await faultsOf(client);
      assert.deepEqual([fault.name, fault.holds, await isReady(engine)], ["database", true, false]);
    });
    await life(empty, async (engine, client) => {
      // Nobody has told this process anything.
      const held = await stateOf(client);
      assert.deepEqual([held.enforceIngress, held.enforceEgress, held.entries], [true, true, []]);
      assert.notEqual(held.error, "");
      await apply(client, manifest("b"));
      assert.deepEqual((await stateOf(client)).entries, [], "one policy of three is not what was in force");
      const { items } = await accept(client);
      assert.equal(items[0].change, "accepted");
      const state = await stateOf(client);
      assert.ok(state.error === "" && state.entries.some(({ deny }) => deny));
      assert.ok(state.policyRevision > revision, "nodes take it for newer than what they have");
      assert.deepEqual([await faultsOf(client), await isReady(engine)], [[], true]);
      await tell(client, revision);
      await engine.store.store.pull();
      assert.deepEqual(await faultsOf(client), [], "what a node had is older now");
      assert.equal((await accept(client)).items[0].change, "unchanged");
    });
  } finally {
    await first.close();
    await empty.close();
  }
});

Deno.test("A node that has newer policies in force is never given older ones, not even first of all, nor a list without their prefixes", async () => {
  const database = new Database("sqlite::memory:");
  try {
    await life(database, async (engine) => {
      const node = nodeClient(engine, 9);
      const given = Promise.withResolvers<MapState>();
      const mapStates = new Reflector(node.collection("mapstates", MapState), {
        names: ["300"],
        onChange: (_, state) => given.resolve(state!),
      }).start();
      const state = await given.promise;
      await mapStates.stop();
      const stream = await streamOf(node);
      assert.match(stream.state!.error, /older than what is in force on node-2/);
      assert.deepEqual([stream.prefixes, stream.problems.cidridentities?.code], [undefined, "NOT_READY"]);
      assert.match(state.error, /older than what is in force on node-2 \(policy revision 9\)/);
      assert.deepEqual([state.enforceIngress, state.enforceEgress, state.entries], [true, true, []]);
      const withheld = (e: ProblemError) => e.code === "NOT_READY" && /older than/.test(e.message);
      await assert.rejects(prefixesOf(node), withheld);
      await assert.rejects(
        prefixesOf(nodeClient(engine, 0)),
        withheld,
        "nobody takes what is missing for gone",
      );
    });
    await life(database, async (engine, client) => {
      await assert.rejects(prefixesOf(client), /older than/, "nor from the next process");
      await accept(client);
      assert.deepEqual(await prefixesOf(nodeClient(engine, 9)), []);
      assert.equal((await stateOf(nodeClient(engine, 9))).error, "");
    });
  } finally {
    await database.close();
  }
});

Deno.test("What a node cannot know is refused, its name is said, and who is removed is believed no more", async () => {
  const database = new Database("sqlite::memory:");
  let nodes!: WatchedTable<Node>;
  const directory = allocator((table) => nodes = table);
  nodes.put("node-3", Node.create({ name: "node-3" }));
  const until = async (what: () => Promise<boolean> | boolean) => {
    while (!await what()) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  const why = async (client: WeirClient) => (await faultsOf(client))[0]?.error ?? "";
  try {
    await life(database, async (engine, client) => {
      const impossible = (e: ProblemError) => e.code === "INVALID_ARGUMENT" && e.status === 400;
      await assert.rejects(tell(client, 2 ** 48 + 1), impossible);
      await assert.rejects(stateOf(nodeClient(engine, 2 ** 50)), impossible);
      assert.deepEqual(await faultsOf(client), []);
      const stranger = new Request("http://x/v1/mapstates", {
        headers: { "weir-node": "node-2", "weir-policy-revision": "9" },
      });
      setPeer(stranger, { role: "viewer", node: "somebody" });
      await (await engine.handler(stranger)).body?.cancel();
      const other = new Request(stranger);
      setPeer(other, { role: "node", node: "node-3" });
      await (await engine.handler(other)).body?.cancel();
      assert.match(await why(client), /in force on node-3 \(policy revision 9\).*or remove a node that lies/);
      await tell(client, 2 ** 48);
      await until(async () =>
        /on node-2, node-3 \(policy revision 281474976710656\)/.test(await why(client))
      );
      nodes.delete("node-2");
      await until(async () => /on node-3 \(policy revision 9\)/.test(await why(client)));
      nodes.delete("node-3");
      await until(async () => (await stateOf(client)).error === "");
      assert.deepEqual(await faultsOf(client), []);
      await tell(client, 2 ** 48);
      await until(async () => (await why(client)) !== "");
      await accept(client);
      assert.deepEqual(await faultsOf(client), []);
      await apply(client, manifest("a"));
      assert.ok(Number.isSafeInteger((await stateOf(client)).policyRevision), "it goes on counting");
      await tell(client, 2 ** 48);
      await engine.store.store.pull();
      assert.deepEqual(await faultsOf(client), [], "and there is nothing left to claim");
    }, directory);
  } finally {
    await database.close();
  }
});

Deno.test("An older copy that was written to until its numbers are greater is told apart all the same, until it is accepted", async () => {
  const directory = await Deno.makeTempDir({ prefix: "weir-policy-" });
  const [path, old] = [`${directory}/policy.db`, `${directory}/old.db`];
  let database = new Database(`sqlite:${path}`);
  try {
    let before!: NodePolicy;
    await life(database, async (engine, client) => {
      await apply(client, manifest("a"));
      using file = new (await import("node:sqlite")).DatabaseSync(path);
      file.exec(`vacuum into '${old}'`);
      await apply(client, manifest("b"));
      const { policyRevision } = await stateOf(client);
      // A node says how far it is, and is told which policy set that is.
      before = await client.collection("nodepolicies", NodePolicy).put("node-2", {
        node: "node-2",
        epoch: engine.publisher.epoch,
        revision: engine.publisher.mapStates.revision,
        newestPolicyRevision: policyRevision,
      });
      assert.equal(before.policyRevision, policyRevision);
      assert.match(before.policySet, new RegExp(`^${policyRevision}:[0-9a-f]{16}$`));
    });
    await database.close();
    await Deno.copyFile(old, path);
    for (const end of ["-wal", "-shm"]) await Deno.remove(path + end).catch(() => {});
    database = new Database(`sqlite:${path}`);
    const { policyRevision, policySet } = before;
    await life(database, async (engine, client) => {
      for (const name of ["c", "d", "e"]) await apply(client, manifest(name));
      const copy = await stateOf(client);
      assert.ok(copy.error === "" && copy.policyRevision > policyRevision, "by its numbers it is newer");
      assert.equal(
        (await stateOf(nodeClient(engine, policyRevision))).error,
        "",
        "numbers alone say nothing",
      );
      assert.deepEqual(await faultsOf(client), []);
      const { error } = (await streamOf(nodeClient(engine, policyRevision, "node-2"))).state!;
      assert.equal(error, "", "nor in a stream");
      // A node has one stream of both, and says with it what it holds.
      const held = await streamOf(nodeClient(engine, policyRevision, "node-2", policySet));
      assert.match(held.state!.error, /older than what is in force on node-2/);
      assert.deepEqual(held.state!.entries, [], "not even first of all");
      assert.deepEqual([held.prefixes, held.problems.cidridentities?.status], [undefined, 503]);
      assert.match(held.problems.cidridentities!.message, /older than what is in force/);
      await assert.rejects(prefixesOf(client), /older than/);
      assert.equal((await faultsOf(client))[0].holds, true);
    });
    await life(database, async (engine, client) => {
      const held = await stateOf(client);
      assert.match(held.error, /older than what is in force on node-2/, "the next process knows it too");
      assert.deepEqual(held.entries, []);
      await accept(client);
      const node = nodeClient(engine, policyRevision, "node-2", policySet);
      const state = await stateOf(node);
      assert.equal(state.error, "", "what was accepted is asked no more");
      assert.ok(state.policyRevision > policyRevision);
      const own = nodeClient(engine, state.policyRevision, "node-2", engine.follower.policySet);
      assert.equal((await stateOf(own)).error, "", "nor does its own history give doubt");
      const ancient = nodeClient(engine, state.policyRevision, "node-2", `0:${"0".repeat(16)}`);
      assert.equal((await stateOf(ancient)).error, "", "nor what is too long ago to tell");
      for (const damaged of ["x", `1:${"0".repeat(17)}`, `-1:${"0".repeat(16)}`]) {
        const node = nodeClient(engine, state.policyRevision, "node-2", damaged);
        assert.equal((await stateOf(node)).error, "", "what is damaged says nothing");
      }
    });
  } finally {
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("A node that comes new is answered by an engine that began only after the nodes that there are were heard", async () => {
  const database = new Database("sqlite::memory:");
  const directory = allocator((nodes) => nodes.put("node-3", Node.create({ name: "node-3" })));
  try {
    await life(database, async (engine) => {
      let isAnswered = false;
      const isNew = stateOf(nodeClient(engine, 0, "node-3")).finally(() => isAnswered = true);
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.equal(isAnswered, false, "node-2 may know better");
      await stateOf(nodeClient(engine, 9, "node-2"));
      assert.match((await isNew).error, /older than what is in force on node-2/, "and does");
    }, directory);
  } finally {
    await database.close();
  }
});

Deno.test("A node is heard by what it says: in its stream, or when it says how far it is, and not by another call with its certificate", async () => {
  const directory = allocator((nodes) => nodes.put("node-3", Node.create({ name: "node-3" })));
  const policySet = `1:${"0123".repeat(4)}`;
  /** Node-2 has a set of another history. What a new node is told, if anything, before and after node-2 spoke. */
  const spoken: Record<string, (engine: PolicyEngine) => Promise<unknown>> = {
    stream: (engine) => streamOf(nodeClient(engine, 1, "node-2", policySet)),
    acknowledgement: (engine) => tell(nodeClient(engine, 1, "node-2", policySet), 1),
  };
  for (const [how, speak] of Object.entries(spoken)) {
    const database = new Database("sqlite::memory:");
    try {
      await life(database, (_, client) => apply(client, MANIFEST).then(() => {}), directory);
      await life(database, async (engine) => {
        // Says nothing of what is in force there.
        const other = new Request("http://x/v1/watch", {
          method: "POST",
          body: JSON.stringify({ watches: [{ collection: "cidridentities" }] }),
        });
        setPeer(other, { role: "node", node: "node-2" });
        const answered = engine.handler(other);
        let isAnswered = false;
        const isNew = streamOf(nodeClient(engine, 0, "node-3")).finally(() => isAnswered = true);
        await new Promise((resolve) => setTimeout(resolve, 200));
        assert.equal(isAnswered, false, how);
        await speak(engine);
        const { state, problems } = await isNew;
        // Its request may have been there for too long: then it asks again.
        const told = state ?? (await streamOf(nodeClient(engine, 0, "node-3"))).state!;
        assert.match(told.error, /older than what is in force on node-2/, `${how} ${problems}`);
        await (await answered).body?.cancel();
      }, directory);
    } finally {
      await database.close();
    }
  }
});

Deno.test("An engine that is not ready refuses every kind of request for what it resolves", async () => {
  const database = new Database("sqlite::memory:");
  const engine = createPolicyEngine({ database, allocator: ALLOCATOR });
  try {
    const ask = async (path: string, body?: unknown) => {
      const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
      const answer = await engine.handler(new Request(`http://x${path}`, init));
      return `${answer.status} ${(await answer.json()).code}`;
    };
    const collections = ["mapstates", "cidridentities", "rules"];
    for (const name of collections) {
      assert.equal(await ask(`/v1/${name}`), "503 NOT_READY", name);
      assert.equal(await ask(`/v1/${name}/300`), "503 NOT_READY", name);
      assert.equal(await ask(`/v1/${name}?watch=true`), "503 NOT_READY", name);
      assert.equal(await ask(`/v1/${name}:watch`, { newNames: ["300"] }), "503 NOT_READY", name);
      assert.equal(await ask("/v1/watch", { watches: [{ collection: name }] }), "503 NOT_READY", name);
    }
    const watches = collections.map((collection) => ({ collection }));
    assert.equal(await ask("/v1/watch", { watches }), "503 NOT_READY");
    for (const path of ["/v1/policies", "/v1/nodepolicies", "/v1/policyfaults", "/v1/revision"]) {
      assert.equal(await ask(path), "503 NOT_READY", path);
    }
    for (const path of ["/v1/policies:apply", "/v1/policies:wait", "/v1/explain"]) {
      assert.equal(await ask(path, {}), "503 NOT_READY", path);
    }
  } finally {
    await engine.stop();
    await database.close();
  }
});

Deno.test("A database that becomes an older copy while the engine runs opens nothing, and a newer copy heals it", async () => {
  const directory = await Deno.makeTempDir({ prefix: "weir-policy-" });
  const path = `${directory}/policy.db`;
  const database = new Database(`sqlite:${path}`);
  const copy = async (to: string) => {
    using file = new (await import("node:sqlite")).DatabaseSync(path);
    file.exec(`vacuum into '${to}'`);
  };
  /** Puts the tables of another copy in the place of those that are there. */
  const restore = async (from: string) => {
    const file = new (await import("node:sqlite")).DatabaseSync(path);
    file.exec(`attach '${from}' as old`);
    const tables = file.prepare(
      "select name from old.sqlite_master where type = 'table' and name like 'weir%'",
    )
      .all() as { name: string }[];
    file.exec("begin immediate");
    for (const { name } of tables) {
      file.exec(`delete from main.${name}; insert into main.${name} select * from old.${name}`);
    }
    file.exec("commit");
    file.close();
  };
  try {
    await life(database, async (engine, client) => {
      await copy(`${directory}/old.db`);
      await apply(client, MANIFEST);
      await apply(client, manifest("d").replace("fromEntities: [world]", 'fromCIDR: ["192.0.2.0/24"]'));
      const before = await stateOf(client), prefixes = await prefixesOf(client);
      assert.ok(before.entries.some(({ deny }) => deny) && prefixes.length === 1);
      await copy(`${directory}/new.db`);
      await restore(`${directory}/old.db`);
      await engine.store.store.pull();
      await engine.syncPolicies();
      engine.publishNow();
      const held = await stateOf(client);
      assert.deepEqual(held.entries, before.entries);
      assert.match(held.error, /older than what is in force \(policy revision \d+\)/);
      assert.deepEqual(await prefixesOf(client), prefixes, "a deny of a CIDR needs the CIDR's number too");
      await restore(`${directory}/new.db`);
      await engine.store.store.pull();
      await engine.syncPolicies();
      engine.publishNow();
      const healed = await stateOf(client);
      assert.deepEqual([healed.error, healed.entries], ["", before.entries]);
      assert.deepEqual(await prefixesOf(client), prefixes);
      assert.deepEqual(await faultsOf(client), []);
    });
  } finally {
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { ApiServer, IDENTITY_MULTICAST, type ProblemError, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { type ClientEvent, WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import {
  ApplyRequest,
  ApplyResponse,
  CidrIdentity,
  ExplainRequest,
  ExplainResponse,
  MapState,
  NodePolicy,
  Policy,
  Rule,
  WaitRequest,
  WaitResponse,
} from "@weir/proto/policy";
import { createPolicyEngine } from "./create_policy_engine.ts";
import type { PolicyEngine } from "./policy_engine.ts";

const POLICY = `# who may land
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: rule1
spec:
  endpointSelector:
    matchLabels: { org: empire, class: deathstar }
  ingress:
  - fromEndpoints:
    - matchLabels: { org: empire }
    toPorts:
    - ports:
      - { port: "80", protocol: TCP }
  - fromCIDRSet:
    - { cidr: 192.0.2.0/24, except: [192.0.2.128/25] }
`;

/** The allocator as the engine sees it: two collections on the real resource server. */
class Allocator {
  readonly identities = new WatchedTable<Identity>({ name: "identities" });
  readonly ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
  readonly nodes = new WatchedTable<Node>({ name: "nodes" });
  readonly api = new ApiServer({ name: "identity-allocator" });

  constructor() {
    this.api.collection({ name: "nodes", message: Node, table: this.nodes });
    this.api.collection({ name: "identities", message: Identity, table: this.identities });
    this.api.collection({ name: "ipcache", message: IpcacheEntry, table: this.ipcache });
    this.identity(300, "k8s:org=empire", "k8s:class=deathstar");
    this.identity(301, "k8s:org=empire", "k8s:class=tiefighter");
    this.identity(302, "k8s:org=alliance", "k8s:class=xwing");
    const ports = [{ name: "http", port: 80, protocol: "TCP" }];
    this.ipcache.put(
      "10.0.0.9/32",
      IpcacheEntry.create({ prefix: "10.0.0.9/32", identity: 300, namedPorts: ports }),
    );
  }

  identity(number: number, ...labels: string[]): void {
    const own = [
      ...labels,
      "k8s:io.kubernetes.pod.namespace=default",
      "k8s:io.cilium.k8s.policy.cluster=default",
    ];
    this.identities.put(String(number), Identity.create({ number, labels: own }));
  }
}

interface Joined {
  allocator: Allocator;
  engine: PolicyEngine;
  client: WeirClient;
}

async function join(
  run: (joined: Joined) => Promise<void>,
  url = "sqlite::memory:",
  allocator = new Allocator(),
) {
  const database = new Database(url);
  const engine = createPolicyEngine({
    database,
    allocator: new WeirClient({ handler: allocator.api.fetch }),
  });
  engine.start();
  try {
    await engine.waitReady();
    await run({ allocator, engine, client: new WeirClient({ handler: engine.handler }) });
  } finally {
    await engine.stop();
    await database.close();
  }
}

function apply(client: WeirClient, manifest: string, more: { file?: string; dryRun?: boolean } = {}) {
  return client.call("/v1/policies:apply", {
    request: { message: ApplyRequest, value: { manifest, file: "rule1.yaml", ...more } },
    response: ApplyResponse,
  });
}

Deno.test("PolicyEngine keeps CIDR groups as it keeps policies, and tells endpoints of their changes", async () => {
  await join(async ({ client }) => {
    const group = (cidr: string) =>
      `{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: corp}, spec: {externalCIDRs: [${cidr}]}}`;
    const policy = POLICY.replace("cidr: 192.0.2.0/24", "cidrGroupRef: corp");
    const { items } = await apply(client, `${policy}---\n${group("192.0.2.0/24")}`);
    assert.deepEqual(items.map(({ name }) => name), ["cnp:default/rule1", "ccg:corp"]);
    const warnings = items.flatMap(({ warnings }) => warnings.map(({ detail }) => detail)).join();
    assert.doesNotMatch(warnings, /CIDR group/, "it is applied together");
    const opened = async () => {
      const { entries } = (await client.collection("mapstates", MapState).get("300"))!;
      const { items } = await client.collection("cidridentities", CidrIdentity).list();
      return items.filter(({ identity }) => entries.some((entry) => entry.identity === identity))
        .map(({ prefix }) => prefix);
    };
    assert.deepEqual(await opened(), ["192.0.2.0/24"]);
    const [changed] = (await apply(client, group("198.51.100.0/24"))).items;
    assert.equal(changed.change, "configured");
    assert.deepEqual(await opened(), ["198.51.100.0/24"]);
    assert.equal((await client.collection("policies", Policy).get("ccg:corp"))!.kind, "CiliumCIDRGroup");
    await client.collection("policies", Policy).delete("ccg:corp");
    assert.deepEqual(await opened(), []);
  });
});

Deno.test("PolicyEngine applies a text of manifests and serves map state, rules and CIDR identities", async () => {
  await join(async ({ client }) => {
    const { items, policyRevision } = await apply(client, POLICY);
    assert.deepEqual(items.map(({ name, change }) => [name, change]), [["cnp:default/rule1", "created"]]);
    const state = (await client.collection("mapstates", MapState).get("300"))!;
    assert.deepEqual([state.enforceIngress, state.enforceEgress], [true, false]);
    assert.ok(state.policyRevision >= policyRevision - 1);
    const pods = state.entries.filter((entry) => entry.identity < 65536);
    assert.deepEqual(pods.map((entry) => [entry.identity, entry.protocol, entry.port, entry.deny]), [
      [300, 6, 80, false],
      [301, 6, 80, false],
    ]);
    const cidrs = (await client.collection("cidridentities", CidrIdentity).list()).items;
    assert.deepEqual(cidrs.map(({ prefix, labels }) => [prefix, labels]), [
      ["192.0.2.0/24", ["cidr:192.0.2.0/24", "reserved:world-ipv4"]],
      ["192.0.2.128/25", ["cidr:192.0.2.128/25", "reserved:world-ipv4"]],
    ]);
    const inside = cidrs.find(({ prefix }) => prefix === "192.0.2.0/24")!.identity;
    assert.deepEqual(state.entries.filter((entry) => entry.identity > 65536).map((entry) => entry.identity), [
      inside,
    ]);
    const rule = (await client.collection("rules", Rule).get(String(pods[0].cookie)))!;
    assert.deepEqual(
      rule.sources.map((source) => [source.policy, source.path, source.file, source.line]),
      [["cnp:default/rule1", "spec.ingress[0].fromEndpoints[0]", "rule1.yaml", 11]],
    );
    const denied = (await client.collection("rules", Rule).get(String(state.ingressDefaultCookie)))!;
    assert.deepEqual([denied.defaultDeny, denied.sources[0].policy], [true, "cnp:default/rule1"]);
    const other = (await client.collection("mapstates", MapState).get("302"))!;
    assert.deepEqual([other.enforceIngress, other.entries.length], [false, 0]);
  });
});

Deno.test("PolicyEngine refuses a text with faults as a whole and names every fault with its place", async () => {
  await join(async ({ client, engine }) => {
    const bad = POLICY.replace("fromCIDRSet", "fromCIDRSets").replace('"80"', '"65536"') + "---\n" + POLICY;
    const refused = await apply(client, bad).then(() => undefined, (error: ProblemError) => error);
    assert.equal(refused?.code, "POLICY_INVALID");
    assert.equal(refused?.status, 422);
    assert.deepEqual(refused?.problem.causes?.map(({ path }) => path), [
      "rule1.yaml:14:17 spec.ingress[0].toPorts[0].ports[0].port",
      "rule1.yaml:15:5 spec.ingress[1].fromCIDRSets",
    ]);
    assert.equal(engine.repository.policyCount, 0);
    const dry = await apply(client, POLICY, { dryRun: true });
    assert.equal(dry.items[0].change, "created");
    assert.equal(engine.repository.policyCount, 0);
  });
});

Deno.test("PolicyEngine gives watchers of an identity each change once and nothing of other identities", async () => {
  await join(async ({ client, allocator, engine }) => {
    const stop = new AbortController();
    const events: ClientEvent<MapState>[] = [];
    const watching = (async () => {
      const watch = client.collection("mapstates", MapState).watch({
        query: { identity: [300] },
        signal: stop.signal,
      });
      for await (const event of watch) {
        events.push(event);
        if (events.filter((event) => event.type !== "SYNCED").length === 3) return;
      }
    })();
    while (!events.some((event) => event.type === "SYNCED")) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await apply(client, POLICY);
    const before = engine.repository.work.identitiesResolved;
    allocator.identity(303, "k8s:org=empire", "k8s:class=shuttle");
    await watching;
    stop.abort();
    const puts = events.flatMap((event) => event.type === "PUT" ? [event.value] : []);
    assert.deepEqual(puts.map((state) => state.entries.filter((entry) => entry.identity < 65536).length), [
      0,
      2,
      3,
    ]);
    assert.equal(engine.repository.work.identitiesResolved - before, 1);
  });
});

async function keepsPolicies(url: string): Promise<void> {
  // One that is made anew has lost what was read.
  const allocator = new Allocator();
  const numbers: number[] = [];
  const cookies: number[] = [];
  const revisions: number[] = [];
  for (let life = 0; life < 2; life++) {
    await join(
      async ({ client }) => {
        if (life === 0) {
          await apply(client, POLICY.replaceAll("192.0.2.", "198.51.100.").replace("rule1", "rule0"));
        }
        if (life === 0) await apply(client, POLICY);
        assert.equal((await client.collection("policies", Policy).list()).items.length, 2);
        const cidrs = (await client.collection("cidridentities", CidrIdentity).list()).items;
        assert.equal(cidrs.length, 4);
        numbers.push(cidrs.find(({ prefix }) => prefix === "192.0.2.0/24")!.identity);
        const state = (await client.collection("mapstates", MapState).get("300"))!;
        cookies.push(state.ingressDefaultCookie);
        revisions.push(state.policyRevision);
        assert.ok(state.policyRevision > 2);
      },
      url,
      allocator,
    );
  }
  assert.equal(numbers[0], numbers[1]);
  assert.equal(cookies[0], cookies[1]);
  assert.ok(revisions[1] >= revisions[0], "the revision never goes back");
}

Deno.test("PolicyEngine keeps policies and the numbers of prefixes over a restart", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await keepsPolicies(`sqlite:${directory}/policy.db`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

const missing = postgresMissing();
if (missing !== undefined) console.log(`SKIP ${missing}`);

Deno.test({
  name:
    "PolicyEngine keeps policies in PostgreSQL, where two engines agree on policies and on the numbers of prefixes",
  ignore: missing !== undefined,
  fn: async (t) => {
    const postgres = await TestPostgres.start();
    try {
      await t.step("restart", async () => await keepsPolicies(await postgres.createDatabase("restart")));
      await t.step("two engines", async () => {
        const url = await postgres.createDatabase("two"), allocator = new Allocator();
        await join(
          async (a) => {
            await join(
              async (b) => {
                const policy = (index: number) =>
                  POLICY.replace("rule1", `rule${index}`).replaceAll("192.0.2.", `198.51.${index}.`);
                await Promise.all(
                  Array.from(
                    { length: 12 },
                    (_, index) => apply(index % 2 ? a.client : b.client, policy(index)),
                  ),
                );
                const seen = async ({ client }: Joined) => {
                  const { items } = await client.collection("cidridentities", CidrIdentity).list();
                  return items.map(({ prefix, identity }) => `${prefix} ${identity}`).sort();
                };
                while ((await seen(a)).length < 24 || (await seen(b)).length < 24) {
                  await new Promise((resolve) => setTimeout(resolve, 20));
                }
                assert.deepEqual(await seen(a), await seen(b));
                assert.equal(new Set((await seen(a)).map((text) => text.split(" ")[1])).size, 24);
                const entries = async ({ client }: Joined) =>
                  (await client.collection("mapstates", MapState).get("300"))!.entries;
                assert.deepEqual(await entries(a), await entries(b));
              },
              url,
              allocator,
            );
          },
          url,
          allocator,
        );
      });
    } finally {
      await postgres.close();
    }
  },
});

Deno.test("PolicyEngine puts, gets and deletes single policies under their own names only", async () => {
  await join(async ({ client, engine }) => {
    const policies = client.collection("policies", Policy);
    const wrong = await policies.put("cnp:default/other", { manifest: POLICY }).catch((error: ProblemError) =>
      error
    );
    assert.equal((wrong as ProblemError).code, "POLICY_NAME_MISMATCH");
    const put = await policies.put("cnp:default/rule1", { manifest: POLICY, file: "a.yaml", line: 40 });
    assert.deepEqual([put.kind, put.namespace, put.policyName, put.line], [
      "CiliumNetworkPolicy",
      "default",
      "rule1",
      41,
    ]);
    const again = await apply(client, POLICY, { file: "a.yaml" });
    assert.equal(again.items[0].change, "configured");
    assert.equal((await apply(client, POLICY, { file: "a.yaml" })).items[0].change, "unchanged");
    assert.equal(await policies.delete("cnp:default/rule1"), true);
    assert.equal(await policies.delete("cnp:default/rule1"), false);
    assert.equal(engine.repository.policyCount, 0);
    assert.equal((await client.collection("cidridentities", CidrIdentity).list()).items.length, 0);
    assert.equal((await client.collection("mapstates", MapState).get("300"))!.enforceIngress, false);
  });
});

Deno.test("PolicyEngine says when a policy is in force at every node, from what the nodes put", async () => {
  const allocator = new Allocator();
  for (const name of ["node-1", "node-2"]) allocator.nodes.put(name, Node.create({ name }));
  await join(
    async ({ client, engine }) => {
      const wait = (policyRevision: number, timeoutS = 0) =>
        client.call("/v1/policies:wait", {
          request: { message: WaitRequest, value: { policyRevision, timeoutS } },
          response: WaitResponse,
        });
      const nodePolicies = client.collection("nodepolicies", NodePolicy);
      while ((await nodePolicies.list()).items.length < 2) await new Promise((done) => setTimeout(done, 5));
      const { policyRevision } = await apply(client, POLICY);
      const { epoch } = engine.publisher;
      const tell = (node: string, revision: number) => nodePolicies.put(node, { node, epoch, revision });
      const { revision } = engine.publisher.mapStates;
      assert.equal(
        engine.publisher.cidrIdentities.revision,
        revision,
        "one revision for all that nodes follow",
      );
      await tell("node-1", revision);
      await tell("node-2", revision - 1);
      const before = await wait(policyRevision);
      assert.deepEqual([before.inForce, before.nodesInForce, before.behind.map(({ node }) => node)], [
        false,
        1,
        ["node-2"],
      ]);
      const waiting = wait(policyRevision, 8);
      await tell("node-2", revision);
      assert.equal((await waiting).inForce, true);
      const removed = await client.collection("policies", Policy).delete("cnp:default/rule1");
      assert.equal(removed, true);
      assert.equal(
        (await wait(0)).inForce,
        false,
        "a policy that is gone is still in force where nobody said so",
      );
      assert.equal((await nodePolicies.get("node-1"))!.behind, true);
      const wrong = await nodePolicies.put("node-1", { node: "node-2" }).catch((error: ProblemError) =>
        error
      );
      assert.equal((wrong as ProblemError).code, "INVALID_ARGUMENT");
    },
    undefined,
    allocator,
  );
});

Deno.test("PolicyEngine explains by labels, identity, address and port name", async () => {
  await join(async ({ client }) => {
    await apply(client, POLICY);
    const explain = (value: Parameters<typeof ExplainRequest.create>[0]) =>
      client.call("/v1/explain", {
        request: { message: ExplainRequest, value: value! },
        response: ExplainResponse,
      });
    const tie = await explain({ fromIdentity: 301, toIp: "10.0.0.9", protocol: 6, portName: "http" });
    assert.equal(tie.allowed, true);
    assert.match(tie.steps[0].reason, /no policy selects the source for egress/);
    assert.match(
      tie.steps[1].reason,
      /^Allowed by cnp:default\/rule1 spec.ingress\[0\].fromEndpoints\[0\] \(rule1.yaml:11\)/,
    );
    assert.ok(
      tie.steps[1].labelFacts.some((fact) => fact.startsWith("k8s:org=empire of the source matches")),
    );
    const xwing = await explain({ fromLabels: ["org=alliance"], toIdentity: 300, protocol: 6, port: 80 });
    assert.equal(xwing.allowed, false);
    assert.match(
      xwing.steps[1].reason,
      /^Denied by default: cnp:default\/rule1 selects the destination for ingress/,
    );
    assert.match(xwing.steps[1].change, /Give the source label org=empire \(it has alliance\)/);
    assert.equal(xwing.steps[1].rule?.defaultDeny, true);
    const stranger = await explain({
      fromLabels: ["k8s:app=x", "k8s:io.kubernetes.pod.namespace=far"],
      toIdentity: 300,
      protocol: 6,
      port: 80,
    });
    assert.match(stranger.steps[1].change, /from k8s:app=x, k8s:io.kubernetes.pod.namespace=far$/);
    const outside = await explain({ fromIp: "192.0.2.7", toIdentity: 300, protocol: 17, port: 9 });
    assert.equal(outside.allowed, true);
    const except = await explain({ fromIp: "192.0.2.200", toIdentity: 300, protocol: 17, port: 9 });
    assert.equal(except.allowed, false);
    const group = await explain({ fromIdentity: 301, toIp: "239.1.2.3", protocol: 17, port: 5353 });
    assert.equal(group.steps[0].remoteIdentity, IDENTITY_MULTICAST);
    const both = await explain({ fromIp: "::1", fromIdentity: 3, toIdentity: 300, protocol: 6 }).catch((e) =>
      e
    );
    assert.equal(both.code, "INVALID_ARGUMENT");
  });
});

Deno.test("PolicyEngine shows no map state before identities and policies are complete", async () => {
  const database = new Database("sqlite::memory:");
  const broken = new WeirClient({ handler: () => new Response("away", { status: 503 }) });
  const engine = createPolicyEngine({ database, allocator: broken });
  engine.start();
  try {
    const client = new WeirClient({ handler: engine.handler });
    const error = await client.collection("mapstates", MapState).list().catch((error: ProblemError) => error);
    assert.equal((error as ProblemError).code, "NOT_READY");
    assert.equal((await engine.handler(new Request("http://x/readyz"))).status, 503);
    assert.equal((await engine.handler(new Request("http://x/livez"))).status, 200);
  } finally {
    await engine.stop();
    await database.close();
  }
});

import assert from "node:assert/strict";
import { Reflector } from "@weir/client";
import type { ProblemError } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import type { TestPostgres } from "@weir/common/testing/postgres";
import { type Case, open, testOnBoth, until } from "./testing.ts";

const CASES: Record<string, Case> = {
  async "allocate() gives one number per set of labels, whatever their order, and is idempotent"(url) {
    const a = await open(url);
    const first = await a.allocate(["k8s:app=web", "k8s:tier=front"], "w1");
    assert.ok(first.number >= 256 && first.number <= 65535);
    assert.equal(first.created, true);
    assert.deepEqual(first.labels, ["k8s:app=web", "k8s:tier=front"]);
    const again = await a.allocate(["k8s:tier=front", "k8s:app=web"], "w1");
    assert.deepEqual([again.number, again.created], [first.number, false]);
    const other = await a.allocate(["k8s:app=web"], "w2");
    assert.notEqual(other.number, first.number);
    const list = await a.identities.list();
    assert.equal(list.items.find((identity) => identity.number === 1)?.labels[0], "reserved:host");
    assert.equal((await a.identities.get(`${first.number}`))?.referenceCount, 1);
    await a.close();
    const b = await open(url);
    assert.equal(
      (await b.allocate(["k8s:app=web", "k8s:tier=front"], "w3")).number,
      first.number,
      "after a restart",
    );
    await b.close();
  },

  async "allocate() applies the label filter"(url) {
    const a = await open(url);
    const one = await a.allocate(
      ["k8s:app=web", "k8s:pod-template-hash=1", "k8s:controller-revision-hash=x"],
      "w1",
    );
    const two = await a.allocate(["k8s:app=web", "k8s:pod-template-hash=2"], "w2");
    assert.equal(one.number, two.number);
    assert.deepEqual(one.labels, ["k8s:app=web"]);
    const named = await a.allocate(["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"], "w3");
    assert.deepEqual(named.labels, ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]);
    await a.close();
  },

  async "allocate() answers reserved and fixed identities without taking a number"(url) {
    const a = await open(url);
    assert.equal((await a.allocate([], "w1")).number, 5, "no labels: init");
    assert.equal((await a.allocate(["k8s:pod-template-hash=1"], "w2")).number, 5);
    assert.equal((await a.allocate(["reserved:host"], "w3")).number, 1);
    assert.equal((await a.allocate(["k8s:io.cilium.fixed-identity=130", "k8s:app=x"], "w4")).number, 130);
    await assert.rejects(a.allocate(["k8s:io.cilium.fixed-identity=70"], "w5"), { code: "INVALID_ARGUMENT" });
    await assert.rejects(a.allocate(["k8s:a b=1"], "w6"), { code: "LABEL_INVALID" });
    assert.equal(a.allocator.identities.size, 0);
    await a.close();
  },

  async "an identity that nothing holds is released after the grace period, not before"(url) {
    const a = await open(url, { graceS: 60 });
    const web = await a.allocate(["k8s:app=web"], "w1");
    await a.allocate(["k8s:app=web"], "w2");
    await a.release("w1");
    await a.clock.advance(120_000);
    await a.allocator.sweep();
    assert.ok(await a.identities.get(`${web.number}`), "w2 holds it");
    await a.release("w2");
    await a.release("w2");
    assert.ok((await a.identities.get(`${web.number}`))!.releasedUnixS > 0);
    await a.clock.advance(30_000);
    assert.equal(
      (await a.allocate(["k8s:app=web"], "w3")).number,
      web.number,
      "taken again within the grace",
    );
    assert.equal((await a.identities.get(`${web.number}`))!.releasedUnixS, 0);
    await a.release("w3");
    await a.clock.advance(61_000);
    await a.allocator.sweep();
    assert.equal(await a.identities.get(`${web.number}`), undefined);
    const next = await a.allocate(["k8s:app=next"], "w4");
    assert.notEqual(next.number, web.number, "a number is not reused at once");
    await a.close();
  },

  async "a wall clock that jumps, here or at another replica, releases nothing and keeps nothing for ever"(
    url,
  ) {
    const a = await open(url, { graceS: 60 });
    const mine = await a.allocate(["k8s:app=mine"], "w1"),
      others = await a.allocate(["k8s:app=others"], "w2");
    await a.release("w1");
    // As a replica writes it whose clock is a day behind, or ahead.
    for (const days of [-1, 1]) {
      a.clock.jump(days * 86_400_000);
      await a.release("w2");
      a.clock.jump(-days * 86_400_000);
      a.clock.jump(3600_000);
      await a.allocator.sweep();
      assert.ok(await a.identities.get(`${mine.number}`));
      assert.ok(await a.identities.get(`${others.number}`));
      assert.equal((await a.allocate(["k8s:app=others"], "w2")).number, others.number);
    }
    await a.release("w2");
    a.clock.jump(-7200_000);
    await a.clock.advance(61_000);
    await a.allocator.sweep();
    for (const { number } of [mine, others]) {
      assert.equal(await a.identities.get(`${number}`), undefined);
    }
    await a.close();
  },

  async "a number that an address still has is neither released nor given to other labels"(url) {
    const a = await open(url, { graceS: 60, claimGraceS: 0 });
    const old = await a.allocate(["k8s:app=old"], "pod");
    await a.ipcache.put("10.0.1.7/32", { identity: old.number, node: "node-1" });
    await a.ipcache.put("10.0.1.8/32", { identity: old.number + 2, node: "node-1" });
    const now = await a.allocate(["k8s:app=new"], "pod");
    assert.equal(now.number, old.number + 1);
    await a.clock.advance(120_000);
    await a.allocator.sweep();
    assert.ok(await a.identities.get(`${old.number}`), "the endpoint waits for its new policy");
    assert.equal((await a.allocate(["k8s:app=next"])).number, old.number + 3, "one that only an address has");
    await a.ipcache.delete("10.0.1.7/32");
    await until(() => !a.allocator.ipcache.has("10.0.1.7/32"));
    await a.allocator.sweep();
    assert.equal(await a.identities.get(`${old.number}`), undefined);
    await a.close();
  },

  async "a holder that changes its labels holds the new identity alone"(url) {
    const a = await open(url);
    const old = await a.allocate(["k8s:app=old"], "pod");
    const now = await a.allocate(["k8s:app=new"], "pod");
    assert.ok((await a.identities.get(`${old.number}`))!.releasedUnixS > 0);
    assert.equal((await a.identities.get(`${now.number}`))!.referenceCount, 1);
    await a.close();
  },

  async "the cluster id stands in bits 16 to 23"(url) {
    const a = await open(url, { clusterId: 7 });
    const { number } = await a.allocate(["k8s:app=web"]);
    assert.equal(number >> 16, 7);
    assert.ok((number & 0xffff) >= 256);
    await a.close();
  },

  async "nodes get pod CIDRs of their own, keep them, and may ask for one"(url) {
    const a = await open(url);
    const names = Array.from({ length: 8 }, (_, i) => `node-${i}`);
    const nodes = await Promise.all(names.map((name) => a.nodes.put(name, { ipv4: "192.0.2.1" })));
    assert.equal(new Set(nodes.map((node) => node.podCidrV4)).size, 8);
    assert.equal(new Set(nodes.map((node) => node.podCidrV6)).size, 8);
    assert.match(nodes[0].podCidrV4, /^10\.0\.\d+\.0\/24$/);
    assert.match(nodes[0].podCidrV6, /^fd57:6569:7200:.*\/112$/);
    const revision = a.allocator.nodes.revision;
    const again = await a.nodes.put("node-0", { ...nodes[0], podCidrV4: "" });
    assert.equal(again.podCidrV4, nodes[0].podCidrV4);
    assert.equal(a.allocator.nodes.revision, revision, "a repeated PUT is a heartbeat, not a change");
    await assert.rejects(a.nodes.put("greedy", { podCidrV4: nodes[3].podCidrV4 }), {
      code: "POD_CIDR_TAKEN",
    });
    await assert.rejects(a.nodes.put("greedy", { podCidrV4: "10.0.0.0/16" }), { code: "POD_CIDR_TAKEN" });
    await assert.rejects(a.nodes.put("wrong", { podCidrV4: "fd00::/64" }), { code: "INVALID_ARGUMENT" });
    await assert.rejects(a.nodes.put("wrong", { ipv4: "not an address" }), { code: "INVALID_ARGUMENT" });
    assert.equal((await a.nodes.put("chosen", { podCidrV4: "10.1.0.0/16" })).podCidrV4, "10.1.0.0/16");
    await a.nodes.delete("node-3");
    assert.equal(
      (await a.nodes.put("heir", {})).podCidrV4,
      nodes[3].podCidrV4,
      "a freed CIDR is given again",
    );
    await a.close();
  },

  async "a pool that is empty says so"(url) {
    const a = await open(url, { podPoolV4: "10.9.0.0/23", podPoolV6: "" });
    assert.equal((await a.nodes.put("n1", {})).podCidrV6, "");
    await a.nodes.put("n2", {});
    await assert.rejects(a.nodes.put("n3", {}), { code: "POD_CIDRS_EXHAUSTED" });
    assert.equal(await a.nodes.get("n3"), undefined);
    await a.close();
  },

  async "the ipcache keeps canonical prefixes and is watched by node"(url) {
    const a = await open(url);
    await a.ipcache.put("10.0.1.7", { identity: 300, node: "node-1" });
    await a.ipcache.put("10.0.2.7/32", { prefix: "10.0.2.7/32", identity: 301, node: "node-2" });
    await a.ipcache.put("FD00::7/128", { identity: 300, node: "node-1" });
    await assert.rejects(a.ipcache.put("10.0.0.300", {}), { code: "INVALID_ARGUMENT" });
    await assert.rejects(a.ipcache.put("10.0.0.3", { prefix: "10.0.0.4/32" }), { code: "INVALID_ARGUMENT" });
    assert.equal((await a.ipcache.get("10.0.1.7/32"))?.identity, 300);
    const mine = new Reflector(a.ipcache, { query: { node: "node-1" } }).start();
    await mine.waitSynced();
    assert.deepEqual(mine.entries().map(([name]) => name).sort(), ["10.0.1.7/32", "fd00::7/128"]);
    await a.ipcache.delete("10.0.1.7");
    await until(() => mine.size === 1);
    await mine.stop();
    await a.close();
  },

  async "a dead node's references and ipcache entries go, silence while the allocator was away does not count"(
    url,
  ) {
    const clock = new FakeClock();
    const a = await open(url, { nodeTtlS: 600, graceS: 10 }, clock);
    await a.nodes.put("dead", {});
    await a.nodes.put("alive", {});
    const held = await a.allocate(["k8s:app=dead"], "pod", "dead");
    await a.ipcache.put("10.0.1.7/32", { identity: held.number, node: "dead" });
    await a.ipcache.put("10.0.2.7/32", { identity: held.number + 1, node: "alive" });
    await a.close();
    await clock.advance(3600_000);
    const b = await open(url, { nodeTtlS: 600, graceS: 10 }, clock);
    assert.deepEqual((await b.allocator.sweep()).deadNodes, []);
    await clock.advance(300_000);
    await b.nodes.put("alive", {});
    await clock.advance(301_000);
    assert.equal(b.allocator.ipcache.size + (await b.allocator.sweep()).deadNodes.length > 0, true);
    await until(() => !b.allocator.ipcache.has("10.0.1.7/32"));
    assert.equal(b.allocator.ipcache.has("10.0.2.7/32"), true);
    assert.ok(b.allocator.nodes.has("dead"), "its pod CIDR stays its own until it is deleted");
    await clock.advance(20_000);
    await b.allocator.sweep();
    assert.equal(await b.identities.get(`${held.number}`), undefined);
    await b.close();
  },
};

const REPLICATED: Record<string, (postgres: TestPostgres) => Promise<void>> = {
  async "two allocator processes that are hammered at once never disagree"(postgres) {
    const url = await postgres.createDatabase("hammer");
    const run = async (node: string) => {
      const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--quiet",
          new URL("./hammer_client.ts", import.meta.url).pathname,
          url,
          node,
          "300",
          "60",
        ],
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      return JSON.parse(new TextDecoder().decode(stdout)) as {
        answers: Record<string, number>;
        failures: string[];
      };
    };
    const [one, two] = await Promise.all([run("n1"), run("n2")]);
    assert.deepEqual([...one.failures, ...two.failures], []);
    assert.deepEqual(one.answers, two.answers);
    assert.equal(Object.keys(one.answers).length, 60);
    assert.equal(new Set(Object.values(one.answers)).size, 60, "no number stands for two sets");
  },

  async "two allocators never give one pod CIDR to two nodes"(postgres) {
    const url = await postgres.createDatabase("cidrs");
    const [a, b] = [await open(url), await open(url)];
    const nodes = await Promise.all(
      Array.from({ length: 40 }, (_, i) => (i % 2 ? a : b).nodes.put(`node-${i}`, {})),
    );
    assert.equal(new Set(nodes.map((node) => node.podCidrV4)).size, 40);
    await until(() => a.allocator.nodes.size === 40 && b.allocator.nodes.size === 40);
    await Promise.all([a.close(), b.close()]);
  },

  async "the database goes away and comes back"(postgres) {
    const a = await open(await postgres.createDatabase("away"));
    const before = await a.allocate(["k8s:app=web"], "w1");
    await postgres.down();
    await assert.rejects(
      a.allocate(["k8s:app=new"], "w2"),
      (error: ProblemError) => error.code === "DATABASE_UNAVAILABLE" && error.status === 503,
    );
    const { ready, text } = await a.client.readiness();
    assert.equal(ready, false);
    assert.match(text, /database/);
    assert.ok((await a.identities.list()).items.some((identity) => identity.number === before.number));
    await postgres.up();
    await until(() => a.allocate(["k8s:app=new"], "w2").then(() => true, () => false));
    assert.equal((await a.allocate(["k8s:app=web"], "w3")).number, before.number);
    await a.close();
  },
};

testOnBoth("IdentityAllocator", CASES, REPLICATED);

import assert from "node:assert/strict";
import { ApiServer, systemClock, WatchedTable } from "@weir/common";
import { WeirClient } from "@weir/client";
import { Node } from "@weir/proto/identity";
import { NodePolicy } from "@weir/proto/policy";
import { Feed } from "./feed.ts";
import { PolledFeed } from "./polled_feed.ts";
import { readinessOf } from "./readiness_part.ts";

Deno.test("readinessOf(): only what is known opens or closes a node", async () => {
  const nodes = new WatchedTable<Node>({ name: "nodes" });
  const nodePolicies = new WatchedTable<NodePolicy>({ name: "nodepolicies" });
  const api = new ApiServer({ name: "weir" });
  api.collection({ name: "nodes", message: Node, table: nodes });
  api.collection<NodePolicy>({ name: "nodepolicies", message: NodePolicy, list: () => nodePolicies.list() });
  const client = new WeirClient({ handler: api.fetch });
  const stop = new AbortController();
  const read = async () => {
    const feeds = {
      nodes: new Feed(client.collection("nodes", Node)),
      nodePolicies: new PolledFeed(client.collection("nodepolicies", NodePolicy), ({ node }) => node, {
        clock: systemClock,
      }),
    };
    for (const feed of Object.values(feeds)) {
      feed.start();
      await feed.waitSynced(stop.signal);
      await feed.stop();
    }
    return feeds;
  };
  assert.equal(readinessOf("a", await read(), true), undefined, "a directory in which nobody lives");
  nodes.put("b", Node.create({ name: "b", state: "NODE_KNOWN" }));
  nodes.put("c", Node.create({ name: "c", state: "NODE_DEAD" }));
  nodePolicies.put("b", NodePolicy.create({ node: "b", heardUnixS: 1 }));
  nodePolicies.put("c", NodePolicy.create({ node: "c", heardUnixS: 1 }));
  const feeds = await read();
  const CASES: [string, boolean, boolean | "gone" | undefined][] = [
    ["a", false, undefined],
    ["a", true, "gone"],
    ["b", false, true],
    ["c", true, false],
    ["c", false, false],
  ];
  for (const [name, wasReady, expected] of CASES) {
    assert.equal(readinessOf(name, feeds, wasReady), expected, name);
  }
  nodePolicies.put("b", NodePolicy.create({ node: "b" }));
  assert.equal(
    readinessOf("b", await read(), true),
    undefined,
    "alive, and nobody knows whether it has policies",
  );
});

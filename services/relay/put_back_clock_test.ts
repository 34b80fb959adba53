/** A node that is lost and comes back gives what was missed, once, whatever its clock says meanwhile. @module */
import assert from "node:assert/strict";
import { systemClock } from "@weir/common";
import type { Init } from "@weir/proto";
import { Flow } from "@weir/proto/flow";
import { type GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { observerServer } from "../flow-exporter/hubble/testing.ts";
import { FlowRing } from "../flow-exporter/flow_ring.ts";
import type { SeenFlow } from "../flow-exporter/seen_flow.ts";
import { type Answer, Cluster, flow, forever } from "./testing.ts";

const HOUR_S = 3600, NODE = "node-1", CLUSTER = "default";

/** The flows of a node, as its exporter holds them. */
class Ring {
  readonly ring: FlowRing<SeenFlow>;
  constructor(size = 63) {
    this.ring = new FlowRing<SeenFlow>(size);
  }

  /** A flow that was seen so long ago. */
  see(uuid: string, agoS: number, verdict: "FORWARDED" | "DROPPED" = "FORWARDED"): void {
    const time = { seconds: Math.floor(Date.now() / 1000) - agoS, nanos: 0 };
    const seen = { flow: Flow.create({ uuid, time, verdict, node_name: `${CLUSTER}/${NODE}` }) };
    this.ring.push(seen as SeenFlow);
  }
}

/** A caller who follows: what came, in order. */
class Follower {
  readonly uuids: string[] = [];
  readonly changes: string[] = [];
  lost = 0;
  readonly #stop = new AbortController();
  readonly #reading: Promise<void>;

  constructor(cluster: Cluster, request: Init<GetFlowsRequest> = {}) {
    this.#reading = this.#read(cluster, { follow: true, ...request });
  }

  async #read(cluster: Cluster, request: Init<GetFlowsRequest>): Promise<void> {
    for await (const batch of cluster.ask(request, this.#stop.signal)) {
      for (const bytes of batch) {
        const { flow, lost_events, node_status, position } = GetFlowsResponse.decode(bytes);
        assert.equal(position, undefined, "places are between node and relay");
        if (flow !== undefined) this.uuids.push(flow.uuid);
        if (node_status !== undefined) this.changes.push(node_status.state_change);
        this.lost += lost_events?.num_events_lost ?? 0;
      }
    }
  }

  async until(what: (follower: Follower) => boolean): Promise<void> {
    for (let tries = 0; !what(this); tries++) {
      assert.ok(tries < 400, `${this.uuids}; ${this.changes}; lost ${this.lost}`);
      await systemClock.sleep(50);
    }
  }

  async has(...uuids: string[]): Promise<void> {
    await this.until(() => uuids.every((uuid) => this.uuids.includes(uuid)));
  }

  async isAway(): Promise<void> {
    await this.until(({ changes }) => changes.at(-1) === "NODE_UNAVAILABLE");
  }

  async stop(): Promise<string[]> {
    // What would come twice has come.
    await systemClock.sleep(1000);
    this.#stop.abort();
    await this.#reading;
    return this.uuids;
  }
}

const join = (cluster: Cluster, { ring }: Ring) => cluster.join(NODE, observerServer(ring), CLUSTER);

Deno.test("a node whose clock is put back while it is away loses no flow, and none comes twice", async () => {
  await using cluster = new Cluster();
  const node = new Ring();
  await join(cluster, node);
  node.see("before", 5);
  const follower = new Follower(cluster, { number: 10 });
  await follower.has("before");
  node.see("live", 0);
  await follower.has("live");
  await cluster.stop(NODE);
  await follower.isAway();
  for (const uuid of ["back-1", "back-2", "back-3"]) node.see(uuid, HOUR_S);
  await join(cluster, node);
  await follower.has("back-1", "back-2", "back-3");
  node.see("back-4", HOUR_S - 1);
  node.see("set right", 0);
  await follower.has("back-4", "set right");
  assert.deepEqual((await follower.stop()).sort(), [
    ...["back-1", "back-2", "back-3", "back-4"],
    ...["before", "live", "set right"],
  ]);
  assert.equal(follower.lost, 0);
});

Deno.test("a node of which nothing came yet, and one that started anew, lose nothing to a clock that is put back", async () => {
  await using cluster = new Cluster();
  const first = new Ring(), second = new Ring();
  first.see("old", HOUR_S);
  await join(cluster, first);
  const follower = new Follower(cluster);
  await follower.until(({ changes }) => changes.includes("NODE_CONNECTED"));
  await systemClock.sleep(500);
  await cluster.stop(NODE);
  await follower.isAway();
  first.see("missed", HOUR_S);
  await join(cluster, first);
  await follower.has("missed");
  await cluster.stop(NODE);
  await follower.isAway();
  for (const uuid of ["anew-1", "anew-2"]) second.see(uuid, 2 * HOUR_S);
  await join(cluster, second);
  await follower.has("anew-1", "anew-2");
  assert.deepEqual(await follower.stop(), ["missed", "anew-1", "anew-2"]);
});

Deno.test("what was overwritten while a node was away is told as lost to the last flow, and what was not asked for is not", async () => {
  await using cluster = new Cluster();
  const node = new Ring();
  await join(cluster, node);
  const all = new Follower(cluster), drops = new Follower(cluster, { whitelist: [{ verdict: ["DROPPED"] }] });
  await all.until(({ changes }) => changes.includes("NODE_CONNECTED"));
  await systemClock.sleep(500);
  for (let n = 0; n < 300; n++) {
    node.see(`live-${n}`, 0);
    if (n % 20 === 19) await all.has(`live-${n}`);
  }
  await cluster.stop(NODE);
  await Promise.all([all.isAway(), drops.isAway()]);
  for (let n = 0; n < 100; n++) node.see(`missed-${n}`, 0);
  await join(cluster, node);
  await all.has("missed-99");
  // Ring of 63: the first 37 of 100 are gone. It is told with a flow that comes later than that.
  await systemClock.sleep(1100);
  node.see("drop", 0, "DROPPED");
  await Promise.all([all.has("drop"), drops.has("drop")]);
  assert.equal(all.lost, 37);
  assert.equal((await all.stop()).length, 300 + 63 + 1);
  assert.deepEqual(await drops.stop(), ["drop"]);
  assert.ok(drops.lost >= 37 && drops.lost < 37 + 256, `${drops.lost}: within what was not told`);
});

Deno.test("of a node that tells no places what came is known again, also where its clock was put back by less than a minute", async () => {
  await using cluster = new Cluster();
  const nowMs = Date.now(),
    held: [string, number][] = [["a", nowMs - 3000], ["b", nowMs - 2000], ["b", nowMs - 2000]];
  const answer: Answer = async function* ({ since }, signal) {
    const sinceMs = since === undefined ? 0 : since.seconds * 1000 + since.nanos / 1e6;
    yield held.filter(([, time]) => time >= sinceMs).map(([uuid, time]) => flow("x", uuid, time));
    await forever(signal);
  };
  await cluster.start("x", answer);
  const follower = new Follower(cluster);
  await follower.has("a", "b");
  await cluster.stop("x");
  await follower.isAway();
  held.push(["put back", nowMs - 30_000], ["c", nowMs]);
  await cluster.start("x", answer);
  await follower.has("put back", "c");
  assert.deepEqual((await follower.stop()).sort(), ["a", "b", "b", "c", "put back"]);
});

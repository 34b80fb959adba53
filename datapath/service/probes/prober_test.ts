/** Nodes that probe each other over a network that loses, cuts and lies. */
import assert from "node:assert/strict";
import { encodeProbe, PROBE_BYTES } from "./packet.ts";
import { PACKETS_PER_S } from "./prober.ts";
import { FakeNetwork, type Packet } from "./testing.ts";

const WHOLE = { podMtu: 1450, outer: 1500 };

Deno.test("On a good network all ways are well: no loss, the network's latency alone, the whole size", () => {
  const network = new FakeNetwork(3);
  network.latencyMs = 0.4;
  network.run(60);
  for (const [from, to] of [[0, "node-2"], [1, "node-1"], [2, "node-1"]] as const) {
    const { pod, underlay } = network.nodes[from].paths(to);
    assert.equal(pod.state, "OK");
    assert.equal(underlay.state, "OK");
    assert.equal(pod.loss, 0);
    assert.equal(pod.lossIn, 0);
    assert.ok(Math.abs(pod.latencyMinMs! - 0.8) < 1e-6, `${pod.latencyMinMs}`);
    assert.equal(pod.mtu, WHOLE.podMtu);
    assert.equal(underlay.mtu, WHOLE.outer);
    assert.equal(pod.mtuSinceUnixS, 0);
  }
});

Deno.test("Loss there only is told as loss there, by both ends", () => {
  const network = new FakeNetwork(2, 7);
  network.run(20);
  network.fate = ({ from }) => from === "node-1" && network.part() < 0.4 ? "lost" : "arrives";
  network.run(60);
  const { pod: there } = network.nodes[0].paths("node-2"), { pod: back } = network.nodes[1].paths("node-1");
  assert.equal(there.state, "LOSSY");
  assert.equal(there.lossIn, 0);
  assert.ok(there.lossOut! > 0.15, `${there.lossOut}`);
  assert.ok(back.lossIn! > 0.15, `${back.lossIn}`);
  network.fate = () => "arrives";
  network.run(60);
  assert.equal(network.nodes[0].paths("node-2").pod.state, "OK");
});

Deno.test("One direction is dead: who hears nothing knows it, who is heard of knows that too", () => {
  const network = new FakeNetwork(2);
  network.run(20);
  network.fate = ({ from }) => from === "node-1" ? "lost" : "arrives";
  network.run(15);
  const { pod: there } = network.nodes[0].paths("node-2"), { pod: back } = network.nodes[1].paths("node-1");
  assert.equal(there.state, "UNREACHABLE");
  assert.equal(back.state, "UNREACHABLE");
  assert.ok(there.heardS! < 5, `${there.heardS}`);
  assert.ok(back.heardS! > 10, `${back.heardS}`);
  const sinceS = (network.clock.nowMs() / 1000) - there.stateSinceUnixS;
  assert.ok(sinceS >= 15 && sinceS < 20, `${sinceS}`);
  network.fate = () => "arrives";
  network.run(3);
  const { pod } = network.nodes[0].paths("node-2");
  assert.equal(pod.state, "OK");
  assert.equal(pod.loss, 0, "the outage is over: nothing is lost now");
});

for (
  const [what, tooBig] of [["a hole that says nothing", false], [
    "a router that says what fits",
    true,
  ]] as const
) {
  Deno.test(`Behind ${what} the largest size is found, to the byte; and when it is mended`, () => {
    const network = new FakeNetwork(2);
    network.run(20);
    network.fate = ({ from, size, address }: Packet) => {
      const fits = address.startsWith("192.") ? 1422 : 1372;
      return from === "node-1" && size > fits ? tooBig ? { tooBig: fits } : "lost" : "arrives";
    };
    network.run(40);
    const { pod, underlay } = network.nodes[0].paths("node-2");
    assert.equal(pod.mtu, 1372);
    assert.equal(underlay.mtu, 1422);
    assert.equal(pod.mtuSearching, false);
    assert.equal(pod.state, "OK");
    assert.ok(pod.mtuSinceUnixS > 0);
    assert.equal(network.nodes[1].paths("node-1").pod.mtu, WHOLE.podMtu);
    network.fate = () => "arrives";
    network.run(10);
    assert.equal(network.nodes[0].paths("node-2").pod.mtu, WHOLE.podMtu);
  });
}

Deno.test("Where packets are lost at random, nothing is said of their size", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const network = new FakeNetwork(2, seed);
    network.run(20);
    network.fate = () => network.part() < 0.5 ? "lost" : "arrives";
    network.run(60);
    network.fate = () => "arrives";
    network.run(30);
    const { pod, underlay } = network.nodes[0].paths("node-2");
    assert.equal(pod.mtu, WHOLE.podMtu, `seed ${seed}`);
    assert.equal(underlay.mtu, WHOLE.outer, `seed ${seed}`);
  }
});

Deno.test("Nobody listens at the far port: the way is well, and nothing is said of it", () => {
  const network = new FakeNetwork(2);
  network.run(20);
  network.nodes[1].running = false;
  network.fate = ({ to }) => to === "node-2" ? "refused" : "arrives";
  network.run(30);
  assert.equal(network.nodes[0].paths("node-2").pod.state, "NOT_PROBING");
  // A new process: what was asked of the old one does not count.
  network.fate = () => "arrives";
  network.nodes[1].start();
  network.nodes[1].running = true;
  network.meet(network.nodes[1]);
  network.run(10);
  const { pod } = network.nodes[0].paths("node-2");
  assert.equal(pod.state, "OK");
  assert.equal(pod.loss, 0);
});

Deno.test("What a process that was killed did not read was not lost on the way", () => {
  const network = new FakeNetwork(2);
  const [one, two] = network.nodes;
  network.run(20);
  two.running = false;
  network.run(5);
  assert.ok(one.paths("node-2").pod.loss > 0);
  two.start();
  two.running = true;
  network.meet(two);
  network.run(3);
  assert.equal(one.paths("node-2").pod.loss, 0);
});

Deno.test("A process that hangs answers when it goes on: its packets were not lost", () => {
  const network = new FakeNetwork(2);
  network.run(20);
  network.nodes[1].running = false;
  network.run(15);
  assert.equal(network.nodes[0].paths("node-2").pod.state, "UNREACHABLE");
  network.nodes[1].running = true;
  network.run(3);
  for (const [own, far] of [[0, "node-2"], [1, "node-1"]] as const) {
    const { pod } = network.nodes[own].paths(far);
    assert.equal(pod.state, "OK");
    assert.equal(pod.loss, 0);
    assert.ok(pod.latencyAvgMs! < 1, `${pod.latencyAvgMs}`);
  }
});

Deno.test("A clock that is set moves neither latency nor loss, and `since` stays where it was", () => {
  const network = new FakeNetwork(2);
  network.run(20);
  const before = network.nodes[0].paths("node-2").pod;
  network.wallMs += 86_400_000;
  network.run(20);
  const { pod } = network.nodes[0].paths("node-2");
  assert.equal(pod.loss, 0);
  assert.ok(pod.latencyAvgMs! < 1);
  assert.equal(Math.round(pod.stateSinceUnixS - before.stateSinceUnixS), 86_400);
});

Deno.test("A node that is gone is forgotten; one that comes back elsewhere is met anew", () => {
  const network = new FakeNetwork(2);
  const [one, two] = network.nodes;
  network.run(20);
  one.prober.tell(one.config, [], { podMtu: 1450, overhead: 50 });
  network.run(20);
  assert.deepEqual(one.prober.peers, []);
  const { answers } = one.prober.counters;
  network.run(10);
  assert.equal(one.prober.counters.answers, answers, "a node that is not known gets no answer");
  assert.ok(one.prober.counters.unknownSenders > 0);
  Object.assign(two.config, { ipv4: "192.0.2.22" });
  Object.assign(two.remote, { ipv4: "192.0.2.22" });
  for (const node of network.nodes) network.meet(node);
  network.run(20);
  assert.equal(one.paths("node-2").pod.state, "OK");
});

Deno.test("Strangers, torn and forged packets are counted and get no answer", () => {
  const network = new FakeNetwork(2);
  const [one, two] = network.nodes;
  network.run(10);
  const request = encodeProbe({
    kind: "request",
    path: "POD",
    nonce: 5n,
    session: 6n,
    sequence: 0,
    holdUs: 0,
  });
  two.running = false;
  network.fate = () => "lost";
  network.run(1); // what is on its way arrives
  const before = { ...one.prober.counters };
  network.deliver(one, "203.0.113.9", "192.0.2.1", request); // no node's
  network.deliver(one, "192.0.2.2", "192.0.2.1", request, 5353); // another port: somebody's reflection
  network.deliver(one, "192.0.2.2", "192.0.2.1", request.subarray(0, PROBE_BYTES - 1));
  network.deliver(one, "192.0.2.2", "192.0.2.1", new Uint8Array(0));
  network.deliver(one, "192.0.2.2", "192.0.2.1", request.with(4, 9)); // a later version
  network.deliver(one, "192.0.2.2", "192.0.2.1", request.with(5, 2)); // an answer to nothing
  for (let i = 0; i < 200; i++) {
    const noise = Uint8Array.from({ length: i }, () => network.part() * 256);
    network.deliver(one, "192.0.2.2", "192.0.2.1", noise);
  }
  network.nowMs += 1;
  one.prober.tick();
  const { counters } = one.prober;
  assert.equal(counters.unknownSenders - before.unknownSenders, 2);
  assert.equal(counters.malformed - before.malformed, 203);
  assert.equal(counters.unexpected - before.unexpected, 1);
  assert.equal(counters.answers, before.answers);
});

Deno.test("An answer from elsewhere than where was asked is not believed", () => {
  const network = new FakeNetwork(3);
  const [one] = network.nodes;
  network.fate = ({ from, to, bytes }) => {
    // node-3 sees what node-1 sends to node-2, and answers for it.
    if (from === "node-1" && to === "node-2") {
      network.deliver(one, "192.0.2.3", "192.0.2.1", bytes.with(5, 2).subarray(0, PROBE_BYTES));
      return "lost";
    }
    return to === "node-2" || from === "node-2" ? "lost" : "arrives";
  };
  network.run(30);
  assert.equal(one.paths("node-2").pod.state, "UNREACHABLE");
  assert.ok(one.prober.counters.unexpected > 5);
});

Deno.test("An answer is never larger than its request, and of one node only so many are given in a second", () => {
  const network = new FakeNetwork(2);
  network.fate = ({ bytes }) => {
    if (bytes[5] === 2) assert.equal(bytes.length, PROBE_BYTES);
    else assert.ok(bytes.length >= PROBE_BYTES);
    return "arrives";
  };
  network.run(20);
  const [one, two] = network.nodes;
  two.running = false;
  network.fate = () => "lost";
  network.run(1);
  const before = one.prober.counters.answers;
  for (let i = 0; i < 400; i++) {
    const nonce = BigInt(i);
    network.deliver(
      one,
      "192.0.2.2",
      "192.0.2.1",
      encodeProbe({ kind: "request", path: "POD", nonce, session: 1n, sequence: 0, holdUs: 0 }),
    );
  }
  network.nowMs += 1;
  one.prober.tick();
  assert.ok(one.prober.counters.answers - before <= 64);
  assert.ok(one.prober.counters.tooMany >= 336);
});

Deno.test("With many nodes probes become rarer, never more than the budget; also when all are dead", () => {
  const network = new FakeNetwork(1);
  const [one] = network.nodes;
  const remotes = Array.from({ length: 1000 }, (_, i) => ({
    ...one.remote,
    name: `far-${i}`,
    ipv4: `198.18.${i >> 8}.${i & 255}`,
    podCidrV4: `10.${100 + (i >> 8)}.${i & 255}.0/24`,
  }));
  one.prober.tell(one.config, remotes, { podMtu: 1450, overhead: 50 });
  assert.equal(one.prober.intervalMs, 40_000);
  network.run(100);
  const { sent } = one.prober.counters;
  assert.ok(sent <= 101 * PACKETS_PER_S, `${sent}`);
  assert.ok(sent > 1000, `${sent}`);
  network.run(200);
  assert.ok(one.prober.counters.sent <= 301 * PACKETS_PER_S);
});

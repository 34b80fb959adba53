import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Peer, SILENT_AFTER_MS, type StreamState } from "./peer.ts";
import { effectOf, type PeerName } from "./peer_effects.ts";

function bench() {
  const clock = new FakeClock();
  const peer = new Peer({
    name: "policy-engine",
    address: "unix:/run/x.sock",
    clock,
    effect: ({ state, since }) => `${state} since ${since}`,
    deadlineMs: 10_000,
  });
  return { clock, peer };
}
const problem = (code: string) => new ProblemError(code, { status: 503, detail: `It is ${code}` });

Deno.test("Peer.call() ends with a deadline, and drops the answer that comes late", async () => {
  const { clock, peer } = bench();
  const late = Promise.withResolvers<string>();
  const call = peer.call("ask", () => late.promise);
  const rejected = assert.rejects(call, (e: ProblemError) => {
    assert.equal(e.code, "DEADLINE_EXCEEDED");
    assert.match(e.message, /Cannot ask: the policy-engine did not answer within 10000 ms/);
    return true;
  });
  await clock.advance(10_000);
  await rejected;
  assert.equal(peer.state, "SILENT");
  late.resolve("too late");
  await Promise.resolve();
  assert.equal(peer.state, "SILENT", "only the next call tells");
  assert.equal(await peer.call("ask", () => Promise.resolve("in time")), "in time");
  assert.equal(peer.state, "OK");
  assert.equal(peer.status().effect, "");
});

Deno.test("Peer tells states apart, with since when each is so", async () => {
  const { clock, peer } = bench();
  assert.equal(peer.state, "SILENT", "nothing was heard yet");
  assert.equal(peer.status().lastHeardUnixS, 0);
  const fails = (error: Error) => peer.call("ask", () => Promise.reject(error)).catch(() => {});
  const cases: [Error, string][] = [
    [problem("UNREACHABLE"), "UNREACHABLE"],
    [problem("STREAM_SILENT"), "SILENT"],
    [new DOMException("signal timed out", "TimeoutError"), "SILENT"],
    [problem("NOT_READY"), "STALE"],
    // An answer, if not the wanted one.
    [problem("IPAM_TAKEN"), "OK"],
  ];
  for (const [error, state] of cases) {
    await clock.advance(1_000);
    await fails(error);
    assert.equal(peer.state, state, error.message);
  }
  await clock.advance(5_000);
  const { sinceUnixS, lastHeardUnixS } = peer.status();
  assert.equal(sinceUnixS * 1000, clock.nowMs() - 5_000, "OK since the last case");
  assert.equal(lastHeardUnixS * 1000, clock.nowMs() - 5_000);
});

Deno.test("Peer judges by its streams too", async () => {
  const { clock, peer } = bench();
  const stream: { -readonly [K in keyof StreamState]: StreamState[K] } = {
    synced: true,
    error: undefined,
    lastHeardMs: clock.nowMs(),
  };
  peer.follow(stream);
  assert.equal(peer.state, "OK");
  await clock.advance(SILENT_AFTER_MS + 1);
  assert.equal(peer.state, "SILENT");
  stream.error = problem("UNREACHABLE");
  assert.equal(peer.state, "UNREACHABLE");
  await peer.call("ask", () => Promise.resolve());
  assert.equal(peer.state, "STALE", "it answers, but its changes do not come");
  stream.error = undefined;
  stream.lastHeardMs = clock.nowMs();
  assert.equal(peer.state, "OK");
  peer.setStale("nodes", "It lost 3 nodes");
  assert.deepEqual([peer.state, peer.status().error], ["STALE", "It lost 3 nodes"]);
  peer.setStale("nodes", undefined);
  assert.equal(peer.state, "OK");
});

Deno.test("effectOf() says of every peer what follows for traffic", () => {
  const situation = {
    since: "00:41:00",
    lastHeard: "00:40:30",
    policyRevision: 17,
    nodeName: "node-2",
    code: "",
  };
  const cases: [PeerName, "SILENT" | "STALE", RegExp][] = [
    [
      "policy-engine",
      "SILENT",
      /new policies do not reach node-2 since 00:40:30; what is in force there is revision 17/,
    ],
    [
      "identity-allocator",
      "SILENT",
      /new endpoints of node-2 wait.*known as of 00:40:30.*running traffic and policies go on/,
    ],
    ["identity-allocator", "STALE", /node-2 fills it again/],
    ["load-balancer", "SILENT", /changes of services do not reach node-2; those of 00:40:30 are served on/],
    ["datapath", "SILENT", /nothing can be changed in the kernel of node-2; what is there goes on/],
  ];
  for (const [peer, state, pattern] of cases) assert.match(effectOf(peer, { ...situation, state }), pattern);
  assert.match(
    effectOf("policy-engine", { ...situation, state: "UNREACHABLE", lastHeard: "never", policyRevision: 0 }),
    /since 00:41:00; what its kernel has stays in force/,
  );
  for (const peer of ["identity-allocator", "policy-engine", "load-balancer"] as const) {
    const removed = effectOf(peer, { ...situation, state: "STALE", code: "CERTIFICATE_REMOVED" });
    assert.match(removed, /node-2 is no member any more.*what is in its kernel goes on/);
    assert.doesNotMatch(removed, /fills it again/);
  }
});

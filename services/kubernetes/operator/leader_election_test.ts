import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { ApiServerError, type KubernetesObject } from "../api/mod.ts";
import { LeaderElection, type LeaseClient } from "./leader_election.ts";
import type { Term } from "./term.ts";

/** A Lease with the API server's rules of versions; each client may be cut off, or hang. */
class LeaseServer {
  lease: KubernetesObject | undefined;
  #version = 0;

  client(clock: FakeClock, way: { cut?: boolean; hangs?: boolean } = {}): LeaseClient {
    const pass = async (signal?: AbortSignal, deadlineMs = 15_000) => {
      if (way.hangs) {
        await clock.sleep(deadlineMs, signal);
        throw error("DEADLINE_EXCEEDED");
      }
      if (way.cut) throw error("API_SERVER_UNREACHABLE");
    };
    const write = (spec: unknown): KubernetesObject => {
      const metadata = { name: "lease", namespace: "weir", uid: "1", resourceVersion: `${++this.#version}` };
      return structuredClone(this.lease = { metadata, spec: structuredClone(spec) });
    };
    return {
      clock,
      async get(_, __, options) {
        await pass(options?.signal, options?.deadlineMs);
        if (server.lease === undefined) throw error("NOT_FOUND");
        return structuredClone(server.lease);
      },
      async create(_, object, options) {
        await pass(options?.signal, options?.deadlineMs);
        if (server.lease !== undefined) throw error("ALREADY_EXISTS");
        return write((object as KubernetesObject).spec);
      },
      async update(_, object, options) {
        await pass(options?.signal, options?.deadlineMs);
        if (server.lease === undefined) throw error("NOT_FOUND");
        if (server.lease.metadata.resourceVersion !== object.metadata.resourceVersion) {
          throw error("CONFLICT");
        }
        return write(object.spec);
      },
    };
  }
}
let server: LeaseServer;
const error = (code: string) => new ApiServerError(code, { status: 500, detail: code });

/** One operator, with what its writes would do. */
function makeOperator(holder: string, clock: FakeClock, way: { cut?: boolean; hangs?: boolean } = {}) {
  let term: Term | undefined;
  const election = new LeaderElection(server.client(clock, way), {
    namespace: "weir",
    name: "lease",
    holder,
    random: () => 0,
    lead: (made) => {
      term = made;
      return new Promise((resolve) => made.signal.addEventListener("abort", () => resolve()));
    },
  });
  return { election: election.start(), way, mayWrite: () => term?.holds ?? false };
}

/** Moves the time, and fails when two may write at one moment. */
async function pass(ms: number, clock: FakeClock, operators: { mayWrite(): boolean }[]) {
  for (let passed = 0; passed < ms; passed += 100) {
    await clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve));
    assert.ok(operators.filter((one) => one.mayWrite()).length <= 1, "two may write");
  }
}

Deno.test("LeaderElection lets one lead, and another one when it stops, without a wait", async () => {
  server = new LeaseServer();
  const clock = new FakeClock();
  const a = makeOperator("a", clock);
  await pass(100, clock, [a]);
  const b = makeOperator("b", clock);
  await pass(60_000, clock, [a, b]);
  assert.deepEqual([a.mayWrite(), b.mayWrite()], [true, false]);
  assert.equal(b.election.holder, "a");
  assert.equal(server.lease!.spec.leaseTransitions, 0);
  await a.election.stop();
  assert.equal(server.lease!.spec.holderIdentity, "");
  await pass(2500, clock, [a, b]);
  assert.equal(b.mayWrite(), true);
  assert.equal(server.lease!.spec.leaseTransitions, 1);
  await b.election.stop();
});

for (const kind of ["cut", "hangs"] as const) {
  Deno.test(`LeaderElection: a leader whose API server ${kind === "cut" ? "is away" : "hangs"} writes nothing after 10 s, and another leads after 15 s`, async () => {
    server = new LeaseServer();
    const clock = new FakeClock();
    const a = makeOperator("a", clock);
    await pass(100, clock, [a]);
    const b = makeOperator("b", clock);
    await pass(5000, clock, [a, b]);
    a.way[kind] = true;
    const lastMs = Date.parse(server.lease!.spec.renewTime);
    while (a.mayWrite()) await pass(100, clock, [a, b]);
    assert.ok(clock.nowMs() - lastMs <= 10_100, `wrote for ${clock.nowMs() - lastMs} ms`);
    while (!b.mayWrite()) await pass(100, clock, [a, b]);
    assert.ok(clock.nowMs() - lastMs >= 15_000, `took over after ${clock.nowMs() - lastMs} ms`);
    assert.ok(clock.nowMs() - lastMs <= 20_000, `took over after ${clock.nowMs() - lastMs} ms`);
    a.way[kind] = false;
    await pass(30_000, clock, [a, b]);
    assert.deepEqual([a.mayWrite(), b.mayWrite()], [false, true], "it does not take the lease back");
    await a.election.stop();
    await b.election.stop();
  });
}

Deno.test("LeaderElection: who was stopped for a minute, and goes on, may not write although nobody has told it", async () => {
  server = new LeaseServer();
  // Each has a clock of its own: one process stands still while the other's time goes on.
  const clockA = new FakeClock(), clockB = new FakeClock();
  const a = makeOperator("a", clockA);
  await clockA.advance(100);
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(a.mayWrite(), true);
  const b = makeOperator("b", clockB);
  await pass(20_000, clockB, [b]);
  assert.equal(b.mayWrite(), true, "the lease did not change for 15 s");
  // The machine slept: its wall clock knows, its steady clock does not. No timer of the election has run yet.
  clockA.jump(60_000);
  assert.equal(a.mayWrite(), false);
  await pass(5000, clockA, [a, b]);
  assert.deepEqual([a.mayWrite(), a.election.holder], [false, "b"]);
  await a.election.stop();
  await b.election.stop();
});

Deno.test("LeaderElection: wall clocks that jump change nobody's lead", async () => {
  server = new LeaseServer();
  const clockA = new FakeClock(), clockB = new FakeClock(1);
  const a = makeOperator("a", clockA);
  await clockA.advance(100);
  await new Promise((resolve) => setTimeout(resolve));
  const b = makeOperator("b", clockB);
  const both = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      await pass(500, clockA, [a, b]);
      await pass(500, clockB, [a, b]);
    }
  };
  await both(5000);
  for (const jumpMs of [3_600_000, -7_200_000, 86_400_000]) {
    clockB.jump(jumpMs);
    await both(6000);
    assert.equal(a.mayWrite(), true, `after B's jump by ${jumpMs} ms`);
    clockA.jump(jumpMs);
    await both(6000);
    assert.deepEqual([a.mayWrite(), b.mayWrite()], [true, false], `after A's jump by ${jumpMs} ms`);
  }
  assert.equal(a.election.terms, 1);
  await a.election.stop();
  await b.election.stop();
});

Deno.test("LeaderElection: a lease that somebody deletes, or writes over, never makes two leaders", async () => {
  server = new LeaseServer();
  const clock = new FakeClock();
  const a = makeOperator("a", clock);
  await pass(100, clock, [a]);
  const b = makeOperator("b", clock);
  await pass(3100, clock, [a, b]);
  server.lease = undefined;
  await pass(20_000, clock, [a, b]);
  assert.equal([a, b].filter((one) => one.mayWrite()).length, 1);
  server.lease!.metadata.resourceVersion = "1000";
  server.lease!.spec.holderIdentity = "somebody";
  await pass(5000, clock, [a, b]);
  assert.deepEqual([a.mayWrite(), b.mayWrite()], [false, false], "somebody is believed for 15 s");
  await pass(20_000, clock, [a, b]);
  assert.equal([a, b].filter((one) => one.mayWrite()).length, 1);
  await a.election.stop();
  await b.election.stop();
});

import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { NodePath, Probes } from "@weir/proto/datapath";
import { Node } from "@weir/proto/identity";
import { findings, type NodeReport, pairTroubles } from "@weir/client/status";
import { wayLines } from "./way_text.ts";

const NOW_S = 1_700_000_000;

const way = (node: string, more: Init<NodePath> = {}): NodePath =>
  NodePath.create({
    node,
    kind: "POD",
    family: "IPv4",
    state: "OK",
    stateSinceUnixS: NOW_S - 100,
    judged: 20,
    heardS: 1,
    answeredS: 1,
    mtuWanted: 1450,
    mtu: 1450,
    ...more,
  });
const under = (node: string, more: Init<NodePath> = {}) =>
  way(node, { kind: "UNDERLAY", mtuWanted: 1500, mtu: 1500, heardS: undefined, ...more });
const probes = (...paths: NodePath[]) => Probes.create({ paths, intervalS: 3, tunnelPort: 8472 });
const dead = { state: "UNREACHABLE", answeredS: 60, stateSinceUnixS: NOW_S - 60 } as const;

function told(reports: Record<string, Probes>, isQuiet?: (node: string) => boolean): string[] {
  return pairTroubles(new Map(Object.entries(reports)), isQuiet).map(({ message }) => message);
}

Deno.test("pairTroubles() says nothing where all is well, not known, or nobody listens", () => {
  const states = ["OK", "UNKNOWN", "NOT_PROBING"] as const;
  for (const state of states) {
    assert.deepEqual(told({ a: probes(way("b", { state }), under("b", { state, mtu: undefined })) }), []);
  }
});

Deno.test("pairTroubles() tells a pair once, with the direction, as far as one end or both know it", () => {
  const cases: [string, Record<string, Probes>, RegExp][] = [
    ["nobody hears anybody", {
      a: probes(way("b", { ...dead, heardS: 60 }), under("b", dead)),
      b: probes(way("a", { ...dead, heardS: 60 }), under("a", dead)),
    }, /^nothing gets through between a and b$/],
    ["a is not heard, and hears", {
      a: probes(way("b", { ...dead, heardS: 1 }), under("b", dead)),
      b: probes(way("a", { ...dead, heardS: 60 }), under("a", dead)),
    }, /^nothing gets through from a to b; the other direction works$/],
    ["the same, only a is asked", {
      a: probes(way("b", { ...dead, heardS: 1 }), under("b", dead)),
    }, /^nothing gets through from a to b; the other direction works$/],
    ["only the end that is not heard is asked, and it hears nothing", {
      b: probes(way("a", { ...dead, heardS: undefined }), under("a", dead)),
    }, /^nothing gets through between a and b$/],
    ["the tunnel is blocked", {
      a: probes(way("b", { ...dead, heardS: 60 }), under("b")),
      b: probes(way("a", { ...dead, heardS: 60 }), under("a")),
    }, /^packets of pods do not get through between a and b, though the nodes reach each other$/],
    ["only IPv6 of the pods", {
      a: probes(way("b"), way("b", { ...dead, family: "IPv6", heardS: 60 }), under("b")),
    }, /^packets of pods of IPv6 do not get through between a and b/],
    ["loss one way", {
      a: probes(way("b", { state: "LOSSY", loss: 0.3, lossIn: 0, lossOut: 0.3 })),
      b: probes(way("a", { state: "LOSSY", loss: 0.3, lossIn: 0.3, lossOut: 0 })),
    }, /^30 % of the packets are lost from a to b$/],
    ["loss one way, and a guess of the other that is wrong", {
      a: probes(way("b", { state: "LOSSY", loss: 0.58, lossIn: 0.4, lossOut: 0.3 })),
      b: probes(way("a", { state: "LOSSY", loss: 0.4, lossIn: 0, lossOut: 0.4 })),
    }, /^40 % of the packets are lost from b to a$/],
    ["a hole for large packets, one way", {
      a: probes(way("b", { mtu: 1372, mtuSinceUnixS: NOW_S - 5 }), under("b", { mtu: 1422 })),
      b: probes(way("a"), under("a")),
    }, /^packets of pods larger than 1372 bytes are lost from a to b$/],
    ["pieces", {
      a: probes(way("b"), under("b", { mtu: 1400, mtuSinceUnixS: NOW_S - 5 })),
    }, /^large packets of pods travel in pieces from a to b: 1400 bytes fit, and they have 1500$/],
    ["the underlay's port alone is filtered: traffic is well", {
      a: probes(way("b"), under("b", dead)),
    }, /^$/],
  ];
  for (const [what, reports, expected] of cases) {
    const messages = told(reports);
    assert.equal(messages.length, expected.test("") ? 0 : 1, `${what}: ${messages.join("; ")}`);
    for (const message of messages) assert.match(message, expected, what);
  }
});

Deno.test("pairTroubles() puts the gravest first, and says of quiet nodes nothing", () => {
  const reports = {
    a: probes(
      way("b", { mtu: 1300 }),
      way("c", { state: "LOSSY", loss: 0.2, lossOut: 0.2 }),
      way("d", { state: "LOSSY", loss: 0.6, lossOut: 0.6 }),
      way("e", { ...dead, heardS: 60 }),
    ),
  };
  assert.deepEqual(pairTroubles(new Map(Object.entries(reports))).map(({ nodes }) => nodes[1]), [
    "e",
    "d",
    "c",
    "b",
  ]);
  assert.equal(told(reports, (node) => node === "e").length, 3);
});

Deno.test("What to do about a size names one that works, and never one that no node may have", () => {
  const remedy = (mtu: number) =>
    pairTroubles(new Map([["a", probes(way("b", { mtu }), under("b", { mtu: mtu + 50 }))]]))[0].remedy;
  assert.match(remedy(1372), /to 1500 or more .*; or lower pods' on all nodes: weir agent --mtu 1422/);
  assert.doesNotMatch(remedy(1000), /--mtu/);
  const searched = new Map([["a", probes(way("b", { mtu: 60, mtuSearching: true }))]]);
  const [{ message, remedy: meanwhile }] = pairTroubles(searched);
  assert.equal(message, "large packets of pods are lost from a to b; which size arrives is being found out");
  assert.doesNotMatch(meanwhile, /--mtu/);
});

const node = (name: string, report: Probes, more: Partial<NodeReport> = {}): NodeReport => ({
  node: name,
  ready: true,
  services: [],
  endpointsInError: [],
  servicesInError: [],
  addressesShort: [],
  endpointsWaiting: [],
  conditions: [],
  peers: [],
  probes: report,
  ...more,
});

Deno.test("findings() tells a few pairs one by one and many as one, with who is in all of them", () => {
  const names = ["b", "c", "d", "e", "f"];
  const report = (count: number) =>
    node("a", probes(...names.slice(0, count).map((name) => way(name, { ...dead, heardS: 60 }))));
  assert.equal(findings({ nodes: [report(3)], cluster: {} }, NOW_S).length, 3);
  const [found, ...more] = findings({ nodes: [report(5)], cluster: {} }, NOW_S);
  assert.deepEqual(more, []);
  assert.equal(found.condition, "degraded");
  assert.equal(found.sinceUnixS, NOW_S - 60);
  assert.match(found.message, /^5 pairs of nodes, all with a, the worst: nothing gets through/);
  assert.notEqual(found.effect, "");
  assert.notEqual(found.remedy, "");
});

Deno.test("findings() leaves a way to the finding that explains it: a datapath that hangs, a node that is silent", () => {
  const bad = probes(way("b", { ...dead, heardS: 60 }));
  const hung = node("b", probes(), {
    services: [{
      name: "datapath",
      state: "hung",
      pid: 1,
      restarts: 0,
      sinceUnixS: 0,
      message: "",
      answers: false,
    }],
  });
  const subjects = findings({ nodes: [node("a", bad), hung], cluster: {} }, NOW_S).map(({ subject }) =>
    subject
  );
  assert.deepEqual(subjects, ["datapath"]);
  const silent = Node.create({ name: "b", heartbeatUnixS: NOW_S - 500 });
  const of = findings({ nodes: [node("a", bad)], cluster: { nodes: [silent] } }, NOW_S).map(({ subject }) =>
    subject
  );
  assert.deepEqual(of, ["control plane"]);
});

Deno.test("wayLines() shows the worst ways first, and says why nothing is probed", () => {
  const report = probes(way("b"), under("c", { mtu: 1400 }), way("d", { ...dead, judged: 4, loss: 1 }));
  const text = wayLines("a", { ...report, error: "UDP port 7446 is in use" }, NOW_S).join("\n");
  assert.match(text, /a: the ways to other nodes are not probed: UDP port 7446 is in use/);
  assert.match(text, / d .* unreachable [\s\S]* c .*1400 of 1500[\s\S]* b .*1450/);
});

Deno.test("pairTroubles() leaves open whether only a datapath service hangs, where one end alone is asked", () => {
  const a = probes(way("b", { ...dead, heardS: 60 }), under("b", dead));
  const b = probes(way("a", { ...dead, heardS: 60 }), under("a", dead));
  const effectOf = (reports: Record<string, Probes>) =>
    pairTroubles(new Map(Object.entries(reports)))[0].effect;
  assert.match(
    effectOf({ a }),
    /^pods of a and b do not reach each other, unless only the datapath service of b hangs/,
  );
  assert.equal(effectOf({ a, b }), "pods of a and b do not reach each other");
});

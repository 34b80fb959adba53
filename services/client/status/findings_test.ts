import { deepEqual, equal, match } from "node:assert/strict";
import { PeerStatus } from "@weir/proto/endpoint";
import { Node } from "@weir/proto/identity";
import { EngineRevision, NodePolicy } from "@weir/proto/policy";
import { DatapathStatus } from "@weir/proto/datapath";
import { findings } from "./findings.ts";
import type { Facts, NodeReport, ServiceReport } from "./status_report.ts";

const NOW_S = 1_700_000_000;
const NAMES = ["datapath", "endpoint-manager", "identity-allocator", "policy-engine", "load-balancer"];

const service = (name: string, more: Partial<ServiceReport> = {}): ServiceReport => ({
  name,
  state: "ready",
  pid: 1,
  restarts: 0,
  sinceUnixS: NOW_S - 1000,
  message: "",
  answers: true,
  ...more,
});
const node = (name: string, more: Partial<NodeReport> = {}): NodeReport => ({
  node: name,
  ready: true,
  services: NAMES.map((each) => service(each)),
  endpointsInError: [],
  servicesInError: [],
  addressesShort: [],
  endpointsWaiting: [],
  conditions: [],
  peers: [],
  ...more,
});
const facts = (nodes: NodeReport[], cluster: Facts["cluster"] = {}): Facts => ({ nodes, cluster });
const peer = (more: Partial<PeerStatus>) =>
  PeerStatus.create({ name: "policy-engine", address: "https://10.0.0.1:7442", state: "OK", ...more });

Deno.test("findings() finds nothing wrong where everything answers", () => {
  const cluster = {
    nodes: [Node.create({ name: "node-1", heartbeatUnixS: NOW_S - 31 }), Node.create({ name: "new" })],
    policies: [NodePolicy.create({ node: "node-1", policyRevision: 3, heardUnixS: 1 })],
  };
  deepEqual(findings(facts([node("node-1", { peers: [peer({})] })], cluster), NOW_S), []);
});

Deno.test("findings() names a service that a node does not serve as it should, each trouble once", () => {
  const error = "Cannot answer health checks of shop/web on port 31000: another process of this node has it";
  const one = (name: string, why: string) => ({ name, error: why, sinceUnixS: NOW_S, attempts: 2 });
  const [found, ...more] = findings(
    facts([node("node-1", { servicesInError: [one("shop/web:http", error), one("shop/web:https", error)] })]),
    NOW_S,
  );
  deepEqual(more, []);
  deepEqual([found.condition, found.subject, found.remedy], [
    "degraded",
    "services",
    "weir service get shop/web",
  ]);
  match(found.message, /service shop\/web:http: Cannot answer .* \(2 attempts\)/);
  const many = ["a", "b", "c", "d", "e"].map((name) => one(`x/${name}:80`, `no room for ${name}`));
  const all = findings(facts([node("node-1", { servicesInError: many })]), NOW_S);
  deepEqual(all.length, 3);
  match(all[2].message, /and 2 more services/);
});

Deno.test("findings() says where addresses are used up", () => {
  const block = (name: string, pool: string, error: string) => ({ name, pool, used: 13, usable: 13, error });
  const why = "every /28 of 10.50.0.0/26 (pool edge) is taken";
  const addressesShort = [
    block("10.0.1.0/28", "", ""),
    block("10.50.0.0/28", "edge", why),
    block("10.50.0.16/28", "edge", why),
  ];
  const found = findings(facts([node("node-1", { addressesShort })]), NOW_S);
  deepEqual(found.map(({ subject, message }) => `${subject}: ${message}`), [
    "addresses: 10.0.1.0/28: 13 of 13 addresses are in use",
    `addresses: pool edge: ${why}`,
  ]);
});

Deno.test("findings() says of each service that does not answer what follows for traffic", () => {
  for (const name of [...NAMES, "flow-exporter", "agent"]) {
    for (const state of ["hung", "away", "backoff", "starting"]) {
      const answers = state === "starting";
      const one = node("node-1", { services: [service(name, { state, message: "why", answers })] });
      const [found, ...more] = findings(facts([one]), NOW_S);
      deepEqual(more, [], name);
      equal(found.condition, state === "hung" ? "hung" : state === "starting" ? "degraded" : "away");
      equal(found.subject, name);
      match(found.effect, /\w{3,}/, `${name} has an effect`);
      match(found.message, /why/);
    }
  }
});

Deno.test("findings() names a service of the control plane that did not answer, before any node notices", () => {
  const silent = [{ service: "policy-engine", condition: "hung" as const, error: "no answer within 3 s" }];
  const joined = node("node-2", { services: [service("datapath")] });
  const [found, ...more] = findings(facts([joined], { silent }), NOW_S);
  deepEqual(more, []);
  deepEqual([found.condition, found.node, found.subject], ["hung", "", "policy-engine"]);
  match(found.message, /no answer within 3 s/);
  match(found.effect, /what is in force stays/);
  const peers = [peer({ state: "SILENT", error: "no answer within 10 s" })];
  const noticed = findings(facts([node("node-2", { peers })], { silent }), NOW_S);
  deepEqual(noticed.map(({ node }) => node), ["node-2"], "it is told once");
  equal(noticed[0].condition, "hung", "the others answer: it is not the way");
  match(noticed[0].remedy, /log of policy-engine on the control plane's machine/);
  const authority = [{ service: "certificate-authority", condition: "hung" as const, error: "no answer" }];
  match(findings(facts([joined], { silent: authority }), NOW_S)[0].effect, /certificates are not renewed/);
});

Deno.test("findings() says of what starts that it starts, and not to start it", () => {
  const silent = ["identity-allocator", "policy-engine", "load-balancer"]
    .map((service) => ({
      service,
      condition: "away" as const,
      error: "Cannot reach unix:/x.sock",
      isHere: true,
    }));
  const starts = [
    service("datapath", { state: "starting", answers: false, message: "Cannot reach unix:/x" }),
  ];
  const found = findings(facts([node("node-1", { services: starts })], { silent }), NOW_S);
  deepEqual(found.map(({ subject, condition, remedy }) => [subject, condition, remedy]), [
    ["datapath", "degraded", ""],
    ["control plane", "degraded", ""],
  ]);
  equal(found[1].message, "it is starting");
  const elsewhere = silent.map((one) => ({ ...one, isHere: false }));
  const cut = findings(facts([node("node-1", { services: starts })], { silent: elsewhere }), NOW_S);
  equal(cut[0].condition, "away", "of a control plane on another machine that says nothing");
});

Deno.test("findings() leaves out what has just begun", () => {
  for (const [agoS, count] of [[2, 0], [9, 2]]) {
    const sinceUnixS = NOW_S - agoS;
    const one = node("node-1", {
      peers: [peer({ state: "STALE", sinceUnixS, lastHeardUnixS: NOW_S })],
      conditions: [{ kind: "POLICY_STALE", message: "no answer", endpoints: 1, sinceUnixS }],
    });
    equal(findings(facts([one]), NOW_S).length, count);
  }
});

Deno.test("findings() says once that the whole control plane does not answer", () => {
  const joined = node("node-2", { services: [service("datapath")] });
  for (const condition of ["hung", "away"] as const) {
    const silent = ["identity-allocator", "policy-engine", "load-balancer", "certificate-authority"]
      .map((name) => ({ service: name, condition, error: "why" }));
    const found = findings(facts([joined], { silent }), NOW_S);
    const expected = condition === "hung" ? "partitioned" : "away";
    deepEqual(found.map((one) => [one.condition, one.subject]), [[expected, "control plane"]]);
    match(found[0].effect, /its traffic goes on under what it has/);
  }
  const silent = ["identity-allocator", "policy-engine", "load-balancer"]
    .map((name) => ({ service: name, condition: "hung" as const, error: "why" }));
  const peers = [peer({ state: "SILENT", error: "no answer within 10 s" })];
  const found = findings(facts([node("node-2", { services: [], peers })], { silent }), NOW_S);
  deepEqual(found[0].condition, "partitioned", "what the node has noticed is told of it");
});

Deno.test("findings() tells a partition from a peer that nobody hears", () => {
  const peers = [peer({ state: "SILENT", lastHeardUnixS: NOW_S - 60, error: "no answer within 10 s" })];
  const [cut] = findings(facts([node("node-2", { peers })]), NOW_S);
  equal(cut.condition, "partitioned");
  equal(cut.sinceUnixS, NOW_S - 60);
  match(cut.message, /node-2 does not hear policy-engine \(https:\/\/10\.0\.0\.1:7442\): no answer/);
  match(cut.effect, /what is in force stays/);
  const dead = node("node-1", { services: [service("policy-engine", { state: "hung" })] });
  const found = findings(facts([dead, node("node-2", { peers })]), NOW_S);
  deepEqual(found.map(({ condition }) => condition), ["hung"], "it is told once");
});

Deno.test("findings() says which node new policies do not reach, since when, and what is in force there", () => {
  const behind = NodePolicy.create({
    node: "node-2",
    policyRevision: 17,
    behind: true,
    behindSinceUnixS: NOW_S - 120,
    heardUnixS: NOW_S - 200,
  });
  const cluster = { policies: [behind], revision: EngineRevision.create({ policyRevision: 19 }) };
  const [found] = findings(facts([node("node-1")], cluster), NOW_S);
  equal(found.condition, "stale");
  equal(found.sinceUnixS, NOW_S - 120);
  equal(found.message, "new policies do not reach node-2, the newest is revision 19");
  equal(found.effect, "what is in force there is revision 17");
  const justNow = { ...behind, behindSinceUnixS: NOW_S - 2 };
  deepEqual(findings(facts([node("node-1")], { policies: [justNow] }), NOW_S), [], "it is on its way");
  const failed = { ...behind, behind: false, policyRevision: 0, error: "map is full" };
  const [error] = findings(facts([node("node-1")], { policies: [failed] }), NOW_S);
  match(error.message, /cannot put the newest policies in force: map is full/);
  match(error.effect, /not known/);
});

Deno.test("findings() says of whom the control plane has not heard, and what is stale or in error, gravest first", () => {
  const one = node("node-1", {
    services: [service("datapath", { state: "hung" })],
    conditions: [{ kind: "POLICY_STALE", message: "no answer", endpoints: 5, sinceUnixS: NOW_S - 9 }],
    endpointsInError: [{ name: "web", error: "no address", sinceUnixS: NOW_S - 5, attempts: 3 }],
  });
  const cluster = { nodes: [Node.create({ name: "node-9", heartbeatUnixS: NOW_S - 91 })] };
  const found = findings(facts([one], cluster), NOW_S);
  deepEqual(found.map(({ condition, node }) => `${condition} ${node}`), [
    "hung node-1",
    "partitioned node-9",
    "stale node-1",
    "degraded node-1",
  ]);
  match(found[2].message, /^5 endpoints: no answer/);
  match(found[3].message, /endpoint web: no address \(3 attempts\)/);
});

Deno.test("findings() says which table is full, which endpoint waits, and what to do", () => {
  const pressure = [
    { map: "weir_ct", entries: 990, entriesMax: 1000 },
    { map: "weir_ipcache", entries: 900, entriesMax: 1000 },
    { map: "weir_events", entries: 1000, entriesMax: 1000 },
  ];
  const one = node("node-1", {
    datapath: DatapathStatus.create({ pressure }),
    endpointsWaiting: [{ name: "shop/web", state: "WAITING_FOR_IDENTITY" }],
  });
  const found = findings(facts([one]), NOW_S);
  deepEqual(found.map(({ message }) => message), [
    "endpoint shop/web is not ready: waiting for identity",
    "the table weir_ct is full: 990 of 1000 entries",
  ]);
  for (const { effect, remedy } of found) {
    match(effect, /\w{3,}/);
    match(remedy, /weir (endpoint get|top)/);
  }
  const hung = node("node-1", { services: [service("datapath", { state: "hung" })] });
  match(findings(facts([hung]), NOW_S)[0].remedy, /agent starts it anew/);
});

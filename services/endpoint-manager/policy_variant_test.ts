import assert from "node:assert/strict";
import { PRECEDENCE_ALLOW, PRECEDENCE_ALLOW_ALL } from "@weir/common";
import { MapState } from "@weir/proto/policy";
import { policyName, type PolicyVariant, resolvePolicy } from "./policy_variant.ts";

const state = MapState.create({
  identity: 300,
  enforceIngress: true,
  entries: [
    {
      direction: "INGRESS",
      identity: 400,
      protocol: 6,
      port: 80,
      portPrefixLength: 16,
      precedence: 1,
      cookie: 1,
    },
    {
      direction: "INGRESS",
      identity: 400,
      protocol: 6,
      portName: "http",
      precedence: 255,
      deny: true,
      cookie: 2,
    },
    { direction: "INGRESS", identity: 500, protocol: 17, portName: "dns", precedence: 1, cookie: 3 },
  ],
});

const of = (
  namedPorts: PolicyVariant["namedPorts"],
  enforcement: PolicyVariant["enforcement"] = "DEFAULT",
  audit = false,
): PolicyVariant => ({ namedPorts, enforcement, audit });

Deno.test("policyName() is the identity alone where no port name matters", () => {
  assert.equal(
    policyName(MapState.create({ identity: 300 }), of([{ name: "http", port: 80, protocol: "TCP" }])),
    "300",
  );
  assert.equal(policyName(state, of([])), "300@");
  const ports = [{ name: "Http", port: 80, protocol: "TCP" }, { name: "other", port: 1, protocol: "TCP" }];
  assert.equal(policyName(state, of(ports)), "300@http=80/TCP");
  assert.equal(policyName(state, of(ports, "ALWAYS")), "300@http=80/TCP!always");
  assert.equal(policyName(state, of(ports, "NEVER")), "300!never");
  assert.equal(policyName(state, of(ports, "ALWAYS", true)), "300@http=80/TCP!always!audit");
});

Deno.test("resolvePolicy() gives named entries the endpoint's numbers, drops unknown names and keeps the higher precedence", () => {
  const cases: [PolicyVariant["namedPorts"], [number, number, boolean][]][] = [
    [[], [[400, 80, false]]],
    [[{ name: "http", port: 80, protocol: "TCP" }], [[400, 80, true]]],
    [[{ name: "HTTP", port: 8080, protocol: "TCP" }], [[400, 80, false], [400, 8080, true]]],
    [[{ name: "http", port: 8080, protocol: "UDP" }], [[400, 80, false]]],
    [[{ name: "dns", port: 53, protocol: "UDP" }], [[400, 80, false], [500, 53, false]]],
  ];
  for (const [ports, expected] of cases) {
    const entries = resolvePolicy(state, of(ports)).entries!;
    assert.deepEqual(entries.map((e) => [e!.identity, e!.port, e!.deny]), expected);
    assert.ok(entries.every((e) => e!.portName === "" && e!.portPrefixLength === 16));
  }
});

Deno.test("resolvePolicy() enforces both directions always without what lies open behind the rules, and none never", () => {
  const open = MapState.create({
    identity: 300,
    enforceIngress: true,
    entries: [
      { direction: "INGRESS", identity: 400, precedence: PRECEDENCE_ALLOW, cookie: 1 },
      { direction: "INGRESS", precedence: PRECEDENCE_ALLOW_ALL, cookie: 2 },
    ],
  });
  const cases: [PolicyVariant["enforcement"], boolean, boolean, number[]][] = [
    ["DEFAULT", true, false, [1, 2]],
    ["ALWAYS", true, true, [1]],
    ["NEVER", false, false, []],
  ];
  for (const [enforcement, ingress, egress, cookies] of cases) {
    const { enforceIngress, enforceEgress, entries } = resolvePolicy(open, of([], enforcement));
    assert.deepEqual([enforceIngress, enforceEgress], [ingress, egress], enforcement);
    assert.deepEqual(entries?.map(({ cookie }) => cookie), cookies, enforcement);
  }
});

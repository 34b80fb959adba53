import assert from "node:assert/strict";
import { MapState } from "@weir/proto/policy";
import { policyName, resolvePolicy } from "./policy_variant.ts";

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

Deno.test("policyName() is the identity alone where no port name matters", () => {
  assert.equal(
    policyName(MapState.create({ identity: 300 }), [{ name: "http", port: 80, protocol: "TCP" }]),
    "300",
  );
  assert.equal(policyName(state, []), "300@");
  const ports = [{ name: "Http", port: 80, protocol: "TCP" }, { name: "other", port: 1, protocol: "TCP" }];
  assert.equal(policyName(state, ports), "300@http=80/TCP");
});

Deno.test("resolvePolicy() gives named entries the endpoint's numbers, drops unknown names and keeps the higher precedence", () => {
  const cases: [Parameters<typeof resolvePolicy>[1], [number, number, boolean][]][] = [
    [[], [[400, 80, false]]],
    [[{ name: "http", port: 80, protocol: "TCP" }], [[400, 80, true]]],
    [[{ name: "HTTP", port: 8080, protocol: "TCP" }], [[400, 80, false], [400, 8080, true]]],
    [[{ name: "http", port: 8080, protocol: "UDP" }], [[400, 80, false]]],
    [[{ name: "dns", port: 53, protocol: "UDP" }], [[400, 80, false], [500, 53, false]]],
  ];
  for (const [ports, expected] of cases) {
    const entries = resolvePolicy(state, ports).entries!;
    assert.deepEqual(entries.map((e) => [e!.identity, e!.port, e!.deny]), expected);
    assert.ok(entries.every((e) => e!.portName === "" && e!.portPrefixLength === 16));
  }
});

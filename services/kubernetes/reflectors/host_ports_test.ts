import assert from "node:assert/strict";
import { hostPortPod } from "./host_ports.ts";
import { prunePod } from "./pods.ts";

const pod = (more: Record<string, unknown> = {}, spec: Record<string, unknown> = {}) =>
  prunePod({
    metadata: { name: "web", namespace: "shop", uid: "u", labels: { b: "2", a: "1" }, ...more },
    spec: {
      nodeName: "n1",
      containers: [{
        ports: [
          { name: "http", containerPort: 8080, hostPort: 80 },
          { containerPort: 53, hostPort: 53, protocol: "UDP", hostIP: "192.0.2.1" },
          { name: "admin", containerPort: 9090 },
        ],
      }],
      ...spec,
    },
    status: { phase: "Running", podIPs: [{ ip: "10.244.1.7" }, { ip: "fd00:0::7" }] },
  })!;

Deno.test("hostPortPod() has host ports, the other named ports and canonical addresses", () => {
  assert.deepEqual(JSON.parse(hostPortPod("shop/web", pod())!.text), {
    labels: [["a", "1"], ["b", "2"]],
    addresses: ["10.244.1.7", "fd00::7"],
    node: "n1",
    ports: [
      ["http", 8080, "TCP", 80, ""],
      ["", 53, "UDP", 53, "192.0.2.1"],
      ["admin", 9090, "TCP", 0, ""],
    ],
    state: "ACTIVE",
  });
  const going = hostPortPod("shop/web", pod({ deletionTimestamp: "2026-01-01T00:00:00Z" }))!;
  assert.equal(JSON.parse(going.text).state, "TERMINATING");
});

Deno.test("hostPortPod() leaves out pods that have no port to serve", () => {
  const CASES: [string, ReturnType<typeof pod> | undefined][] = [
    ["no pod", undefined],
    ["no host port", pod({}, { containers: [{ ports: [{ containerPort: 80 }] }] })],
    ["on the host's network", pod({}, { hostNetwork: true })],
    ["no address yet", { ...pod(), addresses: [] }],
    ["it has ended", { ...pod(), phase: "Succeeded" }],
    ["it has failed", { ...pod(), phase: "Failed" }],
  ];
  for (const [what, facts] of CASES) assert.equal(hostPortPod("shop/web", facts), undefined, what);
});

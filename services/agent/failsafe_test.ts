import assert from "node:assert/strict";
import { readAgentConfig } from "./config.ts";
import { hostFailsafes } from "./failsafe.ts";

function rows(args: string[], peers: string[] = []): string[] {
  const config = readAgentConfig(["--control-plane", ...args], {
    env: () => undefined,
    membership: () => undefined,
  });
  return hostFailsafes(config, peers);
}

Deno.test("hostFailsafes() has open SSH connections, and of Weir what has an address beyond this machine", () => {
  assert.deepEqual(rows([]), ["ssh/ingress/tcp/22/established"]);
  assert.deepEqual(rows(["--ssh-port", "2222"]), ["ssh/ingress/tcp/2222/established"]);
  const peers = [
    "unix:/run/weir/host/policy-engine.sock",
    "https://192.0.2.1:7441#/var/lib/weir/host,https://[2001:db8::2]:7441#/var/lib/weir/host",
    "https://127.0.0.1:7442",
    "https://plane.example:7443",
    "",
  ];
  assert.deepEqual(rows([], peers).slice(1), [
    "control-plane/egress/tcp/7441/192.0.2.1",
    "control-plane/egress/tcp/7441/2001:db8::2",
  ]);
  const plane = rows(["--listen", "192.0.2.1:7440"]);
  for (const port of [7440, 7441]) {
    assert.ok(plane.includes(`control-plane/ingress/tcp/${port}/nodes`), `${plane}`);
  }
  assert.ok(plane.includes("control-plane/ingress/tcp/4244/nodes"));
  const kubernetes = rows([
    "--control-plane",
    "--kubernetes",
    "--kubernetes-api-server",
    "https://198.51.100.9:6443",
  ]);
  assert.ok(kubernetes.includes("api-server/egress/tcp/6443/198.51.100.9"), `${kubernetes}`);
});

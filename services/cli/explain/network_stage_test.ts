import assert from "node:assert/strict";
import { EndpointNetwork } from "@weir/proto/datapath";
import { networkStages } from "./network_stage.ts";

const said = (network: Record<string, unknown>, address?: string) =>
  networkStages({
    title: "shop/web",
    address,
    network: EndpointNetwork.create({
      device: "eth0",
      state: "up",
      hostDevice: "lxc1",
      hostState: "up",
      gateways: ["10.0.0.1", "fd00::1"],
      ...network,
    }),
  }).map(({ state, message, fixes }) => `${state}: ${message}: ${fixes[0]}`).join();

Deno.test("networkStages() names what the namespace lost, and is silent where all is as given", () => {
  assert.equal(said({}), "");
  assert.match(said({ state: "missing", hostState: "missing" }), /^broken: its device eth0 is gone/);
  assert.match(said({ state: "down" }), /eth0 is down.*: ip link set eth0 up/);
  assert.match(said({ hostState: "down" }), /lxc1, the node's end of its device, is down: .*set lxc1 up/);
  assert.match(said({ absentAddresses: ["fd00::2"] }, "fd00::2"), /ip address add fd00::2\/128 dev eth0/);
  assert.match(
    said({ absentRoutes: ["IPv4"] }, "10.0.0.2"),
    /no IPv4 route .*ip route add default via 10\.0\.0\.1 dev eth0 onlink/,
  );
});

Deno.test("networkStages() says nothing of the family that a connection does not use", () => {
  assert.equal(said({ absentAddresses: ["fd00::2"], absentRoutes: ["IPv6"] }, "10.0.0.2"), "");
  assert.match(said({ absentRoutes: ["IPv6"] }), /no IPv6 route .*via fd00::1 dev/);
});

import assert from "node:assert/strict";
import { IpcacheEntry } from "@weir/proto/identity";
import { addressing, EndpointJoin } from "./endpoint_join.ts";

const entry = (prefix: string, podName: string, more = {}) =>
  IpcacheEntry.create({ prefix, namespace: "shop", podName, identity: 300, nodeIpv4: "192.0.2.1", ...more });

Deno.test("EndpointJoin joins an endpoint's addresses, IPv4 first", () => {
  const changed: string[] = [];
  const join = new EndpointJoin((key) => changed.push(key));
  join.change("fd00::7/128", entry("fd00::7/128", "web"), undefined);
  join.change("10.0.0.7/32", entry("10.0.0.7/32", "web"), undefined);
  assert.deepEqual(join.get("shop/web")!.addresses, ["10.0.0.7", "fd00::7"]);
  assert.deepEqual(changed, ["shop/web", "shop/web"]);
  join.change("10.0.0.7/32", undefined, entry("10.0.0.7/32", "web"));
  assert.deepEqual(join.get("shop/web")!.addresses, ["fd00::7"]);
  join.change("fd00::7/128", undefined, entry("fd00::7/128", "web"));
  assert.equal(join.get("shop/web"), undefined);
  assert.equal(join.size, 0);
});

Deno.test("EndpointJoin tells both endpoints of an address that moves, and leaves out what is no pod's", () => {
  const changed: string[] = [];
  const join = new EndpointJoin((key) => changed.push(key));
  join.change("10.0.0.7/32", entry("10.0.0.7/32", "old"), undefined);
  join.change("10.0.0.7/32", entry("10.0.0.7/32", "new"), entry("10.0.0.7/32", "old"));
  join.change("10.1.0.0/24", IpcacheEntry.create({ prefix: "10.1.0.0/24", identity: 6 }), undefined);
  assert.deepEqual(changed, ["shop/old", "shop/old", "shop/new"]);
  assert.deepEqual([...join.keys()], ["shop/new"]);
});

Deno.test("addressing() pairs addresses of both families", () => {
  assert.deepEqual(addressing(["10.0.0.1", "10.0.0.2", "fd00::1"]), [
    { ipv4: "10.0.0.1", ipv6: "fd00::1" },
    { ipv4: "10.0.0.2" },
  ]);
  assert.deepEqual(addressing([]), []);
});

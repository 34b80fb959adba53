import assert from "node:assert/strict";
import { Service } from "@weir/proto/loadbalancer";
import { hostsText } from "./hosts.ts";
import type { Lab } from "./lab.ts";
import { topology } from "./topology.ts";

const pod = (name: string, ipv4: string) => {
  const [namespace, short] = name.split("/");
  return { name, manifest: { name: short, namespace }, ipv4, ipv6: "" };
};
const service = (name: string, ...clusterIps: string[]) => {
  const [namespace, serviceName] = name.split("/");
  return Service.create({ serviceName, namespace, clusterIps, type: "ClusterIP" });
};
const lab = {
  options: { topology: topology("names", 1) },
  pods: [
    pod("shop/api", "10.0.1.2"),
    pod("shop/db", "10.0.1.3"),
    pod("other/db", "10.0.1.4"),
    pod("other/lone", "10.0.1.5"),
    pod("default/web", "10.0.1.6"),
    pod("default/front", "10.0.1.7"),
    pod("shop/new", ""),
    pod("shop/peers", "10.0.1.8"),
  ],
  services: [
    service("shop/api", "10.96.0.1", "fd00:96::1"),
    service("default/web", "10.96.0.2"),
    service("default/api", "10.96.0.3"),
    service("other/front", "10.96.0.4"),
    service("shop/peers", "None"),
    { ...service("shop/db", "10.0.1.99"), type: "HostPort" },
  ],
} as unknown as Lab;

/** Name -> the IPv4 address that a program in the namespace gets; every name has one. */
function names(namespace?: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of hostsText(lab, namespace).trim().split("\n")) {
    const [address, ...words] = line.split(" ");
    if (address.includes(":") || address.startsWith("127.")) continue;
    for (const word of words) {
      assert.equal(found.get(word), undefined, `${word} is one address only`);
      found.set(word, address);
    }
  }
  return found;
}

Deno.test("hostsText() lets a service have its name before a pod of the same name, as in Kubernetes", () => {
  const shop = names("shop");
  const cases: [string, string | undefined][] = [
    ["api", "10.96.0.1"],
    ["api.shop", "10.96.0.1"],
    ["api.shop.svc", "10.96.0.1"],
    ["api.shop.svc.cluster.local", "10.96.0.1"],
    ["api.default", "10.96.0.3"],
    ["db", "10.0.1.3"],
    ["db.other", "10.0.1.4"],
    ["lone", "10.0.1.5"],
    ["web", "10.96.0.2"],
    ["web.default", "10.96.0.2"],
    ["front", "10.0.1.7"],
    ["front.other", "10.96.0.4"],
    ["front.default", "10.0.1.7"],
    ["peers", "10.0.1.8"],
    ["new", undefined],
    ["node-1", "172.30.0.11"],
    ["outside", "172.30.0.100"],
  ];
  for (const [name, address] of cases) assert.equal(shop.get(name), address, name);
});

Deno.test("hostsText() is that of a namespace: a short name means the service in one's own", () => {
  assert.equal(names("other").get("front"), "10.96.0.4");
  assert.equal(names("other").get("db"), "10.0.1.4");
  assert.equal(names("other").get("api"), "10.96.0.3", "of default, where there is none of one's own");
  assert.equal(names().get("api"), "10.96.0.3");
  assert.equal(names().get("front"), "10.0.1.7");
  assert.equal(names().get("db"), undefined, "two pods, neither in default");
  assert.match(hostsText(lab, "shop"), /^fd00:96::1 api api\.shop api\.shop\.svc /m);
});

import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { WeirClient } from "@weir/client";
import { ServicePort } from "@weir/proto/loadbalancer";
import { ServiceNames, SERVICES_GONE_MAX } from "./service_names.ts";

const port = (id: number, init: Init<ServicePort> = {}) =>
  ServicePort.create({ id, namespace: "shop", service: `s${id}`, protocol: "TCP", ...init });
const vip = (address: string) => [{ kind: "CLUSTER_IP" as const, address, port: 80 }];
// Never started, so nobody is asked.
const make = () => new ServiceNames(new WeirClient("unix:/nowhere.sock"));

Deno.test("ServiceNames finds by id and by frontend, also a frontend that has moved", () => {
  const names = make();
  const first = port(1, { frontends: [...vip("10.96.0.1"), { kind: "NODE_PORT", port: 30080 }] });
  const second = port(2, { frontends: vip("10.96.0.1") });
  names.take(first, undefined);
  assert.deepEqual(names.get(1), { namespace: "shop", name: "s1" });
  assert.equal(names.at("10.96.0.1", 80, "TCP")?.name, "s1");
  assert.equal(names.at("10.96.0.1", 80, "UDP")?.name, "s1", "a closed port of it");
  assert.equal(names.at("", 30080, "TCP"), undefined, "a NodePort has no address of its own");
  names.take(second, undefined);
  names.take(undefined, first);
  assert.equal(names.at("10.96.0.1", 80, "TCP")?.name, "s2");
  names.take(port(2, { frontends: vip("10.96.0.9") }), second);
  assert.equal(names.at("10.96.0.1", 80, "TCP"), undefined);
  assert.equal(names.at("10.96.0.9", 80, "TCP")?.name, "s2");
});

Deno.test("ServiceNames names a closed port after the one service of its address", () => {
  const names = make();
  const web = port(1, { service: "web", frontends: vip("10.96.0.1") });
  const webTls = port(2, {
    service: "web",
    frontends: [{ kind: "CLUSTER_IP", address: "10.96.0.1", port: 443 }],
  });
  const other = port(3, { frontends: [{ kind: "LOAD_BALANCER", address: "10.96.0.1", port: 8080 }] });
  const host = port(4, { frontends: [{ kind: "HOST_PORT", address: "172.30.0.11", port: 53 }] });
  for (const each of [web, webTls, host]) names.take(each, undefined);
  assert.equal(names.at("10.96.0.1", 99, "UDP")?.name, "web");
  assert.equal(names.at("172.30.0.11", 53, "TCP")?.name, "s4");
  assert.equal(names.at("172.30.0.11", 22, "TCP"), undefined, "a node's other ports are no service's");
  names.take(other, undefined);
  assert.equal(names.at("10.96.0.1", 99, "UDP"), undefined, "two services share the address");
  names.take(undefined, other);
  names.take(undefined, web);
  assert.equal(names.at("10.96.0.1", 99, "UDP")?.name, "web");
  names.take(undefined, webTls);
  assert.equal(names.at("10.96.0.1", 99, "UDP"), undefined);
});

Deno.test("ServiceNames remembers services that are gone, but not without end", () => {
  const names = make();
  for (let id = 1; id <= SERVICES_GONE_MAX + 1; id++) {
    names.take(port(id), undefined);
    names.take(undefined, port(id));
  }
  assert.equal(names.get(1), undefined);
  assert.equal(names.get(2)?.name, "s2");
  names.take(port(2, { service: "new" }), undefined);
  assert.equal(names.get(2)?.name, "new");
});

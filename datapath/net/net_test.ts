import assert from "node:assert/strict";
import { addAddress, listAddresses } from "./address.ts";
import {
  changeDevice,
  createVeth,
  createVxlan,
  deleteDevice,
  findDevice,
  listDevices,
  parseMac,
} from "./link.ts";
import { NetlinkSocket } from "./netlink.ts";
import { Netns } from "./netns.ts";
import { deleteRoute, listRoutes, putNeighbour, putRoute, ROUTE_PROTOCOL } from "./route.ts";
import { readSysctl, writeSysctl } from "./sysctl.ts";

const root = Deno.uid() === 0;

/** A kernel test with two namespaces, which are removed afterwards. */
function netTest(name: string, run: (a: Netns, b: Netns, names: [string, string]) => void): void {
  if (!root) console.log(`SKIP ${name}: not root`);
  Deno.test({
    name,
    ignore: !root,
    fn: () => {
      const names: [string, string] = [`wt-net-${Deno.pid}-a`, `wt-net-${Deno.pid}-b`];
      const ip = (...args: string[]) => new Deno.Command("ip", { args }).outputSync();
      try {
        for (const netns of names) ip("netns", "add", netns);
        using a = Netns.open(`/run/netns/${names[0]}`);
        using b = Netns.open(`/run/netns/${names[1]}`);
        run(a, b, names);
      } finally {
        for (const netns of names) ip("netns", "del", netns);
      }
    },
  });
}

netTest("createVeth() makes a pair across namespaces that carries traffic", (a, b, names) => {
  using host = new NetlinkSocket(a);
  using pod = new NetlinkSocket(b);
  const before = Deno.readLinkSync("/proc/thread-self/ns/net");
  const start = performance.now();
  createVeth(host, {
    name: "lxc1",
    mac: "02:00:00:00:00:01",
    peerName: "eth0",
    peerMac: "02:00:00:00:00:02",
    netns: b,
    mtu: 1450,
  });
  const outer = findDevice(host, "lxc1")!, inner = findDevice(pod, "eth0")!;
  changeDevice(host, outer.ifindex, { noLinkLocal: true });
  changeDevice(host, outer.ifindex, { up: true, alias: "weir:test:one" });
  changeDevice(pod, findDevice(pod, "lo")!.ifindex, { up: true });
  changeDevice(pod, inner.ifindex, { up: true });
  addAddress(pod, inner.ifindex, Uint8Array.of(10, 9, 0, 2), 32);
  addAddress(host, outer.ifindex, Uint8Array.of(10, 9, 0, 1), 32);
  putRoute(pod, { destination: Uint8Array.of(10, 9, 0, 1), prefixLength: 32, ifindex: inner.ifindex });
  putRoute(pod, {
    destination: new Uint8Array(4),
    prefixLength: 0,
    ifindex: inner.ifindex,
    gateway: Uint8Array.of(10, 9, 0, 1),
    onlink: true,
  });
  const v6 = Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
  const gateway6 = v6.with(15, 1) as Uint8Array<ArrayBuffer>;
  addAddress(pod, inner.ifindex, v6, 128);
  putRoute(pod, { destination: gateway6, prefixLength: 128, ifindex: inner.ifindex });
  putRoute(pod, {
    destination: new Uint8Array(16),
    prefixLength: 0,
    ifindex: inner.ifindex,
    gateway: gateway6,
    onlink: true,
  });
  putRoute(host, { destination: Uint8Array.of(10, 9, 0, 2), prefixLength: 32, ifindex: outer.ifindex });
  console.log(`attach: ${(performance.now() - start).toFixed(1)} ms`);
  assert.equal(Deno.readLinkSync("/proc/thread-self/ns/net"), before, "the thread is back");
  assert.equal(inner.mac, "02:00:00:00:00:02");
  assert.equal(inner.mtu, 1450);
  assert.equal(findDevice(host, "lxc1")!.alias, "weir:test:one");
  assert.ok(listAddresses(pod, inner.ifindex).some((address) => address.prefixLength === 128));
  assert.equal(listRoutes(host, ROUTE_PROTOCOL).length, 1);
  assert.equal(listRoutes(pod, ROUTE_PROTOCOL).length, 4);
  const ping = new Deno.Command("ip", {
    args: ["netns", "exec", names[0], "ping", "-c1", "-W2", "10.9.0.2"],
  }).outputSync();
  assert.ok(ping.success, new TextDecoder().decode(ping.stdout));
  putNeighbour(pod, inner.ifindex, Uint8Array.of(10, 9, 0, 1), parseMac("02:00:00:00:00:01"));
  assert.equal(
    deleteRoute(host, { destination: Uint8Array.of(10, 9, 0, 2), prefixLength: 32, ifindex: outer.ifindex }),
    true,
  );
  assert.equal(
    deleteRoute(host, { destination: Uint8Array.of(10, 9, 0, 2), prefixLength: 32, ifindex: outer.ifindex }),
    false,
  );
  assert.equal(deleteDevice(host, outer.ifindex), true);
  assert.equal(deleteDevice(host, outer.ifindex), false);
  assert.equal(findDevice(pod, "eth0"), undefined);
});

netTest("createVeth() names the device when its name is taken", (a, b) => {
  using host = new NetlinkSocket(a);
  const spec = { name: "lxc1", mac: "02:00:00:00:00:01", peerMac: "02:00:00:00:00:02", netns: b, mtu: 1500 };
  createVeth(host, { ...spec, peerName: "eth0" });
  assert.throws(() => createVeth(host, { ...spec, peerName: "eth1" }), {
    code: "name-taken",
    message: /lxc1/,
  });
  assert.throws(() => createVeth(host, { ...spec, name: "lxc2", peerName: "eth0" }), { code: "name-taken" });
});

netTest("createVxlan() makes a device in collect-metadata mode", (a) => {
  using host = new NetlinkSocket(a);
  createVxlan(host, { name: "weir_vxlan", port: 8472, mtu: 1500, mac: "02:57:45:49:52:01" });
  const device = findDevice(host, "weir_vxlan")!;
  changeDevice(host, device.ifindex, { up: true, noarp: true });
  assert.equal(device.kind, "vxlan");
  assert.ok(listDevices(host).length >= 2);
});

netTest("Netns.open() tells a namespace that vanished", (_a, b, names) => {
  new Deno.Command("ip", { args: ["netns", "del", names[1]] }).outputSync();
  assert.throws(() => Netns.open(`/run/netns/${names[1]}`), { code: "namespace-gone" });
  const file = Deno.makeTempFileSync();
  try {
    using plain = Netns.open(file);
    assert.throws(() => plain.enter(() => 1), { code: "namespace-gone" });
  } finally {
    Deno.removeSync(file);
  }
  assert.ok(b.inode > 0, "an open descriptor keeps it");
});

netTest("writeSysctl() writes the namespace that the thread is in", (a) => {
  const outside = readSysctl("ipv4/ip_forward");
  const inside = a.enter(() => {
    assert.equal(writeSysctl("ipv4/ip_forward", "1"), true);
    assert.equal(writeSysctl("ipv4/no_such_setting", "1"), false);
    return readSysctl("ipv4/ip_forward");
  });
  assert.equal(inside, "1");
  assert.equal(readSysctl("ipv4/ip_forward"), outside);
});

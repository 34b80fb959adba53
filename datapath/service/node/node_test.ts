/** What the node's store tells the programs: addresses as the kernel gets them, VLANs as the configuration says. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { BpfMap, openPin } from "@weir/loader";
import { ADDRESS_BROADCAST, ADDRESS_HOST, AddressOwner, Config, VlanKey } from "@weir/maps";
import { unmapped } from "../kernel/addresses.ts";
import { nodeTest, sleep, type TestNode } from "../testing.ts";

const mapOf = (node: TestNode, name: string) =>
  new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/${name}`)!, name);

nodeTest(
  "Addresses that come and go are told at once: link scope, broadcasts, local routes",
  async (node) => {
    using addresses = mapOf(node, "weir_addresses");
    const flags = () =>
      Object.fromEntries(
        addresses.entries().map(([key, value]) => [unmapped(key), AddressOwner.decode(value)] as const)
          .filter(([, owner]) => owner.endpoint === 0).map(([text, owner]) => [text, owner.flags]),
      );
    /** Far sooner than the look that is taken every 30 s. */
    const becomes = async (text: string, wanted: number | undefined) => {
      for (let i = 0; i < 400 && flags()[text] !== wanted; i++) await sleep(50);
      assert.equal(flags()[text], wanted, text);
    };
    assert.equal(flags()["192.0.2.1"], ADDRESS_HOST);
    assert.equal(flags()["192.0.2.255"], ADDRESS_BROADCAST);
    assert.equal(flags()["10.44.0.1"], ADDRESS_HOST);
    assert.deepEqual(Object.keys(flags()).filter((text) => /^(127|fe80|ff|::1)/.test(text)), []);
    await node.exec("ip", "address", "add", "169.254.3.4/16", "scope", "link", "dev", "under0");
    await becomes("169.254.3.4", ADDRESS_HOST);
    await node.exec("ip", "address", "add", "198.18.0.1/24", "brd", "+", "dev", "under0");
    await becomes("198.18.0.1", ADDRESS_HOST);
    await becomes("198.18.0.255", ADDRESS_BROADCAST);
    await node.exec("ip", "address", "add", "2001:db8:5::1/64", "dev", "under0", "nodad");
    await becomes("2001:db8:5::1", ADDRESS_HOST);
    await becomes("2001:db8:5::", ADDRESS_HOST); // the routers' anycast address of that network
    await node.exec("ip", "route", "add", "local", "203.0.113.7/32", "dev", "lo");
    await becomes("203.0.113.7", ADDRESS_HOST);
    await node.exec("ip", "address", "delete", "198.18.0.1/24", "dev", "under0");
    await becomes("198.18.0.1", undefined);
    await becomes("198.18.0.255", undefined);
    await node.exec("ip", "route", "delete", "local", "203.0.113.7/32", "dev", "lo");
    await becomes("203.0.113.7", undefined);
    assert.equal(flags()["192.0.2.1"], ADDRESS_HOST);
  },
);

nodeTest("A node at rest changes nothing: the kernel tells of no address, route or device", async (node) => {
  // What is told meanwhile is told by ourselves. An IPv6 address that is added again is told again.
  await node.exec("ip", "address", "add", "192.0.2.7/32", "dev", "lo");
  let told = "";
  await until(() => `it comes to rest: ${told}`, async () => {
    told = await node.exec("sh", "-c", "timeout 3 ip monitor address route link || true");
    return told === "";
  });
});

nodeTest(
  "An outer device that comes back as another is taken, and the routes that went with its address",
  async (node) => {
    await node.request("PUT", "/v1/remotenodes/other", {
      name: "other",
      ipv4: "192.0.2.2",
      podCidrV4: "10.45.0.0/24",
    });
    const route = () => node.exec("ip", "route", "show", "10.45.0.0/24");
    const index = async () => parseInt(await node.exec("ip", "-o", "link", "show", "under0"));
    /** Far sooner than the look that is taken every 30 s. */
    const becomes = async (what: string, holds: () => Promise<boolean>) => {
      for (let i = 0; i < 400 && !await holds(); i++) await sleep(50);
      assert.ok(await holds(), what);
    };
    const isRouted = async () => /10\.45\.0\.0\/24/.test(await route());
    assert.ok(await isRouted());
    const before = await index();
    await node.exec("ip", "address", "delete", "192.0.2.1/24", "dev", "under0");
    await node.exec("ip", "address", "add", "192.0.2.1/24", "dev", "under0");
    await becomes("the address is there again, and the route too", isRouted);
    await node.exec("ip", "link", "delete", "under0");
    await node.exec("ip", "link", "add", "under0", "type", "veth", "peer", "name", "under1");
    await node.exec("ip", "link", "set", "under1", "up");
    await node.exec("ip", "address", "add", "192.0.2.1/24", "dev", "under0");
    await node.exec("ip", "link", "set", "under0", "up");
    await becomes("the device is there again, and the route too", isRouted);
    using config = mapOf(node, "weir_config");
    const ifindex = await index();
    assert.notEqual(ifindex, before);
    await becomes(
      "the programs know the device",
      () => Promise.resolve(Config.decode(config.entries()[0][1]).outerIfindex === ifindex),
    );
    const { items } = await node.request("GET", "/v1/programs") as {
      items: { name: string; attachedTo: string }[];
    };
    const on = items.filter(({ attachedTo }) => attachedTo.includes("under0")).map(({ name }) => name).sort();
    assert.deepEqual(on, ["from_netdev", "to_netdev"]);
    await node.exec("ip", "address", "delete", "10.44.0.1/32", "dev", "lo");
    await becomes(
      "the gateway's address is there again",
      async () => /10\.44\.0\.1/.test(await node.exec("ip", "address", "show", "lo")),
    );
  },
);

nodeTest("An endpoint's address stays its own, though the host has it too", async (node) => {
  using addresses = mapOf(node, "weir_addresses");
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, await node.pod("a")));
  const owner = () =>
    addresses.entries().filter(([key]) => unmapped(key) === "10.44.0.10").map(([, value]) =>
      AddressOwner.decode(value).endpoint
    );
  assert.deepEqual(owner(), [10]);
  await node.exec("ip", "address", "add", "10.44.0.10/32", "dev", "lo");
  await sleep(1000);
  assert.deepEqual(owner(), [10]);
});

nodeTest("VLANs that the configuration lets through reach the kernel, and go again", async (node) => {
  using vlans = mapOf(node, "weir_vlans");
  const now = () => vlans.keys().map((key) => VlanKey.decode(key).vlan).sort((a, b) => a - b);
  assert.deepEqual(now(), []);
  await node.configure({ vlanAllow: [200, 100] });
  assert.deepEqual(now(), [100, 200]);
  const ifindex = parseInt(await node.exec("ip", "-o", "link", "show", "under0"));
  assert.ok(vlans.keys().every((key) => VlanKey.decode(key).ifindex === ifindex));
  for (const wrong of [0, 4095]) await assert.rejects(node.configure({ vlanAllow: [wrong] }), /VLAN/);
  assert.deepEqual(now(), [100, 200]);
  await node.configure({ vlanAllow: [100] });
  assert.deepEqual(now(), [100]);
  await node.configure();
  assert.deepEqual(now(), []);
});

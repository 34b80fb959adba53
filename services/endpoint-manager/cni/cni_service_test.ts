import assert from "node:assert/strict";
import { CniRequest } from "@weir/proto/endpoint";
import { Endpoint } from "@weir/proto/endpoint";
import { until } from "@weir/common/testing/until";
import { CniTestNode, requestOf } from "./testing.ts";
import { CNI_VERSIONS } from "./versions.ts";

const ALL = { labels: ["app=web"] };

Deno.test("CniService answers ADD when the endpoint is READY, in each version of CNI", async () => {
  await using cni = await new CniTestNode().start();
  for (const [index, cniVersion] of CNI_VERSIONS.entries()) {
    const containerId = `c${index}`;
    const { exitCode, output } = await cni.ask("ADD", { containerId }, { ...ALL, cniVersion });
    assert.equal(exitCode, 0, JSON.stringify(output));
    assert.deepEqual(cni.endpoints()[index], `${containerId} ${containerId} READY`);
    const ip = (version: string, address: string, gateway: string) => ({
      ...(cniVersion < "1.0.0" ? { version } : {}),
      interface: 1,
      address,
      gateway,
    });
    assert.deepEqual(output, {
      cniVersion,
      interfaces: [{ name: "" }, { name: "eth0", mac: "", sandbox: `/run/netns/${containerId}` }],
      ips: [ip("4", `10.0.1.${index + 2}/32`, "10.0.1.1"), ip("6", `fd00:1::${index + 2}/128`, "fd00:1::1")],
      routes: [{ dst: "0.0.0.0/0", gw: "10.0.1.1" }, { dst: "::/0", gw: "fd00:1::1" }],
      dns: {},
    });
  }
  const { labels, cniNetwork } = cni.node.manager.table.view.get("c0")!;
  assert.deepEqual([labels, cniNetwork], [["container:network=weir", "unspec:app=web"], "weir"]);
});

Deno.test("CniService takes labels and namespace of CNI_ARGS, and names a second device's endpoint after both", async () => {
  await using cni = await new CniTestNode().start();
  const args = "IgnoreUnknown=1;WEIR_LABELS=k8s:app=db,tier=1;WEIR_NAMESPACE=shop;K8S_POD_NAME=db-1";
  await cni.ask("ADD", { args }, { labels: ["tier=2"] });
  await cni.ask("ADD", { args, ifname: "net1" });
  const { labels, namespace, podName } = cni.node.manager.table.view.get("c1")!;
  assert.deepEqual(labels, ["container:name=db-1", "container:network=weir", "k8s:app=db", "unspec:tier=1"]);
  assert.deepEqual([namespace, podName], ["shop", "db-1"]);
  assert.deepEqual(cni.endpoints(), ["c1 c1 READY", "c1/net1 c1 READY"]);
  await cni.ask("DEL", { ifname: "net1" });
  assert.deepEqual(cni.endpoints(), ["c1 c1 READY"]);
});

Deno.test("CniService gives the same container the same endpoint again, and DEL is repeatable, of unknown ones too", async () => {
  await using cni = await new CniTestNode().start();
  const first = await cni.ask("ADD"), second = await cni.ask("ADD");
  assert.deepEqual(first, second);
  for (let i = 0; i < 2; i++) {
    assert.deepEqual(await cni.ask("DEL", { netns: "" }), { exitCode: 0, output: undefined });
  }
  assert.deepEqual(await cni.ask("DEL", { containerId: "never" }), { exitCode: 0, output: undefined });
  assert.deepEqual(cni.endpoints(), []);
  assert.equal(cni.node.neighbours.kernel.size, 0);
});

Deno.test("CniService leaves nothing of an ADD that fails", async () => {
  await using cni = await new CniTestNode().start();
  const { neighbours } = cni.node;
  neighbours.fail = "putEndpoint";
  const { exitCode, output } = await cni.ask("ADD");
  assert.deepEqual([exitCode, output.code], [1, 11]);
  assert.match(output.msg, /Cannot add endpoint c1: it is .*putEndpoint c1 .* failed/);
  assert.deepEqual([cni.endpoints(), neighbours.ipcacheTable.rows.size], [[], 0]);
  neighbours.fail = undefined;
  const again = await cni.ask("ADD");
  assert.deepEqual([again.exitCode, cni.endpoints()], [0, ["c1 c1 READY"]]);
});

Deno.test("CniService ends an ADD that waits when the container's DEL comes", async () => {
  await using cni = await new CniTestNode().start();
  cni.node.neighbours.hang.add("allocate");
  const adding = cni.cni.handle("ADD", requestOf());
  await until("the ADD has made its endpoint", async () => {
    await cni.node.pass(1000);
    return cni.endpoints().length === 1;
  }, 1);
  assert.equal((await cni.ask("DEL")).exitCode, 0);
  cni.node.neighbours.hang.clear();
  const { exitCode, output } = await cni.answerOf(adding);
  assert.deepEqual([exitCode, output.code], [1, 11]);
  await cni.node.pass(20_000);
  assert.deepEqual(cni.endpoints(), []);
});

Deno.test("CniService says what is wrong with a request by CNI's codes", async () => {
  await using cni = await new CniTestNode().start();
  const cases: [string, Parameters<CniTestNode["ask"]>, number, RegExp][] = [
    ["no container", ["ADD", { containerId: "" }], 4, /CNI_CONTAINERID: found ""/],
    ["no namespace", ["ADD", { netns: "" }], 4, /CNI_NETNS/],
    ["a device name with a slash", ["ADD", { ifname: "a/b" }], 4, /CNI_IFNAME/],
    [
      "no JSON",
      ["ADD", { config: new TextEncoder().encode("{") }],
      6,
      /Cannot read the network configuration/,
    ],
    ["an unknown version", ["ADD", {}, { cniVersion: "9.0.0" }], 1, /CNI 9.0.0/],
    ["CHECK before it was there", ["CHECK", {}, { cniVersion: "0.3.1" }], 1, /does not have it/],
    ["GC before it was there", ["GC", {}, { cniVersion: "1.0.0" }], 1, /does not have it/],
    ["GC without a list", ["GC"], 7, /valid-attachments is missing/],
    ["labels that are none", ["ADD", {}, { labels: "a" }], 7, /labels is wrong/],
    ["a label that is none", ["ADD", {}, { labels: ["=x"] }], 4, /labels\[/],
    [
      "another plugin's result without a device",
      ["ADD", {}, { prevResult: {} }],
      7,
      /no interface of it is eth0/,
    ],
  ];
  for (const [name, words, code, message] of cases) {
    const { exitCode, output } = await cni.ask(...words);
    assert.deepEqual([exitCode, output.code], [1, code], `${name}: ${JSON.stringify(output)}`);
    assert.match(output.msg, message, name);
  }
  assert.deepEqual(cni.endpoints(), []);
});

Deno.test("CniService says on CHECK what is not as it was added", async () => {
  await using cni = await new CniTestNode().start();
  assert.equal((await cni.ask("CHECK")).output.code, 3);
  const { output: prevResult } = await cni.ask("ADD");
  assert.deepEqual(await cni.ask("CHECK", {}, { prevResult }), { exitCode: 0, output: undefined });
  const other = { ...prevResult, ips: [{ address: "10.9.9.9/32" }] };
  assert.match((await cni.ask("CHECK", {}, { prevResult: other })).output.msg, /does not have 10.9.9.9/);
  cni.node.neighbours.datapathTable.delete("c1");
  assert.match((await cni.ask("CHECK", {}, { prevResult })).output.msg, /the datapath does not have it/);
});

Deno.test("CniService.GC removes what is not valid of its own network, and nothing that no runtime made", async () => {
  await using cni = await new CniTestNode().start();
  for (const containerId of ["a", "b", "c"]) await cni.ask("ADD", { containerId });
  await cni.ask("ADD", { containerId: "other" }, { name: "other" });
  const web = Endpoint.create({ name: "web", netns: "/run/netns/web" });
  await cni.node.manager.put("web", web);
  await cni.node.settle();
  const valid = [{ containerID: "b", ifname: "eth0" }, { containerID: "c", ifname: "net1" }];
  const { exitCode } = await cni.ask("GC", { containerId: "", ifname: "", netns: "" }, {
    "cni.dev/valid-attachments": valid,
  });
  assert.equal(exitCode, 0);
  assert.deepEqual(cni.endpoints().map((line) => line.split(" ")[0]).sort(), ["b", "other", "web"]);
});

Deno.test("CniService.STATUS says what the node waits for, and ADD waits for it", async () => {
  await using cni = new CniTestNode();
  cni.node.neighbours.nodeTable.synced = false;
  await cni.start();
  const status = await cni.ask("STATUS");
  assert.deepEqual([status.exitCode, status.output.code], [1, 50]);
  assert.match(status.output.msg, /waits for .*nodes from the identity allocator/);
  const adding = cni.cni.handle("ADD", requestOf());
  await cni.node.pass(3000);
  cni.node.neighbours.nodeTable.sync();
  assert.equal((await cni.answerOf(adding)).exitCode, 0);
  assert.deepEqual(await cni.ask("STATUS"), { exitCode: 0, output: undefined });
});

Deno.test("CniService says so when the node's pool is exhausted, and leaves nothing", async () => {
  await using cni = await new CniTestNode().start();
  for (let i = 2; i <= 254; i++) {
    const endpoint = Endpoint.create({
      name: `e${i}`,
      netns: `/n/${i}`,
      ipv4: `10.0.1.${i}`,
      ipv6: `fd00:1::${i}`,
    });
    await cni.node.manager.put(`e${i}`, endpoint);
  }
  await cni.node.settle();
  const { output } = await cni.ask("ADD");
  assert.equal(output.code, 11);
  assert.match(output.msg, /Cannot give c1 an address of 10.0.1.0\/24: 253 of 253 are in use/);
  assert.equal(cni.node.manager.table.view.get("c1"), undefined);
});

Deno.test("CniService takes the device that another plugin made", async () => {
  await using cni = await new CniTestNode().start();
  const prevResult = {
    cniVersion: "1.0.0",
    interfaces: [{ name: "cni0" }, { name: "veth1" }, {
      name: "eth0",
      mac: "02:00:00:00:00:07",
      sandbox: "/run/netns/c1",
    }],
    ips: [{ interface: 2, address: "10.22.0.7/16" }],
  };
  const { exitCode, output } = await cni.ask("ADD", {}, { prevResult, cniVersion: "1.0.0" });
  assert.deepEqual([exitCode, output], [0, prevResult]);
  const { device, netns, mac, status } = cni.node.manager.table.view.get("c1")!;
  assert.deepEqual([device, netns, mac], ["veth1", "", "02:00:00:00:00:07"]);
  assert.deepEqual([status?.ipv4, status?.ipv6, status?.state], ["10.22.0.7", "", "READY"]);
  assert.equal((await cni.ask("CHECK", {}, { prevResult })).exitCode, 0);
});

Deno.test("CniService plays queued deletions back in order before an ADD; what is half written or none is no harm", async () => {
  const deletions = await Deno.makeTempDir();
  try {
    await using cni = await new CniTestNode({ deletions }).start();
    const queue = (name: string, request: Partial<CniRequest>) =>
      Deno.writeFile(`${deletions}/${name}`, CniRequest.encode(CniRequest.create(request)));
    await cni.ask("ADD");
    await cni.ask("ADD", { containerId: "c2" });
    const number = () => cni.node.manager.table.view.get("c1")!.status!.id;
    const before = number();
    await queue("0000000000000001-00000001", { containerId: "c1", ifname: "eth0" });
    await queue("0000000000000002-00000001", { containerId: "gone", ifname: "eth0" });
    await Deno.writeFile(`${deletions}/0000000000000003-00000001`, Uint8Array.of(0x0a, 0x7f, 1));
    await queue(".0000000000000004-00000001.tmp", { containerId: "c2", ifname: "eth0" });
    await Deno.symlink("/etc/passwd", `${deletions}/0000000000000005-00000001`);
    const again = await cni.ask("ADD");
    assert.equal(again.exitCode, 0, JSON.stringify(again.output));
    assert.notEqual(number(), before, "the endpoint of before was deleted first");
    assert.deepEqual(cni.endpoints().map((line) => line.split(" ")[0]).sort(), ["c1", "c2"]);
    const left = () => Array.from(Deno.readDirSync(deletions), ({ name }) => name);
    assert.deepEqual(left(), [".0000000000000004-00000001.tmp"], "somebody may be writing it");
    assert.equal(cni.logged.filter((line) => /it is dropped/.test(line)).length, 2);
    const long = new Date(cni.node.clock.nowMs() - 120_000);
    await Deno.utime(`${deletions}/${left()[0]}`, long, long);
    await cni.ask("ADD");
    assert.deepEqual(left(), [], "nobody writes it any more");
  } finally {
    await Deno.remove(deletions, { recursive: true });
  }
});

/**
 * A device that others made is an endpoint: a VM's tap, here the host side of a veth whose other end plays the VM.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { canRun, Lab, names, run } from "./weir.ts";

const lab = new Lab(`dev${Deno.pid}`);
const vm = `wt-vm-${Deno.pid}`;
const server = new URL("testdata/server.py", import.meta.url).pathname;
const MAC = "02:00:00:00:00:77";
const IPV6 = "fd57:6569:7200:ffff::77";

const pod = (name: string, node: number) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: default, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-${node}, containers: [{ name: main, command: [python3, "${server}", "80/TCP"] }] }\n`;

async function ok(...words: string[]): Promise<string> {
  const ran = await run(words[0], words.slice(1));
  assert.equal(ran.code, 0, `${words.join(" ")}: exit ${ran.code}\n${ran.err}`);
  return ran.out;
}
const ip = (text: string) => ok("ip", ...text.split(" "));
/** TCP to an address from inside the VM: the exit code of curl, 0 answered, 28 timed out. */
const fromVm = async (address: string) =>
  (await run("nsenter", [
    `--net=/run/netns/${vm}`,
    "curl",
    "-s",
    "-o",
    "/dev/null",
    "-m",
    "2",
    `telnet://${address}:80`,
  ])).code;

/** Other nodes drop the packets of a new identity until their policies know it. */
async function reached(address: string): Promise<void> {
  const ping = [`--net=/run/netns/${vm}`, "ping", "-n", "-c", "1", "-W", "1", address];
  await until(`the VM reaches ${address}`, async () => (await run("nsenter", ping)).code === 0);
}

Deno.test({
  name:
    "a device endpoint: both ways on one node and across, source address checked, policy by its label, deleted",
  ignore: !canRun,
  async fn() {
    await lab.up(2, [pod("near", 1), pod("far", 2)].join("---\n"));
    try {
      const get = async (name: string, node: string) =>
        JSON.parse(await lab.ok(["endpoint", "get", name, "--node", node, "-o", "json"])).status;
      const near = await get("default/near", "node-1"), far = await get("default/far", "node-2");
      const address = (near.ipv4 as string).replace(/\.\d+$/, ".200");
      const gateway = address.replace(/\.\d+$/, ".1");
      await ip(`netns add ${vm}`);
      await lab.ok([
        "lab",
        "exec",
        "--node",
        "node-1",
        "--",
        "ip",
        "link",
        "add",
        "vm0",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        vm,
      ]);
      const noMac = await lab.weir([
        "endpoint",
        "add",
        "vm",
        "--node",
        "node-1",
        "--device",
        "vm0",
        "--label",
        "app=vm",
      ]);
      assert.equal(noMac.code, 1);
      assert.match(noMac.err, /mac: found none/);
      await lab.ok([
        ...[
          "endpoint",
          "add",
          "vm",
          "--node",
          "node-1",
          "--device",
          "vm0",
          "--mac",
          MAC,
          "--ipv4",
          address,
          "--ipv6",
          IPV6,
        ],
        ...["--label", "app=vm", "--wait"],
      ]);
      for (
        const command of [
          `link set lo up`,
          `link set eth0 address ${MAC} up`,
          `addr add ${address}/32 dev eth0`,
          `route add ${gateway} dev eth0`,
          `route add default via ${gateway}`,
        ]
      ) await ip(`-n ${vm} ${command}`);
      for (const { ipv4 } of [near, far]) await reached(ipv4);
      await lab.expect([
        `from: near, to: ${address}, port: ICMP, expect: allow`,
        `from: far, to: ${address}, port: ICMP, expect: allow`,
      ]);
      await lab.apply(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: no-vm, namespace: default }\n" +
          "spec: { endpointSelector: { matchLabels: { app: far } }, ingressDeny: [{ fromEndpoints: [{ matchLabels: { app: vm } }] }] }\n",
      );
      assert.equal(await fromVm(far.ipv4), 28);
      await lab.flow(
        "the VM denied by its label",
        (f) => f.verdict === "DROPPED" && names(f.ingress_denied_by, "no-vm"),
        "--from-ip",
        address,
      );
      await ip(`-n ${vm} addr add 192.0.2.77/32 dev eth0`);
      await run("nsenter", [
        `--net=/run/netns/${vm}`,
        "ping",
        "-c",
        "1",
        "-W",
        "1",
        "-I",
        "192.0.2.77",
        near.ipv4,
      ]);
      await lab.flow(
        "a borrowed source address",
        (f) => f.verdict === "DROPPED" && f.drop_reason_desc === "INVALID_SOURCE_IP",
        "--from-ip",
        "192.0.2.77",
      );
      await lab.ok(["endpoint", "delete", "vm", "--node", "node-1"]);
      const link = await lab.ok(["lab", "exec", "--node", "node-1", "--", "ip", "-o", "link", "show", "vm0"]);
      assert.match(link, /vm0/, "the device is not ours to remove");
    } finally {
      await run("ip", ["netns", "delete", vm]);
      await lab.down();
    }
  },
});

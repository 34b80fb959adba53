/**
 * The CNI plugin with the real agent and datapath on one host: what a runtime asks, packets, chained plugins, an agent that is
 * killed, deletions that wait, and two hundred containers that come and go. `cnitool` and the reference plugins are those that the
 * Kubernetes bed builds; without them the cases that need them are skipped.
 * @module
 */
import assert from "node:assert/strict";
import { HOST_ENDPOINT } from "@weir/common";
import { until } from "@weir/common/testing/until";
import { Machine, MachineNetwork } from "./machine.ts";
import { canRun, type Ran } from "./weir.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Where the agent puts the plugin, and the configuration that names it. */
const PLUGINS = "/run/cni/bin", CONFIGS = "/run/cni/net.d", PLUGIN = `${PLUGINS}/weir-cni`;
const AGENT = [
  ...["--control-plane", "--no-flow-history"],
  ...["--cni-conf-directory", CONFIGS, "--cni-binary-directory", PLUGINS],
];
/** Where the bed builds what is not ours. */
const BUILT = `${Deno.env.get("WEIR_KUBERNETES_CACHE") ?? `${root}.build/kubernetes`}/bin/cni`;
const hasTools = await Deno.stat(`${BUILT}/cnitool`).then(() => true, () => false);
if (!hasTools) {
  console.log(
    `SKIP tests/e2e/cni_test.ts: parts with cnitool, ptp and portmap: ${BUILT}/cnitool is not there`,
  );
}

const CONFIG = { cniVersion: "1.1.0", name: "weir", type: "weir-cni", labels: ["app=web"] };

const machine = new Machine("cni-host", "192.0.2.1");

/** Runs the plugin as a runtime would. */
function plugin(
  command: string,
  container: string,
  config: object = CONFIG,
  more: string[] = [],
): Promise<Ran> {
  const variables = [
    `CNI_COMMAND=${command}`,
    `CNI_CONTAINERID=${container}`,
    "CNI_IFNAME=eth0",
    "CNI_PATH=/opt/cni/bin",
  ];
  return machine.run(
    ["env", ...variables, `CNI_NETNS=/run/netns/${container}`, ...more, PLUGIN],
    JSON.stringify(config),
  );
}
async function okPlugin(...words: Parameters<typeof plugin>): Promise<string> {
  const { code, out, err } = await plugin(...words);
  assert.equal(code, 0, `${words[0]} ${words[1]}: ${out}${err}`);
  return out;
}
async function add(container: string, config: object = CONFIG, more: string[] = []): Promise<string> {
  await machine.ok(["ip", "netns", "add", container]);
  const { ips } = JSON.parse(await okPlugin("ADD", container, config, more));
  return ips[0].address.split("/")[0];
}
async function endpoints(): Promise<string[]> {
  const listed = JSON.parse(await machine.weir(["endpoint", "list", "-o", "json"]));
  return listed.map(({ name }: { name: string }) => name).filter((name: string) => name !== HOST_ENDPOINT)
    .sort();
}
const pings = async (from: string, to: string) =>
  (await machine.run([
    ...(from === "" ? [] : ["ip", "netns", "exec", from]),
    "ping",
    "-c",
    "1",
    "-W",
    "2",
    to,
  ])).code === 0;
/** Devices, records and addresses that there are of endpoints. */
async function kernelHas(): Promise<{ devices: number; endpoints: number }> {
  const devices =
    (await machine.ok(["ip", "-o", "link"])).split("\n").filter((line) => /: lxc/.test(line)).length;
  const rows = JSON.parse(await machine.weir(["bpf", "endpoint", "list", "-o", "json"]));
  return { devices, endpoints: rows.length };
}

Deno.test({
  name: "CNI on one host: add, packets under policy, check, gc, agent killed, queue, churn",
  ignore: !canRun,
  async fn(t) {
    await using _network = await MachineNetwork.up(machine);
    await machine.ok(["ip", "route", "add", "default", "via", "192.0.2.254"]);
    await machine.startAgent(...AGENT);

    await t.step("only root may ask", async () => {
      const mode = (await machine.ok(["stat", "-c", "%a %U", "/run/weir/host/cni.sock"])).trim();
      assert.equal(mode, "600 root");
      const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
      const ran = await machine.run(
        ["env", "CNI_COMMAND=STATUS", ...asNobody, PLUGIN],
        JSON.stringify(CONFIG),
      );
      assert.deepEqual([ran.code, JSON.parse(ran.out).code], [1, 50]);
      assert.match(ran.out, /Permission denied/);
    });

    await t.step(
      "the agent installs the plugin, and says that pods may come when they can be taken",
      async () => {
        const config = `${CONFIGS}/05-weir.conflist`;
        await until(
          "the configuration is there",
          async () => (await machine.run(["test", "-e", config])).code === 0,
        );
        const { plugins: [weir], ...list } = JSON.parse(await machine.ok(["cat", config]));
        assert.deepEqual(list, { cniVersion: "1.0.0", cniVersions: ["1.0.0", "1.1.0"], name: "weir" });
        await machine.ok(["ip", "netns", "add", "installed"]);
        await okPlugin("ADD", "installed", { cniVersion: "1.0.0", name: "weir", ...weir });
        await okPlugin("DEL", "installed", { cniVersion: "1.0.0", name: "weir", ...weir });
        const installed = (await machine.ok(["ls", "-A", PLUGINS, CONFIGS])).match(/^.*weir.*$/gm);
        assert.deepEqual(installed, ["weir-cni", "05-weir.conflist"], "and nothing half written");
      },
    );

    let web = "";
    await t.step(
      "containers reach each other as policy says, and the host reaches them whatever it says",
      async () => {
        assert.equal(await okPlugin("STATUS", ""), "");
        web = await add("web");
        await add("client", CONFIG, ["CNI_ARGS=WEIR_LABELS=app=client"]);
        await add("stranger", { ...CONFIG, labels: ["app=stranger"] });
        assert.equal(await pings("client", web), true);
        await machine.weir(
          ["policy", "apply", "-f", "-"],
          "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web }\n" +
            "spec: { endpointSelector: { matchLabels: { 'container:network': weir, app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }\n",
        );
        await until("the policy is in force", async () => !await pings("stranger", web));
        assert.equal(await pings("client", web), true, "who is allowed");
        assert.equal(await pings("", web), true, "the kubelet's probes come from the host");
      },
    );

    await t.step("the same again is the same; CHECK tells what is wrong", async () => {
      const first = JSON.parse(await okPlugin("ADD", "web"));
      assert.equal(first.ips[0].address, `${web}/32`);
      await okPlugin("CHECK", "web", { ...CONFIG, prevResult: first });
      const other = await plugin("CHECK", "nobody", { ...CONFIG, prevResult: first });
      assert.equal(JSON.parse(other.out).code, 3);
    });

    await t.step("an ADD that cannot be done leaves nothing", async () => {
      const before = await kernelHas();
      const ran = await plugin("ADD", "no-such-namespace");
      assert.equal(ran.code, 1, ran.out);
      assert.match(JSON.parse(ran.out).msg, /no-such-namespace.*is not there/);
      assert.deepEqual(await kernelHas(), before);
    });

    await t.step(
      "the agent is killed: traffic goes on, DEL waits, ADD says try again, and then all is done",
      async () => {
        await machine.killAgent();
        assert.equal(await pings("client", web), true);
        assert.equal(await pings("stranger", web), false);
        assert.equal(await okPlugin("DEL", "stranger"), "");
        assert.equal(await okPlugin("DEL", "stranger"), "");
        await machine.ok(["ip", "netns", "delete", "stranger"]);
        const status = await plugin("STATUS", "");
        assert.deepEqual([status.code, JSON.parse(status.out).code], [1, 50]);
        assert.equal(JSON.parse((await plugin("CHECK", "web")).out).code, 11);
        const queue = "/var/lib/weir/host/cni-deletions";
        assert.equal((await machine.ok(["ls", queue])).trim().split("\n").length, 2);
        // What a crash of the machine may leave.
        await machine.ok(["sh", "-c", `printf 'half' > ${queue}/0000000000000001-00000001`]);
        // One that comes while nobody is there waits for the agent that is starting.
        await machine.ok(["ip", "netns", "add", "late"]);
        const late = plugin("ADD", "late");
        await machine.startAgent(...AGENT);
        const { code, out } = await late;
        if (code !== 0) {
          assert.equal(JSON.parse(out).code, 11, out);
          await okPlugin("ADD", "late");
        }
        assert.deepEqual(await endpoints(), ["client", "late", "web"]);
        assert.equal((await machine.ok(["ls", "-A", queue])).trim(), "");
        assert.equal(await pings("client", web), true);
        await okPlugin("DEL", "late");
      },
    );

    await t.step("GC removes what the runtime does not list", async () => {
      await add("leaked");
      const valid = ["web", "client"].map((containerID) => ({ containerID, ifname: "eth0" }));
      await okPlugin("GC", "", { ...CONFIG, "cni.dev/valid-attachments": valid });
      assert.deepEqual(await endpoints(), ["client", "web"]);
    });

    await t.step({
      name: "with cnitool: portmap after us, and ptp before us",
      ignore: !hasTools,
      fn: () => chained(web),
    });

    await t.step("two hundred containers come and go and leave nothing", async () => {
      const before = await kernelHas();
      const one = async (i: number) => {
        await add(`churn${i}`);
        await okPlugin("DEL", `churn${i}`);
        await machine.ok(["ip", "netns", "delete", `churn${i}`]);
      };
      for (let i = 0; i < 200; i += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => one(i + k)));
      assert.deepEqual(await endpoints(), ["client", "web"]);
      assert.deepEqual(await kernelHas(), before);
      await until("the identity allocator has no holder more", async () => {
        const out = await machine.ok([
          ...["curl", "-s", "--unix-socket", "/run/weir/host/identity-allocator.sock"],
          "http://x/v1/holders",
        ]);
        return JSON.parse(out).items.length === 2;
      });
    });

    await t.step("uninstall takes plugin and configuration away", async () => {
      for (const name of ["web", "client"]) await okPlugin("DEL", name);
      await machine.stopAgent();
      await machine.weir(["uninstall"]);
      assert.equal((await machine.ok(["find", PLUGINS, CONFIGS, "-type", "f"])).trim(), "");
      assert.deepEqual((await machine.ok(["find", "/var/lib/weir/host", "-name", "cni*"])).trim(), "");
    });
  },
});

/** Other plugins after us and before us, by the tool of CNI's makers. */
async function chained(web: string): Promise<void> {
  const net = "/run/cni-net";
  const list = (name: string, plugins: object[]) =>
    machine.ok(
      ["sh", "-c", `mkdir -p ${net} && cat > ${net}/${name}.conflist`],
      JSON.stringify({ cniVersion: "1.1.0", name, plugins }),
    );
  const { type, labels } = CONFIG;
  await list("behind", [{ type, labels }, {
    type: "portmap",
    capabilities: { portMappings: true },
    backend: "iptables",
  }]);
  await list("before", [
    {
      type: "ptp",
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: "10.22.0.0/24" }]],
        routes: [{ dst: "0.0.0.0/0" }],
        dataDir: "/run/host-local",
      },
    },
    { type, labels: ["app=client"] },
  ]);
  const tool = (command: string, name: string, netns: string, more: string[] = []) =>
    machine.ok([
      "env",
      `NETCONFPATH=${net}`,
      `CNI_PATH=${PLUGINS}:${BUILT}`,
      ...more,
      `${BUILT}/cnitool`,
      command,
      name,
      `/run/netns/${netns}`,
    ]);
  for (const netns of ["mapped", "found"]) await machine.ok(["ip", "netns", "add", netns]);
  const mappings = [`CAP_ARGS={"portMappings":[{"hostPort":8088,"containerPort":80,"protocol":"tcp"}]}`];
  await tool("add", "behind", "mapped", mappings);
  assert.match(await machine.ok(["iptables-save", "-t", "nat"]), /--dport 8088/);
  await tool("check", "behind", "mapped", mappings);
  await tool("del", "behind", "mapped", mappings);
  assert.doesNotMatch(await machine.ok(["iptables-save", "-t", "nat"]), /--dport 8088/);

  const result = JSON.parse(await tool("add", "before", "found"));
  const host = result.interfaces[0].name;
  assert.match(host, /^veth/, "the other plugin's result is passed on");
  const found = JSON.parse(await machine.weir(["endpoint", "list", "-o", "json"]))
    .find(({ device }: { device: string }) => device === host);
  assert.equal(found.status.ipv4, result.ips[0].address.split("/")[0]);
  assert.equal(await pings("", found.status.ipv4), true);
  assert.equal(await pings("found", web), true, "a client by its label");
  await machine.weir(["endpoint", "label", found.name, "app=stranger"]);
  await until("it is no client any more", async () => !await pings("found", web));
  await tool("check", "before", "found");
  await tool("del", "before", "found");
  assert.equal((await machine.run(["ip", "link", "show", host])).code, 1);
  assert.deepEqual(await endpoints(), ["client", "web"]);
}

/** An endpoint that is removed while it sends: at no moment does a packet of it pass that no policy has seen. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { sleep, TestNode } from "../testing.ts";

/** Sends to the world, some 20,000 packets a second. */
const FLOOD = `import socket,time
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); n=0
while True:
    n+=1
    if n%20==0: time.sleep(0.001)
    try: s.sendto(b'flood',('192.0.2.9',9))
    except OSError: pass
`;
/**
 * Says how many of these leave the node, when its input ends. It hears nothing before it is bound: else it would count what
 * the endpoint's device brings in meanwhile.
 */
const COUNT = `import select,socket,sys
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,0); s.bind(('under1',3))
n=0; print('ready',flush=True)
while True:
    r,_,_=select.select([s,sys.stdin],[],[])
    if s in r:
        p=s.recv(2000); n+=p[12:14]==b'\\x08\\x00' and p[23]==17 and p[36:38]==b'\\0\\x09'
    elif not sys.stdin.read(1): break
print(n)
`;

function python(netns: string, code: string): Deno.ChildProcess {
  return new Deno.Command("nsenter", {
    args: [`--net=/run/netns/${netns}`, "python3", "-c", code],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

/** How many packets leave while `during` runs. */
async function leaving(node: TestNode, during: () => Promise<unknown>): Promise<number> {
  const counter = python(node.netns, COUNT);
  const reader = counter.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.match((await reader.read()).value!, /ready/);
  await during();
  await counter.stdin.close();
  const { value } = await reader.read();
  await reader.cancel();
  await counter.status;
  return Number(value);
}

interface Case {
  name: string;
  kind: "DEVICE" | "NETNS";
  remove: (node: TestNode, body: Record<string, unknown>) => Promise<unknown>;
  /** What the device is afterwards. */
  after: RegExp;
}
const gone = /does not exist/, down = /state DOWN/;
const CASES: Case[] = [
  {
    name: "a pod that is deleted",
    kind: "NETNS",
    after: gone,
    remove: (node) => node.request("DELETE", "/v1/endpoints/x"),
  },
  {
    name: "a device that is deleted",
    kind: "DEVICE",
    after: down,
    remove: (node) => node.request("DELETE", "/v1/endpoints/x"),
  },
  {
    name: "an endpoint that moves to another device",
    kind: "DEVICE",
    after: down,
    remove: async (node, body) => {
      await node.exec("ip", "link", "add", "vm1", "type", "veth", "peer", "name", "vm1p");
      await node.request("PUT", "/v1/endpoints/x", { ...body, device: "vm1" });
    },
  },
  {
    name: "a device that a later process does not know",
    kind: "DEVICE",
    after: down,
    remove: async (node) => {
      await node.stop("SIGKILL");
      await node.start();
      await node.configure();
      await node.request("POST", "/v1/sync");
    },
  },
  {
    name: "a device when Weir is uninstalled",
    kind: "DEVICE",
    after: down,
    remove: async (node) => {
      // One that runs would take the device up again.
      await node.stop("SIGKILL");
      await node.uninstall();
    },
  },
];

for (const [i, test] of CASES.entries()) {
  Deno.test({
    name: `no packet passes unjudged of ${test.name}`,
    ignore: TestNode.skipped() !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const node = await TestNode.create(`rm${i}`);
      let flood: Deno.ChildProcess | undefined;
      try {
        await node.start();
        await node.configure();
        await node.exec("ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:99", "dev", "under0");
        const netns = await node.pod("vm");
        let body = node.endpoint(20, netns), device = "";
        if (test.kind === "DEVICE") {
          const mac = "02:00:00:00:00:77";
          await node.exec("ip", "link", "add", "vm0", "type", "veth", "peer", "name", "eth0", "netns", netns);
          body = {
            ...body,
            kind: "DEVICE",
            device: "vm0",
            mac,
            netns: undefined,
            containerDevice: undefined,
          };
          const inside = (...words: string[]) =>
            node.exec("nsenter", `--net=/run/netns/${netns}`, "ip", ...words);
          await inside("link", "set", "eth0", "address", mac, "up");
          await inside("addr", "add", "10.44.0.20/32", "dev", "eth0");
          await inside("route", "add", "10.44.0.1", "dev", "eth0");
          await inside("route", "add", "default", "via", "10.44.0.1");
          device = "vm0";
        }
        const { status } = await node.request("PUT", "/v1/endpoints/x", body);
        assert.equal(status.ready, true, JSON.stringify(status));
        if (device === "") {
          device = /lxc[0-9a-f]+/.exec(await node.exec("ip", "-o", "link", "show", "type", "veth"))![0];
        }
        flood = python(netns, FLOOD);
        await until("something is sent", async () => await leaving(node, () => sleep(300)) >= 10);
        await node.request("PUT", "/v1/policies/none", { policyRevision: 1, enforceEgress: true });
        body = { ...body, policy: "none" };
        await node.request("PUT", "/v1/endpoints/x", body);
        assert.equal(await leaving(node, () => sleep(300)), 0, "policy holds");
        const passed = await leaving(node, async () => {
          await test.remove(node, body);
          await sleep(500);
        });
        assert.equal(passed, 0);
        const shown = await node.exec("ip", "link", "show", device).catch(String);
        assert.match(shown, test.after);
      } catch (error) {
        console.error(node.log);
        throw error;
      } finally {
        flood?.kill("SIGKILL");
        await flood?.stdout.cancel();
        await flood?.status;
        await node.close();
      }
    },
  });
}

import assert from "node:assert/strict";
import { BpfMap, openPin } from "@weir/loader";
import { BACKENDS, WEB } from "./testing.ts";
import { nodeTest, rowsOf, run, sleep } from "../testing.ts";

nodeTest("A full translation table drops new flows, counts them, and recovers by itself", async (node) => {
  // Another size is another map: the instance begins anew.
  await node.stop();
  await node.uninstall();
  await node.start("--nat-entries-max", "16");
  await node.configure({ masquerade: true });
  await node.exec("ip", "neigh", "add", "192.0.2.254", "lladdr", "02:00:00:00:00:fe", "dev", "under0");
  await node.exec("ip", "route", "add", "default", "via", "192.0.2.254", "dev", "under0");
  const pod = await node.pod("a");
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, pod));
  const send = async (from: number, to: number) => {
    const script = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n" +
      `for port in range(${from},${to}): s.sendto(b'x',('203.0.113.1',port))`;
    await run("ip", "netns", "exec", pod, "python3", "-c", script);
  };
  const drops = async () =>
    (await rowsOf(node, "metrics")).filter(({ reason }) => reason === "167" || reason === "251")
      .reduce((sum, { packets }) => sum + Number(packets), 0);
  await send(20000, 20005);
  const few = await rowsOf(node, "nat");
  assert.equal(few.length, 10, "two entries each");
  const forward = few.filter(({ flags }) => flags === "masquerade");
  assert.ok(
    forward.every(({ source, translatedSource }) =>
      source.startsWith("10.44.0.10:") && translatedSource.startsWith("192.0.2.1:")
    ),
  );
  assert.equal(await drops(), 0);
  await send(20005, 20100);
  assert.ok(await drops() > 50, "what did not fit was dropped and counted");
  await sleep(8000);
  assert.match(node.log, /Translation is short of room/);
  assert.doesNotMatch(node.log, /Conntrack is short of room/);
  await send(30000, 30001);
  assert.ok((await rowsOf(node, "nat")).some(({ destination }) => destination === "203.0.113.1:30000"));
});

const SERVER = "import socketserver,sys\n" +
  "class H(socketserver.BaseRequestHandler):\n" +
  "  def handle(self): self.request.recv(16); self.request.sendall(sys.argv[1].encode())\n" +
  "class S(socketserver.ThreadingTCPServer): allow_reuse_address=True; request_queue_size=128\n" +
  "S(('0.0.0.0',8080),H).serve_forever()";
const CLIENT = "import socket,sys,time,collections\n" +
  "seen=collections.Counter()\n" +
  "for i in range(int(sys.argv[2])):\n" +
  "  try:\n" +
  "    with socket.create_connection((sys.argv[1],80),2) as s:\n" +
  "      s.settimeout(2); s.sendall(b'x'); seen[s.recv(16).decode()]+=1\n" +
  "  except OSError as e: seen['failed '+str(e)]+=1\n" +
  "  time.sleep(0.005)\n" +
  "print(' '.join(f'{k}={v}' for k,v in sorted(seen.items())))";

nodeTest(
  "A service's backends are all replaced while a pod connects: none fails, and all is counted",
  async (node) => {
    const pods = ["a", "b", "c"];
    const netns = await Promise.all(pods.map((name) => node.pod(name)));
    for (const [i, name] of pods.entries()) {
      await node.request("PUT", `/v1/endpoints/${name}`, node.endpoint(10 + i, netns[i]));
    }
    const servers = pods.slice(1).map((name, i) =>
      new Deno.Command("ip", {
        args: ["netns", "exec", netns[i + 1], "python3", "-c", SERVER, name],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn()
    );
    try {
      const web = {
        ...WEB,
        frontends: [{ address: "10.96.0.10", port: 80 }],
        affinityTimeoutS: 0,
        sourceRanges: [],
      };
      const member = (id: number, state = "ACTIVE") => ({ ...BACKENDS[0], address: `10.44.0.${id}`, state });
      const apply = (body: unknown) => node.request("POST", "/v1/services:update", body);
      const ask = (count: number) =>
        run("ip", "netns", "exec", netns[0], "python3", "-c", CLIENT, "10.96.0.10", `${count}`);
      await apply({ services: [web], backends: [member(11)] });
      await sleep(500);
      assert.equal((await ask(5)).trim(), "b=5");
      const asking = ask(400);
      for (const [comes, goes] of [[12, 11], [11, 12], [12, 11]]) {
        await sleep(300);
        await apply({ backends: [member(comes)] });
        await sleep(100);
        await apply({ backends: [member(goes, "TERMINATING")] });
        await sleep(200);
        await apply({ deletedBackends: [member(goes)] });
      }
      const answer = (await asking).trim();
      console.log(answer);
      assert.match(answer, /^b=\d+ c=\d+$/, "both served, none failed");
      assert.equal((await ask(5)).trim(), "c=5");
      const { status } = await node.request("GET", "/v1/services/7");
      assert.equal(Number(status.connections), 410);
      assert.ok(
        Number(status.packets) > 410 * 6 && Number(status.bytes) > 410 * 6 * 52,
        JSON.stringify(status),
      );
      const flow = (await rowsOf(node, "ct")).find(({ flags }) => flags.includes("reply-nat"))!;
      assert.deepEqual([flow.service, flow.translated], [WEB.name, "10.96.0.10 80"]);
      await apply({ deletedBackends: [member(12)] });
      assert.match(await ask(3), /^failed .*Connection refused.*=3/);
      assert.equal(Number((await node.request("GET", "/v1/services/7")).status.refused), 3);
      await apply({ services: [{ ...web, affinityTimeoutS: 60 }], backends: [member(11), member(12)] });
      assert.match((await ask(20)).trim(), /^[bc]=20$/);
      const [client] = await rowsOf(node, "affinity");
      assert.deepEqual([client.client, client.service], ["10.44.0.10", WEB.name]);
      using affinity = new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/weir_affinity`)!);
      assert.equal(affinity.entries().length, 1);
      await apply({ deletedServices: [WEB.id] });
      assert.deepEqual(await rowsOf(node, "affinity"), [], "of a service that is gone there is no row");
      for (let i = 0; i < 50 && affinity.entries().length > 0; i++) await sleep(100);
      assert.equal(affinity.entries().length, 0, "and soon no entry");
    } finally {
      for (const server of servers) {
        server.kill("SIGKILL");
        await server.status;
      }
    }
  },
);

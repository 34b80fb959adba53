import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
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
  await until("room is made", () => /Translation is short of room/.test(node.log));
  assert.doesNotMatch(node.log, /Conntrack is short of room/);
  await until("there is room for another", async () => {
    await send(30000, 30001);
    return (await rowsOf(node, "nat")).some(({ destination }) => destination === "203.0.113.1:30000");
  });
});

const SERVER = "import socketserver,sys\n" +
  "class H(socketserver.BaseRequestHandler):\n" +
  "  def handle(self): self.request.recv(16); self.request.sendall(sys.argv[1].encode())\n" +
  "class S(socketserver.ThreadingTCPServer): allow_reuse_address=True; request_queue_size=128\n" +
  "S(('0.0.0.0',8080),H).serve_forever()";
const CLIENT = "import os,socket,sys,time,collections\n" +
  "seen=collections.Counter(); left=int(sys.argv[2]); end=time.monotonic()+600\n" +
  "while left>0 or os.path.exists(sys.argv[3]) and time.monotonic()<end:\n" +
  "  left-=1\n" +
  "  try:\n" +
  "    with socket.create_connection((sys.argv[1],80),20) as s:\n" +
  "      s.sendall(b'x'); seen[s.recv(16).decode()]+=1\n" +
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
      /** So many connections, and on and on while the file is there. */
      const ask = (count: number, going = "") =>
        run("ip", "netns", "exec", netns[0], "python3", "-c", CLIENT, "10.96.0.10", `${count}`, going);
      await apply({ services: [web], backends: [member(11)] });
      for (const pod of netns.slice(1)) {
        await until(
          "it listens",
          async () => /:8080 /.test(await run("ip", "netns", "exec", pod, "ss", "-ltnH")),
        );
      }
      assert.equal((await ask(5)).trim(), "b=5");
      const goes = await Deno.makeTempFile();
      const asking = ask(0, goes);
      for (const [comes, away] of [[12, 11], [11, 12], [12, 11]]) {
        await sleep(300);
        await apply({ backends: [member(comes)] });
        await sleep(100);
        await apply({ backends: [member(away, "TERMINATING")] });
        await sleep(200);
        await apply({ deletedBackends: [member(away)] });
      }
      await Deno.remove(goes);
      const answer = (await asking).trim();
      console.log(answer);
      const [, b, c] = /^b=(\d+) c=(\d+)$/.exec(answer) ?? assert.fail(`both served, none failed: ${answer}`);
      const made = 10 + Number(b) + Number(c);
      assert.equal((await ask(5)).trim(), "c=5");
      const { status } = await node.request("GET", "/v1/services/7");
      assert.equal(Number(status.connections), made);
      assert.ok(
        Number(status.packets) > made * 6 && Number(status.bytes) > made * 6 * 52,
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
      await until("and soon no entry", () => affinity.entries().length === 0);
    } finally {
      for (const server of servers) {
        server.kill("SIGKILL");
        await server.status;
      }
    }
  },
);

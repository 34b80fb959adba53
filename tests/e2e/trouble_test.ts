/**
 * Connections that policy allows and that fail all the same, in a lab: what was wrong is a flow of its own in `weir observe`, at
 * the node that saw it, and counted in `weir top troubles`.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at, client, type From } from "./service.ts";
import { canRun, type Flow, Lab, run } from "./weir.ts";

const lab = new Lab(`trouble${Deno.pid}`);
const FAR = "203.0.113.9", NODE_2 = "172.30.0.12";
const ASKER: From = { pod: "shop/asker" };
const script = new URL("testdata/knock.py", import.meta.url).pathname;
/** A pod on node 2 that runs a line of Python with a listening socket `s`. */
const server = (name: string, address: string, then: string) => {
  const code =
    `import socket,os,signal,time; s=socket.socket(); s.bind(('${address}',8080)); s.listen(0); ${then}`;
  return client(name, 2).replace("[sleep, infinity]", `[python3, -c, ${JSON.stringify(code)}]`);
};
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("asker", 1),
  client("idle", 2),
  server("inward", "127.0.0.1", "time.sleep(1e6)"),
  server("stopped", "0.0.0.0", "os.kill(os.getpid(),signal.SIGSTOP)"),
].join("---\n");

interface Troubled extends Flow {
  trouble?: {
    kind: string;
    waited_s?: number;
    tries?: number;
    mtu?: number;
    by_endpoint?: boolean;
  };
}
const trouble = (kind: string, node: string, of: (flow: Troubled) => boolean = () => true) =>
  lab.flow(
    `${kind} at ${node}`,
    (flow) => (flow as Troubled).trouble?.kind === kind && of(flow as Troubled),
    "--type",
    kind,
    "--node",
    node,
  ) as Promise<Troubled>;
const towards = (pod: string) => (flow: Troubled) =>
  flow.destination?.pod_name === pod || flow.source?.pod_name === pod;
const addresses: Record<string, string> = {};
/** Knocks at a port: what came of it is told by observe. */
async function knock(address: string, ...how: string[]): Promise<void> {
  const ran = await at(lab, ASKER, ["python3", script, address, ...how]);
  assert.equal(ran.code, 0, ran.err);
}

interface Sockets {
  listening?: {
    protocol: string;
    address: string;
    port: number;
    queue?: number;
    queueMax?: number;
    process?: string;
  }[];
  connections?: {
    state: string;
    peerAddress: string;
    peerPort: number;
    retransmits?: number;
    unacked?: number;
  }[];
}
/** Sockets of a pod, from the socket of the node's endpoint manager that answers GET only. */
async function socketsOf(pod: string, node: string): Promise<Sockets> {
  const socket = `/run/weir/${lab.name}-${node}/endpoint-manager-read.sock`;
  const url = `http://x/v1/sockets/${encodeURIComponent(`shop/${pod}`)}`;
  const { out } = await run("curl", ["-s", "-H", "accept: application/json", "--unix-socket", socket, url]);
  return JSON.parse(out);
}
/** Waits until a process of the pod listens, and tells of it. */
async function listeningIn(pod: string, node: string) {
  let listening: Sockets["listening"];
  await until(`${pod} listens`, async () => {
    ({ listening } = await socketsOf(pod, node));
    return listening?.length === 1;
  });
  return listening![0];
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests);
    for (const row of JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"]))) {
      const { name, ipv4 } = { ...row, ...row.status };
      addresses[name.replace("shop/", "")] = ipv4;
    }
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e("nobody listens, or on 127.0.0.1 only: refused, by the endpoint itself", async () => {
  const { protocol, address, port, process } = await listeningIn("inward", "node-2");
  assert.deepEqual([protocol, address, port], ["TCP", "127.0.0.1", 8080]);
  assert.match(process!, /^python/);
  for (const pod of ["idle", "inward"]) {
    await knock(addresses[pod], "tcp", "no");
    const there = await trouble("refused", "node-2", towards(pod));
    assert.equal(there.trouble?.by_endpoint, true);
    assert.equal(there.is_reply, true);
    const here = await trouble("refused", "node-1", towards(pod));
    assert.ok(!here.trouble?.by_endpoint);
  }
  assert.deepEqual((await socketsOf("idle", "node-2")).listening ?? [], []);
  await knock(addresses.idle, "udp", "no");
  assert.equal((await trouble("unreachable", "node-2", towards("idle"))).trouble?.by_endpoint, true);
});

e2e("a stopped server with a full backlog: no answer, at both nodes", async () => {
  await listeningIn("stopped", "node-2");
  await knock(addresses.stopped, "tcp", "4", "2.5");
  for (const node of ["node-1", "node-2"]) {
    const flow = await trouble("no-answer", node, towards("stopped"));
    assert.ok(flow.trouble!.waited_s! >= 1, JSON.stringify(flow.trouble));
    assert.ok(flow.trouble!.tries! >= 1, JSON.stringify(flow.trouble));
    assert.deepEqual([flow.source?.pod_name, flow.destination?.pod_name], ["asker", "stopped"]);
  }
  const { queue, queueMax } = await listeningIn("stopped", "node-2");
  assert.ok(queue! > (queueMax ?? 0), `${queue} wait, ${queueMax} may`);
});

e2e(
  "the way back is a black hole: no answer at one node, and at the other one that was never confirmed",
  async () => {
    const lose = (how: string) =>
      at(lab, { node: "node-2" }, ["iptables", how, "OUTPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"]);
    const talk = await Deno.makeTempDir({ prefix: "weir-talk-" });
    const begin = (from: From, ...words: string[]) =>
      at(lab, from, ["sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", ...words]);
    // One that accepts: `stopped` would not answer now.
    await begin({ pod: "shop/idle" }, "python3", "-m", "http.server", "8081");
    // One that is open already, and sends when the way back is gone.
    await begin(ASKER, "python3", script, addresses.idle, "talk", talk, "8081");
    await until(
      "the connection is open",
      () => Deno.stat(`${talk}/open`).then(() => true, () => false),
    );
    assert.equal((await lose("-I")).code, 0);
    try {
      await Deno.writeTextFile(`${talk}/send`, "");
      await until(
        "the open connection sends again",
        async () =>
          (await socketsOf("asker", "node-1")).connections?.some((
            { state, peerPort, retransmits, unacked },
          ) => state === "ESTABLISHED" && peerPort === 8081 && retransmits! >= 1 && unacked! >= 1) ?? false,
      );
      const stuck = await trouble("retransmitted", "node-1", (flow) => flow.source?.pod_name === "asker");
      assert.ok(stuck.trouble!.tries! >= 2 && stuck.trouble!.mtu! >= 1280, JSON.stringify(stuck));
      assert.deepEqual([stuck.destination?.pod_name, stuck.l4?.TCP?.destination_port], ["idle", 8081]);
      await knock(addresses.idle, "tcp", "1", "2.5", "8081");
      await trouble("no-answer", "node-1", towards("idle"));
      const there = await trouble("unconfirmed", "node-2", towards("idle"));
      assert.ok(there.trouble!.waited_s! >= 1);
    } finally {
      await lose("-D");
      await Deno.remove(talk, { recursive: true });
    }
  },
);

e2e("the path is too small: said with how much fits", async () => {
  const route = ["ip", "route", "add", FAR, "via", NODE_2, "mtu", "lock", "1300"];
  assert.equal((await at(lab, "outside", route)).code, 0);
  await at(lab, ASKER, ["ping", "-c", "3", "-i", "0.3", "-W", "1", "-M", "do", "-s", "1350", FAR]);
  const flow = await trouble("too-big", "node-1");
  assert.equal(flow.trouble?.mtu, 1300, JSON.stringify(flow));
});

e2e("who spoofs is shown by its own name, and --from-pod finds it", async () => {
  await knock(addresses.idle, "spoof", addresses.inward);
  const flow = await lab.flow(
    "a spoofed packet",
    (flow) => flow.drop_reason_desc === "INVALID_SOURCE_IP" && flow.IP?.source === addresses.inward,
    "--from-pod",
    "shop/asker",
  );
  assert.equal(flow.source?.pod_name, "asker");
});

e2e("weir top troubles counts them", async () => {
  const answers = JSON.parse(await lab.ok(["top", "troubles", "-o", "json"])) as {
    node: string;
    troubles: { endpoint: string; side: string; [kind: string]: string | number }[];
  }[];
  const of = (node: string, endpoint: string, side: string) =>
    answers.find((answer) => answer.node === node)?.troubles.find((row) =>
      row.endpoint === endpoint && row.side === side
    );
  const asker = of("node-1", "shop/asker", "opened")!;
  assert.ok(Number(asker.refused) >= 2 && Number(asker.noAnswer) >= 2, JSON.stringify(asker));
  assert.ok(Number(asker.retransmitted) >= 2, JSON.stringify(asker));
  assert.ok(Number(of("node-2", "shop/idle", "towards")!.unconfirmed) >= 1);
});

import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import type { EndpointNetwork } from "@weir/proto/datapath";
import { cgroupRoot } from "@weir/common";
import { nodeTest, run, type TestNode } from "../testing.ts";

interface Sockets {
  endpoint: string;
  listening?: {
    protocol: string;
    address: string;
    port: number;
    queue?: number;
    queueMax?: number;
    v6only?: boolean;
    process?: string;
    pid?: number;
  }[];
  connections?: { state: string; peerAddress: string; peerPort: number; retransmits?: number }[];
  established?: number;
  truncated?: boolean;
  network?: Partial<EndpointNetwork>;
}
const PROGRAM = `import socket,time
def tcp(family,address,port,only=None,backlog=7):
    s=socket.socket(family); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
    if only is not None: s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,only)
    s.bind((address,port)); s.listen(backlog); return s
four,six=socket.AF_INET,socket.AF_INET6
held=[tcp(four,'127.0.0.1',8080),tcp(six,'::',8081,0),tcp(six,'::1',8082,1),tcp(four,'0.0.0.0',8083,None,1)]
u=socket.socket(four,socket.SOCK_DGRAM); u.bind(('0.0.0.0',5353))
waiting=[socket.create_connection(('127.0.0.1',8083)) for _ in range(2)]
asks=socket.socket(four); asks.setblocking(False); asks.connect_ex(('127.0.0.1',81))
print('ready',flush=True); time.sleep(600)
`;

/** Runs the program in a namespace or cgroup until the test is over. */
async function program(command: string[]): Promise<AsyncDisposable & { pid: number }> {
  const child = new Deno.Command(command[0], { args: [...command.slice(1), PROGRAM], stdout: "piped" })
    .spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await reader.cancel();
      await child.status;
    },
  };
}
/** Who asks at port 81 gets no answer. */
const LOSE = ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "81", "-j", "DROP"];
const socketsOf = (node: TestNode, name: string): Promise<Sockets> =>
  node.request("GET", `/v1/sockets/${encodeURIComponent(name)}`);

function assertProgram(sockets: Sockets, pid: number): void {
  const shown = (sockets.listening ?? []).map(({ protocol, address, port, v6only }) =>
    `${protocol} ${address} ${port}${v6only ? " v6only" : ""}`
  );
  assert.deepEqual(shown, [
    "UDP 0.0.0.0 5353",
    "TCP 127.0.0.1 8080",
    "TCP :: 8081",
    "TCP ::1 8082 v6only",
    "TCP 0.0.0.0 8083",
  ]);
  const of = (port: number) => sockets.listening!.find((socket) => socket.port === port)!;
  assert.deepEqual([of(8080).queue ?? 0, of(8080).queueMax], [0, 7]);
  assert.deepEqual([of(8083).queue, of(8083).queueMax], [2, 1], "full: the next SYN gets no answer");
  for (const { process, pid: owner } of sockets.listening!) {
    assert.match(process!, /^python/);
    assert.equal(owner, pid);
  }
  assert.equal(sockets.established, 4, "both ends of two");
  const [asking, ...more] = sockets.connections!;
  assert.deepEqual(more, []);
  assert.deepEqual([asking.state, asking.peerAddress, asking.peerPort], ["SYN_SENT", "127.0.0.1", 81]);
  assert.ok(!sockets.truncated);
}

nodeTest(
  "GET /v1/sockets/<endpoint> tells what listens in a namespace, whose it is, and who waits",
  async (node) => {
    const netns = await node.pod("a"), other = await node.pod("b");
    await node.request("PUT", "/v1/endpoints/shop%2Fweb", node.endpoint(10, netns));
    await node.request("PUT", "/v1/endpoints/shop%2Fidle", node.endpoint(11, other));
    await run("ip", "netns", "exec", netns, ...LOSE);
    {
      await using running = await program(["ip", "netns", "exec", netns, "python3", "-uc"]);
      let sockets!: Sockets;
      await until("its SYN is sent again", async () => {
        sockets = await socketsOf(node, "shop/web");
        return (sockets.connections?.[0].retransmits ?? 0) >= 1;
      });
      assertProgram(sockets, running.pid);
      assert.deepEqual((await socketsOf(node, "shop/idle")).listening ?? [], [], "nobody else's");
    }
    assert.deepEqual((await socketsOf(node, "shop/web")).listening ?? [], [], "gone with the process");
  },
);

nodeTest("GET /v1/sockets/<endpoint> tells what became of the network it was given", async (node) => {
  const netns = await node.pod("a"),
    inside = (...words: string[]) => run("ip", "netns", "exec", netns, ...words);
  const { ipv4, ipv6 } = node.endpoint(10, netns);
  await node.request("PUT", "/v1/endpoints/web", node.endpoint(10, netns));
  const network = async () => (await socketsOf(node, "web")).network!;
  const whole = await network();
  assert.deepEqual(
    [
      whole.device,
      whole.state,
      whole.hostState,
      whole.absentAddresses,
      whole.absentRoutes,
      whole.gateways?.[0],
    ],
    ["eth0", "up", "up", undefined, undefined, "10.44.0.1"],
  );
  await inside("ip", "route", "del", "default");
  assert.deepEqual((await network()).absentRoutes, ["IPv4"]);
  await inside("ip", "address", "del", `${ipv6}/128`, "dev", "eth0");
  assert.deepEqual((await network()).absentAddresses, [ipv6]);
  await inside("ip", "link", "set", "eth0", "down");
  const down = await network();
  assert.deepEqual([down.state, down.absentAddresses], ["down", [ipv6]], `${ipv4} stays`);
  await node.exec("ip", "link", "set", whole.hostDevice!, "down");
  assert.equal((await network()).hostState, "down");
  await inside("ip", "link", "set", "eth0", "name", "eth1");
  assert.equal((await network()).state, "missing");
});

nodeTest(
  "GET /v1/sockets/<endpoint> tells the sockets of a cgroup, and no others of the node",
  async (node) => {
    const root = cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"));
    if (root === undefined) return console.log("SKIP: no cgroup v2");
    const cgroup = `${root}/${node.instance}`;
    Deno.mkdirSync(`${cgroup}/below`, { recursive: true });
    try {
      await node.request("PUT", "/v1/endpoints/db", { id: 30, kind: "CGROUP", cgroup, identity: 1030 });
      await node.exec(...LOSE);
      const enter = `echo $$ > ${cgroup}/below/cgroup.procs; exec "$@"`;
      const inside = ["nsenter", `--net=/run/netns/${node.netns}`];
      {
        await using running = await program([...inside, "sh", "-c", enter, "sh", "python3", "-uc"]);
        assertProgram(await socketsOf(node, "db"), running.pid);
      }
      {
        await using _ = await program([...inside, "python3", "-uc"]);
        assert.deepEqual((await socketsOf(node, "db")).listening ?? [], []);
      }
    } finally {
      await node.request("DELETE", "/v1/endpoints/db");
      Deno.removeSync(`${cgroup}/below`);
      Deno.removeSync(cgroup);
    }
  },
);

nodeTest("GET /v1/sockets/<endpoint> says why sockets cannot be seen", async (node) => {
  const code = async (path: string) => {
    const error = await node.request("GET", path).then(() => undefined, (error) => error);
    return [error.problem.status, error.problem.code];
  };
  assert.deepEqual(await code("/v1/sockets/nobody"), [404, "NOT_FOUND"]);
  assert.deepEqual(await code("/v1/sockets"), [400, "INVALID_ARGUMENT"]);
  await node.exec("ip", "tuntap", "add", "vm0", "mode", "tap");
  await node.request("PUT", "/v1/endpoints/vm", {
    ...node.endpoint(12, ""),
    kind: "DEVICE",
    netns: "",
    device: "vm0",
    mac: "02:00:00:00:00:0c",
  });
  assert.deepEqual(await code("/v1/sockets/vm"), [409, "SOCKETS_NOT_VISIBLE"]);
  await node.request("PUT", "/v1/endpoints/pod", node.endpoint(13, await node.pod("gone")));
  // The file is left behind, the namespace is gone.
  await run("umount", `/run/netns/${node.netns}-gone`);
  assert.deepEqual(await code("/v1/sockets/pod"), [409, "SOCKETS_NOT_VISIBLE"]);
});

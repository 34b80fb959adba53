/**
 * Path MTU discovery on real devices and sockets: the outside machine routes to a client on node 2's loopback by a way that takes
 * less than the pods' devices, so whoever sends to it must hear of that, whatever its packets were translated to meanwhile.
 *
 *     pod1 (1400) ── node1 ── outside ──(1300)──▶ 198.51.100.42, 2001:db8:9::42 at node2
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const FAR = ["198.51.100.42", "2001:db8:9::42"], MTU = 1300, BYTES = 1 << 20;

/** Sends as many bytes as it is asked for; asked for none, counts what comes. */
const SERVER = `import socket,threading
s=socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,0); s.bind(('::',8080)); s.listen(8)
print('ready',flush=True)
def one(c):
    try:
        want=int(c.recv(8)); n=0; c.sendall(b'x'*want)
        while not want:
            d=c.recv(1<<16)
            if not d: break
            n+=len(d)
        if not want: c.sendall(str(n).encode())
        c.close()
    except OSError: pass
while True: threading.Thread(target=one,args=(s.accept()[0],),daemon=True).start()
`;
/** address, port, bytes, own address: how many came. */
const CLIENT = `import socket,sys
c=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=30,source_address=(sys.argv[4],0) if len(sys.argv)>4 else None)
c.sendall(sys.argv[3].rjust(8).encode()); n=0
while True:
    d=c.recv(1<<16)
    if not d: break
    n+=len(d)
print(n)
`;

/** address, port, bytes: how many the server says came. */
const UPLOAD = `import socket,sys
c=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=30)
c.sendall(b'0'.rjust(8)+b'x'*int(sys.argv[3])); c.shutdown(1); print(c.recv(100).decode())
`;

async function narrow(mode: number, use: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.open(mode);
  const servers: Deno.ChildProcess[] = [];
  try {
    await cluster.in("outside", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    for (const [family, far] of FAR.entries()) {
      const bits = family ? 128 : 32, via = family ? "2001:db8::2" : "192.0.2.2";
      await cluster.ip(
        "node2",
        "address",
        "add",
        `${far}/${bits}`,
        "dev",
        "lo",
        ...(family ? ["nodad"] : []),
      );
      await cluster.ip(
        "outside",
        "route",
        "add",
        `${far}/${bits}`,
        "via",
        via,
        "dev",
        "lan",
        "mtu",
        `${MTU}`,
      );
    }
    for (const place of ["pod1", "pod2", "node2"] as const) {
      const server = new Deno.Command("ip", {
        args: ["netns", "exec", cluster.netns(place), "python3", "-c", SERVER],
        stdout: "piped",
      }).spawn();
      servers.push(server);
      const reader = server.stdout.getReader();
      await reader.read();
      reader.releaseLock();
    }
    await use(cluster);
  } finally {
    for (const server of servers) {
      server.kill("SIGKILL");
      await server.stdout.cancel();
      await server.status;
    }
    await cluster.close();
  }
}
/** Path MTU that a pod knows towards an address. */
async function pathMtu(cluster: Cluster, place: "pod1" | "pod2", to: string): Promise<number> {
  const { text } = await cluster.in(place, "ip", "route", "get", to);
  return Number(/ mtu (\d+)/.exec(text)?.[1] ?? 0);
}
function related(cluster: Cluster): number {
  return cluster.nodes.flatMap((node) => node.drainEvents()).filter((e) =>
    e.type === abi.EVENT_TRACE && e.reason === abi.REASON_RELATED
  ).length;
}

for (
  const [what, mode] of [
    ["the tunnel", abi.CONFIG_TUNNEL],
    ["direct routing", abi.CONFIG_DIRECT],
    ["direct routing past the stack", abi.CONFIG_DIRECT | abi.CONFIG_REDIRECT_NEIGH],
  ] as const
) {
  kernelTest(
    `path MTU: a pod that is masqueraded hears of a narrow way, with ${what}`,
    () =>
      narrow(mode | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6, async (cluster) => {
        for (const far of FAR) {
          related(cluster);
          // UDP: the first datagram is lost, the socket hears why.
          const ping = await cluster.in(
            "pod1",
            "ping",
            "-c",
            "2",
            "-i",
            "0.2",
            "-W",
            "1",
            "-M",
            "do",
            "-s",
            "1320",
            far,
          );
          assert.match(ping.text, /mtu ?= ?1300/);
          assert.equal(await pathMtu(cluster, "pod1", far), MTU);
          assert.ok(related(cluster) > 0);
          await cluster.in("pod1", "ip", "route", "flush", "cache");
          // TCP from the pod: who asks it sends much.
          const upload = await cluster.in("pod1", "python3", "-c", UPLOAD, far, "8080", `${BYTES}`);
          assert.equal(upload.text.trim(), `${BYTES}`, upload.text + cluster.drops());
        }
      }),
  );

  kernelTest(
    `path MTU: backends of a service hear of a narrow way to its client, with ${what}`,
    () =>
      narrow(mode, async (cluster) => {
        const [node] = cluster.nodes;
        for (const [family, far] of FAR.entries()) {
          const own = family ? "2001:db8::1" : "192.0.2.1";
          const pods = family ? ["fd00:1::10", "fd00:2::10"] : ["10.0.1.10", "10.0.2.10"];
          for (const [i, pod] of pods.entries()) {
            const id = 1 + 2 * family + i, port = 30080 + i;
            setBackend(node, { id, address: pod, port: 8080, service: 5 });
            setSelection(node, id, [id]);
            setFrontend(node, {
              address: own,
              port,
              service: 5,
              external: id,
              internal: id,
              flags: abi.FRONTEND_EXTERNAL,
            });
            related(cluster);
            const got = await cluster.in("node2", "python3", "-c", CLIENT, own, `${port}`, `${BYTES}`, far);
            assert.equal(
              got.text.trim(),
              `${BYTES}`,
              `${what} ${far} ${pod}: ${got.text} ${cluster.drops()}`,
            );
            if (i === 0) assert.equal(await pathMtu(cluster, "pod1", far), MTU);
          }
        }
      }),
  );
}

kernelTest("path MTU: the node's own way is the narrow one, by the tunnel's route or another", async () => {
  for (const mode of [abi.CONFIG_DIRECT, abi.CONFIG_TUNNEL]) {
    await narrow(mode | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6, async (cluster) => {
      const targets = mode === abi.CONFIG_DIRECT ? ["10.0.2.10", "fd00:2::10", ...FAR] : FAR;
      for (const far of targets) {
        const v6 = far.includes(":");
        const via = targets.indexOf(far) < targets.length - 2
          ? (v6 ? "2001:db8::2" : "192.0.2.2")
          : (v6 ? "2001:db8::100" : "192.0.2.100");
        await cluster.ip("node1", "route", "replace", `${far}/${v6 ? 128 : 32}`, "via", via, "mtu", "1290");
        const ping = await cluster.in(
          "pod1",
          "ping",
          "-c",
          "2",
          "-i",
          "0.2",
          "-W",
          "1",
          "-M",
          "do",
          "-s",
          "1320",
          far,
        );
        assert.match(ping.text, /mtu ?= ?1290/, ping.text + cluster.drops());
        const got = await cluster.in("pod1", "python3", "-c", CLIENT, far, "8080", "100000");
        assert.equal(got.text.trim(), "100000", `${far}: ${got.text} ${cluster.drops()}`);
      }
    });
  }
});

kernelTest(
  "path MTU: nobody lowers it with an error about a flow that there is not",
  () =>
    narrow(abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4, async (cluster) => {
      const FORGE = `import socket,struct,sys
def sum16(b):
    s=sum(struct.unpack('!%dH'%(len(b)//2),b)); s=(s>>16)+(s&0xffff); return ~(s+(s>>16))&0xffff
quoted=struct.pack('!BBHHHBBH4s4sHHHH',0x45,0,1400,1,0x4000,64,17,0,socket.inet_aton(sys.argv[2]),socket.inet_aton(sys.argv[3]),int(sys.argv[4]),int(sys.argv[5]),1380,0)
m=struct.pack('!BBHHH',3,4,0,0,1000)+quoted; m=m[:2]+struct.pack('!H',sum16(m))+m[4:]
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_ICMP); s.sendto(m,(sys.argv[1],0))
`;
      // pod1 has a socket towards the far client, known to the forger, but no flow; then one at another port.
      const socket = new Deno.Command("ip", {
        args: [
          "netns",
          "exec",
          cluster.netns("pod1"),
          "python3",
          "-c",
          "import socket,sys,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',5353))\n" +
          `s.connect(('${FAR[0]}',5353)); print('ready',flush=True); time.sleep(60)`,
        ],
        stdout: "piped",
      }).spawn();
      try {
        const reader = socket.stdout.getReader();
        await reader.read();
        reader.releaseLock();
        const [, other] = cluster.nodes, [node] = cluster.nodes;
        for (const place of ["pod2", "outside"] as const) {
          await cluster.in(place, "python3", "-c", FORGE, "10.0.1.10", "10.0.1.10", FAR[0], "5353", "5353");
        }
        assert.equal(await pathMtu(cluster, "pod1", FAR[0]), 0);
        assert.ok(other.counted(abi.DROP_ICMP_ERROR_FLOW) + node.counted(abi.DROP_ICMP_ERROR_FLOW) > 0);
      } finally {
        socket.kill("SIGKILL");
        await socket.stdout.cancel();
        await socket.status;
      }
    }),
);

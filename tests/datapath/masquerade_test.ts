/** What leaves the cluster takes the node's address, on real devices and sockets; replies and ICMP errors find back. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { Cluster, OUTSIDE, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { address, ipv4Number } from "./packet.ts";

const BOTH = abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6;
const NODE = ["192.0.2.1", "2001:db8::1"],
  POD = ["10.0.1.10", "fd00:1::10"],
  FAR = ["10.0.2.10", "fd00:2::10"];

async function cluster(mode: number, use: (cluster: Cluster) => Promise<void>): Promise<void> {
  const made = await Cluster.open(mode | BOTH);
  try {
    // The outside knows the way to pods, so that a pod's own address would be answered too.
    for (const n of [1, 2]) {
      await made.ip("outside", "route", "add", `10.0.${n}.0/24`, "via", `192.0.2.${n}`);
      await made.ip("outside", "route", "add", `fd00:${n}::/64`, "via", `2001:db8::${n}`);
    }
    await made.serve("outside", 8080);
    await use(made);
  } finally {
    await made.close();
  }
}
function except(made: Cluster, prefix: string, length: number): void {
  const key = abi.MasqueradeException.encode({ prefixlen: length, address: address(prefix) });
  made.nodes[0].map("weir_masquerade_exceptions").update(key, u32(1));
}

for (const [what, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(
    `masquerade: pods are the node to the world, and themselves in the cluster, with ${what}`,
    () =>
      cluster(mode, async (made) => {
        await made.serve("pod2", 8080);
        await made.serve("pod1", 8080);
        for (const family of [0, 1]) {
          for (const kind of ["tcp", "udp"] as const) {
            const out = await made.ask("pod1", kind, WORLD[family], 8080, {
              bytes: kind === "tcp" ? 1 << 20 : 1000,
            });
            assert.ok(out.ok, out.text);
            assert.equal(out.peer, NODE[family]);
            assert.ok(out.port >= 32768, `port ${out.port}`);
            const inside = await made.ask("pod1", kind, FAR[family], 8080);
            assert.ok(inside.ok, inside.text);
            assert.equal(inside.peer, POD[family]);
            // who asks a pod itself hears from the pod
            const asked = await made.ask("outside", kind, POD[family], 8080);
            // in tunnel mode too: it is the world that asks, not a pod
            assert.ok(asked.ok, asked.text);
            assert.equal(asked.peer, OUTSIDE[family]);
            // the node's own connections are as they were
            const own = await made.ask("node1", kind, WORLD[family], 8080, { source: 41000 });
            assert.ok(own.ok, own.text);
            assert.deepEqual([own.peer, own.port], [NODE[family], 41000]);
          }
          const ping = await made.in("pod1", "ping", "-c", "2", "-i", "0.2", "-W", "20", WORLD[family]);
          assert.equal(ping.code, 0, ping.text + made.drops());
          const large = await made.in("pod1", "ping", "-c", "1", "-W", "20", "-s", "4000", WORLD[family]);
          assert.equal(large.code, 0, large.text + made.drops());
        }
        const pairs = natEntries(made.nodes[0]);
        assert.ok(pairs.length >= 12 && pairs.length % 2 === 0, `${pairs.length} entries`);
        assert.ok(pairs.every(({ entry }) => entry.flags & abi.NAT_MASQUERADE));
        // what is excepted sees the pod
        except(made, WORLD[0], 128);
        except(made, "2001:db8:9::", 48);
        for (const family of [0, 1]) {
          const seen = await made.ask("pod1", "tcp", WORLD[family], 8080);
          assert.ok(seen.ok, seen.text);
          assert.equal(seen.peer, POD[family]);
        }
      }),
  );
}

kernelTest(
  "masquerade: two connections that want one port of the node have two, and the node's own keeps off",
  () =>
    cluster(abi.CONFIG_DIRECT, async (made) => {
      for (const family of [0, 1]) {
        // a socket of the node has the port already, towards nobody in particular
        const hold = `import socket,time
s=socket.socket(socket.AF_INET${
          family ? "6" : ""
        },socket.SOCK_DGRAM); s.bind(('',45000)); print('ready',flush=True); time.sleep(600)`;
        await using holder = new Deno.Command("ip", {
          args: ["netns", "exec", made.netns("node1"), "python3", "-c", hold],
          stdout: "piped",
        }).spawn();
        await holder.stdout.getReader().read();
        const pod = await made.ask("pod1", "udp", WORLD[family], 8080, { source: 45000 });
        assert.ok(pod.ok, pod.text);
        assert.equal(pod.peer, NODE[family]);
        assert.notEqual(pod.port, 45000);
        // a pod has it: the node's own connection gets another, and its answers
        const first = await made.ask("pod1", "tcp", WORLD[family], 8080, { source: 46000 });
        assert.ok(first.ok, first.text);
        assert.equal(first.port, 46000);
        const own = await made.ask("node1", "tcp", WORLD[family], 8080, { source: 46000, bytes: 100_000 });
        assert.ok(own.ok, own.text);
        assert.equal(own.peer, NODE[family]);
        assert.notEqual(own.port, 46000);
        assert.equal(own.bytes, 100_000);
        assert.ok(natEntries(made.nodes[0]).some(({ entry }) => entry.flags & abi.NAT_HOST));
      }
    }),
);

kernelTest(
  "masquerade: a device with addresses of its own gives those",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made) => {
      const ifindex = await made.addDevice();
      const addresses = { ipv4Be: ipv4Number("192.0.3.1"), ipv6: address("2001:db8:3::1") };
      made.nodes[0].map("weir_outer_addresses").update(u32(ifindex), abi.OuterAddresses.encode(addresses));
      for (const [family, host] of ["192.0.3.100", "2001:db8:3::100"].entries()) {
        for (const kind of ["tcp", "udp"] as const) {
          const out = await made.ask("pod1", kind, host, 8080, { bytes: 3000 });
          assert.ok(out.ok, out.text);
          assert.deepEqual([out.peer, out.bytes], [family ? "2001:db8:3::1" : "192.0.3.1", 3000]);
          const first = await made.ask("pod1", kind, WORLD[family], 8080);
          assert.equal(first.peer, NODE[family], first.text);
        }
      }
    }),
);

kernelTest(
  "masquerade: routers' errors reach the pod whose packet they quote",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made) => {
      // A network behind the outside machine that it will not pass on to: "unreachable", and one with a small MTU.
      await made.ip("outside", "route", "add", "unreachable", "198.51.100.99/32");
      await made.ip("outside", "route", "add", "unreachable", "2001:db8:9::99/128");
      await made.ip("outside", "route", "add", "198.51.100.42/32", "dev", "lan");
      await made.ip("outside", "route", "add", "2001:db8:9::42/128", "dev", "lan");
      await made.in("outside", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
      for (const [family, gone] of ["198.51.100.99", "2001:db8:9::99"].entries()) {
        const ping = await made.in("pod1", "ping", "-c", "1", "-W", "20", gone);
        assert.match(ping.text, /unreachable|No route/i, ping.text + made.drops());
        // traceroute's way: the hop behind the node answers for itself
        const far = family ? "2001:db8:9::42" : "198.51.100.42";
        const hop = await made.in("pod1", "ping", "-c", "1", "-W", "20", "-t", "2", far);
        assert.match(hop.text, /Time (to live )?exceeded/i, hop.text + made.drops());
        assert.match(hop.text, new RegExp(OUTSIDE[family].replaceAll(".", "\\.")));
        // a smaller MTU on the way
        await made.ip(
          "outside",
          "route",
          "change",
          `${far}/${family ? 128 : 32}`,
          "dev",
          "lan",
          "mtu",
          "1280",
        );
        const big = await made.in("pod1", "ping", "-c", "1", "-W", "20", "-M", "do", "-s", "1300", far);
        assert.match(
          big.text,
          family ? /Packet too big: mtu=1280/ : /Frag needed and DF set \(mtu = 1280\)/,
          big.text,
        );
        // a closed port: the socket hears of it, which needs the ports inside the quoted packet
        const closed = await made.ask("pod1", "udp", WORLD[family], 9);
        assert.match(closed.text, /error 111/, closed.text);
      }
    }),
);

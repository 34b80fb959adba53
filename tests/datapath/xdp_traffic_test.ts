/** Services from outside at XDP, on real devices and sockets, in the driver and behind it. */
import assert from "node:assert/strict";
import { attachXdp, BpfObject, Gate, programInfo, StructuralVerifier } from "@weir/loader";
import * as abi from "@weir/maps";
import { findDevice, NetlinkSocket, Netns } from "@weir/net";
import { Cluster, must, OUTSIDE, type Place } from "./cluster.ts";
import { compileBpf } from "../../datapath/loader/testing.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const NODE = ["192.0.2.1", "2001:db8::1"],
  FAR = ["10.0.2.10", "fd00:2::10"],
  HERE = ["10.0.1.10", "fd00:1::10"];
const SNAT = 30080, DSR = 30081, LOCAL = 30082;
const STATS = "/proc/sys/kernel/bpf_stats_enabled";
const script = new URL("testdata/offload.py", import.meta.url).pathname;

function fill({ nodes }: Cluster): void {
  let id = 0;
  for (const family of [0, 1]) {
    for (const protocol of [6, UDP]) {
      for (
        const [port, backend, more] of [[SNAT, FAR], [DSR, FAR, abi.FRONTEND_DSR], [LOCAL, HERE]] as const
      ) {
        id++;
        for (const node of nodes) {
          setBackend(node, { id, address: backend[family], port: 8080, protocol });
          setSelection(node, id, [id]);
          setFrontend(node, {
            address: family ? "::" : "0.0.0.0",
            port,
            protocol,
            service: port % 100,
            external: id,
            flags: abi.FRONTEND_EXTERNAL | (more ?? 0),
          });
        }
      }
    }
  }
}

for (const mode of ["native", "generic"] as const) {
  kernelTest(`xdp_netdev carries connections to backends far away, ${mode}`, async () => {
    const cluster = await Cluster.open(abi.CONFIG_DIRECT);
    const [node] = cluster.nodes, statsBefore = Deno.readTextFileSync(STATS);
    try {
      fill(cluster);
      for (const place of ["pod1", "pod2"] as Place[]) await cluster.serve(place, 8080);
      const set = (place: Place, ...args: string[]) =>
        must("ip", "netns", "exec", cluster.netns(place), "python3", script, ...args);
      // Senders on this machine leave checksums to a device that is none: here they finish them.
      await set("outside", "lan", "tx=0", "tso=0", "gso=0");
      await set("pod2", "eth0", "tx=0", "tso=0", "gso=0");
      using netns = Netns.open(`/run/netns/${cluster.netns("node1")}`);
      const program = node.program("xdp_netdev"), tc = node.program("from_netdev");
      using _ = netns.enter(() => attachXdp(program.fd, node.config.outerIfindex, mode));
      // A veth takes what XDP of its peer sends back only with a program of its own; GRO, which also makes it poll, is not
      // enough (veth_xdp_flush() of Linux 6.18).
      using pass = BpfObject.open(compileBpf(new URL("testdata/xdp_pass.c", import.meta.url)), {
        name: "xdp_pass",
      });
      pass.load(new Gate(new StructuralVerifier()));
      using outside = Netns.open(`/run/netns/${cluster.netns("outside")}`);
      using __ = mode === "generic" ? undefined : outside.enter(() => {
        using socket = new NetlinkSocket();
        return attachXdp(pass.program("xdp_pass").fd, findDevice(socket, "port1")!.ifindex);
      });
      // Neighbours first: without them everything is the stack's.
      for (const ask of [OUTSIDE, ["192.0.2.2", "2001:db8::2"]].flat()) {
        await cluster.in("node1", "ping", "-c1", "-W2", ask);
      }
      Deno.writeTextFileSync(STATS, "1");
      for (const family of [0, 1]) {
        for (const kind of ["tcp", "udp"] as const) {
          const before = [programInfo(program.fd).runCount, programInfo(tc.fd).runCount];
          const bytes = kind === "tcp" ? 1 << 18 : 1200;
          for (const [port, peer] of [[SNAT, NODE[family]], [DSR, OUTSIDE[family]]] as const) {
            const result = await cluster.ask("outside", kind, NODE[family], port, { bytes });
            assert.ok(result.ok, `${kind} ${NODE[family]} ${port}: ${result.text}`);
            assert.deepEqual([result.peer, result.bytes], [peer, bytes]);
          }
          const seen = programInfo(program.fd).runCount - before[0],
            left = programInfo(tc.fd).runCount - before[1];
          assert.ok(seen >= (kind === "tcp" ? 100 : 3), `${kind}: XDP saw ${seen}`);
          // What is left to tc is neighbours' business.
          assert.ok(left <= 10, `${kind} ${family}: ${left} of ${seen} went on to tc`);
          const local = await cluster.ask("outside", kind, NODE[family], LOCAL, { bytes });
          assert.deepEqual([local.ok, local.peer], [true, OUTSIDE[family]], local.text);
        }
      }
      // Unfinished checksums go on to tc, which knows what to do with them.
      await set("outside", "lan", "tx=1");
      const result = await cluster.ask("outside", "tcp", NODE[0], SNAT, { bytes: 1 << 18 });
      assert.deepEqual([result.ok, result.peer], [true, NODE[0]], result.text);
    } finally {
      Deno.writeTextFileSync(STATS, statsBefore);
      await cluster.close();
    }
  });
}

/** Services from outside the cluster, on real devices and sockets: NodePort and LoadBalancer, SNAT and DSR. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, OUTSIDE } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { TCP, UDP } from "./packet.ts";

const MODES = [
  ["the tunnel", abi.CONFIG_TUNNEL],
  ["direct routing by the stack", abi.CONFIG_DIRECT],
  ["direct routing past the stack", abi.CONFIG_DIRECT | abi.CONFIG_REDIRECT_NEIGH],
] as const;
const EXTERNAL = abi.FRONTEND_EXTERNAL | abi.FRONTEND_NODE_PORT;
const POD = { here: ["10.0.1.10", "fd00:1::10"], there: ["10.0.2.10", "fd00:2::10"] };
const NODE = ["192.0.2.1", "2001:db8::1"];
const VIP = ["203.0.113.10", "2001:db8:10::10"];

/** Services at node 1: 30080 and the VIP's 80 lead to pod 1, 30081 and 81 to pod 2, 30082 and 82 there by DSR. */
async function services(mode: number, use: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.open(mode);
  try {
    let id = 0;
    for (const family of [0, 1]) {
      for (const protocol of [6, UDP]) {
        for (const [i, backend] of [POD.here[family], POD.there[family], POD.there[family]].entries()) {
          id++;
          for (const node of cluster.nodes) {
            setBackend(node, { id, address: backend, port: 8080, protocol });
            setSelection(node, id, [id]);
            const flags = EXTERNAL | (i === 2 ? abi.FRONTEND_DSR : 0);
            const common = { protocol, service: 10 + i, internal: id, external: id, flags };
            setFrontend(node, { address: family ? "::" : "0.0.0.0", port: 30080 + i, ...common });
            setFrontend(node, { address: VIP[family], port: 80 + i, ...common });
          }
        }
      }
    }
    await cluster.ip("outside", "route", "add", `${VIP[0]}/32`, "via", NODE[0]);
    await cluster.ip("outside", "route", "add", `${VIP[1]}/128`, "via", NODE[1]);
    await cluster.serve("pod1", 8080);
    await cluster.serve("pod2", 8080);
    await use(cluster);
  } finally {
    await cluster.close();
  }
}

for (const [what, mode] of MODES) {
  kernelTest(
    `NodePort and LoadBalancer reach backends here and far away, by ${what}`,
    () =>
      services(mode, async (cluster) => {
        for (const family of [0, 1]) {
          for (const kind of ["tcp", "udp"] as const) {
            for (const [host, first] of [[NODE[family], 30080], [VIP[family], 80]] as const) {
              const bytes = kind === "tcp" ? 1 << 20 : 1200;
              const here = await cluster.ask("outside", kind, host, first, { bytes });
              assert.ok(here.ok, `${kind} ${host} ${first}: ${here.text}`);
              assert.equal(here.peer, OUTSIDE[family], "a backend here sees the client");
              const there = await cluster.ask("outside", kind, host, first + 1, { bytes });
              assert.ok(there.ok, `${kind} ${host} ${first + 1}: ${there.text}`);
              assert.equal(there.peer, NODE[family], "a backend far away sees the node");
              assert.equal(there.bytes, bytes);
              const dsr = await cluster.ask("outside", kind, host, first + 2, { bytes });
              assert.ok(dsr.ok, `${kind} ${host} ${first + 2}: ${dsr.text}`);
              assert.equal(dsr.peer, OUTSIDE[family], "with DSR it sees the client");
            }
          }
        }
        const [local, far, dsr] = [10, 11, 12].map((service) => serviceCounters(cluster.nodes[0], service));
        assert.deepEqual([local.connections, far.connections, dsr.connections], [8n, 8n, 8n]);
        assert.equal(serviceCounters(cluster.nodes[1], 11).connections, 0n);
      }),
  );
}

for (const [what, mode] of MODES) {
  kernelTest(
    `NodePort: a pod of another node asks by ${what}, and hears from whom it asked`,
    () =>
      services(mode, async (cluster) => {
        for (const family of [0, 1]) {
          for (const kind of ["tcp", "udp"] as const) {
            const here = await cluster.ask("pod2", kind, NODE[family], 30080, { bytes: 10_000 });
            assert.ok(here.ok, here.text);
            assert.deepEqual([here.peer, here.bytes], [POD.there[family], 10_000]);
            // its backend is the one who asks: the node stands between
            const there = await cluster.ask("pod2", kind, NODE[family], 30081, { bytes: 10_000 });
            assert.ok(there.ok, there.text);
            assert.deepEqual([there.peer, there.bytes], [NODE[family], 10_000]);
          }
        }
      }),
  );
}

kernelTest(
  "NodePort: who comes by another device of the node hears by that device",
  () =>
    services(abi.CONFIG_TUNNEL, async (cluster) => {
      await cluster.addDevice();
      for (const [family, host] of ["192.0.3.1", "2001:db8:3::1"].entries()) {
        const client = family ? "2001:db8:3::100" : "192.0.3.100";
        for (const kind of ["tcp", "udp"] as const) {
          const here = await cluster.ask("outside", kind, host, 30080, { bytes: 5000 });
          assert.ok(here.ok, here.text);
          assert.deepEqual([here.peer, here.bytes], [client, 5000]);
          const there = await cluster.ask("outside", kind, host, 30081, { bytes: 5000 });
          assert.ok(there.ok, there.text);
          assert.deepEqual([there.peer, there.bytes], [NODE[family], 5000]);
        }
      }
    }),
);

kernelTest(
  "NodePort: a socket of the node itself is a backend, and closed ports answer at once",
  () =>
    services(abi.CONFIG_DIRECT, async (cluster) => {
      const [node] = cluster.nodes;
      await cluster.serve("node1", 9090);
      for (const family of [0, 1]) {
        for (const protocol of [TCP, UDP]) {
          const id = 100 + protocol * 2 + family, any = family ? "::" : "0.0.0.0";
          setBackend(node, { id, address: NODE[family], port: 9090, protocol });
          setBackend(node, { id: id + 50, address: POD.here[family], port: 9, protocol });
          setBackend(node, { id: id + 100, address: POD.there[family], port: 9, protocol });
          for (const [port, backend] of [[30090, id], [30091, id + 50], [30092, id + 100]]) {
            setSelection(node, backend, [backend]);
            const slots = { internal: backend, external: backend };
            setFrontend(node, { address: any, port, protocol, service: 20, flags: EXTERNAL, ...slots });
          }
          setFrontend(node, { address: any, port: 30093, protocol, service: 21, flags: EXTERNAL });
        }
        setFrontend(node, { address: VIP[family], port: 0, protocol: 0, flags: abi.FRONTEND_CLOSED });
        for (const kind of ["tcp", "udp"] as const) {
          const own = await cluster.ask("outside", kind, NODE[family], 30090, { bytes: 5000 });
          assert.ok(own.ok, own.text);
          assert.deepEqual([own.peer, own.bytes], [OUTSIDE[family], 5000]);
          // nobody listens at the backend: here, far away; there is none; the port of the virtual address is closed
          for (
            const [host, port] of [[NODE[family], 30091], [NODE[family], 30092], [NODE[family], 30093], [
              VIP[family],
              99,
            ]]
          ) {
            const refused = await cluster.ask("outside", kind, `${host}`, Number(port));
            assert.match(refused.text, /error 111/, `${kind} ${host} ${port}: ${refused.text}`);
          }
        }
      }
    }),
);

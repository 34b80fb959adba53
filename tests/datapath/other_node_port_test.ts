/**
 * NodePorts of other nodes, asked by pods and by the node's own sockets: one judgement, by who asks and who serves, whichever
 * node is asked, in both directions.
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { REDIRECT, SHOT } from "./node.ts";
import { packet, SYN, TCP, UDP } from "./packet.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const MODES = [
  ["the tunnel", abi.CONFIG_TUNNEL],
  ["direct routing by the stack", abi.CONFIG_DIRECT],
  ["direct routing past the stack", abi.CONFIG_DIRECT | abi.CONFIG_REDIRECT_NEIGH],
] as const;
const NODE_PORT = abi.FRONTEND_EXTERNAL | abi.FRONTEND_NODE_PORT | abi.FRONTEND_EVERY_NODE;
const NODES = [["192.0.2.1", "2001:db8::1"], ["192.0.2.2", "2001:db8::2"]];
const PODS = [["10.0.1.10", "fd00:1::10"], ["10.0.2.10", "fd00:2::10"]];

/** 30080 leads to pod 1, 30081 to pod 2; `flags` beside those of a NodePort. */
async function services(
  mode: number,
  flags: number,
  use: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  const cluster = await Cluster.open(mode);
  try {
    let id = 0;
    for (const family of [0, 1]) {
      for (const protocol of [TCP, UDP]) {
        for (const i of [0, 1]) {
          id++;
          for (const [n, node] of cluster.nodes.entries()) {
            setBackend(node, { id, address: PODS[i][family], port: 8080, protocol, service: 10 + i });
            setSelection(node, id, [id]);
            const external = flags & abi.FRONTEND_LOCAL && n !== i ? 0 : id;
            const any = family ? "::" : "0.0.0.0";
            setFrontend(node, {
              address: any,
              port: 30080 + i,
              protocol,
              service: 10 + i,
              internal: id,
              external,
              flags: NODE_PORT | flags,
            });
          }
        }
      }
    }
    await cluster.serve("pod1", 8080);
    await cluster.serve("pod2", 8080);
    await use(cluster);
  } finally {
    await cluster.close();
  }
}

/** TCP and UDP of both families at once: who is denied waits for nothing. */
async function everyWay(use: (family: number, kind: "tcp" | "udp") => Promise<void>): Promise<void> {
  await Promise.all([0, 1].flatMap((family) => (["tcp", "udp"] as const).map((kind) => use(family, kind))));
}

for (const [what, mode] of MODES) {
  for (const [how, flags] of [["SNAT", 0], ["DSR", abi.FRONTEND_DSR]] as const) {
    // Here it is never asked how the node would have sent it on; once is enough.
    if (flags !== 0 && mode !== abi.CONFIG_TUNNEL) continue;
    kernelTest(
      `another node's NodePort, by ${what} with ${how}: the pod that may reach the backend does, the other does not`,
      () =>
        services(mode, flags, async (cluster) => {
          const [node1, node2] = cluster.nodes;
          const ask = (host: string, port: number, kind: "tcp" | "udp", denied = false) =>
            cluster.ask("pod2", kind, host, port, { bytes: 5000, denied });
          for (const family of [0, 1]) {
            for (const kind of ["tcp", "udp"] as const) {
              // pod 2 asks node 1: for pod 1 there, and for itself
              const there = await ask(NODES[0][family], 30080, kind);
              assert.ok(there.ok, there.text);
              assert.deepEqual([there.peer, there.bytes], [PODS[1][family], 5000], "its own address is seen");
              const back = await ask(NODES[0][family], 30081, kind);
              assert.ok(back.ok, back.text);
              assert.equal(back.peer, family ? "fd00:5745:4952::1" : "169.254.42.1", "itself");
            }
          }
          assert.equal(
            serviceCounters(node1, 10).connections,
            0n,
            "the asked node has nothing to do with it",
          );
          const judged = async (allowed: boolean, why: string) => {
            await everyWay(async (family, kind) => {
              const got = await ask(NODES[0][family], 30080, kind, !allowed);
              assert.equal(got.ok, allowed, `${why}, ${kind} ${family}: ${got.text}`);
            });
          };
          const both = (rule: { identity: number }, direction: "ingress" | "egress") =>
            [TCP, UDP].map((protocol) => ({ direction, protocol, port: 8080, ...rule }));
          // who asks: by the backend, not by the node that is asked
          node2.setPolicy(1, { enforceEgress: true, rules: both({ identity: 1001 }, "egress") });
          node2.changeEndpoint(1, { policy: 1 });
          await judged(true, "may reach the backend");
          node2.setPolicy(2, {
            enforceEgress: true,
            rules: [{ direction: "egress", identity: abi.IDENTITY_REMOTE_NODE }],
          });
          node2.changeEndpoint(1, { policy: 2 });
          await judged(false, "may reach the node only");
          node2.changeEndpoint(1, { policy: 0 });
          // who serves: by the pod, not by a node
          node1.setPolicy(1, { enforceIngress: true, rules: both({ identity: 1002 }, "ingress") });
          node1.changeEndpoint(1, { policy: 1 });
          await judged(true, "the pod may");
          node1.setPolicy(2, {
            enforceIngress: true,
            rules: [{ direction: "ingress", identity: abi.IDENTITY_REMOTE_NODE }],
          });
          node1.changeEndpoint(1, { policy: 2 });
          await judged(false, "nodes may, the pod may not");
        }),
    );
  }
  kernelTest(
    `another node's NodePort, by ${what}: externalTrafficPolicy Local is its own backends`,
    () =>
      services(mode, abi.FRONTEND_LOCAL, async (cluster) => {
        await everyWay(async (family, kind) => {
          const there = await cluster.ask("pod2", kind, NODES[0][family], 30080, { bytes: 500 });
          assert.ok(there.ok, there.text);
          assert.equal(there.peer, PODS[1][family]);
          // its backend is pod 2, which is not node 1's
          assert.ok(!(await cluster.ask("pod2", kind, NODES[0][family], 30081, { denied: true })).ok);
          // its own node: as ever
          assert.ok((await cluster.ask("pod2", kind, NODES[1][family], 30081)).ok);
        });
      }),
  );
  kernelTest(
    `another node's NodePort, by ${what}: a node that lacks the service yet asks the other, and both judge alike`,
    () =>
      services(mode, 0, async (cluster) => {
        const [, node2] = cluster.nodes;
        for (const [family, any] of ["0.0.0.0", "::"].entries()) {
          for (const protocol of [TCP, UDP]) {
            for (const i of [0, 1]) {
              setFrontend(node2, { address: any, port: 30080 + i, protocol, flags: abi.FRONTEND_EXTERNAL });
              node2.map("weir_frontends").delete(abi.FrontendKey.encode({
                address: family
                  ? new Uint8Array(16)
                  : Uint8Array.from([...Array(10).fill(0), 255, 255, 0, 0, 0, 0]),
                portBe: 30080 + i,
                protocol,
              }));
            }
          }
        }
        node2.setPolicy(1, {
          enforceEgress: true,
          rules: [{ direction: "egress", identity: abi.IDENTITY_REMOTE_NODE }],
        });
        node2.setPolicy(2, {
          enforceEgress: true,
          rules: [{ direction: "egress", identity: 1001 }, { direction: "egress", identity: 1002 }],
        });
        for (const [policy, allowed] of [[1, true], [2, false]] as const) {
          node2.changeEndpoint(1, { policy });
          await everyWay(async (family, kind) => {
            for (const port of [30080, 30081]) {
              const options = { bytes: 5000, denied: !allowed };
              const got = await cluster.ask("pod2", kind, NODES[0][family], port, options);
              assert.equal(got.ok, allowed, `policy ${policy}, ${kind} ${family} ${port}: ${got.text}`);
            }
          });
        }
      }),
  );
}

for (const f of FAMILIES) {
  kernelTest(
    `from_endpoint(): which NodePorts are every node's, and whose backends serve (${f.name})`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const v4 = f.name === "IPv4", any = v4 ? "0.0.0.0" : "::";
      const second = v4 ? "192.0.2.2" : "2001:db8::2",
        third = v4 ? "192.0.2.3" : "2001:db8::3",
        gateway = v4 ? "10.0.2.1" : "fd00:2::1";
      for (const own of [second, gateway]) node.setIpcache(own, 6, "192.0.2.2");
      node.setIpcache(third, 6, "192.0.2.3");
      setBackend(node, { id: 1, address: f.b, port: 8080, service: 7 });
      setBackend(node, { id: 2, address: f.remote, port: 8080, service: 7 });
      setSelection(node, 1, [1, 1, 1, 2]);
      setSelection(node, 2, [1]);
      const ports: [number, number, number, number][] = [
        [30001, NODE_PORT, 1, 2],
        [30002, abi.FRONTEND_EXTERNAL | abi.FRONTEND_NODE_PORT, 1, 1], // a HostPort: this node's own
        [30003, NODE_PORT | abi.FRONTEND_LOCAL, 1, 2],
      ];
      for (const [port, flags, internal, external] of ports) {
        setFrontend(node, { address: any, port, service: 7, internal, external, flags });
      }
      let sport = 20000;
      const ask = (to: string, port: number) => {
        const got = from(A, { from: f.a, to, sport: sport++, dport: port, flags: SYN });
        const drop = got.events.find((event) => event.type === abi.EVENT_DROP)?.subtype;
        const at = v4 ? 30 : 38;
        return [
          got.verdict === SHOT ? drop : got.verdict,
          [...got.data.subarray(at, at + (v4 ? 4 : 16))].join(),
        ];
      };
      const bytes = (text: string) =>
        [...packet({ from: f.a, to: text }).subarray(v4 ? 30 : 38, v4 ? 34 : 54)].join();
      for (const to of [second, gateway, third]) {
        assert.deepEqual(ask(to, 30001), [REDIRECT, bytes(f.b)], "who may serve the outside");
        assert.deepEqual(ask(to, 30002), [REDIRECT, bytes(to)], "another node's own port");
        assert.deepEqual(ask(to, 80), [REDIRECT, bytes(to)], "no service's");
      }
      for (let i = 0; i < 8; i++) {
        assert.deepEqual(ask(second, 30003), [REDIRECT, bytes(f.remote)], "Local: the node's own backend");
        assert.deepEqual(ask(gateway, 30003), [REDIRECT, bytes(f.remote)]);
      }
      assert.equal(ask(third, 30003)[0], REDIRECT, "none there: the asker is told at once");
      assert.equal(node.counted(abi.DROP_NO_SERVICE), 1);
      // more than can be looked through: the node itself is asked
      setSelection(node, 1, Array(200).fill(1));
      assert.deepEqual(ask(second, 30003), [REDIRECT, bytes(second)]);
      // the world is not a node
      assert.equal(ask(f.world, 30001)[1], bytes(f.world));
    },
  );
}

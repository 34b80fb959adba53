/** Packets without a hop left: their senders are told so, also at frontends on the node's own addresses. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT } from "./node.ts";
import { ACK, packet, type PacketSpec, SYN, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const script = new URL("testdata/hops.py", import.meta.url).pathname;
const CLUSTER = [
  { pods: ["10.0.1.10", "10.0.2.10"], node: "192.0.2.1", any: "0.0.0.0", exceeded: "11 0", closed: "3 3" },
  { pods: ["fd00:1::10", "fd00:2::10"], node: "2001:db8::1", any: "::", exceeded: "3 0", closed: "1 4" },
];

kernelTest(
  "a NodePort says time exceeded to a datagram without a hop left, for backends here and far away",
  async () => {
    const cluster = await Cluster.open(abi.CONFIG_TUNNEL);
    try {
      const [node] = cluster.nodes;
      let id = 0;
      for (const family of CLUSTER) {
        for (const [i, pod] of family.pods.entries()) {
          setBackend(node, { id: ++id, address: pod, port: 7000, protocol: UDP });
          setSelection(node, id, [id]);
          const common = { protocol: UDP, service: id, external: id, flags: abi.FRONTEND_EXTERNAL };
          setFrontend(node, { address: family.any, port: 30700 + i, ...common });
        }
      }
      const hear = async (host: string, port: number, hops: number) =>
        (await cluster.in("outside", "python3", script, host, `${port}`, `${hops}`)).text.trim();
      for (const family of CLUSTER) {
        for (const port of [30700, 30701]) {
          assert.equal(await hear(family.node, port, 1), `${family.exceeded} ${family.node}`);
          // with enough of them it arrives, where nobody listens
          assert.match(await hear(family.node, port, 3), new RegExp(`^${family.closed} `));
        }
        // The second hop of what goes far away is the other node.
        assert.match(await hear(family.node, 30701, 2), new RegExp(`^${family.exceeded} `));
        // the host itself is reached
        assert.equal(await hear(family.node, 30702, 1), `${family.closed} ${family.node}`);
      }
    } finally {
      await cluster.close();
    }
  },
);

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: time exceeded is said once per packet, to nobody's error, and not without end`,
    async () => {
      const { node } = await twoEndpoints();
      using _ = node;
      setBackend(node, { id: 1, address: f.a, port: 8080 });
      setSelection(node, 1, [1]);
      const any = f.name === "IPv4" ? "0.0.0.0" : "::";
      setFrontend(node, { address: any, port: 30080, service: 7, external: 1, flags: abi.FRONTEND_EXTERNAL });
      const ask = (change: Partial<PacketSpec> = {}) =>
        node.run(
          "from_netdev",
          packet({ from: f.world, to: f.host, dport: 30080, flags: SYN, ttl: 1, ...change }),
        );
      const first = ask();
      assert.deepEqual([first.verdict, first.mark], [REDIRECT, abi.MARK_DELIVERED]);
      assert.equal(node.run("to_netdev", first.data, 1, first.mark).verdict, PASS);
      const at = f.name === "IPv4" ? 14 + 20 : 14 + 40;
      assert.deepEqual([...first.data.slice(at, at + 2)], f.name === "IPv4" ? [11, 0] : [3, 0]);
      assert.equal(node.counted(abi.DROP_TTL_EXCEEDED), 1);
      assert.equal(first.events.at(-1)?.subtype, abi.DROP_TTL_EXCEEDED);
      assert.equal(node.flows().length, 0);
      assert.equal(ask({ ttl: 2 }).verdict, REDIRECT);
      // An established flow's packets alike; the flow stays.
      assert.equal(ask({ flags: ACK }).data[at], first.data[at]);
      // At most 1,000 a second and CPU.
      const verdicts = Array.from({ length: 5000 }, (_, i) => ask({ sport: 1000 + i }).verdict);
      const seconds = verdicts.filter((verdict) => verdict === REDIRECT).length / 1000;
      assert.ok(verdicts.includes(SHOT) || seconds <= 5, `${seconds}`);
      assert.equal(node.counted(abi.DROP_TTL_EXCEEDED), 5002);
    },
  );
}

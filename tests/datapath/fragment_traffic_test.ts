/** Datagrams in pieces, in any order, over real devices: between pods, to a ClusterIP, to a NodePort here and far away. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, OUTSIDE, type Place } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const script = new URL("testdata/fragments.py", import.meta.url).pathname;
const PORT = 7000, NODE_PORT = 30700;
const FAMILIES = [
  {
    pod: (n: number) => `10.0.${n}.10`,
    node: (n: number) => `192.0.2.${n}`,
    any: "0.0.0.0",
    vip: "10.96.0.7",
  },
  {
    pod: (n: number) => `fd00:${n}::10`,
    node: (n: number) => `2001:db8::${n}`,
    any: "::",
    vip: "fd00:96::7",
  },
];

function services(cluster: Cluster): void {
  FAMILIES.forEach((family, i) => {
    for (const node of cluster.nodes) {
      setBackend(node, { id: i + 1, address: family.pod(2), port: PORT, protocol: UDP, service: 7 });
      setSelection(node, i + 1, [i + 1]);
      const both = { protocol: UDP, service: 7, internal: i + 1, external: i + 1 };
      setFrontend(node, { ...both, address: family.vip, port: 53 });
      setFrontend(node, { ...both, address: family.any, port: NODE_PORT, flags: abi.FRONTEND_EXTERNAL });
    }
  });
}

for (const [name, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(`${name}: fragments arrive whole in any order, also at services`, async () => {
    const cluster = await Cluster.open(mode);
    try {
      await cluster.serve("pod2", PORT);
      services(cluster);
      let sport = 41000;
      for (const [i, family] of FAMILIES.entries()) {
        const ways: [Place, string, string, number][] = [
          ["pod1", family.pod(1), family.pod(2), PORT],
          ["pod1", family.pod(1), family.vip, 53],
          ["outside", OUTSIDE[i], family.node(2), NODE_PORT],
          ["outside", OUTSIDE[i], family.node(1), NODE_PORT],
        ];
        for (const [place, from, to, port] of ways) {
          for (const order of ["forward", "reverse", "shuffle"]) {
            for (const [bytes, ...more] of [["2400"], ["50000"], ...(i ? [["2400", "options"]] : [])]) {
              const args = [from, to, `${sport++}`, `${port}`, bytes, order, ...more];
              const { text } = await cluster.in(place, "python3", script, ...args);
              const [, , size, who] = text.trim().split(" ");
              assert.deepEqual([size, who], [bytes, to], `${args.join(" ")}: ${text} ${cluster.drops()}`);
            }
          }
          // and as sockets send them
          const asked = await cluster.ask(place, "udp", to, port, { bytes: 60000 });
          assert.equal(asked.bytes, 60000, `${place} ${to}: ${asked.text}`);
        }
      }
      // Nothing is left behind.
      for (const node of cluster.nodes) {
        const held = node.map("weir_held_groups").entries().filter(([, count]) => count.some((byte) => byte));
        assert.deepEqual(held, []);
      }
    } finally {
      await cluster.close();
    }
  });
}

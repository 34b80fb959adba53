/** Connections that are direct when rules come that only the proxy can judge: who hears of it, and what becomes of those that open. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { type Cluster, type Place, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { REDIRECT, SHOT, type TestNode } from "./node.ts";
import { BOTH_FAMILIES, EGRESS, INGRESS, PLAIN, PORT, withProxy } from "./redirect_bed.ts";
import { ACK, be32, RST, SYN, TCP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { Speaker, Talker } from "./talkers.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const SERVICE = "10.96.0.9", NODE_PORT = "192.0.2.1", RESET = /^error 104 /, SILENT = /^error None /;
/** Who says something first: a word, or the end of the connection by a RST, which only the other one hears. */
const FIRST = [
  ["the server", "speaks"],
  ["the client", "speaks"],
  ["the server", "ends"],
  ["the client", "ends"],
] as const;
const CLOSING = abi.CT_CLOSING_FORWARD | abi.CT_CLOSING_REVERSE;

/** The newest flow of node 1 that is not the proxy's. */
const direct = (cluster: Cluster) =>
  cluster.nodes[0].flows().map(({ entry }) => entry)
    .filter(({ flags }) => !(flags & (abi.CT_REDIRECT | abi.CT_SERVICE)))
    .sort((a, b) => b.created - a.created)[0];

function serveNodePort(node: TestNode): void {
  setBackend(node, { id: 2, address: "10.0.1.10", port: PORT });
  setSelection(node, 2, [2]);
  const flags = abi.FRONTEND_EXTERNAL;
  setFrontend(node, { address: "0.0.0.0", port: PORT, service: 20, internal: 2, external: 2, flags });
}

for (const [what, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(
    `redirect: both ends of a direct connection hear that it is over, whoever speaks first, by ${what}`,
    () =>
      withProxy(mode | BOTH_FAMILIES, async (cluster) => {
        const [node] = cluster.nodes;
        setBackend(node, { id: 1, address: "10.0.1.11", port: PORT });
        setSelection(node, 1, [1]);
        setFrontend(node, { address: SERVICE, port: PORT, service: 10, internal: 1, external: 1 });
        const ways: [client: Place, server: Place, to: string, ingress?: number][] = [
          ["pod1", "pod3", "10.0.1.11"],
          ["pod1", "pod3", "fd00:1::11"],
          ["pod1", "pod3", "10.0.1.11", INGRESS],
          ["pod1", "pod3", SERVICE],
          ["pod1", "node1", "10.0.1.1"],
          ["pod1", "node1", "fd00:1::1"],
          ["pod1", "pod2", "10.0.2.10"],
          ["pod1", "pod2", "fd00:2::10"],
          ["pod2", "pod1", "10.0.1.10", INGRESS],
          ["pod1", "outside", WORLD[0]],
          ["pod1", "outside", WORLD[1]],
          ["outside", "pod1", NODE_PORT, INGRESS],
        ];
        for (const [client, server, to, ingress] of ways) {
          if (to === NODE_PORT) serveNodePort(node);
          await using speaker = await Speaker.open(cluster, server);
          for (const [first, what] of FIRST) {
            const about = `${client} to ${to}, ${ingress ? "ingress" : "egress"}, ${first} ${what} first`;
            const judged = (rules: boolean) => {
              node.changeEndpoint(1, {
                policy: ingress ? rules && server === "pod1" ? INGRESS : 0 : rules ? EGRESS : PLAIN,
              });
              node.changeEndpoint(2, { policy: ingress && rules && server === "pod3" ? INGRESS : 0 });
            };
            judged(false);
            node.gc(abi.GC_ALL);
            await using talker = await Talker.open(cluster, client, to);
            const before = node.counted(abi.DROP_DIRECT_CONNECTION);
            // A request that waits for its answer
            const answer = talker.say(first === "the client" && what === "ends" ? 0.1 : 20);
            await until("the request", () => Number(direct(cluster).traffic[0].packets) >= 3, 20);
            if (first === "the client" && what === "ends") assert.match(await answer, SILENT, about);
            judged(true);
            const end = first === "the server" ? speaker : talker;
            if (what === "ends") await end.reset();
            else if (first === "the server") await speaker.say();
            else await talker.hurry();
            if (first !== "the client" || what !== "ends") assert.match(await answer, RESET, about);
            if (first !== "the server" || what !== "ends") assert.match(await speaker.hears(), RESET, about);
            assert.ok(node.counted(abi.DROP_DIRECT_CONNECTION) > before, about);
            assert.equal(direct(cluster).flags & CLOSING, CLOSING, `${about}: its entry does not stay`);
          }
        }
      }),
  );
}

kernelTest(
  "redirect: a connection that opens while rules come is the proxy's, and is not refused",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node, far] = cluster.nodes;
      await cluster.serve("pod2", PORT);
      for (const lost of ["the SYN", "the answer"]) {
        node.changeEndpoint(1, { policy: PLAIN });
        for (const n of cluster.nodes) n.gc(abi.GC_ALL);
        const place = lost === "the SYN" ? "node1" : "node2", other = lost === "the SYN" ? 2 : 1;
        await cluster.ip(place, "route", "add", "blackhole", `192.0.2.${other}/32`);
        const answer = cluster.ask("pod1", "tcp", "10.0.2.10", PORT);
        await until(
          "a SYN that nothing answers",
          () => (lost === "the SYN" ? node : far).flows().length > 0,
          20,
        );
        node.changeEndpoint(1, { policy: EGRESS });
        await cluster.ip(place, "route", "delete", "blackhole", `192.0.2.${other}/32`);
        const { ok, text } = await answer;
        assert.ok(ok, `${lost} was lost: ${text}`);
        assert.match(await proxy.line(), /^(::ffff:)?240\./, "by way of the proxy");
      }
    }),
);

kernelTest(
  "redirect: rules that come and go refuse no connection, and leave none without an end",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster) => {
      const [node] = cluster.nodes;
      await cluster.serve("pod3", PORT);
      const script = `
import collections, socket
said = collections.Counter()
for i in range(150):
    try:
        with socket.create_connection(("10.0.1.11", ${PORT}), 20) as s:
            for _ in range(3):
                s.sendall(b"hello?")
                said["answered" if s.recv(1000) else "closed"] += 1
    except OSError as error: said[error.errno or "silent"] += 1
print(*(f"{what} {count}" for what, count in said.items()), sep=", ")
`;
      let done = false;
      const flapping = (async () => {
        for (let i = 0; !done; i++) {
          node.changeEndpoint(1, { policy: i & 1 ? EGRESS : PLAIN });
          await new Promise((resolve) => setTimeout(resolve, 7));
        }
      })();
      const { text } = await cluster.in("pod1", "python3", "-c", script);
      done = true;
      await flapping;
      assert.match(text.trim(), /^(answered|closed|104) \d+(, (answered|closed|104) \d+)*$/, cluster.drops());
      assert.match(text, /answered/);
    }),
);

kernelTest(
  "redirect: a RST of a direct connection goes on without its data, opens nothing, and is nobody's without a connection",
  async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const rules = (redirect: boolean) => ({
      enforceEgress: true,
      rules: [{ direction: "egress" as const, protocol: TCP, port: PORT, redirect, cookie: 7 }],
    });
    node.setPolicy(PLAIN, rules(false));
    node.setPolicy(EGRESS, rules(true));
    for (const [at, f] of FAMILIES.entries()) {
      const tuple = (sport: number) => ({ from: f.a, to: f.b, sport, dport: PORT });
      const back = (sport: number) => ({ from: f.b, to: f.a, sport: PORT, dport: sport });
      const forged = { flags: RST | ACK, seq: 77, payload: [...new TextEncoder().encode("GET / HTTP/1.1")] };
      const known = 4001 + 2 * at, unknown = known + 1;
      node.changeEndpoint(A, { policy: PLAIN });
      for (const { sent, by } of [{ sent: tuple(known), by: A }, { sent: back(known), by: B }]) {
        assert.equal(from(by, { ...sent, flags: by === A ? SYN : SYN | ACK }).verdict, REDIRECT);
      }
      node.changeEndpoint(A, { policy: EGRESS });
      for (const { sent, by } of [{ sent: tuple(known), by: A }, { sent: back(known), by: B }]) {
        const before = node.counted(abi.DROP_DIRECT_CONNECTION);
        const made = from(by, { ...sent, ...forged });
        assert.equal(made.verdict, REDIRECT, f.name);
        const l4 = f.name === "IPv4" ? 34 : 54;
        assert.equal(made.data.length, l4 + 20, "nothing behind its header");
        assert.deepEqual([...made.data.subarray(l4 + 4, l4 + 8)], be32(77));
        assert.equal(made.data[l4 + 13], RST);
        assert.equal(node.counted(abi.DROP_DIRECT_CONNECTION), before + 1);
        // What comes behind it is as little let by as before, and neither is a RST that would open one.
        assert.equal(from(by, { ...sent, flags: RST | SYN }).verdict, SHOT);
        const data = from(by, { ...sent, flags: ACK, payload: [1, 2, 3] });
        assert.equal(data.data[l4 + 13], RST, "its sender and its receiver hear of a RST, and of no data");
      }
      for (const { sent, by } of [{ sent: tuple(unknown), by: A }, { sent: back(unknown), by: B }]) {
        assert.equal(from(by, { ...sent, ...forged }).verdict, SHOT, "of no connection");
      }
    }
  },
);

/** UDP that the proxy judges: real datagrams through real programs and an unprivileged socket. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster, type Place, WORLD } from "./cluster.ts";
import { DatagramEnd } from "./datagram_end.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { UDP } from "./packet.ts";
import { Proxy, PROXY_PORT } from "./proxy.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const PORT = 5353, REDIRECTED = 1, DIRECT = 2, DENIED = 3;
const BOTH_FAMILIES = abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6;
const POD = ["10.0.1.10", "fd00:1::10"],
  NEAR = ["10.0.1.11", "fd00:1::11"],
  FAR = ["10.0.2.10", "fd00:2::10"];
const NODE = ["192.0.2.1", "2001:db8::1"], SERVICE = ["10.96.0.9", "fd00:96::9"];

/** A node with pod1 and pod3, a proxy on it, and policies in the slots above. */
async function withProxy(
  mode: number,
  use: (cluster: Cluster, proxy: Proxy) => Promise<void>,
  sizes: Record<string, number> = {},
  sockets = 1,
): Promise<void> {
  const cluster = await Cluster.open(mode, sizes);
  let proxy: Proxy | undefined;
  try {
    await cluster.addPod();
    const [node] = cluster.nodes;
    const rule = { direction: "egress", protocol: UDP, port: PORT } as const;
    node.setPolicy(REDIRECTED, { enforceEgress: true, rules: [{ ...rule, redirect: true, cookie: 7 }] });
    node.setPolicy(DIRECT, { enforceEgress: true, rules: [{ ...rule, cookie: 8 }] });
    node.setPolicy(DENIED, { enforceEgress: true, rules: [] });
    node.changeEndpoint(1, { policy: REDIRECTED });
    proxy = await Proxy.open(cluster, 1, { kind: "datagrams", sockets });
    await use(cluster, proxy);
  } finally {
    await proxy?.close();
    await cluster.close();
  }
}

let source = 40000;
/** pod1 asks by way of the proxy, and the server sees `peer`, with pod1's own port unless that is the node's. */
async function passes(
  cluster: Cluster,
  proxy: Proxy,
  ask: { to: string; port?: number; peer: string; anyPort?: boolean; bytes?: number; source?: number },
): Promise<void> {
  const own = ask.source ?? ++source, bytes = ask.bytes ?? 100;
  const answer = await cluster.ask("pod1", "udp", ask.to, ask.port ?? PORT, { bytes, source: own });
  assert.deepEqual(
    [answer.ok, answer.peer, answer.port, answer.bytes],
    [true, ask.peer, ask.anyPort ? answer.port : own, bytes],
    `${ask.to}: ${answer.text}`,
  );
  const asked = await proxy.line(), answered = await proxy.line();
  assert.match(asked, new RegExp(`^client (240\\.|fd57:4c37::)\\S+ ${bytes}$`));
  assert.deepEqual(answered.split(" ").slice(0, 2), ["server", asked.split(" ")[1]]);
}

for (const [what, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(
    `datagrams: a socket without rights has both legs, of servers here, far away, of services, of the node and of the world, by ${what}`,
    () =>
      withProxy(mode | BOTH_FAMILIES, async (cluster, proxy) => {
        const [node, other] = cluster.nodes;
        for (const place of ["node1", "pod2", "pod3", "outside"] as Place[]) await cluster.serve(place, PORT);
        // the far node hears from the client's identity
        other.setPolicy(1, {
          enforceIngress: true,
          rules: [{ direction: "ingress", identity: 1001, protocol: UDP, port: PORT }],
        });
        other.changeEndpoint(1, { policy: 1 });
        for (const family of [0, 1]) {
          const peer = POD[family];
          for (const to of [NEAR[family], FAR[family], NODE[family]]) {
            await passes(cluster, proxy, { to, peer });
          }
          await passes(cluster, proxy, { to: WORLD[family], peer: NODE[family], anyPort: true });
          // a service's backends, here and there: the client hears from the service
          for (const [i, backend] of [NEAR[family], FAR[family]].entries()) {
            const id = 1 + 2 * family + i;
            setBackend(node, { id, address: backend, port: PORT });
            setSelection(node, id, [id]);
            setFrontend(node, {
              address: SERVICE[family],
              port: 53 + i,
              protocol: UDP,
              service: 10 + i,
              internal: id,
              external: id,
            });
            await passes(cluster, proxy, { to: SERVICE[family], port: 53 + i, peer });
          }
          const { frontendPortBe, service, redirect, client } = proxy.handles().at(-1)!;
          assert.deepEqual([frontendPortBe, service, redirect, client], [54, 11, 1, {
            identity: 1001,
            endpoint: 1,
          }]);
        }
        assert.equal(cluster.drops(), "");
      }),
  );
}

/** Waits until the node has counted more drops for a reason than before. */
function moreDrops(cluster: Cluster, reason: number, before: number): Promise<void> {
  return until(`drop ${reason}`, () => Promise.resolve(cluster.nodes[0].counted(reason) > before));
}

kernelTest(
  "datagrams: whether a flow is the proxy's is asked with each of its client's datagrams, whoever spoke last",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      for (const [place, to, own] of [["pod3", NEAR[0], POD[0]], ["pod2", FAR[1], POD[1]]] as const) {
        await using client = await DatagramEnd.open(cluster, "pod1", 41000);
        await using server = await DatagramEnd.open(cluster, place, PORT);
        const asks = async (text: string, judged: boolean) => {
          await client.send(to, PORT, text);
          assert.equal(await server.hears(), `${own} 41000 ${text}`);
          if (judged) assert.match(await proxy.line(), /^client /);
        };
        const answers = async (text: string, judged: boolean) => {
          await server.send(own, 41000, text);
          assert.equal(await client.hears(), `${to} ${PORT} ${text}`);
          if (judged) assert.match(await proxy.line(), /^server /);
        };
        const held = proxy.handles().length;
        node.changeEndpoint(1, { policy: DIRECT });
        await asks("direct", false);
        await answers("direct", false);
        assert.equal(proxy.handles().length, held);
        // What is still answered to a direct question is nobody's; the next question is the proxy's.
        node.changeEndpoint(1, { policy: REDIRECTED });
        let before = node.counted(abi.DROP_DIRECT_CONNECTION);
        await server.send(own, 41000, "late");
        await moreDrops(cluster, abi.DROP_DIRECT_CONNECTION, before);
        await asks("judged", true);
        await answers("judged", true);
        // The rule is gone, and the server is the first to speak: to the proxy, which asked.
        node.changeEndpoint(1, { policy: DIRECT });
        await answers("more", true);
        await asks("again", false);
        await answers("again", false);
        // And back at once, with another handle.
        const [{ number }] = proxy.handles();
        node.changeEndpoint(1, { policy: REDIRECTED });
        await asks("back", true);
        await answers("back", true);
        assert.notEqual(proxy.handles().at(-1)!.number, number);
        // A deny bites at once, in both directions, and the proxy hears of nothing.
        node.changeEndpoint(1, { policy: DENIED });
        before = node.counted(abi.DROP_POLICY);
        await client.send(to, PORT, "denied");
        await moreDrops(cluster, abi.DROP_POLICY, before);
        before = node.counted(abi.DROP_POLICY);
        await server.send(own, 41000, "denied");
        await moreDrops(cluster, abi.DROP_POLICY, before);
        // Flows and handles end together.
        node.gc(abi.GC_ALL);
        await new Promise((done) => setTimeout(done, 1100));
        node.gc(abi.GC_ALL);
        assert.equal(proxy.handles().length, 0);
        node.changeEndpoint(1, { policy: REDIRECTED });
        await asks("anew", true);
        node.gc(abi.GC_ALL);
      }
    }),
);

kernelTest(
  "datagrams: fragments of both legs, of long answers and questions, find together",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      // As pods' devices are: one MTU at both ends.
      for (const device of ["pod", "pod3"]) await cluster.ip("node1", "link", "set", device, "mtu", "1400");
      for (const family of [0, 1]) {
        for (const [place, to] of [["pod3", NEAR[family]], ["pod2", FAR[family]]] as const) {
          await using client = await DatagramEnd.open(cluster, "pod1", 41000);
          await using server = await DatagramEnd.open(cluster, place, PORT);
          for (const bytes of [1390, 9000]) {
            await client.send(to, PORT, `*${bytes}`);
            assert.equal(await server.hears(), `${POD[family]} 41000 ${bytes}`);
            await server.send(POD[family], 41000, `*${bytes + 10_000}`);
            assert.equal(await client.hears(), `${to} ${PORT} ${bytes + 10_000}`);
            assert.match(await proxy.line(), new RegExp(`^client \\S+ ${bytes}$`));
            assert.match(await proxy.line(), new RegExp(`^server \\S+ ${bytes + 10_000}$`));
          }
        }
      }
    }),
);

kernelTest(
  "datagrams: who may not, cannot, and hears so at once",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      const refused = async (to: string, port: number) => {
        const answer = await cluster.ask("pod1", "udp", to, port);
        assert.match(answer.text, /^error 111 /, answer.text);
      };
      // The server's port is closed: its word goes to the client, not to the proxy.
      for (const to of [NEAR[0], NEAR[1], FAR[0]]) {
        await refused(to, PORT);
        assert.match(await proxy.line(), /^client /);
      }
      await cluster.serve("pod3", PORT);
      await passes(cluster, proxy, { to: NEAR[0], peer: POD[0] });
      await passes(cluster, proxy, { to: NEAR[1], peer: POD[1] });
      // Handles are for the proxy's own socket: not for other users, other sockets, pods, or what is made by hand.
      for (const { number, key } of proxy.handles().slice(-2)) {
        const v6 = key.lo[0] === 0xfd;
        const handle = v6
          ? `fd57:4c37::${number >> 16}:${(number & 0xffff).toString(16)}`
          : `240.${number >> 16}.${number >> 8 & 255}.${number & 255}`;
        for (const port of [1, 2, 53]) {
          const before = node.counted(abi.DROP_HANDLE_ADDRESS);
          assert.match((await cluster.ask("node1", "udp", handle, port)).text, /^error 13 /);
          assert.ok(node.counted(abi.DROP_HANDLE_ADDRESS) > before);
        }
        const send = `import socket; socket.socket(socket.AF_INET${
          v6 ? 6 : ""
        }, socket.SOCK_DGRAM).sendto(b"x", ("${handle}", 1))`;
        assert.match((await cluster.in("node1", "python3", "-c", send)).text, /Permission denied/);
        const forged = node.counted(abi.DROP_HANDLE_ADDRESS);
        const client = v6 ? POD[1] : POD[0], port = 40000;
        const raw = v6
          ? `s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 17); s.setsockopt(41, 78, 1); s.bind(("${handle}", 0)); s.sendto(struct.pack("!4H", 15001, ${port}, 9, 0) + b"x", ("${client}", 0))`
          : `s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 17); s.bind(("${handle}", 0)); s.sendto(struct.pack("!4H", 15001, ${port}, 9, 0) + b"x", ("${client}", 0))`;
        // (Its sender may hear that it was dropped: ENOBUFS.)
        const made = await cluster.in("node1", "python3", "-c", `import socket, struct; ${raw}`);
        assert.ok(made.code === 0 || /Errno 105/.test(made.text), made.text);
        await until("the forged one", () =>
          Promise.resolve(
            node.counted(abi.DROP_HANDLE_ADDRESS) + node.counted(abi.DROP_HANDLE_GONE) > forged,
          ));
        node.changeEndpoint(1, { policy: 0 });
        const fromPod = node.counted(abi.DROP_HANDLE_ADDRESS);
        assert.equal((await cluster.ask("pod1", "udp", handle, 1, { denied: true })).ok, false);
        assert.ok(node.counted(abi.DROP_HANDLE_ADDRESS) > fromPod);
        node.changeEndpoint(1, { policy: REDIRECTED });
      }
      // The proxy is away: told at once, counted; and its flows are there when it is back.
      const own = 42000;
      await passes(cluster, proxy, { to: NEAR[0], peer: POD[0], source: own });
      const [number] = proxy.handles().map(({ number }) => number).slice(-1);
      await proxy.kill();
      for (const to of [NEAR[0], NEAR[1]]) {
        const before = node.counted(abi.DROP_PROXY_AWAY);
        await refused(to, PORT);
        assert.equal(node.counted(abi.DROP_PROXY_AWAY), before + 1);
      }
      await proxy.start();
      await passes(cluster, proxy, { to: NEAR[0], peer: POD[0], source: own });
      assert.ok(proxy.handles().some((handle) => handle.number === number), "the same handle");
      // No proxy is configured: refused, not let by.
      node.writeConfig({ proxyPort: 0 });
      await refused(NEAR[0], PORT);
      node.writeConfig({ proxyPort: PROXY_PORT });
      // By a service the word is the frontend's.
      setBackend(node, { id: 1, address: NEAR[0], port: PORT });
      setSelection(node, 1, [1]);
      setFrontend(node, {
        address: SERVICE[0],
        port: 53,
        protocol: UDP,
        service: 10,
        internal: 1,
        external: 1,
      });
      await proxy.kill();
      await refused(SERVICE[0], 53);
    }),
);

kernelTest(
  "datagrams: the table of handles is shared, and who finds none is told",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      await cluster.serve("pod3", PORT);
      let ok = 0;
      for (; ok < 32; ok++) {
        const answer = await cluster.ask("pod1", "udp", NEAR[0], PORT, { source: 43000 + ok });
        if (answer.ok) continue;
        assert.match(answer.text, /^error 111 /, answer.text);
        break;
      }
      // As of connections: two thirds of what is not the node's.
      assert.equal(ok, 20);
      assert.ok(node.counted(abi.DROP_HANDLE_SHARE) > 0);
      assert.equal(proxy.handles().length, ok);
    }, { weir_handles: 32 }),
);

kernelTest(
  "datagrams: several sockets share flows, and both legs of one come to one of them",
  () =>
    withProxy(
      abi.CONFIG_TUNNEL,
      async (cluster, proxy) => {
        const [node] = cluster.nodes;
        await cluster.serve("pod3", PORT);
        const flows: Record<string, number> = {};
        for (let at = 0; at < 12; at++) {
          for (const family of [0, 1]) {
            const answer = await cluster.ask("pod1", "udp", NEAR[family], PORT, { source: 44000 + at });
            assert.deepEqual([answer.ok, answer.peer], [true, POD[family]], answer.text);
            const [client, handle, , port] = (await proxy.line()).split(" ");
            assert.deepEqual([client, ...(await proxy.line()).split(" ")].filter((_, i) => i !== 3), [
              ...["client", "server", handle],
              port,
            ]);
            flows[port] = (flows[port] ?? 0) + 1;
          }
        }
        assert.deepEqual(flows, { [PROXY_PORT]: 8, [PROXY_PORT + 1]: 8, [PROXY_PORT + 2]: 8 });
        // None of their ports is anybody's else on an address of the node; the one behind them is no socket's.
        node.changeEndpoint(1, { policy: 0 });
        for (const [port, ours] of [[PROXY_PORT + 2, true], [PROXY_PORT + 3, false]] as const) {
          const before = node.counted(abi.DROP_HANDLE_ADDRESS);
          assert.equal((await cluster.ask("pod1", "udp", NODE[0], port, { denied: ours })).ok, false);
          assert.equal(node.counted(abi.DROP_HANDLE_ADDRESS) > before, ours, `${port}`);
        }
      },
      {},
      3,
    ),
);

kernelTest(
  "datagrams: a server that speaks first opens no flow beside the proxy",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      for (const [place, to, own] of [["pod3", NEAR[0], POD[0]], ["pod2", FAR[1], POD[1]]] as const) {
        await using client = await DatagramEnd.open(cluster, "pod1", 41000);
        await using server = await DatagramEnd.open(cluster, place, PORT);
        for (const known of [false, true]) {
          node.gc(abi.GC_ALL);
          if (known) {
            node.changeEndpoint(1, { policy: DIRECT });
            await server.send(own, 41000, "first");
            assert.equal(await client.hears(), `${to} ${PORT} first`);
            node.changeEndpoint(1, { policy: REDIRECTED });
          }
          const before = node.counted(abi.DROP_DIRECT_CONNECTION);
          await server.send(own, 41000, "again");
          await moreDrops(cluster, abi.DROP_DIRECT_CONNECTION, before);
          node.gc(abi.GC_ALL);
          await client.send(to, PORT, "asks");
          assert.equal(await server.hears(), `${own} 41000 asks`);
          assert.match(await proxy.line(), /^client /);
        }
      }
    }),
);

/** Connections that the proxy judges: real packets through real programs and a real, unprivileged proxy. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { RingReader, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { type Cluster, type Place, sh, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { SHOT } from "./node.ts";
import { ipv4Number, SYN, TCP } from "./packet.ts";
import { type Proxy, PROXY_PORT, PROXY_UID } from "./proxy.ts";
import { BOTH_FAMILIES, DENIED, EGRESS, INGRESS, passes, PLAIN, PORT, withProxy } from "./redirect_bed.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { Speaker, Talker } from "./talkers.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const EXTERNAL = abi.FRONTEND_EXTERNAL, SERVICE = ["10.96.0.9", "fd00:96::9"];

for (const [what, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(
    `redirect: a proxy without rights takes egress, ingress and both, here, far away, by services and to the world, by ${what}`,
    () =>
      withProxy(mode | BOTH_FAMILIES, async (cluster, proxy) => {
        const [node, other] = cluster.nodes;
        for (const place of ["pod1", "pod2", "pod3", "outside"] as const) await cluster.serve(place, PORT);
        for (const [family, far] of [[0, "10.0.2.10"], [1, "fd00:2::10"]] as const) {
          const own = ["10.0.1.10", "fd00:1::10"][family], near = ["10.0.1.11", "fd00:1::11"][family];
          for (const [client, server] of [[EGRESS, 0], [0, INGRESS], [EGRESS, INGRESS]]) {
            node.changeEndpoint(1, { policy: client });
            node.changeEndpoint(2, { policy: server });
            await passes(cluster, proxy, { from: "pod1", to: near, peer: own, onward: near });
          }
          const { redirect, client, server } = proxy.handles().at(-1)!;
          assert.deepEqual([redirect, client, server], [3, { identity: 1001, endpoint: 1 }, {
            identity: 1003,
            endpoint: 2,
          }]);
          // the client here, the server far away: the far node hears from the client's identity
          other.setPolicy(1, {
            enforceIngress: true,
            rules: [{ direction: "ingress", identity: 1001, protocol: TCP, port: PORT }],
          });
          other.changeEndpoint(1, { policy: 1 });
          await passes(cluster, proxy, { from: "pod1", to: far, peer: own, onward: far });
          // a service's backends, here and there: the client hears from the service
          for (const [i, backend] of [near, far].entries()) {
            const id = 1 + 2 * family + i;
            setBackend(node, { id, address: backend, port: PORT });
            setSelection(node, id, [id]);
            setFrontend(node, {
              address: SERVICE[family],
              port: 80 + i,
              service: 10 + i,
              internal: id,
              external: id,
            });
            await passes(cluster, proxy, {
              from: "pod1",
              to: SERVICE[family],
              port: 80 + i,
              peer: own,
              onward: backend,
            });
          }
          const viaService = proxy.handles().at(-1)!;
          assert.deepEqual([viaService.frontendPortBe, viaService.service], [81, 11]);
          // to the world, as the node
          await passes(cluster, proxy, {
            from: "pod1",
            to: WORLD[family],
            peer: ["192.0.2.1", "2001:db8::1"][family],
            onward: WORLD[family],
            anyPort: true,
          });
          // the server here, the client far away, and outside by a NodePort
          node.changeEndpoint(1, { policy: INGRESS });
          await passes(cluster, proxy, { from: "pod2", to: own, peer: far, onward: own });
          const id = 10 + family;
          setBackend(node, { id, address: own, port: PORT });
          setSelection(node, id, [id]);
          const address = family ? "::" : "0.0.0.0";
          setFrontend(node, {
            address,
            port: 30080,
            service: 20,
            internal: id,
            external: id,
            flags: EXTERNAL,
          });
          await passes(cluster, proxy, {
            from: "outside",
            to: ["192.0.2.1", "2001:db8::1"][family],
            port: 30080,
            peer: ["192.0.2.100", "2001:db8::100"][family],
            onward: own,
          });
          assert.equal(proxy.handles().every(({ client }) => client.identity !== 0), true);
        }
        assert.equal(cluster.drops(), "");
      }),
  );
}

/** Of one user, the processes of the proxy's control group connect and send to handles, and to nothing else; and nobody else does. */
async function onlyTheProxy(cluster: Cluster, proxy: Proxy, handle: string): Promise<void> {
  const [node] = cluster.nodes;
  // Who is let through waits for no answer.
  const program = `import socket, sys
for kind, call, host, port in (line.split() for line in sys.argv[1:]):
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        protocol = 0 if call != "ping" else socket.IPPROTO_ICMPV6 if ":" in host else socket.IPPROTO_ICMP
        s = socket.socket(family, getattr(socket, "SOCK_" + kind), protocol)
        if call == "ping": print("ok"); continue
        s.setblocking(False)
        s.sendto(b"x", (host, int(port))) if call == "sendto" else s.connect((host, int(port)))
        print("ok")
    except OSError as error: print("ok" if error.errno == 115 else error.errno)`;
  const tries = async (isMember: boolean, ...lines: string[]) => {
    // The system's interpreter: one of root's own is out of that user's reach.
    const python = ["env", "PATH=/usr/bin:/bin", "python3", "-c", program];
    const { text } = await sh(...proxy.as(isMember, ...python, ...lines));
    return text.trim().split(/\s+/);
  };
  const toHandles = [`STREAM connect ${handle} ${PROXY_PORT}`, `STREAM connect fd57:4c37::1 ${PROXY_PORT}`];
  const elsewhere = ["10.0.1.11", "fd00:1::11", "127.0.0.1", "::1", "192.0.2.2", "::ffff:10.0.1.11"].flatMap((
    to,
  ) => [
    `STREAM connect ${to} ${PORT}`,
    `DGRAM connect ${to} 53`,
    ...(to.startsWith("::ffff") ? [] : [`DGRAM sendto ${to} 53`]),
  ]);
  // Pings by anybody, as many distributions have it.
  await cluster.in("node1", "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647");
  elsewhere.push("DGRAM ping 10.0.1.11 0", "DGRAM ping fd00:1::11 0");
  // Another service of the same user: no handle, but everything that it could before.
  let before = node.counted(abi.DROP_HANDLE_ADDRESS);
  assert.deepEqual(await tries(false, ...toHandles), toHandles.map(() => "13"));
  assert.equal(node.counted(abi.DROP_HANDLE_ADDRESS), before + toHandles.length);
  const [stream, , datagram] = elsewhere, pings = elsewhere.slice(-2);
  assert.deepEqual(await tries(false, stream, datagram, ...pings), ["ok", "ok", "ok", "ok"]);
  // The proxy's: a handle that nobody uses is refused as such, everything else altogether.
  before = node.counted(abi.DROP_HANDLE_ADDRESS);
  assert.deepEqual(await tries(true, `STREAM connect 240.200.0.1 ${PROXY_PORT}`), ["111"]);
  assert.deepEqual(await tries(true, ...elsewhere), elsewhere.map(() => "13"));
  assert.equal(node.counted(abi.DROP_HANDLE_ADDRESS), before + elsewhere.length);
}

kernelTest(
  "redirect: who may not, cannot, and hears so at once",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      await cluster.serve("pod3", PORT);
      node.changeEndpoint(1, { policy: EGRESS });
      const refused = async (to: string, port: number, from: Place = "pod1") => {
        const answer = await cluster.ask(from, "tcp", to, port);
        assert.match(answer.text, /^error 111 /, answer.text);
      };
      for (const to of ["10.0.1.11", "fd00:1::11"]) {
        await passes(cluster, proxy, { from: "pod1", to, peer: to.replace("11", "10"), onward: to });
      }
      // Handles are the proxy's: not for other users of the node, whichever way, nor for pods.
      const [handle] = proxy.handles(), number = handle.number;
      const addresses = [
        `240.${number >> 16}.${number >> 8 & 255}.${number & 255}`,
        `fd57:4c37::${number >> 16}:${(number & 0xffff).toString(16)}`,
      ];
      for (const [i, to] of addresses.entries()) {
        const root = await cluster.ask("node1", "tcp", to, PROXY_PORT);
        assert.match(root.text, /^error 13 /, root.text);
        assert.match((await cluster.ask("node1", "udp", to, 53)).text, /^error 13 /);
        node.changeEndpoint(1, { policy: 0 });
        const before = node.counted(abi.DROP_HANDLE_ADDRESS);
        assert.equal((await cluster.ask("pod1", "tcp", to, PROXY_PORT, { denied: true })).ok, false);
        assert.ok(
          node.counted(abi.DROP_HANDLE_ADDRESS) > before,
          "a pod's packet to a handle is dropped as that",
        );
        const fromOutside = node.counted(abi.DROP_HANDLE_ADDRESS);
        const via = ["192.0.2.1", "2001:db8::1"][i], prefix = ["240.0.0.0/8", "fd57:4c37::/64"][i];
        await cluster.ip("outside", "route", "add", prefix, "via", via);
        assert.equal((await cluster.ask("outside", "tcp", to, PROXY_PORT, { denied: true })).ok, false);
        assert.ok(node.counted(abi.DROP_HANDLE_ADDRESS) > fromOutside, "and one from outside");
        node.changeEndpoint(1, { policy: EGRESS });
        // The proxy's port on an address of the node is no handle either, whoever asks.
        const places: [Place, string][] = [
          ["pod1", via],
          ["pod1", ["10.0.1.1", "fd00:1::1"][i]],
          ["outside", via],
          ["node2", via],
          ["pod2", ["10.0.1.1", "fd00:1::1"][i]],
        ];
        node.changeEndpoint(1, { policy: 0 });
        for (const [place, address] of places) {
          for (const kind of ["tcp", "udp"] as const) {
            const before = node.counted(abi.DROP_HANDLE_ADDRESS);
            const answer = await cluster.ask(place, kind, address, PROXY_PORT, { denied: true });
            assert.equal(answer.ok, false, `${place} ${kind} ${address}: ${answer.text}`);
            assert.ok(node.counted(abi.DROP_HANDLE_ADDRESS) > before, `${place} ${kind} ${address}`);
          }
        }
        node.changeEndpoint(1, { policy: EGRESS });
      }
      await onlyTheProxy(cluster, proxy, addresses[0]);
      // Its flow's entry away, a handle is given back, and its number is not used again at once.
      node.gc(abi.GC_ALL);
      await new Promise((done) => setTimeout(done, 1100));
      node.gc(abi.GC_ALL);
      assert.deepEqual([proxy.handles().length, node.map("weir_upstreams").keys().length], [0, 0]);
      // Policy denies: bites with the next connection, and the proxy never hears of it.
      node.changeEndpoint(1, { policy: DENIED });
      assert.equal((await cluster.ask("pod1", "tcp", "10.0.1.11", PORT, { denied: true })).ok, false);
      // The proxy is away.
      node.changeEndpoint(1, { policy: EGRESS });
      await proxy.kill();
      for (const to of ["10.0.1.11", "fd00:1::11"]) {
        const before = node.counted(abi.DROP_PROXY_AWAY);
        await refused(to, PORT);
        assert.equal(node.counted(abi.DROP_PROXY_AWAY), before + 1);
      }
      // And back.
      await proxy.start();
      await passes(cluster, proxy, { from: "pod1", to: "10.0.1.11", peer: "10.0.1.10", onward: "10.0.1.11" });
      // No proxy is configured: refused, not let by.
      node.writeConfig({ proxyPort: 0 });
      await refused("10.0.1.11", PORT);
      node.writeConfig({ proxyPort: PROXY_PORT });
    }),
);

kernelTest(
  "redirect: a direct connection that becomes the proxy's is reset, one of the proxy's goes on and obeys a deny",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      for (const place of ["pod2", "pod3"] as const) await cluster.serve(place, PORT);
      for (const to of ["10.0.1.11", "fd00:1::11", "10.0.2.10"]) {
        node.changeEndpoint(1, { policy: PLAIN });
        const direct = await Talker.open(cluster, "pod1", to);
        assert.match(await direct.say(), /^10\.0\.1\.10 |^fd00:1::10 /);
        node.changeEndpoint(1, { policy: EGRESS });
        const before = node.counted(abi.DROP_DIRECT_CONNECTION);
        assert.match(await direct.say(), /^error 104 /);
        assert.ok(node.counted(abi.DROP_DIRECT_CONNECTION) > before);
        await direct.close();
        const judged = await Talker.open(cluster, "pod1", to);
        assert.match(await judged.say(), /^10\.0\.1\.10 |^fd00:1::10 /);
        node.changeEndpoint(1, { policy: PLAIN });
        assert.match(await judged.say(), /^10\.0\.1\.10 |^fd00:1::10 /, "goes on by the proxy");
        node.changeEndpoint(1, { policy: DENIED });
        const denied = node.counted(abi.DROP_POLICY);
        assert.match(await judged.say(2), /^error /);
        assert.ok(node.counted(abi.DROP_POLICY) > denied);
        await judged.close();
        await proxy.line();
      }
    }),
);

kernelTest(
  "redirect: a server that is heard first in mid-stream opens no connection beside the proxy",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      for (
        const [place, to] of [["pod3", "10.0.1.11"], ["pod3", "fd00:1::11"], ["pod2", "10.0.2.10"]] as const
      ) {
        for (const [client, server] of [[EGRESS, 0], [0, INGRESS]]) {
          if (place === "pod2" && server !== 0) continue;
          const policies = (egress: number, ingress: number) => {
            node.changeEndpoint(1, { policy: egress });
            node.changeEndpoint(2, { policy: ingress });
          };
          const reset = async (what: string) => {
            const before = node.counted(abi.DROP_DIRECT_CONNECTION);
            await speaker.say();
            await until(what, () => Promise.resolve(node.counted(abi.DROP_DIRECT_CONNECTION) > before));
            assert.match(await speaker.hears(), /^error 104 /, what);
          };
          await using speaker = await Speaker.open(cluster, place);
          // The entry is gone: expired, or ended by a RST that the sockets did not take.
          policies(client, server);
          await using judged = await Talker.open(cluster, "pod1", to);
          await judged.say(0.5);
          await proxy.line();
          node.gc(abi.GC_ALL);
          await reset(`${to}: of the proxy's`);
          // A direct one, which the proxy's rules find forgotten,
          policies(PLAIN, 0);
          await using forgotten = await Talker.open(cluster, "pod1", to);
          await forgotten.say(0.5);
          node.gc(abi.GC_ALL);
          policies(client, server);
          await reset(`${to}: a direct one`);
          // or known as the server's own.
          policies(PLAIN, 0);
          await using turned = await Talker.open(cluster, "pod1", to);
          await turned.say(0.5);
          node.gc(abi.GC_ALL);
          await speaker.say();
          await until("its entry", () => Promise.resolve(node.map("weir_ct").keys().length > 0));
          policies(client, server);
          await reset(`${to}: one that the server seems to have opened`);
        }
      }
    }),
);

kernelTest(
  "redirect: the table of handles is shared, and whoever finds none is refused at once",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      await cluster.serve("pod3", PORT);
      for (const id of [1, 2]) node.changeEndpoint(id, { policy: EGRESS });
      let ok = 0;
      for (let i = 0; i < 32; i++) {
        const answer = await cluster.ask("pod1", "tcp", "10.0.1.11", PORT);
        if (!answer.ok) {
          assert.match(answer.text, /^error 111 /, answer.text);
          break;
        }
        ok++;
        await proxy.line();
      }
      // 32 places, one of which has number 0 and two are the node's: two thirds of 30
      assert.equal(ok, 20);
      assert.ok(node.counted(abi.DROP_HANDLE_SHARE) > 0);
      await cluster.serve("pod1", PORT);
      assert.equal(
        (await cluster.ask("pod3", "tcp", "10.0.1.10", PORT)).ok,
        true,
        "another pod still has its share",
      );
      // Who has no share left has all of its flows without L7 rules, and a share again when connections have ended.
      node.changeEndpoint(1, { policy: PLAIN });
      assert.equal((await cluster.ask("pod1", "tcp", "10.0.1.11", PORT)).ok, true);
      node.changeEndpoint(1, { policy: EGRESS });
      const before = node.counted(abi.DROP_HANDLE_SHARE);
      assert.equal((await cluster.ask("pod1", "tcp", "10.0.1.11", PORT)).ok, false);
      assert.ok(node.counted(abi.DROP_HANDLE_SHARE) > before);
      node.gc(abi.GC_ALL);
      await new Promise((done) => setTimeout(done, 1100));
      node.gc(abi.GC_ALL);
      assert.equal((await cluster.ask("pod1", "tcp", "10.0.1.11", PORT)).ok, true);
    }, { weir_handles: 32 }),
);

kernelTest(
  "redirect: new handles are told as they are taken; what finds no room is counted, and redirected all the same",
  async () => {
    const { node, from } = await twoEndpoints({ weir_new_handles: 4096 });
    using _ = node;
    const [f] = FAMILIES;
    node.writeConfig({
      handleIpv4Be: ipv4Number("240.0.0.0"),
      handleMaskIpv4: 0xffffff,
      proxyUid: PROXY_UID,
      proxyPort: PROXY_PORT,
    });
    node.setPolicy(EGRESS, {
      enforceEgress: true,
      rules: [{ direction: "egress", protocol: TCP, port: PORT, redirect: true, cookie: 7 }],
    });
    node.changeEndpoint(A, { policy: EGRESS });
    using ring = new RingReader(node.map("weir_new_handles").fd);
    const told = () => {
      const records = ring.drain()?.records ?? new Uint8Array(0), view = new DataView(records.buffer);
      return Array.from({ length: records.length / 8 }, (_, at) => view.getUint32(at * 8 + 4, true));
    };
    told();
    const open = (sport: number) =>
      assert.notEqual(from(A, { from: f.a, to: f.world, sport, dport: PORT, flags: SYN }).verdict, SHOT);
    const taken = () =>
      node.map("weir_handles").entries().map(([, value]) => abi.Handle.decode(value)).filter(({ taken }) =>
        taken !== 0
      );
    const woken = ring.wait(60_000);
    for (let at = 0; at < 3; at++) open(1024 + at);
    await woken;
    const numbers = told();
    assert.deepEqual(numbers.toSorted(), taken().map(({ number }) => number).toSorted());
    assert.equal(numbers.length, 3);
    // 4096 bytes have room for 256 records of 16.
    for (let at = 0; at < 300; at++) open(2000 + at);
    const untold = node.map("weir_handles_untold").lookupPerCpu(u32(0))!
      .reduce((sum, value) => sum + new DataView(value.buffer, value.byteOffset).getBigUint64(0, true), 0n);
    const seen = told().length;
    assert.ok(seen >= 250 && seen <= 256, `${seen} of 256`);
    assert.equal(seen + Number(untold), 300);
    assert.equal(taken().length, 303);
    open(5000);
    assert.equal(told().length, 1);
  },
);

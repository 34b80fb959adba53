/** Who may use a frontend from outside and what happens when nobody serves it, packet by packet at from_netdev. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { PASS, REDIRECT, type Run, SHOT } from "./node.ts";
import { ACK, address, type Bytes, FIN, ipPacket, packet, type PacketSpec, SYN, UDP } from "./packet.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const VIP: Record<string, string> = { IPv4: "203.0.113.10", IPv6: "2001:db8:10::10" };

/** The VIP's port 80 and NodePort 30080 lead to endpoint A at 8080, and 81 to the other node's pod; service 7. */
async function serving(f: Family) {
  const made = await twoEndpoints();
  const { node } = made;
  node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_NO_BACKEND_DROP });
  setBackend(node, { id: 1, address: f.a, port: 8080 });
  setBackend(node, { id: 2, address: f.remote, port: 8080 });
  setSelection(node, 1, [1]);
  setSelection(node, 2, [2]);
  const flags = abi.FRONTEND_EXTERNAL, service = 7;
  const vip = VIP[f.name], any = f.name === "IPv4" ? "0.0.0.0" : "::";
  setFrontend(node, { address: vip, port: 80, service, internal: 1, external: 1, flags });
  setFrontend(node, { address: vip, port: 81, service, internal: 2, external: 2, flags });
  setFrontend(node, { address: any, port: 30080, service, internal: 1, external: 1, flags });
  setFrontend(node, { address: vip, port: 0, protocol: 0, flags: abi.FRONTEND_CLOSED });
  const ask = (spec: Partial<PacketSpec> = {}) =>
    node.run("from_netdev", packet({ from: f.world, to: vip, sport: 50000, dport: 80, ...spec }));
  return { ...made, vip, any, ask, flags, service };
}
function dropped(run: Run, reason: number, why: string): void {
  assert.deepEqual([run.verdict, run.events.at(-1)?.subtype], [SHOT, reason], why);
}
/** The IP packet of a run, its hop set back to what was sent. */
function ip(run: Run, f: Family, ttl = 64): Bytes {
  const data = run.data.slice(14);
  const at = f.name === "IPv4" ? 8 : 7;
  if (f.name === "IPv4") {
    // the header's checksum with it
    const sum = (data[10] << 8 | data[11]) - (ttl - data[at]) * 256;
    const fixed = sum < 0 ? sum + 0xffff : sum;
    data[10] = fixed >> 8;
    data[11] = fixed & 255;
  }
  data[at] = ttl;
  return data;
}

for (const f of FAMILIES) {
  kernelTest(
    `from_netdev() turns ${f.name} for a frontend to its backend here, and its answers back`,
    async () => {
      const { node, ask, from, vip, service } = await serving(f);
      using _ = node;
      for (const [to, dport] of [[vip, 80], [f.host, 30080]] as const) {
        const sport = dport + 1000;
        const got = ask({ to, dport, sport, payload: [1, 2, 3] });
        assert.equal(got.verdict, REDIRECT, `${got.events.map((e) => e.subtype)}`);
        assert.deepEqual(
          ip(got, f),
          ipPacket({ from: f.world, to: f.a, sport, dport: 8080, payload: [1, 2, 3] }),
        );
        assert.equal(got.events[0].service, service);
        const answer = { from: f.a, to: f.world, sport: 8080, dport: sport, flags: SYN | ACK };
        const left = from(1, answer);
        assert.equal(left.verdict, PASS);
        const sent = node.run("to_netdev", left.data);
        assert.equal(sent.verdict, PASS);
        assert.deepEqual(sent.data.slice(14), ipPacket({ ...answer, from: to, sport: dport }));
        // what the client hears about those answers reaches the endpoint, with what it quotes
        const error = {
          from: "",
          to,
          protocol: f.icmp,
          type: f.icmp === 1 ? 3 : 1,
          code: f.icmp === 1 ? 3 : 4,
          id: 0,
        };
        const router = f.icmp === 1 ? "192.0.2.254" : "2001:db8::fe";
        const about = (source: string, port: number) => ({
          ...error,
          from: router,
          to: source,
          payload: ipPacket({ ...answer, from: source, sport: port }),
        });
        const heard = node.run("from_netdev", icmp(about(to, dport), f));
        assert.equal(heard.verdict, REDIRECT, `${heard.events.map((e) => e.subtype)}`);
        assert.deepEqual(ip(heard, f), icmp(about(f.a, 8080), f).slice(14));
      }
      const counters = serviceCounters(node, service);
      assert.equal(counters.connections, 2n);
      assert.equal(counters.packets, 6n);
      assert.equal(natEntries(node).length, 0);
    },
  );

  kernelTest(
    `from_netdev() lets in who is in the source ranges of a frontend of ${f.name}, or not in them`,
    async () => {
      const { node, ask, vip, service } = await serving(f);
      using _ = node;
      const inside = f.name === "IPv4" ? "198.51.100.7" : "2001:db8:9::7";
      const range = (prefix: string, length: number) =>
        node.map("weir_source_ranges").update(
          abi.SourceRange.encode({ prefixlen: 32 + length, service, address: address(prefix) }),
          u32(1),
        );
      const flags = abi.FRONTEND_EXTERNAL | abi.FRONTEND_SOURCE_RANGES;
      setFrontend(node, { address: vip, port: 80, service, internal: 1, external: 1, flags });
      dropped(ask(), abi.DROP_NOT_IN_SRC_RANGE, "nobody is in no range");
      range(f.name === "IPv4" ? "198.51.100.0" : "2001:db8:9::", f.name === "IPv4" ? 96 + 24 : 48);
      assert.equal(inside, f.world);
      assert.equal(ask().verdict, REDIRECT);
      dropped(
        ask({ from: f.name === "IPv4" ? "203.0.113.99" : "2001:db8:77::1" }),
        abi.DROP_NOT_IN_SRC_RANGE,
        "outside",
      );
      setFrontend(node, {
        address: vip,
        port: 80,
        service,
        internal: 1,
        external: 1,
        flags: flags | abi.FRONTEND_SOURCE_DENY,
      });
      dropped(ask(), abi.DROP_NOT_IN_SRC_RANGE, "denied by the range");
      assert.equal(ask({ from: f.name === "IPv4" ? "203.0.113.99" : "2001:db8:77::1" }).verdict, REDIRECT);
      assert.equal(node.counted(abi.DROP_NOT_IN_SRC_RANGE), 3);
      assert.equal(serviceCounters(node, service).refused, 3n);
    },
  );

  kernelTest(`from_netdev() refuses ${f.name} that nobody serves, each with its reason`, async () => {
    const { node, ask, vip, service } = await serving(f);
    using _ = node;
    dropped(ask({ dport: 82 }), abi.DROP_NO_SERVICE, "a closed port");
    setFrontend(node, {
      address: vip,
      port: 80,
      service,
      internal: 1,
      external: 0,
      flags: abi.FRONTEND_EXTERNAL,
    });
    dropped(ask(), abi.DROP_NO_SERVICE, "no backend here (externalTrafficPolicy: Local)");
    setFrontend(node, { address: vip, port: 80, service, internal: 1, external: 1 });
    dropped(ask(), abi.DROP_IS_CLUSTER_IP, "not for the outside");
    // a port of the node itself that is no frontend's is the host's
    assert.equal(ask({ to: f.host, dport: 22 }).verdict, PASS);
    assert.equal(ask({ to: f.host, dport: 40000, protocol: UDP }).verdict, PASS);
    // and so is what is on its way through
    assert.equal(ask({ to: f.name === "IPv4" ? "203.0.113.200" : "2001:db8:77::2" }).verdict, PASS);
    assert.equal(serviceCounters(node, service).refused, 1n);
  });

  kernelTest(
    `from_netdev() keeps ${f.name}'s backend while it may serve, and chooses anew when it may not`,
    async () => {
      const { node, ask } = await serving(f);
      using _ = node;
      const to = (run: Run) => run.verdict === REDIRECT ? Number(ports(run, f)) : -1;
      setBackend(node, { id: 3, address: f.b, port: 9090 });
      assert.equal(to(ask()), 8080);
      setSelection(node, 1, [3]);
      assert.equal(to(ask({ flags: ACK })), 8080, "the selection is for new flows");
      setBackend(node, { id: 1, address: f.a, port: 8080, state: abi.BACKEND_TERMINATING });
      assert.equal(to(ask({ flags: ACK })), 8080, "terminating: what it has");
      assert.equal(to(ask({ sport: 50001 })), 9090);
      setBackend(node, { id: 1, address: "0.0.0.0", port: 0, state: abi.BACKEND_GONE });
      assert.equal(to(ask({ flags: FIN | ACK })), 8080, "gone: TCP may still end");
      assert.equal(to(ask({ flags: SYN })), 9090, "gone: a new connection");
      // far away: the pair moves with it
      setBackend(node, { id: 4, address: f.remote, port: 8081 });
      const far = { dport: 81, sport: 50010 };
      assert.equal(ask(far).mark, abi.MARK_OVERLAY);
      setSelection(node, 2, [4]);
      setBackend(node, { id: 2, address: f.remote, port: 8080, state: abi.BACKEND_QUARANTINED });
      assert.equal(Number(ports(ask({ ...far, flags: ACK }), f)), 8080);
      assert.equal(Number(ports(ask(far), f)), 8081, "a bare SYN finds another");
      assert.equal(natEntries(node).length, 2);
    },
  );

  kernelTest(
    `from_netdev() takes a known client of ${f.name} along when a port passes to another service`,
    async () => {
      const { node, ask, vip, flags } = await serving(f);
      using _ = node;
      const to = (spec: Partial<PacketSpec>) => Number(ports(ask(spec), f));
      const protocol = UDP, other = 8;
      for (const [id, address] of [[3, f.a], [4, f.remote], [5, f.b], [6, f.remote]] as const) {
        setBackend(node, { id, address, port: 9000 + id, protocol });
        setSelection(node, id, [id]);
      }
      const here = { address: vip, port: 90, protocol, flags }, far = { ...here, port: 91 };
      setFrontend(node, { ...here, service: 7, external: 3 });
      setFrontend(node, { ...far, service: 7, external: 4 });
      assert.deepEqual([to({ protocol, dport: 90 }), to({ protocol, dport: 91 })], [9003, 9004]);
      // Another choice of the same service is for new clients.
      setFrontend(node, { ...here, service: 7, external: 5 });
      setFrontend(node, { ...far, service: 7, external: 6 });
      assert.deepEqual([to({ protocol, dport: 90 }), to({ protocol, dport: 91 })], [9003, 9004]);
      setFrontend(node, { ...here, service: other, external: 5 });
      setFrontend(node, { ...far, service: other, external: 6 });
      for (let n = 0; n < 2; n++) {
        assert.deepEqual([to({ protocol, dport: 90 }), to({ protocol, dport: 91 })], [9005, 9006]);
      }
      assert.equal(serviceCounters(node, other).connections, 2n);
    },
  );

  kernelTest(
    `from_netdev() sends ${f.name} for a backend far away with a source of its own, or the client's with DSR`,
    async () => {
      const { node, ask, vip, service } = await serving(f);
      using _ = node;
      const snat = ask({ dport: 81, sport: 50000, payload: [1, 2, 3] });
      assert.deepEqual([snat.verdict, snat.mark], [REDIRECT, abi.MARK_OVERLAY]);
      assert.deepEqual(
        ip(snat, f),
        ipPacket({ from: f.host, to: f.remote, sport: 50000, dport: 8080, payload: [1, 2, 3] }),
      );
      const other = ask({
        from: f.name === "IPv4" ? "198.51.100.8" : "2001:db8:9::8",
        dport: 81,
        sport: 50000,
      });
      assert.notEqual(
        other.data[f.name === "IPv4" ? 34 : 54] << 8 | other.data[f.name === "IPv4" ? 35 : 55],
        50000,
      );
      setFrontend(node, {
        address: vip,
        port: 81,
        service,
        internal: 2,
        external: 2,
        flags: abi.FRONTEND_EXTERNAL | abi.FRONTEND_DSR,
      });
      const dsr = ask({ dport: 81, sport: 50001 });
      const where = [...address(vip).subarray(f.name === "IPv4" ? 12 : 0)];
      const wanted = ipPacket({
        from: f.world,
        to: f.remote,
        sport: 50001,
        dport: 8080,
        ...(f.name === "IPv4"
          ? { options: [0x9a, 8, 0, 81, ...where] }
          : { nextHeader: 60, options: [6, 2, 0x1b, 20, ...where, 0, 81, 0, 0] }),
      });
      assert.deepEqual(ip(dsr, f), wanted);
      // only what opens a connection says it
      const later = ask({ dport: 81, sport: 50001, flags: ACK });
      assert.deepEqual(
        ip(later, f),
        ipPacket({ from: f.world, to: f.remote, sport: 50001, dport: 8080, flags: ACK }),
      );
      assert.equal(natEntries(node).filter(({ entry }) => entry.flags & abi.NAT_DSR).length, 1);
    },
  );
}

/** Destination port of a packet. */
function ports(run: Run, f: Family): string {
  const at = f.name === "IPv4" ? 36 : 56;
  return `${run.data[at] << 8 | run.data[at + 1]}`;
}
/** An ICMP error, whose second word is unused. */
function icmp(spec: PacketSpec, f: Family): Bytes {
  const frame = packet(spec);
  const at = f.name === "IPv4" ? 34 : 54;
  // packet() makes an echo: sequence 1
  const sum = (frame[at + 2] << 8 | frame[at + 3]) + 1;
  frame[at + 7] = 0;
  frame[at + 2] = (sum > 0xffff ? sum - 0xffff : sum) >> 8;
  frame[at + 3] = (sum > 0xffff ? sum - 0xffff : sum) & 255;
  return frame;
}

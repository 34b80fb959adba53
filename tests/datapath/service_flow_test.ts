/** Endpoints and services, packet by packet: to the backend, back from the frontend, and what becomes of both. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, type Run, SHOT } from "./node.ts";
import {
  ACK,
  type Bytes,
  checksum,
  ICMP,
  ipPacket,
  packet,
  type PacketSpec,
  SYN,
  TCP,
  UDP,
} from "./packet.ts";
import { deleteFrontend, serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const VIP: Record<string, string> = { IPv4: "10.96.0.10", IPv6: "fd00:10:96::10" };
const LOOPBACK: Record<string, string> = { IPv4: "169.254.42.1", IPv6: "fd00:5745:4952::1" };
const SERVICE = 7;
const B_TCP = 1, B_UDP = 2, REMOTE_TCP = 3, A_TCP = 4, REMOTE_UDP = 5;

/** The VIP: port 80 leads to B at 8080, 53/UDP to B at 8053, 81 to the pod of the other node, 82 to A itself, 83 to nobody. */
async function served(f: Family, entriesMax: Record<string, number> = {}) {
  const made = await twoEndpoints(entriesMax);
  const { node } = made;
  const vip = VIP[f.name];
  setBackend(node, { id: B_TCP, address: f.b, port: 8080, service: SERVICE });
  setBackend(node, { id: B_UDP, address: f.b, port: 8053, protocol: UDP, service: SERVICE });
  setBackend(node, { id: REMOTE_TCP, address: f.remote, port: 8080, service: SERVICE });
  setBackend(node, { id: A_TCP, address: f.a, port: 8080, service: SERVICE });
  setBackend(node, { id: REMOTE_UDP, address: f.remote, port: 8053, protocol: UDP, service: SERVICE });
  setSelection(node, 1, [B_TCP]);
  setSelection(node, 2, [B_UDP]);
  setSelection(node, 3, [REMOTE_TCP]);
  setSelection(node, 4, [A_TCP]);
  const service = SERVICE;
  setFrontend(node, { address: vip, port: 80, service, internal: 1 });
  setFrontend(node, { address: vip, port: 53, protocol: UDP, service, internal: 2 });
  setFrontend(node, { address: vip, port: 81, service, internal: 3 });
  setFrontend(node, { address: vip, port: 82, service, internal: 4 });
  setFrontend(node, { address: vip, port: 83, service });
  setFrontend(node, { address: vip, port: 0, protocol: 0, service, flags: abi.FRONTEND_CLOSED });
  const ask = (spec: Partial<PacketSpec> = {}) =>
    made.from(A, { from: f.a, to: vip, sport: 40000, dport: 80, ...spec });
  return { ...made, vip, ask };
}

/** The IP packet of a run, its hop set back to what was sent. */
function ip(run: Run, f: Family): Bytes {
  const data = run.data.slice(14);
  const at = f.name === "IPv4" ? 8 : 7;
  if (data[at] === 64) return data;
  if (f.name === "IPv4") {
    const sum = (data[10] << 8 | data[11]) - (64 - data[at]) * 256;
    const fixed = sum < 0 ? sum + 0xffff : sum;
    data[10] = fixed >> 8;
    data[11] = fixed & 255;
  }
  data[at] = 64;
  return data;
}
const reasons = (run: Run) => run.events.map((event) => event.subtype);

for (const f of FAMILIES) {
  for (
    const [name, protocol, port, backendPort] of [["TCP", TCP, 80, 8080], ["UDP", UDP, 53, 8053]] as const
  ) {
    kernelTest(
      `${f.name}: ${name} to a service goes to its backend, and answers come from the service`,
      async () => {
        const { node, ask, from, vip } = await served(f);
        using _ = node;
        const there = { from: f.a, to: f.b, protocol, sport: 40000, dport: backendPort, payload: [1, 2, 3] };
        const got = ask({ protocol, dport: port, payload: [1, 2, 3] });
        assert.equal(got.verdict, REDIRECT, `${reasons(got)}`);
        assert.deepEqual(ip(got, f), ipPacket(there));
        assert.equal(got.events[0].service, SERVICE);
        const answer = {
          from: f.b,
          to: f.a,
          protocol,
          sport: backendPort,
          dport: 40000,
          flags: SYN | ACK,
          payload: [4],
        };
        const back = from(B, answer);
        assert.equal(back.verdict, REDIRECT, `${reasons(back)}`);
        assert.deepEqual(ip(back, f), ipPacket({ ...answer, from: vip, sport: port }));
        // established: the same way again, without an event
        const more = ask({ protocol, dport: port, flags: ACK, payload: [5] });
        assert.equal(more.verdict, REDIRECT);
        assert.deepEqual(ip(more, f), ipPacket({ ...there, flags: ACK, payload: [5] }));
        const counters = serviceCounters(node, SERVICE);
        assert.deepEqual([counters.connections, counters.packets, counters.refused], [1n, 3n, 0n]);
      },
    );
  }

  kernelTest(
    `${f.name}: a backend on another node is reached like any pod there, and its answers are the service's`,
    async () => {
      const { node, ask, vip } = await served(f);
      using _ = node;
      const got = ask({ dport: 81 });
      assert.equal(got.verdict, REDIRECT, `${reasons(got)}`);
      assert.deepEqual(ip(got, f), ipPacket({ from: f.a, to: f.remote, sport: 40000, dport: 8080 }));
      node.writeConfig({ flags: abi.CONFIG_DIRECT });
      const answer = { from: f.remote, to: f.a, sport: 8080, dport: 40000, flags: SYN | ACK };
      const back = node.run("from_netdev", packet(answer));
      assert.equal(back.verdict, REDIRECT, `${reasons(back)}`);
      assert.deepEqual(ip(back, f), ipPacket({ ...answer, from: vip, sport: 81 }));
    },
  );

  kernelTest(`${f.name}: policy is asked about the backend, with its port`, async () => {
    const { node, ask } = await served(f);
    using _ = node;
    node.setPolicy(1, {
      enforceIngress: true,
      rules: [{ direction: "ingress", identity: 1000, protocol: TCP, port: 8080 }],
    });
    node.changeEndpoint(B, { policy: 1 });
    assert.equal(ask().verdict, REDIRECT);
    const other = ask({ protocol: UDP, dport: 53 });
    assert.deepEqual([other.verdict, other.events.at(-1)?.subtype], [SHOT, abi.DROP_POLICY]);
    assert.equal(other.events.at(-1)?.service, SERVICE);
    assert.equal(other.events.at(-1)?.destinationIdentity, 1001);
    assert.equal(node.flows().length, 2, "a denied flow leaves nothing behind");
  });

  kernelTest(
    `${f.name}: an endpoint reaches itself through its service, whatever its policy says`,
    async () => {
      const { node, ask, from, vip } = await served(f);
      using _ = node;
      node.setPolicy(1, { enforceIngress: true, enforceEgress: true, rules: [] });
      node.changeEndpoint(A, { policy: 1 });
      const got = ask({ dport: 82 });
      assert.equal(got.verdict, REDIRECT, `${reasons(got)}`);
      const self = LOOPBACK[f.name];
      assert.deepEqual(ip(got, f), ipPacket({ from: self, to: f.a, sport: 40000, dport: 8080 }));
      const answer = { from: f.a, to: self, sport: 8080, dport: 40000, flags: SYN | ACK };
      const expected = ipPacket({ ...answer, from: vip, to: f.a, sport: 82 });
      const back = from(A, answer);
      assert.equal(back.verdict, REDIRECT, `${reasons(back)}`);
      assert.deepEqual(ip(back, f), expected);
      // also when the flow has to be judged anew
      node.bumpIpcache();
      assert.deepEqual(ip(from(A, answer), f), expected);
      assert.equal(ask({ dport: 82, flags: ACK }).verdict, REDIRECT);
      const straight = ask({ to: f.b, dport: 80, sport: 41000 });
      assert.equal(straight.verdict, SHOT, "its policy goes for everybody else");
    },
  );

  kernelTest(
    `${f.name}: a service without backends and a closed port refuse at once, or are silent if told so`,
    async () => {
      const { node, devices, ask, vip } = await served(f);
      using _ = node;
      for (const dport of [83, 9999]) {
        const sent = { from: f.a, to: vip, sport: 40000, dport, payload: [1, 2, 3, 4] };
        const got = ask(sent);
        assert.equal(got.verdict, REDIRECT);
        assert.equal(got.events.at(-1)?.subtype, abi.DROP_NO_SERVICE);
        assert.equal(got.mark, abi.MARK_DELIVERED);
        const quoted = ipPacket(sent).slice(0, f.name === "IPv4" ? 28 : 48);
        const answer = ip(got, f);
        const at = f.name === "IPv4" ? 20 : 40;
        assert.deepEqual(answer.slice(at + 8), quoted);
        assert.deepEqual([...answer.slice(at, at + 2)], f.name === "IPv4" ? [3, 3] : [1, 4]);
        const pseudo = f.name === "IPv4"
          ? []
          : [...answer.slice(8, 40), 0, 0, 0, answer.length - 40, 0, 0, 0, 58];
        assert.equal(checksum(pseudo, answer.slice(at)), 0);
        // it is the endpoint's to hear: another of its packets' fate does not hang on it
        assert.equal(node.run("to_endpoint", got.data, devices[0], got.mark).verdict, PASS);
      }
      node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_NO_BACKEND_DROP });
      assert.equal(ask({ dport: 83 }).verdict, SHOT);
      assert.equal(serviceCounters(node, SERVICE).refused, 3n);
    },
  );

  kernelTest(`${f.name}: what a backend's state means for what it has and for what is new`, async () => {
    const { node, ask } = await served(f);
    using _ = node;
    const to = (run: Run) =>
      run.verdict !== REDIRECT ? "nobody" : destination(run, f) === f.b ? "b" : "remote";
    const udp = (sport: number) => to(ask({ protocol: UDP, dport: 53, sport }));
    const tcp = (sport: number, flags: number) => to(ask({ sport, flags }));
    assert.deepEqual([tcp(1, SYN), udp(1)], ["b", "b"]);
    const moved = (state: number) => {
      setSelection(node, 1, [REMOTE_TCP]);
      setSelection(node, 2, [REMOTE_UDP]);
      setBackend(node, { id: B_TCP, address: f.b, port: 8080, state });
      setBackend(node, { id: B_UDP, address: f.b, port: 8053, protocol: UDP, state });
    };
    for (const state of [abi.BACKEND_TERMINATING, abi.BACKEND_QUARANTINED, abi.BACKEND_MAINTENANCE]) {
      moved(state);
      assert.deepEqual([tcp(1, ACK), udp(1)], ["b", "b"], "what it has stays");
      assert.deepEqual(
        [tcp(100 + state, SYN), udp(100 + state)],
        ["remote", "remote"],
        "what is new goes elsewhere",
      );
    }
    moved(abi.BACKEND_GONE);
    assert.deepEqual([tcp(1, ACK), udp(1)], ["b", "remote"], "TCP cannot go on elsewhere, UDP can");
    assert.equal(tcp(1, SYN), "remote", "a new connection from the same port can");
    assert.equal(tcp(1, ACK), "remote");
  });

  kernelTest(`${f.name}: a port that passes to another service takes its clients along`, async () => {
    const { node, ask, vip } = await served(f);
    using _ = node;
    const to = (run: Run) =>
      run.verdict !== REDIRECT ? "nobody" : destination(run, f) === f.b ? "b" : "remote";
    const udp = () => to(ask({ protocol: UDP, dport: 53 }));
    const tcp = (flags: number) => to(ask({ flags }));
    assert.deepEqual([udp(), tcp(SYN)], ["b", "b"]);
    // The old service is still there, and so are its backends.
    setBackend(node, { id: 8, address: f.remote, port: 8053, protocol: UDP, service: 8 });
    setBackend(node, { id: 9, address: f.remote, port: 8080, service: 8 });
    setSelection(node, 8, [8]);
    setSelection(node, 9, [9]);
    const udpPort = { address: vip, port: 53, protocol: UDP, service: 8 };
    setFrontend(node, { ...udpPort, internal: 8 });
    setFrontend(node, { address: vip, port: 80, service: 8, internal: 9 });
    assert.equal(udp(), "remote");
    assert.equal(ask({ protocol: UDP, dport: 53 }).events.length, 0, "and stays there");
    assert.equal(tcp(ACK), "b", "an open connection ends where it began");
    assert.equal(tcp(SYN), "remote");
    deleteFrontend(node, udpPort);
    assert.equal(ask({ protocol: UDP, dport: 53 }).events.at(-1)?.subtype, abi.DROP_NO_SERVICE);
  });

  kernelTest(`${f.name}: session affinity lasts while it is used within its timeout`, async () => {
    const { node, ask, vip } = await served(f);
    using _ = node;
    setSelection(node, 1, [B_TCP, REMOTE_TCP]);
    const frontend = { address: vip, port: 80, service: SERVICE, internal: 1, flags: abi.FRONTEND_AFFINITY };
    setFrontend(node, { ...frontend, affinityTimeout: 1000 });
    const first = destination(ask({ sport: 1 }), f);
    for (let sport = 2; sport < 40; sport++) assert.equal(destination(ask({ sport }), f), first);
    setFrontend(node, { ...frontend, affinityTimeout: 0 });
    const seen = new Set<string>();
    for (let sport = 100; sport < 160; sport++) seen.add(destination(ask({ sport }), f));
    assert.equal(seen.size, 2);
  });

  for (const [what, header] of [["", 0], [", of a Maglev table too", abi.SELECTION_MAGLEV]] as const) {
    kernelTest(`${f.name}: an affinity whose time is over leads anywhere${what}`, async () => {
      const { node, ask, vip } = await served(f);
      using _ = node;
      setSelection(node, 1, [B_TCP, REMOTE_TCP], header);
      const flags = abi.FRONTEND_AFFINITY | abi.FRONTEND_EXTERNAL;
      const frontend = { address: vip, port: 80, service: SERVICE, internal: 1, external: 1, flags };
      const inside = (sport: number) => destination(ask({ sport }), f);
      const outside = (sport: number) =>
        destination(node.run("from_netdev", packet({ from: f.world, to: vip, sport, dport: 80 })), f);
      for (const choose of [inside, outside]) {
        setFrontend(node, { ...frontend, affinityTimeout: 1000 });
        const first = choose(1);
        for (let sport = 2; sport < 30; sport++) assert.equal(choose(sport), first, "within its time");
        setFrontend(node, { ...frontend, affinityTimeout: 0 });
        const seen = new Set<string>();
        for (let sport = 100; sport < 160; sport++) seen.add(choose(sport));
        assert.equal(seen.size, 2);
      }
    });
  }

  kernelTest(
    `${f.name}: an ICMP error about a flow through a service names the service to the client`,
    async () => {
      const { node, ask, from, vip } = await served(f);
      using _ = node;
      ask({ flags: SYN, payload: [1, 2] });
      const sent = ipPacket({ from: f.a, to: f.b, sport: 40000, dport: 8080, flags: SYN, payload: [1, 2] });
      const asked = ipPacket({ from: f.a, to: vip, sport: 40000, dport: 80, flags: SYN, payload: [1, 2] });
      const type = f.icmp === ICMP ? 3 : 1, code = f.icmp === ICMP ? 3 : 4;
      const error = (source: string, quoted: Bytes) => ({
        from: source,
        to: f.a,
        protocol: f.icmp,
        type,
        code,
        id: 0,
        payload: quoted,
      });
      const heard = from(B, error(f.b, sent));
      assert.equal(heard.verdict, REDIRECT, `${reasons(heard)}`);
      // the sequence field behind the id is 1 in packet(): zero for an error, on both sides
      assert.deepEqual(ip(heard, f), ipPacket(error(vip, asked)));
    },
  );

  kernelTest(`${f.name}: the choice is forgotten with its flow, not before`, async () => {
    const { node, ask } = await served(f);
    using _ = node;
    ask();
    ask({ dport: 82 });
    const choices = () => node.flows().filter(({ entry }) => entry.flags & abi.CT_SERVICE).length;
    await new Promise((done) => setTimeout(done, 1100));
    node.gc(abi.GC_EXPIRED);
    assert.deepEqual([node.flows().length, choices()], [4, 2]);
    const own = node.flows().filter(({ entry }) => !(entry.flags & abi.CT_SERVICE));
    for (const { key } of own) node.map("weir_ct").delete(abi.CtKey.encode(key));
    node.gc(abi.GC_EXPIRED);
    assert.equal(node.flows().length, 0);
  });

  kernelTest(`${f.name}: a full table drops new flows to a service, and counts them`, async () => {
    const { node, ask } = await served(f, { weir_ct: 64 });
    using _ = node;
    node.setShares(false);
    let dropped = 0;
    for (let sport = 1; sport <= 200; sport++) {
      const run = ask({ sport });
      if (run.verdict !== SHOT) continue;
      dropped++;
      assert.equal(run.events.at(-1)?.subtype, abi.DROP_CT_CREATE_FAILED);
    }
    assert.ok(dropped > 0);
    assert.equal(node.counted(abi.DROP_CT_CREATE_FAILED), dropped);
  });
}

/** Destination address of a run's packet. */
function destination(run: Run, f: Family): string {
  const data = run.data.slice(14);
  for (const known of [f.a, f.b, f.remote]) {
    const spec = ipPacket({ from: f.a, to: known });
    const [start, end] = f.name === "IPv4" ? [16, 20] : [24, 40];
    if (spec.slice(start, end).every((byte, i) => byte === data[start + i])) return known;
  }
  return "unknown";
}

/** Services at the node's sockets: what real processes see when they connect, send, receive and ask for their peer. */
import assert from "node:assert/strict";
import { attachCgroup, AttachType, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { Netns, netnsCookie, openSockDiag } from "@weir/net";
import { readPacket } from "../../services/flow-exporter/packet.ts";
import { SocketReaper } from "../../datapath/service/hooks/socket_reaper.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { address, TCP, UDP } from "./packet.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { cgroupRootHere } from "../cgroup_root.ts";
import { BACKENDS, type SocketClient, SocketNode } from "./socket_node.ts";

const ECONNREFUSED = 111, EHOSTUNREACH = 113, ENETUNREACH = 101, ECONNABORTED = 103, EDESTADDRREQ = 89;
const V4 = "10.96.0.10", V6 = "fd00:96::10", MAPPED = "::ffff:10.96.0.10";
const WEB = 7, EMPTY = 8, STICKY = 9;

/** Backends 1, 2 (v4) and 3, 4 (v6) on TCP, 11 to 14 the same on UDP; selections 1 to 4 by family and protocol. */
function fill({ node }: SocketNode): void {
  for (const [offset, protocol] of [[0, TCP], [10, UDP]]) {
    BACKENDS.forEach((address, i) => setBackend(node, { id: i + 1 + offset, address, port: 8080, protocol }));
    setSelection(node, 1 + offset, [1 + offset, 2 + offset]);
    setSelection(node, 2 + offset, [3 + offset, 4 + offset]);
    setFrontend(node, { address: V4, port: 80, protocol, service: WEB, internal: 1 + offset });
    setFrontend(node, { address: V6, port: 80, protocol, service: WEB, internal: 2 + offset });
    for (const [address, internal] of [["0.0.0.0", 1 + offset], ["::", 2 + offset]] as const) {
      setFrontend(node, {
        address,
        port: 30080,
        protocol,
        service: WEB,
        internal,
        flags: abi.FRONTEND_EXTERNAL,
      });
    }
    setFrontend(node, { address: "10.96.0.11", port: 80, protocol, service: EMPTY });
    setFrontend(node, { address: "fd00:96::11", port: 80, protocol, service: EMPTY });
  }
  setFrontend(node, { address: V4, port: 0, protocol: 0, flags: abi.FRONTEND_CLOSED });
  BACKENDS.slice(0, 2).forEach((address, i) =>
    setBackend(node, { id: 21 + i, address, port: 8080, service: STICKY })
  );
  setSelection(node, 21, [21, 22]);
  setFrontend(node, {
    address: "10.96.0.12",
    port: 80,
    service: STICKY,
    internal: 21,
    flags: abi.FRONTEND_AFFINITY,
    affinityTimeout: 60,
  });
}

function socketTest(name: string, run: (node: SocketNode, client: SocketClient) => Promise<void>): void {
  kernelTest(name, async () => {
    const root = cgroupRootHere();
    if (!root) {
      console.log("SKIP no cgroup2 mounted");
      return;
    }
    const node = await SocketNode.open(root);
    try {
      fill(node);
      await run(node, node.client());
    } finally {
      await node.close();
    }
  });
}

socketTest(
  "socket_connect() spreads connections over backends, and getpeername shows the frontend",
  async ({ node }, client) => {
    for (
      const [to, six, backends] of [
        [[V4, 80], false, BACKENDS.slice(0, 2)],
        [[V6, 80], true, BACKENDS.slice(2)],
        [[MAPPED, 80], true, BACKENDS.slice(0, 2)],
      ] as const
    ) {
      const before = serviceCounters(node, WEB).connections;
      const seen = new Set<string>();
      for (let i = 0; i < 30; i++) {
        const { peer, answer, errno } = await client.do("tcp", { to, six });
        assert.equal(errno, undefined, `${to}: errno ${errno}`);
        assert.deepEqual(peer, to);
        seen.add(answer!);
      }
      assert.deepEqual([...seen].sort(), backends);
      assert.equal(serviceCounters(node, WEB).connections - before, 30n);
    }
    // A backend itself, asked for by its address, stays what it is.
    const direct = await client.do("tcp", { to: [BACKENDS[0], 8080] });
    assert.deepEqual([direct.peer, direct.answer], [[BACKENDS[0], 8080], BACKENDS[0]]);
  },
);

socketTest(
  "socket_sendmsg() and socket_recvmsg() show the frontend to a socket without a peer",
  async (_, client) => {
    for (const [name, to, six] of [["a", V4, false], ["b", V6, true], ["c", MAPPED, true]] as const) {
      await client.do("open", { name, six });
      const first = await client.do("sendto", { name, to: [to, 80] });
      assert.deepEqual(first.from, [to, 80], JSON.stringify(first));
      // The datagrams of one socket stay together.
      for (let i = 0; i < 10; i++) {
        const next = await client.do("sendto", { name, to: [to, 80] });
        assert.deepEqual([next.from, next.answer], [first.from, first.answer]);
      }
      const direct = to === V6 ? BACKENDS[first.answer === BACKENDS[2] ? 3 : 2] : undefined;
      if (direct) {
        assert.deepEqual((await client.do("sendto", { name, to: [direct, 8080] })).from, [
          direct,
          8080,
        ]);
      }
    }
  },
);

socketTest(
  "socket_connect() gives a UDP socket a backend, and all it sees is the frontend",
  async (_, client) => {
    for (const [name, to, six] of [["a", V4, false], ["b", V6, true], ["c", MAPPED, true]] as const) {
      await client.do("open", { name, six });
      assert.deepEqual((await client.do("connect", { name, to: [to, 80] })).peer, [to, 80]);
      const { peer, from, answer, errno } = await client.do("send", { name });
      assert.deepEqual([errno, peer, from], [undefined, [to, 80], [to, 80]]);
      assert.ok(BACKENDS.includes(answer!));
    }
  },
);

socketTest(
  "socket_connect() finds NodePorts at loopback and at every address of the node",
  async (_, client) => {
    for (const host of ["127.0.0.1", "127.8.8.8", "10.9.0.254", "0.0.0.0", "::1", "fd00:9::fe", "::"]) {
      const { peer, answer, errno } = await client.do("tcp", { to: [host, 30080] });
      assert.deepEqual([errno, peer], [undefined, [host, 30080]], host);
      assert.ok(BACKENDS.includes(answer!));
    }
    assert.ok(
      BACKENDS.includes((await client.do("tcp", { to: ["::ffff:127.0.0.1", 30080], six: true })).answer!),
    );
    await client.do("open", { name: "u" });
    assert.deepEqual((await client.do("sendto", { name: "u", to: ["127.0.0.1", 30080] })).from, [
      "127.0.0.1",
      30080,
    ]);
    // not the node's: nobody is asked for
    assert.equal((await client.do("tcp", { to: [BACKENDS[0], 30080] })).errno, ECONNREFUSED);
  },
);

socketTest(
  "socket_connect() refuses at once when a service has nobody, and closed ports",
  async ({ node }, client) => {
    const refused = async (op: string, options: Record<string, unknown>, errno: number) => {
      const result = await client.do(op, options);
      assert.equal(result.errno, errno, `${op} ${JSON.stringify(options)}: ${JSON.stringify(result)}`);
      assert.ok(result.ms < 200, `${result.ms} ms`);
    };
    await client.do("open", { name: "u" });
    await client.do("open", { name: "v", six: true });
    await refused("tcp", { to: ["10.96.0.11", 80] }, ECONNREFUSED);
    await refused("tcp", { to: ["fd00:96::11", 80] }, ECONNREFUSED);
    await refused("sendto", { name: "u", to: ["10.96.0.11", 80] }, ECONNREFUSED);
    await refused("sendto", { name: "v", to: ["fd00:96::11", 80] }, ECONNREFUSED);
    await refused("connect", { name: "u", to: ["10.96.0.11", 80] }, ECONNREFUSED);
    await refused("tcp", { to: [V4, 81] }, ECONNREFUSED);
    assert.equal(serviceCounters(node, EMPTY).refused, 5n);
    const events = node.drainEvents().filter(({ subtype }) => subtype === abi.DROP_NO_SERVICE);
    assert.deepEqual(events.map(({ service, protocol }) => [service, protocol]), [
      [EMPTY, TCP],
      [EMPTY, TCP],
      [EMPTY, UDP],
      [EMPTY, UDP],
      [EMPTY, UDP],
      [0, TCP],
    ]);
    const [syn] = events.map((event) =>
      readPacket(event.payload.subarray(0, event.lengthCaptured), 3).transport!
    );
    assert.ok(syn.kind === "TCP" && syn.flags.SYN && !syn.flags.ACK && syn.destinationPort === 80);
    assert.equal(node.counted(abi.DROP_NO_SERVICE, abi.DIRECTION_SERVICE), 6);
    node.writeConfig({ flags: node.config.flags | abi.CONFIG_NO_BACKEND_DROP });
    await refused("tcp", { to: ["10.96.0.11", 80] }, EHOSTUNREACH);
    // gone, but still selected: as in the moment between two writes
    setBackend(node, { id: 1, address: BACKENDS[0], port: 8080, state: abi.BACKEND_GONE });
    setBackend(node, { id: 2, address: BACKENDS[1], port: 8080, state: abi.BACKEND_GONE });
    await refused("tcp", { to: [V4, 80] }, EHOSTUNREACH);
  },
);

socketTest(
  "backend_select() keeps the node's connections together where affinity asks for it",
  async (_, client) => {
    const seen = new Set<string>();
    for (let i = 0; i < 20; i++) seen.add((await client.do("tcp", { to: ["10.96.0.12", 80] })).answer!);
    assert.equal(seen.size, 1);
  },
);

socketTest(
  "socket_sendmsg() moves on when the backend of a socket's datagrams dies",
  async ({ node }, client) => {
    for (
      const [name, to, six, slot, ids] of [["a", V4, false, 11, [11, 12]], ["b", V6, true, 12, [
        13,
        14,
      ]]] as const
    ) {
      await client.do("open", { name, six });
      const { answer } = await client.do("sendto", { name, to: [to, 80] });
      const dead = BACKENDS.indexOf(answer!) + 11, alive = ids.find((id) => id !== dead)!;
      const record = { id: dead, address: answer!, port: 8080, protocol: UDP };
      // A backend that only gets nothing new keeps what it has.
      setBackend(node, { ...record, state: abi.BACKEND_TERMINATING });
      setSelection(node, slot, [alive]);
      assert.equal((await client.do("sendto", { name, to: [to, 80] })).answer, answer);
      setBackend(node, { ...record, state: abi.BACKEND_GONE });
      const next = await client.do("sendto", { name, to: [to, 80] });
      assert.deepEqual([next.answer, next.from], [BACKENDS[alive - 11], [to, 80]]);
    }
  },
);

socketTest(
  "SocketReaper.reap() ends connected UDP sockets whose backend died, and no others",
  async (made, client) => {
    const { node } = made;
    using netns = Netns.open(`/run/netns/${made.host}`);
    using diag = openSockDiag(netns);
    const reaper = new SocketReaper({
      sockets: node.map("weir_sockets"),
      backends: node.map("weir_backends"),
      diag,
    });
    const rounds = [["a", V4, false, 11, [11, 12]], ["b", V6, true, 12, [13, 14]], ["c", MAPPED, true, 11, [
      11,
      12,
    ]]];
    for (const [name, to, six, slot, ids] of rounds as [string, string, boolean, number, number[]][]) {
      fill(made);
      await client.do("open", { name, six });
      await client.do("connect", { name, to: [to, 80] });
      const { answer } = await client.do("send", { name });
      const dead = BACKENDS.indexOf(answer!) + 11, alive = ids.find((id) => id !== dead)!;
      // Its own way to the same backend, without the service: stays.
      await client.do("open", { name: "direct", six: answer!.includes(":") });
      await client.do("connect", { name: "direct", to: [answer, 8080] });
      assert.deepEqual(reaper.reap(), { sockets: 2, ended: 0 });
      setSelection(node, slot, [alive]);
      setBackend(node, { id: dead, address: answer!, port: 8080, protocol: UDP, state: abi.BACKEND_GONE });
      assert.deepEqual(reaper.reap(), { sockets: 2, ended: 1 });
      // Whoever waits for an answer is told at once; whoever sends has no destination any more.
      assert.equal((await client.do("send", { name })).errno, EDESTADDRREQ);
      assert.equal((await client.do("error", { name })).errno, ECONNABORTED);
      assert.deepEqual((await client.do("connect", { name, to: [to, 80] })).peer, [to, 80]);
      assert.equal((await client.do("send", { name })).answer, BACKENDS[alive - 11]);
      assert.equal((await client.do("send", { name: "direct" })).answer, answer);
      assert.deepEqual(reaper.reap(), { sockets: 2, ended: 0 });
      for (const done of [name, "direct"]) await client.do("close", { name: done });
    }
    assert.equal(reaper.able, "yes");
  },
);

socketTest(
  "socket_sendmsg() tells an unconnected UDP socket of a pod that nobody serves, and leaves all else to the packets",
  async (made) => {
    const { node } = made, addresses = ["10.9.0.1", "fd00:9::1"], EMPTY_TO = ["10.96.0.11", "fd00:96::11"];
    using netns = Netns.open(`/run/netns/${made.pod}`);
    node.addEndpoint({ id: 5, identity: 1500, ipv4: addresses[0], ipv6: addresses[1], ifindex: 77 });
    const cookie = new Uint8Array(new BigUint64Array([netnsCookie(netns)!]).buffer);
    node.map("weir_netns").update(cookie, u32(5));
    const pod = made.client(made.pod);
    node.drainEvents();
    const refused = () => serviceCounters(node, EMPTY).refused;
    for (const [family, name, to, own] of [[0, "a", V4, 80], [1, "b", V6, 80]] as const) {
      await pod.do("open", { name, six: family === 1 });
      const before = refused();
      const result = await pod.do("sendto", { name, to: [EMPTY_TO[family], own] });
      assert.equal(result.errno, ECONNREFUSED, JSON.stringify(result));
      assert.ok(result.ms < 200, `${result.ms} ms`);
      assert.equal(refused() - before, 1n);
      // The packet that was never sent, as if it had been dropped.
      const [event, ...more] = node.drainEvents();
      assert.equal(more.length, 0);
      assert.deepEqual(
        [
          event.type,
          event.subtype,
          event.service,
          event.sourceIdentity,
          event.sourceEndpoint,
          event.policyPort,
        ],
        [abi.EVENT_DROP, abi.DROP_NO_SERVICE, EMPTY, 1500, 5, 80],
      );
      const read = readPacket(event.payload.subarray(0, event.lengthCaptured), 3);
      assert.deepEqual([read.ip?.source, read.ip?.destination], [addresses[family], EMPTY_TO[family]]);
      assert.ok(read.transport?.kind === "UDP" && read.transport.destinationPort === 80);
      assert.ok(read.transport.sourcePort > 0, "the socket's own port");
      // What has a backend is the packets' business, and so is what is no service's.
      for (const [address, port] of [[to, 80], [BACKENDS[family * 2], 8080], ["127.0.0.1", 30080]] as const) {
        if (family === 1 && !address.includes(":")) continue;
        const { errno } = await pod.do("sendto", { name, to: [address, port] });
        assert.notEqual(errno, ECONNREFUSED, address);
      }
    }
    const closed = await pod.do("sendto", { name: "a", to: [V4, 99] });
    assert.equal(closed.errno, ECONNREFUSED, "a closed port");
    // A flow that has a backend keeps it, though nobody is left for new ones; one of another service, which had the port, does not.
    await pod.do("open", { name: "kept" });
    const port = (await pod.do("bind", { name: "kept" })).peer![1];
    setBackend(node, {
      id: 60,
      address: "10.9.0.2",
      port: 8080,
      protocol: UDP,
      state: abi.BACKEND_QUARANTINED,
    });
    const known = (service: number) =>
      node.map("weir_ct").update(
        abi.CtKey.encode({
          lo: address(addresses[0]),
          hi: address(EMPTY_TO[0]),
          portLoBe: port,
          portHiBe: 80,
          scope: 0,
          protocol: UDP,
        }),
        abi.CtEntry.encode({
          ...abi.CtEntry.decode(new Uint8Array(abi.CtEntry.bytes)),
          flags: abi.CT_SERVICE,
          service,
          translated: address("10.9.0.2"),
          translatedPortBe: 8080,
          backend: 60,
        }),
      );
    known(WEB);
    assert.equal((await pod.do("sendto", { name: "kept", to: [EMPTY_TO[0], 80] })).errno, ECONNREFUSED);
    known(EMPTY);
    assert.notEqual((await pod.do("sendto", { name: "kept", to: [EMPTY_TO[0], 80] })).errno, ECONNREFUSED);
    setBackend(node, { id: 60, address: "0.0.0.0", port: 0, protocol: UDP, state: abi.BACKEND_GONE });
    assert.equal((await pod.do("sendto", { name: "kept", to: [EMPTY_TO[0], 80] })).errno, ECONNREFUSED);
    // Where silence is wanted, and where the namespace is nobody's.
    const { flags } = node.config;
    node.writeConfig({ flags: flags | abi.CONFIG_NO_BACKEND_DROP });
    assert.notEqual((await pod.do("sendto", { name: "a", to: [EMPTY_TO[0], 80] })).errno, ECONNREFUSED);
    node.writeConfig({ flags });
    node.map("weir_netns").delete(cookie);
    assert.notEqual((await pod.do("sendto", { name: "a", to: [EMPTY_TO[0], 80] })).errno, ECONNREFUSED);
  },
);

socketTest("sockets of another network namespace are left alone", async (made) => {
  const stranger = made.client(made.pod);
  assert.equal((await stranger.do("tcp", { to: [V4, 80] })).errno, ENETUNREACH);
  await stranger.do("open", { name: "u" });
  assert.equal((await stranger.do("sendto", { name: "u", to: [V4, 80] })).errno, ENETUNREACH);
  assert.equal(serviceCounters(made.node, WEB).connections, 0n);
  // and nobody is, while the node's namespace is not known
  made.node.writeConfig({ netnsCookie: 0n });
  assert.equal((await made.client().do("tcp", { to: [V4, 80] })).errno, ENETUNREACH);
});

socketTest(
  "policy of a cgroup endpoint is asked about the backend, not about the service",
  async (made, client) => {
    const { node, cgroup } = made;
    node.setIpcache("10.9.0.0/24", 1234);
    node.setPolicy(1, {
      enforceEgress: true,
      rules: [{ direction: "egress", identity: 1234, protocol: TCP, port: 8080 }],
    });
    node.addEndpoint({
      id: 5,
      identity: 3000,
      ifindex: 0,
      flags: abi.ENDPOINT_CGROUP,
      cgroupId: BigInt(Deno.statSync(cgroup).ino!),
      policy: 1,
    });
    using _ = attachCgroup(node.program("cgroup_egress").fd, cgroup, AttachType.CGROUP_INET_EGRESS);
    const { peer, errno } = await client.do("tcp", { to: [V4, 80] });
    assert.deepEqual([errno, peer], [undefined, [V4, 80]]);
    const verdict = node.drainEvents().find((e) => e.type === abi.EVENT_POLICY_VERDICT)!;
    assert.deepEqual([verdict.policyPort, verdict.destinationIdentity], [8080, 1234]);
  },
);

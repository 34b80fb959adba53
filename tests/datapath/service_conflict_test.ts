/** Flows through services that could be taken for each other, or for something else. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, type Run } from "./node.ts";
import { ACK, ICMP, ipPacket, type PacketSpec, RST, SCTP, SYN, TCP, UDP } from "./packet.ts";
import { deleteFrontend, setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const VIPS: Record<string, string[]> = {
  IPv4: ["10.96.0.10", "10.96.0.11"],
  IPv6: ["fd00:10:96::10", "fd00:10:96::11"],
};

/** Two services, both of B's ports 8080 (slot 1); slot 2 has the other node's pod too. */
async function two(f: Family) {
  const made = await twoEndpoints();
  const { node } = made;
  for (const [i, protocol] of [TCP, UDP].entries()) {
    setBackend(node, { id: 1 + i, address: f.b, port: 8080, protocol, service: 1 });
    setBackend(node, { id: 3 + i, address: f.remote, port: 8080, protocol, service: 1 });
    setSelection(node, 1 + i, [1 + i]);
    setSelection(node, 3 + i, [1 + i, 3 + i]);
    for (const [service, address] of VIPS[f.name].entries()) {
      setFrontend(node, { address, port: 80, protocol, service: service + 1, internal: 1 + i });
    }
  }
  const ask = (to: string, spec: Partial<PacketSpec> = {}) =>
    made.from(A, { from: f.a, to, sport: 40000, dport: 80, ...spec });
  return { ...made, vips: VIPS[f.name], ask };
}
const reason = (run: Run) => run.events.findLast((event) => event.type === abi.EVENT_DROP)?.subtype ?? 0;
const bytes = (run: Run, f: Family, end: "source" | "destination") => {
  const at = 14 + (f.name === "IPv4" ? 12 : 8), size = f.name === "IPv4" ? 4 : 16;
  return [...run.data.slice(at + (end === "source" ? 0 : size), at + (end === "source" ? size : 2 * size))];
};
const addressBytes = (f: Family, address: string) => {
  const whole = ipPacket({ from: f.a, to: address });
  return [...whole.slice(f.name === "IPv4" ? 16 : 24, f.name === "IPv4" ? 20 : 40)];
};

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: one client port, one backend, two services: the second goes to another backend, or is refused`,
    async () => {
      const { node, ask, vips, from } = await two(f);
      using _ = node;
      assert.equal(ask(vips[0]).verdict, REDIRECT);
      assert.equal(reason(ask(vips[1])), abi.DROP_NAT_NO_MAPPING);
      // what the first has is as it was
      const answer = from(B, { from: f.b, to: f.a, sport: 8080, dport: 40000, flags: SYN | ACK });
      assert.deepEqual(bytes(answer, f, "source"), addressBytes(f, vips[0]));
      setFrontend(node, { address: vips[1], port: 80, service: 2, internal: 3 });
      let moved = 0;
      for (let sport = 100; sport < 120; sport++) {
        ask(vips[0], { sport });
        const run = ask(vips[1], { sport });
        if (reason(run) === abi.DROP_NAT_NO_MAPPING) continue;
        assert.deepEqual(bytes(run, f, "destination"), addressBytes(f, f.remote));
        moved++;
      }
      // four tries of two: one in sixteen finds nobody
      assert.ok(moved > 8, `${moved}`);
      // over: the tuple is free
      ask(vips[0], { flags: RST });
      assert.equal(ask(vips[1], { flags: SYN }).verdict, REDIRECT);
    },
  );

  kernelTest(
    `${f.name}: a connection to a backend itself is not taken for the one through its service`,
    async () => {
      const { node, ask, vips, from } = await two(f);
      using _ = node;
      ask(vips[0]);
      const direct = { from: f.a, to: f.b, sport: 40000, dport: 8080 };
      assert.equal(reason(from(A, direct)), abi.DROP_NAT_NO_MAPPING);
      assert.equal(from(A, { ...direct, sport: 40001 }).verdict, REDIRECT);
      assert.equal(reason(ask(vips[0], { sport: 40001 })), abi.DROP_NAT_NO_MAPPING);
    },
  );

  kernelTest(
    `${f.name}: a service that comes later takes what begins anew, one that goes refuses it`,
    async () => {
      const { node, ask, vips } = await two(f);
      using _ = node;
      const udp = { protocol: UDP };
      deleteFrontend(node, { address: vips[0], port: 80 });
      deleteFrontend(node, { address: vips[0], port: 80, protocol: UDP });
      assert.equal(ask(vips[0]).verdict, PASS, "the world's");
      assert.equal(ask(vips[0], udp).verdict, PASS);
      setFrontend(node, { address: vips[0], port: 80, service: 1, internal: 1 });
      setFrontend(node, { address: vips[0], port: 80, protocol: UDP, service: 1, internal: 2 });
      assert.equal(ask(vips[0]).verdict, REDIRECT);
      assert.equal(ask(vips[0], udp).verdict, PASS, "a flow that lives goes on");
      node.expireFlows();
      assert.equal(ask(vips[0], udp).verdict, REDIRECT);
      deleteFrontend(node, { address: vips[0], port: 80, protocol: UDP });
      assert.equal(ask(vips[0], udp).verdict, REDIRECT, "its backend is still there");
      setBackend(node, { id: 2, address: f.b, port: 8080, protocol: UDP, state: abi.BACKEND_GONE });
      assert.equal(reason(ask(vips[0], udp)), abi.DROP_NO_SERVICE);
    },
  );

  kernelTest(`${f.name}: nobody sends from a virtual address into a flow`, async () => {
    const { node, ask, vips, to } = await two(f);
    using _ = node;
    ask(vips[0]);
    const forged = { from: vips[0], to: f.a, sport: 80, dport: 40000, flags: ACK };
    assert.equal(reason(to(A, forged)), abi.DROP_INVALID_SIP);
    assert.equal(ask(vips[0], { flags: ACK }).verdict, REDIRECT);
  });

  kernelTest(
    `${f.name}: a client's error about an answer reaches the backend, about what it sent`,
    async () => {
      const { node, ask, vips, from } = await two(f);
      using _ = node;
      ask(vips[0], { protocol: UDP, payload: [1, 2] });
      from(B, { from: f.b, to: f.a, protocol: UDP, sport: 8080, dport: 40000, payload: [3, 4] });
      const heard = ipPacket({
        from: vips[0],
        to: f.a,
        protocol: UDP,
        sport: 80,
        dport: 40000,
        payload: [3, 4],
      });
      const sent = ipPacket({
        from: f.b,
        to: f.a,
        protocol: UDP,
        sport: 8080,
        dport: 40000,
        payload: [3, 4],
      });
      const type = f.icmp === ICMP ? 3 : 1, code = f.icmp === ICMP ? 3 : 4;
      const error = (destination: string, payload: Uint8Array) => ({
        from: f.a,
        to: destination,
        protocol: f.icmp,
        type,
        code,
        id: 0,
        payload,
      });
      const run = from(A, error(vips[0], heard));
      assert.equal(run.verdict, REDIRECT, `${reason(run)}`);
      const wanted = ipPacket({ ...error(f.b, sent), ttl: 63 });
      assert.deepEqual([...run.data.slice(14)], [...wanted]);
    },
  );

  kernelTest(`${f.name}: UDP without a checksum, and SCTP, which keeps its ports`, async () => {
    const { node, ask, vips } = await two(f);
    using _ = node;
    setBackend(node, { id: 9, address: f.b, port: 80, protocol: SCTP, service: 1 });
    setSelection(node, 9, [9]);
    setFrontend(node, { address: vips[0], port: 80, protocol: SCTP, service: 1, internal: 9 });
    const sctp = ask(vips[0], { protocol: SCTP });
    assert.deepEqual([...sctp.data.slice(14)], [
      ...ipPacket({ from: f.a, to: f.b, protocol: SCTP, sport: 40000, dport: 80, ttl: 63 }),
    ]);
    if (f.name === "IPv6") return;
    const upper = [0x9c, 0x40, 0, 80, 0, 9, 0, 0, 5];
    const udp = ask(vips[0], { protocol: UDP, upper });
    assert.deepEqual([...udp.data.slice(34)], [0x9c, 0x40, 0x1f, 0x90, 0, 9, 0, 0, 5]);
  });

  kernelTest(`${f.name}: weir_gc that removes everything removes the choices too`, async () => {
    const { node, ask, vips } = await two(f);
    using _ = node;
    ask(vips[0]);
    assert.equal(node.flows().length, 2);
    node.gc(abi.GC_PRESSURE, { age: 60 });
    assert.equal(node.flows().length, 2);
    node.gc(abi.GC_ALL);
    assert.equal(node.flows().length, 0);
  });
}

kernelTest("IPv4: later fragments go to the backend of the first", async () => {
  const f = FAMILIES[0];
  const { node, ask, vips } = await two(f);
  using _ = node;
  const first = ask(vips[0], {
    protocol: UDP,
    upper: [0x9c, 0x40, 0, 80, 0, 24, 0, 0, ...Array(8).fill(1)],
    fragment: 0x2000,
  });
  assert.deepEqual(bytes(first, f, "destination"), addressBytes(f, f.b));
  const second = ask(vips[0], { protocol: UDP, upper: Array(8).fill(2), fragment: 2 });
  assert.deepEqual([...second.data.slice(14)], [
    ...ipPacket({ from: f.a, to: f.b, protocol: UDP, upper: Array(8).fill(2), fragment: 2, ttl: 63 }),
  ]);
});

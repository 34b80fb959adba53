/**
 * What the host passes on under an address of its own (masquerade, kube-proxy's node ports) is the word of who gave it to the
 * host, and what reaches a cgroup endpoint's socket from a network is not the word of a pod whose address it has.
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { ownCgroup } from "./own_cgroup.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, SHOT } from "./node.ts";
import { ACK, packet, type PacketSpec, SYN, TCP, UDP } from "./packet.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const WORLD = abi.IDENTITY_WORLD, REMOTE_NODE = abi.IDENTITY_REMOTE_NODE, OTHER = 1001;
const LOOPBACK = 1;

/** A's policy lets these in, or anybody with `open()`; `run` gives a program a packet that a device brought to the host. */
async function relay() {
  const made = await twoEndpoints(), { node, devices } = made;
  // (the loopback device is the host itself)
  node.writeConfig({ tunnelIfindex: node.addDevice() });
  let slot = 0;
  const admit = (endpoint: number, ...identities: number[]) => {
    node.setPolicy(++slot, {
      enforceIngress: true,
      rules: identities.map((identity) => ({ direction: "ingress", identity })),
    });
    node.changeEndpoint(endpoint, { policy: slot });
  };
  const run = (program: string, spec: PacketSpec, broughtBy: number, device = devices[0]) => {
    const ctx = new Uint8Array(192), view = new DataView(ctx.buffer);
    view.setUint32(36, broughtBy, true);
    view.setUint32(40, device, true);
    node.drainEvents();
    const result = node.program(program).testRun({ data: packet(spec), ctx });
    const events = node.drainEvents();
    return {
      verdict: result.retval,
      reason: events.find((event) => event.type === abi.EVENT_DROP)?.subtype,
      identity: events.at(-1)?.sourceIdentity,
      endpoint: events.at(-1)?.sourceEndpoint,
    };
  };
  return { ...made, admit, run };
}

for (const f of FAMILIES) {
  kernelTest(
    `to_endpoint(): the host's address on ${f.name} that a device brought is not the host's word`,
    async () => {
      const { node, devices, admit, run, from } = await relay();
      using _ = node;
      const network = node.addDevice(), tunnel = node.config.tunnelIfindex;
      const world = f.name === "IPv4" ? node.config.worldV4 : node.config.worldV6;
      const ways: [string, number, number][] = [["an endpoint", devices[1], OTHER], [
        "a network",
        network,
        world,
      ], [
        "the tunnel",
        tunnel,
        REMOTE_NODE,
      ]];
      let sport = 2000;
      for (const [who, device, identity] of ways) {
        for (const protocol of [TCP, UDP]) {
          const spec = { from: f.host, to: f.a, protocol, sport: ++sport, dport: 80, flags: SYN };
          admit(A, 7);
          const refused = run("to_endpoint", spec, device);
          assert.deepEqual([refused.verdict, refused.reason, refused.identity], [
            SHOT,
            abi.DROP_POLICY,
            identity,
          ], who);
          admit(A, identity);
          const passed = run("to_endpoint", spec, device);
          assert.deepEqual([passed.verdict, passed.identity], [PASS, identity], who);
          // the answer goes back to the stack, and changes nothing of who asked
          admit(A, identity);
          assert.equal(
            from(A, { from: f.a, to: f.host, protocol, sport: 80, dport: sport, flags: ACK | SYN }).verdict,
            PASS,
          );
          assert.equal(run("to_endpoint", { ...spec, flags: ACK }, device).verdict, PASS, who);
          // nor does it keep what it is no longer allowed
          admit(A, 7);
          assert.equal(
            from(A, { from: f.a, to: f.host, protocol, sport: 80, dport: sport, flags: ACK }).verdict,
            SHOT,
            who,
          );
          assert.equal(run("to_endpoint", { ...spec, flags: ACK }, device).reason, abi.DROP_POLICY, who);
          // the host's own socket may
          const own = run("to_endpoint", { ...spec, sport: sport + 1000 }, 0);
          assert.deepEqual([own.verdict, own.identity], [PASS, abi.IDENTITY_HOST]);
          // and nobody else on its flow, which is known by now
          assert.equal(run("to_endpoint", { ...spec, sport: sport + 1000, flags: ACK }, 0).verdict, PASS);
          const rides = run("to_endpoint", { ...spec, sport: sport + 1000, flags: ACK }, device);
          assert.deepEqual([rides.verdict, rides.reason], [SHOT, abi.DROP_POLICY], who);
        }
      }
    },
  );

  kernelTest(
    `from_netdev(): nobody speaks ${f.name} into the host's live flows with its address`,
    async () => {
      const { node, run, from } = await relay();
      using _ = node;
      for (const protocol of [TCP, UDP]) {
        const asked = { from: f.host, to: f.a, protocol, sport: 3000, dport: 80, flags: SYN };
        assert.equal(run("to_endpoint", asked, 0).verdict, PASS);
        from(A, { from: f.a, to: f.host, protocol, sport: 80, dport: 3000, flags: SYN | ACK });
        assert.equal(run("to_endpoint", { ...asked, flags: ACK }, 0).verdict, PASS);
        assert.equal(run("from_netdev", { ...asked, flags: ACK }, 0).reason, abi.DROP_INVALID_SIP);
        from(A, { from: f.a, to: f.host, protocol, sport: 3001, dport: 53, flags: SYN });
        const answer = { from: f.host, to: f.a, protocol, sport: 53, dport: 3001, flags: ACK };
        assert.equal(run("to_endpoint", answer, 0).verdict, PASS);
        assert.equal(run("from_netdev", answer, 0).reason, abi.DROP_INVALID_SIP);
      }
    },
  );

  kernelTest(
    `cgroup_ingress(): from a network ${f.name} comes from nobody of this node, nor from a pod`,
    async () => {
      const cgroupId = ownCgroup();
      if (cgroupId === undefined) return console.log("SKIP no cgroup2 mounted");
      const { node, devices, admit, run } = await relay();
      using _ = node;
      node.addEndpoint({ id: 5, identity: 3000, ifindex: 0, flags: abi.ENDPOINT_CGROUP, cgroupId });
      admit(5, OTHER, 1002, abi.IDENTITY_HOST);
      const network = node.addDevice(), tunnel = node.config.tunnelIfindex;
      let sport = 4000;
      const get = (source: string, device: number) => {
        const got = run(
          "cgroup_ingress",
          { from: source, to: f.host, sport: ++sport, dport: 80, flags: SYN },
          device,
          0,
        );
        return got.reason ?? got.verdict;
      };
      assert.equal(get(f.b, network), abi.DROP_INVALID_SIP);
      assert.equal(get(f.remote, network), abi.DROP_INVALID_IDENTITY);
      assert.equal(get(f.world, network), abi.DROP_POLICY);
      assert.equal(get(f.host, network), abi.DROP_POLICY, "it is the world's word");
      // each by its own way
      assert.equal(get(f.b, devices[1]), 1);
      assert.equal(get(f.remote, tunnel), 1);
      assert.equal(get(f.host, LOOPBACK), 1);
      admit(5, f.name === "IPv4" ? node.config.worldV4 : node.config.worldV6, WORLD);
      assert.equal(get(f.world, network), 1);
      assert.equal(get(f.b, network), abi.DROP_INVALID_SIP);
    },
  );
}

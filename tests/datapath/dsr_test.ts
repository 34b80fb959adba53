/** Direct server return at the backend's node, packet by packet: whom an option is believed, and where answers come from. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT } from "./node.ts";
import { ACK, address, ipPacket, packet, type PacketSpec, SYN } from "./packet.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import { FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const VIP: Record<string, string> = { IPv4: "203.0.113.10", IPv6: "2001:db8:10::10" };

for (const f of FAMILIES) {
  const vip = VIP[f.name], v4 = f.name === "IPv4";
  const option = (frontend: string, port: number): Partial<PacketSpec> => {
    const where = [...address(frontend).subarray(v4 ? 12 : 0)], at = [port >> 8, port & 255];
    return v4
      ? { options: [0x9a, 8, ...at, ...where] }
      : { nextHeader: 60, options: [6, 2, 0x1b, 20, ...where, ...at, 0, 0] };
  };

  kernelTest(
    `from_netdev() lets a backend answer ${f.name} in the name of the frontend that the option says`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.writeConfig({ flags: abi.CONFIG_DIRECT });
      const flags = abi.FRONTEND_EXTERNAL;
      setFrontend(node, { address: vip, port: 80, service: 7, flags: flags | abi.FRONTEND_DSR });
      setFrontend(node, { address: vip, port: 81, service: 8, flags });
      // one of another node's NodePorts: its address is not this node's, the port is every node's
      setFrontend(node, {
        address: v4 ? "0.0.0.0" : "::",
        port: 30080,
        service: 9,
        flags: flags | abi.FRONTEND_DSR,
      });
      const other = v4 ? "192.0.2.9" : "2001:db8::9";
      const cases: [string, string, number, number, string, number, number][] = [
        ["a DSR frontend", vip, 80, 50000, vip, 80, 7],
        ["another node's NodePort", other, 30080, 50001, other, 30080, 9],
        ["a frontend without DSR", vip, 81, 50002, f.a, 8080, 0],
        ["nobody's address", other, 25, 50003, f.a, 8080, 0],
      ];
      for (const [why, frontend, port, sport, source, sourcePort, service] of cases) {
        const ask = packet({
          from: f.world,
          to: f.a,
          sport,
          dport: 8080,
          flags: SYN,
          ...option(frontend, port),
        });
        const got = node.run("from_netdev", ask);
        assert.equal(got.verdict, REDIRECT, `${why}: ${got.events.map((e) => e.subtype)}`);
        assert.equal(got.events[0].service, service, why);
        // what follows has no option
        const more = packet({ from: f.world, to: f.a, sport, dport: 8080, flags: ACK });
        assert.equal(node.run("from_netdev", more).verdict, REDIRECT, why);
        const answer = { from: f.a, to: f.world, sport: 8080, dport: sport, flags: SYN | ACK };
        const left = from(1, answer);
        assert.equal(left.verdict, PASS, why);
        const sent = node.run("to_netdev", left.data);
        assert.deepEqual(sent.data.slice(14), ipPacket({ ...answer, from: source, sport: sourcePort }), why);
      }
      assert.equal(serviceCounters(node, 7).packets, 2n);
      assert.equal(serviceCounters(node, 8).packets, 0n);
    },
  );

  kernelTest(`from_netdev() tells ${f.name} of one client port for two frontends apart`, async () => {
    const { node } = await twoEndpoints();
    using _ = node;
    setBackend(node, { id: 1, address: f.a, port: 8080 });
    setSelection(node, 1, [1]);
    for (const port of [80, 81]) {
      setFrontend(node, {
        address: vip,
        port,
        service: 7,
        internal: 1,
        external: 1,
        flags: abi.FRONTEND_EXTERNAL,
      });
    }
    const ask = (dport: number, flags: number, sport = 50000) =>
      node.run("from_netdev", packet({ from: f.world, to: vip, sport, dport, flags }));
    assert.equal(ask(80, SYN).verdict, REDIRECT);
    // the backend could not tell them apart: refused, and the first is not disturbed
    const second = ask(81, SYN);
    assert.deepEqual([second.verdict, second.events.at(-1)?.subtype], [SHOT, abi.DROP_NAT_NO_MAPPING]);
    assert.equal(ask(80, ACK).verdict, REDIRECT);
    assert.equal(ask(81, SYN, 50001).verdict, REDIRECT);
    // who speaks to the pod itself has the tuple too
    const direct = packet({ from: f.world, to: f.a, sport: 50002, dport: 8080, flags: SYN });
    assert.equal(node.run("from_netdev", direct).verdict, REDIRECT);
    assert.equal(ask(80, SYN, 50002).verdict, SHOT);
  });
}

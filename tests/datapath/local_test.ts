/**
 * Whom a packet from an endpoint is for when it is for no single machine that anybody knows: the host, whatever the kernel would
 * deliver there, and those whom many hear.
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, SHOT } from "./node.ts";
import { address, ICMP, packet, UDP } from "./packet.ts";
import { A, twoEndpoints } from "./two_endpoints.ts";

const HOST = abi.IDENTITY_HOST, MANY = abi.IDENTITY_MULTICAST, ALL = abi.IDENTITY_BROADCAST;

kernelTest("from_endpoint() knows hosts, groups and broadcasts, whatever prefixes cover them", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  // rules for CIDRs that cover all of them
  for (const prefix of ["128.0.0.0/1", "0.0.0.0/1", "8000::/1", "169.254.0.0/16", "fe80::/10"]) {
    node.setIpcache(prefix, 1 << 24 | 7);
  }
  node.setAddress("192.0.2.255", { endpoint: 0, flags: abi.ADDRESS_BROADCAST });
  node.setAddress("169.254.3.4", { endpoint: 0, flags: abi.ADDRESS_HOST });
  const cases: [string, number][] = [
    ["224.0.0.1", MANY],
    ["239.255.255.250", MANY],
    ["255.255.255.255", ALL],
    ["192.0.2.255", ALL],
    ["169.254.3.4", HOST],
    ["127.0.0.1", HOST],
    ["127.255.255.254", HOST],
    ["192.0.2.1", HOST],
    ["169.254.169.254", 1 << 24 | 7],
    ["198.51.100.7", 1 << 24 | 7],
    ["ff02::1", MANY],
    ["ff01::1", MANY],
    ["ff05::99", MANY],
    ["ff0e::1234", MANY],
    ["fe80::1", HOST],
    ["febf::1", HOST],
    ["0:0:0:0:0:0:0:1", HOST],
    ["2001:db8::1", HOST],
    ["2001:db8:9::7", 10],
  ];
  for (const [to, identity] of cases) {
    const run = from(A, { from: to.includes(":") ? "fd00:1::10" : "10.0.1.10", to, protocol: UDP });
    assert.deepEqual([run.verdict, run.events[0].destinationIdentity], [PASS, identity], to);
  }
  // A rule for the world lets none of them through, a rule for them does.
  const rule = (identity: number) => ({ direction: "egress" as const, identity, protocol: UDP, port: 80 });
  node.setPolicy(1, { enforceEgress: true, rules: [9, 10, 1 << 24 | 7].map(rule) });
  node.setPolicy(2, { enforceEgress: true, rules: [MANY].map(rule) });
  node.setPolicy(3, { enforceEgress: true, rules: [ALL].map(rule) });
  for (const [policy, mine] of [[1, [9, 10, 1 << 24 | 7]], [2, [MANY]], [3, [ALL]]] as const) {
    node.changeEndpoint(A, { policy });
    for (const [to, identity] of cases) {
      const run = from(A, {
        from: to.includes(":") ? "fd00:1::10" : "10.0.1.10",
        to,
        protocol: UDP,
        dport: 80,
      });
      const wanted = (mine as readonly number[]).includes(identity) ? PASS : SHOT;
      assert.equal(run.verdict, wanted, `${to} ${policy}`);
    }
  }
  // Nobody sends from there, and no frontend of the node is there.
  node.changeEndpoint(A, { policy: 0, flags: abi.ENDPOINT_NO_SOURCE_CHECK });
  assert.equal(from(A, { from: "192.0.2.255", to: "198.51.100.7" }).events[0].subtype, abi.DROP_INVALID_SIP);
  const spoofed = node.run(
    "from_netdev",
    packet({ from: "192.0.2.255", to: "10.0.1.10", protocol: ICMP }),
    1,
  );
  assert.equal(spoofed.events[0].subtype, abi.DROP_INVALID_SIP);
});

/** Hears datagrams at a port, of both families, and says from where to where they went. */
const EAR = `import select,socket
ears=[]
for family,any in (socket.AF_INET,'0.0.0.0'),(socket.AF_INET6,'::'):
    s=socket.socket(family,socket.SOCK_DGRAM)
    if family==socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,1)
        s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_JOIN_GROUP,socket.inet_pton(family,'ff05::99')+socket.if_nametoindex('pod').to_bytes(4,'little'))
    s.bind((any,7777)); ears.append(s)
print('ready',flush=True)
while True:
    for s in select.select(ears,[],[])[0]: print(s.recvfrom(100)[0].decode(),flush=True)
`;
const ENDS = ["end of 4", "end of 6"];
const LAST = `import socket
for family,to in ((socket.AF_INET,'127.0.0.1'),(socket.AF_INET6,'::1')):
    socket.socket(family,socket.SOCK_DGRAM).sendto(b'end of 4' if family==socket.AF_INET else b'end of 6',(to,7777))
`;
const SAY = `import socket,sys
for to in sys.argv[1:]:
    s=socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)
    s.sendto(to.encode(),(to,7777) if ':' not in to else (to,7777,0,socket.if_nametoindex('eth0')))
`;

kernelTest(
  "real sockets: what the kernel delivers to the host is the host's, before anybody was told",
  async () => {
    const cluster = await Cluster.open(abi.CONFIG_DIRECT);
    const ear = new Deno.Command("ip", {
      args: ["netns", "exec", cluster.netns("node1"), "python3", "-c", EAR],
      stdout: "piped",
    }).spawn();
    const heard: string[] = [];
    const lines = ear.stdout.pipeThrough(new TextDecoderStream());
    const reading = (async () => {
      for await (const text of lines) heard.push(...text.split("\n").filter((line) => line !== ""));
    })().catch(() => {});
    try {
      const [node] = cluster.nodes;
      while (!heard.includes("ready")) await new Promise((done) => setTimeout(done, 20));
      // Addresses that no map knows, of every kind.
      await cluster.ip("node1", "address", "add", "203.0.113.5/32", "dev", "lo");
      await cluster.ip("node1", "address", "add", "169.254.7.7/16", "dev", "outer", "scope", "link");
      await cluster.ip("node1", "address", "add", "198.18.0.1/24", "brd", "+", "dev", "outer");
      await cluster.ip("node1", "address", "add", "2001:db8:77::1/128", "dev", "lo", "nodad");
      await cluster.ip("node1", "route", "add", "local", "10.99.0.0/16", "dev", "lo");
      await cluster.ip("node1", "route", "add", "local", "fd99::/64", "dev", "lo");
      const single = ["203.0.113.5", "169.254.7.7", "198.18.0.1", "10.99.3.4", "2001:db8:77::1", "fd99::7"];
      const many = ["224.0.0.1", "255.255.255.255", "198.18.0.255", "192.0.2.255", "ff05::99"];
      const say = async (...to: string[]) => {
        heard.length = 0;
        node.drainEvents();
        const { code, text } = await cluster.in("pod1", "python3", "-c", SAY, ...to);
        assert.equal(code, 0, text);
        // What came before these has been printed when they are.
        assert.equal((await cluster.in("node1", "python3", "-c", LAST)).code, 0);
        await until("the last are printed", () => ENDS.every((end) => heard.includes(end)), 20);
        return heard.filter((to) => !ENDS.includes(to)).toSorted();
      };
      // They do reach the host's sockets when nothing forbids it: so the rest of this test shows something.
      assert.deepEqual(await say(...single, ...many), [...single, ...many].toSorted(), cluster.drops());
      const rule = (identity: number) => ({ direction: "egress" as const, identity });
      node.setPolicy(1, { enforceEgress: true, rules: [9, 10].map(rule) });
      node.changeEndpoint(1, { policy: 1 });
      node.gc(abi.GC_ALL);
      assert.deepEqual(await say(...single, ...many), []);
      // The same while the old flows are still known.
      assert.deepEqual(await say(...single, ...many), []);
      for (
        const [identity, wanted] of [[abi.IDENTITY_HOST, single], [MANY, ["224.0.0.1", "ff05::99"]], [ALL, [
          "255.255.255.255",
        ]]] as const
      ) {
        node.setPolicy(2, { enforceEgress: true, rules: [rule(identity)] });
        node.changeEndpoint(1, { policy: 2 });
        const got = await say(...single, ...many);
        for (const to of wanted) assert.ok(got.includes(to), `${to}: ${got}`);
        if (identity !== HOST) assert.deepEqual(got, [...wanted].toSorted());
      }
      // The world is still the world.
      node.drainEvents();
      node.changeEndpoint(1, { policy: 1 });
      const world = await cluster.in("pod1", "python3", "-c", SAY, "198.51.100.7", "2001:db8:9::7");
      assert.equal(world.code, 0, world.text);
      const verdicts = node.drainEvents().filter((e) => e.type === abi.EVENT_POLICY_VERDICT);
      assert.deepEqual(verdicts.map((e) => e.destinationIdentity), [9, 10], cluster.drops());
      // A network's broadcast address that was told is everybody's.
      node.map("weir_addresses").update(
        address("192.0.2.255"),
        abi.AddressOwner.encode({ endpoint: 0, flags: abi.ADDRESS_BROADCAST }),
      );
      node.setPolicy(2, { enforceEgress: true, rules: [rule(ALL)] });
      node.changeEndpoint(1, { policy: 2 });
      assert.deepEqual(await say("192.0.2.255", "198.18.0.255"), ["192.0.2.255"]);
    } finally {
      ear.kill("SIGKILL");
      await ear.status;
      await reading;
      await cluster.close();
    }
  },
);

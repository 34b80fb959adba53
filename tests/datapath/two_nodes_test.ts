/**
 * Two nodes in namespaces of their own, each with the programs on real devices: the tunnel with its metadata and direct
 * routing, which no test run follows.
 */
import assert from "node:assert/strict";
import { attachTcx, type BpfLink } from "@weir/loader";
import * as abi from "@weir/maps";
import { Netns } from "@weir/net";
import { kernelTest } from "./kernel_test_case.ts";
import { TestNode } from "./node.ts";
import { address, ICMP, ICMPV6, ipv4Number, TCP } from "./packet.ts";

async function sh(...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(args[0], {
    args: args.slice(1),
    stdout: "piped",
    stderr: "piped",
  })
    .output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}
async function must(...args: string[]): Promise<string> {
  const { code, text } = await sh(...args);
  if (code !== 0) throw new Error(`${args.join(" ")}: ${text}`);
  return text;
}

const name = (what: string) => `wt-bpf-${Deno.pid}-${what}`;

/** Node `n` (1, 2): underlay 192.0.2.n / 2001:db8::n, pods 10.0.n.0/24 / fd00:n::/64, one pod .10, identity 1000 + n. */
async function node(n: number, mode: number, links: BpfLink[]): Promise<TestNode> {
  const host = name(`node${n}`), pod = name(`pod${n}`), other = 3 - n;
  const inHost = (...args: string[]) => must("ip", "-n", host, ...args);
  const inPod = (...args: string[]) => must("ip", "-n", pod, ...args);
  const mac = `02:00:00:00:01:0${n}`, hostMac = `02:00:00:00:02:0${n}`;
  await must(
    "ip",
    "netns",
    "exec",
    host,
    "sysctl",
    "-qw",
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    // Nobody waits for duplicates of addresses that nobody else has.
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.outer.accept_dad=0",
  );
  await inHost("link", "set", "lo", "up");
  await inHost("address", "add", `10.0.${n}.1/32`, "dev", "lo");
  await inHost("address", "add", `fd00:${n}::1/128`, "dev", "lo", "nodad");
  await inHost("address", "add", `192.0.2.${n}/24`, "dev", "outer");
  await inHost("address", "add", `2001:db8::${n}/64`, "dev", "outer", "nodad");
  await inHost("link", "set", "outer", "up");
  await inHost("link", "add", "vxlan", "address", hostMac, "type", "vxlan", "external", "dstport", "8472");
  // There are no neighbours to ask for: whoever is behind it is at the other end.
  await inHost("link", "set", "vxlan", "arp", "off", "up");
  await must("ip", "netns", "add", pod);
  await inHost(
    "link",
    "add",
    "pod",
    "address",
    hostMac,
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "address",
    mac,
    "netns",
    pod,
  );
  await inHost("link", "set", "pod", "up");
  await inHost("route", "add", `10.0.${n}.10/32`, "dev", "pod");
  await inHost("route", "add", `fd00:${n}::10/128`, "dev", "pod");
  const tunnel = mode === abi.CONFIG_TUNNEL;
  const way4 = tunnel ? ["dev", "vxlan", "src", `10.0.${n}.1`] : ["via", `192.0.2.${other}`];
  const way6 = tunnel ? ["dev", "vxlan", "src", `fd00:${n}::1`] : ["via", `2001:db8::${other}`];
  await inHost("route", "add", `10.0.${other}.0/24`, ...way4);
  await inHost("route", "add", `fd00:${other}::/64`, ...way6);
  await inPod("link", "set", "lo", "up");
  await inPod("link", "set", "eth0", "mtu", "1400", "up");
  await inPod("address", "add", `10.0.${n}.10/32`, "dev", "eth0");
  await inPod("address", "add", `fd00:${n}::10/128`, "dev", "eth0", "nodad");
  for (const gateway of [`10.0.${n}.1`, `fd00:${n}::1`]) {
    await inPod("route", "add", gateway, "dev", "eth0");
    await inPod("route", "add", "default", "via", gateway);
  }
  const index = async (device: string) =>
    Number((await must("ip", "netns", "exec", host, "cat", `/sys/class/net/${device}/ifindex`)).trim());
  const [podIndex, vxlan, outer] = [await index("pod"), await index("vxlan"), await index("outer")];

  const made = await TestNode.open();
  made.writeConfig({
    flags: mode,
    tunnelIfindex: vxlan,
    outerIfindex: outer,
    ipv4Be: ipv4Number(`192.0.2.${n}`),
    gatewayIpv4Be: ipv4Number(`10.0.${n}.1`),
    gatewayIpv6: address(`fd00:${n}::1`),
  });
  for (const remote of ["192.0.2.1", "2001:db8::1", "10.0.1.1", "fd00:1::1"]) {
    made.map("weir_addresses").delete(address(remote));
  }
  for (const own of [`192.0.2.${n}`, `2001:db8::${n}`, `10.0.${n}.1`, `fd00:${n}::1`]) {
    made.setAddress(own, { endpoint: 0, flags: abi.ADDRESS_HOST });
  }
  for (const remote of [`192.0.2.${other}`, `2001:db8::${other}`, `10.0.${other}.1`, `fd00:${other}::1`]) {
    made.setIpcache(remote, 6, `192.0.2.${other}`);
  }
  made.setIpcache(`10.0.${other}.10`, 1000 + other, `192.0.2.${other}`);
  made.setIpcache(`fd00:${other}::10`, 1000 + other, `192.0.2.${other}`);
  made.addEndpoint({
    id: 1,
    identity: 1000 + n,
    ipv4: `10.0.${n}.10`,
    ipv6: `fd00:${n}::10`,
    mac,
    hostMac,
    ifindex: podIndex,
  });
  using netns = Netns.open(`/run/netns/${host}`);
  netns.enter(() => {
    const attach = (program: string, ifindex: number, direction: "ingress" | "egress") =>
      links.push(attachTcx(made.program(program).fd, ifindex, direction));
    attach("from_endpoint", podIndex, "ingress");
    attach("to_endpoint", podIndex, "egress");
    attach("from_overlay", vxlan, "ingress");
    attach("to_overlay", vxlan, "egress");
    attach("from_netdev", outer, "ingress");
    attach("to_netdev", outer, "egress");
  });
  return made;
}

const SERVER = `import socket
s=socket.socket(socket.AF_INET6); s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,0); s.bind(('::',8080)); s.listen(8)
print('ready',flush=True)
while True:
    c,_=s.accept(); n=0
    while True:
        d=c.recv(1<<16)
        if not d: break
        n+=len(d)
    c.sendall(str(n).encode()); c.close()
`;
const CLIENT = `import socket,sys
c=socket.create_connection((sys.argv[1],8080),timeout=int(sys.argv[3])); data=b'x'*int(sys.argv[2])
c.sendall(data); c.shutdown(socket.SHUT_WR); print(c.recv(100).decode())
`;

for (
  const [what, mode] of [
    ["the tunnel", abi.CONFIG_TUNNEL],
    ["direct routing by the stack", abi.CONFIG_DIRECT],
    ["direct routing past the stack", abi.CONFIG_DIRECT | abi.CONFIG_REDIRECT_NEIGH],
  ] as const
) {
  kernelTest(`two nodes: pods and hosts reach each other by ${what}, with identity and policy`, async () => {
    const links: BpfLink[] = [], nodes: TestNode[] = [];
    const namespaces = ["node1", "node2", "pod1", "pod2"].map(name);
    let server: Deno.ChildProcess | undefined;
    try {
      await must("ip", "netns", "add", namespaces[0]);
      await must("ip", "netns", "add", namespaces[1]);
      await must(
        "ip",
        "link",
        "add",
        "outer",
        "netns",
        namespaces[0],
        "type",
        "veth",
        "peer",
        "name",
        "outer",
        "netns",
        namespaces[1],
      );
      nodes.push(await node(1, mode, links), await node(2, mode, links));
      const ping = async (from: string, to: string, ...more: string[]) => {
        const result = await sh(
          "ip",
          "netns",
          "exec",
          name(from),
          "ping",
          "-c",
          "1",
          "-W",
          "20",
          ...more,
          to,
        );
        const drops = nodes.flatMap((n, i) =>
          n.drainEvents().filter((e) => e.type === abi.EVENT_DROP).map((e) =>
            `node ${i + 1}: ${e.subtype} line ${e.line} file ${e.file}`
          )
        );
        assert.equal(result.code, 0, `${from} -> ${to}: ${result.text} ${drops.join("; ")}`);
      };
      for (
        const [pod1, pod2, host2] of [["10.0.1.10", "10.0.2.10", "10.0.2.1"], [
          "fd00:1::10",
          "fd00:2::10",
          "fd00:2::1",
        ]]
      ) {
        await ping("pod1", pod2);
        await ping("pod1", pod2, "-s", "3000");
        const short = await sh(
          "ip",
          "netns",
          "exec",
          name("pod1"),
          "ping",
          "-c",
          "1",
          "-W",
          "2",
          "-t",
          "1",
          pod2,
        );
        assert.match(short.text, /Time (to live )?exceeded/i);
        await ping("node1", pod1); // host to its own pod
        await ping("pod1", host2); // pod to the other node
        await ping("node1", pod2); // host to the other node's pod
      }
      server = new Deno.Command("ip", {
        args: ["netns", "exec", name("pod2"), "python3", "-c", SERVER],
        stdout: "piped",
        stderr: "null",
      }).spawn();
      await server.stdout.getReader().read();
      const send = (to: string, bytes: number, patienceS = 30) =>
        sh("ip", "netns", "exec", name("pod1"), "python3", "-c", CLIENT, to, `${bytes}`, `${patienceS}`);
      for (const pod2 of ["10.0.2.10", "fd00:2::10"]) {
        assert.equal((await send(pod2, 20 << 20)).text.trim(), `${20 << 20}`);
      }
      // the other node knows who it was
      nodes[1].drainEvents();
      nodes[1].setPolicy(1, {
        enforceIngress: true,
        rules: [{ direction: "ingress", identity: 1001, protocol: TCP, port: 8080 }, {
          direction: "ingress",
          protocol: ICMP,
          port: 8,
        }, { direction: "ingress", protocol: ICMPV6, port: 128 }],
      });
      nodes[1].changeEndpoint(1, { policy: 1 });
      assert.equal((await send("10.0.2.10", 1000)).text.trim(), "1000");
      assert.ok(
        nodes[1].drainEvents().some((e) => e.type === abi.EVENT_POLICY_VERDICT && e.sourceIdentity === 1001),
      );
      nodes[1].setPolicy(2, {
        enforceIngress: true,
        rules: [{ direction: "ingress", identity: 1009, protocol: TCP, port: 8080 }],
      });
      nodes[1].changeEndpoint(1, { policy: 2 });
      assert.notEqual((await send("10.0.2.10", 1000, 2)).code, 0);
      assert.ok(nodes[1].counted(abi.DROP_POLICY) > 0);
    } finally {
      if (server) {
        server.kill("SIGKILL");
        await server.status;
      }
      for (const link of links) link.close();
      for (const n of nodes) n[Symbol.dispose]();
      for (const n of namespaces) await sh("ip", "netns", "delete", n);
    }
  });
}

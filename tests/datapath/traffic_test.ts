/**
 * The programs on real devices: two namespaces on one node, their gateway nowhere but in the programs' answers.
 * BPF_PROG_TEST_RUN does not follow a redirect; this does.
 */
import assert from "node:assert/strict";
import { attachTcx, type BpfLink } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { GATEWAY_V4, GATEWAY_V6, TestNode } from "./node.ts";
import { TCP } from "./packet.ts";

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

/** Two pods behind real devices of a loaded node. */
async function pods(use: (node: TestNode, names: string[]) => Promise<void>): Promise<void> {
  const names = ["a", "b"].map((letter) => `wt-bpf-${Deno.pid}-${letter}`);
  using node = await TestNode.open();
  const links: BpfLink[] = [];
  try {
    for (const [i, name] of names.entries()) {
      const host = `wtb${Deno.pid % 100000}${i}`;
      const mac = `02:00:00:00:01:0${i + 1}`, hostMac = `02:00:00:00:02:0${i + 1}`;
      await must("ip", "netns", "add", name);
      await must(
        "ip",
        "link",
        "add",
        host,
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
        name,
      );
      await must("ip", "link", "set", host, "up");
      const inside = (...args: string[]) => must("ip", "-n", name, ...args);
      await inside("link", "set", "lo", "up");
      await inside("link", "set", "eth0", "up");
      await inside("address", "add", `10.0.1.1${i}/32`, "dev", "eth0");
      await inside("address", "add", `fd00:1::1${i}/128`, "dev", "eth0", "nodad");
      await inside("route", "add", GATEWAY_V4, "dev", "eth0", "scope", "link");
      await inside("route", "add", "default", "via", GATEWAY_V4);
      await inside("route", "add", GATEWAY_V6, "dev", "eth0");
      await inside("route", "add", "default", "via", GATEWAY_V6);
      const ifindex = Number(Deno.readTextFileSync(`/sys/class/net/${host}/ifindex`));
      node.addEndpoint({
        id: i + 1,
        identity: 1000 + i,
        ipv4: `10.0.1.1${i}`,
        ipv6: `fd00:1::1${i}`,
        mac,
        hostMac,
        ifindex,
      });
      links.push(attachTcx(node.program("from_endpoint").fd, ifindex, "ingress"));
      links.push(attachTcx(node.program("to_endpoint").fd, ifindex, "egress"));
    }
    await use(node, names);
  } finally {
    for (const link of links) link.close();
    for (const name of names) await sh("ip", "netns", "delete", name);
  }
}

const SERVER = `import socket,sys
s=socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,0); s.bind(('::',8080)); s.listen(8)
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
c=socket.create_connection((sys.argv[1],8080),timeout=30); data=b'x'*int(sys.argv[2])
c.sendall(data); c.shutdown(socket.SHUT_WR); print(c.recv(100).decode())
`;

kernelTest(
  "pods on one node reach each other over real devices: ARP, ND, ping, large packets, TCP with offloads",
  async () => {
    await pods(async (node, [a, b]) => {
      for (const target of ["10.0.1.11", "fd00:1::11"]) {
        const ping = await sh("ip", "netns", "exec", a, "ping", "-c", "2", "-i", "0.2", "-W", "20", target);
        assert.equal(
          ping.code,
          0,
          ping.text +
            JSON.stringify(
              node.drainEvents().filter((e) => e.type === abi.EVENT_DROP),
              (_, v) => typeof v === "bigint" ? `${v}` : v,
            ),
        );
        // fragments: 4000 bytes through a device of 1500
        const large = await sh("ip", "netns", "exec", a, "ping", "-c", "1", "-s", "4000", "-W", "20", target);
        assert.equal(large.code, 0, large.text);
      }
      const server = new Deno.Command("ip", {
        args: ["netns", "exec", b, "python3", "-c", SERVER],
        stdout: "piped",
        stderr: "null",
      }).spawn();
      try {
        await server.stdout.getReader().read();
        for (const target of ["10.0.1.11", "fd00:1::11"]) {
          const megabytes = 50 << 20;
          const sent = await sh("ip", "netns", "exec", a, "python3", "-c", CLIENT, target, String(megabytes));
          assert.equal(sent.text.trim(), String(megabytes));
        }
        const bytes = node.endpointCounters(2).rxBytes;
        assert.ok(bytes > 100n << 20n, `${bytes}`);
        // segments larger than the wire went through as one packet
        assert.ok(
          bytes / node.endpointCounters(2).rxPackets > 3000n,
          `${node.endpointCounters(2).rxPackets} packets`,
        );
        node.setPolicy(1, {
          enforceIngress: true,
          rules: [{ direction: "ingress", identity: 999, protocol: TCP, port: 8080 }],
        });
        node.changeEndpoint(2, { policy: 1 });
        const refused = await sh(
          "ip",
          "netns",
          "exec",
          a,
          "python3",
          "-c",
          CLIENT.replace("timeout=30", "timeout=1"),
          "10.0.1.11",
          "1",
        );
        assert.notEqual(refused.code, 0);
        assert.ok(node.counted(abi.DROP_POLICY) > 0);
      } finally {
        server.kill("SIGKILL");
        await server.status;
      }
    });
  },
);

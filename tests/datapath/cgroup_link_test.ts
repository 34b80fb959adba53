/** Sockets of a cgroup: what stays on the host is the host's, groups are groups, and raw sockets speak to their link only. */
import assert from "node:assert/strict";
import { attachCgroup, AttachType } from "@weir/loader";
import * as abi from "@weir/maps";
import { cgroupRootHere } from "../cgroup_root.ts";
import { must, sh } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { TestNode } from "./node.ts";

/** A cgroup is busy until the kernel has buried the last of its processes. */
async function removeCgroup(path: string): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return Deno.removeSync(path);
    } catch (error) {
      if (tries === 100) throw error;
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

const SAY = `import socket,sys
for to in sys.argv[1:]:
    s=socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)
    try: s.sendto(b'x',(to,7777)); print(to,'sent')
    except OSError as e: print(to,e.errno)
`;
/** type, hop limit, destination, bytes behind the first 8. */
const ND = `import socket,sys
s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,socket.IPPROTO_ICMPV6); kind,limit,to=int(sys.argv[1]),int(sys.argv[2]),sys.argv[3]
s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_UNICAST_HOPS,limit); s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_MULTICAST_HOPS,limit)
try: s.sendto(bytes([kind,0,0,0,0,0,0,0])+bytes.fromhex(sys.argv[4]),(to,0,0,socket.if_nametoindex('d0'))); print('sent')
except OSError as e: print(e.errno)
`;

kernelTest("a cgroup's sockets: local addresses are the host's, whoever knows them", async () => {
  const root = cgroupRootHere();
  if (!root) {
    console.log("SKIP no cgroup2 mounted");
    return;
  }
  const path = `${root}/wt-bpf-${Deno.pid}-link`, netns = `wt-ns-${Deno.pid}-link`;
  const links = [];
  using node = await TestNode.open();
  Deno.mkdirSync(path);
  try {
    await must("ip", "netns", "add", netns);
    await must("ip", "-n", netns, "link", "set", "lo", "up");
    await must("ip", "-n", netns, "link", "add", "d0", "type", "veth", "peer", "name", "d1");
    for (const device of ["d0", "d1"]) await must("ip", "-n", netns, "link", "set", device, "up");
    await must("ip", "-n", netns, "address", "add", "203.0.113.5/24", "dev", "d0");
    await must("ip", "-n", netns, "address", "add", "2001:db8:77::1/64", "dev", "d0", "nodad");
    await must("ip", "-n", netns, "route", "add", "default", "via", "203.0.113.9");
    node.addEndpoint({
      id: 5,
      identity: 3000,
      ifindex: 0,
      flags: abi.ENDPOINT_CGROUP,
      cgroupId: BigInt(Deno.statSync(path).ino!),
    });
    links.push(attachCgroup(node.program("cgroup_egress").fd, path, AttachType.CGROUP_INET_EGRESS));
    links.push(attachCgroup(node.program("cgroup_ingress").fd, path, AttachType.CGROUP_INET_INGRESS));
    const run = async (program: string, ...args: string[]) => {
      node.drainEvents();
      const line = `echo $$ > ${path}/cgroup.procs; exec ip netns exec ${netns} python3 -c "$0" "$@"`;
      const { code, text } = await sh("sh", "-c", line, program, ...args);
      assert.equal(code, 0, text);
      return { text, events: node.drainEvents() };
    };
    // "The world" may be reached, and nobody has told the maps of any address.
    node.setPolicy(1, {
      enforceEgress: true,
      rules: [9, 10].map((identity) => ({ direction: "egress", identity })),
    });
    node.changeEndpoint(5, { policy: 1 });
    const cases: [string, number][] = [
      ["203.0.113.5", abi.IDENTITY_HOST],
      ["2001:db8:77::1", abi.IDENTITY_HOST],
      ["127.0.0.1", abi.IDENTITY_HOST],
      ["255.255.255.255", abi.IDENTITY_BROADCAST],
      ["224.0.0.1", abi.IDENTITY_MULTICAST],
    ];
    for (const [to, identity] of cases) {
      const { text, events } = await run(SAY, to);
      assert.equal(text.trim(), `${to} 1`); // EPERM
      assert.deepEqual(
        events.map((e) => [e.subtype, e.destinationIdentity]),
        [[abi.DROP_POLICY, identity]],
        to,
      );
    }
    assert.equal((await run(SAY, "198.51.100.7")).text.trim(), "198.51.100.7 sent");
    // Raw sockets: a solicitation for the link, and nothing that looks like one.
    const target = "20010db8007700000000000000000009", own = "0101020000000101";
    const nd = async (...args: string[]) => {
      const { text, events } = await run(ND, ...args);
      return [text.trim(), ...events.filter((e) => e.type === abi.EVENT_DROP).map((e) => e.subtype)];
    };
    assert.deepEqual(await nd("135", "255", "ff02::1:ff00:9", target + own), ["sent"]);
    const F = abi.DROP_FORBIDDEN_ICMP6;
    assert.deepEqual(await nd("135", "64", "ff02::1:ff00:9", target + own), ["1", F]);
    assert.deepEqual(await nd("135", "255", "2001:db8:77::9", target + own), ["1", F]);
    assert.deepEqual(await nd("135", "255", "ff02::1:ff00:9", target + own + "41".repeat(800)), ["1", F]);
    assert.deepEqual(await nd("143", "1", "ff02::16", "41".repeat(800)), ["1", F]);
    assert.deepEqual(await nd("136", "255", "2001:db8:77::9", target), ["1", F]);
  } finally {
    for (const link of links) link.close();
    await sh("ip", "netns", "delete", netns);
    await removeCgroup(path);
  }
});

/** Endpoints that are the sockets of a cgroup: policy on real sockets of a real process. */
import assert from "node:assert/strict";
import { attachCgroup, AttachType } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { TestNode } from "./node.ts";
import { TCP, UDP } from "./packet.ts";

/** The unified hierarchy, wherever this machine has it. */
function cgroupRoot(): string | undefined {
  return Deno.readTextFileSync("/proc/mounts").split("\n").map((line) => line.split(" "))
    .find((fields) => fields[2] === "cgroup2")?.[1];
}

const PROGRAM = `import socket,sys
s=socket.socket(); s.settimeout(1)
try:
    s.connect(('127.0.0.1',int(sys.argv[1]))); s.sendall(b'hello'); print(s.recv(9).decode())
except OSError as e:
    print('refused')
`;

kernelTest(
  "cgroup programs apply an endpoint's policy to the sockets of its processes, children included",
  async () => {
    const root = cgroupRoot();
    if (!root) {
      console.log("SKIP no cgroup2 mounted");
      return;
    }
    const path = `${root}/wt-bpf-${Deno.pid}`, child = `${path}/child`;
    using node = await TestNode.open();
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const port = (listener.addr as Deno.NetAddr).port;
    const serving = (async () => {
      for await (const connection of listener) {
        const buffer = new Uint8Array(16);
        const n = await connection.read(buffer).catch(() => null);
        if (n) await connection.write(buffer.subarray(0, n)).catch(() => 0);
        connection.close();
      }
    })();
    Deno.mkdirSync(child, { recursive: true });
    const links = [];
    try {
      const id = Deno.statSync(path).ino!;
      node.addEndpoint({
        id: 5,
        identity: 3000,
        ifindex: 0,
        flags: abi.ENDPOINT_CGROUP,
        cgroupId: BigInt(id),
      });
      links.push(attachCgroup(node.program("cgroup_egress").fd, path, AttachType.CGROUP_INET_EGRESS));
      links.push(attachCgroup(node.program("cgroup_ingress").fd, path, AttachType.CGROUP_INET_INGRESS));
      const connect = async () => {
        const { stdout } = await new Deno.Command("sh", {
          args: ["-c", `echo $$ > ${child}/cgroup.procs && exec python3 -c "$0" ${port}`, PROGRAM],
          stdout: "piped",
        }).output();
        return new TextDecoder().decode(stdout).trim();
      };
      assert.equal(await connect(), "hello");
      const verdict = node.drainEvents().find((e) => e.type === abi.EVENT_POLICY_VERDICT)!;
      assert.deepEqual([verdict.sourceEndpoint, verdict.sourceIdentity, verdict.destinationIdentity], [
        5,
        3000,
        1,
      ]);
      assert.ok(verdict.flags & abi.EVENT_L3);
      assert.equal(verdict.payload[0] >> 4, 4);
      node.setPolicy(1, {
        enforceEgress: true,
        egressCookie: 44,
        rules: [{ direction: "egress", protocol: UDP, port: 53 }],
      });
      node.changeEndpoint(5, { policy: 1 });
      assert.equal(await connect(), "refused");
      const drop = node.drainEvents().find((e) => e.type === abi.EVENT_DROP)!;
      assert.deepEqual([drop.subtype, drop.egressCookie, drop.hookEndpoint], [abi.DROP_POLICY, 44, 5]);
      node.setPolicy(2, {
        enforceEgress: true,
        rules: [{ direction: "egress", identity: 1, protocol: TCP, port }],
      });
      node.changeEndpoint(5, { policy: 2 });
      assert.equal(await connect(), "hello");
      assert.ok(node.endpointCounters(5).txPackets > 0n);
    } finally {
      for (const link of links) link.close();
      listener.close();
      await serving.catch(() => {});
      Deno.removeSync(child);
      Deno.removeSync(path);
    }
  },
);

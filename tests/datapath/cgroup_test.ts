/** Endpoints that are the sockets of a cgroup: policy on real sockets of a real process. */
import assert from "node:assert/strict";
import { attachCgroup, AttachType } from "@weir/loader";
import * as abi from "@weir/maps";
import { cgroupRootHere } from "../cgroup_root.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { TestNode } from "./node.ts";
import { TCP, UDP } from "./packet.ts";

const PROGRAM = `import socket,sys
s=socket.socket(); s.settimeout(1)
try:
    s.connect(('127.0.0.1',int(sys.argv[1]))); s.sendall(b'hello'); print(s.recv(9).decode())
except OSError as e:
    print('refused')
`;

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

const SERVER = `import socket
s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(8); print(s.getsockname()[1],flush=True)
while True:
    c,_=s.accept(); c.settimeout(1)
    try:
        c.sendall(c.recv(9))
    except OSError:
        pass
    c.close()
`;

kernelTest(
  "cgroup programs apply an endpoint's policy to the sockets of its processes, children included",
  async () => {
    const root = cgroupRootHere();
    if (!root) {
      console.log("SKIP no cgroup2 mounted");
      return;
    }
    const path = `${root}/wt-bpf-${Deno.pid}`, child = `${path}/child`, second = `${path}-b`;
    let server: Deno.ChildProcess | undefined;
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
    Deno.mkdirSync(second);
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
      const connect = async (to = port) => {
        const { stdout } = await new Deno.Command("sh", {
          args: ["-c", `echo $$ > ${child}/cgroup.procs && exec python3 -c "$0" ${to}`, PROGRAM],
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
      // a second one serves: it is the host to the first, which is 3000 to it
      node.addEndpoint({
        id: 6,
        identity: 3001,
        ifindex: 0,
        flags: abi.ENDPOINT_CGROUP,
        cgroupId: BigInt(Deno.statSync(second).ino!),
      });
      links.push(attachCgroup(node.program("cgroup_egress").fd, second, AttachType.CGROUP_INET_EGRESS));
      links.push(attachCgroup(node.program("cgroup_ingress").fd, second, AttachType.CGROUP_INET_INGRESS));
      server = new Deno.Command("sh", {
        args: ["-c", `echo $$ > ${second}/cgroup.procs && exec python3 -uc "$0"`, SERVER],
        stdout: "piped",
      }).spawn();
      const serverPort = Number(
        new TextDecoder().decode((await server.stdout.getReader().read()).value).trim(),
      );
      for (
        const [slot, identity, answer] of [[3, 3000, "hello"], [4, 3009, "refused"], [
          3,
          3000,
          "hello",
        ]] as const
      ) {
        node.setPolicy(slot, {
          enforceIngress: true,
          rules: [{ direction: "ingress", identity, protocol: TCP }],
        });
        node.setPolicy(5, {
          enforceEgress: true,
          rules: [{ direction: "egress", identity: 1, protocol: TCP, port: serverPort }],
        });
        node.changeEndpoint(5, { policy: 5 });
        node.changeEndpoint(6, { policy: slot });
        assert.equal(await connect(serverPort), answer);
      }
    } finally {
      if (server) {
        server.kill("SIGKILL");
        await server.status;
      }
      for (const link of links) link.close();
      listener.close();
      await serving.catch(() => {});
      for (const made of [child, path, second]) await removeCgroup(made);
    }
  },
);

/**
 * A pod's address that is given to another at once: flows, pairs of translation and sockets of those who spoke to the one before do
 * not reach the one after as if nothing had happened.
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster, must, type Place, sh, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import type { TestNode } from "./node.ts";
import { address } from "./packet.ts";

const script = (name: string) => new URL(`testdata/${name}`, import.meta.url).pathname;
const POD3 = ["10.0.1.11", "fd00:1::11"];

/** A process that does something for each line that it gets, and says a line. */
class Worker {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #read = "";
  constructor(made: Cluster, place: Place, ...args: string[]) {
    this.#process = new Deno.Command("ip", {
      args: ["netns", "exec", made.netns(place), "python3", "-u", ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }
  async line(): Promise<string> {
    while (!this.#read.includes("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) throw new Error("The worker has ended");
      this.#read += value;
    }
    const [line, ...rest] = this.#read.split("\n");
    this.#read = rest.join("\n");
    return line;
  }
  async again(): Promise<string> {
    await this.#writer.write(new TextEncoder().encode("\n"));
    return await this.line();
  }
  async close(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#writer.close().catch(() => {});
    await this.#reader.cancel();
    await this.#process.status;
  }
}

/** The node forgets a pod, in the datapath service's order (datapath/service/endpoints/store.ts). */
async function forget(made: Cluster, node: TestNode): Promise<void> {
  await must("ip", "-n", made.netns("node1"), "link", "delete", "pod3");
  await sh("ip", "netns", "delete", made.netns("pod3"));
  for (const own of POD3) node.map("weir_addresses").delete(address(own));
  node.changeEndpoint(2, {
    ifindex: 0,
    identity: 0,
    policy: 0,
    flags: 0,
    ipv4Be: 0,
    ipv6: new Uint8Array(16),
  });
  for (const own of POD3) node.revise(address(own), 128);
  node.gc(abi.GC_ENDPOINT, { endpoint: 2 });
  for (const own of POD3) node.gc(abi.GC_ADDRESS, { address: own });
}
/** What workers say that do it again at once. */
const all = (workers: Worker[]) => Promise.all(workers.map((worker) => worker.again()));
const received = (node: TestNode) => Number(node.endpointCounters(2).rxPackets);

/** The world keeps speaking to who spoke to it. */
const LATE = `import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('${WORLD[0]}',9099)); print('ready')
_,peer=s.recvfrom(100); print(*peer)
for _ in sys.stdin: s.sendto(b'late',peer); print('sent')
`;

kernelTest("a pod's address that another gets at once: nobody's live flow goes on to that", async () => {
  const made = await Cluster.open(abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4);
  const workers: Worker[] = [];
  try {
    const [node, far] = made.nodes;
    await made.addPod();
    for (const own of POD3) far.setIpcache(own, 1003, "192.0.2.1");
    // Both ends' rules name the first pod; nobody may speak to the second.
    for (const one of [node, far]) {
      one.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress", identity: 1003 }] });
      one.changeEndpoint(1, { policy: 1 });
    }
    await made.serve("pod3", 8080);
    const late = new Worker(made, "outside", "-c", LATE);
    workers.push(late);
    assert.equal(await late.line(), "ready");
    for (const place of ["pod1", "pod2", "node1"] as const) {
      for (const kind of ["tcp", "udp"]) {
        const worker = new Worker(made, place, script("hold.py"), kind, POD3[0], "8080", "2");
        workers.push(worker);
        assert.equal(await worker.line(), "2", `${place} ${kind} ${made.drops()}`);
        assert.equal(await worker.again(), "2", `${place} ${kind} ${made.drops()}`);
      }
    }
    const say = `import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.sendto(b'x',('${
      WORLD[0]
    }',9099))`;
    assert.equal((await made.in("pod3", "python3", "-c", say)).code, 0);
    assert.match(await late.line(), /^192\.0\.2\.1 \d+$/);
    const first = received(node);
    await late.again();
    await until("the world's answer comes", () => received(node) > first, 20);
    assert.equal(received(node), first + 1, "the world's answer finds the first pod");

    await forget(made, node);
    assert.deepEqual(node.flows().filter(({ entry }) => entry.ends.some((end) => end.endpoint === 2)), []);
    await made.addPod();
    node.changeEndpoint(2, { identity: 1009 });
    node.setPolicy(2, {
      enforceIngress: true,
      rules: [{ direction: "ingress", identity: 1002, port: 9, protocol: 6 }],
    });
    node.changeEndpoint(2, { policy: 2 });
    await made.serve("pod3", 8080);
    node.drainEvents();
    const before = received(node);
    await late.again();
    // pod1: its own rule; pod2, whose node has not heard yet: the new pod's rule.
    const [fromPod1, fromPod2] = [workers.slice(1, 3), workers.slice(3, 5)];
    assert.deepEqual(await all([...fromPod1, ...fromPod2]), ["0", "0", "0", "0"]);
    assert.equal(received(node), before, `nothing came: ${made.drops()}`);
    assert.ok(node.counted(abi.DROP_POLICY) > 0);
    // then it has
    for (const own of POD3) far.setIpcache(own, 1009, "192.0.2.1");
    const refused = far.counted(abi.DROP_POLICY);
    assert.deepEqual(await all(fromPod2), ["0", "0"]);
    assert.ok(far.counted(abi.DROP_POLICY) > refused);
    assert.equal(received(node), before);
    // The host reaches its pods always: TCP of before hears that there is no such connection.
    assert.equal(await workers[5].again(), "0");
    assert.equal(await workers[6].again(), "2", "a datagram has no past");
  } finally {
    for (const worker of workers) await worker.close();
    await made.close();
  }
});

kernelTest("a denial of the pod before is not the next one's, nor what it was allowed", async () => {
  const made = await Cluster.open(abi.CONFIG_TUNNEL);
  try {
    const [node] = made.nodes;
    await made.serve("pod1", 8080);
    node.setPolicy(1, { enforceIngress: true, rules: [{ direction: "ingress", identity: 1009 }] });
    node.changeEndpoint(1, { policy: 1 });
    await made.addPod();
    const ask = (denied = false) => made.ask("pod3", "udp", "10.0.1.10", 8080, { source: 5555, denied });
    assert.ok(!(await ask(true)).ok);
    await forget(made, node);
    await made.addPod();
    node.changeEndpoint(2, { identity: 1009 });
    const { ok, text } = await ask();
    assert.ok(ok, text);
    await forget(made, node);
    await made.addPod();
    assert.ok(!(await ask(true)).ok, "the first one's identity again");
  } finally {
    await made.close();
  }
});

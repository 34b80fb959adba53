import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { BpfMap, closeFd, openPin, pin } from "@weir/loader";
import { compile } from "../bpf/build.ts";
import { nodeTest, run, type TestNode } from "./testing.ts";

const PROGRAMS = new URL("../bpf/", import.meta.url).pathname;

/** Serves a numbered line every 5 ms on one connection; the client says nothing after its first byte. */
const SERVER = `
import socket, time
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", 80)); s.listen(64)
conns, n = [], 0
s.settimeout(0.005)
while True:
    try: conns.append(s.accept()[0])
    except TimeoutError: pass
    n += 1
    for c in conns: c.send(b"%d\\n" % n)
`;
const CLIENT = `
import socket, sys
c = socket.create_connection((sys.argv[1], 80)); c.settimeout(300)
last = 0
for line in c.makefile():
    n = int(line)
    if last and n != last + 1: print("gap", last, n, flush=True)
    last = n
    print(n, flush=True)
`;

/** Always the same place, so that the verifier has judged them before. */
const GROWN = new URL("../../.build/grown", import.meta.url).pathname;

/** The programs of a version whose conntrack entries have more at their end. @returns path of the object */
async function grownPrograms(): Promise<string> {
  const directory = GROWN;
  await Deno.mkdir(directory, { recursive: true });
  await run("cp", "-rT", PROGRAMS, `${directory}/bpf`);
  const abi = `${directory}/bpf/lib/abi.h`;
  const text = await Deno.readTextFile(abi);
  const size = Number(/_Static_assert\(sizeof\(struct ct_entry\) == (\d+)/.exec(text)![1]);
  const grown = text
    .replace(`sizeof(struct ct_entry) == ${size}`, `sizeof(struct ct_entry) == ${size + 32}`)
    .replace(/(struct ct_entry \{[^}]*)\}/, "$1\t__u64 of_a_later_version[4];\n}");
  assert.notEqual(grown, text);
  await Deno.writeTextFile(abi, grown);
  await compile(`${directory}/bpf/weir.c`, `${directory}/weir.o`, { inputs: [] });
  return `${directory}/weir.o`;
}

/** Lines that a connection of a pod receives. */
class Stream implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  said = "";

  constructor(netns: string, ...command: string[]) {
    this.#child = new Deno.Command("ip", {
      args: ["netns", "exec", netns, "python3", "-u", "-c", ...command],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) this.said += text;
  }

  async goesOn(when: string): Promise<void> {
    const { length } = this.said;
    await until(`a connection goes on ${when}`, () => this.said.length > length + 40);
    assert.doesNotMatch(this.said, /gap/);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#reading;
  }
}

/** Two pods: b answers on port 80, and nobody may open anything towards a. */
async function strictPods(node: TestNode): Promise<{ a: string; give: () => Promise<void>; b: string }> {
  const a = await node.pod("a"), b = await node.pod("b");
  const give = async () => {
    await node.configure();
    const closed = { policyRevision: 1, enforceIngress: true, ingressDefaultCookie: 9 };
    await node.request("PUT", "/v1/policies/closed", closed);
    // The server first: what it sends is judged by the new programs while the client's device may have the old ones.
    await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b));
    await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a, { policy: "closed" }));
  };
  await give();
  await node.request("POST", "/v1/sync", {});
  return { a, b, give };
}

async function drops(node: TestNode): Promise<number> {
  const { rows = [] } = await node.request("GET", "/v1/maps/metrics");
  return rows.map(({ fields }: { fields: Record<string, string> }) => fields)
    .filter(({ reason }: { reason: string }) => Number(reason) >= 130)
    .reduce((sum: number, { packets }: { packets: string }) => sum + Number(packets), 0);
}

function linesOf(log: string, text: string) {
  return log.split("\n").filter((line) => line.includes(text)).map((line) => JSON.parse(line));
}

nodeTest("conntrack entries that have grown are taken over while a TCP stream runs", async (node) => {
  const object = await grownPrograms();
  const { a, b, give } = await strictPods(node);
  await using _server = new Stream(b, SERVER);
  await until(
    "the server listens",
    async () => /:80\b/.test(await node.exec("ip", "netns", "exec", b, "ss", "-ltn")),
  );
  await using stream = new Stream(a, CLIENT, "fd44::b");
  await stream.goesOn("before");
  const before = await node.request("GET", "/v1/maps/ct");
  const dropped = await drops(node);
  await node.stop("SIGKILL");
  const log = node.log.length;
  await node.start("--object", object);
  const [loaded] = linesOf(node.log.slice(log), "Programs loaded");
  assert.deepEqual(loaded.mapsRebuilt.sort(), ["weir_ct_claims", "weir_ct_new"]);
  assert.ok(loaded.mapsCarried.weir_ct.carried >= before.rows.length, JSON.stringify(loaded.mapsCarried));
  assert.equal(loaded.mapsCarried.weir_ct.left, 0);
  await stream.goesOn("before the new process is told anything");
  await give();
  await stream.goesOn("when its endpoints were given");
  await node.request("POST", "/v1/sync", {});
  await stream.goesOn("in the end");
  assert.equal(await drops(node) - dropped, 0, "no packet was refused");
  // The way back: the smaller map cannot take what the larger one holds, and traffic begins anew without an error.
  await node.stop();
  await node.start();
  assert.ok(linesOf(node.log, "Programs loaded").at(-1)!.mapsRebuilt.includes("weir_ct"));
});

nodeTest(
  "connections of the time between are carried over too, where programs are replaced one by one",
  async (node) => {
    const object = await grownPrograms();
    const { a, b, give } = await strictPods(node);
    await using _server = new Stream(b, SERVER);
    await until(
      "the server listens",
      async () => /:80\b/.test(await node.exec("ip", "netns", "exec", b, "ss", "-ltn")),
    );
    await node.stop();
    // A map that is made anew: the new programs may not run before they are told what was in it.
    const path = `/sys/fs/bpf/weir/${node.instance}/maps`;
    const other = openPin(`${path}/weir_lost`)!;
    pin(other, `${path}/weir_vlans`);
    closeFd(other);
    await node.start("--object", object);
    await using stream = new Stream(a, CLIENT, "10.44.0.11");
    await stream.goesOn("by the old programs");
    using ct = new BpfMap(openPin(`${path}/weir_ct`)!);
    const entries = ct.keys().length;
    await give();
    await node.request("POST", "/v1/sync", {});
    await stream.goesOn("by the new programs");
    assert.ok(ct.keys().length > entries);
  },
);

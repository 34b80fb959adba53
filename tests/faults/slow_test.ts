/**
 * A process that is slow, so slow that it stands still (SIGSTOP), under traffic and under a flood: what runs goes on, what is
 * denied stays denied, nobody pays for the flood but who makes it, and with SIGCONT everything is caught up with.
 * @module
 */
import assert from "node:assert/strict";
import { PodStream } from "../e2e/stream.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";

const lab = new Lab(`slow${Deno.pid}`);
const server = new URL("../e2e/testdata/server.py", import.meta.url).pathname;

const pod = (name: string, node: number, command: string) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: default, labels: { app: ${
    name.split("-")[0]
  } } }\n` +
  `spec: { nodeName: node-${node}, containers: [{ name: main, command: [${command}] }] }\n`;
const clients = (...apps: string[]) =>
  "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: clients, namespace: default }\n" +
  "spec: { endpointSelector: { matchLabels: { app: server } }, ingress: [{ fromEndpoints: [" +
  apps.map((app) => `{ matchLabels: { app: ${app} } }`).join(", ") + "] }] }\n";
const MANIFESTS = [
  pod("server-1", 1, `python3, "${server}", "80/TCP"`),
  pod("server-2", 2, `python3, "${server}", "80/TCP"`),
  pod("client-1", 1, "sleep, infinity"),
  pod("stranger-1", 1, "sleep, infinity"),
  pod("noisy-1", 1, "sleep, infinity"),
  clients("client"),
].join("---\n");

const traffic = [
  "from: client-1, to: server-1, port: 80, expect: allow",
  "from: client-1, to: server-2, port: 80, expect: allow",
  "from: stranger-1, to: server-1, port: 80, expect: deny",
  "from: stranger-1, to: server-2, port: 80, expect: deny",
];

async function pidOf(name: string, node: string): Promise<number> {
  const parsed = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  const labs: { name: string; processes: { name: string; node: string; pid: number }[] }[] =
    Array.isArray(parsed) ? parsed : parsed.items;
  const row = labs.find((l) => l.name === lab.name)!.processes.find((p) =>
    p.name === name && p.node === node
  );
  assert.ok(row, `lab list names a ${name} of ${node}`);
  return row.pid;
}

/** Stops a process until the block ends. */
function stopped(pid: number): Disposable {
  Deno.kill(pid, "SIGSTOP");
  return { [Symbol.dispose]: () => Deno.kill(pid, "SIGCONT") };
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 150; tries++) {
    if (await condition().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`${what}: not within 30 seconds of trying`);
}

const addressOf = async (name: string, node: string): Promise<string> =>
  JSON.parse(await lab.ok(["endpoint", "get", `default/${name}`, "--node", node, "-o", "json"])).status.ipv4;

/** Datagrams from the noisy pod that policy denies, each an event. */
async function flood(address: string, count: number): Promise<void> {
  await lab.ok([
    "lab",
    "exec",
    "default/noisy-1",
    "--",
    "python3",
    "-c",
    `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
for i in range(${count}): s.sendto(b'x',('${address}',1000+i%60000))`,
  ]);
}

interface Holder {
  holder: string;
  held: number;
  refused: number;
  pressing: boolean;
}
async function topOf(table: string): Promise<Map<string, Holder>> {
  const [{ holders }] = JSON.parse(
    await lab.ok(["top", table, "--node", "node-1", "--limit", "1000", "-o", "json"]),
  );
  return new Map(
    holders.filter((h: { towards: string }) => h.towards === "").map((h: Holder) => [h.holder, h]),
  );
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, MANIFESTS);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name:
    "the datapath stands still while a pod floods: others' traffic and events are whole, and the flood has a name",
  ignore: !canRun,
  async fn() {
    const address = await addressOf("server-1", "node-1"), far = await addressOf("server-2", "node-2");
    await using running = new PodStream(lab, "default/client-1", far, 80);
    await until("the stream runs", () => Promise.resolve(running.count > 5));
    const told = observeLosses();
    const before = (await topOf("events")).get("default/stranger-1")?.held ?? 0;
    {
      using _ = stopped(await pidOf("datapath", "node-1"));
      await flood(address, 60_000);
      await lab.expect(traffic);
      const answered = await lab.weir(["status"]);
      assert.match(answered.out, /node-1 +datapath .*does not answer/);
      assert.match(answered.out, /node-2: gate /, "the rest of the lab is told of");
      assert.equal(answered.code, 1);
    }
    await until(
      "weir status names who floods",
      async () =>
        /node-1: DEGRADED: default\/noisy-1 fills events: \d+ events made, \d+ lost/.test(
          (await lab.weir(["status"])).out,
        ),
    );
    const { out, code } = await lab.weir(["status"]);
    assert.match(out, /Weir is ready, and DEGRADED/);
    assert.equal(code, 0, "what is asked for is done");
    const top = await topOf("events");
    const noisy = top.get("default/noisy-1")!, stranger = top.get("default/stranger-1")!;
    assert.ok(noisy.refused > 20_000 && noisy.pressing, JSON.stringify(noisy));
    assert.equal(noisy.held + noisy.refused >= 60_000, true, "every event is counted");
    assert.equal(stranger.refused, 0);
    assert.ok(stranger.held > before, "its denials were seen");
    assert.equal(top.get("default/client-1")?.refused ?? 0, 0);
    const table = await lab.ok(["top", "events", "--node", "node-1"]);
    assert.match(
      table,
      /^NODE +HOLDER +TOWARDS +EVENTS MADE +SHARE +LOST +STATE\nnode-1 +default\/noisy-1 .*over its share/,
    );
    await lab.flow(
      "the stranger's denial while the datapath stood still",
      (flow) => flow.verdict === "DROPPED" && flow.source?.pod_name === "stranger-1",
      "--from-pod",
      "default/stranger-1",
    );
    assert.match(await told, /EVENTS LOST: PERF_EVENT_RING_BUFFER \d+ of default\/noisy-1/);
    assert.equal(running.stopped, false, `the stream paused: ...${running.said.slice(-60)}`);
    await lab.expect(traffic);
  },
});

/** The first line of `weir observe -f` that says whose events were lost. */
async function observeLosses(): Promise<string> {
  const weir = new URL("../../scripts/weir", import.meta.url).pathname;
  const child = new Deno.Command(weir, {
    args: ["--lab", lab.name, "observe", "-f", "--node", "node-1", "--to-pod", "default/nobody"],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const end = setTimeout(() => child.kill("SIGTERM"), 60_000);
  let said = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    said += chunk;
    if (/of default\/noisy-1/.test(said)) break;
  }
  clearTimeout(end);
  try {
    child.kill("SIGTERM");
  } catch { /* it has ended */ }
  await child.status;
  return said;
}

/** Connections out of a pod, one after another: `made` has a "y" or an "n" for each. */
class Attempts {
  made = "";
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  constructor(name: string, address: string) {
    const program = `import socket,time
while True:
    try:
        socket.create_connection(('${address}',80),0.5).close(); print('y',end='',flush=True)
    except OSError: print('n',end='',flush=True)
    time.sleep(0.1)`;
    this.#child = new Deno.Command(new URL("../../scripts/weir", import.meta.url).pathname, {
      args: ["--lab", lab.name, "lab", "exec", `default/${name}`, "--", "python3", "-c", program],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) this.made += chunk;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await this.#child.status;
    await this.#reading;
  }
}

Deno.test({
  name:
    "the endpoint manager stands still: what runs goes on, and a pod and a policy of meanwhile come with SIGCONT",
  ignore: !canRun,
  async fn() {
    const far = await addressOf("server-2", "node-2");
    await using running = new PodStream(lab, "default/client-1", far, 80);
    await until("the stream runs", () => Promise.resolve(running.count > 5));
    // Begun before: `weir lab test` and `lab exec` ask the endpoint manager where pods are.
    const near = await addressOf("server-1", "node-1");
    await using allowed = new Attempts("client-1", near), denied = new Attempts("stranger-1", near);
    await until("attempts run", () => Promise.resolve(allowed.made.length > 2 && denied.made.length > 2));
    let pending: Promise<{ code: number }>;
    {
      using _ = stopped(await pidOf("endpoint-manager", "node-1"));
      const status = await lab.weir(["status"]);
      assert.match(status.out, /node-1 +endpoint-manager .*does not answer/);
      assert.equal(status.code, 1);
      await lab.ok(["policy", "apply", "-f", "-"], clients("client", "late"));
      pending = lab.weir(["lab", "apply", "-f", "-"], pod("late-1", 1, "sleep, infinity"));
      const before = running.count, tried = allowed.made.length, refused = denied.made.length;
      await until("the stream and the attempts go on", () =>
        Promise.resolve(
          running.count > before + 10 && allowed.made.length > tried + 5 && denied.made.length > refused + 5,
        ));
    }
    assert.match(allowed.made, /^y+$/, "who may always could");
    assert.match(denied.made, /^n+$/, "who may not never could");
    await pending;
    await until(
      "the pod of meanwhile is ready",
      async () =>
        JSON.parse(await lab.ok(["endpoint", "get", "default/late-1", "--node", "node-1", "-o", "json"]))
          .status.state ===
          "READY",
    );
    await lab.inForce();
    await lab.expect([...traffic, "from: late-1, to: server-1, port: 80, expect: allow"]);
    assert.equal(running.stopped, false, `the stream paused: ...${running.said.slice(-60)}`);
    await lab.ok(["lab", "delete", "pod/default/late-1"]);
    await lab.apply(clients("client"));
  },
});

/** Megabytes of memory that a process has. */
function memoryOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(Deno.readTextFileSync(`/proc/${pid}/status`))![1]) / 1024;
}

Deno.test({
  name:
    "nobody reads the events while a pod floods: the datapath keeps its size, and tells afterwards whose are lost",
  ignore: !canRun,
  async fn() {
    const address = await addressOf("server-1", "node-1");
    const datapath = await pidOf("datapath", "node-1");
    const before = (await topOf("events")).get("default/noisy-1")?.held ?? 0;
    const memory = memoryOf(datapath);
    {
      using _ = stopped(await pidOf("flow-exporter", "node-1"));
      // 200,000 records of 200 bytes are five times what may wait for one reader.
      for (let i = 0; i < 4; i++) await flood(address, 50_000);
      await lab.expect(traffic);
      const grown = memoryOf(datapath) - memory;
      assert.ok(grown < 120, `the datapath grew by ${grown.toFixed(0)} MB`);
    }
    const noisy = (await topOf("events")).get("default/noisy-1")!;
    assert.ok(noisy.held - before > 20_000, `${noisy.held - before} were taken`);
    await lab.expect(traffic);
    await lab.flow(
      "a denial after it",
      (flow) => flow.verdict === "DROPPED" && flow.source?.pod_name === "stranger-1",
      "--from-pod",
      "default/stranger-1",
    );
    const { out } = await run("curl", [
      ...["-s", "--unix-socket", `/run/weir/${lab.name}-node-1/flow-exporter.sock`, "http://x/metrics"],
    ]);
    assert.match(out, /hubble_lost_events_by\{holder="default\/noisy-1",towards=""\} [1-9]\d+/);
    assert.doesNotMatch(out, /hubble_lost_events_by\{holder="default\/stranger-1"[^}]*\} [1-9]/);
  },
});

/**
 * A process that is slow, so slow that it stands still (SIGSTOP), under traffic and under a flood: what runs goes on, what is
 * denied stays denied, nobody pays for the flood but who makes it, and with SIGCONT everything is caught up with.
 * @module
 */
import assert from "node:assert/strict";
import { PodStream } from "../e2e/stream.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { addressOf, Attempts, CAST, clients, pidOf, pod, TRAFFIC } from "./faulty_lab.ts";

const lab = new Lab(`slow${Deno.pid}`);
const MANIFESTS = [CAST, pod("noisy-1", 1)].join("---\n");

/** Stops a process until the block ends. */
function stopped(pid: number): Disposable {
  Deno.kill(pid, "SIGSTOP");
  return { [Symbol.dispose]: () => Deno.kill(pid, "SIGCONT") };
}

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
    // The agent would start anew what stands still for longer: tests/faults/hung_test.ts.
    await lab.up(2, MANIFESTS, ["--agent", "hung-after-s=3000"]);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name:
    "the datapath stands still while a pod floods: others' traffic and events are whole, and the flood has a name",
  ignore: !canRun,
  async fn() {
    const address = await addressOf(lab, "server-1", "node-1"),
      far = await addressOf(lab, "server-2", "node-2");
    await using running = new PodStream(lab, "default/client-1", far, 80);
    await until("the stream runs", () => running.count > 5);
    const told = observeLosses();
    const before = (await topOf("events")).get("default/stranger-1")?.held ?? 0;
    {
      using _ = stopped(await pidOf(lab, "datapath", "node-1"));
      await flood(address, 60_000);
      await lab.expect(TRAFFIC);
      const answered = await lab.weir(["status"]);
      assert.match(answered.out, /node-1 +datapath .*does not answer/);
      assert.match(answered.out, /node-2: gate /, "the rest of the lab is told of");
      assert.equal(answered.code, 1);
    }
    // What is asked for is done as soon as everybody has heard of the datapath again.
    await until("weir status names who floods, and that all works", async () => {
      const { out, code } = await lab.weir(["status"]);
      return code === 0 && /Weir works, DEGRADED/.test(out) &&
        /node-1: DEGRADED: default\/noisy-1 fills events: \d+ events made, \d+ lost/.test(out);
    });
    const top = await topOf("events");
    const noisy = top.get("default/noisy-1")!, stranger = top.get("default/stranger-1")!;
    assert.ok(noisy.refused > 20_000, JSON.stringify(noisy));
    assert.equal(noisy.held + noisy.refused >= 60_000, true, "every event is counted");
    assert.equal(stranger.refused, 0);
    assert.ok(stranger.held > before, "its denials were seen");
    assert.equal(top.get("default/client-1")?.refused ?? 0, 0);
    const table = await lab.ok(["top", "events", "--node", "node-1"]);
    assert.match(
      table,
      /^NODE +HOLDER +TOWARDS +EVENTS MADE +SHARE +LOST +STATE\nnode-1 +default\/noisy-1 /,
    );
    await lab.flow(
      "the stranger's denial while the datapath stood still",
      (flow) => flow.verdict === "DROPPED" && flow.source?.pod_name === "stranger-1",
      "--from-pod",
      "default/stranger-1",
    );
    assert.match(await told, /EVENTS LOST: PERF_EVENT_RING_BUFFER CPU\(0\) \d+ of default\/noisy-1/);
    assert.equal(running.stopped, false, `the stream paused: ...${running.said.slice(-60)}`);
    await lab.expect(TRAFFIC);
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
  const end = setTimeout(() => child.kill("SIGTERM"), 300_000);
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

Deno.test({
  name:
    "the endpoint manager stands still: what runs goes on, and a pod and a policy of meanwhile come with SIGCONT",
  ignore: !canRun,
  async fn() {
    const far = await addressOf(lab, "server-2", "node-2");
    await using running = new PodStream(lab, "default/client-1", far, 80);
    await until("the stream runs", () => running.count > 5);
    // Begun before: `weir lab test` and `lab exec` ask the endpoint manager where pods are.
    const near = await addressOf(lab, "server-1", "node-1");
    await using allowed = new Attempts(lab, "client-1", near, 20),
      denied = new Attempts(lab, "stranger-1", near, 0.5);
    await until("attempts run", () => allowed.made.length > 2 && denied.made.length > 2);
    let pending: Promise<{ code: number }>;
    {
      using _ = stopped(await pidOf(lab, "endpoint-manager", "node-1"));
      const status = await lab.weir(["status"]);
      assert.match(status.out, /node-1 +endpoint-manager .*does not answer/);
      assert.equal(status.code, 1);
      await until("a policy is stored, and not in force there alone", async () => {
        const words = ["policy", "apply", "-f", "-", "--timeout", "3s"];
        const { code, err } = await lab.weir(words, clients("client", "late"));
        assert.equal(code, 1, err);
        return /not in force at 1 of 2 nodes[\s\S]*node-1: /.test(err);
      });
      pending = lab.weir(["lab", "apply", "-f", "-"], pod("late-1", 1));
      const before = running.count, tried = allowed.made.length, refused = denied.made.length;
      await until(
        "the stream and the attempts go on",
        () =>
          running.count > before + 10 && allowed.made.length > tried + 5 && denied.made.length > refused + 5,
      );
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
    await lab.expect([...TRAFFIC, "from: late-1, to: server-1, port: 80, expect: allow"]);
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
    const address = await addressOf(lab, "server-1", "node-1");
    const datapath = await pidOf(lab, "datapath", "node-1");
    const before = (await topOf("events")).get("default/noisy-1")?.held ?? 0;
    const memory = memoryOf(datapath);
    {
      using _ = stopped(await pidOf(lab, "flow-exporter", "node-1"));
      // 200,000 records of 200 bytes are five times what may wait for one reader.
      for (let i = 0; i < 4; i++) await flood(address, 50_000);
      await lab.expect(TRAFFIC);
      const grown = memoryOf(datapath) - memory;
      assert.ok(grown < 120, `the datapath grew by ${grown.toFixed(0)} MB`);
    }
    const noisy = (await topOf("events")).get("default/noisy-1")!;
    assert.ok(noisy.held - before > 20_000, `${noisy.held - before} were taken`);
    await lab.expect(TRAFFIC);
    await lab.flow(
      "a denial after it",
      (flow) => flow.verdict === "DROPPED" && flow.source?.pod_name === "stranger-1",
      "--from-pod",
      "default/stranger-1",
    );
    let out = "";
    await until("the flow exporter has heard whose events are lost", async () => {
      ({ out } = await run("curl", [
        ...["-s", "--unix-socket", `/run/weir/${lab.name}-node-1/flow-exporter.sock`, "http://x/metrics"],
      ]));
      return /weir_flow_events_lost\{holder="default\/noisy-1",towards=""\} [1-9]\d+/.test(out);
    });
    assert.doesNotMatch(out, /weir_flow_events_lost\{holder="default\/stranger-1"[^}]*\} [1-9]/);
  },
});

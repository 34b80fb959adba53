import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type Clock, Health, Logger, MetricsRegistry, systemClock } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Flow, FlowFilter } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { FlowRing } from "../flow_ring.ts";
import { FlowLog } from "./flow_log.ts";
import type { FlowLogSpec } from "./flow_log_spec.ts";
import { FlowLogs } from "./flow_logs.ts";
import { pumpFlows } from "./flow_sink.ts";

const TIME = { seconds: 1_796_000_000, nanos: 5 };
const flow = (init: Init<Flow> = {}) =>
  Flow.create({ verdict: "FORWARDED", node_name: "c/n", time: TIME, uuid: "u", ...init });
const specOf = (filePath: string, more: Partial<FlowLogSpec> = {}): FlowLogSpec => ({
  name: "a",
  filePath,
  fieldMask: [],
  includeFilters: [],
  excludeFilters: [],
  fileMaxSizeMb: 1,
  fileMaxBackups: 1,
  fileCompress: false,
  ...more,
});

function parts(clock: Clock = systemClock) {
  const metrics = new MetricsRegistry(), health = new Health();
  return { nodeName: "c/n", clock, metrics, health, log: Logger.silent() };
}

async function withDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Waits until it holds, for as long as a slow machine may need. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    ok(tries < 3000, "it has not come to hold");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const linesOf = (path: string) => {
  try {
    return Deno.readTextFileSync(path).split("\n").slice(0, -1).map((line) => JSON.parse(line));
  } catch {
    return [];
  }
};
const said = (health: Health, name = "export a") =>
  health.list().find((check) => check.name === name)?.message;

Deno.test("FlowLog writes the flows that its filters leave, with the fields of its mask", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/a.log`, all = parts();
    const log = await FlowLog.start(
      specOf(path, {
        fieldMask: ["verdict", "source.pod_name"],
        includeFilters: [{ ...emptyFilter(), source_pod: ["shop/"] }],
        excludeFilters: [{ ...emptyFilter(), verdict: ["AUDIT"] }],
      }),
      all,
    );
    const source = { namespace: "shop", pod_name: "cart", labels: ["k8s:app=cart"] };
    log.offer(flow({ source, verdict: "DROPPED" }));
    log.offer(flow({ source, verdict: "AUDIT" }));
    log.offer(flow({ source: { ...source, namespace: "other" } }));
    log.lost(7);
    await log.stop();
    const [first, lost, ...rest] = linesOf(path);
    deepEqual(first, {
      flow: { verdict: "DROPPED", source: { pod_name: "cart" } },
      node_name: "c/n",
      time: "2026-11-30T00:53:20.000000005Z",
    });
    deepEqual(lost.lost_events, { source: "HUBBLE_RING_BUFFER", num_events_lost: "7" });
    deepEqual(rest, []);
    match(all.metrics.render(), /weir_flow_export_lost_total\{export="a",why="ring"\} 7/);
    equal(said(all.health), undefined);
  }));

Deno.test("FlowLog keeps flows within a limit while its directory is gone, counts the rest, and goes on", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/logs/a.log`, all = parts();
    const log = await FlowLog.start(specOf(path), { ...all, queueCharsMax: 1000 });
    try {
      await until(() => /cannot write .*a\.log: No such file/.test(said(all.health) ?? ""));
      for (let n = 0; n < 100; n++) log.offer(flow({ uuid: `${n}` }));
      ok(log.queued < 1300, `${log.queued}`);
      const lost = Number(/why="queue full"\} (\d+)/.exec(all.metrics.render())?.[1]);
      ok(lost > 50 && lost < 100, `${lost}`);
      match(all.metrics.render(), /weir_flow_export_failing\{export="a"\} 1/);
      Deno.mkdirSync(`${directory}/logs`);
      await until(() => linesOf(path).length === 100 - lost);
      deepEqual(
        linesOf(path).map(({ flow }) => flow.uuid),
        Array.from({ length: 100 - lost }, (_, n) => `${n}`),
      );
      await until(() => /^writes/.test(said(all.health) ?? ""));
      match(all.metrics.render(), /weir_flow_export_failing\{export="a"\} 0/);
    } finally {
      await log.stop();
    }
  }));

Deno.test("FlowLog writes no more after its end", () =>
  withDirectory(async (directory) => {
    const clock = new FakeClock(1000), path = `${directory}/a.log`;
    const log = await FlowLog.start(specOf(path, { endMs: 2000 }), parts(clock));
    log.offer(flow({ uuid: "before" }));
    await until(() => linesOf(path).length === 1);
    await clock.advance(1500);
    equal(log.isActive, false);
    log.offer(flow({ uuid: "after" }));
    await log.stop();
    equal(linesOf(path).length, 1);
  }));

Deno.test("pumpFlows() gives each flow to every sink, and says what it was too slow for", async () => {
  const ring = new FlowRing<{ flow: Flow }>(63), stop = new AbortController();
  const taken: string[] = [];
  let lost = 0;
  const sink = {
    offer: ({ uuid }: Flow) => void taken.push(uuid),
    lost: (count: number) => void (lost += count),
  };
  const pump = pumpFlows(ring, () => [sink], { clock: systemClock, signal: stop.signal });
  await until(() => {
    if (taken.length === 0) ring.push({ flow: flow({ uuid: "first" }) });
    return taken.length > 0;
  });
  const before = taken.length + lost, waiting = ring.seen - before;
  for (let n = 0; n < 1000; n++) ring.push({ flow: flow({ uuid: `${n}` }) });
  await until(() => taken.at(-1) === "999");
  equal(taken.length + lost, before + waiting + 1000);
  ok(lost >= 1000 - 63, `${lost}`);
  stop.abort();
  await pump;
});

Deno.test("FlowLogs follows its file: exports come, change and go; what is wrong leaves them as they are", () =>
  withDirectory(async (directory) => {
    const configPath = `${directory}/flowlogs.yaml`, all = parts();
    const logs = new FlowLogs({ ...all, configPath, directory });
    const names = () => [...logs.sinks].map((sink) => (sink as FlowLog).spec.name);
    const offer = (uuid: string) => [...logs.sinks].forEach((sink) => sink.offer(flow({ uuid })));
    const one = (name: string, more = "") =>
      `- { name: ${name}, filePath: ${directory}/${name}.log${more} }\n`;
    const put = async (text: string) => {
      Deno.writeTextFileSync(configPath, text);
      await logs.reload();
    };
    await logs.reload();
    match(said(all.health, "flow exports")!, /is not in force: .*no such file/);
    await put(`flowLogs:\n${one("a")}${one("b", ", includeFilters: [{ verdict: [DROPPED] }]")}`);
    deepEqual(names(), ["a", "b"]);
    offer("1");
    for (
      const [wrong, why] of [
        [`flowLogs:\n${one("c", ", includeFilters: [{ http_path: ['('] }]")}`, /http_path/],
        ["flowLogs: [", /YAML/],
        ["x: 1", /expected one of flowLogs/],
      ] as const
    ) {
      await put(wrong);
      deepEqual(names(), ["a", "b"]);
      match(said(all.health, "flow exports")!, why);
    }
    // b takes over the file of a.
    await put(`flowLogs:\n- { name: b, filePath: ${directory}/a.log }\n`);
    deepEqual(names(), ["b"]);
    offer("2");
    await put("flowLogs: []\n");
    deepEqual(names(), []);
    deepEqual(linesOf(`${directory}/a.log`).map(({ flow }) => flow.uuid), ["1", "2"]);
    deepEqual(linesOf(`${directory}/b.log`), []);
    const counted = all.metrics.render();
    for (const [op, count] of [["add", 2], ["update", 1], ["remove", 2], ["failure", 4]]) {
      match(counted, new RegExp(`reconfigurations_total\\{op="${op}"\\} ${count}`));
    }
  }));

Deno.test("FlowLogs with a filter of the options that cannot be compiled says so and takes nothing else down", async () => {
  const all = parts(), stop = new AbortController();
  const fixed = specOf("/nowhere/a.log", { includeFilters: [{ ...emptyFilter(), http_path: ["("] }] });
  const running = new FlowLogs({ ...all, fixed, configPath: "", directory: "" }).run(stop.signal);
  await until(() => /off: .*http_path/.test(said(all.health) ?? ""));
  equal(all.health.ready, true);
  stop.abort();
  await running;
});

function emptyFilter() {
  return FlowFilter.create();
}

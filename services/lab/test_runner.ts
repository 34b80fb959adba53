/**
 * Runs expectations: one probe process per namespace that traffic starts from, all its probes at once.
 *
 * @module
 */
import type { TestResponse, TestRow } from "@weir/proto/lab";
import { enter } from "./command.ts";
import { type Expectation, ExpectationError, judge, type Place } from "./expectations.ts";
import type { Lab } from "./lab.ts";
import type { Probe, ProbeResult } from "./probe.ts";

/** How many namespaces send at the same time. */
const SOURCES_AT_ONCE_MAX = 6;
/** How long the program that sends the probes may take beyond what they take. */
const START_MS_MAX = 60_000;
const PROBE_PROGRAM = new URL("./probe.ts", import.meta.url).pathname;

/** Sends the traffic of every expectation and judges it. Throws `ExpectationError` for a place that is not there. */
export async function runExpectations(lab: Lab, expectations: Expectation[]): Promise<TestResponse> {
  await lab.refresh();
  const bySource = new Map<string, Probe[]>();
  const addresses = expectations.map((expectation) => addressOf(lab, expectation.to, expectation.family));
  expectations.forEach((expectation, index) => {
    const netns = netnsOf(lab, expectation.from);
    const probes = bySource.get(netns) ?? [];
    if (probes.length === 0) bySource.set(netns, probes);
    probes.push({
      index,
      protocol: expectation.protocol,
      address: addresses[index],
      port: expectation.port,
      timeoutMs: expectation.timeoutMs,
    });
  });
  const results = new Map<number, ProbeResult>();
  const queue = [...bySource];
  await Promise.all(Array.from({ length: SOURCES_AT_ONCE_MAX }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      for (const result of await sendFrom(...next)) results.set(result.index, result);
    }
  }));
  const rows = expectations.map((expectation, index): TestRow => {
    const result = results.get(index) ??
      { index, outcome: "error" as const, detail: "the probe ended without a result", elapsedMs: 0 };
    const { passed, got } = judge(expectation, result);
    return {
      from: expectation.fromText,
      to: expectation.toText,
      port: expectation.protocol === "ICMP" ? "ICMP" : `${expectation.port}/${expectation.protocol}`,
      family: expectation.family,
      expect: expectation.expect,
      got,
      passed,
      elapsedMs: result.elapsedMs,
      address: addresses[index],
    };
  });
  const passed = rows.filter((row) => row.passed).length;
  return { rows, passed, failed: rows.length - passed };
}

async function sendFrom(netns: string, probes: Probe[]): Promise<ProbeResult[]> {
  const [program, ...args] = enter(netns, [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-config",
    "--no-lock",
    "--no-prompt",
    "--allow-net",
    "--allow-run=ping",
    PROBE_PROGRAM,
  ]);
  // The program ends by itself: each probe has its time. This is for one that cannot even begin.
  const signal = AbortSignal.timeout(Math.max(...probes.map(({ timeoutMs }) => timeoutMs)) + START_MS_MAX);
  const child = new Deno.Command(program, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal,
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(probes)));
  await writer.close();
  const { stdout, stderr, code } = await child.output();
  const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line.startsWith("{"));
  const results = lines.map((line) => JSON.parse(line) as ProbeResult);
  if (code === 0) return results;
  const detail = new TextDecoder().decode(stderr).trim().split("\n")[0];
  const done = new Set(results.map((result) => result.index));
  return [
    ...results,
    ...probes.filter((probe) => !done.has(probe.index))
      .map(({ index }) => ({ index, outcome: "error" as const, detail, elapsedMs: 0 })),
  ];
}

/** Namespace that traffic starts from. */
function netnsOf(lab: Lab, place: Place): string {
  switch (place.kind) {
    case "pod":
      return lab.pod(place.namespace, place.pod).netns;
    case "node":
      return nodeOf(lab, place.node).netns;
    case "outside":
      return lab.options.topology.outside.netns;
    case "address":
      throw new ExpectationError(`Cannot send from the address ${place.address}`);
  }
}

function addressOf(lab: Lab, place: Place, family: 4 | 6): string {
  switch (place.kind) {
    case "pod": {
      const pod = lab.pod(place.namespace, place.pod);
      const address = family === 4 ? pod.ipv4 : pod.ipv6;
      if (!address) {
        throw new ExpectationError(`Cannot send to ${pod.name}: it has no IPv${family} address yet`);
      }
      return address;
    }
    case "node": {
      const node = nodeOf(lab, place.node);
      return family === 4 ? node.ipv4 : node.ipv6;
    }
    case "outside": {
      const { outside } = lab.options.topology;
      return family === 4 ? outside.ipv4 : outside.ipv6;
    }
    case "address":
      return place.address;
  }
}

function nodeOf(lab: Lab, name: string) {
  const { nodes } = lab.options.topology;
  const node = nodes.find((node) => node.name === name);
  if (node !== undefined) return node;
  throw new ExpectationError(
    `Cannot find node ${name}: the lab has ${nodes.map((node) => node.name).join(", ")}`,
  );
}

/**
 * From the API call that attaches an endpoint to the first packet that policy allows: a process in the pod's namespace
 * sends UDP to another pod without pause and says when the first answer came.
 *
 *     sudo deno run -A tests/bench/attach/attach_bench.ts [ROUNDS]
 *
 * Aim: below 20 ms in the datapath itself (the second line). The first endpoints of a process take longer: their code is not
 * compiled yet.
 *
 * @module
 */
import { TestNode } from "../../../datapath/service/testing.ts";

const PEER = new URL("peer.py", import.meta.url).pathname;
const rounds = Number(Deno.args[0] ?? 30);
const skipped = TestNode.skipped();
if (skipped !== undefined) {
  console.log(`SKIP attach bench: ${skipped}`);
  Deno.exit(0);
}

const node = await TestNode.create("bench");
const children: Deno.ChildProcess[] = [];
try {
  await node.start();
  await node.configure();
  const server = await node.pod("server");
  const policy = { policyRevision: 1, enforceIngress: true };
  const entries = [{
    direction: "INGRESS",
    identity: 2000,
    protocol: 17,
    port: 9,
    portPrefixLength: 16,
    precedence: 0xffffff01,
  }];
  await node.request("PUT", "/v1/policies/server", { ...policy, entries });
  await node.request("PUT", "/v1/endpoints/server", node.endpoint(2, server, { policy: "server" }));
  const echo = peer(server, "echo", "10.44.0.2", "9");
  await echo.line();

  const first: number[] = [], answered: number[] = [], inside: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const pod = await node.pod(`p${i}`);
    const probe = peer(pod, "probe", "10.44.0.2", "9");
    await probe.line();
    const start = performance.timeOrigin + performance.now();
    const body = node.endpoint(10 + i, pod, { identity: 2000, ipv6: "" });
    const { status } = await node.request("PUT", `/v1/endpoints/p${i}`, body);
    if (status.error) throw new Error(status.error.error);
    answered.push(performance.timeOrigin + performance.now() - start);
    inside.push(status.attachMs);
    first.push(Number(await probe.line()) - start);
    await node.request("DELETE", `/v1/endpoints/p${i}`);
  }
  console.log(`${rounds} endpoints, one after another`);
  show("API call to first allowed packet", first);
  show("inside the datapath", inside);
  show("API call to answer", answered);
} finally {
  for (const child of children) child.kill("SIGKILL");
  await node.close();
}

function peer(netns: string, ...args: string[]): { line: () => Promise<string> } {
  const child = new Deno.Command("nsenter", {
    args: [`--net=/run/netns/${netns}`, "python3", PEER, ...args],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  if (args[0] === "echo") children.push(child);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  return {
    async line() {
      while (!text.includes("\n")) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`peer ${args[0]} ended without an answer`);
        text += value;
      }
      const at = text.indexOf("\n");
      const line = text.slice(0, at);
      text = text.slice(at + 1);
      return line;
    },
  };
}

function show(what: string, values: number[]): void {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1);
  console.log(
    `${what.padEnd(36)} median ${at(0.5)} ms, p95 ${at(0.95)} ms, first ${values[0].toFixed(1)} ms`,
  );
}

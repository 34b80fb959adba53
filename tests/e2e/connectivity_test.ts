/**
 * `weir connectivity test` on a lab of two nodes: every scenario passes where all is well, those fail that something broken makes
 * fail, and nothing is left behind, after Ctrl-C neither.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`conn${Deno.pid}`);
const NOTHING = "apiVersion: v1\nkind: Namespace\nmetadata: { name: own }\n";

if (canRun) {
  Deno.test.beforeAll(() => lab.up(2, NOTHING));
  Deno.test.afterAll(() => lab.down());
}
const e2e = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

interface Result {
  name: string;
  state: string;
  faults: { what: string; wrong: string[]; look: string[] }[];
  reason?: string;
}

async function test(...words: string[]): Promise<{ code: number; results: Map<string, Result> }> {
  const { code, out, err } = await lab.weir(["connectivity", "test", "-o", "json", ...words]);
  assert.ok(out.startsWith("{"), `exit ${code}\n${out}${err}`);
  const { results } = JSON.parse(out) as { results: Result[] };
  return { code, results: new Map(results.map((result) => [result.name, result])) };
}

/** Names of pods, policies and services of the tests that are still there. */
async function left(): Promise<string[]> {
  const { pods = [] } = JSON.parse((await lab.weir(["lab", "status", "-o", "json"])).out);
  const lists = await Promise.all(["policy", "service"].map((noun) => lab.ok([noun, "list", "-o", "json"])));
  const names = lists.flatMap((text) => JSON.parse(text) as { name: string }[]).map(({ name }) => name);
  const ofPods = pods.map(({ namespace, name }: Record<string, string>) => `${namespace}/${name}`);
  return [...names, ...ofPods].filter((name: string) => name.includes("weir-test-"));
}

const node2 = (...words: string[]) =>
  run("nsenter", [`--net=/run/netns/weir-${lab.name}--node-2`, "--", ...words]);

e2e("every scenario passes on two nodes, and nothing is left behind", async () => {
  const { code, results } = await test();
  const bad = [...results.values()].filter(({ state }) => state !== "passed");
  assert.equal(code, 0, JSON.stringify(bad, null, 1));
  assert.deepEqual(bad, []);
  assert.ok(results.size > 50, `${results.size} scenarios`);
  assert.deepEqual(await left(), []);
});

e2e("what drops packets between two nodes fails the scenarios that need them, and no others", async () => {
  const rule = ["INPUT", "-p", "udp", "--dport", "8472", "-j", "DROP"];
  assert.equal((await node2("iptables", "-I", ...rule)).code, 0);
  try {
    const { code, results } = await test("--test", "^pod-to-pod-", "--timeout", "2s");
    assert.equal(code, 1);
    assert.equal(results.get("pod-to-pod-same-node")?.state, "passed");
    const broken = results.get("pod-to-pod-other-node")!;
    assert.equal(broken.state, "failed");
    assert.deepEqual(broken.faults.map(({ what }) => what.replace(/ IPv[46]$/, "")).sort(), [
      ...["client -> echo-other ICMP", "client -> echo-other ICMP"],
      ...["client -> echo-other:8080 TCP", "client -> echo-other:8080 TCP"],
      ...["client -> echo-other:8080 UDP", "client -> echo-other:8080 UDP"],
    ]);
    const text = JSON.stringify(broken);
    assert.match(text, /no answer: timeout/);
    assert.match(
      text,
      /weir explain --from weir-test-plain\/client --to weir-test-plain\/echo-other --port 8080\/TCP/,
    );
    assert.match(
      text,
      /weir-test-plain\/client -> weir-test-plain\/echo-other 8080\/TCP: ALLOWED/,
      "what weir explain says",
    );
    assert.match(text, /weir observe --from-ip 10\.0\.\S+ --to-ip 10\.0\.\S+/);
  } finally {
    assert.equal((await node2("iptables", "-D", ...rule)).code, 0);
  }
});

e2e("a policy of somebody else fails what it denies, and is named; junit says so too", async () => {
  await lab.apply(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: { name: no-udp }
spec:
  endpointSelector: {}
  ingress: [{ fromEntities: [all] }]
  ingressDeny: [{ fromEntities: [all], toPorts: [{ ports: [{ port: "8080", protocol: UDP }] }] }]
`);
  try {
    const { code, out } = await lab.weir([
      "connectivity",
      "test",
      "-o",
      "junit",
      "--test",
      "pod-same-node$",
      "--timeout",
      "2s",
    ]);
    assert.equal(code, 1, out);
    assert.match(out, /tests="2" failures="1"/, "the pods' node reaches them whatever policies say");
    assert.match(
      out,
      /name="pod-to-pod-same-node" [^>]*><failure message="client -&gt; echo-same:8080 UDP IPv4: no answer: timeout"/,
    );
    assert.match(out, /ccnp:no-udp/);
  } finally {
    await lab.drop("ccnp:no-udp");
  }
});

e2e("a lab with a node that hangs is not tested: it is said which, and why", async () => {
  const [{ processes }] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"])) as [{
    processes: { node: string; role: string; pid: number }[];
  }];
  const { pid } = processes.find(({ node, role }) => node === "node-2" && role === "agent")!;
  Deno.kill(pid, "SIGSTOP");
  try {
    const { code, err } = await lab.weir(["connectivity", "test", "--test", "pod-same-node$"]);
    assert.equal(code, 1);
    assert.match(err, /node-2 is hung: its agent does not answer/);
  } finally {
    Deno.kill(pid, "SIGCONT");
  }
  await until("the lab is well", async () => (await lab.weir(["status"])).code === 0);
});

e2e("Ctrl-C ends it, and takes away what it made", async () => {
  const child = new Deno.Command(new URL("../../scripts/weir", import.meta.url).pathname, {
    args: ["--lab", lab.name, "connectivity", "test"],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.match((await reader.read()).value ?? "", /^ok /);
  const second = await lab.weir(["connectivity", "test"]);
  assert.equal(second.code, 1);
  assert.match(second.err, /runs here already/);
  child.kill("SIGINT");
  reader.releaseLock();
  const { code } = await child.status;
  assert.equal(code, 1);
  assert.match(await new Response(child.stderr).text(), /interrupted/);
  assert.deepEqual(await left(), []);
});

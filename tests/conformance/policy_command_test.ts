import assert from "node:assert/strict";
import { ApiServer, listenUnix, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { createPolicyEngine, type PolicyEngine } from "@weir/policy-engine";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { NodePolicy } from "@weir/proto/policy";
import { CommandContext, UsageError } from "../../services/cli/context.ts";
import { policyCommand } from "../../services/cli/policy.ts";
import { readPort } from "../../services/cli/explain/command.ts";
import { RunDirectory } from "../../services/cli/run_directory.ts";

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: rule1 }
spec:
  endpointSelector: { matchLabels: { org: empire, class: deathstar } }
  ingress:
  - fromEndpoints: [{ matchLabels: { org: empire } }]
    toPorts: [{ ports: [{ port: http, protocol: TCP }] }]
`;

/** Runs commands against a real engine on a real socket; the allocator is the resource server with three pods in it. */
async function withHost(
  run: (weir: (...args: string[]) => Promise<Answer>, directory: string, host: Host) => Promise<void>,
) {
  const directory = await Deno.makeTempDir({ prefix: "weir-policy-" });
  await Deno.mkdir(`${directory}/host`);
  const allocator = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  const ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
  allocator.collection({ name: "identities", message: Identity, table: identities });
  const nodes = new WatchedTable<Node>({ name: "nodes" });
  allocator.collection({ name: "nodes", message: Node, table: nodes });
  allocator.collection({ name: "ipcache", message: IpcacheEntry, table: ipcache });
  const pods: [string, string, string][] = [
    ["deathstar", "empire", "deathstar"],
    ["tiefighter", "empire", "tiefighter"],
    ["xwing", "alliance", "xwing"],
  ];
  for (const [index, [podName, org, kind]] of pods.entries()) {
    const number = 300 + index;
    identities.put(
      String(number),
      Identity.create({ number, labels: [`k8s:org=${org}`, `k8s:class=${kind}`] }),
    );
    ipcache.put(`10.0.0.${number - 250}/32`, {
      ...IpcacheEntry.create({
        identity: number,
        namespace: "default",
        podName,
        endpoint: `default/${podName}`,
      }),
      prefix: `10.0.0.${number - 250}/32`,
      namedPorts: podName === "deathstar" ? [{ name: "http", port: 80, protocol: "TCP" }] : [],
    });
  }
  const database = new Database("sqlite::memory:");
  const engine = createPolicyEngine({ database, allocator: new WeirClient({ handler: allocator.fetch }) });
  engine.start();
  await engine.waitReady();
  const listeners = [
    await listenUnix(allocator.fetch, `${directory}/host/identity-allocator.sock`),
    await listenUnix(engine.handler, `${directory}/host/policy-engine.sock`),
  ];
  try {
    await run(
      async (...args) => {
        const answer: Answer = { code: 0, out: "", err: "" };
        const io = {
          out: (text: string) => void (answer.out += text),
          err: (text: string) => void (answer.err += text),
          terminal: false,
          readStdin: () => Promise.resolve(POLICY),
          interrupted: new AbortController().signal,
        };
        answer.code = await policyCommand(args, new CommandContext(io, {}, new RunDirectory(directory)));
        return answer;
      },
      directory,
      { nodes, engine },
    );
  } finally {
    await Promise.all(listeners.map((listener) => listener.shutdown(0)));
    await engine.stop();
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
}

/** The parts behind the command. */
interface Host {
  readonly nodes: WatchedTable<Node>;
  readonly engine: PolicyEngine;
}

interface Answer {
  code: number;
  out: string;
  err: string;
}

Deno.test("weir policy applies, lists, gets and deletes", async () => {
  await withHost(async (weir, directory) => {
    assert.equal((await weir("list")).out, "No policies\n");
    assert.equal((await weir("apply", "-f", "-")).out, "cnp:default/rule1 created\n");
    assert.equal((await weir("apply", "-f", "-")).out, "cnp:default/rule1 unchanged\n");
    assert.match((await weir("list", "-n", "default")).out, /default +rule1 +CiliumNetworkPolicy .*stdin:1/);
    assert.equal((await weir("get", "rule1")).out, POLICY);
    assert.equal(
      JSON.parse((await weir("get", "default/rule1", "-o", "json")).out).name,
      "cnp:default/rule1",
    );
    await assert.rejects(weir("get", "nosuch"), /Cannot find policy "nosuch"/);
    await Deno.writeTextFile(`${directory}/a.yaml`, POLICY.replace("rule1", "rule2"));
    await Deno.writeTextFile(`${directory}/b.yaml`, POLICY.replace("toPorts", "toPort"));
    await assert.rejects(
      weir("apply", "-f", directory),
      /b\.yaml:8:5 spec\.ingress\[0\]\.toPort: unknown field/,
    );
    assert.match((await weir("list")).out, /^(?!.*rule2)/s, "a fault in one file keeps the others out");
    assert.equal(
      (await weir("apply", "--dry-run", "-f", `${directory}/a.yaml`)).out,
      "cnp:default/rule2 created (dry run)\n",
    );
    assert.equal((await weir("delete", "-f", "-")).out, "cnp:default/rule1 deleted\n");
    assert.equal((await weir("list")).out, "No policies\n");
    for (const wrong of [["apply"], ["get"], ["delete"], ["frobnicate"], ["explain", "--from", "a"]]) {
      await assert.rejects(weir(...wrong), UsageError, wrong.join(" "));
    }
  });
});

Deno.test("weir policy apply waits until it is in force at every node, and names those where it is not", async () => {
  await withHost(async (weir, _, { nodes, engine }) => {
    for (const name of ["node-1", "node-2"]) nodes.put(name, Node.create({ name }));
    while (engine.inForce.list().length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    const tell = (node: string, more: Partial<NodePolicy> = {}) => {
      const { epoch, mapStates: { revision } } = engine.publisher;
      engine.inForce.put(node, NodePolicy.create({ node, epoch, revision, ...more }));
    };
    const mute = await weir("apply", "-f", "-", "--timeout", "50ms");
    assert.deepEqual([mute.code, mute.out], [1, "cnp:default/rule1 created\n"]);
    assert.match(mute.err, /not in force at 2 of 2 nodes.*\n.*node-1: never said what is in force there/);
    tell("node-1");
    tell("node-2", { error: "policy map is full" });
    const failed = await weir("apply", "-f", "-", "--timeout", "50ms");
    assert.equal(failed.code, 1);
    assert.match(failed.err, /not in force at 1 of 2 nodes after 0.05 s/);
    assert.match(
      failed.err,
      /node-2: policy revision \d+ is in force there since .*; policy map is full; last heard/,
    );
    tell("node-2");
    assert.deepEqual(await weir("apply", "-f", "-"), {
      code: 0,
      out: "cnp:default/rule1 unchanged\n",
      err: "",
    });
    assert.match((await weir("list")).out, /NAME +KIND +MODE +IN FORCE.*\n.*2\/2 nodes/);
    const waiting = weir("delete", "rule1", "--timeout", "30s");
    while (engine.repository.policyCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    tell("node-1");
    tell("node-2");
    assert.equal((await waiting).code, 0);
    assert.equal((await weir("apply", "-f", "-", "--no-wait")).code, 0);
    tell("node-1");
    assert.match((await weir("list")).out, /1\/2: not node-2 since \d\d:\d\d:\d\dZ/);
    const [item] = JSON.parse((await weir("list", "-o", "json")).out);
    assert.deepEqual([item.inForce.nodes, item.inForce.inForce, item.inForce.behind[0].node], [
      2,
      1,
      "node-2",
    ]);
    await assert.rejects(weir("apply", "-f", "-", "--timeout", "soon"), /Cannot read --timeout "soon"/);
  });
});

Deno.test("weir policy explain answers 0 for allowed and 3 for denied, with the rule and what would change it", async () => {
  await withHost(async (weir) => {
    await weir("apply", "-f", "-");
    const tie = await weir(
      "explain",
      "--from",
      "tiefighter",
      "--to",
      "default/deathstar",
      "--port",
      "80/TCP",
    );
    assert.equal(tie.code, 0);
    assert.match(
      tie.out,
      /^tiefighter -> default\/deathstar 80\/TCP: ALLOWED by policy; not everything on the way is known\n/,
    );
    assert.match(tie.out, /Allowed by cnp:default\/rule1 spec\.ingress\[0\]\.fromEndpoints\[0\] \(stdin:7\)/);
    const xwing = await weir("explain", "--from", "xwing", "--to", "deathstar", "--port", "http");
    assert.equal(xwing.code, 3);
    assert.match(xwing.out, /to allow it {1}Give the source label org=empire \(it has alliance\)/);
    const udp = await weir(
      "explain",
      "--from",
      "tiefighter",
      "--to",
      "deathstar",
      "--port",
      "53/udp",
      "--direction",
      "ingress",
    );
    assert.equal(udp.code, 3);
    assert.match(udp.out, /Add port 53\/UDP to cnp:default\/rule1 spec\.ingress\[0\]/);
    assert.equal((await weir("explain", "--from", "world", "--to", "xwing", "--port", "80")).code, 0);
    assert.equal((await weir("explain", "--from", "10.0.0.51", "--to", "10.0.0.50", "--port", "80")).code, 0);
    assert.equal(
      (await weir("explain", "--from", "org=empire,class=new", "--to", "deathstar", "--port", "80")).code,
      0,
    );
    await assert.rejects(
      weir("explain", "--from", "nobody", "--to", "deathstar", "--port", "80"),
      /Cannot find "nobody"/,
    );
  });
});

Deno.test("readPort() reads numbers, names and ICMP", () => {
  const cases: [string, ReturnType<typeof readPort>][] = [
    ["80", { protocol: 6, port: 80 }],
    ["53/udp", { protocol: 17, port: 53 }],
    ["http/TCP", { protocol: 6, portName: "http" }],
    ["icmp", { protocol: 1, port: 8 }],
    ["ICMPv6", { protocol: 58, port: 128 }],
    ["3/ICMP", { protocol: 1, port: 3 }],
  ];
  for (const [text, expected] of cases) assert.deepEqual(readPort(text), expected, text);
  for (const bad of ["80/tcpp", "65536", "a b", ""]) assert.throws(() => readPort(bad), UsageError, bad);
});

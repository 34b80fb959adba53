/**
 * The real `hubble` command against the relay of a lab, unchanged: it sees every node, in the order of time, and hears which are
 * away.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { processOf, signal } from "../faults/faulty_lab.ts";
import { Following, hubble, isBuilt, refused } from "./real_client.ts";
import { makeCertificates, RealRelay } from "./real_relay.ts";

const lab = new Lab(`relay${Deno.pid}`);
const can = canRun && isBuilt;
const relay = `unix:///run/weir/${lab.name}-node-1/hubble-relay.sock`;
const root = new URL("../../", import.meta.url).pathname;
const TRAFFIC = [
  "from: empire/tiefighter, to: empire/deathstar-2, port: 80, expect: allow",
  "from: alliance/xwing, to: empire/deathstar-2, port: 80, expect: deny",
];
const NODES = ["default/node-1", "default/node-2"];
/** Somebody's own certificates, with which the nodes show their flows to whoever has one: to the real relay. */
const tlsDirectory = `/tmp/weir-hubble-tls-${Deno.pid}`;

if (can) {
  Deno.test.beforeAll(async () => {
    const cast = `${root}deploy/examples/star-wars`;
    await Deno.mkdir(tlsDirectory, { recursive: true });
    await makeCertificates(tlsDirectory, ["node-1", "node-2"]);
    await lab.upFrom(2, cast, [
      // An exporter that stands still is not started anew meanwhile.
      ...["--agent", "hung-after-s=3000", "--agent", "hubble-listen=0.0.0.0:4244"],
      ...["--agent", `hubble-tls-directory=${tlsDirectory}`],
    ]);
    await lab.apply(await Deno.readTextFile(`${cast}/policies/rule1.yaml`));
    await lab.expect(TRAFFIC);
    // Flows are there a moment after their packets; what follows reads them once.
    await saidBy(["observe", "--from-pod", "alliance/xwing"], /DROPPED/);
    await until("the flows of both nodes are there", async () => {
      const lines = linesOf(await hubble(relay, "observe", "--all", "-o", "jsonpb"));
      return NODES.every((name) => lines.filter(({ node_name }) => node_name === name).length >= 3);
    });
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await Deno.remove(tlsDirectory, { recursive: true });
  });
}

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !can, fn });

/** Asks until the answer is as it will be. */
async function saidBy(args: string[], what: RegExp): Promise<string> {
  let said = "";
  await until(() => `hubble ${args.join(" ")} says ${what}:\n${said}`, async () => {
    said = await hubble(relay, ...args);
    return what.test(said);
  });
  return said;
}

interface Line {
  readonly node_name: string;
  readonly time: string;
  readonly flow: { readonly source: { readonly pod_name: string } };
}
const linesOf = (text: string): Line[] =>
  text.trim().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line))
    .filter(({ flow }) => flow !== undefined);

test("hubble status, list nodes and list namespaces show the whole cluster", async () => {
  await saidBy(["status"], /Connected Nodes: 2\/2/);
  const status = await hubble(relay, "status");
  assert.match(status, /Healthcheck .*: Ok\nCurrent\/Max Flows: \d+\/8,190/);
  const nodes = JSON.parse(await hubble(relay, "list", "nodes", "-o", "json"));
  assert.deepEqual(nodes.map(({ name, state }: { name: string; state: string }) => [name, state]), [
    ...NODES.map((name) => [name, "NODE_CONNECTED"]),
  ]);
  assert.deepEqual((await hubble(relay, "list", "namespaces")).trim().split(/\s+/), [
    ...["NAMESPACE", "alliance", "empire"],
  ]);
});

test("hubble observe shows both nodes' flows in the order of time, filtered by the nodes", async () => {
  const lines = linesOf(await hubble(relay, "observe", "--all", "-o", "jsonpb"));
  assert.deepEqual([...new Set(lines.map(({ node_name }) => node_name))].sort(), NODES);
  const times = lines.map(({ time }) => time.padEnd(40, "0"));
  assert.deepEqual(times, times.toSorted());
  const changes = lines.filter(({ node_name }, n) => n > 0 && lines[n - 1].node_name !== node_name).length;
  assert.ok(changes > 1, "the nodes' flows are merged, not one after the other");
  const last = linesOf(await hubble(relay, "observe", "--last", "3", "-o", "jsonpb"));
  assert.equal(last.length, 6, "the number is of each node");
  const xwing = ["observe", "--from-pod", "alliance/xwing", "--all"];
  const drops = linesOf(await hubble(relay, ...xwing, "--verdict", "DROPPED", "-o", "jsonpb"));
  assert.ok(drops.length > 0 && drops.every(({ flow }) => flow.source.pod_name === "xwing"));
  assert.match(await hubble(relay, ...xwing), /\[default\/node-\d\].*|alliance\/xwing:\d+ .*DROPPED/);
  assert.match(
    await refused(relay, "observe", "--allowlist", '{"source_port":["99999"]}'),
    /InvalidArgument.*source_port.*0 to 65535/,
  );
  assert.match(await refused(relay, "observe", "agent-events"), /Unimplemented/);
});

test("weir observe, its connections and weir top reach into the history, with --since, and say how much that is", async () => {
  const said = async (args: string[], what: RegExp) => {
    let out = "";
    // What happened is written within some seconds.
    await until(() => `weir ${args.join(" ")} says ${what}:\n${out}`, async () => {
      out = await lab.ok(args);
      return what.test(out);
    });
    return out;
  };
  const denied = await said(
    ["observe", "connections", "--since", "1h", "--from-pod", "alliance/xwing"],
    /DENIED +alliance\/xwing:\d+ +empire\/deathstar-2:80 .* DROPPED BY default deny of empire\/rule1 \(.*:\d+/,
  );
  assert.match(denied, /\n\d+ flows, \d+ %/);
  assert.doesNotMatch(denied, /tiefighter/);
  await said(
    ["observe", "connections", "--since", "1h", "--group-by", "workload", "--group-by", "verdict"],
    /empire\/tiefighter +empire\/deathstar-2 +FORWARDED/,
  );
  await said(
    ["top", "drops", "--since", "1h"],
    /alliance\/xwing +empire\/deathstar-2 +80 +POLICY_DENIED .*empire\/rule1/,
  );
  await said(["top", "talkers", "--since", "1h", "-n", "empire"], /^FROM WORKLOAD[^]*empire\/tiefighter/);
  assert.match(await lab.ok(["top", "talkers"]), /flows are in memory/);
  const uuids = (text: string) =>
    linesOf(text).map((line) => (line.flow as unknown as { uuid: string }).uuid);
  await said(["observe", "--since", "1h", "-o", "json"], /xwing/);
  const past = async (...args: string[]) =>
    uuids(await lab.ok(["observe", "--since", "1h", "-o", "json", ...args]));
  let kept: string[] = [], first: string[] = [];
  await until(() => `--last 2 from a time on shows ${first}, not the first of ${kept}`, async () => {
    // What a node saw earlier may come late.
    [kept, first] = [await past(), await past("--last", "2")];
    const live = uuids(await hubble(relay, "observe", "--all", "-o", "jsonpb"));
    assert.deepEqual(
      kept.filter((uuid) => !live.includes(uuid)),
      [],
      "the history shows flows that there were",
    );
    return first.join() === kept.slice(0, 2).join();
  });
  const before = await lab.ok(["observe", "connections", "--since", "2d", "--until", "1d"]);
  assert.doesNotMatch(before, /DENIED|CLOSED/);
});

test("weir policy explain --at and --flow judge by what held then, when it does not hold any more", async () => {
  const ends = ["--from", "alliance/xwing", "--to", "empire/deathstar-2", "--port", "80"];
  const explain = async (code: number, what: RegExp, ...args: string[]) => {
    let ran = { code: -1, out: "", err: "" };
    // The history hears of a policy within some seconds.
    await until(
      () => `${args.join(" ")} says ${code} and ${what}: ${ran.code} ${ran.out}${ran.err}`,
      async () => {
        ran = await lab.weir(["policy", "explain", ...args]);
        return ran.code === code && what.test(ran.out);
      },
    );
  };
  await explain(
    3,
    /DENIED[^]*Denied by default: cnp:empire\/rule1 selects the destination/,
    "--at",
    "0s",
    ...ends,
  );
  // The history knows the policy: a flow from now on was judged by what it knows.
  const then = new Date().toISOString();
  await lab.expect(TRAFFIC.slice(1));
  const drops = ["--verdict", "DROPPED", "--from-pod", "alliance/xwing", "-o", "json"];
  let flow: Line | undefined;
  await until("the history has the denied flow", async () => {
    [flow] = linesOf(await lab.ok(["observe", "--since", then, ...drops]));
    return flow !== undefined;
  });
  const { uuid } = flow!.flow as unknown as { uuid: string };
  await lab.ok(["policy", "delete", "cnp:empire/rule1"]);
  try {
    await explain(0, /ALLOWED/, "--at", "0s", ...ends);
    await explain(0, /ALLOWED/, ...ends);
    await explain(
      3,
      new RegExp(`alliance/xwing -> empire/deathstar-2:80 at ${then.slice(0, 17)}.*: DENIED`),
      "--at",
      then,
      ...ends,
    );
    await explain(0, /ALLOWED/, "--at", then, "--from", "empire/tiefighter", ...ends.slice(2));
    await explain(3, /DENIED[^]*DROPPED TCP Flags: SYN[^]*cnp:empire\/rule1/, "--flow", uuid);
    await explain(3, /DENIED/, "--flow", uuid, "--at", flow!.time);
  } finally {
    await lab.apply(await Deno.readTextFile(`${root}deploy/examples/star-wars/policies/rule1.yaml`));
  }
  const refused = async (...args: string[]) => {
    const { code, err } = await lab.weir(["policy", "explain", ...args]);
    assert.equal(code, 2, err);
    return err;
  };
  assert.match(await refused("--at", "10d", ...ends), /the flow history knows policies from 20/);
  assert.match(
    await refused("--at", "0s", "--from", "alliance/xwimg", ...ends.slice(2)),
    /did you mean alliance\/xwing/,
  );
  assert.match(await refused("--at", "soon", ...ends), /at=soon: expected how long ago/);
  assert.match(await refused("--flow", uuid, ...ends), /leave out --from/);
  assert.match(await refused("--flow", "no-such-flow"), /has no flow no-such-flow/);
});

test("a node that hangs holds up nobody, is named, and comes back with what was missed", async () => {
  const exporter = await processOf(lab, "node-2", "flow-exporter");
  await using following = new Following(relay, "observe", "-f", "-o", "jsonpb");
  const flowsOf = (node: string) =>
    linesOf(following.said).filter(({ node_name }) => node_name === node).length;
  const grows = async (node: string) => {
    const before = flowsOf(node);
    await until(() => `flows of ${node} come:\n${following.said.slice(-4000)}`, async () => {
      await lab.expect(TRAFFIC.slice(0, 1));
      return flowsOf(node) > before;
    });
  };
  await grows("default/node-2");
  await grows("default/node-1");
  signal(exporter.pid, "SIGSTOP");
  try {
    await lab.expect(TRAFFIC);
    await grows("default/node-1");
    await following.untilWarned(/UNAVAILABLE.*default\/node-2.*it does not answer/);
    await saidBy(["status"], /Connected Nodes: 1\/2/);
    const { out, err } = await observed("--last", "1");
    assert.match(out, /empire/, "the others' flows come");
    assert.match(err, /1 nodes are unavailable: default\/node-2/);
    assert.match(await hubble(relay, "list", "nodes"), /default\/node-2 +Unavailable/);
  } finally {
    signal(exporter.pid, "SIGCONT");
  }
  await saidBy(["status"], /Connected Nodes: 2\/2/);
  await grows("default/node-2");
  const uuids = linesOf(following.said).map((line) => (line.flow as unknown as { uuid: string }).uuid);
  assert.equal(new Set(uuids).size, uuids.length, "no flow comes twice");
});

test("an exporter that is killed is followed again, by the same caller", async () => {
  await using following = new Following(relay, "observe", "-f", "-o", "jsonpb");
  const grows = async () => {
    const flows = () => linesOf(following.said).filter(({ node_name }) => node_name === NODES[1]).length;
    const before = flows();
    await until(() => `flows come: ${following.said.slice(-4000)}\n${following.warned}`, async () => {
      await lab.expect(TRAFFIC.slice(0, 1));
      return flows() > before;
    });
  };
  await grows();
  signal((await processOf(lab, "node-2", "flow-exporter")).pid, "SIGKILL");
  await following.untilWarned(/UNAVAILABLE.*default\/node-2/);
  await grows();
  // It is no service, and `weir status` does not take it for one.
  const { out } = await lab.weir(["status"]);
  assert.doesNotMatch(out, /hubble-relay/);
  assert.match(out, /relay/);
});

test("the real Hubble Relay finds the nodes, asks them with mutual TLS, and answers as over nodes of its own", async () => {
  await using real = new RealRelay({
    node: `weir-${lab.name}--node-1`,
    socket: `/run/weir/${lab.name}-node-1/hubble.sock`,
    tlsDirectory,
  });
  const status = await real.until(["status"], /Connected Nodes: 2\/2/);
  assert.match(status, /Healthcheck .*: Ok\nCurrent\/Max Flows: \d+\/8,190/);
  const nodes = JSON.parse(await real.ask("list", "nodes", "-o", "json"));
  assert.deepEqual(
    nodes.map(({ name, state, tls }: Record<string, unknown>) => [name, state, tls]).sort(),
    ["node-1", "node-2"].map((name) => [
      `default/${name}`,
      "NODE_CONNECTED",
      { enabled: true, server_name: name },
    ]),
  );
  assert.match(await real.ask("list", "namespaces"), /alliance[\s\S]*empire/);
  await lab.expect(TRAFFIC);
  // What is over: the same flows from it as from our relay.
  const xwing = ["observe", "--from-pod", "alliance/xwing", "--verdict", "DROPPED", "--all", "-o", "jsonpb"];
  const uuids = (text: string) =>
    linesOf(text).map(({ flow }) => (flow as unknown as { uuid: string }).uuid).sort();
  let both: string[][] = [];
  await until(() => `both show the same: ${JSON.stringify(both)}`, async () => {
    both = [uuids(await real.ask(...xwing)), uuids(await hubble(relay, ...xwing))];
    // The last of them may come between the two questions.
    return both[0].length > 0 && both[0].join() === both[1].join();
  });
  const all = linesOf(await real.ask("observe", "--all", "-o", "jsonpb"));
  assert.deepEqual([...new Set(all.map(({ node_name }) => node_name))].sort(), NODES);
  assert.match(
    await real.ask("observe", "--from-pod", "alliance/xwing", "--print-policy-names", "--last", "20"),
    /policy-verdict:none INGRESS DENIED BY rule1/,
  );
});

/** `hubble observe` with what it says of nodes. */
async function observed(...args: string[]) {
  const ran = await run(`${root}.build/hubble/hubble`, [
    "observe",
    ...args,
    "--server",
    relay,
    "--config",
    "/dev/null",
  ]);
  assert.equal(ran.code, 0, ran.err);
  return ran;
}

test("the history tells what a flow exporter that was started anew has forgotten, and that it was not heard meanwhile", async () => {
  const ask = async (path: string) => {
    const socket = `/run/weir/${lab.name}-node-1/flow-history-read.sock`;
    const { code, out, err } = await run("curl", [
      "-sS",
      "-m",
      "30",
      "--unix-socket",
      socket,
      `http://h${path}`,
    ]);
    assert.equal(code, 0, err);
    return JSON.parse(out);
  };
  const stored = async () => {
    const { flows = [] } = await ask("/v1/flows?node-name=node-2&last=1000");
    return flows.map(({ uuid }: { uuid: string }) => uuid) as string[];
  };
  await lab.expect(TRAFFIC);
  const live = async () =>
    linesOf(await hubble(relay, "observe", "--all", "-o", "jsonpb")).filter(({ node_name }) =>
      node_name === "default/node-2"
    )
      .map(({ flow }) => (flow as unknown as { uuid: string }).uuid);
  const before = await live();
  assert.ok(before.length > 0);
  await until("all of them are in the history", async () => {
    const known = new Set(await stored());
    return before.every((uuid) => known.has(uuid));
  });
  const exporter = await processOf(lab, "node-2", "flow-exporter");
  signal(exporter.pid, "SIGKILL");
  await until("it runs anew", async () => {
    const now = await processOf(lab, "node-2", "flow-exporter");
    return now.pid !== exporter.pid && now.state === "ready";
  });
  await saidBy(["status"], /Connected Nodes: 2\/2/);
  const now = new Set(await live());
  assert.deepEqual(before.filter((uuid) => now.has(uuid)), [], "the node itself has forgotten");
  const known = new Set(await stored());
  assert.deepEqual(before.filter((uuid) => !known.has(uuid)), []);
  await until("the gap is told", async () => {
    const { total } = await ask("/v1/completeness?since=1h");
    return (total.gaps ?? []).some((gap: { node: string; untilUnixS?: number }) =>
      gap.node === "default/node-2" && gap.untilUnixS
    );
  });
  await until(
    "weir observe says so",
    async () =>
      /not always heard: default\/node-2/.test(await lab.ok(["observe", "connections", "--since", "1h"])),
  );
});

/**
 * One server without a lab: the agent with its control plane, endpoints by hand, stop, restart, uninstall. The "server" is
 * a network namespace, so that nothing of this machine's own network is touched.
 * @module
 */
import assert from "node:assert/strict";
import { cgroupRootHere } from "../cgroup_root.ts";
import { until } from "@weir/common/testing/until";
import { canRun, run as runProgram } from "./weir.ts";

const root = new URL("../../", import.meta.url).pathname;
const tag = `wt-e2e-${Deno.pid}`;
const instance = `t${Deno.pid}`;
const server = `${tag}-server`;
const directory = `/run/${tag}`;
/** What flows are exported to; the agent makes the directory. */
const exported = `/run/${tag}-flows/drops.log`;
/** What an OTLP endpoint was sent, a request a line. */
const otlpReceived = `/run/${tag}-otlp.jsonl`;
const OTLP_ENDPOINT = `
  Deno.serve({ hostname: "127.0.0.1", port: 4318 }, async (request) => {
    const line = JSON.stringify({ path: new URL(request.url).pathname, body: await new Response(request.body.pipeThrough(new DecompressionStream("gzip"))).json() }) + "\\n";
    await Deno.writeTextFile(${JSON.stringify(otlpReceived)}, line, { append: true });
    return Response.json({});
  });`;
const cgroup = `${cgroupRootHere()}/${tag}`;
const environment = {
  WEIR_RUN_DIR: directory,
  WEIR_STATE_DIR: `${directory}/state`,
  WEIR_INSTANCE: instance,
};

const run = ([program, ...args]: string[], stdin?: string) => runProgram(program, args, stdin, environment);

async function ok(words: string[], stdin?: string): Promise<string> {
  const ran = await run(words, stdin);
  assert.equal(ran.code, 0, `${words.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return ran.out;
}

/** Who is denied hears nothing; who is allowed has time, on a machine that is slow. */
const DENIED_S = 2, ALLOWED_S = 20;
const curl = (maxS: number, url: string) => ["curl", "-s", "-o", "/dev/null", "--max-time", `${maxS}`, url];
const inside = (
  netns: string,
  ...words: string[]
) => ["nsenter", `--net=/run/netns/${netns}`, "--", ...words];
const weir = (...words: string[]) => inside(server, `${root}scripts/weir`, ...words);

/** Starts the agent and waits for its last word. */
async function startAgent(): Promise<Deno.ChildProcess> {
  const [program, ...args] = weir(
    ...["agent", "--control-plane", "--node-name", "server", "--ipv4", "192.0.2.1"],
    ...["--hubble-metrics-listen", "127.0.0.1"],
    ...["--hubble-export-file-path", exported, "--hubble-export-allowlist", '{"verdict":["DROPPED"]}'],
    ...["--hubble-export-fieldmask", "verdict source.pod_name destination.pod_name drop_reason_desc"],
    ...["--otlp-endpoint", "http://127.0.0.1:4318", "--otlp-metrics-interval-s", "1"],
  );
  const agent = new Deno.Command(program, {
    args,
    env: environment,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  })
    .spawn();
  let text = "";
  const reader = agent.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!text.includes("Weir is ready")) {
    const { value, done } = await reader.read();
    assert.ok(!done, `the agent ended before it was ready:\n${text}`);
    text += value;
  }
  (async () => {
    while (!(await reader.read()).done);
  })();
  return agent;
}

async function stopAgent(agent: Deno.ChildProcess, signal: Deno.Signal): Promise<void> {
  agent.kill(signal);
  await agent.status;
}

Deno.test({
  name: "one host: endpoints by hand, policy, stop, kill -9, restart with adoption, uninstall",
  ignore: !canRun,
  async fn() {
    let agent: Deno.ChildProcess | undefined;
    const processes: Deno.ChildProcess[] = [];
    const spaces = [server, `${tag}-web`, `${tag}-client`, `${tag}-stranger`];
    try {
      for (const name of spaces) await ok(["ip", "netns", "add", name]);
      await ok(["ip", "-n", server, "link", "set", "lo", "up"]);
      await ok(["ip", "-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "far0"]);
      for (const device of ["eth0", "far0"]) await ok(["ip", "-n", server, "link", "set", device, "up"]);
      await ok(["ip", "-n", server, "address", "add", "192.0.2.1/24", "dev", "eth0"]);

      const [serve, ...script] = inside(server, Deno.execPath(), "eval", OTLP_ENDPOINT);
      processes.push(new Deno.Command(serve, { args: script, stdout: "null", stderr: "null" }).spawn());
      agent = await startAgent();
      const second = await run(weir("agent", "--control-plane"));
      assert.equal(second.code, 1, second.out + second.err);
      assert.match(second.err, new RegExp(`pid ${agent.pid}`));

      for (
        const [name, label] of [["web", "app=web"], ["client", "app=client"], ["stranger", "app=stranger"]]
      ) {
        await ok(weir("endpoint", "add", name, "--netns", `${tag}-${name}`, "--label", label, "--wait"));
      }
      for (
        const [path, metric] of [["/metrics", "hubble_drop_total"], [
          "/metrics/datapath",
          "weir_datapath_gate",
        ]]
      ) {
        await until(
          `${path} has ${metric}`,
          async () =>
            (await run(inside(server, "curl", "-sf", `http://127.0.0.1:9965${path}`))).out
              .includes(`# TYPE ${metric} `),
        );
      }
      const listed = JSON.parse(await ok(weir("endpoint", "list", "-o", "json")));
      const address = listed.find((endpoint: { name: string }) => endpoint.name === "web").status.ipv4;
      const [program, ...args] = inside(
        `${tag}-web`,
        "python3",
        "-m",
        "http.server",
        "80",
        "--bind",
        "0.0.0.0",
      );
      processes.push(new Deno.Command(program, { args, stdout: "null", stderr: "null" }).spawn());
      const reaches = async (name: string, url = `http://${address}/`, maxS = ALLOWED_S) => {
        const ran = await run(inside(name === "host" ? server : `${tag}-${name}`, ...curl(maxS, url)));
        return ran.code === 0;
      };
      await until("the client reaches the web", () => reaches("client"));
      assert.equal(await reaches("stranger"), true, "without a policy everybody reaches everybody");

      await ok(
        weir("policy", "apply", "-f", "-"),
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web }\n" +
          "spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }\n",
      );
      await ok(
        inside(
          server,
          "deno",
          "run",
          "-A",
          "--no-check",
          `${root}scripts/wait-policy.ts`,
          "--timeout",
          "300",
        ),
      );
      // The service's selector finds the endpoint by its label.
      await ok(
        weir("service", "apply", "-f", "-"),
        "apiVersion: v1\nkind: Service\nmetadata: { name: web }\n" +
          "spec: { clusterIP: 10.96.0.77, selector: { app: web }, ports: [{ port: 8000, targetPort: 80 }] }\n",
      );
      const service = "http://10.96.0.77:8000/";
      await until("the client reaches the service", () => reaches("client", service, DENIED_S));
      assert.equal(await reaches("host", service), true, "the host reaches the service");
      const holds = async (when: string) => {
        assert.equal(await reaches("client"), true, `${when}: what is allowed goes on`);
        assert.equal(await reaches("client", service), true, `${when}: the service goes on`);
        for (const url of [undefined, service]) {
          assert.equal(
            await reaches("stranger", url, DENIED_S),
            false,
            `${when}: what is denied stays denied: ${url}`,
          );
        }
      };
      await holds("with the policy");
      await until(
        "the drop is told",
        async () => /web/.test(await ok(weir("observe", "--verdict", "DROPPED", "--last", "20"))),
      );
      const drops = async () =>
        (await Deno.readTextFile(exported).catch(() => "")).split("\n").slice(0, -1)
          .map((line) => JSON.parse(line)).filter(({ flow }) => flow?.source.pod_name === "stranger");
      await until("the drop is exported", async () => (await drops()).length > 0);
      const exportedFirst = await drops();
      assert.deepEqual(exportedFirst[0]?.flow, {
        verdict: "DROPPED",
        source: { pod_name: "stranger" },
        destination: { pod_name: "web" },
        drop_reason_desc: "POLICY_DENIED",
      });
      assert.match(exportedFirst[0].node_name, /server$/);
      const otlp = async (path: string, what: RegExp) =>
        (await Deno.readTextFile(otlpReceived).catch(() => "")).split("\n")
          .some((line) => line.includes(path) && what.test(line));
      const hasOtlp = async () =>
        await otlp("/v1/logs", /"hubble.source.pod_name","value":\{"stringValue":"stranger"/) &&
        await otlp("/v1/metrics", /"weir-datapath".*weir_datapath_gate/) &&
        await otlp("/v1/metrics", /"weir-flow-exporter".*hubble_drop_total/);
      await until("flows and metrics come by OTLP", hasOtlp);

      // A process tree is an endpoint too: its own identity, though it has the host's addresses.
      await Deno.mkdir(cgroup);
      await ok(
        weir(
          "endpoint",
          "add",
          "job",
          "--cgroup",
          cgroup,
          "--label",
          "app=client",
          "--label",
          "kind=job",
          "--wait",
        ),
      );
      const jobReaches = async (url = `http://${address}/`) => {
        const enterCgroup = ["sh", "-c", `echo $$ > ${cgroup}/cgroup.procs && exec "$@"`, "sh"];
        return (await run([...enterCgroup, ...inside(server, ...curl(DENIED_S, url))])).code === 0;
      };
      await until("the job is a client too", () => jobReaches());
      await until("of the service too", () => jobReaches(service));
      await ok(
        weir("policy", "apply", "-f", "-"),
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: job }\n" +
          "spec: { endpointSelector: { matchLabels: { kind: job } }, egress: [{ toEndpoints: [{ matchLabels: { app: other } }] }] }\n",
      );
      await ok(
        inside(
          server,
          "deno",
          "run",
          "-A",
          "--no-check",
          `${root}scripts/wait-policy.ts`,
          "--timeout",
          "300",
        ),
      );
      assert.equal(await jobReaches(), false, "the job may not leave");
      assert.equal(await jobReaches(service), false, "nor by the service");
      await ok(weir("policy", "delete", "cnp:default/job"));
      await ok(weir("endpoint", "delete", "job"));

      const tested = await run(weir("connectivity", "test", "-o", "json"));
      const { target, results } = JSON.parse(tested.out || "{}") as {
        target: string;
        results: { name: string; state: string; faults: unknown[] }[];
      };
      assert.equal(
        tested.code,
        0,
        tested.err + JSON.stringify(results?.filter((one) => one.faults.length > 0)),
      );
      assert.equal(target, "host server");
      const count = (state: string) => results.filter((one) => one.state === state).length;
      assert.ok(count("passed") > 30 && count("skipped") > 5, JSON.stringify(results));
      const netns = (await ok(["ip", "netns"])) + await ok(weir("endpoint", "list")) +
        await ok(weir("policy", "list"));
      assert.doesNotMatch(netns, /weir-test-/, "nothing of the scenarios is left");

      const dump = `${directory}/dump.tar.gz`;
      assert.equal(await reaches("stranger", undefined, DENIED_S), false);
      await ok(weir("sysdump", "-o", dump));
      const dumped = await ok(
        weir("sysdump", "explain", dump, "--", "observe", "--verdict", "DROPPED", "--last", "5"),
      );
      assert.match(dumped, /stranger.*DROPPED BY default deny of default\/web/);
      assert.match(await ok(weir("sysdump", "explain", dump)), /sysdump of host .*\n[^]*Weir is ready/);

      await stopAgent(agent, "SIGTERM");
      await holds("after the agent was stopped");
      agent = await startAgent();
      await holds("after the agent came back");
      await until(
        "flows go on into the same file",
        async () => (await drops()).length > exportedFirst.length,
      );
      const status = JSON.parse(await ok(weir("status", "--wait", "--timeout", "300", "-o", "json")));
      assert.equal(status.nodes[0].datapath.rebuilt, 0, "nothing is rebuilt");
      assert.equal(status.nodes[0].datapath.leftovers, 0, "nothing is left over");
      assert.ok(status.nodes[0].datapath.adopted > 0, "what was there is adopted");

      await stopAgent(agent, "SIGKILL");
      await holds("after kill -9 of the agent");
      agent = await startAgent();
      await holds("after the agent came back from kill -9");

      const refused = await run(weir("uninstall", "--instance", instance));
      assert.equal(refused.code, 1);
      assert.match(refused.err, /stop it first/);
      await ok(weir("endpoint", "delete", "stranger"));
      await stopAgent(agent, "SIGTERM");
      agent = undefined;
      await ok(weir("uninstall", "--instance", instance));
      await assert.rejects(Deno.stat(`/sys/fs/bpf/weir/${instance}`), Deno.errors.NotFound);
      const devices = await ok(["ip", "-n", server, "-o", "link"]);
      assert.deepEqual(
        devices.trim().split("\n").map((line) => line.split(": ")[1].split("@")[0]).sort(),
        ["eth0", "far0", "lo"],
        "no device of ours is left",
      );
    } finally {
      if (agent !== undefined) await stopAgent(agent, "SIGTERM").catch(() => {});
      for (const process of processes) {
        process.kill("SIGKILL");
        await process.status;
      }
      await run(weir("uninstall", "--instance", instance));
      for (const name of spaces) await run(["ip", "netns", "delete", name]);
      await Deno.remove(cgroup).catch(() => {});
      await Deno.remove(directory, { recursive: true }).catch(() => {});
      await Deno.remove(otlpReceived).catch(() => {});
      await Deno.remove(exported.slice(0, exported.lastIndexOf("/")), { recursive: true }).catch(() => {});
      await Deno.remove(`/sys/fs/bpf/weir/${instance}`, { recursive: true }).catch(() => {});
    }
  },
});

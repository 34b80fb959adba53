/**
 * HTTP rules for processes of one host: a cgroup endpoint's requests to a server on the host itself are judged by the L7 proxy. The host is a
 * network namespace, so that nothing of this machine's own network is touched.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { cgroupRootHere } from "../cgroup_root.ts";
import { inCgroup } from "../../services/agent/proxy_cgroup.ts";
import { program } from "./service.ts";
import { canRun, run as runProgram } from "./weir.ts";

const root = new URL("../../", import.meta.url).pathname;
const tag = `wt-cg-${Deno.pid}`, directory = `/run/${tag}`, PORT = 8080;
const cgroup = `${cgroupRootHere()}/${tag}`;
const environment = {
  WEIR_RUN_DIR: directory,
  WEIR_STATE_DIR: `${directory}/state`,
  WEIR_INSTANCE: `c${Deno.pid}`,
};
const inside = (...words: string[]) => ["nsenter", `--net=/run/netns/${tag}`, "--", ...words];
const weir = (...words: string[]) => inside(`${root}scripts/weir`, ...words);
const run = ([command, ...args]: string[], stdin?: string) => runProgram(command, args, stdin, environment);
async function ok(words: string[], stdin?: string): Promise<string> {
  const ran = await run(words, stdin);
  assert.equal(ran.code, 0, `${words.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return ran.out;
}

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: job }
spec:
  endpointSelector: { matchLabels: { app: job } }
  egress:
    - toEntities: [host]
      toPorts: [{ ports: [{ port: "${PORT}", protocol: TCP }], rules: { http: [{ method: GET, path: "/public(/.*)?" }] } }]
`;

Deno.test({
  name:
    "L7 rules judge the requests of a cgroup's processes to a server on the same host, by loopback and by its address",
  ignore: !canRun,
  async fn() {
    let agent: Deno.ChildProcess | undefined, server: Deno.ChildProcess | undefined;
    try {
      await ok(["ip", "netns", "add", tag]);
      await ok(["ip", "-n", tag, "link", "set", "lo", "up"]);
      await ok(["ip", "-n", tag, "link", "add", "eth0", "type", "veth", "peer", "name", "far0"]);
      for (const device of ["eth0", "far0"]) await ok(["ip", "-n", tag, "link", "set", device, "up"]);
      await ok(["ip", "-n", tag, "address", "add", "192.0.2.1/24", "dev", "eth0"]);
      const [command, ...args] = weir(
        "agent",
        "--control-plane",
        "--node-name",
        "server",
        "--ipv4",
        "192.0.2.1",
      );
      agent = new Deno.Command(command, {
        args,
        env: environment,
        stdin: "null",
        stdout: "null",
        stderr: "null",
      })
        .spawn();
      await until(
        "the agent",
        async () => (await run(weir("status", "--wait", "--timeout", "60"))).code === 0,
        300,
      );
      const [serve, ...script] = inside("python3", program("http_server.py"), `${PORT}`);
      server = new Deno.Command(serve, { args: script, stdout: "null", stderr: "null" }).spawn();
      await Deno.mkdir(cgroup);
      await ok(weir("endpoint", "add", "job", "--cgroup", cgroup, "--label", "app=job", "--wait"));

      const curl = async (url: string, ...more: string[]) => {
        const words = ["curl", "-sS", "-g", "--max-time", "20", "-w", "\n%{http_code}", ...more, url];
        const { out, err } = await run(inCgroup(cgroup, inside(...words)));
        const [, body = "", status = ""] = /^([\s\S]*)\n(\d+)$/.exec(out) ?? [];
        return { status: Number(status), body, err };
      };
      await until("the server", async () => (await curl(`http://127.0.0.1:${PORT}/secret`)).status === 200);
      await ok(weir("policy", "apply", "-f", "-"), POLICY);
      await until(
        "the rules are in force",
        async () => (await curl(`http://127.0.0.1:${PORT}/secret`)).status === 403,
        60,
      );
      for (const host of ["127.0.0.1", "192.0.2.1", "[::1]"]) {
        const allowed = await curl(`http://${host}:${PORT}/public/x?y=1`);
        assert.equal(allowed.status, 200, `${host}: ${allowed.err}`);
        const denied = await curl(`http://${host}:${PORT}/secret`);
        assert.deepEqual([denied.status, denied.body], [403, "Access denied\r\n"], `${host}: ${denied.err}`);
        assert.equal((await curl(`http://${host}:${PORT}/public/x`, "-X", "POST")).status, 403, host);
      }
      // Whoever is not in the control group is not judged.
      assert.match(await ok(inside("curl", "-sS", `http://127.0.0.1:${PORT}/secret`)), /./);
      // What it may not ask at all it does not reach.
      assert.equal((await curl("http://192.0.2.9:80/", "--max-time", "2")).status, 0);
      const flows = async () =>
        (await ok(weir("observe", "-t", "l7", "--last", "50", "-o", "json"))).split("\n").filter(Boolean)
          .map((line) => JSON.parse(line).flow);
      await until("the flows", async () => (await flows()).some(({ verdict }) => verdict === "DROPPED"), 30);
      for (const flow of await flows()) {
        assert.match(flow.l7.http.url, /\/(public|secret)/);
        assert.ok(["127.0.0.1", "192.0.2.1", "::1"].includes(flow.IP.source), flow.IP.source);
        assert.ok(["127.0.0.1", "192.0.2.1", "::1"].includes(flow.IP.destination), flow.IP.destination);
      }
    } finally {
      for (const process of [server, agent]) {
        try {
          process?.kill("SIGTERM");
        } catch {
          // It has ended.
        }
        await process?.status;
      }
      await run(weir("uninstall", "--instance", environment.WEIR_INSTANCE));
      await run(["ip", "netns", "delete", tag]);
      await Deno.remove(cgroup).catch(() => {});
      await Deno.remove(directory, { recursive: true }).catch(() => {});
    }
  },
});

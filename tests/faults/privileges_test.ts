/**
 * Least privilege, on real processes: no secret in arguments, each service with its own state, sockets that nobody else can
 * replace, and a flow exporter that reads and does not write.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { CAST, processes } from "./faulty_lab.ts";

const lab = new Lab(`priv${Deno.pid}`);
const weir = new URL("../../scripts/weir", import.meta.url).pathname;
const SECRET = `s3cret-of-the-database-of-${Deno.pid}`;
const sockets = () => `/run/weir/${lab.name}-node-1`;
const state = () => `${Deno.env.get("WEIR_STATE_DIR") ?? "/var/lib/weir"}/${lab.name}-node-1`;

const mode = async (path: string) => (await Deno.lstat(path)).mode! & 0o7777;

/** User and group of a process. */
async function idsOf(pid: number): Promise<{ uid: number; gid: number }> {
  const text = await Deno.readTextFile(`/proc/${pid}/status`);
  const id = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)![1]);
  return { uid: id("Uid"), gid: id("Gid") };
}

if (canRun) {
  Deno.test.beforeAll(async () => await lab.up(1, CAST.replaceAll("node-2", "node-1")));
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name: "each service has a directory of its own for state, mode 0700, below one that is root's",
  ignore: !canRun,
  async fn() {
    const own = ["identity-allocator", "policy-engine", "load-balancer", "endpoint-manager"];
    for (const row of await processes(lab)) {
      if (!own.includes(row.name)) continue;
      const { uid } = await idsOf(row.pid);
      assert.notEqual(uid, 0, row.name);
      assert.equal(await mode(`${state()}/${row.name}`), 0o700, row.name);
      assert.equal((await Deno.lstat(`${state()}/${row.name}`)).uid, uid, row.name);
    }
    const top = await Deno.lstat(state());
    assert.equal(top.uid, 0);
    assert.equal(top.mode! & 0o022, 0, "no service can put a directory in another's place");
    // What Deno lets a service open is a list of its own: no path of another service's state is in it.
    const { out } = await run("curl", [
      "-s",
      "--unix-socket",
      `${sockets()}/agent.sock`,
      "http://x/v1/processes",
    ]);
    for (const { name, permissions } of JSON.parse(out).items) {
      for (const other of own.filter((other) => other !== name)) {
        assert.equal(permissions.join(" ").includes(`${state()}/${other}`), false, `${name} and ${other}`);
      }
    }
  },
});

Deno.test({
  name: "nobody without privileges can remove or replace the sockets of services and agent",
  ignore: !canRun,
  async fn() {
    assert.equal(await mode(sockets()), 0o3770);
    const exporter = (await processes(lab)).find(({ name }) => name === "flow-exporter")!;
    const { uid, gid } = await idsOf(exporter.pid);
    const asService = (...words: string[]) =>
      run("setpriv", [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--", ...words]);
    for await (const { name } of Deno.readDir(sockets())) {
      if (!name.endsWith(".sock") || name === "notify.sock") continue;
      await until(`${name} is root's`, async () => (await Deno.lstat(`${sockets()}/${name}`)).uid === 0);
      assert.notEqual((await asService("rm", "-f", `${sockets()}/${name}`)).code, 0, name);
      assert.notEqual((await asService("mv", `${sockets()}/${name}`, `${sockets()}/x`)).code, 0, name);
    }
  },
});

Deno.test({
  name: "the flow exporter's sockets of its node answer questions and refuse every change",
  ignore: !canRun,
  async fn() {
    const exporter = (await processes(lab)).find(({ name }) => name === "flow-exporter")!;
    const words = (await Deno.readTextFile(`/proc/${exporter.pid}/cmdline`)).replaceAll("\0", " ");
    assert.match(words, /datapath-read\.sock/);
    assert.doesNotMatch(
      words,
      /\/(datapath|endpoint-manager|identity-allocator|policy-engine|load-balancer)\.sock/,
    );
    const ask = async (socket: string, method: string, path: string) => {
      const { out } = await run("curl", [
        ...["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "-d", "{}"],
        ...["--unix-socket", `${sockets()}/${socket}`, `http://x/v1/${path}`],
      ]);
      return out;
    };
    for (const socket of ["datapath-read.sock", "endpoint-manager-read.sock"]) {
      assert.equal(await ask(socket, "GET", "endpoints"), "200", socket);
      assert.equal(await ask(socket, "PUT", "endpoints/x"), "403", socket);
      assert.equal(await ask(socket, "DELETE", "endpoints/default%2Fserver-1"), "403", socket);
      assert.equal(await ask(socket, "POST", "sync"), "403", socket);
    }
    for (
      const [socket, path] of [["identity-allocator", "identities"], ["policy-engine", "policies"], [
        "load-balancer",
        "services",
      ]]
    ) {
      assert.equal(await ask(`${socket}-read.sock`, "GET", path), "200", socket);
      assert.equal(await ask(`${socket}-read.sock`, "DELETE", `${path}/x`), "403", socket);
      assert.equal(await ask(`${socket}-read.sock`, "POST", `${path}:apply`), "403", socket);
    }
    await until(
      "the flow exporter is ready",
      async () => await ask("flow-exporter.sock", "GET", "../readyz") === "200",
    );
    await lab.expect(["from: client-1, to: server-1, port: 80, expect: allow"]);
  },
});

Deno.test({
  name: "the password of the database is in no argument, and only in the environment of those who need it",
  ignore: !canRun,
  async fn() {
    const name = `priv${Deno.pid}s`;
    await run("ip", ["netns", "add", name]);
    const directory = await Deno.makeTempDir();
    await Deno.chmod(directory, 0o755);
    // Nobody serves that database: the services wait for it, which is long enough to look at them.
    const agent = new Deno.Command("nsenter", {
      args: [
        `--net=/run/netns/${name}`,
        "--",
        weir,
        "agent",
        "--control-plane",
        "--instance",
        name,
        "--no-socket-lb",
      ],
      env: {
        WEIR_DATABASE_URL: `postgres://weir:${SECRET}@127.0.0.1:9/weir`,
        WEIR_RUN_DIR: `${directory}/run`,
        WEIR_STATE_DIR: `${directory}/state`,
      },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      const holders = new Map<string, boolean>();
      await until("every service has begun", async () => {
        for await (const { name: pid } of Deno.readDir("/proc")) {
          if (!/^\d+$/.test(pid)) continue;
          const words = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
          assert.equal(words.includes(SECRET), false, `arguments of ${pid}: ${words.slice(0, 80)}`);
          const service = new RegExp(`--socket\0${directory}/run/${name}/([a-z-]+)\\.sock`).exec(words)?.[1];
          if (service === undefined) continue;
          const environment = await Deno.readTextFile(`/proc/${pid}/environ`).catch(() => "");
          holders.set(service, environment.includes(SECRET));
        }
        return holders.size >= 6;
      });
      for (const [service, has] of holders) {
        const needs = ["identity-allocator", "policy-engine", "load-balancer", "flow-history"].includes(
          service,
        );
        assert.equal(has, needs, service);
      }
    } finally {
      agent.kill("SIGTERM");
      await agent.status;
      await run(weir, ["uninstall", "--instance", name]);
      await run("ip", ["netns", "delete", name]);
      await Deno.remove(directory, { recursive: true });
    }
    const refused = await run(weir, [
      "agent",
      "--control-plane",
      `--database-url=postgres://u:${SECRET}@h/db`,
    ]);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /WEIR_DATABASE_URL/);
    assert.equal(refused.err.includes(SECRET), false);
  },
});

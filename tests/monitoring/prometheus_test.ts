/**
 * deploy/prometheus and deploy/grafana with the real Prometheus: its own judge of rules, configuration and metrics, and its server, which
 * scrapes every service of a lab, evaluates every alert and answers every query of the dashboards.
 * @module
 */
import assert from "node:assert/strict";
import { parse, stringify } from "yaml";
import { until } from "@weir/common/testing/until";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { exposed, expressions, labelsOf, metricsOf } from "./expressions.ts";

const root = new URL("../../", import.meta.url).pathname, deploy = `${root}deploy/prometheus`;
const tools = `${root}.build/prometheus`;
const isThere = await Deno.stat(`${tools}/promtool`).then(() => true, () => false);
if (!isThere) {
  console.log(
    "SKIP tests/monitoring: no promtool: tests/monitoring/fetch-prometheus unpacks it (it needs the network once)",
  );
}

const lab = new Lab(`prom${Deno.pid}`), cast = `${root}deploy/examples/star-wars`;
const NODES = ["node-1", "node-2"];
/** Paths of what `--hubble-metrics-listen` serves, by service. */
const SERVED: Readonly<Record<string, string>> = {
  "flow-exporter": "/metrics",
  ...Object.fromEntries(
    ["datapath", "endpoint-manager", "identity-allocator", "policy-engine", "load-balancer"]
      .map((service) => [service, `/metrics/${service}`]),
  ),
};

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.upFrom(NODES.length, cast);
    await lab.apply(await Deno.readTextFile(`${cast}/policies/rule1.yaml`));
    await lab.expect([
      "from: empire/tiefighter, to: empire/deathstar-2, port: 80, expect: allow",
      "from: alliance/xwing, to: empire/deathstar-2, port: 80, expect: deny",
    ]);
  });
  Deno.test.afterAll(async () => await lab.down());
}

const socketOf = (node: string, service: string) => `/run/weir/${lab.name}-${node}/${service}.sock`;

async function scraped(node: string, service: string): Promise<string> {
  const { out } = await run("curl", [
    "-sf",
    "-m",
    "20",
    "--unix-socket",
    socketOf(node, service),
    "http://x/metrics",
  ]);
  return out;
}

async function promtool(words: string[], stdin = ""): Promise<void> {
  const { code, out, err } = await run(`${tools}/promtool`, words, stdin);
  assert.equal(code, 0, `promtool ${words.join(" ")}\n${out}${err}`);
  // Advice ends with 3, or is told alone.
  assert.equal(err.trim(), "", `promtool ${words.join(" ")}`);
}

/** As Grafana would ask: with what stands for a variable. */
const asked = (expr: string) => expr.replaceAll(/\$__\w+/g, "1m").replaceAll(/\$\{?\w+\}?/g, ".*");

Deno.test({
  name: "promtool finds nothing wrong with the configuration, the alerts and the dashboards' queries",
  ignore: !isThere,
  async fn() {
    await promtool(["check", "rules", `${deploy}/alerts.yml`]);
    await promtool(["check", "config", `${deploy}/prometheus.yml`]);
    const file = await Deno.makeTempFile({ suffix: ".yml" });
    try {
      const rules = (await expressions()).map(({ expr }, n) => ({ record: `query:${n}`, expr: asked(expr) }));
      assert.ok(rules.length > 30);
      await Deno.writeTextFile(file, stringify({ groups: [{ name: "queries", rules }] }));
      await promtool(["check", "rules", file]);
    } finally {
      await Deno.remove(file);
    }
  },
});

Deno.test({
  name: "promtool finds nothing wrong with what each service exposes",
  ignore: !canRun || !isThere,
  async fn() {
    const sockets = await Array.fromAsync(Deno.readDir(`/run/weir/${lab.name}-node-1`), ({ name }) => name);
    const services = sockets.filter((name) =>
      /^[a-z-]+\.sock$/.test(name) && !/^hubble|^notify|^ui-page/.test(name)
    )
      .map((name) => name.replace(".sock", ""));
    assert.ok(Object.keys(SERVED).every((service) => services.includes(service)), `${services}`);
    for (const service of services) {
      const text = await scraped("node-1", service);
      assert.ok(text.length > 100, service);
      await promtool(["check", "metrics"], text);
    }
  },
});

Deno.test({
  name: "alerts and dashboards ask for metrics and labels that services expose, and for nothing else",
  ignore: !canRun,
  async fn() {
    const texts = await Promise.all(Object.keys(SERVED).map((service) => scraped("node-1", service)));
    const known = exposed(texts), asked = await expressions();
    assert.ok(asked.length > 30);
    for (const { where, expr } of asked) {
      const names = metricsOf(expr);
      assert.deepEqual(names.filter((name) => !known.has(name)), [], where);
      // What has no series yet has no labels to compare.
      const withSeries = names.map((name) => known.get(name)!).filter((labels) => labels.size > 0);
      if (withSeries.length === 0 || withSeries.length < names.length) continue;
      const labels = new Set(withSeries.flatMap((each) => [...each]));
      assert.deepEqual(labelsOf(expr).filter((label) => !labels.has(label)), [], `${where}: ${expr}`);
    }
  },
});

Deno.test({
  name: "a real Prometheus scrapes every job, evaluates every alert and answers every query",
  ignore: !canRun || !isThere,
  async fn() {
    const directory = await Deno.makeTempDir(), served: string[] = [];
    // Plays --hubble-metrics-listen of both nodes on one address: NODE is the first part of the path.
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const [, node, ...path] = new URL(request.url).pathname.split("/");
      const [service] = Object.entries(SERVED).find(([, one]) => one === `/${path.join("/")}`) ?? [];
      if (service === undefined || !NODES.includes(node)) return new Response("", { status: 404 });
      served.push(`${node} ${service}`);
      return new Response(await scraped(node, service), {
        headers: { "content-type": "text/plain; version=0.0.4" },
      });
    });
    const config = parse(await Deno.readTextFile(`${deploy}/prometheus.yml`));
    config.global = { scrape_interval: "1s", evaluation_interval: "1s" };
    config.rule_files = [`${deploy}/alerts.yml`];
    config.scrape_configs = config.scrape_configs.flatMap((
      job: { job_name: string; metrics_path?: string },
    ) =>
      (/flows|datapath|endpoint/.test(job.job_name) ? NODES : ["node-1"]).map((node) => ({
        job_name: `${job.job_name}-${node}`,
        metrics_path: `/${node}${job.metrics_path ?? "/metrics"}`,
        static_configs: [{ targets: [`127.0.0.1:${server.addr.port}`], labels: { instance: node } }],
      }))
    );
    await Deno.writeTextFile(`${directory}/prometheus.yml`, stringify(config));
    const port = freePort(), base = `http://127.0.0.1:${port}/api/v1`;
    const prometheus = new Deno.Command(`${tools}/prometheus`, {
      args: [
        `--config.file=${directory}/prometheus.yml`,
        `--storage.tsdb.path=${directory}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    const get = async (path: string) => {
      const answer = await fetch(`${base}/${path}`, { signal: AbortSignal.timeout(20_000) });
      const { status, data, error } = await answer.json();
      assert.equal(status, "success", `${path}: ${error}`);
      return data;
    };
    const query = async (expr: string) => (await get(`query?query=${encodeURIComponent(expr)}`)).result;
    try {
      let last = "";
      await until(() => `every job is scraped: ${last}`, async () => {
        const targets = await get("targets").then(({ activeTargets }) => activeTargets, () => []);
        last = targets.map((one: { scrapePool: string; lastError: string }) =>
          `${one.scrapePool} ${one.lastError}`
        ).join("; ");
        return targets.length === 9 && targets.every(({ health }: { health: string }) => health === "up");
      });
      // A rate wants two of each.
      await until("each is scraped again", () => served.length >= 3 * 9);
      let rules: { name: string; health: string; lastError?: string; state: string }[] = [];
      await until("every alert is evaluated", async () => {
        rules = (await get("rules")).groups.flatMap(({ rules }: { rules: unknown[] }) => rules);
        return rules.length > 10 && rules.every(({ health }) => health !== "unknown");
      });
      assert.deepEqual(rules.filter(({ health }) => health !== "ok"), []);
      let answered = 0;
      const all = await expressions();
      for (const { expr } of all) if ((await query(asked(expr))).length > 0) answered++;
      assert.ok(answered > all.length / 4, `${answered} of ${all.length} queries have something to show`);
      const drops = await query(`sum(hubble_drop_total{reason="POLICY_DENIED"})`);
      assert.ok(Number(drops[0].value[1]) >= 1);
    } finally {
      prometheus.kill("SIGKILL");
      await prometheus.status;
      await Deno.remove(directory, { recursive: true });
    }
  },
});

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

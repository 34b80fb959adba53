/**
 * What a user does with a cluster that has Weir, from where the kubeconfig is: the steps of weir_test.ts that are commands. All of
 * them go by the API server alone.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { WEIR_VERSION } from "../../services/common/version.ts";
import { unpackArchive } from "../../services/cli/sysdump/archive.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { type Ran, run } from "./cluster/process.ts";

const WEIR = new URL("../../scripts/weir", import.meta.url).pathname;
/** Few scenarios that are of each kind: traffic, a load balancer's address, a policy. */
const SUBSET = ["pod-to-pod-other-node", "pod-to-loadbalancer", "all-ingress-deny"].flatMap((
  name,
) => ["--test", `^${name}$`]);
const TEST_SECONDS_MAX = 400;

/** Runs `weir` in the cluster's network to its end. */
export type RunWeir = (...words: string[]) => Promise<Ran>;

/** Pods `one` and `two` are there, and a service `web`. */
export async function commandSteps(t: Deno.TestContext, cluster: Cluster, weir: RunWeir): Promise<void> {
  const ok = async (...words: string[]) => {
    const { code, out, err } = await weir(...words);
    assert.equal(code, 0, `weir ${words.join(" ")}\n${out}${err}`);
    return out;
  };

  await t.step("services of every node answer from a laptop, and are not changed", async () => {
    const flows = (await ok("observe", "--kubernetes", "--last", "20", "-o", "json")).trim().split("\n");
    assert.ok(flows.every((line) => JSON.parse(line).flow !== undefined), flows[0]);
    assert.match(await ok("endpoint", "list", "--kubernetes"), /default\/one/);
    assert.match(await ok("bpf", "endpoint", "list", "--kubernetes", "--node", "node-2"), /default\/two/);
    assert.match(await ok("service", "list", "--kubernetes"), /\bweb\b/);
    const ends = ["--from", "default/two", "--to", "default/one", "-p", "8080"];
    const why = await ok("explain", "--kubernetes", ...ends);
    assert.match(why, /ALLOWED/i);
    assert.match(await ok("status", "--kubernetes", "-v"), /Weir is ready[^]*node-1[^]*node-2/);
    const refused = await weir("endpoint", "delete", "default/one", "--kubernetes");
    assert.equal(refused.code, 1);
    assert.match(refused.err, /kubectl/);
    const other = await weir("verify", "x.o", "--kubernetes");
    assert.equal(other.code, 2, other.err);
  });

  await t.step(
    "Hubble's API and the page come through the API server, and are turned off and on",
    async () => {
      await ok("hubble", "status", "--wait");
      {
        await using forward = new Running(cluster, "hubble", "port-forward", "--listen", "127.0.0.1:0");
        const address = await forward.line();
        const flows = await ok("observe", "--server", address, "--last", "20", "-o", "json");
        const nodes = new Set(flows.trim().split("\n").map((line) => JSON.parse(line).node_name));
        assert.ok(nodes.size >= 1, flows);
        assert.equal(await forward.end(), 0, forward.err);
      }
      {
        await using page = new Running(cluster, "hubble", "ui", "--no-open", "--listen", "127.0.0.1:0");
        const url = await page.line(), jar = `${cluster.directory}/cookies`;
        const { code, out, err } = await run(
          cluster.inNetwork(["curl", "-sSL", "-m", "60", "-c", jar, "-b", jar, url]),
        );
        assert.equal(code, 0, err);
        assert.match(out, /<title>/);
        assert.equal(await page.end(), 0, page.err);
      }
      await ok("hubble", "disable");
      const off = await weir("hubble", "port-forward");
      assert.equal(off.code, 1);
      assert.match(off.err, /weir hubble enable/);
      await ok("hubble", "enable");
      await ok("hubble", "status", "--wait");
    },
  );

  await t.step("a sysdump has every node, and no secret, and is read as the cluster was", async () => {
    const path = `${await Deno.makeTempDir()}/dump.tar.gz`;
    await ok("sysdump", "--kubernetes", "-o", path, "--timeout", "60");
    const files = await unpackArchive((await Deno.open(path)).readable);
    for (const node of ["node-1", "node-2"]) {
      for (
        const file of ["agent.log", "network/routes.txt", "machine/uname.txt", "datapath/maps.policy.json"]
      ) {
        assert.ok(files.has(`nodes/${node}/${file}`), `${node}/${file}`);
      }
    }
    assert.ok(files.has("cluster/objects/events.json") && files.has("cluster/agent/processes.json"));
    const token = /token: (\S+)/.exec(await Deno.readTextFile(cluster.kubeconfig))?.[1] ?? "no token";
    for (const [name, bytes] of files) {
      assert.ok(!new TextDecoder().decode(bytes).includes(token), name);
    }
    // The exit code is that of how everything was: a node may have been behind for a moment.
    assert.match((await weir("sysdump", "explain", path)).out, /cluster https:.*node-1, node-2[^]*datapath/);
    assert.match(await ok("sysdump", "explain", path, "--", "endpoint", "list"), /default\/one/);
    assert.match(
      await ok("sysdump", "explain", path, "--", "bpf", "endpoint", "list", "--node", "node-2"),
      /default\/two/,
    );
    await ok("sysdump", "explain", path, "--", "observe", "--last", "5");
  });

  await t.step("weir connectivity test passes, and leaves nothing", async () => {
    const image = `localhost/weir-node:${WEIR_VERSION}`;
    const { code, out, err } = await weir(
      ...["connectivity", "test", "--kubernetes", "-o", "json", "--timeout", "30s", "--image", image],
      ...SUBSET,
    );
    assert.equal(code, 0, `${out}${err}`);
    const { results } = JSON.parse(out) as { results: { name: string; state: string }[] };
    const passed = results.filter(({ state }) => state === "passed").map(({ name }) => name);
    assert.ok(passed.includes("pod-to-loadbalancer") && passed.includes("all-ingress-deny"), out);
    await nothingLeft(cluster);
    const bad = await weir(
      ...[
        "connectivity",
        "test",
        "--kubernetes",
        "--image",
        "bed.test/none:1",
        "--test",
        "^pod-to-pod-other-node$",
      ],
    );
    assert.equal(bad.code, 1, bad.out);
    assert.match(bad.err, /none:1/);
    await nothingLeft(cluster);
  });

  await t.step("one run of it at a time; Ctrl-C ends one, which takes everything away", async () => {
    await using first = new Running(cluster, "connectivity", "test", "--kubernetes", "--timeout", "30s");
    await until("it to make pods", () => first.err.includes("making pods"));
    const second = await weir("connectivity", "test", "--kubernetes", ...SUBSET);
    assert.equal(second.code, 1);
    assert.match(second.err, /runs there already/);
    await until("pods to be there", async () => await cluster.kubectl(LEFT) !== "");
    assert.equal(await first.end(TEST_SECONDS_MAX), 1, `${first.out}${first.err}`);
    assert.match(first.err, /interrupted/);
    await nothingLeft(cluster);
  });
}

const LEFT = [
  ...["get", "namespaces", "-o", "name", "-l", "app.kubernetes.io/managed-by=weir-connectivity-test"],
];

async function nothingLeft(cluster: Cluster): Promise<void> {
  assert.equal(await cluster.kubectl(LEFT), "");
  const kinds = "ciliumclusterwidenetworkpolicies,ciliumloadbalancerippools";
  assert.equal(await cluster.kubectl(["get", kinds, "-o", "name"]), "");
  assert.equal(await cluster.kubectl(["get", "cnp,netpol", "-A", "-o", "name"]).then(ofTests), "");
}

const ofTests = (text: string) => text.split("\n").filter((line) => line.includes("weir-test")).join("\n");

/** `weir` in the cluster's network, until it is interrupted as by Ctrl-C. */
class Running implements AsyncDisposable {
  out = "";
  err = "";
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<unknown>;

  constructor(cluster: Cluster, ...words: string[]) {
    const [program, ...args] = cluster.inNetwork([WEIR, ...words]);
    this.#child = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped" })
      .spawn();
    const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, take: (text: string) => void) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
    };
    this.#read = Promise.all([
      read(this.#child.stdout, (text) => void (this.out += text)),
      read(this.#child.stderr, (text) => void (this.err += text)),
    ]);
  }

  /** The first line that it writes. */
  async line(): Promise<string> {
    const ended = this.#child.status.then(({ code }) => assert.fail(`it ended with ${code}: ${this.err}`));
    ended.catch(() => {});
    await Promise.race([until("it to begin", () => this.out.includes("\n")), ended]);
    return this.out.slice(0, this.out.indexOf("\n"));
  }

  /** Interrupts it. @returns its exit code */
  async end(seconds = 60): Promise<number> {
    // nsenter and env become the program: the process is weir itself.
    this.#child.kill("SIGINT");
    const late = setTimeout(() => this.#child.kill("SIGKILL"), seconds * 1000);
    try {
      const { code } = await this.#child.status;
      await this.#read;
      return code;
    } finally {
      clearTimeout(late);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#read;
  }
}

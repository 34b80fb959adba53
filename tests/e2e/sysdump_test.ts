/**
 * `weir sysdump` of a lab with a service that hangs, and with secrets wherever there may be some: it ends, says what it lacks, has no
 * secret, and is read by the same commands when the lab is gone.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, type Ran, run } from "./weir.ts";

const lab = new Lab(`dump${Deno.pid}`);
const weir = new URL("../../scripts/weir", import.meta.url).pathname;
/** Each is planted in a place of its own. */
const SECRETS = {
  policy: "s3cret-of-a-policy",
  service: "s3cret-of-a-service",
  url: "s3cret-of-a-url",
  variable: "s3cret-of-a-variable",
  log: "s3cret-of-a-log",
  token: "eyJ2IjoxLCJyIjoibm9kZSIsInMiOiJzM2NyZXQifQ",
};
const manifests = `apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec: { containers: [{ name: main, command: [sleep, infinity], ports: [{ containerPort: 80 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop, labels: { app: client } }
spec: { containers: [{ name: main, command: [sleep, infinity] }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop, annotations: { example.org/api-key: ${SECRETS.service} } }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop, annotations: { password: ${SECRETS.policy} } }
spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: friend } }] }] }
`;

/** Every word of the archive. */
async function wordsOf(path: string): Promise<string> {
  const { stdout, code } = await new Deno.Command("tar", { args: ["xzOf", path] }).output();
  assert.equal(code, 0);
  return new TextDecoder().decode(stdout);
}

Deno.test({
  name:
    "weir sysdump: a hung service is named, nothing is secret, and the same commands read it when the lab is gone",
  ignore: !canRun,
  async fn() {
    const directory = await Deno.makeTempDir(), path = `${directory}/dump.tar.gz`;
    const explain = (...words: string[]): Promise<Ran> =>
      run(weir, ["sysdump", "explain", path, "--", ...words]);
    const ok = async (...words: string[]): Promise<string> => {
      const { code, out, err } = await explain(...words);
      assert.equal(code, 0, `${words.join(" ")}: exit ${code}\n${out}${err}`);
      return out;
    };
    try {
      await lab.up(1, manifests);
      await lab.inForce();
      const denied = await lab.weir([
        "lab",
        "exec",
        "shop/client",
        "--",
        "curl",
        "-s",
        "-m",
        "1",
        "http://web.shop.svc:80/",
      ]);
      assert.notEqual(denied.code, 0);
      const log = `/run/weir/lab/${lab.name}/logs/node-1.agent.log`;
      await Deno.writeTextFile(
        log,
        `cannot reach postgres://weir:${SECRETS.url}@db/weir, password=${SECRETS.log}, weir-join.${SECRETS.token}, ${SECRETS.variable}\n`,
        { append: true },
      );
      const [{ processes }] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"])) as [{
        processes: { role: string; pid: number }[];
      }];
      const { pid } = processes.find(({ role }) => role === "load-balancer")!;
      const live = await lab.ok(["endpoint", "list", "-o", "json"]);
      Deno.kill(pid, "SIGSTOP");
      let dumped: Ran;
      try {
        const words = ["--lab", lab.name, "sysdump", "-o", path, "--timeout", "3"];
        dumped = await run(weir, words, "", { WEIR_TEST_PASSWORD: SECRETS.variable });
      } finally {
        Deno.kill(pid, "SIGCONT");
      }
      assert.equal(dumped.code, 0, dumped.err);
      assert.match(dumped.out, /cluster\/load-balancer\/livez.txt: hung: .* within 3/);
      assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);

      const words = await wordsOf(path);
      for (const [where, secret] of Object.entries(SECRETS)) {
        assert.ok(!words.includes(secret), `the secret of a ${where}`);
      }
      assert.match(
        words,
        /postgres:\/\/weir:REDACTED@db\/weir, password=REDACTED, weir-join\.REDACTED/,
        "and the rest is there",
      );
      for (
        const has of [/CONFIG_BPF=y/, /wei.*vxlan/, /ip_forward:1/, /"fields":/, /# TYPE weir_datapath_gate/]
      ) {
        assert.match(words, has);
      }
      const again = await run(weir, ["--lab", lab.name, "sysdump", "-o", path]);
      assert.equal(again.code, 1);
      assert.match(again.err, /it is there already/);

      await lab.down();
      const at = (text: string) =>
        JSON.parse(text).map(({ name, status }: { name: string; status: unknown }) => [name, status]);
      assert.deepEqual(at(await ok("endpoint", "list", "-o", "json")), at(live));
      assert.match(await ok("policy", "list"), /shop +web +CiliumNetworkPolicy +enforce +1\/1 nodes/);
      assert.match(
        await ok("observe", "--verdict", "DROPPED", "--last", "1"),
        /shop\/client.*DROPPED BY default deny of shop\/web/,
      );
      assert.match(await ok("bpf", "policy", "list", "--node", "node-1"), /node-1: \d+ of/);
      const why = await explain("explain", "--from", "shop/client", "--to", "shop/web", "--port", "80/TCP");
      assert.equal(why.code, 3, why.err);
      assert.match(why.out, /Denied by default: cnp:shop\/web/);
      assert.match(why.out, /load-balancer does not answer/);
      const status = await explain("status");
      assert.equal(status.code, 1, "who did not answer then is not well");
      assert.match(status.out, /load-balancer/);
      const change = await explain("policy", "delete", "cnp:shop/web");
      assert.match(change.err, /Cannot change anything in a sysdump/);
      const other = await explain("lab", "list");
      assert.equal(other.code, 2);

      const bytes = await Deno.readFile(path);
      await Deno.writeFile(path, bytes.subarray(0, bytes.length / 2));
      const cut = await explain("status");
      assert.equal(cut.code, 1);
      assert.match(cut.err, /damaged or cut off/);
    } finally {
      await run(weir, ["lab", "down", "--lab", lab.name]);
      await Deno.remove(directory, { recursive: true });
    }
  },
});

/**
 * The cast of the demo on a small lab: the lab's own commands, and the debugging scripts, each used as people use it.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`cast${Deno.pid}`);
const root = new URL("../../", import.meta.url).pathname;
const cast = `${root}deploy/examples/star-wars`;

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.upFrom(2, cast);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });
const script = (name: string, ...args: string[]) =>
  run("deno", ["run", "-A", "--no-check", `scripts/${name}.ts`, ...args, "--lab", lab.name]);

e2e("weir lab exec passes on stdin, output and exit code, and knows pods by name", async () => {
  assert.equal(await lab.ok(["lab", "exec", "alliance/xwing", "--", "cat"], "r2d2"), "r2d2");
  assert.equal((await lab.weir(["lab", "exec", "xwing", "--", "sh", "-c", "exit 7"])).code, 7);
  const answer = await lab.ok(["lab", "exec", "xwing", "--", "curl", "-sS", "http://deathstar-2.empire/"]);
  assert.equal(answer, "This is deathstar-2\n");
  assert.match(await lab.ok(["lab", "exec", "--node", "node-2", "--", "ip", "-4", "addr"]), /172\.30\.0\.12/);
  assert.match(await lab.ok(["lab", "exec", "--outside", "--", "ip", "-4", "addr"]), /172\.30\.0\.100/);
  assert.equal((await lab.weir(["lab", "exec", "nobody", "--", "true"])).code, 2);
});

e2e("weir lab list names every process with role, node and pid", async () => {
  const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  const roles = new Map<string, number>();
  for (const { role, pid } of listed.processes) {
    assert.ok(pid > 1, `${role} has pid ${pid}`);
    roles.set(role, (roles.get(role) ?? 0) + 1);
  }
  assert.deepEqual(
    [
      "lab",
      "agent",
      "datapath",
      "endpoint-manager",
      "flow-exporter",
      "policy-engine",
      "identity-allocator",
      "load-balancer",
      "pod",
    ]
      .map((role) => roles.get(role)),
    [1, 2, 2, 2, 2, 1, 1, 1, 5],
  );
});

e2e("only the datapath has FFI, and every other service runs without privileges", async () => {
  const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  for (const { role, pid } of listed.processes) {
    if (["lab", "agent", "pod"].includes(role)) continue;
    const command = (await Deno.readTextFile(`/proc/${pid}/cmdline`)).split("\0");
    const status = await Deno.readTextFile(`/proc/${pid}/status`);
    const bounding = /^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1];
    assert.match(status, /^NoNewPrivs:\s*1/m, role);
    if (role === "datapath") {
      assert.notEqual(bounding, "000001ffffffffff");
      continue;
    }
    assert.ok(
      !command.some((word) => /^--allow-(all|ffi|run)|^-A$/.test(word)),
      `${role}: ${command.join(" ")}`,
    );
    assert.match(status, /^CapEff:\s*0+$/m, role);
    assert.equal(bounding, "0000000000000000", role);
    assert.doesNotMatch(status, /^Uid:\s*0\s/m, role);
  }
});

e2e("weir lab test answers 1 when an expectation does not hold", async () => {
  assert.equal((await lab.weir(["lab", "test", `${cast}/tests/before.yaml`])).code, 0);
  const ran = await lab.weir(
    ["lab", "test", "-"],
    "- { from: xwing, to: deathstar-1, port: 80, expect: deny }\n",
  );
  assert.equal(ran.code, 1, ran.out + ran.err);
  assert.match(ran.out, /FAILED/);
  const refused = await lab.weir(
    ["lab", "test", "-"],
    "- { from: xwing, to: deathstar-1, port: 81, expect: deny }\n",
  );
  assert.equal(refused.code, 1, "a port that nobody listens on is no denial");
});

e2e(
  "the policy's life: wait-policy, compare-state, follow-connection and about-endpoint tell it",
  async () => {
    await lab.apply(await Deno.readTextFile(`${cast}/policies/rule1.yaml`));
    const waited = await script("wait-policy", "--timeout", "300");
    assert.equal(waited.code, 0, waited.out + waited.err);
    assert.match(waited.out, /in force on node-1 and node-2/);
    await lab.ok(["lab", "test", `${cast}/tests/after.yaml`]);

    let compared = { code: -1, out: "", err: "" };
    await until(() => `the kernel is as it should be: ${compared.out}${compared.err}`, async () => {
      compared = await script("compare-state");
      return compared.code === 0;
    });

    let denied = { code: -1, out: "", err: "" };
    // A flow is there a moment after its packet.
    await until(() => `the drop is told: ${denied.out}${denied.err}`, async () => {
      denied = await script("follow-connection", "alliance/xwing", "empire/deathstar-1", "80/TCP");
      return denied.code === 3 && /node-1: DROPPED INGRESS .*rule1/.test(denied.out);
    });
    assert.match(denied.out, /cnp:empire\/rule1/);
    const allowed = await script("follow-connection", "empire/tiefighter-2", "empire/deathstar-1", "80/TCP");
    assert.equal(allowed.code, 0, allowed.out + allowed.err);
    assert.match(allowed.out, /node-1: [1-9]\d* of \d+ entries/);

    const about = await script("about-endpoint", "empire/deathstar-1");
    assert.equal(about.code, 0, about.out + about.err);
    assert.match(about.out, /cnp:empire\/rule1/);
    assert.match(about.out, /map ipcache: [1-9]/);
  },
);

e2e("a relabel of a running pod changes what it may do", async () => {
  const lands = (expect: string) =>
    lab.expect([`from: alliance/xwing, to: empire/deathstar-2, port: 80, expect: ${expect}`]);
  await lands("deny");
  const namespaces = await lab.ok(["lab", "exec", "xwing", "--", "ip", "-o", "link"]);
  await lab.put(
    "apiVersion: v1\nkind: Pod\nmetadata: { name: lambda, namespace: empire, labels: { org: alliance } }\n" +
      "spec: { containers: [{ name: ship, command: [sleep, infinity] }] }\n",
  );
  const from = (expect: string) =>
    lab.expect([`from: empire/lambda, to: empire/deathstar-2, port: 80, expect: ${expect}`]);
  await from("deny");
  await lab.put(
    "apiVersion: v1\nkind: Pod\nmetadata: { name: lambda, namespace: empire, labels: { org: empire } }\n" +
      "spec: { containers: [{ name: ship, command: [sleep, infinity] }] }\n",
  );
  await lab.inForce();
  await from("allow");
  await lab.ok(["endpoint", "label", "empire/lambda", "org=alliance"]);
  await lab.inForce();
  await from("deny");
  await lab.ok(["lab", "delete", "pod/empire/lambda"]);
  assert.equal(await lab.ok(["lab", "exec", "xwing", "--", "ip", "-o", "link"]), namespaces);
  const listed = JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"]));
  assert.ok(!listed.some((endpoint: { name: string }) => endpoint.name === "empire/lambda"));
});

for (const how of ["in order", "after its daemon was killed with -9"]) {
  e2e(`weir lab down removes every trace of a lab ${how}, and nothing of another`, async () => {
    const other = new Lab(`gone${Deno.pid}`);
    await other.up(
      1,
      "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n" +
        "spec: { containers: [{ name: a, command: [sleep, infinity] }] }\n",
    );
    const listed = JSON.parse(await other.ok(["lab", "list", "-o", "json"]))[0].processes as {
      pid: number;
      role: string;
    }[];
    const commandOf = (pid: number) => Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
    const was = await Promise.all(listed.map(async (row) => ({ ...row, command: await commandOf(row.pid) })));
    if (how !== "in order") Deno.kill(listed.find(({ role }) => role === "lab")!.pid, "SIGKILL");
    await other.down();
    const left: string[] = [];
    for (const path of ["/run/netns", "/run/weir", "/run/weir/lab", "/var/lib/weir", "/sys/fs/bpf/weir"]) {
      for (const entry of await Array.fromAsync(Deno.readDir(path)).catch(() => [])) {
        if (entry.name.includes(other.name)) left.push(`${path}/${entry.name}`);
      }
    }
    for (const { pid, role, command } of was) {
      // What has ended and was not yet reaped by the container's first process has no command line any more; and its number may
      // be another's.
      if (command !== "" && await commandOf(pid) === command) left.push(`process ${role} ${pid}: ${command}`);
    }
    assert.deepEqual(left, []);
    await lab.ok(["lab", "status"]);
  });
}

e2e("weir lab up refuses what it cannot honour, by name, and leaves nothing half made", async () => {
  const ran = await lab.weir(
    ["lab", "apply", "-f", "-"],
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\n",
  );
  assert.equal(ran.code, 1);
  assert.match(ran.err, /Deployment/);
  const node = await lab.weir(
    ["lab", "apply", "-f", "-"],
    "apiVersion: v1\nkind: Pod\nmetadata: { name: x }\nspec: { nodeName: node-9, containers: [] }\n",
  );
  assert.equal(node.code, 1);
  assert.match(node.err, /node-9/);
  const again = await run(`${root}scripts/weir`, ["lab", "up", "--lab", lab.name]);
  assert.equal(again.code, 1);
  assert.match(again.err, /is up already/);
});

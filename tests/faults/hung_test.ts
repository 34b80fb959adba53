/**
 * A process that stands still (SIGSTOP): every command ends and says so, traffic goes on, what is denied stays denied, and
 * the agent starts it anew. The agent itself, and all of a node at once, likewise.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { CAST, clients, isWell, pidOf, pod, processes, processOf, signal, Witness } from "./faulty_lab.ts";

const lab = new Lab(`hung${Deno.pid}`);
/** Node-1 is patient, so that everything can be asked while something stands still, however slow the machine is. */
const PATIENCE = ["--agent", "node-1:hung-after-s=3000", "--agent", "node-2:hung-after-s=6"];
/** One that takes longer does not end: on a quiet machine they take less than ten seconds, whatever hangs. */
const COMMAND_S_MAX = 240;

/** Every command that asks something. */
const COMMANDS: string[][] = [
  ["status"],
  ["status", "-o", "json"],
  ["endpoint", "list"],
  ["endpoint", "get", "default/server-1", "--node", "node-1"],
  ["identity", "list"],
  ["policy", "list"],
  ["policy", "get", "cnp:default/clients"],
  ["policy", "explain", "--from", "default/client-1", "--to", "default/server-1", "--port", "80/TCP"],
  ["service", "list"],
  ["service", "pool", "list"],
  ["top", "events"],
  ["bpf", "ct", "list"],
  ["observe", "--last", "1"],
  ["lab", "list"],
  ["lab", "status"],
  ["lab", "exec", "default/client-1", "--", "true"],
];

/** Runs a command; fails when it does not end. */
async function ends(args: string[]): Promise<{ code: number; out: string; err: string }> {
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`weir ${args.join(" ")} hangs`)), COMMAND_S_MAX * 1000);
    Deno.unrefTimer(timer);
  });
  return await Promise.race([lab.weir(args), late]);
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, CAST, PATIENCE);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}

for (
  const service of [
    "datapath",
    "endpoint-manager",
    "flow-exporter",
    "l7-proxy",
    "policy-engine",
    "identity-allocator",
    "load-balancer",
  ]
) {
  Deno.test({
    name: `${service} stands still: every command ends, status says so, and traffic goes on`,
    ignore: !canRun,
    async fn() {
      await using witness = await Witness.begin(lab);
      const pid = await pidOf(lab, service, "node-1");
      Deno.kill(pid, "SIGSTOP");
      try {
        const [status, ...others] = await Promise.all(COMMANDS.map((args) => ends(args)));
        assert.match(status.out, new RegExp(`node-1 +${service} +hung`), status.out);
        assert.match(
          status.out,
          new RegExp(`node-1: HUNG: ${service}: .*; \\w+`),
          "what follows from it is said",
        );
        assert.equal(status.code, 1);
        for (const { code, err } of others) {
          if (code !== 0 && err !== "") assert.match(err, /weir: \S+/, "an error says what is wrong");
        }
        await witness.goesOn("while it stands still");
      } finally {
        signal(pid, "SIGCONT");
      }
      await witness.goesOn("after it goes on");
      await isWell(lab);
    },
  });
}

for (const service of ["datapath", "endpoint-manager", "flow-exporter", "l7-proxy"]) {
  Deno.test({
    name: `${service} stands still for too long: its agent starts it anew, and says why`,
    ignore: !canRun,
    async fn() {
      await using witness = await Witness.begin(lab);
      const before = await processOf(lab, "node-2", service);
      Deno.kill(before.pid, "SIGSTOP");
      await until("it is started anew", async () => {
        const now = await processOf(lab, "node-2", service);
        return now.restarts > before.restarts && now.state === "ready";
      });
      const after = await processOf(lab, "node-2", service);
      assert.notEqual(after.pid, before.pid);
      assert.match(after.lastError, /^hung: no answer for \d+ s/);
      await witness.goesOn("after it was started anew");
      await isWell(lab);
    },
  });
}

Deno.test({
  name: "an agent stands still: its services work, and it is started anew as systemd's watchdog would",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    const pid = await pidOf(lab, "agent", "node-2");
    Deno.kill(pid, "SIGSTOP");
    await until("it is started anew", async () => await pidOf(lab, "agent", "node-2") !== pid);
    await witness.goesOn("after it was started anew");
    await isWell(lab);
  },
});

Deno.test({
  name:
    "all of a node stands still, a policy and a pod come meanwhile: traffic goes on, and they come into force",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    const all = (await processes(lab)).filter(({ node, role }) => node === "node-2" && role !== "pod");
    assert.equal(all.length >= 4, true, JSON.stringify(all));
    for (const { pid } of all) Deno.kill(pid, "SIGSTOP");
    await lab.weir(["policy", "apply", "-f", "-", "--timeout", "1s"], clients("client", "late"));
    // The lab itself waits for a minute.
    const put = () => lab.weir(["lab", "apply", "-f", "-"], pod("late-1", 2));
    await until("the pod is ready", async () => (await put()).code === 0);
    await witness.goesOn("after the node stood still");
    await isWell(lab);
    await lab.inForce();
    await lab.expect(["from: late-1, to: server-1, port: 80, expect: allow"]);
    await lab.ok(["lab", "delete", "pod/default/late-1"]);
    await lab.apply(clients("client"));
  },
});

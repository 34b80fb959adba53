import { equal, match } from "node:assert/strict";
import { Backoff } from "@weir/common";
import { Child, type ChildSpec, type ChildStatus } from "./child.ts";

const spec = (script: string): ChildSpec => ({
  name: "test",
  role: "node",
  command: ["sh", "-c", script],
  environment: { PATH: Deno.env.get("PATH") ?? "" },
  socket: "/none",
  permissions: [],
});

const quick = () => new Backoff({ delayMsMin: 10, delayMsMax: 20 });

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 300 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  equal(condition(), true, "condition within 3 s");
}

Deno.test("Child restarts a process that ends, and says how it ended", async () => {
  const seen: ChildStatus[] = [];
  const child = new Child(spec("echo broken pipe dream >&2; exit 7"), {
    probeReadiness: () => Promise.resolve("nothing"),
    onChange: (status) => seen.push(status),
    backoff: quick(),
  });
  child.start();
  await until(() => child.status.restarts >= 2);
  await child.stop();
  match(child.status.lastError, /exit code 7: broken pipe dream/);
  equal(child.status.state, "stopped");
  equal(seen.some((status) => status.state === "backoff"), true);
});

Deno.test("Child becomes ready when its socket answers, and restarts after kill -9", async () => {
  const child = new Child(spec("exec sleep 60"), {
    probeReadiness: () => Promise.resolve(undefined),
    backoff: quick(),
    readinessIntervalMs: 5,
  });
  child.start();
  await until(() => child.status.state === "ready");
  const pid = child.status.pid;
  Deno.kill(pid, "SIGKILL");
  await until(() => child.status.restarts === 1 && child.status.state === "ready");
  equal(child.status.pid !== pid, true);
  match(child.status.lastError, /SIGKILL/);
  await child.stop();
});

Deno.test("Child closes stdin on stop and insists with SIGKILL on a process that ignores SIGTERM", async () => {
  const child = new Child(spec("trap '' TERM; while :; do sleep 0.05; done"), {
    probeReadiness: () => Promise.resolve(undefined),
    stopMsMax: 200,
    readinessIntervalMs: 5,
  });
  child.start();
  await until(() => child.status.state === "ready");
  const startedMs = Date.now();
  await child.stop();
  equal(Date.now() - startedMs >= 150, true);
  equal(child.status.pid, 0);
});

Deno.test("Child reports a program that does not exist", async () => {
  const child = new Child({ ...spec(""), command: ["/no/such/program"] }, {
    probeReadiness: () => Promise.resolve(undefined),
    backoff: quick(),
  });
  child.start();
  await until(() => child.status.restarts >= 1);
  match(child.status.lastError, /cannot start/);
  await child.stop();
});

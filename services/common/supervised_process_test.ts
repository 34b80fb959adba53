import { equal, match, ok } from "node:assert/strict";
import { Backoff } from "./backoff.ts";
import type { ProcessUsage } from "./sign_of_life.ts";
import {
  type SignOfLife,
  type SupervisedOptions,
  SupervisedProcess,
  type SupervisedStatus,
} from "./supervised_process.ts";

const run = (script: string, options: Partial<SupervisedOptions> = {}) =>
  new SupervisedProcess({
    command: { words: ["sh", "-c", script] },
    backoff: new Backoff({ delayMsMin: 10, delayMsMax: 20 }),
    ask: () => Promise.resolve({}),
    askIntervalMs: 5,
    ...options,
  });

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 3000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  equal(condition(), true, "condition within 30 s");
}

/** Answers as the process would: not while it is stopped. */
async function whetherStopped(pid: number, signal: AbortSignal): Promise<SignOfLife> {
  const state = await Deno.readTextFile(`/proc/${pid}/stat`).then((text) => text.split(") ")[1]?.[0]);
  if (state !== "T") return {};
  return await new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(new Error("silent")))
  );
}

Deno.test("SupervisedProcess restarts a process that ends, and says how it ended", async () => {
  const seen: SupervisedStatus[] = [];
  const process = run("echo broken pipe dream >&2; exit 7", {
    forwardsStderr: true,
    ask: () => Promise.resolve({ waitsFor: "nothing" }),
    onChange: (status) => seen.push(status),
  });
  process.start();
  await until(() => process.status.restarts >= 2);
  await process.stop();
  match(process.status.lastError, /^ended with exit code 7: broken pipe dream$/);
  equal(process.status.state, "stopped");
  equal(seen.some((status) => status.state === "backoff"), true);
});

Deno.test("SupervisedProcess is ready when it answers so, and is restarted after kill -9", async () => {
  const process = run("exec sleep 60");
  process.start();
  await until(() => process.status.state === "ready");
  const { pid } = process.status;
  Deno.kill(pid, "SIGKILL");
  await until(() => process.status.restarts === 1 && process.status.state === "ready");
  ok(process.status.pid !== pid);
  match(process.status.lastError, /SIGKILL/);
  await process.stop();
});

Deno.test("SupervisedProcess.stop() insists with SIGKILL on a process that ignores SIGTERM, or stands still", async () => {
  for (const still of [false, true]) {
    const process = run("trap '' TERM; while :; do sleep 0.05; done", { stopMsMax: 200 });
    process.start();
    await until(() => process.status.state === "ready");
    if (still) Deno.kill(process.status.pid, "SIGSTOP");
    await process.stop();
    equal(process.status.pid, 0);
  }
});

Deno.test("SupervisedProcess.stop(0) kills at once, also before the process has begun", async () => {
  const process = run("trap '' TERM; sleep 60", { ask: undefined });
  process.start();
  await process.stop(0);
  equal(process.status.state, "stopped");
  equal(process.status.pid, 0);
});

Deno.test("SupervisedProcess reports a program that does not exist, and what failed before the start", async () => {
  const missing = run("", { command: { words: ["/no/such/program"] } });
  const unprepared = run("exec sleep 60", { beforeStart: () => Promise.reject(new Error("no room")) });
  for (const process of [missing, unprepared]) {
    process.start();
    await until(() => process.status.restarts >= 1);
    match(process.status.lastError, /^cannot start: /);
    await process.stop();
  }
  match(unprepared.status.lastError, /no room/);
});

Deno.test("SupervisedProcess restarts one that stands still (SIGSTOP), says it is hung, and since when", async () => {
  const seen: SupervisedStatus[] = [];
  const process: SupervisedProcess = run("exec sleep 60", {
    hungAfterMs: 400,
    ask: (signal) => whetherStopped(process.status.pid, signal),
    onChange: (status) => seen.push(status),
  });
  process.start();
  await until(() => process.status.state === "ready");
  Deno.kill(process.status.pid, "SIGSTOP");
  await until(() => process.status.restarts === 1 && process.status.state === "ready");
  await process.stop();
  match(process.status.lastError, /^hung: no answer for \d+ s/);
  ok(seen.some(({ state, waitsFor }) => state === "hung" && waitsFor !== ""));
});

Deno.test("SupervisedProcess restarts one that turns in an endless loop", async () => {
  const process = run("echo an old trouble >&2; while :; do :; done", {
    forwardsStderr: true,
    lastWords: () => Promise.resolve("another old trouble"),
    hungAfterMs: 300,
    ask: silentAfter(3),
  });
  process.start();
  await until(() => process.status.restarts >= 1);
  await process.stop();
  match(process.status.lastError, /^hung: no answer for \d+ s$/, "what it wrote before is not why");
});

Deno.test("SupervisedProcess restarts one that answers that its work stands still, not one that says it once", async () => {
  let stuck: string | undefined = "resync has not turned for 75 s", answers = 0;
  const process = run("exec sleep 60", {
    hungAfterMs: 300,
    ask: () => Promise.resolve(++answers === 1 ? { stuck: "a moment" } : { stuck }),
  });
  process.start();
  await until(() => process.status.restarts === 1);
  match(process.status.lastError, /^hung: resync has not turned for 75 s, for \d+ s/);
  stuck = undefined;
  await until(() => process.status.state === "ready");
  await process.stop();
  equal(process.status.restarts, 1);
});

Deno.test("SupervisedProcess leaves one alone that answers late, and one that works with the little CPU it gets", async () => {
  let misses = 0;
  // A tenth of the time, however slow the machine is.
  const usage = (): Promise<ProcessUsage> =>
    Promise.resolve({ cpuMs: performance.now() / 10, waitMs: 0, state: "S" });
  const never = (signal: AbortSignal) =>
    new Promise<SignOfLife>((_, reject) =>
      signal.addEventListener("abort", () => (misses++, reject(new Error("late"))))
    );
  // Three of four questions are not answered in their time.
  let asked = 0;
  const process = run("exec sleep 60", {
    hungAfterMs: 1600,
    usage,
    ask: (signal) => ++asked > 12 || asked % 4 === 0 ? Promise.resolve({}) : never(signal),
  });
  process.start();
  await until(() => asked > 20);
  await process.stop();
  ok(misses >= 8, `${misses} answers were late`);
  equal(process.status.restarts, 0);
});

/** Answers so many times and then no more. */
function silentAfter(count: number): (signal: AbortSignal) => Promise<SignOfLife> {
  return (signal) =>
    count-- > 0
      ? Promise.resolve({})
      : new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("late"))));
}

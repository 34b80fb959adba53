/**
 * Starting and ending the lab daemon as a process of its own.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import type { CommandContext } from "./context.ts";

const DAEMON = new URL("../lab/main.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;
const START_MS_MAX = 20_000;
/** An orderly end of the lab has 30 seconds; then it is swept. */
const STOP_MS_MAX = 120_000;
// The lab reads /sys and /proc and runs whatever pods say: Deno has no narrower word for that.
const PERMISSIONS = ["--allow-all"];

/** Starts the daemon in a session of its own and waits until its socket answers. */
export async function startDaemon(
  context: CommandContext,
  lab: { name: string; nodes: number; routing: string; agentOptions: string[] },
): Promise<void> {
  const directory = `${context.run.path}/lab/${lab.name}`;
  await Deno.mkdir(directory, { recursive: true });
  const logFile = `${directory}/lab.log`;
  const log = openSync(logFile, "w");
  const child = spawn(Deno.execPath(), [
    "run",
    "--quiet",
    "--no-prompt",
    "--config",
    CONFIG,
    ...PERMISSIONS,
    DAEMON,
    "up",
    lab.name,
    String(lab.nodes),
    lab.routing,
    ...lab.agentOptions,
  ], { detached: true, stdio: ["ignore", log, log], cwd: "/" });
  let ended: number | undefined;
  child.once("exit", (code) => ended = code ?? 1);
  child.unref();
  const deadlineMs = Date.now() + START_MS_MAX;
  while (true) {
    const connection = await Deno.connect({ transport: "unix", path: `${directory}/lab.sock` }).catch(() =>
      undefined
    );
    if (connection !== undefined) {
      connection.close();
      return;
    }
    if (ended !== undefined || Date.now() > deadlineMs) {
      const text = (await Deno.readTextFile(logFile).catch(() => "")).trim();
      // Nothing was made yet: the directory alone would look like a lab.
      if (ended !== undefined) await Deno.remove(directory, { recursive: true }).catch(() => {});
      throw new Error(
        `Cannot start lab ${lab.name}: ${text.split("\n").at(-1) || "its daemon does not answer"}`,
      );
    }
    await delay(30);
  }
}

/** What `down` found. */
export interface DownReport {
  readonly daemon: number;
  readonly left: Record<string, number>;
}

/** Ends the daemon, if there is one, and sweeps what is left; works on whatever state the lab is in. */
export async function stopLab(name: string): Promise<DownReport> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--config", CONFIG, ...PERMISSIONS, DAEMON, "down", name],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(STOP_MS_MAX),
  }).output();
  if (code !== 0) throw new Error(`Cannot take lab ${name} down: ${new TextDecoder().decode(stderr).trim()}`);
  return JSON.parse(new TextDecoder().decode(stdout)) as DownReport;
}

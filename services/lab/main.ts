/**
 * The lab daemon as a process: `main.ts up LAB NODES ROUTING [AGENT OPTION]...`, and `main.ts down LAB`, which removes every trace.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { Logger } from "@weir/common";
import { LabDaemon, serve } from "./daemon.ts";
import { labDirectory } from "./paths.ts";
import { sweep } from "./sweep.ts";
import { topology } from "./topology.ts";

/** Nodes that compile and load for the first time on a small machine need long. */
const READY_MS_MAX = 300_000;
/** How long the daemon may take to end in order before the sweep does it. */
const STOP_MS_MAX = 30_000;

async function up(
  lab: string,
  nodesCount: number,
  routing: "tunnel" | "direct",
  agentOptions: string[],
): Promise<void> {
  const directory = labDirectory(lab);
  // After a reboot or a kill its state is there without its namespaces: endpoints of pods that nobody runs any more.
  await sweep(lab, { keepDirectory: true });
  await Deno.mkdir(`${directory}/logs`, { recursive: true });
  const hosts = `127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ${Deno.hostname()}\n`;
  await Deno.writeTextFile(`${directory}/hosts`, hosts);
  const daemon = new LabDaemon({ lab, nodesCount, routing, agentOptions, readyMsMax: READY_MS_MAX });
  daemon.writeRecord();
  const shutdown = await serve(daemon, new Logger({ name: "lab" }));
  const stopped = new Promise<void>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(name, () => resolve());
  });
  await Promise.race([daemon.start(), stopped]);
  await stopped;
  await Promise.race([daemon.stop(), delay(STOP_MS_MAX)]);
  await shutdown();
  await sweep(lab);
}

async function down(lab: string): Promise<void> {
  topology(lab, 1); // a name that no lab can have is refused before anything is looked for
  const pid = await daemonPid(lab);
  if (pid !== undefined) {
    Deno.kill(pid, "SIGTERM");
    Deno.kill(pid, "SIGCONT"); // one that stands still hears the other only when it runs
    const deadlineMs = Date.now() + STOP_MS_MAX + 10_000;
    while (await isDaemon(pid, lab) && Date.now() < deadlineMs) {
      await delay(30);
    }
    if (await isDaemon(pid, lab)) Deno.kill(pid, "SIGKILL");
  }
  console.log(JSON.stringify({ lab, daemon: pid ?? 0, left: await sweep(lab) }));
}

/** Process id of the lab's daemon while it lives. */
async function daemonPid(lab: string): Promise<number | undefined> {
  try {
    const { pid } = JSON.parse(await Deno.readTextFile(`${labDirectory(lab)}/lab.json`)) as { pid: number };
    return await isDaemon(pid, lab) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a process is the daemon of this lab; a pid may have gone to a stranger. */
async function isDaemon(pid: number, lab: string): Promise<boolean> {
  const command = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
  return command.includes("lab/main.ts") && command.split("\0").includes(lab);
}

const [action, lab, ...rest] = Deno.args;
try {
  if (action === "up") {
    await up(lab, Number(rest[0]), rest[1] === "direct" ? "direct" : "tunnel", rest.slice(2));
  } else if (action === "down") {
    await down(lab);
  } else {
    throw new Error(`unknown action ${action}: expected up or down`);
  }
  Deno.exit(0);
} catch (error) {
  console.error((error as Error).message);
  Deno.exit(1);
}

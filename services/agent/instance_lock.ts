/**
 * One agent per instance, and an orderly succession: a new agent waits until the children of a killed one are gone.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Layout } from "./layout.ts";

/** Another agent runs this instance. */
export class LockError extends Error {
  override readonly name = "LockError";
}

/** How long children of a predecessor may take to notice that it is gone, before they are killed. */
const PREDECESSOR_MS_MAX = 6000;

/** Takes the instance's lock until the process ends. Throws `LockError` when another agent has it. */
export async function ensureLock(layout: Layout): Promise<Disposable> {
  const path = `${layout.sockets}/agent.lock`;
  const file = await Deno.open(path, { create: true, read: true, write: true, mode: 0o600 });
  if (!await file.tryLock(true)) {
    const holder = (await Deno.readTextFile(path)).trim();
    file.close();
    throw new LockError(
      `Cannot start: instance "${layout.instance}" is run by the agent with pid ${
        holder || "unknown"
      }; stop it first, or choose another --instance`,
    );
  }
  await file.truncate();
  await file.write(new TextEncoder().encode(`${Deno.pid}\n`));
  return { [Symbol.dispose]: () => file.close() };
}

/** Writes down the process ids of the children, for a successor. */
export function rememberChildren(layout: Layout, pids: number[]): void {
  Deno.writeTextFileSync(`${layout.sockets}/agent.pids`, pids.join("\n") + "\n");
}

/** Waits for the children of an agent that was killed; kills those that do not end by themselves. */
export async function waitForPredecessors(layout: Layout): Promise<void> {
  const text = await Deno.readTextFile(`${layout.sockets}/agent.pids`).catch(() => "");
  const pids = text.split("\n").filter((line) => /^\d+$/.test(line)).map(Number);
  const isOurs = async (pid: number) => {
    const command = await commandLine(pid);
    // A pid may have been given to a stranger meanwhile: only processes on our own sockets count.
    return command.includes(`${layout.sockets}/`);
  };
  const deadlineMs = Date.now() + PREDECESSOR_MS_MAX;
  let left = pids;
  while (true) {
    const alive = await Promise.all(left.map(isOurs));
    left = left.filter((_, index) => alive[index]);
    if (left.length === 0) return;
    if (Date.now() > deadlineMs) break;
    await delay(50);
  }
  for (const pid of left) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** How long the kernel may take to say a command line: it waits for a process that waits for a device. */
const COMMAND_LINE_MS_MAX = 1000;

/** Command line of a process, `""` when there is none. By `cat`: Deno lets only --allow-all read /proc. */
async function commandLine(pid: number): Promise<string> {
  const { stdout } = await new Deno.Command("cat", {
    args: [`/proc/${pid}/cmdline`],
    stdin: "null",
    stderr: "null",
    signal: AbortSignal.timeout(COMMAND_LINE_MS_MAX),
  })
    .output();
  return new TextDecoder().decode(stdout);
}

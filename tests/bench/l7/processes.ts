/** Processes of a bench, and what they take from the processor. @module */

const TICK_US = 10_000;

/** A process that runs, and listens on a port of 127.0.0.1. */
export interface Listening {
  readonly pid: number;
  readonly port: number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a script that prints its port first. */
export async function start(args: string[]): Promise<Listening> {
  const child = new Deno.Command(Deno.execPath(), { args: ["run", "-A", ...args], stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  const port = Number(new TextDecoder().decode((await reader.read()).value));
  return {
    pid: child.pid,
    port,
    async [Symbol.asyncDispose]() {
      child.kill();
      await reader.cancel();
      await child.status;
    },
  };
}

/** Starts a program at a free port of 127.0.0.1, and waits until it takes connections there. @throws where it ends instead */
export async function startAt(commandAt: (port: number) => Deno.Command): Promise<Listening> {
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = free.addr;
  free.close();
  const child = commandAt(port).spawn();
  let ended = false;
  void child.status.then(() => ended = true);
  for (;;) {
    try {
      (await Deno.connect({ hostname: "127.0.0.1", port })).close();
      break;
    } catch {
      if (ended) throw new Error("Cannot start a peer of the bench: it ended");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return {
    pid: child.pid,
    port,
    async [Symbol.asyncDispose]() {
      if (!ended) child.kill();
      await child.status;
    },
  };
}

/** Processor time of a process, microseconds. */
export function usedUs(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

/** The one in the middle. */
export function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

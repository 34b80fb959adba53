/**
 * The agents of a lab, one per node, kept running as an init system would keep them.
 *
 * @module
 */
import { Backoff } from "@weir/common";
import { enter } from "./command.ts";
import type { LabNode } from "./topology.ts";

/** What the agent of a node is started with. */
export interface NodeAgentOptions {
  /** `scripts/weir`. */
  readonly weir: string;
  readonly args: readonly string[];
  readonly logFile: string;
}

/** One agent inside its node's network namespace. */
export class NodeAgent {
  #process: Deno.ChildProcess | undefined;
  #stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  #restarts = 0;
  #lastError = "";

  constructor(readonly node: LabNode, readonly options: NodeAgentOptions) {}

  get pid(): number {
    return this.#process?.pid ?? 0;
  }
  get restarts(): number {
    return this.#restarts;
  }
  get lastError(): string {
    return this.#lastError;
  }

  /** Begins to keep it running. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Stops it in order; insists after `stopMsMax`. */
  async stop(stopMsMax = 15_000): Promise<void> {
    this.#stopping.abort();
    const process = this.#process;
    if (process !== undefined) {
      this.#signal("SIGTERM");
      const timer = setTimeout(() => this.#signal("SIGKILL"), stopMsMax);
      await process.status;
      clearTimeout(timer);
    }
    await this.#loop;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 500, delayMsMax: 5000 });
    while (!this.#stopping.signal.aborted) {
      const startedMs = Date.now();
      // nsenter, not `ip netns exec`: that would give the agent another /sys, without the pins.
      const [program, ...args] = enter(this.node.netns, [
        "sh",
        "-c",
        'log=$0 && exec "$@" >>"$log" 2>&1',
        this.options.logFile,
        this.options.weir,
        "agent",
        "--supervised",
        ...this.options.args,
      ]);
      this.#process = new Deno.Command(program, { args, stdin: "piped", stdout: "null", stderr: "null" })
        .spawn();
      // Held open: an agent whose lab is gone ends by itself.
      this.#stdin = this.#process.stdin.getWriter();
      this.#stdin.closed.catch(() => {});
      const status = await this.#process.status;
      this.#process = undefined;
      await this.#stdin.close().catch(() => {});
      if (this.#stopping.signal.aborted) return;
      const how = status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
      this.#lastError = `agent ended with ${how}: ${await lastLine(this.options.logFile)}`;
      if (Date.now() - startedMs > 30_000) backoff.reset();
      const delayMs = backoff.nextMs();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, delayMs);
        this.#stopping.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), {
          once: true,
        });
      });
      this.#restarts++;
    }
  }

  #signal(name: Deno.Signal): void {
    try {
      this.#process?.kill(name);
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** The line of a log that says why it ended. */
async function lastLine(path: string): Promise<string> {
  const text = await Deno.readTextFile(path).catch(() => "");
  // deno-lint-ignore no-control-regex
  const lines = text.replace(/\x1b\[[0-9;]*m/g, "").trim().split("\n");
  return (lines.findLast((line) => line.startsWith("weir agent: ")) ?? lines.at(-1) ?? "").slice(0, 400);
}

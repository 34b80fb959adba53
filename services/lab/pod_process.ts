/**
 * The commands of a pod, run in its network namespace and started again when they die.
 *
 * @module
 */
import { Backoff } from "@weir/common";
import { enterPod } from "./hosts.ts";
import type { PodCommand } from "./manifests.ts";

/** Where a pod's command runs. */
export interface PodPlace {
  readonly netns: string;
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  /** Value of {@link POD_MARK} in the environment of all that the command starts. */
  readonly mark: string;
  /** Directory of the manifest. */
  readonly directory: string;
  readonly logFile: string;
  /** Mounted over /etc/hosts. */
  readonly hostsFile: string;
}

/** By this the processes of a pod are told from others in the same network namespace. */
export const POD_MARK = "WEIR_LAB_POD";
/** A command that ran this long before it died starts again at once. */
const STABLE_MS = 10_000;

/** One command that is kept running. */
export class PodProcess {
  #process: Deno.ChildProcess | undefined;
  #stopping = new AbortController();
  #loop: Promise<void>;
  #restarts = 0;
  #lastError = "";

  constructor(readonly command: PodCommand, readonly place: PodPlace) {
    this.#loop = this.#run();
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }
  get restarts(): number {
    return this.#restarts;
  }
  /** How it ended the last time, `""` while it never did. */
  get lastError(): string {
    return this.#lastError;
  }

  /**
   * Ends the command: SIGTERM, and SIGKILL when it has not ended after `graceMs`, at once by default. What it left
   * running in the namespace is the caller's to kill.
   */
  async stop(graceMs = 0): Promise<void> {
    this.#stopping.abort();
    if (graceMs > 0) kill(this.#process, "SIGTERM");
    const timer = setTimeout(() => kill(this.#process), graceMs);
    await this.#loop;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 200, delayMsMax: 10_000 });
    while (!this.#stopping.signal.aborted) {
      const startedMs = Date.now();
      try {
        this.#process = this.#spawn();
        if (this.#stopping.signal.aborted) kill(this.#process);
        const status = await this.#process.status;
        this.#lastError = status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
      } catch (error) {
        this.#lastError = (error as Error).message;
      }
      this.#process = undefined;
      if (this.#stopping.signal.aborted) return;
      if (Date.now() - startedMs > STABLE_MS) backoff.reset();
      await pause(backoff.nextMs(), this.#stopping.signal);
      this.#restarts++;
    }
  }

  #spawn(): Deno.ChildProcess {
    const { netns, namespace, pod, node, directory, logFile } = this.place;
    // The shell sends the output to the log and then becomes the command, so the pid is the command's.
    const [program, ...args] = enterPod(netns, this.place.hostsFile, [
      "sh",
      "-c",
      'cd "$0" && log=$1 && shift && exec "$@" >>"$log" 2>&1 </dev/null',
      this.command.directory ?? directory,
      logFile,
      ...this.command.words,
    ]);
    return new Deno.Command(program, {
      args,
      env: {
        ...this.command.environment,
        HOSTNAME: pod,
        POD_NAME: pod,
        POD_NAMESPACE: namespace,
        NODE_NAME: node,
        [POD_MARK]: this.place.mark,
      },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }
}

function kill(process: Deno.ChildProcess | undefined, signal: Deno.Signal = "SIGKILL"): void {
  try {
    process?.kill(signal);
  } catch {
    // It has ended meanwhile.
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

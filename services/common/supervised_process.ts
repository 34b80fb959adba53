/**
 * One process that is kept running: started, asked for signs of life, restarted with growing delays when it ends or hangs,
 * stopped within a bounded time.
 *
 * ```
 *  stopped ─▶ starting ─▶ ready ◀─▶ hung (no answer)
 *     ▲          │  ▲       │          │
 *     │          ▼  │       ▼          ▼ (for too long: it is killed)
 *     └────── backoff ◀──── it ended ◀─┘
 * ```
 *
 * @module
 */
import { Backoff } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { isHung, type ProcessUsage, readUsage, usedBetween } from "./sign_of_life.ts";

/** How a process is started. */
export interface ProcessCommand {
  /** Program and arguments. */
  readonly words: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Starts with `environment` alone; by default our own comes first. */
  readonly clearEnvironment?: boolean;
  readonly directory?: string;
}

/** What a process answers when it is asked how it is. */
export interface SignOfLife {
  /** What it waits for before it is ready; absent when it is. */
  readonly waitsFor?: string;
  /** Work of it that stands still although it answers. It counts as a missed answer. */
  readonly stuck?: string;
}

/** State of a process as people see it. */
export interface SupervisedStatus {
  /** 0 when none runs. */
  readonly pid: number;
  readonly restarts: number;
  readonly state: "starting" | "ready" | "hung" | "backoff" | "stopped";
  /** Since when it is in this state, Unix milliseconds. */
  readonly sinceMs: number;
  /** How it ended the last time, `""` while it never did. */
  readonly lastError: string;
  /** What it waits for, in its own words. */
  readonly waitsFor: string;
}

/** Options of {@link SupervisedProcess}; times in milliseconds. */
export interface SupervisedOptions {
  readonly command: ProcessCommand;
  /**
   * Holds a pipe to its standard input open and never writes: when the supervisor is gone, however it went, the process
   * reads the end of it and can end by itself. Default false.
   */
  readonly holdsStdin?: boolean;
  /** Passes its standard error on to ours and keeps the last words for `lastError`. Default false: dropped. */
  readonly forwardsStderr?: boolean;
  /** Last words of a process that writes to a log of its own. */
  readonly lastWords?: () => Promise<string>;
  /** Asks it how it is; rejects, or `signal` aborts, when there is no answer. Without one it is ready when it runs. */
  readonly ask?: (signal: AbortSignal) => Promise<SignOfLife>;
  readonly onChange?: (status: SupervisedStatus) => void;
  /** Called before each start; what it throws is told as the reason why it did not start. */
  readonly beforeStart?: () => Promise<void>;
  /** No answer for this long may mean that it is hung (see `sign_of_life.ts`). Default 20,000. */
  readonly hungAfterMs?: number;
  /** How long it may take from its start to its first answer. Default 120,000. */
  readonly startMsMax?: number;
  /** A process that ran this long before it ended begins again with the shortest delay. Default 30,000. */
  readonly stableMs?: number;
  readonly backoff?: Backoff;
  /** How long it may take to end after SIGTERM before SIGKILL. Default 5000. */
  readonly stopMsMax?: number;
  /** Between two questions while it is not ready; afterwards twenty times as long. Default 100. */
  readonly askIntervalMs?: number;
  readonly usage?: (pid: number) => Promise<ProcessUsage | undefined>;
  readonly clock?: Clock;
}

const STDERR_TAIL_CHARS_MAX = 2000;
/** A hung process is asked to end, and killed after this long. */
const HUNG_STOP_MS = 1000;
/** The kernel ends a killed process at once, but for one that waits for a device. Then we do not wait with it. */
const KILLED_MS_MAX = 5000;

/** One process that is kept running. */
export class SupervisedProcess {
  #process: Deno.ChildProcess | undefined;
  #stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #state: SupervisedStatus["state"] = "stopped";
  #restarts = 0;
  #sinceMs: number;
  #lastError = "";
  #waitsFor = "";
  /** Why we killed it, while it is dying of that. */
  #hung = "";
  #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  readonly #backoff: Backoff;
  readonly #clock: Clock;

  constructor(readonly options: SupervisedOptions) {
    this.#backoff = options.backoff ?? new Backoff({ delayMsMin: 100, delayMsMax: 10_000 });
    this.#clock = options.clock ?? systemClock;
    this.#sinceMs = this.#clock.nowMs();
  }

  get status(): SupervisedStatus {
    return {
      pid: this.#process?.pid ?? 0,
      restarts: this.#restarts,
      state: this.#state,
      sinceMs: this.#sinceMs,
      lastError: this.#lastError,
      waitsFor: this.#waitsFor,
    };
  }

  /** Begins to keep the process running. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /**
   * Ends the process for good: closes its standard input, asks with SIGTERM, insists with SIGKILL after `graceMs`, a second
   * when it does not answer anyway; 0 kills at once. Resolves in a bounded time.
   */
  async stop(graceMs: number = this.options.stopMsMax ?? 5000): Promise<void> {
    this.#stopping.abort();
    const process = this.#process;
    if (process !== undefined) {
      this.#closeStdin();
      await this.#end(process, this.#state === "hung" ? Math.min(graceMs, HUNG_STOP_MS) : graceMs);
    }
    await this.#within(this.#loop ?? Promise.resolve(), KILLED_MS_MAX);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const startedMs = this.#clock.monotonicMs();
      try {
        await this.options.beforeStart?.();
        this.#lastError = await this.#runOnce() || this.#lastError;
      } catch (error) {
        this.#lastError = `cannot start: ${(error as Error).message}`;
      }
      this.#process = undefined;
      if (signal.aborted) break;
      if (this.#clock.monotonicMs() - startedMs > (this.options.stableMs ?? 30_000)) this.#backoff.reset();
      this.#change("backoff");
      await this.#clock.sleep(this.#backoff.nextMs(), signal);
      this.#restarts++;
    }
    this.#change("stopped");
  }

  /** Runs the process to its end and answers why it ended. */
  async #runOnce(): Promise<string> {
    const process = this.#spawn();
    this.#process = process;
    this.#hung = "";
    // Stopped between the decision to start and now.
    if (this.#stopping.signal.aborted) signalTo(process, "SIGKILL");
    if (this.options.holdsStdin) {
      this.#stdin = process.stdin.getWriter();
      this.#stdin.closed.catch(() => {});
    }
    this.#change(this.options.ask === undefined ? "ready" : "starting");
    const ended = new AbortController();
    const tail = this.options.forwardsStderr ? forwardStderr(process.stderr) : Promise.resolve("");
    const watch = this.options.ask === undefined ? undefined : this.#watch(process, ended.signal);
    const status = await process.status;
    ended.abort();
    this.#closeStdin();
    await watch;
    if (this.#stopping.signal.aborted) return "";
    // Of one that was killed by us, what it wrote last says nothing of why.
    if (this.#hung !== "") return this.#hung;
    // What it started may hold its standard error open: its own last words are there by now.
    const words = await this.#within(tail, HUNG_STOP_MS) || await this.options.lastWords?.() || "";
    if (this.#stopping.signal.aborted) return "";
    const how = status.signal === null
      ? `ended with exit code ${status.code}`
      : `ended with signal ${status.signal}`;
    return `${how}${words === "" ? "" : `: ${words}`}`;
  }

  #spawn(): Deno.ChildProcess {
    const { words: [program, ...args], environment, clearEnvironment, directory } = this.options.command;
    return new Deno.Command(program, {
      args,
      cwd: directory ?? "/",
      clearEnv: clearEnvironment ?? false,
      env: { ...environment },
      stdin: this.options.holdsStdin ? "piped" : "null",
      stdout: "null",
      stderr: this.options.forwardsStderr ? "piped" : "null",
    }).spawn();
  }

  /** Asks until the process has ended; ends it itself when it is hung. */
  async #watch(process: Deno.ChildProcess, ended: AbortSignal): Promise<void> {
    const { hungAfterMs = 20_000, startMsMax = 120_000, askIntervalMs = 100, usage = readUsage } =
      this.options;
    let lastMs = this.#clock.monotonicMs(), misses = 0, answered = false;
    let stuckSinceMs: number | undefined, before: ProcessUsage | undefined;
    while (!ended.aborted) {
      const sign = await this.#ask(hungAfterMs / 4, ended);
      if (ended.aborted) return;
      const nowMs = this.#clock.monotonicMs();
      // Before its first answer it may be loading, and says so by what it uses.
      const limitMs = answered ? hungAfterMs : startMsMax;
      let hung: string | undefined;
      if ("missed" in sign) {
        misses++;
        const silentMs = nowMs - lastMs;
        if (answered) this.#seem("hung", sign.missed, lastMs);
        else this.#waitsFor = sign.missed;
        const now = misses === 1 || silentMs >= limitMs ? await usage(process.pid) : undefined;
        if (ended.aborted) return;
        if (misses === 1) before = now;
        if (isHung({ silentMs, misses, ...usedBetween(before, now), state: now?.state }, limitMs)) {
          hung = `no answer for ${seconds(silentMs)}`;
        }
      } else {
        misses = 0;
        lastMs = nowMs;
        answered = true;
        if (sign.stuck === undefined) {
          stuckSinceMs = undefined;
          this.#seem(sign.waitsFor === undefined ? "ready" : "starting", sign.waitsFor ?? "");
        } else {
          // It had the CPU to say so, so this is not a matter of load.
          stuckSinceMs ??= nowMs;
          this.#seem("hung", sign.stuck, stuckSinceMs);
          if (nowMs - stuckSinceMs >= limitMs) hung = `${sign.stuck}, for ${seconds(nowMs - stuckSinceMs)}`;
        }
      }
      if (hung !== undefined) {
        this.#hung = `hung: ${hung}`;
        return await this.#end(process, HUNG_STOP_MS);
      }
      const settled = this.#state === "ready" || this.#state === "hung";
      await this.#clock.sleep(
        settled ? Math.min(20 * askIntervalMs, hungAfterMs / 10) : askIntervalMs,
        ended,
      );
    }
  }

  /** The answer to one question, or why there is none within `deadlineMs`. */
  async #ask(deadlineMs: number, ended: AbortSignal): Promise<SignOfLife | { missed: string }> {
    const late = new AbortController();
    const stop = AbortSignal.any([late.signal, ended]);
    const asked = this.options.ask!(stop).catch((error: Error) => ({ missed: error.message }));
    // A question that heeds no signal must not keep us either.
    const silence = this.#clock.sleep(deadlineMs, stop).then(() => {
      late.abort();
      return { missed: `no answer within ${deadlineMs / 1000} s` };
    });
    const answer = await Promise.race([asked, silence]);
    late.abort();
    return answer;
  }

  /** SIGTERM, and SIGKILL after the grace. Resolves when the process has ended, or has not for long after SIGKILL. */
  async #end(process: Deno.ChildProcess, graceMs: number): Promise<void> {
    if (graceMs > 0) {
      signalTo(process, "SIGTERM");
      // One that was stopped hears the other only when it runs.
      signalTo(process, "SIGCONT");
      const ended = new AbortController();
      await Promise.race([process.status, this.#clock.sleep(graceMs, ended.signal)]);
      ended.abort();
    }
    signalTo(process, "SIGKILL");
    await this.#within(process.status, KILLED_MS_MAX);
  }

  /** What the promise resolves to, undefined when it takes longer than `ms`. */
  async #within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
    const done = new AbortController();
    try {
      return await Promise.race([promise, this.#clock.sleep(ms, done.signal).then(() => undefined)]);
    } finally {
      done.abort();
    }
  }

  #closeStdin(): void {
    this.#stdin?.close().catch(() => {});
    this.#stdin = undefined;
  }

  /** What the answers, or their lack since `sinceMonotonicMs`, say of the state. */
  #seem(state: SupervisedStatus["state"], waitsFor: string, sinceMonotonicMs?: number): void {
    const changed = state !== this.#state;
    this.#waitsFor = waitsFor;
    if (changed) this.#change(state, sinceMonotonicMs);
  }

  #change(state: SupervisedStatus["state"], sinceMonotonicMs?: number): void {
    this.#state = state;
    const agoMs = sinceMonotonicMs === undefined ? 0 : this.#clock.monotonicMs() - sinceMonotonicMs;
    this.#sinceMs = this.#clock.nowMs() - agoMs;
    if (state !== "starting" && state !== "hung") this.#waitsFor = "";
    this.options.onChange?.(this.status);
  }
}

/** Passes a process's standard error on to ours and answers its last words. */
async function forwardStderr(stream: ReadableStream<Uint8Array>): Promise<string> {
  let tail = "";
  const decoder = new TextDecoder();
  try {
    for await (const chunk of stream) {
      tail = (tail + decoder.decode(chunk, { stream: true })).slice(-STDERR_TAIL_CHARS_MAX);
      try {
        Deno.stderr.writeSync(chunk);
      } catch {
        // Our own standard error is gone; the process must not wait for it.
      }
    }
  } catch {
    // A broken pipe ends it as its end does.
  }
  // The last line that is not one of the structured log's information lines says why it ended.
  const lines = tail.trim().split("\n").filter((line) => line !== "" && !line.includes('"level":"info"'));
  return (lines.at(-1) ?? "").slice(0, 500);
}

function seconds(ms: number): string {
  return `${Math.floor(ms / 1000)} s`;
}

function signalTo(process: Deno.ChildProcess, name: Deno.Signal): void {
  try {
    process.kill(name);
  } catch {
    // It has ended meanwhile.
  }
}

/**
 * One process that is kept running: started, watched, restarted with growing delays, stopped.
 *
 * ```
 *  stopped ─▶ starting ─▶ ready
 *     ▲          │  ▲       │
 *     │          ▼  │       ▼
 *     └────── backoff ◀── (it ended)
 * ```
 *
 * @module
 */
import { Backoff } from "@weir/common";

/** How a process is started. */
export interface ChildSpec {
  /** "datapath", "policy-engine". */
  readonly name: string;
  readonly role: "node" | "control-plane";
  /** Program and arguments, with every permission flag. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Its unix socket, where readiness is asked. */
  readonly socket: string;
  /** Permission flags alone, for people. */
  readonly permissions: readonly string[];
}

/** State of a process as people see it. */
export interface ChildStatus {
  readonly name: string;
  readonly role: string;
  readonly pid: number;
  readonly restarts: number;
  readonly sinceUnixS: number;
  readonly state: "starting" | "ready" | "backoff" | "stopped";
  readonly lastError: string;
  readonly socket: string;
  readonly permissions: readonly string[];
  /** What it waits for, as its readiness says. */
  readonly waitsFor: string;
}

/** What a child needs from outside. */
export interface ChildOptions {
  /** Answers undefined when the process behind the socket is ready, else what it waits for. */
  readonly probeReadiness: (socket: string) => Promise<string | undefined>;
  readonly onChange?: (status: ChildStatus) => void;
  /** A process that ran this long before it ended begins again with the shortest delay. */
  readonly stableMs?: number;
  readonly backoff?: Backoff;
  /** How long a process may take to end after SIGTERM before SIGKILL. */
  readonly stopMsMax?: number;
  readonly readinessIntervalMs?: number;
}

const STDERR_TAIL_CHARS_MAX = 2000;

/** See the module comment. */
export class Child {
  #process: Deno.ChildProcess | undefined;
  #stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #state: ChildStatus["state"] = "stopped";
  #restarts = 0;
  #sinceMs = Date.now();
  #lastError = "";
  #waitsFor = "";
  #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  readonly #backoff: Backoff;

  constructor(readonly spec: ChildSpec, readonly options: ChildOptions) {
    this.#backoff = options.backoff ?? new Backoff({ delayMsMin: 100, delayMsMax: 10_000 });
  }

  get status(): ChildStatus {
    return {
      name: this.spec.name,
      role: this.spec.role,
      pid: this.#process?.pid ?? 0,
      restarts: this.#restarts,
      sinceUnixS: this.#sinceMs / 1000,
      state: this.#state,
      lastError: this.#lastError,
      socket: this.spec.socket,
      permissions: this.spec.permissions,
      waitsFor: this.#waitsFor,
    };
  }

  /** Begins to keep the process running. */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Ends the process for good: closes its stdin and asks with SIGTERM, insists with SIGKILL. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const process = this.#process;
    if (process !== undefined) {
      this.#closeStdin();
      signal(process, "SIGTERM");
      const timer = setTimeout(() => signal(process, "SIGKILL"), this.options.stopMsMax ?? 5000);
      await process.status;
      clearTimeout(timer);
    }
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const startedMs = Date.now();
      try {
        this.#lastError = await this.#runOnce() || this.#lastError;
      } catch (error) {
        this.#lastError = `cannot start: ${(error as Error).message}`;
      }
      this.#process = undefined;
      if (this.#stopping.signal.aborted) break;
      if (Date.now() - startedMs > (this.options.stableMs ?? 30_000)) this.#backoff.reset();
      this.#change("backoff");
      await sleep(this.#backoff.nextMs(), this.#stopping.signal);
      this.#restarts++;
    }
    this.#change("stopped");
  }

  /** Runs the process to its end and answers why it ended. */
  async #runOnce(): Promise<string> {
    const [program, ...args] = this.spec.command;
    const process = new Deno.Command(program, {
      args,
      cwd: "/",
      clearEnv: true,
      env: { ...this.spec.environment },
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#process = process;
    // The pipe is held open and never written: when this supervisor is gone, however it went, the child reads the end
    // of its standard input and ends by itself.
    this.#stdin = process.stdin.getWriter();
    this.#stdin.closed.catch(() => {});
    this.#change("starting");
    const ended = new AbortController();
    const tail = forwardStderr(process.stderr, this.spec.name);
    const readiness = this.#watchReadiness(ended.signal);
    const status = await process.status;
    ended.abort();
    this.#closeStdin();
    const [text] = await Promise.all([tail, readiness]);
    if (this.#stopping.signal.aborted) return "";
    const how = status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
    return `ended with ${how}${text === "" ? "" : `: ${text}`}`;
  }

  async #watchReadiness(ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      const waitsFor = await this.options.probeReadiness(this.spec.socket).catch((error: Error) =>
        error.message
      );
      if (ended.aborted) return;
      const state = waitsFor === undefined ? "ready" : "starting";
      this.#waitsFor = waitsFor ?? "";
      if (state !== this.#state) this.#change(state);
      const interval = this.options.readinessIntervalMs ?? 100;
      // Once ready it is asked more rarely: readiness is for people, the exit of the process is heard at once.
      await sleep(state === "ready" ? interval * 20 : interval, ended);
    }
  }

  #closeStdin(): void {
    this.#stdin?.close().catch(() => {});
    this.#stdin = undefined;
  }

  #change(state: ChildStatus["state"]): void {
    this.#state = state;
    this.#sinceMs = Date.now();
    if (state !== "starting") this.#waitsFor = "";
    this.options.onChange?.(this.status);
  }
}

/** Passes a child's stderr on to ours and answers its last words. */
async function forwardStderr(stream: ReadableStream<Uint8Array>, name: string): Promise<string> {
  let tail = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    tail = (tail + text).slice(-STDERR_TAIL_CHARS_MAX);
    try {
      Deno.stderr.writeSync(chunk);
    } catch {
      // Our own stderr is gone; the child must not wait for it.
    }
  }
  // The last line that is not one of the structured log's information lines says why it ended.
  const lines = tail.trim().split("\n").filter((line) => line !== "" && !line.includes('"level":"info"'));
  void name;
  return (lines.at(-1) ?? "").slice(0, 500);
}

function signal(process: Deno.ChildProcess, name: Deno.Signal): void {
  try {
    process.kill(name);
  } catch {
    // It has ended meanwhile.
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

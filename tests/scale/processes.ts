/** The services and workers of a simulated cluster. @module */
import { WeirClient } from "@weir/client";
import { until } from "@weir/common/testing/until";
import type { WorkerLoad } from "./worker_messages.ts";

/** The services that run, in the order of figures. */
export const SERVICES = ["identity-allocator", "policy-engine", "load-balancer"] as const;

/** CPU in ms (100 ticks a second), and memory in MiB of a process: resident, and its own (anonymous pages). */
export interface Usage {
  cpuMs: number;
  rssMib: number;
  ownMib: number;
}

/** Options of {@link Processes}. */
export interface ProcessesOptions {
  /** Of sockets and databases. */
  directory: string;
  /** Tree that the services run from. */
  root: string;
  /** Directory for CPU profiles of services and workers. */
  profile?: string;
}

/** The services and workers of a simulated cluster. */
export class Processes {
  readonly #options: ProcessesOptions;
  #services: Deno.ChildProcess[] = [];
  /** CPU of services that were killed, in ms, and of whom they were. */
  readonly #goneCpuMs = SERVICES.map(() => 0);
  #workers: Deno.ChildProcess[] = [];

  constructor(options: ProcessesOptions) {
    this.#options = options;
  }

  /** Path of a service's socket. */
  socket(name: typeof SERVICES[number]): string {
    return `${this.#options.directory}/${name}.sock`;
  }

  /** Starts the services and waits until they are ready. */
  async startServices(): Promise<void> {
    this.#services = SERVICES.map((name) => this.#start(name));
    for (const name of SERVICES) await this.#isReady(name);
  }

  /** Kills a service, starts it again, and waits until it is ready. */
  async restart(name: typeof SERVICES[number]): Promise<void> {
    const at = SERVICES.indexOf(name), service = this.#services[at];
    this.#goneCpuMs[at] += usageOf(service.pid).cpuMs;
    service.kill("SIGKILL");
    await service.status;
    this.#services[at] = this.#start(name);
    await this.#isReady(name);
  }

  #start(name: typeof SERVICES[number]): Deno.ChildProcess {
    const { directory, root } = this.#options;
    const allocator = ["--identity-allocator", `unix:${this.socket("identity-allocator")}`];
    return new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--quiet",
        "--no-check",
        ...["--config", `${root}/deno.json`],
        ...this.#profiled(name),
        `${root}/services/${name}/main.ts`,
        ...["--socket", this.socket(name), "--database-url", `sqlite:${directory}/${name}.db`],
        ...(name === "identity-allocator" ? [] : allocator),
        // As in a cluster of several machines, where the sockets are served for many streams.
        ...["--listen", "127.0.0.1:0", "--log-level", "error"],
      ],
      cwd: root,
      stdout: "null",
      stderr: "inherit",
    }).spawn();
  }

  #profiled(name: string): string[] {
    const { profile } = this.#options;
    return profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}/${name}`];
  }

  async #isReady(name: typeof SERVICES[number]): Promise<void> {
    const client = new WeirClient({ socket: this.socket(name) });
    await until(`${name} is ready`, async () => (await client.readiness()).ready);
    client.close();
  }

  /** Starts a worker; `onLine` is given each object that it says. */
  startWorker(load: WorkerLoad, onLine: (said: { kind: string; [field: string]: unknown }) => void): void {
    const script = new URL("./node_worker.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", ...this.#profiled("worker"), script, JSON.stringify(load)],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#workers.push(child);
    (async () => {
      let rest = "";
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) onLine(JSON.parse(line));
      }
    })();
  }

  /** Of each service, those before it included. */
  usage(): Usage[] {
    return this.#services.map(({ pid }, at) => {
      const usage = usageOf(pid);
      return { ...usage, cpuMs: usage.cpuMs + this.#goneCpuMs[at] };
    });
  }

  /** Of each worker. */
  workersUsage(): Usage[] {
    return this.#workers.map(({ pid }) => usageOf(pid));
  }

  /** Ends all: in order where there are profiles to be written. */
  async stop(): Promise<void> {
    const end = (child: Deno.ChildProcess, signal: Deno.Signal) => {
      try {
        child.kill(signal);
      } catch { /* it has ended */ }
    };
    const signal = this.#options.profile === undefined ? "SIGKILL" : "SIGTERM";
    for (const child of [...this.#workers, ...this.#services]) end(child, signal);
    await Promise.all([...this.#workers, ...this.#services].map((child) => child.status));
  }
}

function usageOf(pid: number): Usage {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const mib = (name: string) => Number(status.match(new RegExp(`${name}:\\s+(\\d+)`))![1]) / 1024;
  const cpuMs = (Number(fields[11]) + Number(fields[12])) * 10;
  return { cpuMs, rssMib: mib("VmRSS"), ownMib: mib("RssAnon") };
}

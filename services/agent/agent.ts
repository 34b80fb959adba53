/**
 * Supervision: the services of a node, each a process of its own; no logic beyond keeping them running.
 *
 * @module
 */
import { lchown } from "node:fs/promises";
import type { SignOfLife, SupervisedStatus } from "@weir/common/supervised-process";
import { SupervisedProcess } from "@weir/common/supervised-process";
import type { Process } from "@weir/proto/agent";
import { ensureBundle, ROOT, sourcesDigest } from "./bundle.ts";
import type { AgentConfig } from "./config.ts";
import { ensurePage } from "./page_files.ts";
import { type Layout, readSocketOf, socketOf } from "./layout.ts";
import { commandOf, serviceSpecs } from "./permissions.ts";
import { ensureCgroup, removeCgroup } from "./proxy_cgroup.ts";
import type { ServiceSpec } from "./service_spec.ts";

/** Variables that children get beside `WEIR_*`. */
const ENVIRONMENT = ["PATH", "HOME", "LANG", "TZ"];
/**
 * From so many free bytes at the heap's end, the C library gives them back to the kernel. By default its threshold follows
 * the largest block that was ever freed, up to 64 MiB: 20 MiB of the datapath, whose verifier needs large blocks.
 */
const MALLOC_TRIM_BYTES = "262144";
/** Variables that are the agent's own: they name secrets, or options that a service does not have. */
const WITHHELD = ["WEIR_DATABASE_URL", "WEIR_TOKEN", "WEIR_CONFIG"];

/** What the agent needs from outside. */
export interface AgentOptions {
  /** Asks the service behind a socket how it is; rejects when there is no answer. */
  readonly ask: (socket: string, signal: AbortSignal) => Promise<SignOfLife>;
  readonly onChange?: (name: string, status: SupervisedStatus) => void;
}

interface Child {
  readonly spec: ServiceSpec;
  readonly process: SupervisedProcess;
  /** What it was started with, to compare. */
  readonly command: string;
}

/** The services of one node. */
export class Agent {
  #children: Child[] = [];
  #config: AgentConfig;

  constructor(config: AgentConfig, readonly layout: Layout, readonly nodeName: string) {
    this.#config = config;
  }

  /** Starts every service; they wait for each other by themselves. */
  async start(options: AgentOptions): Promise<void> {
    const specs = this.#specs();
    const sources = await sourcesDigest();
    if (specs.some(({ name }) => name === "ui")) await ensurePage(this.layout);
    const modules = specs.map((spec) => this.#module(spec, sources));
    for (const module of modules) module.catch(() => {}); // awaited below, in order
    for (const [index, spec] of specs.entries()) {
      const child = this.#child(spec, await modules[index], options);
      this.#children.push(child);
      child.process.start();
    }
  }

  /** Starts those services anew that another configuration would have started otherwise; the others go on. */
  async reconfigure(config: AgentConfig, options: AgentOptions): Promise<void> {
    this.#config = config;
    const sources = await sourcesDigest();
    for (const spec of this.#specs()) {
      const at = this.#children.findIndex((child) => child.spec.name === spec.name);
      const child = this.#child(spec, await this.#module(spec, sources), options);
      if (at < 0 || this.#children[at].command === child.command) continue;
      await this.#children[at].process.stop();
      this.#children[at] = child;
      child.process.start();
    }
  }

  #specs(): ServiceSpec[] {
    return serviceSpecs(this.#config, this.layout, this.nodeName, openFilesMax());
  }

  #child(spec: ServiceSpec, module: string, options: AgentOptions): Child {
    const socket = socketOf(this.layout, spec.name);
    const command = {
      words: commandOf(spec, this.layout, module, `${ROOT}deno.json`),
      environment: { ...this.#environment(), ...spec.secrets },
      clearEnvironment: true,
    };
    const process = new SupervisedProcess({
      command,
      holdsStdin: true,
      forwardsStderr: true,
      hungAfterMs: this.#config.hungAfterS * 1000,
      beforeStart: async () => {
        await this.#removeSockets(spec);
        if (spec.cgroup !== undefined) await ensureCgroup(spec.cgroup);
      },
      ask: async (signal) => {
        const sign = await options.ask(socket, signal);
        // It listens now, ready or not.
        await this.#keepSockets(spec).catch(() => {});
        return sign;
      },
      onChange: (status) => options.onChange?.(spec.name, status),
    });
    return { spec, process, command: JSON.stringify(command) };
  }

  /** Ends the services in reverse order: who uses another ends first. The kernel's state stays. */
  async stop(): Promise<void> {
    for (const { spec, process } of [...this.#children].reverse()) {
      await process.stop();
      await this.#removeSockets(spec);
      if (spec.cgroup !== undefined) await removeCgroup(spec.cgroup);
    }
  }

  get ready(): boolean {
    return this.#children.length > 0 &&
      this.#children.every(({ process }) => process.status.state === "ready");
  }

  /** Every process, as the API tells it. */
  processes(): Process[] {
    return this.#children.map(({ spec, process: { status } }) => ({
      name: spec.name,
      role: spec.role,
      pid: status.pid,
      restarts: status.restarts,
      sinceUnixS: status.sinceMs / 1000,
      state: status.state,
      lastError: status.waitsFor || status.lastError,
      socket: socketOf(this.layout, spec.name),
      permissions: [...spec.permissions],
    }));
  }

  #sockets(spec: ServiceSpec): string[] {
    const { name, hasReadSocket, moreSockets = [] } = spec;
    const read = hasReadSocket ? [readSocketOf(this.layout, name)] : [];
    return [socketOf(this.layout, name), ...read, ...moreSockets];
  }

  /** Makes the sockets root's: in a directory with the sticky bit no other service can put its own in their place. */
  async #keepSockets(spec: ServiceSpec): Promise<void> {
    for (const path of this.#sockets(spec)) {
      // One that is not there yet is met at the next question.
      const info = await Deno.lstat(path).catch(() => undefined);
      if (info === undefined) continue;
      // Group and mode stay, and a link is not followed: whatever a service puts there, it gains nothing.
      if (info.isSocket && info.uid !== 0) await lchown(path, 0, info.gid!);
    }
  }

  async #removeSockets(spec: ServiceSpec): Promise<void> {
    for (const path of this.#sockets(spec)) await Deno.remove(path).catch(() => {});
  }

  async #module(spec: ServiceSpec, sources: string): Promise<string> {
    return spec.privileged
      ? `${ROOT}${spec.entry}`
      : await ensureBundle(spec.entry, this.layout.code, sources);
  }

  #environment(): Record<string, string> {
    const environment: Record<string, string> = {
      NO_COLOR: "1",
      DENO_NO_UPDATE_CHECK: "1",
      MALLOC_TRIM_THRESHOLD_: MALLOC_TRIM_BYTES,
    };
    for (const [name, value] of Object.entries(Deno.env.toObject())) {
      if (WITHHELD.includes(name)) continue;
      if (ENVIRONMENT.includes(name) || name.startsWith("WEIR_") || name === "DENO_DIR") {
        environment[name] = value;
      }
    }
    return environment;
  }
}

/** Files that a process started from here may have open; undefined where the kernel does not say, or sets no limit. */
function openFilesMax(): number | undefined {
  try {
    // Deno raises the soft limit to the hard one when it starts, in this process and in its children.
    const limit = Deno.readTextFileSync("/proc/self/limits").match(/^Max open files\s+\d+\s+(\d+)/m);
    return limit === null ? undefined : Number(limit[1]);
  } catch {
    return undefined;
  }
}

/**
 * Supervision: the services of a node, each a process of its own; no logic beyond keeping them running.
 *
 * @module
 */
import type { Process } from "@weir/proto/agent";
import { ensureBundle, newestSourceMs, ROOT } from "./bundle.ts";
import { Child, type ChildOptions } from "./child.ts";
import type { AgentConfig } from "./config.ts";
import { type Layout, socketOf } from "./layout.ts";
import { commandOf, type ServiceSpec, serviceSpecs } from "./permissions.ts";

/** Variables that children get beside `WEIR_*`. */
const ENVIRONMENT = ["PATH", "HOME", "LANG", "TZ"];

/** See the module comment. */
export class Agent {
  #children: Child[] = [];

  constructor(readonly config: AgentConfig, readonly layout: Layout, readonly nodeName: string) {}

  /** Starts every service; they wait for each other by themselves. */
  async start(options: ChildOptions): Promise<void> {
    const specs = serviceSpecs(this.config, this.layout, this.nodeName);
    const newestMs = await newestSourceMs();
    const environment = this.#environment();
    const modules = specs.map((spec) => this.#module(spec, newestMs));
    for (const module of modules) module.catch(() => {}); // awaited below, in order
    for (const [index, spec] of specs.entries()) {
      const child = new Child({
        name: spec.name,
        role: spec.role,
        command: commandOf(spec, this.layout, await modules[index], `${ROOT}deno.json`),
        environment,
        socket: socketOf(this.layout, spec.name),
        permissions: spec.permissions,
      }, options);
      this.#children.push(child);
      child.start();
    }
  }

  /** Ends the services in reverse order: who uses another ends first. The kernel's state stays. */
  async stop(): Promise<void> {
    for (const child of [...this.#children].reverse()) await child.stop();
  }

  get ready(): boolean {
    return this.#children.length > 0 && this.#children.every((child) => child.status.state === "ready");
  }

  /** Every process, as the API tells it. */
  processes(): Process[] {
    return this.#children.map(({ status }) => ({
      name: status.name,
      role: status.role,
      pid: status.pid,
      restarts: status.restarts,
      sinceUnixS: status.sinceUnixS,
      state: status.state,
      lastError: status.state === "starting" ? status.waitsFor || status.lastError : status.lastError,
      socket: status.socket,
      permissions: [...status.permissions],
    }));
  }

  async #module(spec: ServiceSpec, newestMs: number): Promise<string> {
    return spec.privileged
      ? `${ROOT}${spec.entry}`
      : await ensureBundle(spec.entry, this.layout.code, newestMs);
  }

  #environment(): Record<string, string> {
    const environment: Record<string, string> = { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
    for (const [name, value] of Object.entries(Deno.env.toObject())) {
      if (ENVIRONMENT.includes(name) || name.startsWith("WEIR_") || name === "DENO_DIR") {
        environment[name] = value;
      }
    }
    return environment;
  }
}

/**
 * All exports to files of one node: the one of the options, and those of a YAML file, which is read again every five seconds. A file
 * that cannot be read or is wrong leaves the exports as they are, and that is said.
 * @module
 */
import { createHash } from "node:crypto";
import { errorText } from "@weir/common";
import { readInputTextSync } from "@weir/common/input-file";
import { compileFilters, loadEngines } from "@weir/flow-filter";
import { FlowLog, type FlowLogParts } from "./flow_log.ts";
import { type FlowLogSpec, readFlowLogs } from "./flow_log_spec.ts";
import type { FlowSink } from "./flow_sink.ts";

/** What the exports are made of. */
export interface FlowLogsParts extends FlowLogParts {
  /** Of the options. */
  readonly fixed?: FlowLogSpec;
  /** YAML file with the others; "" when there is none. */
  readonly configPath: string;
  /** Where their files must be. */
  readonly directory: string;
}

/** How often the file is read, as Hubble does it. */
export const RELOAD_MS = 5000;
const CONFIG_BYTES_MAX = 1 << 20;
const WHAT = "flow exports";

/** Keeps the exports as they are wanted. */
export class FlowLogs {
  readonly #logs = new Map<string, FlowLog>();
  /** Of those that come from the file: the specification in force. */
  readonly #inForce = new Map<string, string>();
  #text: string | undefined;
  #failedText: string | undefined;
  readonly #parts: FlowLogsParts;

  constructor(parts: FlowLogsParts) {
    this.#parts = parts;
    if (parts.configPath === "") return;
    const { metrics } = parts;
    metrics.gauge("hubble_dynamic_exporter_exporters_total", "Number of configured exporters").collect(() => {
      const active = this.#dynamic().filter((log) => log.isActive).length;
      return [[{ status: "active" }, active], [{ status: "inactive" }, this.#dynamic().length - active]];
    });
    metrics.gauge("hubble_dynamic_exporter_up", "Status of individual exporters").collect(() =>
      this.#dynamic().map((log) => [{ name: log.spec.name }, log.isActive ? 1 : 0])
    );
  }

  /** Those that take flows now. */
  get sinks(): Iterable<FlowSink> {
    return this.#logs.values();
  }

  /** Whether anything is or may come to be exported. */
  get isOn(): boolean {
    return this.#parts.fixed !== undefined || this.#parts.configPath !== "";
  }

  /** Works until `signal` aborts, then writes what waits. */
  async run(signal: AbortSignal): Promise<void> {
    const { fixed, clock, health, log } = this.#parts;
    if (fixed !== undefined) {
      try {
        this.#logs.set(fixed.name, await FlowLog.start(fixed, this.#parts));
      } catch (error) {
        health.ok(`export ${fixed.name}`, `off: ${errorText(error)}`);
        log.error("Cannot export flows", { export: fixed.name, error });
      }
    }
    while (!signal.aborted) {
      if (this.#parts.configPath !== "") await this.reload();
      for (const each of this.#logs.values()) each.look();
      await clock.sleep(RELOAD_MS, signal);
    }
    await Promise.all([...this.#logs.values()].map((each) => each.stop()));
  }

  /** Reads the file, and starts, changes and ends exports by it. Repeatable. */
  async reload(): Promise<void> {
    const { configPath, directory, health, clock, metrics, log, fixed } = this.#parts;
    let text: string | undefined;
    try {
      text = readInputTextSync(configPath, { bytesMax: CONFIG_BYTES_MAX });
      if (text === this.#text) return;
      const specs = readFlowLogs(text, directory);
      const twin = specs.find(({ filePath }) => filePath === fixed?.filePath);
      if (twin) throw new Error(`${twin.filePath} is the file of --hubble-export-file-path already`);
      // Compiled before anything is ended: one wrong filter leaves all as it was.
      for (const spec of specs) await this.#check(spec);
      await this.#apply(specs);
    } catch (error) {
      const reason = errorText(error);
      this.#count("failure");
      health.ok(WHAT, `${configPath} is not in force: ${reason}`);
      // Once for each wrong text, not every five seconds.
      if (this.#failedText !== (text ?? reason)) {
        log.warn("Cannot take the exports of flows", { configPath, reason });
      }
      this.#failedText = text ?? reason;
      return;
    }
    this.#text = text;
    this.#failedText = undefined;
    health.ok(WHAT, `${this.#inForce.size} of ${configPath}`);
    const hash = Number.parseInt(createHash("sha256").update(text).digest("hex").slice(0, 12), 16);
    metrics.gauge("hubble_dynamic_exporter_config_hash", "Hash of last applied config").set(hash);
    metrics.gauge("hubble_dynamic_exporter_config_last_applied", "Timestamp of last applied config").set(
      Math.floor(clock.nowMs() / 1000),
    );
  }

  async #check({ includeFilters, excludeFilters }: FlowLogSpec): Promise<void> {
    compileFilters(
      includeFilters,
      excludeFilters,
      await loadEngines([...includeFilters, ...excludeFilters]),
    );
  }

  async #apply(specs: readonly FlowLogSpec[]): Promise<void> {
    const wanted = new Map(specs.map((spec) => [spec.name, JSON.stringify(spec)]));
    const before = new Map(this.#inForce);
    // All ends first: one may take over the file of another.
    for (const [name, text] of before) {
      if (wanted.get(name) === text) continue;
      await this.#end(name);
      if (!wanted.has(name)) this.#count("remove");
    }
    for (const spec of specs) {
      const text = wanted.get(spec.name)!;
      if (text === before.get(spec.name)) continue;
      this.#logs.set(spec.name, await FlowLog.start(spec, this.#parts));
      this.#inForce.set(spec.name, text);
      this.#count(before.has(spec.name) ? "update" : "add");
    }
  }

  async #end(name: string): Promise<void> {
    const ended = this.#logs.get(name);
    this.#logs.delete(name);
    this.#inForce.delete(name);
    await ended?.stop();
  }

  #dynamic(): FlowLog[] {
    return [...this.#logs.values()].filter(({ spec }) => this.#inForce.has(spec.name));
  }

  #count(op: "add" | "update" | "remove" | "failure"): void {
    this.#parts.metrics.counter(
      "hubble_dynamic_exporter_reconfigurations_total",
      "Number of dynamic exporters reconfigurations",
    ).increment({ op });
  }
}

/**
 * Flows as lines of JSON in a file, in the form of Hubble's exporter (`observer.ExportEvent`). Lines wait in memory within a limit
 * while the file cannot be written; then new ones are dropped and counted.
 *
 *     offer ─▶ end? ─▶ filters ─▶ mask ─▶ line ─▶ queue (8 Mi characters) ─▶ RotatingFile
 *
 * @module
 */
import { Backoff, type Clock, errorText, type Health, type Logger, type MetricsRegistry } from "@weir/common";
import { compileFilters, loadEngines } from "@weir/flow-filter";
import { compileFieldMask } from "@weir/proto/field_mask";
import { Flow, type LostEventSource } from "@weir/proto/flow";
import { ExportEvent } from "@weir/proto/observer";
import { timestampOf } from "@weir/proto/timestamp";
import type { FlowLogSpec } from "./flow_log_spec.ts";
import type { FlowSink } from "./flow_sink.ts";
import { RotatingFile } from "./rotating_file.ts";

/** What a log is made of beside its specification. */
export interface FlowLogParts {
  readonly nodeName: string;
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
  readonly health: Pick<Health, "ok" | "remove">;
  readonly log: Logger;
  /** Characters of lines that wait at most, default {@link QUEUE_CHARS_MAX}. */
  readonly queueCharsMax?: number;
}

/** Characters of lines that wait for the file at most. */
export const QUEUE_CHARS_MAX = 8 << 20;
/** Of one write. */
const WRITE_CHARS = 1 << 18;
/** A write that has taken longer is said to hang. */
const HUNG_MS = 10_000;
/** How long the rest is written at the end. */
const STOP_MS_MAX = 2000;
const SOURCE: LostEventSource = "HUBBLE_RING_BUFFER";

/** Writes the flows of one specification. */
export class FlowLog implements FlowSink {
  readonly spec: FlowLogSpec;
  #lines: string[] = [];
  #chars = 0;
  #wake: () => void = () => {};
  #writingSinceMs: number | undefined;
  #error = "";
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  readonly #file: RotatingFile;
  readonly #passes: (flow: Flow) => boolean;
  readonly #mask: ((flow: Flow) => Partial<Flow>) | undefined;
  readonly #parts: FlowLogParts;

  private constructor(spec: FlowLogSpec, passes: (flow: Flow) => boolean, parts: FlowLogParts) {
    this.spec = spec;
    this.#parts = parts;
    this.#passes = passes;
    this.#mask = spec.fieldMask.length === 0 ? undefined : compileFieldMask<Flow>(Flow.name, spec.fieldMask);
    this.#file = new RotatingFile({
      path: spec.filePath,
      bytesMax: spec.fileMaxSizeMb * (1 << 20),
      backupsMax: spec.fileMaxBackups,
      compress: spec.fileCompress,
      nowMs: () => parts.clock.nowMs(),
      onError: (what) => {
        this.#count(
          "weir_flow_export_backup_errors_total",
          "Files put aside that could not be compressed or removed",
        );
        parts.log.warn("Cannot tend files put aside", { export: spec.name, what });
      },
    });
    this.#say();
    this.#running = this.#run();
  }

  /** Compiles the filters and begins. @throws {ProblemError} FILTER_INVALID */
  static async start(spec: FlowLogSpec, parts: FlowLogParts): Promise<FlowLog> {
    const { includeFilters, excludeFilters } = spec;
    const engines = await loadEngines([...includeFilters, ...excludeFilters]);
    return new FlowLog(spec, compileFilters(includeFilters, excludeFilters, engines), parts);
  }

  /** Whether its end has not come yet. */
  get isActive(): boolean {
    return this.spec.endMs === undefined || this.#parts.clock.nowMs() < this.spec.endMs;
  }

  /** Characters that wait for the file. */
  get queued(): number {
    return this.#chars;
  }

  offer(flow: Flow): void {
    if (!this.isActive || !this.#passes(flow)) return;
    const kept = this.#mask === undefined ? flow : this.#mask(flow) as Flow;
    this.#add({ flow: kept, node_name: flow.node_name, time: flow.time });
  }

  lost(count: number): void {
    if (!this.isActive) return;
    this.#count(LOST, LOST_HELP, count, { why: "ring" });
    this.#add({
      lost_events: { source: SOURCE, num_events_lost: count },
      node_name: this.#parts.nodeName,
      time: timestampOf(this.#parts.clock.nowMs()),
    });
  }

  /** Writes what waits, for two seconds at most, and ends. */
  async stop(): Promise<void> {
    const { clock, health } = this.#parts;
    this.#stopping.abort();
    this.#wake();
    const timer = new AbortController();
    await Promise.race([this.#running, clock.sleep(STOP_MS_MAX, timer.signal)]);
    timer.abort();
    this.#dropAll("stopped");
    health.remove(this.#name);
    this.#gauge("weir_flow_export_queued_chars", "").remove({ export: this.spec.name });
    this.#gauge("weir_flow_export_failing", "").remove({ export: this.spec.name });
  }

  #add(event: Parameters<typeof ExportEvent.toJson>[0]): void {
    if (this.#chars >= (this.#parts.queueCharsMax ?? QUEUE_CHARS_MAX)) {
      this.#count(LOST, LOST_HELP, 1, { why: "queue full" });
      return;
    }
    const line = `${JSON.stringify(ExportEvent.toJson(event))}\n`;
    this.#lines.push(line);
    this.#chars += line.length;
    this.#wake();
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts, { signal } = this.#stopping;
    const backoff = new Backoff({ delayMsMin: 200, delayMsMax: 5000 });
    // So that a file that cannot be opened is known before there are flows.
    await this.#file.append(new Uint8Array()).catch((error) => this.#said(errorText(error)));
    while (true) {
      if (this.#lines.length === 0) {
        if (signal.aborted) break;
        await this.#more();
        continue;
      }
      const count = this.#next();
      const bytes = encoder.encode(this.#lines.slice(0, count).join(""));
      try {
        this.#writingSinceMs = clock.monotonicMs();
        await this.#file.append(bytes);
        backoff.reset();
        this.#took(count);
        this.#said("");
        this.#count("weir_flow_export_flows_total", "Flows that were written or sent", count);
      } catch (error) {
        this.#said(errorText(error));
        this.#count("weir_flow_export_errors_total", "Writes and requests that failed");
        // At the end once more is all.
        if (signal.aborted) break;
        await clock.sleep(backoff.nextMs(), signal);
      } finally {
        this.#writingSinceMs = undefined;
      }
    }
    await this.#file.close();
  }

  /** Lines of the next write. */
  #next(): number {
    let chars = 0, count = 0;
    while (count < this.#lines.length && (count === 0 || chars + this.#lines[count].length <= WRITE_CHARS)) {
      chars += this.#lines[count++].length;
    }
    return count;
  }

  #took(count: number): void {
    for (const line of this.#lines.splice(0, count)) this.#chars -= line.length;
  }

  #dropAll(why: string): void {
    if (this.#lines.length > 0) this.#count(LOST, LOST_HELP, this.#lines.length, { why });
    this.#took(this.#lines.length);
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  #said(error: string): void {
    if ((error === "") !== (this.#error === "")) {
      const { log } = this.#parts, fields = { export: this.spec.name, file: this.spec.filePath };
      if (error !== "") log.warn("Cannot export flows", { ...fields, error });
      else log.info("Exports flows again", fields);
    }
    this.#error = error;
    this.#say();
  }

  /** Says how it is, in metrics and where readiness is asked for: an export that fails takes nothing from a node. */
  #say(): void {
    const { health, clock } = this.#parts, labels = { export: this.spec.name };
    const hungMs = this.#writingSinceMs === undefined ? 0 : clock.monotonicMs() - this.#writingSinceMs;
    const wrong = this.#error ||
      (hungMs > HUNG_MS ? `a write has hung for ${Math.round(hungMs / 1000)} s` : "");
    health.ok(
      this.#name,
      wrong !== ""
        ? `cannot write ${this.spec.filePath}: ${wrong}; ${this.#lines.length} flows wait`
        : this.isActive
        ? `writes ${this.spec.filePath}`
        : "ended",
    );
    this.#gauge("weir_flow_export_queued_chars", "Characters of flows that wait to be written").set(
      this.#chars,
      labels,
    );
    this.#gauge("weir_flow_export_failing", "Whether the last write or request failed or hangs").set(
      wrong === "" ? 0 : 1,
      labels,
    );
  }

  /** To be called now and then: a write that hangs does not say so itself. */
  look(): void {
    this.#say();
  }

  get #name(): string {
    return `export ${this.spec.name}`;
  }

  #gauge(name: string, help: string) {
    return this.#parts.metrics.gauge(name, help);
  }

  #count(name: string, help: string, by = 1, labels: Record<string, string> = {}): void {
    this.#parts.metrics.counter(name, help).increment({ export: this.spec.name, ...labels }, by);
  }
}

const encoder = new TextEncoder();
const LOST = "weir_flow_export_lost_total";
const LOST_HELP =
  "Flows that an export lost: overwritten in the ring, no room in its queue, refused by the other side";

/**
 * Flows as lines of JSON in a file, in the form of Hubble's exporter (`observer.ExportEvent`). Lines wait in memory within a limit
 * while the file cannot be written; then new ones are dropped and counted.
 *
 *     offer ─▶ end? ─▶ filters ─▶ mask ─▶ line ─▶ queue (8 Mi characters) ─▶ RotatingFile
 *
 * @module
 */
import { Backoff, type Clock, errorText } from "@weir/common";
import { compileFilters, loadEngines } from "@weir/flow-filter";
import { compileFieldMask } from "@weir/proto/field_mask";
import { Flow, type LostEventSource } from "@weir/proto/flow";
import { ExportEvent } from "@weir/proto/observer";
import { timestampOf } from "@weir/proto/timestamp";
import { ExportReport, type ExportReportParts, type LossCause } from "./export_report.ts";
import type { FlowLogSpec } from "./flow_log_spec.ts";
import type { FlowSink } from "./flow_sink.ts";
import { RotatingFile } from "./rotating_file.ts";

/** What a log is made of beside its specification. */
export interface FlowLogParts extends ExportReportParts {
  readonly nodeName: string;
  readonly clock: Clock;
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
  readonly #report: ExportReport;
  readonly #parts: FlowLogParts;

  private constructor(spec: FlowLogSpec, passes: (flow: Flow) => boolean, parts: FlowLogParts) {
    this.spec = spec;
    this.#parts = parts;
    this.#report = new ExportReport(spec.name, parts);
    this.#passes = passes;
    this.#mask = spec.fieldMask.length === 0 ? undefined : compileFieldMask<Flow>(Flow.name, spec.fieldMask);
    this.#file = new RotatingFile({
      path: spec.filePath,
      bytesMax: spec.fileMaxSizeMb * (1 << 20),
      backupsMax: spec.fileMaxBackups,
      compress: spec.fileCompress,
      nowMs: () => parts.clock.nowMs(),
      onError: (what) => this.#report.backupError(what),
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
    this.#report.lost(count, "ring");
    this.#add({
      lost_events: { source: SOURCE, num_events_lost: count },
      node_name: this.#parts.nodeName,
      time: timestampOf(this.#parts.clock.nowMs()),
    });
  }

  /** Writes what waits, for two seconds at most, and ends. */
  async stop(): Promise<void> {
    const { clock } = this.#parts;
    this.#stopping.abort();
    this.#wake();
    const timer = new AbortController();
    await Promise.race([this.#running, clock.sleep(STOP_MS_MAX, timer.signal)]);
    timer.abort();
    this.#dropAll("stopped");
    this.#report.end();
  }

  #add(event: Parameters<typeof ExportEvent.toJson>[0]): void {
    if (this.#chars >= (this.#parts.queueCharsMax ?? QUEUE_CHARS_MAX)) {
      this.#report.lost(1, "queue full");
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
        this.#report.flows(count);
      } catch (error) {
        this.#said(errorText(error));
        this.#report.error();
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

  #dropAll(why: LossCause): void {
    if (this.#lines.length > 0) this.#report.lost(this.#lines.length, why);
    this.#took(this.#lines.length);
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  #said(error: string): void {
    this.#error = error;
    this.#say();
  }

  #say(): void {
    const { filePath } = this.spec;
    const hungMs = this.#writingSinceMs === undefined
      ? 0
      : this.#parts.clock.monotonicMs() - this.#writingSinceMs;
    const wrong = this.#error ||
      (hungMs > HUNG_MS ? `a write has hung for ${Math.round(hungMs / 1000)} s` : "");
    this.#report.say(
      this.isActive ? `writes ${filePath}` : "ended",
      wrong === "" ? "" : `cannot write ${filePath}: ${wrong}; ${this.#lines.length} flows wait`,
      this.#chars,
    );
  }

  /** To be called now and then: a write that hangs does not say so itself. */
  look(): void {
    this.#say();
  }
}

const encoder = new TextEncoder();

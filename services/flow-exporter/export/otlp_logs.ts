/**
 * Flows as log records to an OTLP endpoint, in batches. Records wait in memory within a limit while the endpoint is away or slow; then
 * new ones are dropped and counted. What it refuses for good is dropped and counted too.
 * @module
 */
import { Backoff, type Clock } from "@weir/common";
import type { FlowPredicate } from "@weir/flow-filter";
import { Flow } from "@weir/proto/flow";
import { ExportReport, type ExportReportParts } from "./export_report.ts";
import type { FlowSink } from "./flow_sink.ts";
import { flowRecord, logsRequest, lostRecord, resourceOf } from "./otlp_json.ts";
import { type OtlpTarget, sendOtlp } from "./otlp_sender.ts";

/** What it is made of. */
export interface OtlpLogsParts extends ExportReportParts {
  readonly target: OtlpTarget;
  readonly nodeName: string;
  readonly passes: FlowPredicate;
  readonly mask?: (flow: Flow) => Partial<Flow>;
  readonly clock: Clock;
  /** Characters of records that wait at most, default {@link QUEUE_CHARS_MAX}. */
  readonly queueCharsMax?: number;
  /** How long a request may take, default 10 s. */
  readonly deadlineMs?: number;
  readonly retryMsMin?: number;
}

/** Characters of records that wait at most. */
export const QUEUE_CHARS_MAX = 8 << 20;
/** Of one request. */
export const BATCH_RECORDS = 512;
const BATCH_CHARS = 1 << 20;
const STOP_MS_MAX = 2000;

/** Sends the flows of a node. */
export class OtlpLogs implements FlowSink {
  #records: string[] = [];
  #chars = 0;
  /** Less after an answer "too large". */
  #batchRecords = BATCH_RECORDS;
  #wake: () => void = () => {};
  readonly #stopping = new AbortController();
  readonly #hardStop = new AbortController();
  readonly #report: ExportReport;
  readonly #parts: OtlpLogsParts;
  readonly #running: Promise<void>;

  constructor(parts: OtlpLogsParts) {
    this.#parts = parts;
    this.#report = new ExportReport("otlp", parts);
    this.#say("");
    this.#running = this.#run();
  }

  /** Characters that wait. */
  get queued(): number {
    return this.#chars;
  }

  offer(flow: Flow): void {
    const { passes, mask, clock } = this.#parts;
    if (!passes(flow)) return;
    const body = JSON.stringify(Flow.toJson(mask === undefined ? flow : mask(flow)));
    this.#add(() => flowRecord(flow, body, clock.nowMs()));
  }

  lost(count: number): void {
    this.#report.lost(count, "ring");
    this.#add(() => lostRecord(count, this.#parts.clock.nowMs()));
  }

  /** Sends what waits, for two seconds at most, and ends. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    const timer = new AbortController();
    await Promise.race([this.#running, this.#parts.clock.sleep(STOP_MS_MAX, timer.signal)]);
    timer.abort();
    this.#hardStop.abort(new Error("stopped"));
    await this.#running;
    this.#drop(this.#records.length, "stopped");
    this.#report.end();
  }

  #add(record: () => string): void {
    if (this.#chars >= (this.#parts.queueCharsMax ?? QUEUE_CHARS_MAX)) {
      return this.#report.lost(1, "queue full");
    }
    const made = record();
    this.#records.push(made);
    this.#chars += made.length;
    this.#wake();
  }

  async #run(): Promise<void> {
    const { clock, target, nodeName, deadlineMs, retryMsMin = 500 } = this.#parts,
      stop = this.#hardStop.signal;
    const resource = resourceOf("flow-exporter", nodeName);
    const backoff = new Backoff({ delayMsMin: retryMsMin, delayMsMax: 30_000 });
    while (!stop.aborted) {
      if (this.#records.length === 0) {
        if (this.#stopping.signal.aborted) break;
        await new Promise<void>((resolve) => this.#wake = resolve);
        continue;
      }
      const count = this.#next();
      const body = logsRequest(resource, this.#records.slice(0, count));
      const outcome = await sendOtlp(target, "logs", body, { clock, stop, deadlineMs });
      if (outcome.kind === "taken") {
        const rejected = Math.min(count, outcome.rejected);
        this.#take(count);
        this.#report.flows(count - rejected);
        if (rejected > 0) this.#report.lost(rejected, "refused");
        backoff.reset();
        this.#say(
          rejected > 0 ? `${target.endpoint} refused ${rejected} of ${count} flows: ${outcome.why}` : "",
        );
        continue;
      }
      this.#report.error();
      this.#say(outcome.why);
      if (outcome.kind === "too large" && count > 1) {
        this.#batchRecords = Math.floor(count / 2);
        continue;
      }
      if (outcome.kind !== "later") this.#drop(count, "refused");
      // At the end once more is all.
      if (this.#stopping.signal.aborted && outcome.kind === "later") break;
      const after = outcome.kind === "later" ? outcome.afterMs : undefined;
      await clock.sleep(Math.max(backoff.nextMs(), after ?? 0), this.#stopping.signal);
    }
  }

  #next(): number {
    let chars = 0, count = 0;
    while (
      count < this.#records.length && count < this.#batchRecords &&
      (count === 0 || chars + this.#records[count].length <= BATCH_CHARS)
    ) chars += this.#records[count++].length;
    return count;
  }

  #take(count: number): void {
    for (const record of this.#records.splice(0, count)) this.#chars -= record.length;
  }

  #drop(count: number, why: "refused" | "stopped"): void {
    if (count > 0) this.#report.lost(count, why);
    this.#take(count);
  }

  #say(wrong: string): void {
    const waits = this.#records.length;
    this.#report.say(
      `sends flows to ${this.#parts.target.endpoint}`,
      wrong === "" ? "" : `${wrong}; ${waits} flows wait`,
      this.#chars,
    );
  }
}

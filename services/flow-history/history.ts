/**
 * The history of flows: what comes is taken in, and written once a second in one transaction. While the database is away or full what
 * there is room for waits, and the rest is counted as lost; readers are answered from memory and from what can be read.
 * @module
 */
import {
  Backoff,
  type Clock,
  errorText,
  type Health,
  type Logger,
  type MetricsRegistry,
  type ProblemError,
} from "@weir/common";
import type { Database } from "@weir/common/state";
import { Connection } from "@weir/proto/history";
import { GetFlowsResponse } from "@weir/proto/observer";
import { sql } from "kysely";
import { type Block, type BlockKind, BUCKET_MS, packItems, unpackItems } from "./block.ts";
import type { OpenConnection } from "./connection_table.ts";
import { mountMetrics } from "./history_metrics.ts";
import { Intake } from "./intake.ts";
import { HeldObjects } from "./held_objects.ts";
import { isDamage } from "./store_error.ts";
import { HistoryStore, WRITE_MS_MAX, type WriteBatch } from "./history_store.ts";
import { Retention, type RetentionLimits } from "./retention.ts";
import type { RollupPart } from "./rollup_table.ts";
import type { MemoryBlock } from "./search.ts";

/** Blocks that wait to be written; beyond it what comes is lost, and counted. */
export const BLOCKS_WAITING_MAX = 256;
/** Rows of sums that wait to be written. */
export const ROLLUP_ROWS_WAITING_MAX = 200_000;
/** Between two writes. */
const WRITE_EVERY_MS = 1000;
/** Between two checkpoints of the connections that go on. */
const CHECKPOINT_MS = 60_000;
/** A start reads the ids of the flows of so many blocks: as many as are known while it runs. */
const RECENT_BLOCKS = 64;
/** A process that ended without a word has not written the sums of so long. */
const SUMS_MS = 70_000;
/** A database that is gone for so long does not come back as it was. */
const GONE_MS = 30_000;
const OPEN_PART = 1024;
/** Of a read in whose time something is written. */
const READ_TRIES_MAX = 3;
const NO_BYTES = new Uint8Array();

/** What a history is made of. */
export interface HistoryParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly health: Health;
  readonly metrics: MetricsRegistry;
  readonly flowsPerSMax: number;
  readonly limits: RetentionLimits;
  /** Names this process among those that share a database; no spaces. */
  readonly owner: string;
  /** What this process knows of the database is worth nothing any more: it must begin anew. */
  readonly onLost: (why: string) => void;
}

/** The history of flows. */
export class FlowHistory {
  readonly store: HistoryStore;
  readonly intake: Intake;
  readonly held: HeldObjects;
  readonly retention: Retention;
  readonly limits: RetentionLimits;
  readonly flowsPerSMax: number;
  /** Why the last write failed; "" when it did not. */
  error = "";
  errorSinceMs = 0;
  #failingSinceMs = 0;
  readonly #parts: HistoryParts;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #waiting: Block[] = [];
  #rollups: RollupPart[] = [];
  /** What is being written, or was not, as far as is known. */
  #writing: WriteBatch | undefined;
  /** Batches that were written, and those of them that had sums. */
  #moved = { counts: 0, rollups: 0 };
  #checkpointMs = -Infinity;
  #loaded = Promise.withResolvers<void>();
  isLoaded = false;
  /** Who writes. */
  writer = "";

  constructor(parts: HistoryParts) {
    this.#parts = parts;
    this.limits = parts.limits;
    this.flowsPerSMax = parts.flowsPerSMax;
    this.store = new HistoryStore(parts.database, parts.owner);
    this.intake = new Intake({ ...parts, ageMsMax: parts.limits.ageMsMax });
    this.held = new HeldObjects({ clock: parts.clock });
    this.retention = new Retention({ ...parts, store: this.store, ends: this.intake.ends });
    mountMetrics(this, parts.metrics);
  }

  /** Begins to load and to write, in the background. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when it knows what is stored: then flows may come. */
  get loaded(): Promise<void> {
    return this.#loaded.promise;
  }

  /** Writes what there is, and ends. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    if (!this.isLoaded) return;
    try {
      await this.flush({ isLast: true });
    } catch (error) {
      this.#parts.log.warn("Could not write the last flows", { error });
    }
  }

  /** Flows or connections that are in no table yet. Take it before the database is asked. */
  memory(kind: BlockKind): MemoryBlock[] {
    const sealed = [...this.#writing?.blocks ?? [], ...this.#waiting].filter((block) => block.kind === kind);
    const builder = kind === "f" ? this.intake.flowBlocks : this.intake.connectionBlocks;
    const blocks: MemoryBlock[] = [
      ...sealed.map(({ id, sinceMs, untilMs, terms, body }) => ({
        ...{ block: id, sinceMs, untilMs, terms },
        open: () => unpackItems(body),
      })),
      ...builder.tail().map(({ id, sinceMs, untilMs, terms, items }) => ({
        ...{ block: id, sinceMs, untilMs, terms },
        open: () => items,
      })),
    ];
    if (kind === "c") blocks.push(...this.#openBlocks());
    return blocks;
  }

  /** The newest time that there is, as of the last look: behind a clock that was put back it is in the future. */
  get newestMs(): number {
    return Math.max(this.retention.newestMs, this.intake.newestMs);
  }

  /** The oldest time of flows, and of sums, stored or not; 0: not known yet. */
  get oldestMs(): { flows: number; rollups: number } {
    const { oldestMs, rollupOldestMs } = this.retention;
    return {
      flows: Math.min(oldestMs, ...this.memory("f").map(({ sinceMs }) => sinceMs)),
      rollups: Math.min(rollupOldestMs, ...this.rollupTail().map(({ startS }) => startS * 1000)),
    };
  }

  /** Reads tables and what is in no table yet; again where a batch came from here to there meanwhile, and would count twice. */
  async readWhole<R>(read: () => Promise<R>, what: "counts" | "rollups" = "counts"): Promise<R> {
    const isMoving = () =>
      this.#writing !== undefined && (what === "counts" || this.#writing.rollups.length > 0);
    for (let tries = 0;; tries++) {
      const before = this.#moved[what], wasMoving = isMoving(), result = await read();
      // Whoever was told of a commit has said so after this.
      if (wasMoving || isMoving()) await new Promise((resolve) => setTimeout(resolve, 0));
      if (before === this.#moved[what] || tries >= READ_TRIES_MAX) return result;
    }
  }

  /** Sums that are in no table yet. Take it before the database is asked. */
  rollupTail(): RollupPart[] {
    return [...this.#writing?.rollups ?? [], ...this.#rollups, ...this.intake.rollups.tail()];
  }

  /** Counts that are in no table yet: what is being written, and what is not. */
  countTail(): WriteBatch["counts"][] {
    const { counts, flowBlocks } = this.intake;
    const kept = new Map<string, { seen: number; stored: number; sampledOut: number }>();
    for (const { unixMs, nodes } of flowBlocks.tailNodes()) {
      for (const [node, number] of nodes) {
        const key = `${Math.floor(unixMs / 60_000) * 60} ${node}`, known = kept.get(key)?.seen ?? 0;
        kept.set(key, { seen: known + number, stored: known + number, sampledOut: 0 });
      }
    }
    return [
      ...(this.#writing === undefined ? [] : [this.#writing.counts]),
      counts.peek(),
      { minutes: kept, losses: new Map(), gaps: [] },
    ];
  }

  /** Flows that wait to be written. */
  get waitingFlows(): number {
    const blocks = [...this.#writing?.blocks ?? [], ...this.#waiting];
    return blocks.reduce((sum, { kind, count }) => sum + (kind === "f" ? count : 0), 0) +
      this.intake.flowBlocks.count;
  }

  async #run(): Promise<void> {
    const { clock, health, log } = this.#parts, { signal } = this.#stop;
    const backoff = new Backoff({ delayMsMin: WRITE_EVERY_MS, delayMsMax: 10_000 });
    health.waitFor("database", "loading");
    while (!signal.aborted) {
      let delayMs = WRITE_EVERY_MS;
      try {
        if (!this.isLoaded && !await this.load()) {
          health.ok("database", `standby: ${this.writer} writes`);
          backoff.reset();
          this.error = "";
          health.alive("writer", WRITE_MS_MAX + 60_000);
          await clock.sleep(WRITE_EVERY_MS, signal);
          continue;
        }
        await this.flush();
        if (this.error !== "") log.info("The database takes writes again", {});
        this.error = "";
        health.ok("database", this.store.database.url);
        backoff.reset();
        await this.retention.turn(signal);
      } catch (error) {
        if (this.error === "") {
          this.errorSinceMs = clock.nowMs();
          this.#failingSinceMs = clock.monotonicMs();
          log.warn("Cannot write the history", { error });
        }
        this.error = errorText(error);
        health.waitFor("database", this.error);
        this.#lookWhetherLost(error);
        delayMs = backoff.nextMs();
      }
      health.alive("writer", WRITE_MS_MAX + 2 * delayMs + 60_000);
      await clock.sleep(delayMs, signal);
    }
  }

  /** Reads what is stored; false: another process writes. @throws {ProblemError} */
  async load(): Promise<boolean> {
    const { clock } = this.#parts, { intake } = this;
    this.writer = await this.store.claim();
    if (this.writer !== this.store.owner) return false;
    const loaded = await this.store.load((rows) => intake.ends.load(rows));
    intake.goOn(loaded.nextBlock);
    this.retention.newestMs = loaded.newestMs;
    const aliveMs = Number(loaded.state.get("alive-ms") ?? 0),
      isOrderly = loaded.state.get("stopped") === "yes";
    const last = [...loaded.state].filter(([name]) => name.startsWith("node:"))
      .map(([name, value]): [string, number] => [name.slice("node:".length), Number(value)]);
    intake.nodes.restore({
      last,
      openGaps: loaded.openGaps,
      uuids: await this.#recentIds(),
      sumsFromMs: aliveMs === 0 || isOrderly
        ? Infinity
        : Math.floor((aliveMs - SUMS_MS) / 60_000 + 1) * 60_000,
    });
    for (const body of loaded.open) {
      const open = readable(() => unpackItems(body).map(({ bytes }) => Connection.decode(bytes))) ?? [];
      intake.connections.restore(open, clock.monotonicMs(), (end, unixMs) => intake.ends.idOf(end, unixMs));
    }
    this.held.restore(await this.store.holding());
    this.isLoaded = true;
    this.#loaded.resolve();
    return true;
  }

  /** A file that is not there any more, or damaged, tables that are another's: what is in memory does not go on from them. */
  #lookWhetherLost(error: unknown): void {
    const { clock, onLost } = this.#parts, { code, problem } = error as Partial<ProblemError>;
    const isGone = /its file is gone/.test(problem?.detail ?? "") ||
      /lacks Weir's tables/.test(problem?.action ?? "");
    if (code === "CLAIM_LOST") return onLost(this.error);
    const isOver = clock.monotonicMs() - this.#failingSinceMs >= GONE_MS;
    if (isOver && isGone) onLost(this.error);
    if (!isOver || !isDamage(error)) return;
    try {
      onLost(`${this.error}; it is kept as ${this.store.setAside()}`);
    } catch (cause) {
      this.error += `; and it cannot be set aside: ${errorText(cause)}`;
    }
  }

  /** Ids of the newest flows that are stored. */
  async #recentIds(): Promise<string[]> {
    const ids: string[] = [];
    // By number, not by time: behind a clock that was put back the newest are others.
    const { rows } = await this.store.database.query((db) =>
      sql<{ body: Uint8Array }>`select body from weir_history_block where kind = 'f'
        order by id desc limit ${RECENT_BLOCKS}`.execute(db)
    );
    for (const { body } of rows) {
      for (const { bytes } of readable(() => unpackItems(body)) ?? []) {
        ids.push(readable(() => GetFlowsResponse.decode(bytes).flow?.uuid) ?? "");
      }
    }
    return ids;
  }

  /** Writes what is due; `isLast`: all of it. @throws {ProblemError} it waits for the next time */
  async flush({ isLast = false } = {}): Promise<void> {
    const { clock } = this.#parts, { intake } = this, nowMs = clock.nowMs();
    for (const block of intake.takeBlocks(isLast)) {
      if (this.#waiting.length + (this.#writing?.blocks.length ?? 0) < BLOCKS_WAITING_MAX) {
        this.#waiting.push(block);
      } else this.#lose(block);
    }
    this.#rollups.push(...intake.rollups.takeClosed(isLast ? Infinity : nowMs));
    this.#trimRollups();
    // What failed goes first and as it was: it may be written, and its answer lost.
    if (this.#writing !== undefined) await this.#write(this.#writing);
    const isDue = isLast || clock.monotonicMs() - this.#checkpointMs >= CHECKPOINT_MS;
    const batch: WriteBatch = {
      id: crypto.randomUUID(),
      blocks: this.#waiting,
      ends: intake.ends.takeDirty(),
      rollups: this.#rollups,
      counts: intake.counts.take(),
      held: this.held.take(),
      open: isDue ? this.#packedOpen() : undefined,
      state: new Map([
        ...[...intake.nodes.last()].map(([name, ms]): [string, string] => [`node:${name}`, `${ms}`]),
        ["alive-ms", `${Math.floor(nowMs)}`],
        ["stopped", isLast ? "yes" : "no"],
      ]),
    };
    this.#waiting = [];
    this.#rollups = [];
    this.#writing = batch;
    await this.#write(batch);
  }

  async #write(batch: WriteBatch): Promise<void> {
    const refused = await this.store.write(batch);
    this.#writing = undefined;
    this.#moved.counts++;
    if (batch.rollups.length > 0) this.#moved.rollups++;
    this.retention.note(batch);
    if (batch.open !== undefined) this.#checkpointMs = this.#parts.clock.monotonicMs();
    for (const { kind, block, rollup, error } of refused) {
      this.#parts.log.error("The database refuses a part of the history", { kind, error });
      this.#parts.metrics.counter("weir_history_refused_total", "What the database refused, by kind")
        .increment({ kind });
      if (block !== undefined) this.#lose(block);
      if (rollup !== undefined) this.#loseSums(rollup);
    }
  }

  #lose(block: Block): void {
    if (block.kind === "f") this.intake.counts.stored(block.sinceMs, block.nodes, -1);
    this.#parts.metrics.counter("weir_history_lost_total", "What the database did not take, by kind")
      .increment({ kind: block.kind === "f" ? "flows" : "connections" }, block.count);
  }

  #trimRollups(): void {
    const rowsOf = (parts: readonly RollupPart[]) => parts.reduce((sum, { rows }) => sum + rows.length, 0);
    let rows = rowsOf(this.#rollups) + rowsOf(this.#writing?.rollups ?? []);
    while (rows > ROLLUP_ROWS_WAITING_MAX && this.#rollups.length > 0) {
      const gone = this.#rollups.shift()!;
      rows -= gone.rows.length;
      this.#loseSums(gone);
    }
  }

  #loseSums({ startS, rows }: RollupPart): void {
    const flows = rows.reduce((sum, row) => sum + row.flows, 0);
    this.intake.counts.lost("", "HISTORY_SUMS", startS * 1000, flows);
    this.#parts.metrics.counter("weir_history_lost_total", "What the database did not take, by kind")
      .increment({ kind: "rollups" }, rows.length);
  }

  #packedOpen(): Uint8Array[] {
    const items = [...this.intake.connections.list()].map(({ value, snapshot }) => ({
      bytes: Connection.encode(snapshot()),
      unixMs: value.endUnixS * 1000,
      node: "",
    }));
    const parts: Uint8Array[] = [];
    for (let i = 0; i < items.length; i += OPEN_PART) parts.push(packItems(items.slice(i, i + OPEN_PART)));
    return parts;
  }

  /** Connections that go on, as blocks: they stand by what was heard last, and those of a block are of one stretch of time. */
  #openBlocks(): MemoryBlock[] {
    const open = [...this.intake.connections.list()].sort((a, b) => a.value.endUnixS - b.value.endUnixS);
    const blocks: MemoryBlock[] = [], msOf = ({ value }: OpenConnection) => value.endUnixS * 1000;
    const bucketOf = (one: OpenConnection) => Math.floor(msOf(one) / BUCKET_MS);
    for (let from = 0, to = 0; from < open.length; from = to) {
      const bucket = bucketOf(open[from]);
      while (to < open.length && to - from < OPEN_PART && bucketOf(open[to]) === bucket) to++;
      const part = open.slice(from, to);
      blocks.push({
        block: Number.MAX_SAFE_INTEGER - 1 - from,
        sinceMs: Math.floor(msOf(part[0])),
        untilMs: Math.ceil(msOf(part[part.length - 1])),
        terms: undefined,
        open: () => part.map((open) => ({ bytes: NO_BYTES, unixMs: msOf(open), node: "", open })),
      });
    }
    return blocks;
  }
}

/** undefined: it is damaged. */
function readable<R>(read: () => R): R | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/**
 * Collections that live in a database and are watched from memory. Every change of every collection gets the next
 * revision of one counter, in one transaction with whatever else it writes; a log of changes carries them to the other
 * replicas, which are woken by NOTIFY.
 *
 *     transact() ── lock the counter ── write objects + log ── commit ── NOTIFY
 *                                                                │
 *     every replica:  log after my revision ── in order ─────────┴──▶ WatchedTable ──▶ watchers
 *
 * The counter's row is locked until the commit, so revisions become visible in their order and no reader skips one.
 *
 * Every transaction leaves a random tag beside its revisions. A database whose tag at this replica's revision is another
 * one, or is not there, has another history: it was restored. The tables are read anew then, in a new epoch.
 * @module
 */
import { sql } from "kysely";
import type { Message } from "@weir/proto";
import { Backoff } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Database, Migration } from "./database.ts";
import { isDatabaseError } from "./database_error.ts";
import { EpochLine, randomEpoch } from "./epoch.ts";
import type { Health } from "./health.ts";
import { Logger } from "./log.ts";
import type { MetricsRegistry } from "./metrics.ts";
import { ProblemError } from "./problem.ts";
import {
  appendEpoch,
  type Head,
  lockHead,
  type LogRow,
  moveHead,
  readEpochs,
  readHead,
  readLog,
  readObjects,
  readTag,
  STORE_LOG_MAX,
  STORE_MIGRATIONS,
} from "./store_schema.ts";
import { StoreTransaction } from "./store_transaction.ts";
import { Turns } from "./turns.ts";
import { StoredCollection } from "./stored_collection.ts";
import type { WatchedTable } from "./watched_table.ts";

export { STORE_LOG_MAX, StoreTransaction };

const LOG_ROWS_AT_ONCE = 500;
/** Heads of transactions that are remembered, to find where another history left this one. */
const HEADS_MAX = 1024;
/** Transactions that run: one has the counter, the next one is ready for it. */
const TRANSACTIONS_AT_ONCE = 2;
/** Those that wait on SQLite are committed together, up to so many: the others are not to wait for ever. */
const GROUP_MAX = 64;
/** A poll that has not ended after this will not end. */
const POLL_TURN_MS_MAX = 60_000;
/** How often the log is looked at without a wake-up. */
const POLL_MS = 5000;
const CHANNEL = "weir_store";

type Action = (store: StoreTransaction) => Promise<unknown>;

/** A transaction that waits for its turn. */
interface Waiting {
  readonly action: Action;
  /** Why the database was away when it came. */
  readonly before: ProblemError | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Options of {@link Store}. */
export interface StoreOptions {
  database: Database;
  clock?: Clock;
  log?: Logger;
  /** Gets the conditions "database" and "stored-objects". */
  health?: Health;
  metrics?: MetricsRegistry;
  /** The service's own tables. */
  migrations?: readonly Migration[];
}

/** Collections that live in a database and are watched from memory. */
export class Store {
  readonly database: Database;
  readonly #options: StoreOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  #collections = new Map<string, StoredCollection>();
  /** What the tables are up to, and the heads of the newest transactions before it. */
  #head: Head = { revision: 0, tag: "" };
  #heads: Head[] = [];
  #epochs: EpochLine | undefined;
  #stop = new AbortController();
  #loops: Promise<void>[] = [];
  /** They wait for the counter anyway; here the wait is not one for a connection, which would have a deadline. */
  readonly #transactions = new Turns(TRANSACTIONS_AT_ONCE);
  #waiting: Waiting[] = [];
  #pulling: Promise<void> = Promise.resolve();
  #nextPull: Promise<void> | undefined;
  #loaded = false;

  constructor(options: StoreOptions) {
    this.database = options.database;
    this.#options = options;
    this.#log = options.log ?? Logger.silent();
    this.#clock = options.clock ?? systemClock;
    options.metrics?.gauge("weir_store_unreadable_objects", "Stored objects that cannot be read")
      .collect(() => this.unreadable.size);
  }

  /** Declares a collection, before `start()`. Its table is read by everybody and written by this store alone. */
  collection<T>(
    name: string,
    message: Message<T>,
    options: { entriesMax?: number; historyMax?: number } = {},
  ): WatchedTable<T> {
    const collection = new StoredCollection<T>(message, { name, ...options });
    this.#collections.set(name, collection);
    return collection.table;
  }

  /** Objects that are stored and cannot be read, as "collection/name", with the reason. What was known of them stays. */
  get unreadable(): Map<string, string> {
    const all = new Map<string, string>();
    for (const [collection, { unreadable }] of this.#collections) {
      for (const [name, why] of unreadable) all.set(`${collection}/${name}`, why);
    }
    return all;
  }

  /** True once everything was loaded. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /**
   * Migrates and loads; resolves when the tables are complete. While the database is away it waits with backoff, and
   * health says so. `wait: false` resolves at once and goes on in the background.
   */
  async start(options: { wait?: boolean } = {}): Promise<void> {
    this.#options.health?.waitFor("database", "waiting for the first load");
    const loading = this.#untilStopped("load", async () => {
      await this.database.migrate([...STORE_MIGRATIONS, ...this.#options.migrations ?? []]);
      await this.#load("START");
    });
    const loops = loading.then(() => {
      if (this.#stop.signal.aborted) return;
      this.#loops.push(this.#poll(), this.#listenLoop());
    });
    this.#loops.push(loops);
    if (options.wait !== false) await loops;
  }

  /**
   * Runs `action` in one transaction that holds the counter, then brings the tables up to date and answers.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, or what `action` throws
   */
  async transact<R>(action: (tx: StoreTransaction) => Promise<R>): Promise<R> {
    if (!this.#loaded) {
      throw new ProblemError("DATABASE_UNAVAILABLE", {
        status: 503,
        detail: `Cannot write: the database ${this.database.url} was not loaded yet`,
        action: "It is retried; see /readyz?verbose",
      });
    }
    const before = this.#down;
    const result = await new Promise<R>((resolve, reject) => {
      this.#waiting.push({ action, before, resolve: resolve as (value: unknown) => void, reject });
      void this.#transactions.run(() => this.#runWaiting());
    });
    this.#noteWrite(undefined);
    // The commit stands: a failure to read it back is healed by the poll and must not look like a failed write.
    await this.pull().catch((error) => this.#unhealthy(this.database.explain(error)));
    return result;
  }

  /** Applies what the log has beyond this replica. Runs one at a time; those who ask before it runs share it. */
  pull(): Promise<void> {
    // One that has not begun yet reads all that is committed now.
    return this.#nextPull ??= this.#inTurn(() => {
      this.#nextPull = undefined;
      return this.#pullNow();
    });
  }

  /** Ends all background work; the database stays open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#options.health?.rest("the database's poll");
    await Promise.allSettled(this.#loops);
    await this.#pulling;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#tries++;
    const next = this.#pulling.then(work).finally(() => this.#tries--);
    this.#pulling = next.catch(() => {});
    return next;
  }

  /** Runs what has waited the longest, and on SQLite all that waits: a commit waits for the disk, whatever is in it. */
  async #runWaiting(): Promise<void> {
    const isGrouped = this.database.kind === "sqlite";
    const group = this.#waiting.splice(0, isGrouped ? GROUP_MAX : 1);
    if (group.length === 0) return;
    try {
      const outcomes = await this.#attempt(group);
      for (const [i, { resolve, reject }] of group.entries()) {
        const outcome = outcomes[i];
        if (outcome.status === "fulfilled") resolve(outcome.value);
        else reject(outcome.reason);
      }
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }

  async #attempt(group: readonly Waiting[]): Promise<PromiseSettledResult<unknown>[]> {
    // One try at a time asks a database that is away whether it is back; nobody else waits for the answer.
    const isNew = group.every(({ before }) => this.#down === before);
    if (this.#down !== undefined && (this.#tries > 0 || !isNew)) throw this.#down;
    const actions = group.map(({ action }) => action);
    this.#tries++;
    try {
      return await this.#run(actions).catch(async (error) => {
        if (!(error instanceof DatabaseReplaced)) throw error;
        await this.#inTurn(() => this.#load("REPLACED"));
        return await this.#run(actions);
      });
    } catch (error) {
      if ((error as ProblemError).code === "DATABASE_UNAVAILABLE") {
        this.#unhealthy(error as ProblemError);
        this.#noteWrite(error as ProblemError);
      }
      throw error;
    } finally {
      this.#tries--;
    }
  }

  /** One transaction. Of several actions each fails alone; a failure of the database is that of all. */
  #run(actions: readonly Action[]): Promise<PromiseSettledResult<unknown>[]> {
    return this.database.transaction(async (tx) => {
      const head = await lockHead(tx), mine = this.#head;
      if (head.revision <= mine.revision) {
        if (head.revision < mine.revision || head.tag !== mine.tag) {
          throw new DatabaseReplaced(this.database.url);
        }
      } else {
        const tag = await readTag(tx, mine.revision);
        if (tag !== undefined && tag !== mine.tag) throw new DatabaseReplaced(this.database.url);
      }
      const tag = randomEpoch();
      const outcomes: PromiseSettledResult<unknown>[] = [];
      let { revision } = head;
      for (const action of actions) {
        const store = new StoreTransaction(tx, {
          collection: (name) => this.#collectionOf(name),
          head: { revision, tag },
          tag,
          isInStep: revision === mine.revision,
        });
        if (actions.length === 1) outcomes.push({ status: "fulfilled", value: await action(store) });
        else outcomes.push(await this.#runWithin(tx, () => action(store)));
        if (outcomes.at(-1)!.status === "fulfilled") revision = store.revision;
      }
      if (revision > head.revision) {
        await moveHead(tx, { revision, tag });
        if (this.database.kind === "postgres") await sql.raw(`notify ${CHANNEL}`).execute(tx);
      }
      return outcomes;
    });
  }

  /** One of several actions of a transaction: what it wrote before it failed is taken back. */
  async #runWithin(
    tx: StoreTransaction["tx"],
    action: () => Promise<unknown>,
  ): Promise<PromiseSettledResult<unknown>> {
    await sql`savepoint one`.execute(tx);
    try {
      const value = await action();
      await sql`release one`.execute(tx);
      return { status: "fulfilled", value };
    } catch (error) {
      const reason = isDatabaseError(error) ? this.database.explain(error) : error;
      if ((reason as ProblemError).code === "DATABASE_UNAVAILABLE") throw error;
      await sql`rollback to one`.execute(tx);
      await sql`release one`.execute(tx);
      return { status: "rejected", reason };
    }
  }

  /** An assertion for names that were not declared. */
  #collectionOf(name: string): StoredCollection {
    const found = this.#collections.get(name);
    if (found === undefined) throw new Error(`Collection ${name} was not declared`);
    return found;
  }

  /**
   * Reads everything. A start begins an epoch where the database is, for it may be an older copy than what an earlier
   * process had; a database with another history begins one where the two were last the same.
   */
  async #load(why: "START" | "REPLACED" | "MISSED"): Promise<void> {
    const { head, objects, log, epochs } = await this.database.transaction(async (tx) => {
      const head = await lockHead(tx);
      const log = await readLog(tx, 0, STORE_LOG_MAX + LOG_ROWS_AT_ONCE);
      if (why === "START") await appendEpoch(tx, head.revision);
      if (why === "REPLACED") {
        // Another replica may have found out before, and its epoch tells everything already.
        const common = this.#lastCommon(log), known = this.#epochs;
        const isTold = (await readEpochs(tx)).some(({ epoch, fromRevision }) =>
          known?.has(epoch) === false && fromRevision <= common
        );
        if (!isTold) await appendEpoch(tx, common);
      }
      return {
        head,
        log,
        objects: await readObjects(tx, [...this.#collections.keys()]),
        epochs: new EpochLine(await readEpochs(tx)),
      };
    });
    if (why === "REPLACED") {
      this.#log.error("The database has another history: it was restored", {
        database: this.database.url,
        found: head.revision,
        expected: this.#head.revision,
        epoch: epochs.newest,
      });
    }
    const { revision } = head;
    const logFrom = log.length === 0 ? revision : log[0].revision - 1;
    for (const collection of this.#collections.values()) {
      collection.load(objects, log, { revision, logFrom, epochs });
    }
    this.#head = head;
    this.#heads = headsOf(log);
    this.#epochs = epochs;
    this.#loaded = true;
    this.#healthy();
  }

  /** The newest revision that this replica and a log of another history have alike; 0 when that cannot be told. */
  #lastCommon(log: readonly LogRow[]): number {
    const tags = new Map(log.map(({ revision, tag }) => [revision, tag]));
    return this.#heads.findLast(({ revision, tag }) => tags.get(revision) === tag)?.revision ?? 0;
  }

  async #pullNow(): Promise<void> {
    if (!this.#loaded) return;
    while (true) {
      const mine = this.#head;
      const { log, head, epochs } = await this.database.query(async (kysely) => {
        const tx = kysely as never;
        // The log is read first: what is committed in between is seen by the next round, never skipped.
        const log = await readLog(tx, mine.revision, LOG_ROWS_AT_ONCE);
        return { log, head: await readHead(tx), epochs: await readEpochs(tx) };
      });
      const at = log[0]?.revision === mine.revision ? log.shift() : undefined;
      const isSame = at !== undefined ? at.tag === mine.tag : head.revision > mine.revision ||
        (head.revision === mine.revision && head.tag === mine.tag);
      const isKnown = epochs.some(({ epoch }) => epoch === this.#epochs?.newest);
      if (!isSame || !isKnown) return await this.#load("REPLACED");
      const first = log.length > 0 ? log[0].revision : head.oldest ?? head.revision + 1;
      // Away for longer than the log reaches.
      if (first > mine.revision + 1 && head.revision > mine.revision) return await this.#load("MISSED");
      this.#apply(log, new EpochLine(epochs));
      this.#healthy();
      if (log.length < LOG_ROWS_AT_ONCE - 1) return;
    }
  }

  #apply(log: readonly LogRow[], epochs: EpochLine): void {
    for (const row of log) this.#collections.get(row.collection)?.apply(row);
    this.#epochs = epochs;
    const { revision, tag } = log.at(-1) ?? this.#head;
    this.#head = { revision, tag };
    this.#heads.push(...headsOf(log));
    if (this.#heads.length > HEADS_MAX * 2) this.#heads = this.#heads.slice(-HEADS_MAX);
    // All tables of the counter move in one turn: nobody sees one that is ahead of another.
    for (const { table } of this.#collections.values()) {
      table.advance(revision);
      table.setEpochs(epochs);
    }
  }

  async #poll(): Promise<void> {
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      await this.#clock.sleep(POLL_MS, signal);
      if (signal.aborted) return;
      // Each try ends, for every query has a deadline: one that does not is a deadlock of ours.
      const alive = () => this.#options.health?.alive("the database's poll", POLL_TURN_MS_MAX);
      await this.#untilStopped("poll", () => this.pull().finally(alive));
      // What can be read may still be full or read-only, and nobody may write for long: tried until it succeeds.
      if (this.#unwritable && !signal.aborted) {
        await this.#run([]).then(() => this.#noteWrite(undefined), () => {});
      }
    }
  }

  async #listenLoop(): Promise<void> {
    if (this.database.kind !== "postgres") return;
    await this.#untilStopped("listen", async () => {
      await this.database.listen(CHANNEL, () => {
        this.pull().catch((error) => this.#unhealthy(this.database.explain(error)));
      }, this.#stop.signal);
    });
  }

  /** Retries `action` with backoff until it succeeds or the store stops. */
  async #untilStopped(what: string, action: () => Promise<void>): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 5000 });
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      try {
        return await action();
      } catch (error) {
        if (signal.aborted) return;
        const problem = this.database.explain(error);
        const delayMs = backoff.nextMs();
        this.#unhealthy(problem);
        this.#log.debug("Database work failed", { what, error: problem, retryMs: delayMs });
        await this.#clock.sleep(delayMs, signal);
      }
    }
  }

  /** Why the database is away; undefined while it is there. */
  #down: ProblemError | undefined;
  /** Transactions and readings that run now. */
  #tries = 0;
  #unwritable = false;

  /** What came of a write: a database that is full or read-only is not ready, although it can be read. */
  #noteWrite(problem: ProblemError | undefined): void {
    this.#unwritable = problem !== undefined;
    if (problem === undefined) this.#options.health?.remove("database-writes");
    else this.#options.health?.waitFor("database-writes", problem.message);
  }

  #healthy(): void {
    if (this.#down !== undefined) this.#log.info("The database is back", { database: this.database.url });
    this.#down = undefined;
    this.#options.health?.ok("database", this.database.url);
    const [first, more] = [this.unreadable.entries().next().value, this.unreadable.size - 1];
    if (first === undefined) this.#options.health?.remove("stored-objects");
    else {
      const others = more === 0 ? "" : ` (and ${more} more)`;
      this.#options.health?.ok("stored-objects", `cannot read ${first[0]}: ${first[1]}${others}`);
    }
  }

  #unhealthy(problem: ProblemError): void {
    if (this.#down === undefined) this.#log.error("The database is away", { error: problem });
    this.#down = problem;
    this.#options.health?.waitFor("database", problem.message);
  }
}

/** The newest head of each transaction in a log. */
function headsOf(log: readonly LogRow[]): Head[] {
  return log.slice(-HEADS_MAX).map(({ revision, tag }) => ({ revision, tag }));
}

/** Ends a transaction on a database that has another history than the tables. */
class DatabaseReplaced extends ProblemError {
  constructor(url: string) {
    super("DATABASE_REPLACED", {
      status: 503,
      detail: `Cannot write: the database ${url} was replaced by another copy, again and again`,
      action: "Let one database serve this URL",
    });
  }
}

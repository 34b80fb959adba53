/**
 * When the identity allocator's database was lost, kept in this engine's own: whoever starts soon after it does not know the
 * identities that nodes still carry (`lost_objects.ts` is one process's memory), and gives out nothing before nodes have let
 * go of them. Nodes keep what they have meanwhile.
 *
 *     lost ── noted ── another engine starts ── waits ──▶ nodes have let go ── it serves
 *       └────────────────── LOSS_HOLD_S ────────────────────┘
 *
 * Who was not running then finds out by how far it had read: an allocator that does not hold that position any more has another
 * history (or a much longer one, which looks the same).
 *
 * @module
 */
import { sql } from "kysely";
import { Backoff, type Clock, type Logger, type Position, unixSeconds } from "@weir/common";
import type { Database, Migration } from "@weir/common/state";

/** Nodes hold lost addresses for 60 s (endpoint-manager, held_rows.ts) from when they hear of it, which may be later. */
export const LOSS_HOLD_S = 75;

/** Steps of the schema, append-only. */
export const DIRECTORY_LOSS_MIGRATIONS: readonly Migration[] = [{
  name: "policy-3-directory-loss",
  async up(tx) {
    const real = sql.raw("double precision");
    await sql`create table weir_directory_loss (id integer primary key, unix_s ${real} not null)`.execute(tx);
  },
}, {
  name: "policy-4-directory-position",
  async up(tx) {
    await sql`create table weir_directory_position (id integer primary key, epoch text not null,
      revision bigint not null)`.execute(tx);
  },
}];

/** How far the position that is kept may be behind: what the allocator does in this time it still holds after a restart. */
const POSITION_S = 30;
/** How often the allocator is asked before it is believed that it has lost a position; replicas read every 5 s. */
const ASK_TIMES = 3, ASK_AGAIN_MS = 3000;

/** What {@link DirectoryLoss} is made of. */
export interface DirectoryLossParts {
  database: Database;
  clock: Clock;
  log: Logger;
}

/** Notes, and says how long to wait. */
export class DirectoryLoss {
  readonly #parts: DirectoryLossParts;
  #noting = false;
  #keeping = false;
  #kept: (Position & { monotonicMs: number }) | undefined;

  constructor(parts: DirectoryLossParts) {
    this.#parts = parts;
  }

  /** An object of the allocator was lost. Many of a moment are noted once; tried until it is written. */
  async note(signal: AbortSignal): Promise<void> {
    if (this.#noting) return;
    this.#noting = true;
    const { database, clock, log } = this.#parts;
    const unixS = unixSeconds(clock), backoff = new Backoff({ delayMsMin: 50, delayMsMax: 5000 });
    while (!signal.aborted) {
      try {
        await database.transaction((tx) =>
          sql`insert into weir_directory_loss (id, unix_s) values (1, ${unixS})
            on conflict (id) do update set unix_s = excluded.unix_s`.execute(tx)
        );
        break;
      } catch (error) {
        log.warn("Cannot note that the identity allocator's database was lost", { error });
        await clock.sleep(backoff.nextMs(), signal);
      }
    }
    this.#noting = false;
  }

  /**
   * Looks, at a start, whether the allocator still has the history that an engine on this database had read, and notes that it has not.
   * @param holds asks the allocator whether it holds a position; rejects while it does not answer
   */
  async look(holds: (position: Position) => Promise<boolean>, signal: AbortSignal): Promise<void> {
    const { database, log, clock } = this.#parts;
    const { rows } = await database.query((kysely) =>
      sql<
        { epoch: string; revision: number }
      >`select epoch, revision from weir_directory_position where id = 1`
        .execute(kysely)
    );
    if (rows.length === 0) return;
    const position = { epoch: rows[0].epoch, revision: Number(rows[0].revision) };
    // A replica of the allocator may not have read yet what another one has written.
    for (let asked = 0; asked < ASK_TIMES; asked++) {
      if (asked > 0) await clock.sleep(ASK_AGAIN_MS, signal);
      if (signal.aborted || await holds(position)) return;
    }
    log.warn("The identity allocator has another history than this engine has read", { ...position });
    await this.note(signal);
  }

  /** Keeps how far this engine has read; after a loss not before that is noted. Called often, writes seldom. */
  async keep(position: Position): Promise<void> {
    const { database, clock, log } = this.#parts, kept = this.#kept, monotonicMs = clock.monotonicMs();
    const isRecent = kept !== undefined && kept.epoch === position.epoch &&
      (kept.revision === position.revision || monotonicMs - kept.monotonicMs < POSITION_S * 1000);
    if (isRecent || this.#keeping || this.#noting || position.epoch === "") return;
    this.#keeping = true;
    try {
      const { epoch, revision } = position;
      await database.transaction((tx) =>
        sql`insert into weir_directory_position (id, epoch, revision) values (1, ${epoch}, ${revision})
          on conflict (id) do update set epoch = excluded.epoch, revision = excluded.revision`.execute(tx)
      );
      this.#kept = { ...position, monotonicMs };
    } catch (error) {
      log.debug("Cannot keep how far the identity allocator was read", { error });
    } finally {
      this.#keeping = false;
    }
  }

  /** Seconds for which nodes may still carry what the allocator has lost. @throws {ProblemError} DATABASE_UNAVAILABLE */
  async leftS(): Promise<number> {
    const { database, clock } = this.#parts;
    const { rows } = await database.query((kysely) =>
      sql<{ unix_s: number }>`select unix_s from weir_directory_loss where id = 1`.execute(kysely)
    );
    const left = Number(rows[0]?.unix_s ?? 0) + LOSS_HOLD_S - unixSeconds(clock);
    // More than was ever meant: the clock went back.
    return Math.min(LOSS_HOLD_S, Math.max(0, left));
  }
}

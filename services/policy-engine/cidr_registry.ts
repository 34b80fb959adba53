/**
 * The numbers of prefixes, and of selectors of names, whose texts stand where prefixes do (`fqdn_selector.ts`), in the database,
 * which alone gives them out: which policy mentions which prefix, which number is whose, and which rest. Every change happens in the transaction of the policies that ask for it, which holds the
 * store's counter: no two engines give out one number, and no crash leaves a number without a policy.
 *
 *     weir_policy_prefix  policy, prefix          who mentions what
 *     weir_cidr_number    number, prefix, since   released_unix_s 0: in use; else it rests, and comes back to its prefix only
 *     collection          prefix -> CidrIdentity  those in use, for the other engines to follow
 *
 * @module
 */
import { sql } from "kysely";
import { type Clock, IDENTITY_LOCAL_MAX, ProblemError, unixSeconds } from "@weir/common";
import type { Migration, StoreTransaction } from "@weir/common/state";
import { CidrIdentity } from "@weir/proto/policy";
import { CIDR_IDENTITIES_MAX, type CidrPair } from "./cidr_identities.ts";
import { CIDR_NUMBER_CHOICES, CIDR_NUMBER_MIN, cidrNumberChoice } from "./cidr_numbers.ts";

/** Collection of the prefixes in use. */
export const CIDRS = "policy-cidrs";
/** How long a number that nobody uses is kept from other prefixes: kernels of nodes that are away may still hold it. */
export const CIDR_REST_S = 24 * 3600;
/** Most numbers that rest; those that rest longest go first. */
export const CIDR_RESTING_MAX = 262_144;
/** Values in one statement. */
const ROWS_AT_ONCE = 400;

/** Steps of the schema, append-only. */
export const CIDR_MIGRATIONS: readonly Migration[] = [{
  name: "policy-1-prefixes",
  async up(tx) {
    await sql`create table weir_policy_prefix (policy text not null, prefix text not null,
      primary key (policy, prefix))`.execute(tx);
    await sql`create index weir_policy_prefix_prefix on weir_policy_prefix (prefix)`.execute(tx);
    await sql`create table weir_cidr_number (number integer primary key, prefix text not null,
      released_unix_s double precision not null)`.execute(tx);
    await sql`create index weir_cidr_number_prefix on weir_cidr_number (prefix)`.execute(tx);
    await sql`create unique index weir_cidr_number_used on weir_cidr_number (prefix) where released_unix_s = 0`
      .execute(tx);
    await sql`create index weir_cidr_number_released on weir_cidr_number (released_unix_s)`.execute(tx);
  },
}];

/** What {@link CidrRegistry.reconcile} compares the database with. */
export interface CidrEvidence {
  /** Prefixes by policy, of every stored policy that can be read. */
  readonly mentioned: ReadonlyMap<string, readonly string[]>;
  /** Names of stored policies that cannot be read: what is noted of them stays. */
  readonly unread: ReadonlySet<string>;
  /** Pairs that this process gave to nodes: kernels may hold them whatever the database says. */
  readonly given: readonly CidrPair[];
}

interface NumberRow {
  number: number;
  prefix: string;
  released_unix_s: number;
}

/** Numbers of prefixes, given and taken back inside a transaction of the store. */
export class CidrRegistry {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Notes that these policies mention these prefixes from now on, beside what they mentioned, and numbers the new ones.
   * For before the policies are written, so that every reader of the log meets the number first.
   * @throws {ProblemError} TOO_MANY_PREFIXES
   */
  async take(tx: StoreTransaction, mentioned: ReadonlyMap<string, readonly string[]>): Promise<void> {
    const pairs = [...mentioned].flatMap(([policy, prefixes]) =>
      prefixes.map((prefix) => ({ policy, prefix }))
    );
    for (const part of chunks(pairs)) {
      const values = part.map(({ policy, prefix }) => sql`(${policy}, ${prefix})`);
      await sql`insert into weir_policy_prefix (policy, prefix) values ${sql.join(values)}
        on conflict (policy, prefix) do nothing`.execute(tx.tx);
    }
    await this.#number(tx, [...new Set(pairs.map(({ prefix }) => prefix))].sort());
  }

  /** Notes that a policy mentions these prefixes and no others; numbers that nobody needs any more rest from now on. */
  async keepOnly(tx: StoreTransaction, policy: string, prefixes: readonly string[]): Promise<void> {
    const { rows } = await sql<
      { prefix: string }
    >`select prefix from weir_policy_prefix where policy = ${policy}`
      .execute(tx.tx);
    const kept = new Set(prefixes);
    const dropped = rows.map(({ prefix }) => prefix).filter((prefix) => !kept.has(prefix));
    for (const part of chunks(dropped)) {
      await sql`delete from weir_policy_prefix where policy = ${policy} and prefix in (${sql.join(part)})`
        .execute(tx.tx);
    }
    await this.#release(tx, await unmentioned(tx, dropped));
  }

  /**
   * Makes the database say what follows from the policies in it: for after a start (an older version noted less), and
   * after the database was replaced by another copy. A number that a kernel may hold for one prefix is never left with
   * another: the other one moves.
   */
  async reconcile(tx: StoreTransaction, evidence: CidrEvidence): Promise<void> {
    await this.#claim(tx, evidence.given);
    await this.#adopt(tx);
    const noted = await sql<{ policy: string; prefix: string }>`select policy, prefix from weir_policy_prefix`
      .execute(tx.tx);
    const had = Map.groupBy(noted.rows, ({ policy }) => policy);
    const lacking = new Map<string, string[]>();
    for (const [policy, prefixes] of evidence.mentioned) {
      const rows = new Set(had.get(policy)?.map(({ prefix }) => prefix));
      const missing = prefixes.filter((prefix) => !rows.has(prefix));
      if (missing.length > 0) lacking.set(policy, missing);
    }
    await this.take(tx, lacking);
    for (const [policy, rows] of had) {
      if (evidence.unread.has(policy)) continue;
      const wanted = new Set(evidence.mentioned.get(policy));
      if (rows.some(({ prefix }) => !wanted.has(prefix))) await this.keepOnly(tx, policy, [...wanted]);
    }
    // Numbers and rows that no policy asks for: an engine of an older version leaves them.
    const rows = await sql<{ prefix: string }>`select prefix from weir_cidr_number where released_unix_s = 0`
      .execute(tx.tx);
    await this.#release(tx, await unmentioned(tx, rows.rows.map(({ prefix }) => prefix)));
    await this.#number(tx, [...new Set([...evidence.mentioned.values()].flat())].sort());
  }

  /** Pairs that nodes were given and this database does not know rest in it from now on. */
  async #claim(tx: StoreTransaction, given: readonly CidrPair[]): Promise<void> {
    const now = this.#now();
    for (const part of chunks(given)) {
      const rows = await numberRows(tx, part.map(({ identity }) => identity));
      for (const { prefix, identity } of part) {
        const row = rows.get(identity);
        if (row?.prefix === prefix) continue;
        await sql`delete from weir_cidr_number where number = ${identity}`.execute(tx.tx);
        await sql`insert into weir_cidr_number (number, prefix, released_unix_s)
          values (${identity}, ${prefix}, ${now})`.execute(tx.tx);
        if (row !== undefined && row.released_unix_s === 0) {
          await this.#number(tx, [row.prefix]);
        }
      }
    }
  }

  /**
   * Makes the collection and the numbers agree. A version before kept pairs in the collection alone, and may have doubled
   * a number; an engine of that version beside this one may delete a row that is in use.
   */
  async #adopt(tx: StoreTransaction): Promise<void> {
    const objects = await sql<{ name: string; body: Uint8Array }>`
      select name, body from weir_objects where collection = ${CIDRS} order by name`.execute(tx.tx);
    const used = await sql<NumberRow>`select number, prefix from weir_cidr_number where released_unix_s = 0`
      .execute(tx.tx);
    const numbers = new Map(used.rows.map(({ prefix, number }) => [prefix, number]));
    const shown = new Map(objects.rows.map(({ name, body }) => [name, CidrIdentity.decode(body).identity]));
    for (const [prefix, identity] of numbers) {
      if (shown.get(prefix) === identity) continue;
      await tx.put<CidrIdentity>(CIDRS, prefix, { prefix, identity, labels: [] });
    }
    for (const [prefix, identity] of shown) {
      if (numbers.has(prefix)) continue;
      const { rows } = await sql<
        { number: number }
      >`insert into weir_cidr_number (number, prefix, released_unix_s)
        values (${identity}, ${prefix}, 0) on conflict (number) do nothing returning number`.execute(tx.tx);
      if (rows.length === 0) await this.#number(tx, [prefix]);
    }
  }

  /** Gives numbers to those of the prefixes that have none. */
  async #number(tx: StoreTransaction, prefixes: readonly string[]): Promise<void> {
    if (prefixes.length === 0) return;
    await this.#endRests(tx);
    let open: string[] = [];
    const given: CidrPair[] = [], back: number[] = [];
    for (const part of chunks(prefixes)) {
      const { rows } = await sql<NumberRow>`select number, prefix, released_unix_s from weir_cidr_number
        where prefix in (${sql.join(part)}) order by released_unix_s`.execute(tx.tx);
      // What is in use, else what rests since last: kernels are most likely to hold that one.
      const known = new Map(rows.map((row) => [row.prefix, row]));
      for (const row of rows) if (row.released_unix_s === 0) known.set(row.prefix, row);
      for (const row of known.values()) {
        if (row.released_unix_s === 0) continue;
        back.push(row.number);
        given.push({ prefix: row.prefix, identity: row.number });
      }
      open.push(...part.filter((prefix) => !known.has(prefix)));
    }
    if (open.length + given.length === 0) return;
    const { rows } = await sql<{ used: string | number }>`
      select count(*) as used from weir_cidr_number where released_unix_s = 0`.execute(tx.tx);
    const wanted = Number(rows[0].used) + open.length + given.length;
    if (wanted > CIDR_IDENTITIES_MAX) throw tooManyPrefixes(wanted);
    for (const part of chunks(back)) {
      await sql`update weir_cidr_number set released_unix_s = 0 where number in (${sql.join(part)})`.execute(
        tx.tx,
      );
    }
    for (let attempt = 0; open.length > 0; attempt++) {
      const late: string[] = [];
      for (const part of chunks(open)) {
        const choices = attempt < CIDR_NUMBER_CHOICES
          ? part.map((prefix) => cidrNumberChoice(prefix, attempt))
          : await freeNumbers(tx, part.length);
        const taken = new Set((await numberRows(tx, choices)).keys());
        const fresh: CidrPair[] = [];
        for (const [i, prefix] of part.entries()) {
          const identity = choices[i];
          if (taken.has(identity)) late.push(prefix);
          else fresh.push({ prefix, identity });
          taken.add(identity);
        }
        if (fresh.length === 0) continue;
        const values = fresh.map(({ prefix, identity }) => sql`(${identity}, ${prefix}, 0)`);
        await sql`insert into weir_cidr_number (number, prefix, released_unix_s) values ${sql.join(values)}`
          .execute(tx.tx);
        given.push(...fresh);
      }
      open = late;
    }
    for (const { prefix, identity } of given) {
      await tx.put<CidrIdentity>(CIDRS, prefix, { prefix, identity, labels: [] });
    }
  }

  /** Unix seconds; never 0, which means "in use". */
  #now(): number {
    return Math.max(1, unixSeconds(this.#clock));
  }

  async #release(tx: StoreTransaction, prefixes: readonly string[]): Promise<void> {
    const now = this.#now();
    for (const part of chunks(prefixes)) {
      await sql`update weir_cidr_number set released_unix_s = ${now}
        where prefix in (${sql.join(part)}) and released_unix_s = 0`.execute(tx.tx);
    }
    for (const prefix of prefixes) await tx.delete(CIDRS, prefix);
  }

  /** Forgets numbers that have rested, and beyond the maximum those that rest longest. */
  async #endRests(tx: StoreTransaction): Promise<void> {
    const now = this.#now();
    await sql`delete from weir_cidr_number where released_unix_s > 0 and released_unix_s < ${
      now - CIDR_REST_S
    }`
      .execute(tx.tx);
    const { rows } = await sql<{ resting: string | number }>`
      select count(*) as resting from weir_cidr_number where released_unix_s > 0`.execute(tx.tx);
    const over = Number(rows[0].resting) - CIDR_RESTING_MAX;
    if (over <= 0) return;
    await sql`delete from weir_cidr_number where number in (select number from weir_cidr_number
      where released_unix_s > 0 order by released_unix_s limit ${over})`.execute(tx.tx);
  }
}

/** Those of the prefixes that no policy mentions. */
async function unmentioned(tx: StoreTransaction, prefixes: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const part of chunks(prefixes)) {
    const { rows } = await sql<{ prefix: string }>`
      select distinct prefix from weir_policy_prefix where prefix in (${sql.join(part)})`.execute(tx.tx);
    const mentioned = new Set(rows.map(({ prefix }) => prefix));
    found.push(...part.filter((prefix) => !mentioned.has(prefix)));
  }
  return found;
}

async function numberRows(tx: StoreTransaction, numbers: readonly number[]): Promise<Map<number, NumberRow>> {
  if (numbers.length === 0) return new Map();
  const { rows } = await sql<NumberRow>`select number, prefix, released_unix_s from weir_cidr_number
    where number in (${sql.join(numbers)})`.execute(tx.tx);
  return new Map(rows.map((row) => [row.number, row]));
}

/** The lowest numbers that nobody has and none of whom rests. */
async function freeNumbers(tx: StoreTransaction, count: number): Promise<number[]> {
  const { rows } = await sql<{ number: number }>`select number from weir_cidr_number`.execute(tx.tx);
  const taken = new Set(rows.map(({ number }) => number)), free: number[] = [];
  for (let number = CIDR_NUMBER_MIN; free.length < count && number <= IDENTITY_LOCAL_MAX; number++) {
    if (!taken.has(number)) free.push(number);
  }
  if (free.length < count) throw tooManyPrefixes(taken.size + count);
  return free;
}

function* chunks<T>(items: readonly T[]): Generator<T[]> {
  for (let i = 0; i < items.length; i += ROWS_AT_ONCE) yield items.slice(i, i + ROWS_AT_ONCE);
}

function tooManyPrefixes(wanted: number): ProblemError {
  return new ProblemError("TOO_MANY_PREFIXES", {
    status: 507,
    detail: `Cannot take policies: all together would mention ${wanted} prefixes and selectors of names`,
    found: wanted,
    expected: `at most ${CIDR_IDENTITIES_MAX}`,
    action: "Delete policies that are no longer needed",
  });
}

import { deepEqual, equal, ok } from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { sql } from "kysely";
import { seededRandom } from "../../tests/seeded_random.ts";
import { lengthTerm, stretchesUntil } from "./connection_length.ts";
import { OLD_WORDS } from "./schema.ts";
import { flowBytes } from "./testing/flows.ts";
import { testHistory } from "./testing/history.ts";

const START_MS = 1_790_000_000_000;

Deno.test("stretchesUntil() has every time once, and in each the words of all that began before and ended there", () => {
  const stretches = stretchesUntil(START_MS), random = seededRandom(7);
  for (let n = 0; n < 20_000; n++) {
    const lengthMs = 10 ** (random() * 8), endMs = START_MS + random() * lengthMs;
    // Its block stands up to a bucket later.
    const blockMs = Math.ceil(endMs + random() * 10_000);
    const found = stretches.filter(({ sinceMs, untilMs }) => blockMs >= sinceMs && blockMs <= untilMs);
    equal(found.length, 1, `${blockMs}`);
    const [{ terms }] = found, term = lengthTerm(lengthMs);
    ok(terms === undefined || terms.includes(term!), `${lengthMs} ms, ${endMs - START_MS} ms after`);
  }
});

async function walk(url: string): Promise<void> {
  const random = seededRandom(11), clock = new FakeClock(START_MS);
  const one = testHistory(clock, url), { history } = one;
  await history.load();
  const known = Array.from({ length: 400 }, (_, n) => {
    const startMs = START_MS + Math.floor(random() * 1_800_000);
    // From parts of a second to an hour.
    const endMs = startMs + Math.floor(10 ** (2 + random() * 4.5));
    return { startMs, endMs, sourcePort: 1000 + n, name: `d${n % 7}.example.${n % 2 === 0 ? "com" : "org"}` };
  });
  const events = known.flatMap(({ startMs, endMs, sourcePort, name }) => {
    const words = { sourcePort, to: "", more: { destination_names: [name] } },
      flags = { FIN: true, ACK: true };
    return [
      { ...words, unixMs: startMs, flags: { SYN: true } },
      { ...words, unixMs: startMs + 1, isReply: true, more: { source_names: [name] } },
      { ...words, unixMs: endMs - 1, flags },
      { ...words, unixMs: endMs, flags, isReply: true, more: { source_names: [name] } },
    ];
  }).sort((a, b) => a.unixMs - b.unixMs);
  for (let at = 0, turn = 0; at < events.length; turn++) {
    await clock.advance(30_000);
    const due = events.slice(at).findIndex(({ unixMs }) => unixMs > clock.nowMs());
    const end = due < 0 ? events.length : at + due;
    history.intake.take(events.slice(at, end).map((words) => flowBytes(words)));
    at = end;
    await history.flush();
    if (turn === 30) await forgetWords();
  }
  await clock.advance(30_000);
  await history.flush({ isLast: true });

  const check = async () => {
    for (let n = 0; n < 24; n++) {
      const untilMs = START_MS + Math.floor(random() * 2_400_000), sinceMs = untilMs - (n % 3) * 300_000;
      const filter = ["", "&to-fqdn=*.example.com", "&to-fqdn=d3.example.org"][n % 3];
      const since = n % 4 === 0 ? "" : `&since=${new Date(sinceMs).toISOString()}`;
      const query = `/v1/connections?limit=23&until=${new Date(untilMs).toISOString()}${since}${filter}`;
      const found = (await one.pages(query, "connections")).map(({ sourcePort }) => sourcePort);
      const wanted = known.filter(({ startMs, endMs, name }) =>
        startMs <= untilMs && (since === "" || endMs >= sinceMs) &&
        (filter === "" || (n % 3 === 1 ? name.endsWith(".com") : name === "d3.example.org"))
      ).sort((a, b) => b.endMs - a.endMs).map(({ sourcePort }) => sourcePort);
      deepEqual(
        found.toSorted((a, b) => a - b),
        wanted.toSorted((a, b) => a - b),
        `${query}: ${found.length}`,
      );
    }
    // Flows by name, those of old blocks too.
    for (
      const [filter, isMeant] of [
        ["fqdn=*.example.org", (name: string) => name.endsWith(".org")],
        ["fqdn=d4.example.com", (name: string) => name === "d4.example.com"],
        ["fqdn=nobody.example.com", () => false],
      ] as const
    ) {
      const flows = await one.pages(`/v1/flows?${filter}&last=70`, "flows");
      equal(flows.length, known.filter(({ name }) => isMeant(name)).length * 4, filter);
    }
  };
  await check();
  await one.close();

  /** What is stored is as the version before had it. */
  async function forgetWords(): Promise<void> {
    const { kysely } = history.store.database;
    await sql`delete from weir_history_posting where term like 'cl:%' or term like '_x:%' or term like '_y:%'`
      .execute(kysely);
    await sql`update weir_history_block set since_ms = until_ms where kind = 'c'`.execute(kysely);
    const { rows: [{ id, until_ms }] } = await sql<{ id: string; until_ms: string }>`
      select max(id) as id, max(until_ms) as until_ms from weir_history_block`.execute(kysely);
    await sql`insert into weir_history_state (name, value) values (${OLD_WORDS}, ${`${id} ${until_ms}`})`
      .execute(kysely);
    history.store.oldBlocks = { block: Number(id), untilMs: Number(until_ms) };
  }
}

Deno.test("GET /v1/connections?until= gives all that lived by then, however long they went on, with blocks of older versions", () =>
  walk("sqlite::memory:"));

Deno.test({
  name: "GET /v1/connections?until= does the same on PostgreSQL",
  ignore: postgresMissing() !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    try {
      await walk(await postgres.createDatabase("lengths"));
    } finally {
      await postgres.close();
    }
  },
});

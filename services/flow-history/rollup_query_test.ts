import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { deflateRawSync } from "node:zlib";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { StoredRollup, StoredRollups } from "@weir/proto/history";
import { sql } from "kysely";
import { packRows, unpackRows } from "./rollup_columns.ts";
import { RollupGroups } from "./rollup_groups.ts";
import { sumRows } from "./rollup_table.ts";
import { readTotals, totalsOf } from "./rollup_totals.ts";
import { DROPPED, flowBytes } from "./testing/flows.ts";
import { type TestHistory, testHistory } from "./testing/history.ts";

const START_MS = 1_790_000_000_000 - 1_790_000_000_000 % 3_600_000;
const COUNTS = ["flows", "connections", "dropped", "audited", "troubles", "denied"] as const;

/** What is asked, as sums by what is left of the keys; each way must say the same. */
const QUESTIONS = [
  "",
  "by=workload",
  "by=from:pod&by=port",
  "by=verdict&by=reason&by=policy",
  "by=to:label:app&by=node",
  "by=name&by=protocol&by=direction",
  "step=10m",
  "step=1m&by=verdict",
];
const EVERYTHING = "by=pod&by=port&by=verdict&by=reason&by=policy&by=node";

/** Two and a half hours: some hours and ten minutes are summed, the last minutes are not. */
async function filled(): Promise<TestHistory> {
  const clock = new FakeClock(START_MS), one = testHistory(clock);
  await one.history.load();
  const pods = ["cart-1", "cart-2", "db-1", "web-1", ""];
  for (let minute = 0; minute < 150; minute++) {
    one.history.intake.take(Array.from({ length: 30 }, (_, n) =>
      flowBytes({
        unixMs: clock.nowMs() + n * 1000,
        node: `node-${n % 3}`,
        from: pods[(n + minute) % 5],
        to: pods[n * 3 % 5],
        port: [80, 443, 5432][n % 3],
        sourcePort: 33_000 + n,
        isReply: n % 4 === 1,
        more: n % 7 === 0 ? DROPPED : n % 5 === 0 ? { destination_names: [`d${n % 2}.example.com`] } : {},
      })));
    await clock.advance(60_000);
    await one.history.flush();
    if (minute % 40 === 39) await one.history.retention.turn(new AbortController().signal);
  }
  ok(one.history.store.compactedS(60) > 0);
  return one;
}

// deno-lint-ignore no-explicit-any
const sumOf = (rollups: any[]) =>
  Object.fromEntries(
    COUNTS.map((name) => [name, rollups.reduce((sum, row) => sum + Number(row[name] ?? 0), 0)]),
  );

async function answers(one: TestHistory, filter: string): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const question of QUESTIONS) {
    const { rollups = [] } = await one.get(`/v1/rollups?since=3h&limit=50000&${question}&${filter}`);
    all[question] = rollups;
  }
  return all;
}

Deno.test("GET /v1/rollups says the same in sum whatever it groups by, from totals, columns and rows of older versions", async () => {
  const one = await filled();
  for (
    const filter of [
      "",
      "verdict=dropped",
      "to-pod=shop/db-1&not-port=80",
      "to-fqdn=*.example.com",
      "pod=shop/nobody",
    ]
  ) {
    const { rollups = [] } = await one.get(`/v1/rollups?since=3h&limit=50000&${EVERYTHING}&${filter}`);
    const whole = sumOf(rollups);
    if (filter === "") equal(whole.flows, 150 * 30);
    if (filter === "verdict=dropped") equal(whole.dropped, 150 * 5);
    // deno-lint-ignore no-explicit-any
    for (const [question, found] of Object.entries(await answers(one, filter)) as [string, any[]][]) {
      deepEqual(sumOf(found), whole, `${question} ${filter}`);
      const keys = found.map(({ keys, startUnixS }) => JSON.stringify([keys, startUnixS]));
      equal(new Set(keys).size, found.length, `each group once: ${question}`);
    }
    if (filter !== "") continue;
    const [total] = (await one.get("/v1/rollups?since=3h")).rollups;
    equal(total.firstUnixS, START_MS / 1000);
    equal(total.lastUnixS, START_MS / 1000 + 149 * 60 + 29);
  }
  const before = { plain: await answers(one, ""), filtered: await answers(one, "port=443") };
  const { database } = one.history.store;
  const { rows } = await sql<
    { level: number; start_s: number; part: number; body: Uint8Array; totals: string }
  >`
    select level, start_s, part, body, totals from weir_history_rollup`.execute(database.kysely);
  for (const { level, start_s, part, body, totals } of rows) {
    const unpacked = unpackRows(body);
    deepEqual(readTotals(totals), totalsOf(unpacked), "totals of its own rows");
    const old = deflateRawSync(StoredRollups.encode({ rows: unpacked }));
    await sql`update weir_history_rollup set body = ${old}, totals = null
      where level = ${level} and start_s = ${start_s} and part = ${part}`.execute(database.kysely);
  }
  deepEqual({ plain: await answers(one, ""), filtered: await answers(one, "port=443") }, before);
  await one.close();
});

Deno.test("packRows keeps every column of every row, and unpackRows refuses columns that are not equally long", () => {
  const rows = Array.from({ length: 500 }, (_, n) =>
    StoredRollup.create({
      ...{
        source: n * 7,
        destination: n % 3,
        sourceName: `s${n % 5}`,
        destinationName: n % 2 ? "" : "d.example.com",
      },
      ...{
        port: n * 131 % 65_536,
        protocol: "TCP",
        verdict: n % 2 ? "DROPPED" : "FORWARDED",
        node: `n${n % 4}`,
      },
      ...{ reason: n % 2 ? "POLICY_DENIED" : "DROP_REASON_UNKNOWN", policy: `p${n}`, direction: "INGRESS" },
      ...{ flows: 2 ** 40 + n, connections: n, dropped: n % 9, audited: 1, troubles: n % 2, denied: n % 5 },
      ...{ firstUnixS: 1.5 * n, lastUnixS: 1.79e9 + n / 7 },
    }));
  deepEqual(unpackRows(packRows(rows)), rows);
  deepEqual(unpackRows(packRows([])), []);
  deepEqual(totalsOf(rows).map(({ flows }) => flows), [rows.reduce((sum, { flows }) => sum + flows, 0)]);
  const folded = StoredRollup.create({ flows: 3 });
  deepEqual(totalsOf([...rows, folded]).map(({ flows }) => flows).at(-1), 3, "what was folded stays apart");
  equal(sumRows([totalsOf([...rows, folded])]).length, 2);
  const broken = deflateRawSync(StoredRollups.encode({ columns: { source: [1], destination: [1, 2] } }));
  throws(() => unpackRows(broken), /equally long/);
});

Deno.test("RollupGroups tells groups apart by values, whatever they are made of", () => {
  const by = (key: string, valueOf: (row: StoredRollup) => string) => ({
    key,
    sourceOf: (row: StoredRollup) => row.source * 1000 + row.port,
    valueOf,
  });
  const groups = new RollupGroups([
    by("a", ({ source }) => `${source % 3}`),
    by("b", ({ port }) => `${port % 2}`),
  ]);
  const wanted = new Map<string, number>();
  for (let n = 0; n < 5000; n++) {
    const row = StoredRollup.create({ source: n % 17, port: n % 23, flows: n }),
      key = `${n % 17 % 3} ${n % 23 % 2}`;
    groups.add(row, 0);
    wanted.set(key, (wanted.get(key) ?? 0) + n);
  }
  deepEqual(
    new Map(groups.list().map(({ keys, flows }) => [`${keys.a} ${keys.b}`, flows])),
    wanted,
  );
});

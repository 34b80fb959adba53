import { deepEqual, equal } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { deflateRawSync } from "node:zlib";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { StoredBlock, StoredRollups } from "@weir/proto/history";
import { unpackItems } from "./block.ts";
import { unpackRows } from "./rollup_columns.ts";
import { MIGRATIONS } from "./schema.ts";
import { DROPPED, flowBytes } from "./testing/flows.ts";
import { testHistory, withFile } from "./testing/history.ts";

const START_MS = 1_790_000_000_000 - 1_790_000_000_000 % 3_600_000;
const iso = (seconds: number) => new Date(START_MS + seconds * 1000).toISOString();

const QUESTIONS = [
  "/v1/flows?last=1000",
  "/v1/flows?fqdn=*.example.com&first=1000",
  "/v1/flows?to-fqdn=a.example.com&last=1000",
  "/v1/flows?pod=shop/web&verdict=dropped&last=1000",
  "/v1/connections?limit=1000",
  `/v1/connections?until=${iso(900)}&limit=1000`,
  `/v1/connections?until=${iso(300)}&to-fqdn=*.example.com&limit=1000`,
  "/v1/rollups?since=3h",
  "/v1/rollups?since=3h&step=10m",
  "/v1/rollups?since=3h&by=workload&by=verdict&by=reason&by=policy",
  "/v1/completeness?since=3h",
];

/** What does not depend on what was added to memory meanwhile. */
// deno-lint-ignore no-explicit-any
function told(answer: any): unknown {
  // deno-lint-ignore no-explicit-any
  const ids = (list: any[] | undefined) => list?.map(({ uuid, id }) => uuid ?? id).sort();
  return answer.flows || answer.connections
    ? [ids(answer.flows), ids(answer.connections)]
    : [answer.rollups, answer.total?.text];
}

Deno.test("FlowHistory reads a database of its first schema as it reads its own, and goes on in it", async () => {
  await withFile(async (path) => {
    const clock = new FakeClock(START_MS), one = testHistory(clock, path);
    await one.history.load();
    for (let minute = 0; minute < 75; minute++) {
      one.history.intake.take(Array.from({ length: 8 }, (_, n) =>
        flowBytes({
          unixMs: clock.nowMs() + n * 700,
          from: n % 2 === 0 ? "web-1" : "cart-1",
          to: n % 3 === 0 ? "" : "db-1",
          sourcePort: 1000 + (n % 4 === 0 ? n : minute * 10 + n),
          isReply: n % 5 === 4,
          more: n % 7 === 0
            ? DROPPED
            : n % 3 === 0
            ? { destination_names: [`${"ab"[minute % 2]}.example.com`] }
            : {},
        })));
      await clock.advance(60_000);
      await one.history.flush();
      if (minute === 70) await one.history.retention.turn(new AbortController().signal);
    }
    await one.history.flush({ isLast: true });
    const wanted = [];
    for (const question of QUESTIONS) wanted.push(told(await one.get(question)));
    await one.close();

    const oldPath = `${path}.old`, old = new Database(oldPath);
    await old.migrate(MIGRATIONS.slice(0, 1));
    await old.close();
    copyAsFirst(path, oldPath);
    const again = testHistory(clock, oldPath);
    await again.history.load();
    await again.history.retention.turn(new AbortController().signal);
    for (const [index, question] of QUESTIONS.entries()) {
      deepEqual(told(await again.get(question)), wanted[index], question);
    }
    // What comes now has its words beside the old ones.
    const name = "c.example.com";
    again.history.intake.take([
      flowBytes({ unixMs: clock.nowMs(), to: "", uuid: "new", more: { destination_names: [name] } }),
    ]);
    await again.history.flush({ isLast: true });
    const { flows } = await again.get("/v1/flows?fqdn=c.example.com&last=10");
    deepEqual(flows.map(({ uuid }: { uuid: string }) => uuid), ["new"]);
    const before = (wanted[1] as [string[]])[0].length;
    equal((await again.get(QUESTIONS[1])).flows.length, before + 1);
    await again.close();
  });
});

/** Copies all rows as the first version would have written them. */
function copyAsFirst(from: string, to: string): void {
  const source = new DatabaseSync(from), target = new DatabaseSync(to);
  const copy = (
    table: string,
    change: (row: Record<string, unknown>) => Record<string, unknown> | undefined,
  ) => {
    for (const row of source.prepare(`select * from ${table}`).all()) {
      const changed = change(row as Record<string, unknown>);
      if (changed === undefined) continue;
      const names = Object.keys(changed);
      target.prepare(`insert into ${table} (${names}) values (${names.map(() => "?")})`)
        .run(...Object.values(changed) as string[]);
    }
  };
  copy("weir_history_block", ({ body, ...row }) => {
    const items = unpackItems(body as Uint8Array);
    const whole = StoredBlock.encode({
      items: items.map(({ bytes }) => bytes),
      unixMs: items.map(({ unixMs }) => unixMs),
    });
    const sinceMs = Math.floor(Math.min(...items.map(({ unixMs }) => unixMs)));
    return { ...row, since_ms: sinceMs, body: deflateRawSync(whole) };
  });
  copy("weir_history_posting", (row) => /^(cl|.[xy]):/.test(`${row.term}`) ? undefined : row);
  copy("weir_history_rollup", ({ body, totals: _, ...row }) => ({
    ...row,
    body: deflateRawSync(StoredRollups.encode({ rows: unpackRows(body as Uint8Array) })),
  }));
  for (const table of ["end", "minute", "loss", "gap", "held", "open"]) {
    copy(`weir_history_${table}`, (row) => row);
  }
  copy("weir_history_state", (row) => row.name === "batch" ? undefined : row);
  source.close();
  target.close();
}

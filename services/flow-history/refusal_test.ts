import { deepEqual, equal, match, ok } from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { until } from "@weir/common/testing/until";
import { sql } from "kysely";
import { BLOCKS_WAITING_MAX } from "./history.ts";
import { blockful, flowBytes } from "./testing/flows.ts";
import { settled, testHistory } from "./testing/history.ts";

const START_MS = 1_790_000_000_000;
/** A real database needs real time: a fifth of what the clock shows, and another try where that was not enough. */
const REAL_STEP_MS = 20;

/** A test on both databases. */
function onBoth(name: string, walk: (url: string) => Promise<void>): void {
  Deno.test(`${name}, on SQLite`, () => walk("sqlite::memory:"));
  Deno.test({
    name: `${name}, on PostgreSQL`,
    ignore: postgresMissing() !== undefined,
    async fn() {
      const postgres = await TestPostgres.start();
      try {
        await walk(await postgres.createDatabase("refusal"));
      } finally {
        await postgres.close();
      }
    },
  });
}

/** Text that no compression makes short, of ideographs: nothing in it means anything to a query. */
const noise = (length: number) =>
  Array.from(crypto.getRandomValues(new Uint16Array(length)), (n) => String.fromCharCode(0x4e00 + n % 20_000))
    .join("");

onBoth("FlowHistory keeps flows whose texts no database takes, with all others", async (url) => {
  const clock = new FakeClock(START_MS), one = testHistory(clock, url), { history } = one;
  await history.load();
  const long = noise(3000), unixMs = START_MS;
  const end = { identity: 7, namespace: "a\0b", pod_name: "p\0", labels: ["k8s:x=\0", `k8s:y=${long}`] };
  history.intake.take([
    ...blockful(unixMs).slice(0, 100),
    flowBytes({
      unixMs,
      uuid: "nul",
      node: "node\0one",
      more: { source: end, destination_names: ["d\0.x"] },
    }),
    flowBytes({ unixMs, uuid: "long", node: long, more: { source: { ...end, namespace: long } } }),
    flowBytes({ unixMs, uuid: "ip", more: { IP: { source: "\0", destination: long, ipVersion: "IPv4" } } }),
  ]);
  history.held.see("policy", `p\0${long}`, new Uint8Array(3), true);
  await history.flush({ isLast: true });
  equal((await one.get("/v1/flows?last=200")).flows.length, 103);
  const uuids = async (query: [string, string][]) =>
    (await one.get(`/v1/flows?last=9&${new URLSearchParams(query)}`)).flows.map((flow: { uuid: string }) =>
      flow.uuid
    );
  deepEqual(await uuids([["namespace", "a\0b"]]), ["nul"]);
  deepEqual(await uuids([["namespace", long]]), ["long"]);
  equal((await one.get("/v1/holdings")).holdings.length, 1);
  equal((await one.get(`/v1/holdings?name=${encodeURIComponent(`p\0${long}`)}`)).holdings.length, 1);
  equal((await one.get("/v1/completeness")).total.text, "103 flows, 100 %");
  await one.close();
});

onBoth("FlowHistory counts a block that the database refuses as lost, and writes all else", async (url) => {
  const clock = new FakeClock(START_MS), one = testHistory(clock, url), { history } = one;
  await history.load();
  const { database } = history.store;
  if (database.kind === "sqlite") {
    await sql`create trigger poison before insert on weir_history_posting when new.term = 'fn:poison'
      begin select raise(abort, 'poison'); end`.execute(database.kysely);
  } else {
    await sql`alter table weir_history_posting add check (term <> 'fn:poison')`.execute(database.kysely);
  }
  history.intake.take([
    ...blockful(START_MS - 20_000),
    flowBytes({ unixMs: START_MS, more: { destination: { namespace: "poison", labels: [] } } }),
    ...blockful(START_MS).slice(0, 255),
    ...blockful(START_MS + 20_000),
  ]);
  await history.flush();
  await history.flush();
  const { flows, completeness } = await one.get("/v1/flows?last=1000");
  equal(flows.length, 512);
  match(completeness.text, /^512 of 768 flows, 67 %, 256 lost$/);
  deepEqual(completeness.losses, [{ source: "HISTORY", node: "node-a", lost: "256" }]);
  equal((await one.get("/v1/rollups")).rollups[0].flows, "768", "sums have it");
  equal(history.waitingFlows, 0);
  await one.close();
});

/** A way to a PostgreSQL that can lose answers, or everything. */
class Wire {
  /** From the next commit on nothing comes back. */
  losesCommit = false;
  isCut = false;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #ends = new Set<Deno.Conn>();

  constructor(readonly socket: string) {
    this.#accept();
  }

  url(database: string): string {
    return `postgres://weir@127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}/${database}`;
  }

  close(): void {
    this.#listener.close();
    for (const end of this.#ends) shut(end);
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      const server = await Deno.connect({ transport: "unix", path: this.socket });
      this.#pump(client, server, (text) => this.isCut ||= this.losesCommit && text.includes("commit"), false);
      this.#pump(server, client, () => {}, true);
    }
  }

  async #pump(
    from: Deno.Conn,
    to: Deno.Conn,
    look: (text: string) => void,
    isAnswer: boolean,
  ): Promise<void> {
    this.#ends.add(from);
    const buffer = new Uint8Array(65_536);
    try {
      for (let n: number | null; (n = await from.read(buffer)) !== null;) {
        const wasCut = this.isCut;
        look(new TextDecoder().decode(buffer.subarray(0, n)));
        // The commit itself goes through; what follows does not.
        if (wasCut || (isAnswer && this.isCut)) continue;
        for (let at = 0; at < n;) at += await to.write(buffer.subarray(at, n));
      }
    } catch {
      // One side has ended.
    }
    this.#ends.delete(from);
    shut(from);
    shut(to);
  }
}

function shut(end: Deno.Conn): void {
  try {
    end.close();
  } catch {
    // The other way has done it.
  }
}

Deno.test({
  name:
    "FlowHistory writes once what a PostgreSQL committed whose answer was lost, and holds a bounded part of what comes while it swallows everything",
  ignore: postgresMissing() !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    const wire = new Wire(`${postgres.directory}/.s.PGSQL.5432`);
    try {
      await postgres.createDatabase("late");
      const clock = new FakeClock(START_MS), one = testHistory(clock, wire.url("late")), { history } = one;
      await history.load();
      history.intake.take(blockful(START_MS));
      wire.losesCommit = true;
      await until("the commit goes out", async () => {
        equal((await settled(clock, history.flush(), REAL_STEP_MS)).status, "rejected");
        return wire.isCut;
      });
      wire.losesCommit = false;
      // Swallowed all the while: each try ends, and what waits is bounded.
      const blocks = BLOCKS_WAITING_MAX + 20;
      for (let n = 1; n < blocks; n++) history.intake.take(blockful(START_MS));
      equal((await settled(clock, history.flush(), REAL_STEP_MS)).status, "rejected");
      ok(history.waitingFlows <= (BLOCKS_WAITING_MAX + 1) * 256);
      wire.isCut = false;
      await until("it is written", async () => {
        const { status } = await settled(clock, history.flush(), REAL_STEP_MS);
        return status === "fulfilled";
      });
      equal(history.waitingFlows, 0);
      const { total } = await one.get("/v1/completeness");
      equal(total.seen, `${blocks * 256}`, "nothing counts twice");
      equal(Number(total.stored) + Number(total.lost), blocks * 256);
      ok(total.lost > 0);
      const { rows: [{ n }] } = await sql<
        { n: string }
      >`select sum(items) as n from weir_history_block where kind = 'f'`
        .execute(history.store.database.kysely);
      equal(n, total.stored);
      await settled(clock, one.close());
    } finally {
      wire.close();
      await postgres.close();
    }
  },
});

Deno.test("Sums and counts are the same before, while and after they are written", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock), { history } = one;
  await history.load();
  for (let round = 1; round <= 20; round++) {
    history.intake.take(blockful(clock.nowMs()));
    await clock.advance(70_000);
    const writing = history.flush();
    for (let turn = 0; turn < 4; turn++) {
      const { rollups, completeness } = await one.get("/v1/rollups?since=5h");
      equal(rollups[0].flows, `${round * 256}`);
      equal(completeness.text, `${(round * 256).toLocaleString("en-US")} flows, 100 %`);
    }
    await writing;
  }
  await one.close();
});

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { Logger, MetricsRegistry, systemClock } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { GrpcServer } from "@weir/grpc";
import { Flow } from "@weir/proto/flow";
import { GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { sql } from "kysely";
import { BLOCKS_WAITING_MAX, ROLLUP_ROWS_WAITING_MAX } from "./history.ts";
import { CLAIM_MS } from "./history_store.ts";
import { RelayFollower } from "./relay_follower.ts";
import { BELIEVE_MS } from "./retention.ts";
import { ROLLUP_ROWS_MAX } from "./rollup_table.ts";
import { blockful, flowBytes } from "./testing/flows.ts";
import { settled, testHistory, withFile } from "./testing/history.ts";

const START_MS = 1_790_000_000_000;
const READ_ONLY_CHILD = new URL("./testing/read_only.ts", import.meta.url).pathname;

Deno.test("FlowHistory holds what a full database does not take, counts what it cannot hold, and goes on", async () => {
  await withFile(async (path) => {
    const clock = new FakeClock(START_MS), one = testHistory(clock, path), { history } = one;
    await history.load();
    const { database } = history.store;
    const { rows: [{ page_count }] } = await sql<{ page_count: number }>`pragma page_count`.execute(
      database.kysely,
    );
    await sql`pragma max_page_count = ${sql.raw(`${page_count + 20}`)}`.execute(database.kysely);
    let isFull = false;
    for (let n = 0; n < BLOCKS_WAITING_MAX + 60; n++) {
      history.intake.take(blockful(clock.nowMs()));
      await history.flush().catch((error) => {
        isFull = true;
        match(error.message, /full/);
      });
      await clock.advance(1000);
    }
    ok(isFull);
    ok(history.waitingFlows <= (BLOCKS_WAITING_MAX + 1) * 256);
    const held = await one.get("/v1/flows?last=1");
    equal(held.flows.length, 1, "what waits can be asked for");
    match(held.completeness.text, /lost$/);
    const [{ source, lost }] = held.completeness.losses;
    equal(source, "HISTORY");
    equal(Number(lost) % 256, 0);
    // Room again.
    await sql`pragma max_page_count = 1000000`.execute(database.kysely);
    await history.flush();
    const { completeness } = await one.get("/v1/completeness?since=1h").then(({ total }) => ({
      completeness: total,
    }));
    equal(Number(completeness.stored) + Number(lost), Number(completeness.seen));
    equal(Number(completeness.seen), (BLOCKS_WAITING_MAX + 60) * 256);
    equal(history.waitingFlows, 0);
    await one.close();
  });
});

Deno.test("FlowHistory waits for a database that another holds, and begins anew when its file is gone for good", async () => {
  await withFile(async (path) => {
    const clock = new FakeClock(START_MS), one = testHistory(clock, path), { history } = one;
    await history.load();
    const other = new DatabaseSync(path);
    other.exec("begin immediate");
    history.intake.take(blockful(START_MS));
    equal((await settled(clock, history.flush())).status, "rejected");
    equal(history.waitingFlows, 256);
    other.exec("rollback");
    other.close();
    await history.flush();
    equal(history.waitingFlows, 0);

    history.start();
    await Deno.remove(path);
    await clock.advance(1000);
    for (let n = 0; n < 100 && one.lost.length === 0; n++) {
      await clock.advance(2000);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    match(one.lost[0] ?? "", /its file is gone/);
    ok(!one.health.ready);
    await settled(clock, history.stop());
    await one.close();
  });
});

for (
  const [what, harm] of [
    ["is no database", (bytes: Uint8Array) => bytes.fill(7, 0, 100)],
    ["is damaged within", (bytes: Uint8Array) => bytes.fill(7, 4096)],
  ] as const
) {
  Deno.test(`FlowHistory sets a file aside that ${what}, and begins anew`, async () => {
    await withFile(async (path) => {
      const clock = new FakeClock(START_MS), before = testHistory(clock, path);
      await before.history.load();
      before.history.intake.take(blockful(START_MS));
      await before.history.flush({ isLast: true });
      await before.close();
      const bytes = await Deno.readFile(path);
      harm(bytes);
      await Deno.writeFile(path, bytes);

      const one = testHistory(clock, path);
      one.history.start();
      for (let n = 0; n < 100 && one.lost.length === 0; n++) {
        await clock.advance(2000);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      match(one.lost[0] ?? "", /it is kept as .*history\.db\.damaged$/);
      ok(clock.nowMs() - START_MS >= 30_000, "it was tried again before");
      equal((await one.get("/v1/status")).state, "failing");
      await settled(clock, one.history.stop());
      await one.close();
      deepEqual(await Deno.readFile(`${path}.damaged`), bytes);
      const anew = testHistory(clock, path);
      await anew.history.load();
      anew.history.intake.take(blockful(START_MS));
      await anew.history.flush();
      equal((await anew.get("/v1/completeness")).total.text, "256 flows, 100 %");
      await anew.close();
    });
  });
}

Deno.test({
  name:
    "FlowHistory answers from a file that became read-only, holds what comes, and writes it when it can again",
  ignore: Deno.uid() !== 0,
  async fn() {
    await withFile(async (path) => {
      // In a mount namespace of its own: nothing of it is left whatever happens.
      const child = new Deno.Command("unshare", {
        args: ["--mount", Deno.execPath(), "run", "-A", "--no-check", READ_ONLY_CHILD, path],
        stdout: "piped",
        stderr: "piped",
      });
      const { success, stdout, stderr } = await child.output(), text = new TextDecoder();
      ok(success, text.decode(stderr));
      deepEqual(JSON.parse(text.decode(stdout)), {
        error: "readonly",
        waiting: 256,
        whileReadOnly: "512 flows, 100 %",
        shown: 512,
        loadedReadOnly: "none", // one that begins then answers too
        after: "512 flows, 100 %",
        waitingAfter: 0,
      });
    });
  },
});

Deno.test("FlowHistory tells of sums that found no room while the database was away", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock), { history } = one;
  await history.load();
  await sql`pragma max_page_count = 1`.execute(history.store.database.kysely);
  const flow = Flow.create({ verdict: "FORWARDED" }),
    place = { isReply: false, isNew: true, isDenial: false };
  for (let minute = 0; minute < ROLLUP_ROWS_WAITING_MAX / ROLLUP_ROWS_MAX + 2; minute++) {
    for (let port = 0; port < ROLLUP_ROWS_MAX; port++) {
      const transport = { protocol: "TCP", sourcePort: 1, destinationPort: port };
      history.intake.rollups.add(flow, place, {
        transport,
        unixMs: clock.nowMs(),
        source: 1,
        destination: 2,
      });
    }
    history.intake.take([flowBytes({ unixMs: clock.nowMs() })]);
    await clock.advance(70_000);
    await history.flush().catch(() => {});
  }
  const rows = history.rollupTail().reduce((sum, part) => sum + part.rows.length, 0);
  ok(rows <= ROLLUP_ROWS_WAITING_MAX + ROLLUP_ROWS_MAX, `${rows} rows wait`);
  await sql`pragma max_page_count = 1000000`.execute(history.store.database.kysely);
  await history.flush();
  const { completeness } = await one.get("/v1/rollups?since=2h");
  match(completeness.text, /, [\d,]+ in no sum$/);
  equal(completeness.losses[0].source, "HISTORY_SUMS");
  await one.close();
});

Deno.test("FlowHistory keeps running on answers that cannot be, and gives flows of clocks that are off the time when they came", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock), { history } = one;
  await history.load();
  const random = (n: number) => crypto.getRandomValues(new Uint8Array(n));
  history.intake.take([
    ...Array.from({ length: 200 }, (_, n) => random(n)),
    new Uint8Array(0),
    GetFlowsResponse.encode({ flow: {} }),
    GetFlowsResponse.encode({ flow: { time: { seconds: -5, nanos: -1 }, uuid: "x".repeat(100_000) } }),
    GetFlowsResponse.encode({ flow: { IP: { source: "no address" }, l4: { TCP: {} } } }),
    GetFlowsResponse.encode({ node_status: { node_names: ["a", "a", ""], state_change: "NODE_GONE" } }),
    GetFlowsResponse.encode({ lost_events: { num_events_lost: 2 ** 53 } }),
    flowBytes({ unixMs: START_MS + 86_400_000 * 365, uuid: "ahead", port: 1 }),
    flowBytes({ unixMs: 1000, uuid: "1970", port: 1 }),
    flowBytes({ unixMs: START_MS - 3000, uuid: "right", port: 1 }),
  ]);
  await history.flush({ isLast: true });
  ok(history.intake.unreadable > 0 && history.intake.skewed >= 2);
  const { flows } = await one.get("/v1/flows?port=1&last=10&since=10s");
  deepEqual(flows.map(({ uuid }: { uuid: string }) => uuid).sort(), ["1970", "ahead", "right"]);
  await one.close();
});

Deno.test("Retention lets the oldest go by size, and nothing by age that only a clock that jumped calls old", async () => {
  const clock = new FakeClock(START_MS),
    one = testHistory(clock, undefined, { bytesMax: 200_000, ageMsMax: 3_600_000 });
  const { history } = one, { signal } = new AbortController();
  await history.load();
  for (let n = 0; n < 60; n++) {
    history.intake.take(blockful(clock.nowMs()));
    await clock.advance(10_000);
    await history.flush();
    await history.retention.turn(signal);
  }
  ok(history.retention.bytes <= 200_000, `${history.retention.bytes} bytes`);
  const left = history.retention.flows;
  ok(left > 0 && left < 60 * 256);
  const { flows } = await one.get("/v1/flows?first=1");
  ok(Date.parse(flows[0].time) > START_MS, "the oldest went");
  const { n } = await history.store.database.query(async (db) =>
    (await sql<{ n: number }>`select count(*) as n from weir_history_posting
      where block not in (select id from weir_history_block)`.execute(db)).rows[0]
  );
  equal(n, 0, "words go with their blocks");

  const [jumped, steady] = [clock.nowMs.bind(clock), clock.monotonicMs.bind(clock)];
  clock.nowMs = () => jumped() + 365 * 86_400_000;
  clock.monotonicMs = steady;
  await clock.advance(11_000);
  await history.retention.turn(signal);
  equal(history.retention.flows, left, "a year ahead in a moment");
  await clock.advance(BELIEVE_MS);
  for (let turn = 0; turn < 3; turn++) {
    await clock.advance(11_000);
    await history.retention.turn(signal);
  }
  equal(history.retention.flows, 0, "it stands: they are old");
  await one.close();
});

Deno.test("the routes refuse what cannot be asked, by name", async () => {
  const one = testHistory(new FakeClock(START_MS));
  match((await one.get("/v1/flows")).code, /HISTORY_NOT_LOADED/);
  await one.history.load();
  const cases: [string, string, RegExp][] = [
    ["/v1/flows?nonsense=1", "QUERY_INVALID", /nonsense/],
    ["/v1/flows?after=1_2", "QUERY_INVALID", /next/],
    [`/v1/flows?after=${"9".repeat(1000)}`, "QUERY_INVALID", /next/],
    ["/v1/flows?since=now&until=1h", "QUERY_INVALID", /since/],
    ["/v1/flows?since=1h&until=2h", "QUERY_INVALID", /before until/],
    ["/v1/flows?ip=10.0.0.0/99", "FILTER_INVALID", /CIDR/],
    ["/v1/flows?http-path=(", "FILTER_INVALID", /regular expression/],
    ["/v1/flows?cel-expression=1%2B1", "FILTER_INVALID", /CEL/],
    ["/v1/connections?tcp-flags=SYN", "FILTER_NOT_SUPPORTED", /tcp_flags/],
    ["/v1/connections?limit=0", "QUERY_INVALID", /limit/],
    ["/v1/connections?last=5", "QUERY_INVALID", /limit=/],
    ["/v1/rollups?by=color", "QUERY_INVALID", /color.*workload/],
    ["/v1/rollups?by=label:", "QUERY_INVALID", /label:/],
    [`/v1/rollups?${"by=pod&".repeat(9)}`, "QUERY_INVALID", /at most 8/],
    ["/v1/rollups?step=1s", "QUERY_INVALID", /minutes/],
    ["/v1/rollups?step=1m&since=300d", "QUERY_INVALID", /steps/],
    ["/v1/rollups?from-port=80", "QUERY_INVALID", /server's port/],
    ["/v1/rollups?ip=10.0.0.1", "FILTER_NOT_SUPPORTED", /source_ip/],
    ["/v1/completeness?pod=a", "QUERY_INVALID", /pod/],
    ["/v1/holdings?at=yesterday", "QUERY_INVALID", /at=yesterday/],
    ["/v1/holdings?kind=secret", "QUERY_INVALID", /policy, identity/],
    ["/v1/holdings?after=%00", "QUERY_INVALID", /next/],
  ];
  for (const [path, code, says] of cases) {
    const answer = await one.get(path);
    equal(answer.code, code, `${path}: ${JSON.stringify(answer)}`);
    match(answer.detail, says, path);
  }
  for (
    const path of [
      "/v1/flows?since=0s&last=5",
      "/v1/flows?last=18446744073709551615",
      "/v1/holdings?at=100000d",
      "/v1/flows?pod=';drop table weir_history_block--",
    ]
  ) {
    equal((await one.get(path)).code, undefined, path);
  }
  await one.close();
});

/** A relay of one node with a memory of flows, on a socket. */
async function relay(path: string, memory: Uint8Array[], log = Logger.silent()) {
  const asked: number[] = [];
  const more = new Set<() => void>();
  const server = new GrpcServer({
    methods: {
      "/observer.Observer/GetFlows": {
        async *open(bytes, { signal }) {
          const { since } = GetFlowsRequest.decode(bytes), sinceMs = (since?.seconds ?? 0) * 1000;
          asked.push(sinceMs);
          let sent = 0;
          while (!signal.aborted) {
            const batch = memory.slice(sent);
            sent = memory.length;
            if (batch.length > 0) yield batch;
            await new Promise<void>((resolve) => {
              more.add(resolve);
              signal.addEventListener("abort", () => resolve());
            });
          }
        },
      },
    },
    log,
    metrics: new MetricsRegistry(),
    clock: systemClock,
  });
  await server.listen({ path });
  return {
    asked,
    push(...flows: Uint8Array[]) {
      memory.push(...flows);
      for (const wake of more) wake();
    },
    stop: () => server.stop(),
  };
}

async function until(what: () => boolean, says: string): Promise<void> {
  for (let tries = 0; tries < 600 && !what(); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  ok(what(), says);
}

Deno.test("RelayFollower takes up after a break without counting twice, and tells of a gap where a node has forgotten", async () => {
  const directory = await Deno.makeTempDir(), path = `${directory}/relay.sock`;
  const nowMs = Date.now(), one = testHistory(systemClock), { history } = one;
  const flows = Array.from(
    { length: 6 },
    (_, n) => flowBytes({ unixMs: nowMs - 10_000 + n * 1000, uuid: `u${n}` }),
  );
  await history.load();
  const follower = new RelayFollower({
    relay: { path },
    intake: history.intake,
    clock: systemClock,
    log: Logger.silent(),
  });
  follower.start();
  const stored = async () => (await one.get("/v1/flows?last=100")).completeness;
  const memory = flows.slice(0, 3), first = await relay(path, memory);
  await until(() => history.waitingFlows === 3, "three flows");
  equal(first.asked[0], 0, "everything at first");
  await first.stop();
  await until(() => follower.away !== "", "the relay is away");
  const second = await relay(path, [...flows.slice(0, 4)]);
  await until(() => history.waitingFlows === 4, "one more, the three before not again");
  ok(second.asked[0] > nowMs - 10_000 - 60_000, "from before what is known");
  equal((await stored()).text, "4 flows, 100 %", "no gap: what was known came again");
  await second.stop();
  await until(() => follower.away !== "", "the relay is away again");
  const third = await relay(path, flows.slice(5));
  await until(() => history.waitingFlows === 5, "the last one");
  match((await stored()).text, /^5 flows, 100 %, not always heard: node-a$/);
  await follower.stop();
  await third.stop();
  await one.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test({
  name:
    "Of two histories on one PostgreSQL one writes; the other takes over when that is silent, which then begins anew",
  ignore: postgresMissing() !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    try {
      const url = await postgres.createDatabase("shared"), clock = new FakeClock(START_MS);
      const [one, two] = [
        testHistory(clock, url, { owner: "one" }),
        testHistory(clock, url, { owner: "two" }),
      ];
      equal(await one.history.load(), true);
      equal(await two.history.load(), false);
      equal((await two.get("/v1/status")).state, "standby");
      match((await two.get("/v1/flows")).detail, /one writes/);
      one.history.intake.take(blockful(START_MS));
      await one.history.flush();
      equal(await two.history.load(), false, "each write renews it");
      // Its time is the database's.
      await sql`update weir_history_state set value = ${`one ${Date.now() - CLAIM_MS}`} where name = 'writer'`
        .execute(one.history.store.database.kysely);
      equal(await two.history.load(), true);
      equal((await two.get("/v1/flows?last=1000")).flows.length, 256);
      await rejects(() => one.history.flush(), { code: "CLAIM_LOST" });
      await two.history.flush();
      await one.close();
      await two.close();
    } finally {
      await postgres.close();
    }
  },
});

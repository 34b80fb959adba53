import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { TROUBLES_PER_SECOND } from "@weir/maps";
import { nodeTest, run, type TestNode } from "../testing.ts";

/** Datagrams to a port each, from a pod. */
const flood = (netns: string, count: number, to = "203.0.113.1") =>
  run(
    "ip",
    "netns",
    "exec",
    netns,
    "python3",
    "-c",
    `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
for i in range(${count}): s.sendto(b'x',('${to}',1000+i%60000))`,
  );

async function twoPods(node: TestNode): Promise<{ noisy: string; quiet: string }> {
  const noisy = await node.pod("a"), quiet = await node.pod("b");
  await node.request("PUT", "/v1/endpoints/default%2Fnoisy", node.endpoint(10, noisy));
  await node.request("PUT", "/v1/endpoints/default%2Fquiet", node.endpoint(11, quiet));
  return { noisy, quiet };
}

interface Holder {
  holder: string;
  towards?: string;
  held?: number;
  refused?: number;
  pressing?: boolean;
}
async function holdersOf(node: TestNode, table: string): Promise<Record<string, Holder>> {
  const { tables } = await node.request("GET", "/v1/usage");
  const { holders = [] } = tables.find((t: { table: string }) => t.table === table);
  return Object.fromEntries(
    holders.map((h: Holder) => [h.towards ? `${h.holder} to ${h.towards}` : h.holder, {
      ...h,
      held: Number(h.held ?? 0),
      refused: Number(h.refused ?? 0),
    }]),
  );
}

/** Reads the event stream until `stop`; who made how many of the records, and what was said of losses. */
function reader(node: TestNode) {
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path: node.socket } });
  const opened = Promise.withResolvers<void>();
  const stop = new AbortController(), made: Record<number, number> = {}, lostBy: Record<string, number> = {};
  const done = (async () => {
    const response = await fetch("http://localhost/v1/events?watch=true", {
      client,
      signal: stop.signal,
      headers: { accept: "application/json" },
    } as RequestInit);
    opened.resolve();
    let text = "";
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      for (const batch of lines.map((line) => JSON.parse(line))) {
        for (const { holder, lost } of batch.lostBy ?? []) lostBy[holder] = Number(lost);
        const records = Uint8Array.fromBase64(batch.records ?? "");
        const view = new DataView(records.buffer);
        for (let at = 0; at < records.length; at += (4 + view.getUint32(at, true) + 7) & ~7) {
          const holder = view.getUint16(at + 60, true);
          made[holder] = (made[holder] ?? 0) + 1;
        }
      }
    }
  })().catch(() => {});
  return {
    /** When it reads. */
    open: opened.promise,
    made,
    lostBy,
    async close() {
      stop.abort();
      await done;
      client.close();
    },
  };
}

nodeTest(
  "While the datapath stands still, a noisy pod's events are refused, counted and named; a quiet one's are all there",
  async (node) => {
    await node.stop();
    await node.uninstall();
    await node.start("--event-ring-bytes", `${1 << 18}`);
    await node.configure();
    const { noisy, quiet } = await twoPods(node);
    const events = reader(node);
    await events.open;
    const before = (await holdersOf(node, "events"))["default/quiet"]?.held ?? 0;
    const startMs = performance.now();
    node.signal("SIGSTOP");
    try {
      await flood(noisy, 5000);
      await flood(quiet, 100);
    } finally {
      node.signal("SIGCONT");
    }
    let holders: Awaited<ReturnType<typeof holdersOf>> = {};
    await until("all is counted and read", async () => {
      holders = await holdersOf(node, "events");
      const { held = 0, refused = 0 } = holders["default/noisy"] ?? {};
      return held + refused >= 5000 && events.made[10] === held &&
        events.lostBy["default/noisy"] === refused &&
        holders["default/quiet"].held! - before >= 100 && events.made[11] === holders["default/quiet"].held;
    });
    // Nobody answers these flows: some of them are told of once more, after a second.
    const told = Math.ceil(1 + (performance.now() - startMs) / 1000) * TROUBLES_PER_SECOND;
    const loud = holders["default/noisy"], still = holders["default/quiet"];
    assert.ok(loud.held! > 600 && loud.refused! > 3000, `${JSON.stringify(loud)}`);
    const all = loud.held! + loud.refused!;
    assert.ok(all >= 5000 && all <= 5000 + told, `${all}: all are counted`);
    assert.equal(loud.pressing, true);
    const quietly = still.held! - before;
    assert.ok(quietly >= 100 && quietly <= 100 + told, `${quietly}`);
    assert.deepEqual([still.refused, still.pressing ?? false], [0, false]);
    assert.equal(events.made[10], loud.held, "what was made was read");
    assert.equal(events.made[11], still.held);
    assert.deepEqual(
      events.lostBy,
      { "default/noisy": loud.refused },
      "and the reader was told whose are missing",
    );
    const { degraded, lostEvents } = await node.request("GET", "/v1/status");
    assert.deepEqual(degraded.map(({ table, holder }: Holder & { table: string }) => [table, holder]), [[
      "events",
      "default/noisy",
    ]]);
    assert.equal(Number(lostEvents), loud.refused);
    const metrics = await node.exec("curl", "-s", "--unix-socket", node.socket, "http://x/metrics");
    assert.match(metrics, /weir_datapath_degraded\{kind="endpoint",name="default\/noisy",table="events"\} 1/);
    assert.match(
      metrics,
      /weir_datapath_share_refused\{kind="endpoint",name="default\/noisy",table="events"\} \d{4}/,
    );
    await node.request("DELETE", "/v1/endpoints/default%2Fnoisy");
    assert.equal((await holdersOf(node, "events"))["default/noisy"], undefined, "its number is free");
    await node.request("PUT", "/v1/endpoints/default%2Fnext", node.endpoint(10, noisy));
    const next = (await holdersOf(node, "events"))["default/next"];
    assert.equal(next?.refused ?? 0, 0, "who has it next begins anew");
    await events.close();
  },
);

nodeTest(
  "A full ipcache leaves out what one source has too much of, says so, and takes it in when there is room",
  async (node) => {
    await node.stop();
    await node.uninstall();
    await node.start("--ipcache-entries-max", "64");
    await node.configure();
    const cidr = (i: number) => ({ prefix: `100.64.${i >> 8}.${i & 255}/32`, identity: (1 << 24) + i });
    const pod = (node: number, i: number) => ({
      prefix: `10.${node}.0.${i}/32`,
      identity: 1000 + i,
      nodeIpv4: `192.0.2.${node}`,
    });
    const post = (body: unknown) => node.request("POST", "/v1/ipcache", body);
    assert.equal((await post({ upserts: Array.from({ length: 60 }, (_, i) => cidr(i)) })).errors, undefined);
    const pods = [2, 3].flatMap((n) => Array.from({ length: 10 }, (_, i) => pod(n, i)));
    const { errors, entries, left } = await post({ upserts: pods });
    assert.equal(entries, 64);
    assert.deepEqual(errors.map(({ kind }: { kind: string }) => kind), ["ipcache policies"]);
    assert.match(errors[0].error, /The ipcache is full: 16 of 60 prefixes are left out/);
    const holders = await holdersOf(node, "ipcache");
    assert.deepEqual([holders["policies"].held, holders["policies"].refused, holders["policies"].pressing], [
      44,
      16,
      true,
    ]);
    assert.deepEqual([holders["node 192.0.2.2"].held, holders["node 192.0.2.3"].held], [10, 10]);
    const { rows } = await node.request("GET", "/v1/maps/ipcache");
    const there = new Set(rows.map((row: { fields: { prefix: string } }) => row.fields.prefix));
    assert.ok(pods.every(({ prefix }) => there.has(prefix)), "every pod of the others is known");
    const cidrs = Array.from({ length: 60 }, (_, i) => cidr(i).prefix);
    assert.deepEqual(left.sort(), cidrs.filter((prefix) => !there.has(prefix)).sort(), "by name");
    // A number that changes its prefix: the old one goes first, and whether the new one has room is said.
    const moved = { ...cidr(0), prefix: "100.65.0.0/16" };
    const move = await post({ upserts: [moved], deletes: [cidr(0).prefix] });
    assert.ok(!move.left.includes(moved.prefix), "other prefixes than addresses have a map of their own");
    const back = await post({ upserts: [cidr(0), cidr(60)], deletes: [moved.prefix] });
    const after = await node.request("GET", "/v1/maps/ipcache");
    const isThere = new Set(after.rows.map((row: { fields: { prefix: string } }) => row.fields.prefix));
    for (const prefix of [...cidrs, cidr(60).prefix]) {
      assert.equal(back.left.includes(prefix), !isThere.has(prefix), `${prefix} is left out, or there`);
    }
    await post({ deletes: [cidr(60).prefix] });
    const status = await node.request("GET", "/v1/status");
    assert.match(status.errors[0].error, /ipcache is full/);
    assert.equal(status.degraded[0].holder, "policies");
    // a second source that is too large shares with the first
    const many = await post({ upserts: Array.from({ length: 200 }, (_, i) => pod(2, i)) });
    assert.equal(many.errors.length, 2);
    const both = await holdersOf(node, "ipcache");
    assert.deepEqual([both["policies"].held, both["node 192.0.2.2"].held, both["node 192.0.2.3"].held], [
      27,
      27,
      10,
    ]);
    const shrunk = await post({ deletes: Array.from({ length: 190 }, (_, i) => pod(2, i + 10).prefix) });
    assert.deepEqual(shrunk.errors.map(({ kind }: { kind: string }) => kind), ["ipcache policies"]);
    const done = await post({ deletes: Array.from({ length: 30 }, (_, i) => cidr(i).prefix) });
    assert.deepEqual([done.errors, done.left], [undefined, undefined], "there is room for all");
    assert.equal(done.entries, 50);
    assert.equal((await node.request("GET", "/v1/status")).degraded, undefined);
    // the next process finds it as it was
    await node.stop();
    await node.start("--ipcache-entries-max", "64");
    assert.equal((await post({ upserts: [cidr(59)] })).entries, 50);
  },
);

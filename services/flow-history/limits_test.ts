import { deepEqual, equal, ok } from "node:assert/strict";
import { Endpoint, Flow } from "@weir/proto/flow";
import { Connection } from "@weir/proto/history";
import { ANY_TERM, BLOCK_TERMS_MAX, BlockBuilder, BUCKET_MS, OPEN_BLOCKS_MAX, unpackItems } from "./block.ts";
import { ConnectionTable, OPEN_CONNECTIONS_MAX } from "./connection_table.ts";
import { Counts, COUNTS_WAITING_MAX } from "./counts.ts";
import { ENDS_LENGTH_MAX, ENDS_MAX, EndTable, OTHER_END } from "./end_table.ts";
import { formatItems, hasItem, intersect, isEmpty, itemSetOf, parseItems, unite } from "./item_set.ts";
import { ROLLUP_ROWS_MAX, RollupTable, sumRows } from "./rollup_table.ts";
import { Sampler, unitHash } from "./sampler.ts";

const FLOW = Flow.create({
  IP: { source: "10.0.0.1", destination: "10.0.0.2" },
  verdict: "FORWARDED",
  node_name: "n",
});
const AT = { unixMs: 1_000_000, nowMs: 0, source: 1, destination: 2 };
const transport = (sourcePort: number, destinationPort = 80) => ({
  protocol: "TCP",
  sourcePort,
  destinationPort,
});

Deno.test("EndTable has a named maximum of ends and of what they say, and then one end for all others", () => {
  const many = new EndTable();
  for (let n = 0; n < ENDS_MAX; n++) many.idOf(Endpoint.create({ pod_name: `p${n}` }), 0);
  equal(many.idOf(Endpoint.create({ pod_name: "one more" }), 0), OTHER_END);
  ok(many.idOf(Endpoint.create({ pod_name: "p7" }), 0) !== OTHER_END, "who is known stays known");
  deepEqual([many.size, many.refused], [ENDS_MAX, 1]);

  const long = new EndTable(), labels = ["x".repeat(1 << 20)];
  let taken = 0;
  while (long.idOf(Endpoint.create({ pod_name: `p${taken}`, labels }), 0) !== OTHER_END) taken++;
  ok(taken > 0 && taken <= ENDS_LENGTH_MAX >> 20);
  equal(long.forgetBefore(1e12).length, taken);
  ok(long.idOf(Endpoint.create({ labels }), 0) !== OTHER_END, "there is room again");
});

Deno.test("ConnectionTable keeps a closed connection until its traffic is told, by the node where it begins", () => {
  const table = new ConnectionTable();
  const transport = { protocol: "TCP", sourcePort: 40_000, destinationPort: 80 };
  const l4 = (flags: Record<string, boolean>) => ({
    TCP: { source_port: 40_000, destination_port: 80, flags },
  });
  const IP = { source: "10.0.0.1", destination: "10.0.0.2" };
  const add = (nowMs: number, flags: Record<string, boolean>, isReply: boolean) => {
    const [ip, place] = isReply
      ? [{ source: IP.destination, destination: IP.source }, {
        ...transport,
        sourcePort: 80,
        destinationPort: 40_000,
      }]
      : [IP, transport];
    const flow = Flow.create({ IP: ip, l4: l4(flags), is_reply: { value: isReply }, verdict: "FORWARDED" });
    table.add(flow, { transport: place, unixMs: nowMs, nowMs, source: 1, destination: 2 });
  };
  const carried = (unixMs: number, traffic: Partial<NonNullable<Flow["traffic"]>>) =>
    table.carried(Flow.create({ IP, l4: l4({}), traffic }), { transport, unixMs, nowMs: unixMs });
  add(0, { SYN: true }, false);
  carried(1000, { packets: 3, bytes: 200, reply_packets: 2, reply_bytes: 100, at_source: true });
  carried(1100, { packets: 2, bytes: 100, over: true });
  carried(900, { packets: 1, bytes: 50, at_source: true });
  add(2000, { FIN: true }, false);
  add(2000, { FIN: true }, true);
  deepEqual(table.takeEnded(10_000), [], "its last count has not come");
  carried(10_500, {
    packets: 9,
    bytes: 900,
    reply_packets: 8,
    reply_bytes: 800,
    over: true,
    at_source: true,
  });
  deepEqual(table.takeEnded(12_000), []);
  const [{ connection }] = table.takeEnded(14_000);
  const { state, trafficKnown, packets, bytes, replyPackets, replyBytes, flows } = connection;
  deepEqual([state, trafficKnown, packets, bytes, replyPackets, replyBytes, flows], [
    "CLOSED",
    true,
    9,
    900,
    8,
    800,
    2,
  ]);
  add(20_000, { RST: true }, false);
  equal(table.takeEnded(30_000).length, 0);
  equal(table.takeEnded(36_000).length, 1, "a count that never comes is waited for a while only");
});

Deno.test("ConnectionTable ends the connection that was silent longest where there are too many", () => {
  const table = new ConnectionTable();
  for (let n = 0; n < OPEN_CONNECTIONS_MAX + 3; n++) {
    table.add(FLOW, { ...AT, transport: transport(n % 65_536, 1 + Math.floor(n / 65_536)), nowMs: n });
    // Heard again: it is not the oldest any more.
    if (n === 10) table.add(FLOW, { ...AT, transport: transport(0, 1), nowMs: n });
  }
  equal(table.size, OPEN_CONNECTIONS_MAX);
  equal(table.evicted, 3);
  const ended = table.takeEnded(0).map(({ connection }) => connection.sourcePort);
  deepEqual(ended, [1, 2, 3]);
  const restored = new ConnectionTable();
  const many = Array.from(
    { length: OPEN_CONNECTIONS_MAX + 9 },
    (_, n) => Connection.create({ sourcePort: n }),
  );
  restored.restore(many, 0, () => 1);
  equal(restored.size, OPEN_CONNECTIONS_MAX);
});

Deno.test("RollupTable folds what a minute has no room for, and loses no flow of the sum", () => {
  const table = new RollupTable(), place = { isReply: false, isNew: true, isDenial: false };
  const count = ROLLUP_ROWS_MAX + 50;
  for (let n = 0; n < count; n++) table.add(FLOW, place, { ...AT, transport: transport(1, n) });
  const [{ rows }] = table.takeClosed(Infinity);
  ok(rows.length <= ROLLUP_ROWS_MAX + 10);
  equal(table.folded, 50);
  equal(rows.reduce((sum, { flows }) => sum + flows, 0), count);
  const summed = sumRows([rows, rows], 100);
  ok(summed.length <= 110);
  equal(summed.reduce((sum, { flows }) => sum + flows, 0), 2 * count);
});

Deno.test("BlockBuilder keeps few blocks open, each of one bucket, and one with too many words answers every question", () => {
  let id = 0;
  const builder = new BlockBuilder("f", () => id++), bytes = new Uint8Array(1);
  const closed = Array.from(
    { length: 3 * OPEN_BLOCKS_MAX },
    (_, n) => builder.add({ bytes, unixMs: n * BUCKET_MS, node: "n" }, ["a"], 0),
  ).filter((block) => block !== undefined);
  equal(closed.length, 2 * OPEN_BLOCKS_MAX);
  equal(builder.count, OPEN_BLOCKS_MAX);
  equal(unpackItems(closed[0].body).length, 1);
  const words = Array.from({ length: BLOCK_TERMS_MAX + 1 }, (_, n) => `t${n}`);
  const wide = new BlockBuilder("f", () => id++);
  wide.add({ bytes, unixMs: 2, node: "n" }, words, 0);
  wide.add({ bytes, unixMs: 1, node: "n" }, [], 0);
  deepEqual([...wide.takeOld(Infinity)[0].terms], [[ANY_TERM, [0, 1]]]);
});

Deno.test("Counts that cannot be written stay within their maximum, and lose nothing of the sum", () => {
  const counts = new Counts(), count = COUNTS_WAITING_MAX + 100;
  for (let n = 0; n < count; n++) {
    counts.sampledOut(`n${n}`, n * 600_000);
    counts.lost(`n ${n}`, "HISTORY", (n % 3) * 60_000, 2);
  }
  const { minutes, losses } = counts.peek();
  ok(minutes.size <= COUNTS_WAITING_MAX && losses.size <= COUNTS_WAITING_MAX);
  equal([...minutes.values()].reduce((sum, { seen }) => sum + seen, 0), count);
  equal([...losses.values()].reduce((sum, lost) => sum + lost, 0), 2 * count);
  ok([...losses.keys()].every((key) => /^\d+ HISTORY /.test(key)));
});

Deno.test("Sampler keeps about as many as it may, whole connections, and has room for drops", () => {
  const sampler = new Sampler(100);
  let kept = 0, drops = 0, split = 0;
  for (let second = 0; second < 20; second++) {
    for (let n = 0; n < 2000; n++) {
      const [one, again] = [0, 1].map((ms) => sampler.keeps(`c${second}/${n}`, false, second * 1000 + ms));
      if (second > 1 && one !== again) split++;
      kept += Number(one) + Number(again);
      if (n % 40 === 0) drops += Number(sampler.keeps(`d${second}/${n}`, true, second * 1000));
    }
  }
  ok(kept / 20 > 20 && kept / 20 <= 100, `${kept / 20} a second`);
  ok(drops / 20 > 40, `${drops / 20} of 50 drops`);
  ok(split < 40, `${split} connections were kept in part`);
  const hashes = Array.from({ length: 10_000 }, (_, n) => unitHash(`TCP|10.0.0.1|${n}|10.0.0.2|80`));
  const below = hashes.filter((hash) => hash < 0.25).length;
  ok(below > 2200 && below < 2800, `${below} of 10,000 below a quarter`);
});

Deno.test("item sets say the same as text, listed and as bits", () => {
  for (
    const items of [
      [],
      [0],
      [255],
      [3, 77, 254],
      Array.from({ length: 24 }, (_, n) => n * 2),
      Array.from({ length: 256 }, (_, n) => n),
    ]
  ) {
    const set = parseItems(formatItems(items));
    deepEqual(Array.from({ length: 256 }, (_, n) => n).filter((n) => hasItem(set, n)), items);
  }
  ok(isEmpty(intersect(itemSetOf([1]), itemSetOf([2]))));
  deepEqual(unite(itemSetOf([1]), itemSetOf([200])), itemSetOf([1, 200]));
  ok(hasItem(parseItems("no text of ours"), 9), "damaged: the filter decides");
});

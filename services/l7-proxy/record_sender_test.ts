import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer, MetricsRegistry, ProblemError } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Handle, L7RecordBatch } from "@weir/proto/l7";
import { HandlePrefixes } from "./handle_address.ts";
import { HandleSource } from "./handle_source.ts";
import { BATCH_RECORDS_MAX } from "./record_batch.ts";
import { RecordSender } from "./record_sender.ts";

function exporterOf(take: (batch: L7RecordBatch) => void): WeirClient {
  const api = new ApiServer({ name: "flow-exporter" });
  api.action({
    path: "/v1/l7records:add",
    request: L7RecordBatch,
    response: L7RecordBatch,
    handle: (batch) => {
      take(batch);
      return L7RecordBatch.create({});
    },
  });
  return new WeirClient({ handler: api.fetch });
}

Deno.test("RecordSender sends batches, and counts what it has no room for or what nobody took", async () => {
  const batches: L7RecordBatch[] = [];
  let isAway = false;
  const exporter = exporterOf((batch) => {
    if (isAway) throw new Error("away");
    batches.push(batch);
  });
  const metrics = new MetricsRegistry(), clock = new FakeClock();
  const sender = new RecordSender({ exporter, metrics, clock, recordsMax: 600 });
  for (let record = 0; record < 650; record++) sender.send({ cookie: record, type: "REQUEST" });
  assert.equal(sender.lost, 50);
  await sender.flush();
  assert.deepEqual(batches.map(({ records, lost }) => [records.length, lost]), [[BATCH_RECORDS_MAX, 50], [
    88,
    50,
  ]]);
  isAway = true;
  sender.send({ cookie: 1 });
  await sender.flush();
  assert.equal(sender.lost, 51);
  isAway = false;
  sender.send({ cookie: 2 });
  await sender.flush();
  assert.deepEqual([batches.at(-1)!.records[0].cookie, batches.at(-1)!.lost], [2, 51]);
  assert.match(metrics.render(), /weir_l7_records_lost_total(\{\})? 51/);
});

Deno.test("RecordSender bounds the bytes of what waits and of a batch, for a client chooses how long its headers are", async () => {
  const batches: L7RecordBatch[] = [];
  const sender = new RecordSender({
    exporter: exporterOf((batch) => batches.push(batch)),
    metrics: new MetricsRegistry(),
    clock: new FakeClock(),
    recordBytesMax: 9_000_000,
  });
  const long = { type: "REQUEST" as const, http: { headers: [{ key: "x".repeat(60_000), value: "y" }] } };
  for (let record = 0; record < 200; record++) sender.send(long);
  await sender.flush();
  const taken = batches.reduce((sum, { records }) => sum + records.length, 0);
  assert.equal(taken, 149);
  assert.equal(sender.lost, 51);
  assert.deepEqual(batches.map(({ records }) => records.length), [...Array(8).fill(17), 13]);
  sender.send({ http: { url: "z".repeat(2_000_000) } });
  sender.send({ cookie: 7 });
  await sender.flush();
  assert.deepEqual(batches.slice(-2).map(({ records }) => records.length), [1, 1]);
});

Deno.test("HandleSource asks again while the datapath is away, and knows whose handle nobody has", async () => {
  const api = new ApiServer({ name: "datapath" });
  let fails = 2;
  api.collection({
    name: "handles",
    message: Handle,
    list: () => [],
    get: (name) => {
      if (fails-- > 0) throw new ProblemError("BUSY", { status: 503, detail: "Cannot answer yet" });
      return name === "7" ? Handle.create({ number: 7 }) : undefined;
    },
  });
  const clock = new FakeClock(), metrics = new MetricsRegistry();
  const source = new HandleSource({ datapath: new WeirClient({ handler: api.fetch }), clock, metrics });
  const asked = source.get(7);
  for (let step = 0; step < 20; step++) {
    await clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.equal((await asked)?.number, 7);
  assert.equal(await source.get(8), undefined);
  assert.match(metrics.render(), /weir_l7_handle_retries_total(\{\})? 2/);
});

Deno.test("HandlePrefixes.numberOf() reads the number of a handle's address, and of no other", () => {
  const prefixes = new HandlePrefixes(["240.0.0.0/8", "fd57:4c37::/64"]);
  for (
    const [address, expected] of [
      ["240.1.2.3", 0x010203],
      ["::ffff:240.1.2.3", 0x010203],
      ["fd57:4c37::1:203", 0x010203],
      ["240.0.0.0", undefined],
      ["10.1.2.3", undefined],
      ["fd57:4c37:0:1::5", undefined],
      ["not an address", undefined],
    ] as const
  ) assert.equal(prefixes.numberOf(address), expected, address);
  assert.equal(new HandlePrefixes(["10.200.0.0/16", ""]).numberOf("10.200.2.3"), 0x0203);
});

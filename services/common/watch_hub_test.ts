import assert from "node:assert/strict";
import type { Message } from "@weir/proto";
import { Node } from "@weir/proto/identity";
import { readFrames } from "./framing.ts";
import { FakeClock } from "./testing/fake_clock.ts";
import { WatchEvent } from "@weir/proto/common";
import { WatchedTable, type WatchedTableOptions } from "./watched_table.ts";
import { WatchHub } from "./watch_hub.ts";

function makeHub(options: Partial<WatchedTableOptions> = {}) {
  const clock = new FakeClock();
  const table = new WatchedTable<Node>({ name: "nodes", revision: 100, ...options });
  let encoded = 0;
  const message: Message<Node> = {
    ...Node,
    encode: (value) => {
      encoded++;
      return Node.encode(value);
    },
  };
  const hub = new WatchHub({ table, message, clock, indexes: { cluster: (node) => node.cluster } });
  const put = (name: string, cluster = "", ipv4 = "") =>
    table.put(name, Node.create({ name, cluster, ipv4 }));
  return { clock, table, hub, put, encoded: () => encoded };
}

/** Reads a stream of a hub; `take(n)` waits for the next n events. */
class Reader {
  readonly #frames: AsyncGenerator<Uint8Array>;
  constructor(stream: ReadableStream<Uint8Array>) {
    this.#frames = readFrames(stream, "protobuf");
  }

  async take(count: number): Promise<string[]> {
    const texts: string[] = [];
    while (texts.length < count) {
      const { done, value } = await this.#frames.next();
      if (done) break;
      const { type, name } = WatchEvent.decode(value);
      texts.push(type === "SYNCED" ? type : `${type} ${name}`);
    }
    return texts;
  }

  /** Reads on in the background, so that the stream is pulled. */
  drain(into: string[]): void {
    void (async () => {
      while (true) into.push(...await this.take(1));
    })().catch((error) => into.push(`LOST ${error.code}`));
  }

  async close(): Promise<void> {
    await this.#frames.return(undefined);
  }
}

const turns = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("WatchHub encodes an object once for all watchers, in their first list and in their changes", async () => {
  const { hub, put, encoded } = makeHub();
  for (let n = 0; n < 300; n++) put(`n${n}`);
  const seen = Array.from({ length: 50 }, () => [] as string[]);
  for (const into of seen) new Reader(hub.open({ encoding: "protobuf" })).drain(into);
  await turns();
  assert.deepEqual(seen.map((events) => events.length), seen.map(() => 301));
  assert.equal(encoded(), 300);
  put("new");
  for (let n = 0; n < 20; n++) put(`burst-${n}`);
  await turns();
  assert.deepEqual(seen.map((events) => events.length), seen.map(() => 322));
  assert.equal(encoded(), 321);
});

Deno.test("WatchHub wakes those whom a change concerns", async () => {
  const { hub, put } = makeHub();
  put("a", "x");
  const watchers = {
    all: hub.open({ encoding: "protobuf" }),
    x: hub.open({
      interest: { keys: { index: "cluster", keys: ["x"] }, filter: (node) => node.cluster === "x" },
      encoding: "protobuf",
    }),
    b: hub.openNames({ names: ["b"], newNames: [], encoding: "protobuf" }),
    none: hub.openNames({ names: [], newNames: [], encoding: "protobuf" }),
  };
  const seen: Record<string, string[]> = {};
  for (const [name, stream] of Object.entries(watchers)) new Reader(stream).drain(seen[name] = []);
  await turns();
  put("b", "y");
  put("a", "y");
  put("c", "x");
  await turns();
  assert.deepEqual(seen, {
    all: ["PUT a", "SYNCED", "PUT b", "PUT a", "PUT c"],
    x: ["PUT a", "SYNCED", "DELETED a", "PUT c"],
    b: ["SYNCED", "PUT b"],
    none: ["SYNCED"],
  });
});

Deno.test("a watcher in step keeps its place while others' changes fill the history", async () => {
  const { hub, table, put } = makeHub({ historyMax: 4, historyBurstMax: 4 });
  const reader = new Reader(hub.openNames({ names: ["mine"], newNames: [], encoding: "protobuf" }));
  assert.deepEqual(await reader.take(1), ["SYNCED"]);
  const next = reader.take(2);
  for (let n = 0; n < 100; n++) {
    put(`other-${n}`);
    await turns();
  }
  assert.ok(table.oldestRevision > 101);
  put("mine");
  table.announce();
  assert.deepEqual(await next, ["PUT mine", "SYNCED"]);
  await reader.close();
});

Deno.test("one change over ten thousand objects cuts no stream, and its history is let go afterwards", async () => {
  const { hub, table, put } = makeHub({ historyMax: 64 });
  const seen = Array.from({ length: 10 }, () => [] as string[]);
  for (const into of seen) new Reader(hub.open({ encoding: "protobuf" })).drain(into);
  await turns();
  const { revision } = table;
  for (let n = 0; n < 10_000; n++) put(`n${n}`);
  for (let n = 0; n < 500 && seen.some((events) => events.length < 10_001); n++) await turns();
  const expected = ["SYNCED", ...Array.from({ length: 10_000 }, (_, n) => `PUT n${n}`)];
  for (const events of seen) assert.deepEqual(events, expected);
  assert.ok(table.countSince(revision) <= 64, `${table.countSince(revision)} changes are held`);
});

Deno.test("a reader that takes nothing is cut with STREAM_STALLED, and one that falls behind with REVISION_GONE", async () => {
  const { hub, clock, put } = makeHub({ historyMax: 4, historyBurstMax: 8 });
  const errors: string[] = [];
  const onEnd = (error: unknown) => errors.push(String((error as { code?: string })?.code));
  const living: string[] = [];
  new Reader(hub.open({ encoding: "protobuf" })).drain(living);
  hub.open({ encoding: "protobuf", onEnd });
  const lagging = new Reader(hub.open({ encoding: "protobuf", onEnd }));
  assert.deepEqual(await lagging.take(1), ["SYNCED"]);
  for (let n = 0; n < 20; n++) {
    put(`n${n}`);
    await turns();
  }
  await assert.rejects(lagging.take(30), { code: "REVISION_GONE" });
  for (let s = 0; s < 40; s++) {
    await clock.advance(1000);
    await turns();
  }
  assert.deepEqual(errors, ["REVISION_GONE", "STREAM_STALLED"]);
  assert.equal(hub.size, 1, "who reads stays");
  const beats = living.filter((text) => text === "SYNCED").length;
  assert.ok(beats >= 4 && beats <= 5, `${beats} heartbeats in 40 s`);
});

Deno.test("after a reset a watcher goes on where the new history has its place, and is cut where it has not", async () => {
  const { hub, table, put } = makeHub();
  put("a");
  const kept: string[] = [], { epoch } = table;
  new Reader(hub.open({ encoding: "protobuf" })).drain(kept);
  await turns();
  // Read anew from a log that reaches back to where the watcher is.
  const a = table.putOf("a")!;
  const b = { type: "PUT" as const, revision: 102, name: "b", value: Node.create({ name: "b" }) };
  table.reset([a, b], 102, { history: [a, b], oldest: 100 });
  await turns();
  assert.deepEqual(kept, ["PUT a", "SYNCED", "PUT b"]);
  assert.equal(table.epoch, epoch);
  table.reset([], 50);
  await turns();
  assert.equal(kept.at(-1), "LOST REVISION_GONE");
});

Deno.test("after a flush of many streams changes are gathered, and SYNCED never comes before them", async () => {
  const { hub, put, table, clock } = makeHub();
  const seen = Array.from({ length: 1000 }, () => [] as string[]);
  for (const into of seen) new Reader(hub.open({ encoding: "protobuf" })).drain(into);
  await turns();
  put("at-once");
  await turns();
  const all = (events: string[]) => assert.deepEqual(seen, seen.map(() => events));
  all(["SYNCED", "PUT at-once"]);
  put("a");
  await turns();
  put("b");
  await turns();
  all(["SYNCED", "PUT at-once"]);
  // Who begins meanwhile has both, and gets neither again.
  const late: string[] = [];
  new Reader(hub.open({ encoding: "protobuf", position: { revision: table.revision - 1 } })).drain(late);
  await turns();
  assert.deepEqual(late, ["PUT b", "SYNCED"]);
  table.announce();
  await clock.advance(30);
  await turns();
  all(["SYNCED", "PUT at-once", "PUT a", "PUT b", "SYNCED"]);
  assert.deepEqual(late, ["PUT b", "SYNCED", "SYNCED"]);
  put("c");
  await clock.advance(300);
  put("d");
  await turns();
  await clock.advance(300);
  await turns();
  all(["SYNCED", "PUT at-once", "PUT a", "PUT b", "SYNCED", "PUT c", "PUT d"]);
  assert.deepEqual(late, ["PUT b", "SYNCED", "SYNCED", "PUT c", "PUT d"]);
});

Deno.test("a slow reader that SYNCED waits for has what is gathered first", async () => {
  const { hub, put, table } = makeHub();
  for (let n = 0; n < 1000; n++) new Reader(hub.open({ encoding: "protobuf" })).drain([]);
  const slow = new Reader(hub.open({ encoding: "protobuf" }));
  assert.deepEqual(await slow.take(1), ["SYNCED"]);
  await turns();
  table.announce();
  await turns();
  put("a");
  await turns();
  assert.deepEqual(await slow.take(2), ["PUT a", "SYNCED"]);
  await slow.close();
});

Deno.test("a reset while changes are gathered loses none and says none twice", async () => {
  const { hub, put, table, clock } = makeHub();
  const seen = Array.from({ length: 1000 }, () => [] as string[]);
  for (const into of seen) new Reader(hub.open({ encoding: "protobuf" })).drain(into);
  await turns();
  put("a");
  await turns();
  put("b");
  const [a, b] = ["a", "b"].map((name) => table.putOf(name)!);
  table.reset([a, b], table.revision, { history: [a, b], oldest: a.revision - 1 });
  await clock.advance(30);
  await turns();
  assert.deepEqual(seen, seen.map(() => ["SYNCED", "PUT a", "PUT b"]));
});

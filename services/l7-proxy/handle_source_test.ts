import assert from "node:assert/strict";
import type { WeirClient } from "@weir/client";
import { MetricsRegistry } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import { Handle, HandleBatch } from "@weir/proto/l7";
import { HandleSource, TOLD_MAX } from "./handle_source.ts";

const CLIENT = { address: "10.0.0.1", port: 4711 };
const handleOf = (number: number, serverPort = 80) =>
  Handle.create({ number, clientAddress: CLIENT.address, clientPort: CLIENT.port, serverPort });

/** A datapath that tells what a test says, and answers questions with server port 9999. */
class FakeDatapath {
  asked: string[] = [];
  streams = 0;
  #queue: (HandleBatch | Error)[] = [];
  #wake = () => {};

  say(...batches: (HandleBatch | Error)[]): void {
    this.#queue.push(...batches);
    this.#wake();
  }

  get client(): Pick<WeirClient, "collection" | "stream"> {
    return {
      collection: () => ({
        get: (name: string) => {
          this.asked.push(name);
          return Promise.resolve(handleOf(Number(name), 9999));
        },
      }),
      stream: (_path: string, _message: unknown, { signal }: { signal: AbortSignal }) => this.#stream(signal),
    } as never;
  }

  async *#stream(signal: AbortSignal): AsyncGenerator<HandleBatch> {
    this.streams++;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const next = this.#queue.shift();
      if (next instanceof Error) throw next;
      if (next !== undefined) yield next;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
}

async function withSource(
  use: (
    parts: {
      source: HandleSource;
      datapath: FakeDatapath;
      clock: FakeClock;
      batch: typeof HandleBatch.create;
    },
  ) => Promise<void>,
): Promise<void> {
  const datapath = new FakeDatapath(), clock = new FakeClock(), stop = new AbortController();
  const source = new HandleSource({ datapath: datapath.client, clock, metrics: new MetricsRegistry() });
  const following = source.follow(stop.signal);
  const batch: typeof HandleBatch.create = (value) =>
    HandleBatch.create({ timeUnixS: clock.nowMs() / 1000, ...value });
  datapath.say(batch({}));
  await until("the stream is there", () => source.isTold, 1);
  await use({ source, datapath, clock, batch });
  stop.abort();
  await following;
}

const settled = () => new Promise<void>((resolve) => setTimeout(resolve));

Deno.test("HandleSource.get() takes what was told once, and asks for the rest", () =>
  withSource(async ({ source, datapath, clock, batch }) => {
    datapath.say(batch({ items: [handleOf(7), handleOf(8)] }));
    await settled();
    assert.equal((await source.get(7, CLIENT))?.serverPort, 80);
    assert.equal((await source.get(8))?.serverPort, 80);
    assert.deepEqual(datapath.asked, []);
    // Again: a number that was used up may be another connection's now.
    const again = source.get(7, CLIENT);
    await clock.advance(100);
    assert.equal((await again)?.serverPort, 9999);
    assert.deepEqual(datapath.asked, ["7"]);
  }));

Deno.test("HandleSource.get() waits a moment for what is about to be told", () =>
  withSource(async ({ source, datapath, batch }) => {
    const waiting = [source.get(7, CLIENT), source.get(9, CLIENT)];
    await settled();
    datapath.say(batch({ items: [handleOf(9), handleOf(7)] }));
    assert.deepEqual((await Promise.all(waiting)).map((handle) => handle?.number), [7, 9]);
    assert.deepEqual(datapath.asked, []);
  }));

Deno.test("HandleSource.get() believes nothing that was told of another client, too long ago, or before the clock was set", () =>
  withSource(async ({ source, datapath, clock, batch }) => {
    datapath.say(batch({ items: [handleOf(1), handleOf(2), handleOf(3)] }));
    await settled();
    const ask = async (number: number, peer = CLIENT) => {
      const answer = source.get(number, peer);
      await clock.advance(30);
      return (await answer)?.serverPort;
    };
    assert.equal(await ask(1, { ...CLIENT, port: 4712 }), 9999);
    assert.equal(await ask(2, { ...CLIENT, address: "10.0.0.9" }), 9999);
    await clock.advance(2001);
    assert.equal(await ask(3), 9999);
    datapath.say(batch({ items: [handleOf(4)] }));
    await settled();
    clock.jump(-3600_000);
    assert.equal(await ask(4), 9999);
    // The newest word on a number is what counts.
    datapath.say(batch({ items: [handleOf(5, 1)] }), batch({ items: [handleOf(5, 2)] }));
    await settled();
    assert.equal(await ask(5), 2);
  }));

Deno.test("HandleSource asks at once while the datapath does not tell, and listens again", () =>
  withSource(async ({ source, datapath, clock, batch }) => {
    datapath.say(new Error("cut"));
    await until("the stream is gone", () => !source.isTold, 1);
    assert.equal((await source.get(7, CLIENT))?.serverPort, 9999); // the clock stands still: nothing was waited for
    datapath.say(batch({ items: [handleOf(7)] }));
    await clock.advance(1000);
    await until("it listens again", () => source.isTold, 1);
    assert.equal(datapath.streams, 2);
    assert.equal((await source.get(7, CLIENT))?.serverPort, 80);
  }));

Deno.test("HandleSource keeps a bounded number of handles whose connections never come", () =>
  withSource(async ({ source, datapath, clock, batch }) => {
    const items = Array.from({ length: TOLD_MAX + 10 }, (_, at) => handleOf(at + 1));
    datapath.say(batch({ items }));
    await settled();
    const oldest = source.get(1, CLIENT);
    await clock.advance(30);
    assert.equal((await oldest)?.serverPort, 9999);
    assert.equal((await source.get(11, CLIENT))?.serverPort, 80);
    await clock.advance(2001);
    datapath.say(batch({ items: [handleOf(TOLD_MAX + 20)] }));
    await settled();
    const late = source.get(TOLD_MAX, CLIENT);
    await clock.advance(30);
    assert.equal((await late)?.serverPort, 9999, "what is old goes with the next batch");
  }));

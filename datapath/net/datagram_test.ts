import assert from "node:assert/strict";
import { type Datagram, DatagramSocket } from "./datagram.ts";
import { NetError } from "./errors.ts";

const V4 = Uint8Array.of(127, 0, 0, 1), V6 = Uint8Array.from({ length: 16 }, (_, i) => i === 15 ? 1 : 0);
/** Below those that the kernel gives out. */
const PORT = 20_000 + Deno.pid % 10_000;

async function next<T>(ask: () => T | undefined): Promise<T> {
  for (let tries = 0; tries < 6000; tries++) {
    const found = ask();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("Nothing came");
}

for (const [family, address] of [[4, V4], [6, V6]] as const) {
  Deno.test(`IPv${family}: a datagram comes with both addresses, its port and how long it waited`, async () => {
    using a = new DatagramSocket(family, PORT);
    using b = new DatagramSocket(family, PORT + 1);
    assert.equal(a.receive(), undefined);
    const sent = Uint8Array.from({ length: 1400 }, (_, i) => i & 255);
    assert.equal(a.send(sent, { address, port: PORT + 1, source: address }), 0);
    const { bytes, ...rest }: Datagram = await next(() => b.receive());
    assert.deepEqual([...bytes], [...sent]);
    assert.deepEqual([...rest.source], [...address]);
    assert.deepEqual([...rest.destination], [...address]);
    assert.equal(rest.sourcePort, PORT);
    assert.equal(rest.truncated, false);
    assert.ok(rest.waitedMs !== undefined && rest.waitedMs >= 0);
  });

  Deno.test(`IPv${family}: where nobody listens the error says so, and the next datagram is sent`, async () => {
    using a = new DatagramSocket(family, PORT);
    assert.equal(a.send(Uint8Array.of(1, 2, 3), { address, port: PORT + 1, source: address }), 0);
    const error = await next(() => a.receiveError());
    assert.equal(error.errno, 111);
    assert.deepEqual([...error.bytes], [1, 2, 3]);
    assert.deepEqual([...error.destination], [...address]);
    assert.equal(a.receive(), undefined);
    using b = new DatagramSocket(family, PORT + 1);
    assert.equal(a.send(Uint8Array.of(4), { address, port: PORT + 1, source: address }), 0);
    assert.deepEqual([...(await next(() => b.receive())).bytes], [4]);
  });
}

Deno.test("A datagram larger than the device is refused, never cut in pieces", () => {
  using a = new DatagramSocket(4, PORT);
  assert.equal(a.send(new Uint8Array(65_520), { address: V4, port: PORT, source: V4 }), 90);
});

Deno.test("An address that is not this host's is no source", () => {
  using a = new DatagramSocket(4, PORT);
  const source = Uint8Array.of(192, 0, 2, 77);
  assert.notEqual(a.send(Uint8Array.of(1), { address: V4, port: PORT, source }), 0);
});

Deno.test("A port that is taken is said", () => {
  using _ = new DatagramSocket(4, PORT);
  assert.throws(
    () => new DatagramSocket(4, PORT),
    (error: unknown) => error instanceof NetError && error.code === "exists",
  );
});

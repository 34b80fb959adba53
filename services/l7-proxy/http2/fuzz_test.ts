import assert from "node:assert/strict";
import { FLAG, FRAME } from "./frame.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { cut, Dice, spoilt } from "./spoilt_frames.ts";
import { Conversation, frame, type Pair, settings, type TestPeer, uint32 } from "./testing.ts";

const SEED = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 9113), RUNS = 100;
const OK: readonly Pair[] = [[":status", "200"], ["content-type", "application/grpc"]];

/** Traffic that is legal as a whole. */
function ofClient(peer: TestPeer, dice: Dice): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let id = 1; id < 20; id += 2) {
    const isPrivate = dice.below(3) === 0, hasBody = dice.below(2) === 0;
    const more: Pair[] = dice.below(2) === 0 ? [["content-type", "application/grpc"]] : [];
    if (hasBody && dice.below(3) === 0) more.push(["content-length", "300"]);
    frames.push(peer.request(id, isPrivate ? "/private/a" : `/public/${dice.below(5)}`, !hasBody, ...more));
    if (hasBody) frames.push(peer.data(id, dice.bytes(100)), peer.data(id, dice.bytes(200), true));
    if (dice.below(4) === 0) frames.push(frame(FRAME.PING, 0, 0, dice.bytes(8)));
    if (dice.below(4) === 0) {
      frames.push(frame(FRAME.WINDOW_UPDATE, 0, dice.below(2) * id, uint32(1 + dice.below(2 ** 16))));
    }
    if (dice.below(6) === 0) frames.push(frame(FRAME.RST_STREAM, 0, id, uint32(8)));
    if (dice.below(6) === 0) frames.push(settings([4, dice.below(100_000)]));
    if (dice.below(8) === 0) frames.push(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  }
  return frames;
}

function ofServer(peer: TestPeer, dice: Dice): Uint8Array[] {
  const frames = [settings([4, dice.below(2) === 0 ? dice.below(1000) : 1_000_000])];
  for (let id = 1; id < 20; id += 2) {
    frames.push(peer.headers(id, OK, false), peer.data(id, dice.bytes(dice.below(3000))));
    if (dice.below(2) === 0) frames.push(peer.headers(id, [["grpc-status", `${dice.below(16)}`]]));
    if (dice.below(5) === 0) frames.push(frame(FRAME.RST_STREAM, 0, id, uint32(dice.below(9))));
    if (dice.below(5) === 0) {
      frames.push(frame(FRAME.WINDOW_UPDATE, 0, dice.below(2) * id, uint32(1 + dice.below(9999))));
    }
  }
  return frames;
}

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setTimeout(resolve));
};

Deno.test("Http2Connection.run() ends, lets nothing denied through and makes little of much, whatever both sides send", async () => {
  const ends = new Set<string>();
  for (let run = 0; run < RUNS; run++) {
    const what = `run ${run} of WEIR_FUZZ_SEED=${SEED}`, dice = new Dice(SEED * 1000 + run);
    const talk = new Conversation(), { client, server, host } = talk;
    const asked = cut(spoilt(ofClient(client, dice), dice), dice);
    const answered = cut(spoilt(ofServer(server, dice), dice), dice);
    client.send(...asked);
    await turns(3);
    server.send(...answered);
    await turns(3);
    client.send(null);
    server.send(null);
    ends.add(await talk.ended);
    const bytes = (pieces: readonly Uint8Array[]) => pieces.reduce((sum, { length }) => sum + length, 0);
    const sent = bytes(asked) + bytes(answered);
    const written = bytes(client.socket.written) + bytes(host.server.written);
    assert.ok(written < 4 * sent + 20_000, `${what}: ${written} bytes made of ${sent}`);
    assert.ok(host.judged.length <= HTTP2_LIMITS.streamCount, what);
    // What the server was told can be read, by another's decoder too, and has no request that was not allowed.
    const heads = server.frames.filter(({ type, fields }) =>
      type === FRAME.HEADERS && fields.some(([name]) => name === ":path")
    );
    assert.equal(
      heads.length <= host.judged.filter(({ target }) => !target.path.startsWith("/private")).length,
      true,
      what,
    );
    for (const { fields } of heads) assert.match(new Map(fields).get(":path")!, /^\/(?!private)/, what);
    assert.equal(client.socket.closed, true, what);
    assert.equal(host.connects === 0 || host.server.closed, true, what);
    void client.frames;
  }
  // Both the quiet ends and the loud ones were met.
  assert.ok(ends.has("client-closed") && ends.size > 5, [...ends].join(" "));
});

/**
 * Envoy as the oracle of our reader of HTTP/2: frames, HPACK, the fields of requests. What we judge and pass on, a real Envoy behind us reads as
 * the same requests, and of the same bytes it reads alone none that we read as another. `WEIR_FUZZ_SEED=n` repeats a run.
 * @module
 */
import assert from "node:assert/strict";
import { wholeNumbers } from "../../services/l7-proxy/http1/mutated_requests.ts";
import { Dice, spoilt } from "../../services/l7-proxy/http2/spoilt_frames.ts";
import { CHANGES, GeneratedStreams } from "./generated_streams.ts";
import { askAboutHttp2 } from "./on_streams.ts";
import { asks } from "./oracle.ts";
import { Tally } from "./tally.ts";

const SEED = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 9113);
const CONNECTIONS = 300;

/** Why Envoy refuses what we pass on. */
const REFUSED_BY_ENVOY: Readonly<Record<string, string>> = {
  "404: OPTIONS * at ": "it is read, but Envoy has routes only for paths that begin with a slash",
  "reset 1: no host":
    "neither :authority nor host, or an empty one: RFC 9113 forbids neither, and a rule about hosts allows none",
};

const asked = asks("HTTP2");

asked(
  "Envoy behind us reads each odd or hostile request of HTTP/2 as it was judged, or not at all",
  async (oracle) => {
    const random = wholeNumbers(SEED), tally = new Tally();
    await tally.ofEach(CHANGES.length, async (index) => {
      const [name, change] = CHANGES[index], streams = new GeneratedStreams(random);
      streams.add(change);
      tally.add(name, await askAboutHttp2(oracle, streams.bytes));
    });
    tally.check(REFUSED_BY_ENVOY);
    assert.ok(tally.agreed > 10 && tally.refused > 0, tally.text);
    console.log(`  odd: ${tally.text}`);
  },
);

for (const isSpoilt of [false, true]) {
  const what = isSpoilt ? "with frames that are spoilt" : "of many requests";
  asked(`Envoy reads connections ${what} as we do`, async (oracle) => {
    const random = wholeNumbers(SEED + Number(isSpoilt)), tally = new Tally();
    await tally.ofEach(CONNECTIONS, async () => {
      const streams = new GeneratedStreams(random), seed = random(1 << 30);
      for (let count = 1 + random(8); count > 0; count--) streams.add();
      if (isSpoilt) spoilt(streams.frames, new Dice(seed));
      const { bytes } = streams;
      tally.add(`WEIR_FUZZ_SEED=${SEED} ${bytes.toHex()}`, await askAboutHttp2(oracle, bytes));
    });
    tally.check(REFUSED_BY_ENVOY);
    assert.ok(tally.agreed > CONNECTIONS / 3, tally.text);
    console.log(`  ${what}: ${tally.text}`);
  });
}

asked("A field of HTTP/2 that is passed on and was not judged is seen", async (oracle) => {
  const streams = new GeneratedStreams(wholeNumbers(1));
  streams.add((fields) => fields);
  const { wrong } = await askAboutHttp2(oracle, streams.bytes, [{
    action: "ADD",
    name: "X-New",
    value: "1",
  }]);
  assert.match(wrong.join(), /in line, Envoy read .* x-new="1".*, which was not judged/);
});

/**
 * Envoy as the oracle of our reader of HTTP/1.1: what we judge and pass on, a real Envoy behind us reads as the same requests, and of the same
 * bytes it reads alone what we read, as far as both go. `WEIR_FUZZ_SEED=n` repeats a run.
 * @module
 */
import assert from "node:assert/strict";
import {
  ALL_AMBIGUOUS,
  mutatedRequest,
  wholeNumbers,
} from "../../services/l7-proxy/http1/mutated_requests.ts";
import { generatedRequest } from "./generated_requests.ts";
import { askAboutHttp1 } from "./in_line.ts";
import { asks } from "./oracle.ts";
import { Tally } from "./tally.ts";

const SEED = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 15);
const MUTATED = 1200, GENERATED = 800;

/** Why Envoy refuses what we pass on. */
const REFUSED_BY_ENVOY: Readonly<Record<string, string>> = {
  "http1.invalid_transfer_encoding":
    "codings in front of chunked: legal (RFC 9112, 6.1), the message ends where we say, and a server that does not know the coding says 501",
};

const asked = asks("HTTP1");

asked("Envoy behind us reads of every ambiguous request what was judged, or nothing", async (oracle) => {
  for (const pieceBytes of [1 << 20, 7]) {
    const tally = new Tally();
    await tally.ofEach(ALL_AMBIGUOUS.length, async (index) => {
      const [name, text] = ALL_AMBIGUOUS[index];
      const size = text.length > 20_000 ? 1000 : pieceBytes;
      tally.add(name, await askAboutHttp1(oracle, text, { pieceBytes: () => size }));
    });
    tally.check(REFUSED_BY_ENVOY);
    assert.ok(tally.agreed > 60 && tally.refused > 0, tally.text);
    console.log(`  ambiguous: ${tally.text}`);
  }
});

asked(
  "Envoy behind us reads what was judged, whatever is changed of an ambiguous request",
  async (oracle) => {
    const random = wholeNumbers(SEED), tally = new Tally();
    await tally.ofEach(MUTATED, async (index) => {
      const text = mutatedRequest(random), pieces = wholeNumbers(index);
      const pieceBytes = () => 1 + pieces(pieces(2) === 0 ? 4 : 400);
      tally.add(
        `WEIR_FUZZ_SEED=${SEED} ${JSON.stringify(text)}`,
        await askAboutHttp1(oracle, text, { pieceBytes }),
      );
    });
    tally.check(REFUSED_BY_ENVOY);
    assert.ok(tally.agreed > MUTATED / 20, tally.text);
    console.log(`  mutated: ${tally.text}`);
  },
);

asked("Envoy reads legal requests as we do, and those with a byte of another", async (oracle) => {
  const random = wholeNumbers(SEED), tally = new Tally();
  await tally.ofEach(GENERATED, async () => {
    let text = "";
    for (let count = 1 + random(4); count > 0; count--) text += generatedRequest(random);
    if (random(2) === 0) {
      const at = random(text.length);
      text = text.slice(0, at) + String.fromCharCode(random(256)) + text.slice(at + random(3));
    }
    tally.add(`WEIR_FUZZ_SEED=${SEED} ${JSON.stringify(text)}`, await askAboutHttp1(oracle, text));
  });
  tally.check(REFUSED_BY_ENVOY);
  assert.ok(tally.agreed > GENERATED, tally.text);
  console.log(`  generated: ${tally.text}`);
});

asked("A field that is passed on and was not judged is seen", async (oracle) => {
  const { wrong } = await askAboutHttp1(oracle, "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n", {
    changes: [{ action: "ADD", name: "X-New", value: "1" }],
  });
  assert.match(wrong.join(), /Envoy read GET \/a at a.example x-new="1"/);
});

/** Ambiguous requests with something changed, for the tests that compare our reader with others. @module */
import { AMBIGUOUS_REQUESTS } from "./ambiguous_requests.ts";
import { AMBIGUOUS_TEXTS } from "./ambiguous_texts.ts";

/** Every ambiguous request that is known. */
export const ALL_AMBIGUOUS = [...AMBIGUOUS_REQUESTS, ...AMBIGUOUS_TEXTS];

/** Whole numbers below a limit, from a seed: mulberry32. */
export function wholeNumbers(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Pieces that mean something in HTTP. */
const WORDS = [
  ...'\r\n\t \0:;,/#?%.*\\"\x0b\x7f\u00e40159afAF+-',
  ..."\r\n|\r\n\r\n|\n\r|Transfer-Encoding: chunked\r\n|Content-Length: 5\r\n|Content-Length: 0\r\n|chunked|identity"
    .split("|"),
  ..."GET / HTTP/1.1\r\nHost: a.example\r\n\r\n|0\r\n\r\n|5\r\nabcde\r\n| HTTP/1.1|HTTP/1.0|Host: b\r\n|Connection: close\r\n"
    .split("|"),
  ..."http://a.example|%2e%2e/|//|/../|%2f|Expect: 100-continue\r\n|Upgrade: h2c\r\nConnection: Upgrade\r\n|HEAD|POST|ffffffffff"
    .split("|"),
];
const BASE = ALL_AMBIGUOUS.filter(([, text]) => text.length < 2000);

/** One or two of them with words put in and bytes taken out. */
export function mutatedRequest(random: (below: number) => number): string {
  let text = BASE[random(BASE.length)][1];
  if (random(3) === 0) text += BASE[random(BASE.length)][1];
  for (let changes = random(4); changes >= 0; changes--) {
    const at = random(text.length + 1), gone = random(3) === 0 ? random(8) : 0;
    text = text.slice(0, at) + (random(4) === 0 ? "" : WORDS[random(WORDS.length)]) + text.slice(at + gone);
  }
  return text;
}

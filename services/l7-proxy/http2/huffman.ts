/**
 * The Huffman code of HPACK (RFC 7541, appendix B). The code is canonical: among codes of one length the symbols rise, so lengths alone tell it.
 * It is read four bits at a time, by a table of what each inner node of the tree becomes.
 * @module
 */
import { Http2Error } from "./http2_error.ts";

/** Bits of each symbol's code, 0 to 255 and the end of the string, as digits in base 36. */
const LENGTHS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6" +
  "f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu";
const END_OF_STRING = 256, NODES_MAX = 257;

/** What node and four bits become: bits 0 to 8 the node, 9 to 16 a symbol, 17: there is one, 18: the string ended, which it must not. */
const STEPS = new Int32Array(NODES_MAX * 16);
/** Nodes at which a string may end: fewer than eight bits of ones behind the last symbol. */
const MAY_END = new Uint8Array(NODES_MAX);
const HAS_SYMBOL = 1 << 17, HAS_END = 1 << 18;

function build(): void {
  // Two children of each node: another node, or ~symbol.
  const children = new Int16Array(NODES_MAX * 2);
  const symbols = Array.from(LENGTHS, (digit, symbol) => ({ symbol, length: parseInt(digit, 36) }))
    .sort((a, b) => a.length - b.length || a.symbol - b.symbol);
  let code = 0, before = 0, last = 0;
  for (const { symbol, length } of symbols) {
    code *= 2 ** (length - before);
    before = length;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const at = node * 2 + (Math.floor(code / 2 ** bit) & 1);
      if (children[at] === 0) children[at] = ++last;
      node = children[at];
    }
    children[node * 2 + (code & 1)] = ~symbol;
    code++;
  }
  for (let node = 0; node <= last; node++) {
    for (let bits = 0; bits < 16; bits++) {
      let at = node, step = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const child = children[at * 2 + (bits >> bit & 1)];
        if (child >= 0) at = child;
        else {
          step |= ~child === END_OF_STRING ? HAS_END : HAS_SYMBOL | ~child << 9;
          at = 0;
        }
      }
      STEPS[node * 16 + bits] = step | at;
    }
  }
  for (let node = 0, depth = 0; depth < 8; depth++, node = children[node * 2 + 1]) MAY_END[node] = 1;
}
build();

/**
 * Decodes `bytes` from `start` to `end` into `into`, which has room for 8/5 of that.
 * @returns bytes written
 * @throws {Http2Error} bad-compression
 */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number, into: Uint8Array): number {
  let node = 0, length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    let step = STEPS[node * 16 + (byte >> 4)];
    if (step & HAS_SYMBOL) into[length++] = step >> 9;
    let ends = step;
    step = STEPS[(step & 0x1ff) * 16 + (byte & 15)];
    if (step & HAS_SYMBOL) into[length++] = step >> 9;
    ends |= step;
    if (ends & HAS_END) throw new Http2Error("bad-compression", "the end of a string inside it");
    node = step & 0x1ff;
  }
  if (MAY_END[node] === 0) {
    throw new Http2Error("bad-compression", "a string with more or other bits behind it");
  }
  return length;
}

import assert from "node:assert/strict";
import { compilePattern, PATTERN_LENGTH_MAX, RuleFault } from "./pattern.ts";

Deno.test("compilePattern() refuses what RE2 refuses, and what is too large, in words", () => {
  const table: [string, RegExp][] = [
    ["(", /"\(" is no regular expression as RE2 has them: missing closing \)/],
    ["a(?=b)", /invalid or unsupported Perl syntax/],
    ["(a)\\1", /invalid escape sequence/],
    ["[z-a]", /invalid character class range/],
    ["*", /missing argument to repetition/],
    ["a{1001}", /invalid repeat count/],
    ["((a{100}){100}){100}", /invalid repeat count/],
    ["[a-z]{1000}".repeat(30), /too large: 30002 instructions, want at most 20000/],
    ["a".repeat(PATTERN_LENGTH_MAX + 1), /of 8193 characters, want at most 8192/],
  ];
  for (const [text, message] of table) {
    assert.throws(
      () => compilePattern(text),
      (error) => error instanceof RuleFault && message.test(error.message),
    );
  }
});

Deno.test("Pattern.isWhole() is about the whole text, isPart() about some of it, and both end whatever the text", () => {
  const pattern = compilePattern("/pub(lic)?");
  assert.deepEqual(
    ["/pub", "/public", "/public/x", "x/pub"].map((text) => [pattern.isWhole(text), pattern.isPart(text)]),
    [
      [true, true],
      [true, true],
      [false, true],
      [false, true],
    ],
  );
  // Back-tracking would take longer than the universe has.
  assert.equal(compilePattern("(a*)*(a*)*(a*)*b").isWhole("a".repeat(8000)), false);
});

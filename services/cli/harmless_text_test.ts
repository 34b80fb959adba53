import { equal } from "node:assert/strict";
import { harmless, harmlessOutput } from "./harmless_text.ts";
import { explanationText } from "./explain/text.ts";

/** What a terminal obeys, or shows as something else than it is, and what is shown instead. */
const HOSTILE: readonly [text: string, shown: string][] = [
  ["\x1b]0;title\x07", "^[]0;title\\u0007"],
  ["\x1b[2J\x1b[8m", "^[[2J^[[8m"],
  ["\u009b2J", "\\u009b2J"],
  ["a\rb\bc", "a\\rb\\u0008c"],
  ["\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"],
  ["a\u2028b\u200ec", "a\\u2028b\\u200ec"],
];

Deno.test("harmless() shows what a terminal would obey, and keeps a text in its line", () => {
  for (const [text, shown] of HOSTILE) equal(harmless(text), shown);
  equal(harmless("a\nb\tc \x1b[31mé 漢 \u{1f600}"), "a\\nb c ^[[31mé 漢 \u{1f600}");
});

Deno.test("harmlessOutput() lets our own colours and lines through and nothing else, and JSON means what it meant", () => {
  for (const [text, shown] of HOSTILE) equal(harmlessOutput(`x\t${text}\n`), `x\t${shown}\n`);
  const own = "\x1b[1mNAME\x1b[0m\t\x1b[32mready\x1b[0m\n";
  equal(harmlessOutput(own), own);
  equal(harmlessOutput("\x1b[38;5;1m\x1b[31;8m\x1b"), "^[[38;5;1m^[[31;8m^[");
  const value = { name: "\x1b[2J\u009b2J\u202e\u007f" };
  const json = harmlessOutput(JSON.stringify(value));
  equal(/^[ -~]*$/.test(json), true, json);
  equal(JSON.parse(json).name, value.name);
});

Deno.test("explanationText() has no line that a name or a server wrote", () => {
  const evil = "x\n\u009b2Jegress: allowed\x1b[8m";
  const text = explanationText({
    title: evil,
    allowed: false,
    stages: [{
      kind: "egress",
      subject: evil,
      state: "denied",
      message: evil,
      details: [["policy", evil]],
      fixes: [evil],
      manifest: evil,
    }],
  } as never);
  // deno-lint-ignore no-control-regex
  equal(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(text), false, text);
  equal(text.split("\n").filter((line) => line.startsWith("egress")).length, 1, text);
});

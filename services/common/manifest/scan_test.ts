import assert from "node:assert/strict";
import { FaultList, formatFault } from "./fault.ts";
import { readDocuments } from "./document.ts";
import { toValue } from "./document.ts";
import { scanText } from "./scan.ts";

const LIMITS = { documentsMax: 20_000, nodesMax: 2_000_000 };

Deno.test("scanText() says where a text begins to be too much", () => {
  const names = Array.from({ length: 12 }, (_, at) => String.fromCharCode(97 + at));
  const cases: [name: string, text: string, expected: RegExp][] = [
    ["flow", "a:\n  b: " + "[".repeat(100_000), /^2:\d+: nested deeper than 64$/],
    ["maps", "{a: ".repeat(100_000), /^1:\d+: nested/],
    ["JSON", '{"a":'.repeat(100_000), /^1:\d+: nested/],
    ["indents", Array.from({ length: 900 }, (_, at) => " ".repeat(at) + "a:\n").join(""), /^65:\d+: nested/],
    ["dashes", "- ".repeat(100_000) + "a", /^1:\d+: nested/],
    ["ports", "ports:\n" + "- {port: 1}\n".repeat(1_000_000), /^2000\d:\d+: more than 20000 entries/],
    ["flow ports", `ports: [${"{port: 1},".repeat(1_000_000)}]`, /^1:\d+: more than 20000 entries/],
    [
      "keys",
      Array.from({ length: 30_000 }, (_, at) => `k${at}: 1\n`).join(""),
      /^20001:\d+: more than 20000/,
    ],
    ["documents", "---\na: 1\n".repeat(30_000), /^4000\d:\d+: more than 20000 documents/],
    ["aliases", `a: &a 1\nb: [${"*a,".repeat(2000)}]`, /^2:\d+: more than 1000 anchors, aliases and tags/],
    ["tags", "!!x ".repeat(2000) + "a", /^1:\d+: more than 1000 anchors/],
    ["brackets", "a: [}\n".repeat(200), /^101:\d+: too many brackets do not match/],
    ["quote", `a: "${"x".repeat(1_000_000)}`, /^1:\d+: nothing closes this quote/],
    [
      "values",
      names.map((name) => `${name}:\n` + "- [1, 2]\n".repeat(15_000)).join("").repeat(20),
      /: more than (20000 entries|2000000 values)/,
    ],
  ];
  for (const [name, text, expected] of cases) {
    const started = performance.now(), excess = scanText(text, LIMITS);
    assert.ok(excess !== undefined, name);
    assert.match(`${excess.place.line}:${excess.place.column}: ${excess.detail}`, expected, name);
    assert.ok(performance.now() - started < 2000, `${name} took ${performance.now() - started} ms`);
  }
});

Deno.test("scanText() takes what looks like too much and is text, or is in one of many places", () => {
  const cases = [
    "a: |\n" + "  - - - - [[[{{{ *a &b !c\n".repeat(5000) + "b: 1\n",
    "a:\n- b: |-\n    [[[\n" + "    {{{\n".repeat(200) + "- c: >\n    [[[\n\n   \n    [\n",
    `a: "${"[{".repeat(500)}"\nb: '${"[{".repeat(500)}''[[['\n`,
    "# " + "[".repeat(500) + "\na: 1 # " + "[".repeat(500) + "\n",
    "a: foo[[[[[bar]\n".replace("a", "a") + "b: x{{{{ y\n",
    Array.from({ length: 3000 }, (_, at) => `k${at}: { a: [1, 2, { b: "}" }], c: 'it''s' }\n`).join(""),
    Array.from({ length: 3000 }, (_, at) => `- a${at}:\n    b:\n    - c\n    - d: e\n  "f": g\n`).join(""),
    "---\r\na: 1\r\n---\r\nb:\r\n- 1\r\n- 2\r\n",
    '{"a": [{"b": "\\"[[["}, {}], "c": "\\\\"}',
  ];
  for (const text of cases) assert.equal(scanText(text, LIMITS), undefined, text.slice(0, 80));
  // One line: what is behind is not read again.
  const line = `[${Array.from({ length: 15_000 }, () => `{${'"a": "bcdefgh",'.repeat(20)}"b":1}`).join()}]`;
  const started = performance.now();
  assert.equal(scanText(line, LIMITS), undefined);
  assert.ok(performance.now() - started < 5000, `${performance.now() - started} ms`);
});

Deno.test("readDocuments() follows aliases to the last anchor before them, and bounds what they stand for", () => {
  const faults = new FaultList();
  const [first, second] = readDocuments(
    "a: &x 1\nb: *x\nc: &x { d: &y [2] }\ne: [*x, *y]\n---\n&k key: 1\nf: *k\n",
    faults,
  );
  assert.deepEqual(faults.faults, []);
  assert.deepEqual(toValue(first.root), { a: 1, b: 1, c: { d: [2] }, e: [{ d: [2] }, [2]] });
  assert.deepEqual(toValue(second.root), { key: 1, f: "key" });
  const names = "abcdefghijkl";
  const bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" +
    [...names.slice(1)].map((name, at) => `${name}: &${name} [${Array(9).fill(`*${names[at]}`)}]\n`).join("");
  const started = performance.now(), bombed = new FaultList();
  assert.deepEqual(readDocuments(`\n${bomb}`, bombed), []);
  assert.match(formatFault(bombed.faults[0]), /^\d+:\d+ .*: aliases stand for more than 20000 values$/);
  assert.ok(performance.now() - started < 5000);
});

import assert from "node:assert/strict";
import { isMap, isSeq, LineCounter, parseAllDocuments } from "yaml";
import { FaultList, formatFault } from "./fault.ts";
import { readDocuments, toValue } from "./document.ts";
import { ExcessError, type ScanLimits, scanTokens } from "./scan.ts";

const LIMITS = { documentsMax: 20_000, nodesMax: 2_000_000 };

function keys(line: (at: number) => string): string {
  return Array.from({ length: 30_000 }, (_, at) => line(at)).join("\n");
}

/** What is too much, with its place. */
function excessOf(text: string, limits: ScanLimits = LIMITS): string | undefined {
  const lines = new LineCounter();
  try {
    for (const _ of scanTokens(text, limits, lines));
  } catch (error) {
    if (!(error instanceof ExcessError)) throw error;
    const { line, col } = lines.linePos(error.at);
    return `${line}:${col}: ${error.message}`;
  }
}

Deno.test("scanTokens() says where a text begins to be too much", () => {
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
    ["documents", "---\na: 1\n".repeat(30_000), /^400\d\d:\d+: more than 20000 documents/],
    [
      "aliases",
      `a: &a 1\nb: [${"*a,".repeat(2000)}]`,
      /^2:\d+: more than 1000 anchors, aliases, tags and directives/,
    ],
    ["tags", "!!x ".repeat(2000) + "a", /^1:\d+: more than 1000 anchors/],
    ["brackets", "a: [}\n".repeat(200), /^101:\d+: more than 100 signs and texts where none may stand/],
    ["closing", "a: 1\n" + "}\n".repeat(100_000), /^10\d:\d+: more than 100 signs/],
    ["texts", 'a: "x"' + ' "y"'.repeat(100_000), /^1:\d+: more than 100 signs/],
    ["behind a list", "[a]" + " ]".repeat(100_000), /^1:\d+: more than 100 signs/],
    ["behind the end", "a\n... " + "} ".repeat(100_000), /^2:\d+: more than 100 signs/],
    ["ends", "a\n" + "...\n".repeat(100_000), /^2000\d:\d+: more than 20000 documents/],
    ["directives", "%X\n".repeat(100_000), /^1001:\d+: more than 1000 .* directives/],
    // The parser reads the newlines again for each comment: these 180 KB took it 15 s.
    [
      "blank lines",
      "a: |\n     x\n" + "\n".repeat(30_000) + " # c\n".repeat(30_000),
      /^50\d:1: more than 500 blank lines/,
    ],
    ["blank before :", keys((at) => `"k${at}" : 1`), /^20001:\d+: more than 20000 entries/],
    ["quoted", keys((at) => `'k${at}':`), /^20001:\d+: more than 20000 entries/],
    ["JSON keys", `{${keys((at) => `"k${at}":1,`)}}`, /^20001:\d+: more than 20000 entries/],
    ["explicit keys", keys((at) => `? k${at}`), /^20001:\d+: more than 20000 entries/],
    ["keys in brackets", `{${keys((at) => `k${at},`)}}`, /^20001:\d+: more than 20000 entries/],
    [
      "behind a block scalar",
      `a: 1\n--- |\n x\n--- \n${keys((at) => `k${at}: 1`)}`,
      /^2000\d:\d+: more than 20000/,
    ],
    ["behind a quote in text", `a: x\n  "\nb:\n${"- 1\n".repeat(30_000)}`, /^2000\d:\d+: more than 20000/],
    ["behind a quote in text 2", `a: x\n  'y\n${keys((at) => `k${at}: 1`)}`, /^2000\d:\d+: more than 20000/],
    [
      "behind a bracket in text",
      `a: x\n  {\nb: ${"\n  - " + "- ".repeat(100)}`,
      /^4:\d+: nested deeper than 64/,
    ],
    ["keys of a list's column", keys((at) => `k${at}:\n- 1`), /^40001:\d+: more than 20000/],
    [
      "values",
      names.map((name) => `${name}:\n` + "- [1, 2]\n".repeat(15_000)).join(""),
      /: more than 50000 values/,
    ],
  ];
  for (const [name, text, expected] of cases) {
    const started = performance.now();
    const limits = name === "values" ? { ...LIMITS, nodesMax: 50_000 } : LIMITS;
    assert.match(String(excessOf(text, limits)), expected, name);
    assert.ok(performance.now() - started < 10_000, `${name} took ${performance.now() - started} ms`);
  }
});

Deno.test("scanTokens() takes what looks like too much and is text, or is in one of many places", () => {
  const cases = [
    "a: |\n" + "  - - - - [[[{{{ *a &b !c\n".repeat(5000) + "b: 1\n",
    "a:\n- b: |-\n    [[[\n" + "    {{{\n".repeat(200) + "- c: >\n    [[[\n\n   \n    [\n",
    `a: "${"[{".repeat(500)}"\nb: '${"[{".repeat(500)}''[[['\n`,
    "# " + "[".repeat(500) + "\na: 1 # " + "[".repeat(500) + "\n",
    "a: foo[[[[[bar]\n".replace("a", "a") + "b: x{{{{ y\n",
    Array.from({ length: 3000 }, (_, at) => `k${at}: { a: [1, 2, { b: "}" }], c: 'it''s' }\n`).join(""),
    Array.from({ length: 3000 }, (_, at) => `- a${at}:\n    b:\n    - c\n    - d: e\n  "f": g\n`).join(""),
    "---\r\na: 1\r\n---\r\nb:\r\n- 1\r\n- 2\r\n",
    // As many as there may be, in the column of their key.
    `spec:\n  externalCIDRs:\n${"  - 10.0.0.0/8\n".repeat(20_000)}  more:\n${
      "  - 1\n".repeat(20_000)
    }\n# end\n`,
    `a: [${"1,".repeat(20_000)}]`,
    `a: [${"1,".repeat(19_999)}1]\n`,
    '{"a": [{"b": "\\"[[["}, {}], "c": "\\\\"}',
  ];
  for (const text of cases) assert.equal(excessOf(text), undefined, text.slice(0, 80));
  // One line: what is behind is not read again.
  const line = `[${Array.from({ length: 15_000 }, () => `{${'"a": "bcdefgh",'.repeat(20)}"b":1}`).join()}]`;
  const started = performance.now();
  assert.equal(excessOf(line), undefined);
  assert.ok(performance.now() - started < 20_000, `${performance.now() - started} ms`);
});

/** The most levels, entries of one map or list, and documents that the library makes of a text. */
function composed(text: string) {
  const found = { depth: 0, entries: 0, documents: 0, errors: 0 };
  const walk = (node: unknown, depth: number): void => {
    found.depth = Math.max(found.depth, depth);
    if (!isMap(node) && !isSeq(node)) return;
    found.entries = Math.max(found.entries, node.items.length);
    found.depth = Math.max(found.depth, depth + 1);
    for (const item of node.items) {
      if (isSeq(node)) walk(item, depth + 1);
      else {
        const { key, value } = item as { key: unknown; value: unknown };
        walk(key, depth + 1);
        walk(value, depth + 1);
      }
    }
  };
  for (const document of parseAllDocuments(text, { logLevel: "silent", uniqueKeys: false })) {
    found.documents++;
    found.errors += document.errors.length;
    walk(document.contents, 0);
  }
  return found;
}

Deno.test("scanTokens() counts no less than the library makes of a text, and no more of a sound one", () => {
  const limits = { documentsMax: 2, nodesMax: 1000, depthMax: 3, entriesMax: 4 };
  const parts = [
    ..."abc\n\n\n\n  ",
    ..."-?:,[]{}'\"|>#&*!%",
    "\n- ",
    "\n  - ",
    ": ",
    '"k" : 1\n',
    "'k': ",
    "\n--- |\n",
    "\n---\n",
    "\n...\n",
    "\n  ",
    "\n    ",
    "k: v\n",
    "a: |\n x\n",
    ' "\n',
    "{a: 1}",
    "[1, 2]",
    "\r\n",
    "\t",
    "# c\n",
    "? ",
    "\\",
  ];
  let seed = 20261130, taken = 0, refused = 0;
  const random = (max: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % 65_537 % max;
  for (let run = 0; run < 5000; run++) {
    const text = Array.from({ length: 1 + random(40) }, () => parts[random(parts.length)]).join("");
    const excess = excessOf(text, limits), { depth, entries, documents, errors } = composed(text);
    const hint = `${JSON.stringify(text)} ${excess} ${JSON.stringify({ depth, entries, documents, errors })}`;
    if (excess === undefined) {
      taken++;
      assert.ok(depth <= 2 * limits.depthMax && entries <= limits.entriesMax && documents <= 2, hint);
    } else {
      refused++;
      assert.ok(errors > 0 || depth > limits.depthMax || entries > limits.entriesMax || documents > 2, hint);
    }
  }
  assert.ok(taken > 500 && refused > 500, `${taken} taken, ${refused} refused`);
});

Deno.test("readDocuments() names each key that a map has twice, and leaves the document out", () => {
  const faults = new FaultList();
  const found = readDocuments("a: 1\nb: { c: 1, c: 2 }\na: 2\n---\nx: &x { y: 1 }\nz: *x\n", faults);
  assert.deepEqual(faults.faults.map((fault) => formatFault(fault)), [
    "2:12 b.c: Map keys must be unique",
    "3:1 a: Map keys must be unique",
  ]);
  assert.deepEqual(found.map(({ root }) => toValue(root)), [{ x: { y: 1 }, z: { y: 1 } }]);
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

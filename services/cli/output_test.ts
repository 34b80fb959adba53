import { deepEqual, equal, throws } from "node:assert/strict";
import { UsageError } from "./context.ts";
import { labelMatcher } from "./label_text.ts";
import { age, numbered, outputForm, render, table } from "./output.ts";

Deno.test("table() aligns columns, and no cell is obeyed by a terminal or begins a line", () => {
  equal(
    table(["A", "BB"], [["xxx", "1"], ["\x1b[31my\u009b0m", "\u202e\n"]]),
    "A                 BB\nxxx               1\n^[[31my\\u009b0m   \\u202e\\n\n",
  );
});

Deno.test("render() shows wide columns only with -o wide, and the whole with -o json", () => {
  const columns = [{ title: "N", cell: (n: number) => n }, { title: "W", cell: () => "w", wide: true }];
  equal(render([1], columns, "table"), "N\n1\n");
  equal(render([1], columns, "wide"), "N   W\n1   w\n");
  equal(render([1], columns, "json", { all: [1] }), '{\n  "all": [\n    1\n  ]\n}\n');
  equal(render([1], columns, "yaml", { all: [1] }), "all:\n  - 1\n");
  // The same object twice, and what JSON leaves out: no anchor, no null.
  const one = { a: 1 };
  equal(render([1], columns, "yaml", { one, same: one, not: undefined }), "one:\n  a: 1\nsame:\n  a: 1\n");
  throws(() => outputForm("xml"), UsageError);
});

Deno.test("age() shows what kubectl shows", () => {
  const cases: [number, string][] = [[5, "5s"], [119, "119s"], [192, "3m12s"], [3600, "60m"], [7300, "2h"], [
    200000,
    "2d",
  ]];
  for (const [seconds, text] of cases) equal(age(1000, 1000 + seconds), text);
  equal(age(0, 5), "-");
});

Deno.test("labelMatcher() reads kubectl's selectors over labels with sources", () => {
  const labels = ["k8s:org=empire", "unspec:class=xwing"];
  const cases: [string, boolean][] = [
    ["org=empire", true],
    ["org==empire,class=xwing", true],
    ["k8s:org=empire", true],
    ["unspec:org=empire", false],
    ["org!=alliance", true],
    ["org!=empire", false],
    ["class", true],
    ["!class", false],
    ["!other", true],
    ["org=empire,other", false],
  ];
  for (const [selector, expected] of cases) equal(labelMatcher(selector)(labels), expected, selector);
  throws(() => labelMatcher("=x"), UsageError);
});

Deno.test("numbered() takes the singular for one alone", () => {
  const texts = [0, 1, 2, undefined].map((count) => numbered(count, "policy", "policies"));
  deepEqual(texts, ["0 policies", "1 policy", "2 policies", "? policies"]);
});

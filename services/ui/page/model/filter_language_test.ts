import assert from "node:assert/strict";
import type { Names } from "../../api.ts";
import { completeFilter, filterParameters, formatFilter, readFilter } from "./filter_language.ts";

const KNOWN = [
  "from-pod",
  "to-pod",
  "pod",
  "port",
  "verdict",
  "namespace",
  "label",
  "reply",
  "ip-version",
  "cel-expression",
];
const NAMES: Names = {
  namespaces: ["shop", "kube-system"],
  pods: ["shop/cart", "shop/web", "ops/shopkeeper"],
  workloads: [],
  labels: ["k8s:app=cart"],
  nodes: [],
  verdicts: ["FORWARDED", "DROPPED"],
  dropReasons: [],
  types: [],
  protocols: [],
  parameters: [...KNOWN, ...KNOWN.map((name) => `not-${name}`)],
};

Deno.test("readFilter() reads words, flags and pasted commands alike", () => {
  const expected = [
    { name: "from-pod", value: "shop/cart", not: false },
    { name: "port", value: "53", not: true },
    { name: "verdict", value: "DROPPED", not: false },
  ];
  for (
    const text of [
      "from-pod=shop/cart not port=53 verdict=dropped",
      "from-pod shop/cart not-port=53 verdict DROPPED",
      "--from-pod shop/cart --not --port 53 --verdict=DROPPED",
      "weir observe -f --from-pod shop/cart --not --port=53 --verdict dropped -o json --last 20",
      "hubble observe --from-pod 'shop/cart' --not --port 53 --verdict DROPPED --since 2h",
    ]
  ) assert.deepEqual(readFilter(text, KNOWN), { terms: expected }, text);
});

Deno.test("readFilter() keeps what stands in quotes and reads short flags", () => {
  assert.deepEqual(readFilter(`cel-expression="_flow.l4.TCP != null" -n shop -4`, KNOWN).terms, [
    { name: "cel-expression", value: "_flow.l4.TCP != null", not: false },
    { name: "namespace", value: "shop", not: false },
    { name: "ip-version", value: "4", not: false },
  ]);
  assert.deepEqual(readFilter("verdict=dropped,audit", KNOWN).terms.map((t) => t.value), [
    "DROPPED",
    "AUDIT",
  ]);
});

Deno.test("readFilter() says what is wrong, and where", () => {
  const cases: [string, RegExp, number][] = [
    ["from-pod", /no value/, 0],
    ["port=80 frm-pod=x", /no condition that there is/, 8],
    ["pod=", /no value/, 0],
    ["not", /none follows/, 3],
    ["not not port=1", /one condition/, 4],
    ["pod='a", /not closed/, 0],
    ["=x", /expected name=value/, 0],
    ["--pod", /no value/, 0],
    ["fromm", /did you mean|no condition/, 0],
  ];
  for (const [text, message, at] of cases) {
    const { fault } = readFilter(text, KNOWN);
    assert.match(fault?.text ?? "", message, text);
    assert.equal(fault?.at, at, text);
  }
});

Deno.test("formatFilter() writes what readFilter() reads", () => {
  const terms = readFilter(`cel-expression="a b" not pod=shop/cart port=80`, KNOWN).terms;
  assert.deepEqual(readFilter(formatFilter(terms), KNOWN).terms, terms);
  assert.deepEqual(filterParameters(terms), [["cel-expression", "a b"], ["not-pod", "shop/cart"], [
    "port",
    "80",
  ]]);
});

Deno.test("completeFilter() offers names, then the values that there are", () => {
  const options = (text: string, cursor = text.length) => {
    const { from, options } = completeFilter(text, cursor, NAMES);
    return [from, ...options.map((option) => option.text)];
  };
  assert.deepEqual(options("port=80 from"), [8, "from-pod="]);
  assert.deepEqual(options("from-pod=sh"), [9, "shop/cart", "shop/web", "ops/shopkeeper"]);
  assert.deepEqual(options("not verdict=d"), [12, "DROPPED", "FORWARDED"]);
  assert.deepEqual(options("label=app"), [6, "k8s:app=cart"]);
  assert.deepEqual(options("pod=x", 2), [0, "pod=", "port=", "from-pod=", "to-pod="]);
});

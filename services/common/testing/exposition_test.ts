import assert from "node:assert/strict";
import { MetricsRegistry } from "../metrics.ts";
import { readExposition } from "./exposition.ts";

Deno.test("readExposition() reads what our registry writes, whatever its values are", () => {
  const registry = new MetricsRegistry(), nasty = 'a"b\\c\nd\r\t\u0085\u2028{}=,} 1 # é😀';
  registry.counter("a_total", "Counts\nof two lines").increment({ who: nasty, what: "" }, 1e21);
  registry.gauge("b", "None of it").set(-0.5e-7);
  registry.histogram("c_seconds", "Times", [0.5, 1]).observe(0.7, { who: nasty });
  const families = readExposition(registry.render());
  assert.deepEqual(families.get("a_total")!.samples[0].labels, { who: nasty, what: "" });
  assert.deepEqual(families.get("c_seconds")!.samples.map(({ value }) => value), [0, 1, 1, 0.7, 1]);
});

const HEAD = "# HELP a h\n# TYPE a counter\n";
const WRONG: [text: string, why: RegExp][] = [
  ["a 1\n", /without a TYPE/],
  [`${HEAD}a 1`, /does not end/],
  [`${HEAD}a 1\na 2\n`, /twice/],
  [`${HEAD}a{x="1",y="2"} 1\na{y="2",x="1"} 1\n`, /twice/],
  [`${HEAD}b 1\n`, /not of a/],
  [`${HEAD}a -1\n`, /below 0/],
  [`${HEAD}a{x="1} 1\n`, /no value of label x/],
  [`${HEAD}a{x="\\r"} 1\n`, /no value of label x/],
  [`${HEAD}a{x-y="1"} 1\n`, /no value of label x/],
  [`${HEAD}a{x="1",} 1\n`, /comma/],
  [`${HEAD}a one\n`, /no value/],
  [`${HEAD}a 1\n\n`, /no name/],
  [`${HEAD}a 1\n${HEAD}`, /second HELP/],
  [
    '# HELP h h\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    /no histogram/,
  ],
  ['# HELP h h\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n', /no histogram/],
];

Deno.test("readExposition() stops at what a reader may stop at", () => {
  for (const [text, why] of WRONG) assert.throws(() => readExposition(text), why, text);
});

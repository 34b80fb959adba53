import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { Flow, type FlowFilter } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { loadEngines } from "./filter_engines.ts";
import { compileFilters } from "./flow_filter.ts";

const flow = Flow.create({
  verdict: "DROPPED",
  IP: { source: "10.0.1.7" },
  source: { labels: ["k8s:app=x"], identity: 7 },
  l7: { http: { url: "http://h/a/b?c=1", method: "GET", code: 404 } },
});
const matches = async (filter: Init<FlowFilter>) =>
  compileFilters([filter], [], await loadEngines([filter]))(flow);
const cel = (text: string) => ({ experimental: { cel_expression: [text] } });

Deno.test("patterns are RE2's, unanchored, on the path or the whole URL", async () => {
  assert.equal(await matches({ http_path: ["^/a/b$"] }), true);
  assert.equal(await matches({ http_path: ["c=1"] }), false);
  assert.equal(await matches({ http_url: ["c=1\\z"] }), true);
  assert.equal(await matches({ http_path: ["(?i)/A/"] }), true);
});

Deno.test("a pattern that would hang other engines ends at once; those that RE2 does not have are refused", async () => {
  const url = `http://h/${"a".repeat(5000)}!`;
  const filter = { http_path: ["^/(a+)+$"] };
  const slow = compileFilters([filter], [], await loadEngines([filter]));
  assert.equal(slow(Flow.create({ l7: { http: { url } } })), false);
  for (const pattern of ["(", "a(?=b)", "(a)\\1", "x{1,1001}", "a".repeat(2000)]) {
    await assert.rejects(matches({ dns_query: [pattern] }), { code: "FILTER_INVALID" }, pattern);
  }
});

Deno.test("expressions are CEL over the flow; what cannot be true or false is refused", async () => {
  assert.equal(await matches(cel("_flow.verdict == Verdict.DROPPED")), true);
  assert.equal(await matches(cel("_flow.l4.TCP.destination_port > 0u")), false);
  assert.equal(await matches(cel("_flow.source.labels.exists(l, l.startsWith('k8s:app='))")), true);
  assert.equal(await matches(cel("_flow.source.labels[9] == 'x'")), false, "an error is no match");
  for (
    const text of ["1 + 1", "_flow.nothing == 1", "_flow.verdict ==", "nobody == 1", "true".padEnd(5000)]
  ) {
    await assert.rejects(matches(cel(text)), ProblemError, text);
  }
});

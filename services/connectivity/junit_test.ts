import { match, ok } from "node:assert/strict";
import { junitText } from "./junit.ts";
import type { ScenarioResult } from "./scenario_run.ts";

Deno.test("junitText() counts, names and escapes", () => {
  const result = (
    name: string,
    state: ScenarioResult["state"],
    more: Partial<ScenarioResult> = {},
  ): ScenarioResult => ({
    ...{ name, says: "", state, seconds: 1.5, faults: [] },
    ...more,
  });
  const fault = { what: "a -> b", wrong: ["no answer: <timeout> & \u001b[31m"], look: ['weir explain "x"'] };
  const text = junitText([
    result("good", "passed"),
    result("bad", "failed", { faults: [fault] }),
    result("other", "skipped", { reason: "it needs 2 nodes" }),
  ], "lab demo");
  match(
    text,
    /<testsuite name="weir connectivity test: lab demo" errors="0" tests="3" failures="1" skipped="1" time="4.500">/,
  );
  match(text, /<testcase classname="weir.connectivity" name="good" time="1.500"\/>/);
  match(text, /<failure message="a -&gt; b: no answer: &lt;timeout&gt; &amp; \[31m">/);
  match(text, /<skipped message="it needs 2 nodes"\/>/);
  ok(!text.includes("\u001b"));
});

/** Results as JUnit's XML, for CI. @module */
import type { ScenarioResult } from "./scenario_run.ts";

/** The whole document. */
export function junitText(results: readonly ScenarioResult[], target: string): string {
  const count = (state: ScenarioResult["state"]) => results.filter((result) => result.state === state).length;
  const seconds = results.reduce((sum, result) => sum + result.seconds, 0).toFixed(3);
  const numbers = `tests="${results.length}" failures="${count("failed")}" skipped="${
    count("skipped")
  }" time="${seconds}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${numbers}>`,
    `  <testsuite name="${escaped(`weir connectivity test: ${target}`)}" errors="0" ${numbers}>`,
    ...results.flatMap((result) => testCase(result).map((line) => `    ${line}`)),
    "  </testsuite>",
    "</testsuites>",
  ].join("\n") + "\n";
}

function testCase({ name, state, seconds, faults, reason }: ScenarioResult): string[] {
  const head = `<testcase classname="weir.connectivity" name="${escaped(name)}" time="${seconds.toFixed(3)}"`;
  if (state === "skipped") return [`${head}><skipped message="${escaped(reason ?? "")}"/></testcase>`];
  if (faults.length === 0) return [`${head}/>`];
  const text = faults.map(({ what, wrong, look }) => [what, ...wrong, ...look].join("\n")).join("\n\n");
  if (state === "warned") return [`${head}><system-err>${escaped(text)}</system-err></testcase>`];
  const message = `${faults[0].what}: ${faults[0].wrong[0]}`;
  return [`${head}><failure message="${escaped(message)}">${escaped(text)}</failure></testcase>`];
}

/** Text in XML: what it may not hold at all is left out. */
function escaped(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "").replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

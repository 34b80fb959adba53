import assert from "node:assert/strict";
import { readReport, summary } from "./report.ts";

const spec = (State: string, LeafNodeText: string, more: Record<string, unknown> = {}) => ({
  LeafNodeType: "It",
  ContainerHierarchyTexts: ["[sig-network] Services"],
  LeafNodeText,
  State,
  RunTime: 1_500_000_000,
  ...more,
});

Deno.test("readReport() has specs that ran, and what failed outside specs", () => {
  const report = [{
    SpecReports: [
      spec("passed", "work"),
      spec("skipped", "were not chosen"),
      spec("skipped", "leave themselves out", {
        Failure: { Message: "Only supported for providers [gce]\n(not skeleton)" },
      }),
      spec("timedout", "take too long", { Failure: { Message: "A suite timeout occurred" } }),
      spec("panicked", "panic"),
      spec("pending", "are pending"),
      { ...spec("passed", ""), LeafNodeType: "SynchronizedBeforeSuite", ContainerHierarchyTexts: null },
      { ...spec("failed", ""), LeafNodeType: "SynchronizedAfterSuite", ContainerHierarchyTexts: null },
    ],
  }, { SpecReports: null }];
  const found = readReport(JSON.stringify(report)).map(({ name, state }) => [state, name]);
  assert.deepEqual(found, [
    ["passed", "[sig-network] Services work"],
    ["skipped", "[sig-network] Services leave themselves out"],
    ["failed", "[sig-network] Services take too long"],
    ["failed", "[sig-network] Services panic"],
    ["failed", "SynchronizedAfterSuite"],
  ]);
});

Deno.test("summary() ends with what failed, and the sum", () => {
  const text = summary([
    { name: "b", state: "failed", seconds: 61, message: "timed out\n\nafter 60 s" },
    { name: "a", state: "passed", seconds: 5.55, message: "" },
  ]);
  assert.equal(
    text,
    [
      "passed     5.5 s  a",
      "failed    61.0 s  b",
      "                    timed out",
      "                    after 60 s",
      "",
      "1 passed, 1 failed",
    ].join("\n"),
  );
});

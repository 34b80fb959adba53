import assert from "node:assert/strict";
import { readGoTests } from "./policy_api.ts";

Deno.test("readGoTests() has the tests of a suite, and which parts of them failed", () => {
  const said = [
    "=== RUN   TestConformance",
    "    suite.go:1: --- PASS: said by somebody (1s)",
    "--- FAIL: TestConformance (12.00s)",
    "    --- FAIL: TestConformance/CNPAdminTierGress (9.50s)",
    "        --- PASS: TestConformance/CNPAdminTierGress/Should_allow (1.00s)",
    "        --- FAIL: TestConformance/CNPAdminTierGress/Should_deny_10.0.0.0/8 (8.50s)",
    "    --- PASS: TestConformance/CNPAdminTierPriority (2.00s)",
    "    --- SKIP: TestConformance/CNPAdminTierNew (0.00s)",
    "FAIL",
  ].join("\n");
  assert.deepEqual(readGoTests(said), [
    { name: "CNPAdminTierGress", state: "failed", seconds: 9.5, message: "Should_deny_10.0.0.0/8\n" },
    { name: "CNPAdminTierPriority", state: "passed", seconds: 2, message: "" },
    { name: "CNPAdminTierNew", state: "skipped", seconds: 0, message: "" },
  ]);
});

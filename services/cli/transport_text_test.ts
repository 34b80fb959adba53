import { equal, match } from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { transportText } from "./transport_text.ts";

const problem = (code: string, detail: string, cause?: Error) =>
  new ProblemError(code, { status: 503, detail, cause });

Deno.test("transportText() names who did not answer and what to start", () => {
  const cases: [ProblemError, RegExp][] = [
    [
      problem("UNREACHABLE", "Cannot reach unix:/run/weir/host/policy-engine.sock"),
      /^No policy-engine answers at unix:\/run\/weir\/host\/policy-engine.sock\n {2}Start Weir on this host: weir agent/,
    ],
    [
      problem("UNREACHABLE", "Cannot reach unix:/run/weir/lab-node-2/datapath.sock"),
      /^No datapath answers at .*\n {2}Start it: weir lab up/,
    ],
    [
      problem(
        "DEADLINE_EXCEEDED",
        "Cannot reach unix:/run/weir/lab-node-2/endpoint-manager.sock: /v1/endpoints had no whole answer within 10000 ms",
      ),
      /^endpoint-manager of node-2 does not answer within 10 s at .*\n.*weir status/,
    ],
    [
      problem(
        "UNREACHABLE",
        "Cannot reach unix:/run/weir/host/datapath.sock",
        new Error("x", { cause: new Deno.errors.PermissionDenied("no") }),
      ),
      /permission denied\n {2}Run it as root/,
    ],
    [
      problem("UNREACHABLE", "Cannot reach https://192.0.2.1:7442", new Error("refused")),
      /^Cannot reach https:\/\/192.0.2.1:7442: refused$/,
    ],
  ];
  for (const [error, expected] of cases) match(transportText(error) ?? "", expected);
});

Deno.test("transportText() leaves what a service answered alone", () => {
  equal(transportText(problem("NOT_FOUND", "Cannot find it")), undefined);
  equal(transportText(new Error("x")), undefined);
});

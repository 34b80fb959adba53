/** Help of `weir connectivity`. @module */
import { KUBERNETES } from "./kubernetes.ts";
import type { Manual } from "./manual.ts";

/** Help of `weir connectivity`. */
export const CONNECTIVITY: Manual = {
  summary: "scenarios of real traffic that show whether everything works: pods, nodes, services, policies",
  verbs: {
    test: {
      says:
        "Makes pods, services and policies in namespaces weir-test-*, sends traffic, compares what comes of it and which flows are seen with what should be, and takes everything away again, after failures and Ctrl-C too.",
      flags: {
        "--test REGEXP...": "only scenarios whose names match one of these",
        "--list": "only print the scenarios, and why one would be skipped",
        "--flow-validation disabled|warning|strict":
          "what flows that are missing or should not be do (default strict)",
        "--concurrency N": "scenarios with policies side by side, 1 to 8 (default 3)",
        "--timeout TIME": "how long an answer may take: 500ms, 10s (default 10s)",
        "--expected-drop-reason REASON...":
          "drops that do not fail no-unexpected-drops, as weir bpf metrics names them",
        "--keep": "leave pods and services, to look at them; the next run removes them",
        "-o, --output table|json|junit": "form of the answer (default table)",
        ...KUBERNETES,
        "--image NAME":
          "on Kubernetes: image of the pods, with deno, ip, ping and sleep (default: that of Weir's own pods on nodes)",
      },
    },
  },
  notes:
    `A lab and a host need root, and ping (iputils-ping). On Kubernetes everything goes by the API server, whose user
may do everything in the namespaces of the test and run programs in Weir's pods; two nodes are used, and scenarios that
need a machine beyond them are skipped. The exit code is 0 when no scenario failed, else 1.
A scenario that fails says what weir explain makes of the very connection, and which flows to look at.
  weir connectivity test --test 'pod-to-.*' --test named-port
  weir connectivity test --kubernetes --context staging
  weir connectivity test -o junit >report.xml
`,
};

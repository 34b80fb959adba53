/**
 * Help of `weir lab`.
 *
 * @module
 */
import { FILES, type Manual, OUTPUT } from "./manual.ts";

/** Help of `weir lab`. */
export const LAB: Manual = {
  summary:
    "a cluster of network namespaces on this host: up, down, list, apply, delete, exec, logs, test, status",
  verbs: {
    up: {
      says: "Brings a lab up and waits until it is ready.",
      flags: {
        "--nodes N": "how many nodes (default 2)",
        ...FILES,
        "--routing tunnel|direct": "how packets go from node to node",
        "--agent [NODE:]OPTION[=VALUE]...": "options of the agents: --agent masquerade --agent node-1:zone=a",
      },
    },
    apply: { says: "As kubectl apply: pods, namespaces, labels, policies, services.", flags: FILES },
    delete: { words: "pod/[NAMESPACE/]NAME", says: "Removes a pod, or what manifests name.", flags: FILES },
    exec: {
      words: "[NAMESPACE/]POD -- COMMAND",
      says:
        "Runs a command in a pod's network namespace; passes on stdin, output and exit code. With --node on a node.",
      flags: {
        "--outside": "on a host beyond the nodes",
        "-i, --stdin": "as kubectl has it; stdin is always passed on",
        "-t, --tty": "as kubectl has it",
      },
    },
    logs: {
      words: "NODE|[NAMESPACE/]POD|SERVICE",
      says:
        "Shows what a node's services, a pod's commands, or one service on every node (with --node on one) have written. lab is the lab's daemon.",
      flags: {
        "--tail N": "only the last N lines of each, or all (default 200)",
        "-f, --follow": "go on as lines come",
      },
    },
    test: {
      words: "FILE|-",
      says: "Sends real traffic and compares it with a list of {from, to, port, expect: allow|deny}.",
      flags: OUTPUT,
    },
    status: { says: "Shows pods, nodes, what is not ready.", flags: OUTPUT },
    list: { says: "Lists labs and every process of them: role, node, pid.", flags: OUTPUT },
    down: { says: "Removes every trace of a lab." },
  },
  notes:
    `Of a Pod a lab takes metadata, nodeName (else it is spread), hostNetwork, serviceAccountName, container ports with their
names and host ports, command/args, which run in the pod's network namespace with the host's files, in the manifest's
directory, readinessProbe (that a port is listened on), terminationGracePeriodSeconds and lifecycle.preStop.sleep. The
image is not used. Services are in the pods' /etc/hosts as DNS would have them.

An expectation file:
  - { from: tiefighter, to: deathstar-1, port: 80/TCP, expect: allow }
  - { from: alliance/xwing, to: deathstar-1, port: 80, expect: deny }
  - { from: xwing, to: outside, port: ICMP, expect: allow, family: 6 }
`,
};

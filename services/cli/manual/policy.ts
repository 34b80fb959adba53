/**
 * Help of `weir policy`.
 *
 * @module
 */
import { EXPLAIN } from "./explain.ts";
import { FILES, type Manual, NAMESPACE, OUTPUT } from "./manual.ts";

const WAIT = {
  "--no-wait": "do not wait until it is in force at every node",
  "--timeout 30s": "how long to wait; then the nodes that are behind are named, exit code 1",
};

/** Help of `weir policy`. */
export const POLICY: Manual = {
  summary: "policies: apply, get, list, delete, explain, accept-database",
  verbs: {
    apply: {
      says:
        "Adds or replaces policies, and waits until they are in force at every node. All files are checked before the first one is applied.",
      flags: { ...FILES, ...NAMESPACE, "--dry-run": "check and say what would change", ...WAIT },
    },
    list: {
      says: "Lists policies, and at how many nodes each is in force.",
      flags: {
        ...NAMESPACE,
        "-A, --all-namespaces": "of every namespace, as without -n",
        "-w, --watch": "go on and show what changes",
        ...OUTPUT,
      },
    },
    get: {
      words: "NAME",
      says: "Prints the manifest of one policy; with -o the policy and where it is in force.",
      flags: { ...NAMESPACE, ...OUTPUT },
    },
    delete: {
      words: "NAME...",
      says: "Removes policies, by name or by manifest.",
      flags: { ...FILES, ...NAMESPACE, ...WAIT },
    },
    "accept-database": {
      says:
        "Takes a policy database that is older than what is in force at nodes (it was lost, or restored) for the newest: its policies come into force.",
      flags: { ...WAIT },
    },
    explain: EXPLAIN.verbs[""],
  },
  notes:
    `Policies are CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and NetworkPolicy, as they are written for Cilium and
Kubernetes.
`,
};

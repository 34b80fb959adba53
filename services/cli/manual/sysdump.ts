/** Help of `weir sysdump`. @module */
import { KUBERNETES } from "./kubernetes.ts";
import type { Manual } from "./manual.ts";

/** Help of `weir sysdump`. */
export const SYSDUMP: Manual = {
  summary:
    "one archive of everything that tells how Weir is, without secrets; and the same commands on it later",
  verbs: {
    "": {
      says:
        "Writes a .tar.gz: status, endpoints, identities, policies, services, maps, programs, the newest flows, metrics, logs, networks and kernels of all nodes; with --kubernetes of all nodes of a cluster, with its objects, events and pods' logs. Who does not answer is named in it, and costs its deadline.",
      flags: {
        "-o, --file FILE":
          "where to write it (default weir-sysdump-NAME-TIME.tar.gz here); never over a file that is there",
        "--flows N": "flows and events of each node, 1 to 4095 (default 2000)",
        "--timeout SECONDS": "how long one answer may take, 1 to 120 (default 10)",
        ...KUBERNETES,
      },
    },
    explain: {
      words: "FILE [COMMAND...]",
      says:
        "Reads one: without a command what it is of, what it lacks and weir status; else status, endpoint, identity, policy, explain, service, bpf, top or observe as if it were then and there.",
    },
  },
  notes: `  weir sysdump explain dump.tar.gz -- observe --verdict DROPPED --last 50
  weir sysdump explain dump.tar.gz -- explain --from shop/client --to shop/web -p 8080
Passwords in URLs, tokens, keys and values of variables that are secret by their names are replaced by REDACTED. Look through
it all the same before you give it away: names, addresses, labels and logs are in it.
`,
};

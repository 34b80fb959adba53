/**
 * Help of `weir service`.
 *
 * @module
 */
import { FILES, type Manual, NAMESPACE, OUTPUT } from "./manual.ts";

/** Help of `weir service`. */
export const SERVICE: Manual = {
  summary: "services and their backends: list, get, apply, delete, backend, pool",
  verbs: {
    list: {
      says: "Lists services.",
      flags: {
        ...NAMESPACE,
        "-A, --all-namespaces": "of every namespace, as without -n",
        "-w, --watch": "go on and show what changes",
        ...OUTPUT,
      },
    },
    get: {
      words: "NAME",
      says: "Shows frontends, backends with their states, and what is missing and why.",
      flags: { ...NAMESPACE, ...OUTPUT },
    },
    apply: {
      says: "Adds or replaces services, endpoint slices and address pools.",
      flags: { ...FILES, ...NAMESPACE, "--dry-run": "check and say what would change" },
    },
    delete: {
      words: "NAME...",
      says: "Removes services, by name or by manifest.",
      flags: { ...FILES, ...NAMESPACE },
    },
    backend: {
      words: "NAME ADDRESS",
      says: "Overrides the state or the weight of one backend.",
      flags: {
        "--state active|maintenance|quarantined": "whether new connections go there",
        "--weight 1-100": "its share of new connections",
        "--clear": "as its source says again",
        ...NAMESPACE,
      },
    },
    "pool list": { says: "Lists the addresses for services of type LoadBalancer.", flags: OUTPUT },
    "pool delete": { words: "NAME...", says: "Removes address pools." },
  },
  notes:
    `Applied are Service, EndpointSlice and Endpoints as they are written for Kubernetes, and address pools:
CiliumLoadBalancerIPPool, or

  apiVersion: weir.io/v1
  kind: AddressPool
  metadata: { name: blue }
  spec: { ranges: [192.0.2.0/28, 192.0.2.40-192.0.2.50], serviceSelector: { matchLabels: { color: blue } } }

Annotations: weir.io/lb-algorithm maglev|random, weir.io/maglev-table-size, weir.io/forwarding-mode dsr|snat,
weir.io/lb-ips, weir.io/lb-sharing-key, weir.io/source-ranges-policy allow|deny; of EndpointSlices weir.io/weight.
`,
};

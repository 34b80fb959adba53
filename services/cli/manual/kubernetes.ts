/** Help of what puts Weir on a Kubernetes cluster. @module */
import type { FlagTexts, Manual } from "./manual.ts";

/** Of commands that change or ask an installation. */
export const KUBERNETES: FlagTexts = {
  "-n, --namespace NAME": "where Weir is in the cluster, as --weir-namespace",
};
const BRING: FlagTexts = {
  ...KUBERNETES,
  "--set NAME=VALUE...":
    "a value, as of the Helm chart: image.tag=2, node.ipam=cluster-pool, config.routingMode=direct",
  "-f, --values FILE": "values in YAML, as of the Helm chart",
  "--dry-run": "print the objects, and change nothing",
  "--wait": "wait until Weir is ready on every node",
  "--timeout SECONDS": "how long it waits (default 300)",
};

/** Help of `weir install`. */
export const INSTALL: Manual = {
  summary: "install Weir on a Kubernetes cluster",
  verbs: {
    "": {
      says:
        "Applies the control plane (a Deployment) and the nodes' part (a DaemonSet). The images are those that scripts/images builds, at image.repository or on the nodes. Where there is no kube-proxy the control plane is told the API server's own address.",
      flags: BRING,
    },
  },
  notes: `Examples:
  weir install --wait
  weir install --set image.repository=REGISTRY/weir --set config.hubbleMetrics=flow
  weir install --dry-run | kubectl diff -f -
The same as a plain manifest and as a Helm chart: deploy/kubernetes, deploy/helm.
`,
};

/** Help of `weir upgrade`. */
export const UPGRADE: Manual = {
  summary: "bring an installed Weir to this command's version, or change its values",
  verbs: {
    "": {
      says:
        "What was chosen stays, but for image.tag. The control plane comes first and is waited for, then node by node; established connections go on. Where the control plane does not get ready, no node is touched, and exit code 1 says so.",
      flags: BRING,
    },
  },
};

/** Help of `weir config`. */
export const CONFIG: Manual = {
  summary: "options of Weir on a Kubernetes cluster: view, set",
  verbs: {
    view: { says: "Shows the options that differ from their defaults.", flags: KUBERNETES },
    set: {
      words: "NAME=VALUE...",
      says:
        "Sets options of weir agent (weir help agent), by their names in lowerCamelCase; NAME= takes one away. Agents start anew one after the other.",
      flags: { ...KUBERNETES, "--no-restart": "agents take it when they start next" },
    },
  },
  notes: "Examples:\n  weir config set logLevel=debug\n  weir config set routingMode=\n",
};

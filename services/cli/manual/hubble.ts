/** Help of `weir hubble`. @module */
import { KUBERNETES } from "./kubernetes.ts";
import { type Manual, OUTPUT } from "./manual.ts";

const WAIT = {
  "--no-wait": "do not wait until the control plane is ready again",
  "--timeout SECONDS": "how long it waits (default 300)",
};

/** Help of `weir hubble`. */
export const HUBBLE: Manual = {
  summary:
    "flows of a whole Kubernetes cluster: Hubble's API and the page, here, and turned on and off there",
  verbs: {
    status: {
      says:
        "Whether relay (the flows of all nodes), ui (the page) and history are on, and ready. Exit code 1 when one that is on is not.",
      flags: {
        "--wait": "wait until they are ready",
        "--timeout SECONDS": "how long --wait waits (default 300)",
        ...OUTPUT,
        ...KUBERNETES,
      },
    },
    "port-forward": {
      says:
        "Leads a port of loopback to Hubble's API of the cluster, through the API server, until Ctrl-C: for hubble, and whatever else speaks it.",
      flags: {
        "--listen ADDRESS": "ADDRESS[:4245] of loopback (default 127.0.0.1:4245); port 0: any",
        ...KUBERNETES,
      },
    },
    ui: {
      says:
        "Leads a port of loopback to the cluster's page, prints an address that lets one browser in within ten minutes, and opens it where there is a screen. The same as weir ui --kubernetes.",
      flags: {
        "--listen ADDRESS":
          "ADDRESS[:12000] of loopback (default 127.0.0.1:12000, another port where that is taken); port 0: any",
        "--no-open": "do not open a browser",
        ...KUBERNETES,
      },
    },
    enable: {
      says:
        "Turns relay, page and history on, and waits. They are on in a new installation. The control plane starts anew; traffic goes on.",
      flags: { "--no-ui": "but no page", "--no-history": "but no history", ...WAIT, ...KUBERNETES },
    },
    disable: {
      says:
        "Turns them off, and waits: no port of the control plane's node shows flows any more. What nodes have in memory stays there.",
      flags: { ...WAIT, ...KUBERNETES },
    },
  },
  notes:
    `The user of the kubeconfig must be let: list on pods, get on the ConfigMap weir-config, get and create on pods/portforward
(a WebSocket is asked for with GET); for ui and status get and create on pods/exec, for status get on the Deployment;
for enable and disable what weir config set needs. Weir gets no right by it.
  weir hubble port-forward &
  hubble observe -f --verdict DROPPED
Without hubble: weir observe --kubernetes -f
`,
};

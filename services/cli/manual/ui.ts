/** Help of `weir ui`. @module */
import type { Manual } from "./manual.ts";

/** Help of `weir ui`. */
export const UI: Manual = {
  summary: "the web page: who talks to whom, what is dropped and why, policies, health",
  verbs: {
    "": {
      says:
        "Serves the page until Ctrl-C, prints its address and opens a browser where there is a screen. It reads, and changes nothing.",
      flags: {
        "--listen ADDRESS":
          "ADDRESS[:12000] (default 127.0.0.1:12000); port 0: any; beyond loopback with TLS and a token or certificates",
        "--no-open": "do not open a browser",
        "--base-path PATH": "path below which the page is, as behind a proxy: /weir",
        "--host NAME...": "another name by which browsers reach it; others are refused",
        "--token-file FILE": "file with the token that must be shown (?token=...), at least 16 characters",
        "--tls-directory DIRECTORY":
          "directory with node.crt and node.key, and ca.crt for certificates of browsers",
      },
    },
  },
  notes:
    `On the machine of the control plane it shows the whole cluster, by the relay; on another node what that node sees.
`,
};

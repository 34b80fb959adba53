/** Help of `weir ui`. @module */
import type { Manual } from "./manual.ts";

/** Help of `weir ui`. */
export const UI: Manual = {
  summary: "the web page: who talks to whom, what is dropped and why, policies, health",
  verbs: {
    "": {
      says:
        "Prints an address of the page that lets one browser in within ten minutes, and opens it where there is a screen. It reads, and changes nothing.",
      flags: {
        "--listen ADDRESS":
          "lead this port of loopback to the page until Ctrl-C: ADDRESS[:12000] (default: the page's own port; in a lab 127.0.0.1:12000); port 0: any",
        "--no-open": "do not open a browser",
        "--base-path PATH":
          "serve a page of one's own until Ctrl-C, below this path, as behind a proxy: /weir",
        "--host NAME...": "the same, with another name by which browsers reach it; others are refused",
        "--token-file FILE":
          "the same, with the token of this file, at least 16 characters, which every browser must show (?token=...)",
        "--tls-directory DIRECTORY":
          "the same, beyond loopback too: directory with node.crt and node.key, and ca.crt for certificates of browsers",
      },
    },
  },
  notes:
    `The page is always there on a machine of the control plane, for the whole cluster (weir agent --ui-listen,
--ui-tls-directory, --ui-token-file, --ui-host, --ui-base-path, --no-ui). The address that this command prints lets a
browser in, for a day: who may open Weir's sockets (root and the group weir) may see flows. On another node, or with
options of its own, the command serves a page itself, which shows what its user may read.

From afar: ssh -L 12000:127.0.0.1:12000 HOST, weir ui there, and its address here.
`,
};

/**
 * How the web page is started: it reads from the sockets of the cluster and of each node of this host, and shows itself on a socket and
 * on a port of its own. Nothing that it may open changes anything.
 * @module
 */
import { UI_PORT } from "@weir/common";
import type { AgentConfig } from "./config.ts";
import { hubbleSocketOf, type Layout, pageSocketOf, readSocketOf, relaySocketOf, stateOf } from "./layout.ts";
import { pageDirectory } from "./page_files.ts";
import type { SpecParts } from "./service_spec.ts";
import { listenTarget, optional, present } from "./spec_words.ts";

/** The reader of YAML, for the text of policies, looks for the last two. */
const VARIABLES = ["WEIR_*", "LOG_STREAM", "LOG_TOKENS"];

/** Where it reads. */
export interface UiParts {
  readonly nodeName: string;
  readonly identityAllocator: string;
  readonly policyEngine: string;
  readonly loadBalancer: string;
}

/** The service, and whom it speaks to. */
export function uiSpec(
  config: AgentConfig,
  layout: Layout,
  { nodeName, identityAllocator, policyEngine, loadBalancer }: UiParts,
): { spec: SpecParts; peers: string[] } {
  const page = pageDirectory(layout), { uiTlsDirectory: tlsDirectory, uiTokenFile: tokenFile } = config;
  const flowHistory = config.noFlowHistory ? "" : `unix:${readSocketOf(layout, "flow-history")}`;
  const nodes = [[nodeName, layout.sockets], ...othersOf(config)];
  const files = [page, ...present(tokenFile)];
  return {
    spec: {
      name: "ui",
      role: "control-plane",
      entry: "services/ui/main.ts",
      privileged: false,
      hasState: true,
      moreSockets: [pageSocketOf(layout)],
      permissions: [
        `--allow-read=${files.join(",")}`,
        `--allow-env=${VARIABLES.join(",")}`,
        "--allow-sys=hostname",
      ],
      args: [
        "--cluster",
        config.cluster,
        ...optional("--lab", config.uiLab),
        ...[relaySocketOf(layout), hubbleSocketOf(layout)].flatMap((path) => ["--flows", path]),
        "--identity-allocator",
        identityAllocator,
        "--policy-engine",
        policyEngine,
        ...optional("--load-balancer", loadBalancer),
        ...optional("--flow-history", flowHistory),
        ...nodes.flatMap(([name, directory]) => ["--node", `${name}=${directory}`]),
        "--page",
        page,
        "--key-file",
        `${stateOf(layout, "ui")}/sessions.key`,
        "--page-socket",
        pageSocketOf(layout),
        ...optional("--page-listen", config.uiListen),
        ...optional("--page-tls-directory", tlsDirectory),
        ...optional("--page-token-file", tokenFile),
        ...(config.uiHost ?? []).flatMap((name) => ["--page-host", name]),
        ...optional("--page-base-path", config.uiBasePath),
      ],
    },
    peers: [
      identityAllocator,
      policyEngine,
      ...present(loadBalancer),
      ...present(flowHistory),
      ...[relaySocketOf(layout), hubbleSocketOf(layout), pageSocketOf(layout)].map((path) => `unix:${path}`),
      ...nodes.flatMap(([, directory]) =>
        ["agent", "datapath-read", "endpoint-manager-read"].map((name) => `unix:${directory}/${name}.sock`)
      ),
      ...present(listenTarget("ui-listen", config.uiListen, UI_PORT, tlsDirectory)),
    ],
  };
}

/** Nodes whose sockets are on this host too, as in a lab: name and directory. */
function othersOf({ hubbleRelayNode = [] }: AgentConfig): [string, string][] {
  return hubbleRelayNode.flatMap((text): [string, string][] => {
    const [, name, directory] = /^([^=]+)=(.*)\/hubble\.sock$/.exec(text) ?? [];
    return name === undefined ? [] : [[name, directory]];
  });
}

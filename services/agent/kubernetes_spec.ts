/** How the service that speaks to Kubernetes' API server is started. @module */
import { hostPort } from "@weir/common";
import { type AgentConfig, AgentConfigError } from "./config.ts";
import type { SpecParts } from "./service_spec.ts";
import { optional, present } from "./spec_words.ts";

/** Whom it speaks to on this machine. */
export interface KubernetesPeers {
  readonly identityAllocator: string;
  readonly policyEngine: string;
  readonly loadBalancer: string;
  /** The certificate authority's port, as the control plane; "" where this machine listens for no other. */
  readonly authority: string;
}

/** The service, and whom it speaks to. @throws {AgentConfigError} nothing says where the API server is */
export function kubernetesSpec(
  config: AgentConfig,
  { identityAllocator, policyEngine, loadBalancer, authority, nodeName }: KubernetesPeers & {
    nodeName: string;
  },
  env: (name: string) => string | undefined = (name) => Deno.env.get(name),
): { spec: SpecParts; peers: string[] } {
  const server = apiServerOf(config, env);
  const { kubernetesServiceAccountDirectory: directory } = config;
  // Debian's /var/run is a link to /run, and what is opened is asked for by both names.
  const directories = [
    directory,
    ...(directory.startsWith("/var/run/") ? [directory.slice("/var".length)] : []),
  ];
  return {
    spec: {
      name: "kubernetes",
      role: "control-plane",
      entry: "services/kubernetes/main.ts",
      privileged: false,
      hasReadSocket: true,
      permissions: [`--allow-read=${directories.join(",")}`, "--allow-env", "--allow-sys=hostname"],
      args: [
        "--cluster",
        config.cluster,
        "--api-server",
        server,
        "--service-account-directory",
        directory,
        "--namespace",
        config.kubernetesNamespace,
        "--node-service-account",
        config.kubernetesNodeServiceAccount,
        "--node",
        nodeName,
        ...(config.kubernetesCiliumEndpoints ? ["--cilium-endpoints"] : []),
        "--identity-allocator",
        identityAllocator,
        "--policy-engine",
        policyEngine,
        "--load-balancer",
        loadBalancer,
        ...optional("--authority", authority),
      ],
    },
    peers: [server, identityAllocator, policyEngine, loadBalancer, ...present(authority)],
  };
}

function apiServerOf(
  { kubernetesApiServer }: AgentConfig,
  env: (name: string) => string | undefined,
): string {
  if (kubernetesApiServer !== "") {
    const url = URL.parse(kubernetesApiServer);
    if (url !== null && /^https?:$/.test(url.protocol)) return kubernetesApiServer;
    throw new AgentConfigError(
      `Cannot find the API server at "${kubernetesApiServer}": expected --kubernetes-api-server https://HOST:PORT`,
    );
  }
  const host = env("KUBERNETES_SERVICE_HOST");
  if (host) return `https://${hostPort(host, Number(env("KUBERNETES_SERVICE_PORT") ?? 443))}`;
  throw new AgentConfigError(
    "Cannot find Kubernetes' API server: this is no pod, so say --kubernetes-api-server https://HOST:6443",
  );
}

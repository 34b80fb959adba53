/** The pods of scenarios as objects, and whether they are ready. Pure. @module */
import type { KubernetesObject } from "@weir/kubernetes/api";
import { type PodAt, type PodSpec, TargetError, type TargetNode } from "../target.ts";

/** What every object that is made bears: nothing else is deleted. */
export const MARK = { "app.kubernetes.io/managed-by": "weir-connectivity-test" };
/** Of pods that name none: those that Kubernetes makes come later than the namespace. */
const SERVICE_ACCOUNT = "weir-test";
/** The pod's container. */
export const CONTAINER = "main";

/** Where pods come from. */
export interface TestPodOptions {
  readonly image: string;
  readonly nodes: readonly TargetNode[];
  /** Words that run the program of traffic. */
  readonly prober: readonly string[];
}

/** The namespace: of pods that may be on the node's network. */
export function namespaceObject(name: string): KubernetesObject {
  return { metadata: { name, labels: { ...MARK, "pod-security.kubernetes.io/enforce": "privileged" } } };
}

/** The service accounts that pods need. */
export function accountObjects(namespace: string, pods: readonly PodSpec[]): KubernetesObject[] {
  const names = new Set(pods.map(({ serviceAccount = SERVICE_ACCOUNT }) => serviceAccount));
  return [...names].map((name) => ({ metadata: { name, namespace, labels: MARK } }));
}

/** A pod on its node; it has no rights at the API server. */
export function podObject(
  namespace: string,
  { name, node, labels, ports = [], serviceAccount = SERVICE_ACCOUNT, hostNetwork = false }: PodSpec,
  { image, nodes, prober }: TestPodOptions,
): KubernetesObject {
  const answersOn = ports.map(({ port, protocol }) => `${port}/${protocol}`);
  const tcp = ports.find(({ protocol }) => protocol === "TCP");
  const container = {
    name: CONTAINER,
    image,
    imagePullPolicy: "IfNotPresent",
    command: ports.length === 0 ? ["sleep", "infinity"] : [...prober, "serve", name, ...answersOn],
    ports: ports.map(({ port, protocol, name, hostPort }) => ({
      containerPort: port,
      protocol,
      name,
      hostPort,
    })),
    // For echo requests.
    securityContext: { capabilities: { add: ["NET_RAW"] } },
    ...(tcp === undefined ? {} : { readinessProbe: { tcpSocket: { port: tcp.port }, periodSeconds: 1 } }),
  };
  return {
    metadata: { name, namespace, labels: { ...labels, ...MARK } },
    spec: {
      // The scenarios say where each pod is, so no scheduler is asked.
      nodeName: nodes[Math.min(node, nodes.length - 1)].name,
      hostNetwork,
      serviceAccountName: serviceAccount,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 0,
      tolerations: [{ operator: "Exists" }],
      containers: [container],
    },
  };
}

const HOPELESS =
  /^(ErrImagePull|ImagePullBackOff|InvalidImageName|CreateContainer(Config)?Error|RunContainerError|CrashLoopBackOff)$/;

/** Why a pod is not ready; undefined: it is. @throws {TargetError} it will not be */
export function whyNotReady({ metadata, status }: KubernetesObject): string | undefined {
  const name = `${metadata.namespace}/${metadata.name}`;
  const waiting = status?.containerStatuses?.[0]?.state?.waiting;
  if (HOPELESS.test(waiting?.reason ?? "") || status?.phase === "Failed") {
    const why = waiting ?? { reason: status?.reason ?? "Failed", message: status?.message };
    throw new TargetError(`Cannot make pod ${name}: ${why.reason}: ${why.message ?? "no more is said"}`);
  }
  const conditions: { type: string; status: string }[] = status?.conditions ?? [];
  if (conditions.some(({ type, status }) => type === "Ready" && status === "True")) return undefined;
  return `${name} is ${waiting?.reason ?? status?.phase ?? "unknown"}`;
}

/** A pod that is ready. */
export function podAt({ metadata, spec, status }: KubernetesObject): PodAt {
  const addresses: string[] = (status?.podIPs ?? []).map(({ ip }: { ip: string }) => ip);
  return {
    namespace: metadata.namespace!,
    name: metadata.name,
    node: spec.nodeName,
    ...byFamily(addresses),
    hostNetwork: spec.hostNetwork === true,
  };
}

/** The first address of each family; "" where there is none. */
export function byFamily(addresses: readonly string[]): { ipv4: string; ipv6: string } {
  return {
    ipv4: addresses.find((one) => !one.includes(":")) ?? "",
    ipv6: addresses.find((one) => one.includes(":")) ?? "",
  };
}

/**
 * The objects of Weir on Kubernetes:
 *
 *     Deployment weir-control-plane   weir agent --control-plane --no-node --kubernetes   the only one with rights at the API server
 *     DaemonSet weir-node             weir agent --kubernetes-join                         capabilities, not privileged; no rights
 *     ConfigMap weir-config           options of both
 *
 * The ConfigMap weir-cluster, which lets nodes join, is the control plane's work.
 *
 * @module
 */
import { controlPlaneRules, namespaceRules } from "./rules.ts";
import { type Json, type Values, where } from "./values.ts";

/** An object of Kubernetes. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, Json>>;
  };
  readonly [more: string]: unknown;
}

/** Namespace unless another is chosen. */
export const NAMESPACE = "weir-system";
/** Ports of the control plane on its node: authority, allocator, policies, services, kubernetes. */
const PLANE_PORTS = [7440, 7441, 7442, 7443, 7444];
/** Where the agents answer the kubelet's probes, on loopback. */
const NODE_HEALTH_PORT = 7447, PLANE_HEALTH_PORT = 7448;
/** What starting services as other users needs. */
const AGENT_CAPABILITIES = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETPCAP",
  "SETUID",
];
/** What the datapath needs beside: programs and maps, devices and routes, namespaces of pods, sockets of processes. */
const DATAPATH_CAPABILITIES = ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_ADMIN", "SYS_PTRACE"];

/** What objects are made from beside the values. */
export interface ObjectOptions {
  readonly namespace: string;
  /** Content of weir.yaml. */
  readonly configText: string;
  /** Changes with the configuration: pods are made anew. */
  readonly configDigest: string;
}

/** The namespace, with its Pod Security labels: Helm makes it itself. */
export function namespaceObject(name: string): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name,
      labels: {
        "app.kubernetes.io/part-of": "weir",
        // Host networks, host paths and capabilities: nothing less lets them in.
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/audit": "privileged",
        "pod-security.kubernetes.io/warn": "privileged",
      },
    },
  };
}

/** Every object but the namespace, in the order in which they are applied. */
export function weirObjects(values: Values, options: ObjectOptions): KubernetesObject[] {
  const { namespace } = options;
  const named = (name: string, component: string) => ({
    name,
    namespace,
    labels: labelsOf(component),
  });
  const clusterWide = (name: string, component: string) => ({ name, labels: labelsOf(component) });
  const account = (name: string, component: string): KubernetesObject => ({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: named(name, component),
    automountServiceAccountToken: false,
  });
  const plane = "weir-control-plane";
  const subjects = [{ kind: "ServiceAccount", name: plane, namespace }];
  return [
    account(plane, "control-plane"),
    account("weir-node", "node"),
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: named("weir-config", "config"),
      data: { "weir.yaml": options.configText },
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: clusterWide(plane, "control-plane"),
      rules: controlPlaneRules(values["controlPlane.ciliumEndpoints"]),
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: clusterWide(plane, "control-plane"),
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: plane },
      subjects,
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata: named(plane, "control-plane"),
      rules: namespaceRules(),
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: named(plane, "control-plane"),
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: plane },
      subjects,
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: named(plane, "control-plane"),
      spec: { maxUnavailable: 1, selector: { matchLabels: labelsOf("control-plane") } },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: named(plane, "control-plane"),
      spec: {
        replicas: values["controlPlane.replicas"],
        // It has its node's ports: the next one begins when the last one is gone.
        strategy: { type: "Recreate" },
        selector: { matchLabels: labelsOf("control-plane") },
        template: planePod(values, options),
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: named("weir-node", "node"),
      spec: {
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "10%" } },
        selector: { matchLabels: labelsOf("node") },
        template: nodePod(values, options),
      },
    },
  ];
}

function planePod(values: Values, options: ObjectOptions): Json {
  return {
    metadata: podMetadata("control-plane", options),
    spec: {
      ...commonSpec(values, "controlPlane", "weir-control-plane", "system-cluster-critical"),
      affinity: {
        podAntiAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: [{
            topologyKey: "kubernetes.io/hostname",
            labelSelector: { matchLabels: labelsOf("control-plane") },
          }],
        },
      },
      containers: [{
        ...commonContainer(values, "weir-control-plane", PLANE_HEALTH_PORT),
        args: [
          "agent",
          "--control-plane",
          "--no-node",
          "--kubernetes",
          `--cluster=${values.cluster}`,
          // A name of its own: the node that it runs on is a member too.
          "--node-name=control-plane-$(NODE_NAME)",
          "--listen=$(HOST_IP)",
          `--health-listen=127.0.0.1:${PLANE_HEALTH_PORT}`,
          ...where(values["controlPlane.ciliumEndpoints"], ["--kubernetes-cilium-endpoints"]),
        ],
        env: [
          fromField("NODE_NAME", "spec.nodeName"),
          fromField("HOST_IP", "status.hostIP"),
          fromField("WEIR_KUBERNETES_NAMESPACE", "metadata.namespace"),
          { name: "WEIR_KUBERNETES_API_SERVER", value: values.apiServer },
          { name: "WEIR_INSTANCE", value: "control-plane" },
          {
            name: "WEIR_DATABASE_URL",
            valueFrom: {
              secretKeyRef: { name: values["controlPlane.databaseSecret"], key: "url", optional: true },
            },
          },
        ],
        ports: PLANE_PORTS.map((containerPort) => ({
          containerPort,
          hostPort: containerPort,
          protocol: "TCP",
        })),
        resources: values["controlPlane.resources"],
        securityContext: securityContext(AGENT_CAPABILITIES),
        volumeMounts: [
          ...commonMounts(),
          { name: "api-server", mountPath: "/var/run/secrets/kubernetes.io/serviceaccount", readOnly: true },
        ],
      }],
      volumes: [...commonVolumes(), { name: "api-server", projected: { sources: API_SERVER_ACCESS } }],
    },
  };
}

/** What a pod with a mounted token has, said by name: no account has its token mounted by itself. */
const API_SERVER_ACCESS: Json[] = [
  { serviceAccountToken: { path: "token", expirationSeconds: 3600 } },
  { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
  {
    downwardAPI: {
      items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }],
    },
  },
];

function nodePod(values: Values, options: ObjectOptions): Json {
  const [conf, binary] = [values["node.cniConfDirectory"], values["node.cniBinaryDirectory"]];
  const hostPath = (name: string, path: Json, type = "Directory") => ({ name, hostPath: { path, type } });
  return {
    metadata: podMetadata("node", options),
    spec: {
      ...commonSpec(values, "node", "weir-node", "system-node-critical"),
      containers: [{
        ...commonContainer(values, "weir-node", NODE_HEALTH_PORT),
        args: [
          "agent",
          "--kubernetes-join=/run/weir-join",
          `--ipam=${values["node.ipam"]}`,
          `--cni-conf-directory=${conf}`,
          `--cni-binary-directory=${binary}`,
          "--cgroup-root=/host/cgroup",
          "--sysctl-directory=/host/proc-sys-net",
          `--health-listen=127.0.0.1:${NODE_HEALTH_PORT}`,
        ],
        env: [fromField("WEIR_NODE_NAME", "spec.nodeName")],
        resources: values["node.resources"],
        securityContext: securityContext([...AGENT_CAPABILITIES, ...DATAPATH_CAPABILITIES].sort()),
        volumeMounts: [
          ...commonMounts(),
          { name: "join", mountPath: "/run/weir-join", readOnly: true },
          // Namespaces of pods that come later are mounted below it.
          { name: "netns", mountPath: "/run/netns", mountPropagation: "HostToContainer" },
          { name: "bpf", mountPath: "/sys/fs/bpf", mountPropagation: "HostToContainer" },
          { name: "cgroup", mountPath: "/host/cgroup", mountPropagation: "HostToContainer" },
          { name: "sysctl", mountPath: "/host/proc-sys-net" },
          { name: "cni-conf", mountPath: conf },
          { name: "cni-binary", mountPath: binary },
        ],
      }],
      volumes: [
        ...commonVolumes(),
        {
          name: "join",
          projected: {
            sources: [
              { serviceAccountToken: { audience: "weir", expirationSeconds: 3600, path: "token" } },
              { configMap: { name: "weir-cluster" } },
            ],
          },
        },
        hostPath("netns", "/run/netns", "DirectoryOrCreate"),
        hostPath("bpf", "/sys/fs/bpf"),
        hostPath("cgroup", "/sys/fs/cgroup"),
        hostPath("sysctl", "/proc/sys/net"),
        hostPath("cni-conf", conf, "DirectoryOrCreate"),
        hostPath("cni-binary", binary, "DirectoryOrCreate"),
      ],
    },
  };
}

function commonSpec(
  values: Values,
  group: string,
  name: string,
  priorityClassName: string,
): Record<string, Json> {
  return {
    serviceAccountName: name,
    automountServiceAccountToken: false,
    hostNetwork: true,
    // The cluster's name server is a pod: whoever gives pods their network does not wait for it.
    dnsPolicy: "Default",
    // The first process takes in what loses its parent.
    shareProcessNamespace: true,
    priorityClassName,
    terminationGracePeriodSeconds: 30,
    nodeSelector: values[`${group}.nodeSelector`],
    tolerations: values[`${group}.tolerations`],
    imagePullSecrets: values["image.pullSecrets"],
  };
}

function commonContainer(values: Values, name: string, port: number): Record<string, Json> {
  const probe = (path: string, more: Record<string, Json>): Json => ({
    httpGet: { host: "127.0.0.1", port, path },
    timeoutSeconds: 5,
    ...more,
  });
  return {
    name: "weir",
    image: `${values["image.repository"]}/${name}:${values["image.tag"]}`,
    imagePullPolicy: values["image.pullPolicy"],
    // Services that hang the agent starts anew itself; the kubelet looks after the agent.
    livenessProbe: probe("/livez", { initialDelaySeconds: 15, periodSeconds: 10, failureThreshold: 6 }),
    readinessProbe: probe("/readyz", { periodSeconds: 5 }),
    terminationMessagePolicy: "FallbackToLogsOnError",
  };
}

function securityContext(capabilities: readonly string[]): Json {
  return {
    privileged: false,
    // The image's user is root, who starts every service with less, as another user. Said here, tokens would be root's alone.
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"], add: [...capabilities] },
    seccompProfile: { type: "RuntimeDefault" },
    // Its default profile denies mounts and settings, whatever the capabilities.
    appArmorProfile: { type: "Unconfined" },
  };
}

function commonMounts(): Json[] {
  return [
    { name: "config", mountPath: "/etc/weir", readOnly: true },
    { name: "sockets", mountPath: "/run/weir" },
    { name: "state", mountPath: "/var/lib/weir" },
    { name: "cache", mountPath: "/var/cache" },
    { name: "temporary", mountPath: "/tmp" },
  ];
}

function commonVolumes(): Json[] {
  const shared = (name: string, path: string) => ({ name, hostPath: { path, type: "DirectoryOrCreate" } });
  return [
    { name: "config", configMap: { name: "weir-config" } },
    shared("sockets", "/run/weir"),
    shared("state", "/var/lib/weir"),
    { name: "cache", emptyDir: {} },
    { name: "temporary", emptyDir: {} },
  ];
}

function podMetadata(component: string, { configDigest }: ObjectOptions): Json {
  return { labels: labelsOf(component), annotations: { "weir.dev/config-digest": configDigest } };
}

function fromField(name: string, fieldPath: string): Json {
  return { name, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } } };
}

function labelsOf(component: string): Record<string, Json> {
  return { "app.kubernetes.io/name": "weir", "app.kubernetes.io/component": component };
}

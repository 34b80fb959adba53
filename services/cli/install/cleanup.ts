/**
 * What takes Weir off the nodes: a DaemonSet whose pods remove programs, maps, devices and routes, the CNI plugin and its
 * configuration, sockets and state, and are ready when all of it is gone.
 *
 * @module
 */
import type { KubernetesObject } from "./objects.ts";
import type { Json } from "./values.ts";

/** Name of the DaemonSet. */
export const CLEANUP = "weir-uninstall";

/** Makes it from the DaemonSet of the nodes: the same image, rights and nodes, other work. */
export function cleanupObject(nodes: KubernetesObject): KubernetesObject {
  const spec = nodes.spec as { template: { spec: Record<string, Json> } };
  const pod = structuredClone(spec.template.spec);
  const [container] = pod.containers as Record<string, Json>[];
  const mounts = container.volumeMounts as { name: string }[];
  const script = [
    // With the CNI plugin and its configuration, which its state names.
    "weir uninstall --instance host --yes",
    // Whoever mounted something there keeps the directory, empty.
    "shopt -s dotglob nullglob",
    "rm -rf /host/run/weir/* /host/var-lib/weir/*",
    "rmdir /host/run/weir /host/var-lib/weir 2>/dev/null || true",
    "touch /tmp/done",
    "exec sleep infinity",
  ];
  const labels = { "app.kubernetes.io/name": "weir", "app.kubernetes.io/component": "uninstall" };
  const parents: [string, string, string][] = [["run", "/run", "/host/run"], [
    "lib",
    "/var/lib",
    "/host/var-lib",
  ]];
  const gone = ["sockets", "state", "join", "config"];
  const { livenessProbe: _live, args: _args, ...rest } = container;
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: CLEANUP, namespace: nodes.metadata.namespace, labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          ...pod,
          terminationGracePeriodSeconds: 1,
          containers: [{
            ...rest,
            command: ["/bin/bash", "-ec", script.join("\n")],
            env: [
              { name: "WEIR_RUN_DIR", value: "/host/run/weir" },
              { name: "WEIR_STATE_DIR", value: "/host/var-lib/weir" },
            ],
            readinessProbe: { exec: { command: ["test", "-e", "/tmp/done"] }, periodSeconds: 1 },
            volumeMounts: [
              ...mounts.filter(({ name }) => !gone.includes(name)),
              ...parents.map(([name, , mountPath]) => ({ name: `host-${name}`, mountPath })),
            ],
          }],
          volumes: [
            ...(pod.volumes as { name: string }[]).filter(({ name }) => !gone.includes(name)),
            ...parents.map(([name, path]) => ({
              name: `host-${name}`,
              hostPath: { path, type: "Directory" },
            })),
          ],
        },
      },
    },
  } as KubernetesObject;
}

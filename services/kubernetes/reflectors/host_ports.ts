/**
 * Pods with host ports into the load balancer, which serves them on their nodes, as it does those of a lab. Nodes keep what they
 * have while nobody of the control plane answers.
 * @module
 */
import { IpAddress } from "@weir/common";
import type { WeirClient } from "@weir/client";
import { Pod } from "@weir/proto/loadbalancer";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { RESOURCES } from "../api/resource.ts";
import { digestOf, type HeldOptions, HeldTarget } from "../held_objects.ts";
import type { WantedObject } from "../mirror.ts";
import type { PodFacts } from "./pods.ts";

const { kind } = RESOURCES.Pod;

/** What is said of a pod, in an order that is the same on both sides. */
type Said = Pick<Pod, "addresses" | "node" | "ports" | "state"> & { labels: [string, string][] };

/** The pod as the load balancer gets it; undefined: it has no host port, no address yet, or has ended. */
export function hostPortPod(key: string, pod: PodFacts | undefined): WantedObject | undefined {
  if (pod === undefined || pod.hostPorts.length === 0 || pod.addresses.length === 0) return undefined;
  if (pod.phase === "Succeeded" || pod.phase === "Failed") return undefined;
  const nameOf = (port: number, protocol: string) =>
    pod.namedPorts.find((one) => one.port === port && one.protocol === protocol)?.name ?? "";
  const hostPorts = pod.hostPorts.map(({ hostPort, hostIp, containerPort, protocol }) => ({
    name: nameOf(containerPort, protocol),
    port: containerPort,
    protocol,
    hostPort,
    hostIp,
  }));
  // Services that select it mean its ports by their names.
  const others = pod.namedPorts.filter(({ name }) => !hostPorts.some((one) => one.name === name))
    .map((port) => ({ ...port, hostPort: 0, hostIp: "" }));
  const text = textOf({
    labels: Object.entries(pod.labels),
    addresses: pod.addresses.map((address) => IpAddress.tryParse(address)?.text ?? address),
    node: pod.node,
    ports: [...hostPorts, ...others],
    state: pod.deleting ? "TERMINATING" : "ACTIVE",
  });
  return { kind, key, uid: pod.uid, generation: 0, text, digest: digestOf(text) };
}

function textOf({ labels, addresses, node, ports, state }: Said): string {
  return JSON.stringify({
    labels: labels.toSorted(([a], [b]) => a < b ? -1 : 1),
    addresses,
    node,
    ports: ports.map((
      { name, port, protocol, hostPort, hostIp },
    ) => [name, port, protocol, hostPort, hostIp]),
    state,
  });
}

function podOf(name: string, text: string): Pod {
  const { labels, ports, ...rest } = JSON.parse(text);
  return Pod.create({
    ...rest,
    name,
    namespace: name.slice(0, name.indexOf("/")),
    labels: Object.fromEntries(labels),
    ports: ports.map((
      [name, port, protocol, hostPort, hostIp]: [string, number, string, number, string],
    ) => ({
      name,
      port,
      protocol,
      hostPort,
      hostIp,
    })),
    file: KUBERNETES_FILE_MARK,
  });
}

/** The load balancer's pods as a mirror's target. Names are "NAMESPACE/NAME". */
export class HostPortTarget extends HeldTarget<Pod> {
  readonly name = "load-balancer-pods";
  // Each has a request of its own.
  readonly batchMax = 1;

  constructor(client: WeirClient, options: HeldOptions) {
    super(client, {
      collection: "pods",
      message: Pod,
      heldOf: (pod) => ({
        kind: pod.file === KUBERNETES_FILE_MARK ? kind : "",
        digest: digestOf(textOf({ ...pod, labels: Object.entries(pod.labels) })),
      }),
    }, options);
  }

  async put(objects: readonly (WantedObject & { name: string })[]): Promise<void> {
    const pods = this.client.collection("pods", Pod);
    for (const { name, text } of objects) await pods.put(name, podOf(name, text));
  }

  async delete(objects: readonly { name: string }[]): Promise<void> {
    const pods = this.client.collection("pods", Pod);
    for (const { name } of objects) await pods.delete(name);
  }
}

/** One host that runs `weir agent` as a target: pods are network namespaces that are made here, as its endpoints. @module */
import { setTimeout as delay } from "node:timers/promises";
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LABEL_SERVICE_ACCOUNT,
} from "@weir/common/labels";
import { Endpoint } from "@weir/proto/endpoint";
import { Node } from "@weir/proto/identity";
import { DirectChanges } from "./cluster.ts";
import { PlaceProcess, serving } from "./place_process.ts";
import {
  type ClusterAccess,
  type Place,
  type PlaceProgram,
  type PodAt,
  type PodSpec,
  type Target,
  TargetError,
  type TargetNode,
} from "./target.ts";

/** How long endpoints may take until they are ready, or gone. */
const READY_MS_MAX = 60_000, POLL_MS = 50;
/** Name of the cluster where nobody gave it another. */
const CLUSTER = "default";

/** What is needed to speak to a host's own Weir. */
export interface HostTargetOptions {
  /** Name of this host among the cluster's nodes; undefined: the host's name, or the only node there is. */
  readonly node?: string;
  readonly access: ClusterAccess;
}

/** The host that this program runs on. */
export class HostTarget implements Target {
  readonly title: string;
  readonly outside = undefined;
  readonly nodes: readonly TargetNode[];
  readonly changes: DirectChanges;
  readonly #servers = new Map<string, PlaceProgram>();

  private constructor(readonly access: ClusterAccess, node: TargetNode) {
    this.changes = new DirectChanges(access);
    this.title = `host ${node.name}`;
    this.nodes = [node];
  }

  /** @throws {ProblemError} no Weir answers @throws {TargetError} it is not known which node this is */
  static async open({ node, access }: HostTargetOptions): Promise<HostTarget> {
    const client = access.client("identity-allocator");
    try {
      const { items } = await client.collection("nodes", Node).list();
      const name = node ?? Deno.hostname();
      const own = items.find((one) => one.name === name) ?? (items.length === 1 ? items[0] : undefined);
      if (own !== undefined) return new HostTarget(access, own);
      const names = items.map((one) => one.name).join(", ");
      throw new TargetError(
        `Cannot tell which node this host is: ${name} is none of ${names}; say it with --node NAME`,
      );
    } finally {
      client.close();
    }
  }

  async makePods(namespace: string, pods: readonly PodSpec[]): Promise<PodAt[]> {
    const client = this.access.client("endpoint-manager", this.nodes[0].name);
    const [{ name: node, ipv4, ipv6 }] = this.nodes;
    try {
      const endpoints = client.collection("endpoints", Endpoint);
      for (const pod of pods.filter(({ hostNetwork }) => !hostNetwork)) {
        await ip("netns", "add", netnsOf(namespace, pod.name));
        await ip("-n", netnsOf(namespace, pod.name), "link", "set", "lo", "up");
        const endpoint = endpointOf(namespace, pod);
        await endpoints.put(endpoint.name, endpoint);
      }
      for (const pod of pods.filter(({ ports }) => ports !== undefined)) {
        const at = { namespace, hostNetwork: false, ...pod, node, ipv4: "", ipv6: "" };
        const ports = pod.ports!.map(({ port, protocol }) => `${port}/${protocol}`);
        const server = await serving(this.start({ pod: at }, "serve", pod.name, ...ports), ports);
        this.#servers.set(`${namespace}/${pod.name}`, server);
      }
      const ready = await waitUntil(async () => {
        const { items } = await endpoints.list();
        const own = new Map(
          items.filter((one) => one.namespace === namespace).map((one) => [one.podName, one]),
        );
        const late = pods.find(({ name, hostNetwork }) =>
          !hostNetwork && own.get(name)?.status?.state !== "READY"
        );
        return late === undefined ? own : `${namespace}/${late.name} is ${own.get(late.name)?.status?.state}`;
      });
      return pods.map(({ name, hostNetwork = false }) => {
        const status = ready.get(name)?.status;
        const own = hostNetwork ? { ipv4, ipv6 } : { ipv4: status?.ipv4 ?? "", ipv6: status?.ipv6 ?? "" };
        return { namespace, name, node, ...own, hostNetwork };
      });
    } finally {
      client.close();
    }
  }

  async removePods(namespacePrefix: string): Promise<void> {
    for (const [name, server] of this.#servers) {
      if (!name.startsWith(namespacePrefix)) continue;
      await server.stop();
      this.#servers.delete(name);
    }
    const client = this.access.client("endpoint-manager", this.nodes[0].name);
    try {
      const endpoints = client.collection("endpoints", Endpoint);
      const own = async () =>
        (await endpoints.list()).items.filter(({ name }) => name.startsWith(namespacePrefix));
      for (const { name } of await own()) await endpoints.delete(name);
      await waitUntil(async () => {
        const left = await own();
        return left.length === 0 ? true : `${left[0].name} is still there`;
      });
    } finally {
      client.close();
    }
    for (const name of await netnsNames()) {
      if (name.startsWith(namespacePrefix)) await ip("netns", "delete", name);
    }
  }

  /** There is no outside. */
  routeOutside(): Promise<void> {
    return Promise.resolve();
  }

  start(place: Place, ...words: string[]): PlaceProgram {
    // The host's own network is the one of this program.
    const isHost = place === "outside" || "node" in place || place.pod.hostNetwork;
    const enter = isHost
      ? ["env"]
      : ["nsenter", `--net=/run/netns/${netnsOf(place.pod.namespace, place.pod.name)}`, "--"];
    return new PlaceProcess(enter, words);
  }

  /** Where the agent's words go is the host's business. */
  logsSince(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
}

const netnsOf = (namespace: string, pod: string) => `${namespace}.${pod}`;

/** The endpoint of a pod, with the labels that Kubernetes would give it. */
function endpointOf(namespace: string, { name, labels, serviceAccount = "default", ports = [] }: PodSpec) {
  const all = {
    ...labels,
    [LABEL_NAMESPACE]: namespace,
    [LABEL_CLUSTER]: CLUSTER,
    [LABEL_SERVICE_ACCOUNT]: serviceAccount,
    [`${LABEL_NAMESPACE_META_PREFIX}kubernetes.io/metadata.name`]: namespace,
  };
  return {
    name: `${namespace}/${name}`,
    namespace,
    podName: name,
    netns: `/run/netns/${netnsOf(namespace, name)}`,
    labels: Object.entries(all).map(([key, value]) => `k8s:${key}=${value}`),
    namedPorts: ports.filter((port) => port.name !== undefined)
      .map(({ name, port, protocol }) => ({ name, port, protocol })),
  };
}

/** @param look answers what is there, or as a text what is not yet @throws {TargetError} it is not in time */
async function waitUntil<T>(look: () => Promise<T | string>): Promise<T> {
  const endMs = performance.now() + READY_MS_MAX;
  while (true) {
    const found = await look();
    if (typeof found !== "string") return found;
    if (performance.now() > endMs) throw new TargetError(`${found} after ${READY_MS_MAX / 1000} s`);
    await delay(POLL_MS);
  }
}

async function ip(...args: string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command("ip", { args, stdin: "null" }).output();
  if (code !== 0) throw new TargetError(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}

async function netnsNames(): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir("/run/netns"))).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

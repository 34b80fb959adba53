/** A cluster: made, found again, told apart from what is left of one, and taken down. @module */
import { kubeconfig, makeCredentials } from "./certificates.ts";
import { Cgroups } from "./cgroups.ts";
import {
  keepStore,
  restoreStore,
  startApiServer,
  startControllers,
  startControlPlane,
  stopApiServer,
} from "./control_plane.ts";
import { type Cache, exists, SOURCES } from "./layout.ts";
import { Namespaces, type Started } from "./namespaces.ts";
import { bootNode, haltNode, makeNode, startKubelet } from "./node.ts";
import { type ClusterOptions, nodeName } from "./options.ts";
import { ok, waitFor } from "./process.ts";
import { podCidrs, routeToPods } from "./pod_routes.ts";
import { startReferenceCni } from "./reference_cni.ts";
import { IMAGES } from "../parts/images.ts";

/** There is no such cluster, or one is in the way. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";
}

/** What is written down of a cluster that runs. */
interface Running {
  options: ClusterOptions;
  /** Number 1 of the cluster, as this machine sees it. */
  pid: number;
  /** Number 1 of each node, as the cluster sees it; node-1 first. */
  nodes: number[];
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;

/** Told of each step as it begins. */
export type Say = (text: string) => void;

/** A cluster that runs. Disposing of it takes it down. */
export class Cluster implements AsyncDisposable {
  private constructor(
    readonly options: ClusterOptions,
    /** Its folder: kubeconfigs, logs, the nodes' folders. */
    readonly directory: string,
    readonly controlPlane: Namespaces,
    /** By index, which counts from 1. */
    readonly nodes: Map<number, Namespaces>,
    readonly cache: Cache,
  ) {}

  /**
   * Makes a cluster and waits until its nodes are registered, and ready where it has a network.
   * @throws where a cluster of this name runs, or anything fails: what was made by then stays until `down`
   */
  static async up(options: ClusterOptions, cache: Cache, say: Say): Promise<Cluster> {
    const { name } = options;
    if (!NAME.test(name)) {
      throw new ClusterError(`A cluster's name is letters, digits and dashes, not ${name}`);
    }
    const directory = cache.cluster(name), cgroups = new Cgroups(name);
    if (directory.startsWith("/run/")) {
      throw new ClusterError("The cache cannot be below /run: nodes have their own");
    }
    if (cgroups.isPopulated) {
      throw new ClusterError(`A cluster ${name} runs: take it down first, or choose --name`);
    }
    await removeCluster(name, cache);

    await Deno.mkdir(`${directory}/logs`, { recursive: true });
    await makeCredentials(directory, options);
    cgroups.makeControlPlane();
    const controlPlane = await Namespaces.makeCluster(directory, cgroups.controlPlane(), cache);
    const running: Running = { options, pid: controlPlane.pid, nodes: [] };
    await writeRunning(directory, running);

    say("control plane: etcd, API server, controller manager, scheduler");
    const nodes = new Map<number, Namespaces>();
    const indexes = Array.from({ length: options.nodes }, (_, i) => i + 1);
    const makeNodes = async () => {
      for (const index of indexes) {
        nodes.set(
          index,
          await makeNode(index, { cluster: controlPlane, cgroups, directory, options, cache }),
        );
        running.nodes.push(nodes.get(index)!.pid);
      }
      await writeRunning(directory, running);
    };
    // The API server takes longest to start; nodes are made meanwhile.
    await both(startControlPlane(controlPlane, directory, options), makeNodes());

    const cluster = new Cluster(options, directory, controlPlane, nodes, cache);
    say(`${options.nodes} nodes: containerd, kubelet`);
    const kubelets = new Map<number, Started>();
    for (const [index, node] of nodes) kubelets.set(index, await startKubelet(index, node, options));
    for (const [index, node] of nodes) {
      await waitFor(
        `${nodeName(index)} to register`,
        async () => await cluster.nodesWhere(nodeName(index)) > 0,
        {
          inVain: () => node.inVain(kubelets.get(index)!),
        },
      );
    }
    for (const index of nodes.keys()) {
      const subnets = await podCidrs(controlPlane, directory, index);
      await routeToPods([controlPlane], index, subnets, options);
    }
    if (options.cni === "reference") {
      say("network: the reference CNI plugins, kube-proxy");
      await startReferenceCni(controlPlane, nodes, directory, options);
    }
    say("DNS");
    const manifest = await Deno.readTextFile(`${SOURCES}/cluster/coredns.yaml`);
    await cluster.kubectl(["apply", "-f", "-"], manifest.replace("image: IMAGE", `image: ${IMAGES.coredns}`));
    if (options.cni === "reference") {
      await waitFor(
        "the nodes to be ready",
        async () => await cluster.nodesWhere(" Ready ") === options.nodes,
      );
    }
    return cluster;
  }

  /** A cluster that runs. */
  static open(name: string, cache: Cache): Cluster {
    const directory = cache.cluster(name), file = `${directory}/cluster.json`;
    const cgroups = new Cgroups(name);
    if (!exists(file) || !cgroups.isPopulated) {
      throw new ClusterError(
        `No cluster ${name} runs: scripts/kubernetes-cluster up${name === "weir" ? "" : ` --name ${name}`}`,
      );
    }
    const { options, pid, nodes } = JSON.parse(Deno.readTextFileSync(file)) as Running;
    const controlPlane = Namespaces.ofCluster(pid, directory, cgroups.controlPlane(), cache);
    const all = nodes.map((pid, i) =>
      [
        i + 1,
        Namespaces.ofNode(pid, `${directory}/${nodeName(i + 1)}`, controlPlane, cgroups.nodeSystem(i + 1)),
      ] as const
    );
    return new Cluster(options, directory, controlPlane, new Map(all), cache);
  }

  /** Words that run a command of this machine in the cluster's network; its files stay this machine's. */
  inNetwork(words: readonly string[]): string[] {
    const env = ["env", `PATH=${this.controlPlane.path}`, `KUBECONFIG=${this.kubeconfig}`];
    return ["nsenter", "-t", String(this.controlPlane.pid), "--net", "--", ...env, ...words];
  }

  /** The administrator's. */
  get kubeconfig(): string {
    return kubeconfig(this.directory, "admin");
  }

  /** What kubectl answers. It has 120 s, or somewhat longer than it is told to wait itself: `--timeout=300s`. */
  kubectl(args: readonly string[], stdin?: string): Promise<string> {
    const seconds = 120 + Number(/ --timeout=(\d+)s /.exec(` ${args.join(" ")} `)?.[1] ?? 0);
    return ok(this.inNetwork(["kubectl", ...args]), { stdin, seconds });
  }

  node(index: number): Namespaces {
    const node = this.nodes.get(index);
    if (!node) throw new ClusterError(`No node ${index}: there are 1 to ${this.nodes.size}`);
    return node;
  }

  /** Ends the API server and etcd. Kubelets, pods and what runs on nodes goes on. */
  async stopApiServer(): Promise<void> {
    await stopApiServer(this.controlPlane);
  }

  /** Starts both again. */
  async startApiServer(): Promise<void> {
    await startApiServer(this.controlPlane, this.directory, this.options);
  }

  /** Keeps a copy of all that the API server has, with a short break. */
  async keepStore(): Promise<void> {
    await this.stopApiServer();
    await keepStore(this.controlPlane, this.directory);
    await this.startApiServer();
  }

  /** Puts the API server back to the copy that was kept, as the restoring of a backup does. */
  async restoreStore(): Promise<void> {
    await this.stopApiServer();
    await restoreStore(this.controlPlane, this.directory);
    await this.startApiServer();
    // As Kubernetes asks for after a restore: they would go on by what they know of the store's later state.
    await startControllers(this.controlPlane, this.directory, this.options);
    for (const [index, node] of this.nodes) {
      await node.end("kubelet", "KILL");
      await startKubelet(index, node, this.options);
    }
  }

  /** Ends a node as the loss of its power does, and starts it again from its disk: all its namespaces are new. */
  async reboot(index: number): Promise<void> {
    this.node(index);
    const { options, directory, cache, controlPlane } = this, cgroups = new Cgroups(options.name);
    const surroundings = { cluster: controlPlane, cgroups, directory, options, cache };
    await haltNode(index, surroundings);
    const node = await bootNode(index, surroundings);
    this.nodes.set(index, node);
    const nodes = [...this.nodes].sort(([a], [b]) => a - b).map(([, { pid }]) => pid);
    await writeRunning(directory, { options, pid: controlPlane.pid, nodes });
    await startKubelet(index, node, options);
  }

  /** Loads archives on every node, one archive after another, on all nodes at once. */
  async importImages(archives: readonly string[]): Promise<void> {
    for (const archive of archives) {
      // Its standard input is opened out here: paths inside a node are the node's.
      const load = (node: Namespaces) =>
        ok([
          "sh",
          "-c",
          'exec <"$0"; exec "$@"',
          archive,
          ...node.words(["ctr", "-n", "k8s.io", "images", "import", "-"]),
        ], {
          seconds: 600,
        });
      await Promise.all([...this.nodes.values()].map(load));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeCluster(this.options.name, this.cache);
  }

  /** How many nodes there are whose line holds `words`. */
  async nodesWhere(words: string): Promise<number> {
    const lines = (await this.kubectl(["get", "nodes", "--no-headers"])).split("\n");
    return lines.filter((line) => line.startsWith(nodeName(0).slice(0, -1)) && line.includes(words)).length;
  }
}

/** Waits for both, and only then fails with the first that failed: nothing goes on behind an error. */
async function both(...work: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) {
    if (result.status === "rejected") throw result.reason;
  }
}

async function writeRunning(directory: string, running: Running): Promise<void> {
  await Deno.writeTextFile(`${directory}/cluster.json`, JSON.stringify(running, undefined, 2));
}

/**
 * Takes a cluster down, also one that came up halfway: its processes, and with the last of them its mounts and networks; its
 * control groups; its folder. Repeatable.
 */
export async function removeCluster(name: string, cache: Cache): Promise<void> {
  await new Cgroups(name).remove();
  await ok(["rm", "-rf", "--one-file-system", cache.cluster(name)]);
  try {
    await Deno.remove(`${cache.directory}/clusters`);
  } catch { /* other clusters have theirs in it, or there was none */ }
}

/** Names of clusters that run. */
export function clusters(cache: Cache): string[] {
  const directory = `${cache.directory}/clusters`;
  return exists(directory) ? [...Deno.readDirSync(directory)].map(({ name }) => name).sort() : [];
}

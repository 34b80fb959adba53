/** Weir on a cluster of a test: images, commands, and whether everything agrees. @module */
import assert from "node:assert/strict";
import { buildImages } from "../../../scripts/packaging/images.ts";
import { WEIR_VERSION } from "../../../services/common/version.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { ok, type Ran, run, waitFor } from "../cluster/process.ts";
import { cache } from "../test_cluster.ts";

const WEIR = new URL("../../../scripts/weir", import.meta.url).pathname;
const COMMAND_SECONDS_MAX = 600;
/** Another name of the same images: what an upgrade goes to. */
export const OTHER_TAG = `${WEIR_VERSION}-other`;

interface Listed<T> {
  items: T[];
}
interface PodObject {
  metadata: { name: string; namespace: string; uid: string };
  spec: { nodeName: string; hostNetwork?: boolean };
  status: { phase: string; podIP?: string };
}
interface EndpointObject {
  name: string;
  status?: { state: string; identity: number; ipv4: string };
}
interface PolicyObject {
  name: string;
  error: string;
  inForce: { nodes: number; inForce: number } | null;
}
interface SliceObject {
  namespace: string;
  endpoints: { name: string; id: number; networking: { addressing: { ipv4?: string }[] } }[];
}

/** See the module. */
export class WeirCluster {
  constructor(readonly cluster: Cluster) {}

  /** Builds the images of this checkout and loads them on every node, also under another name where an upgrade is to follow. */
  async importImages({ other = false } = {}): Promise<void> {
    const built = await buildImages({
      output: `${cache.directory}/weir`,
      repository: "localhost",
      tag: WEIR_VERSION,
      compress: false,
    });
    await this.cluster.importImages(built.map(({ path }) => path));
    if (!other) return;
    for (const node of this.cluster.nodes.values()) {
      for (const name of ["weir-node", "weir-control-plane"].map((name) => `localhost/${name}`)) {
        const tags = [`${name}:${WEIR_VERSION}`, `${name}:${OTHER_TAG}`];
        await ok(node.words(["ctr", "-n", "k8s.io", "images", "tag", ...tags]));
      }
    }
  }

  /** Runs `weir` with the administrator's kubeconfig; every exit code is an answer. */
  run(...words: string[]): Promise<Ran> {
    return run(this.cluster.inNetwork(["timeout", `${COMMAND_SECONDS_MAX}`, WEIR, ...words]), {
      seconds: COMMAND_SECONDS_MAX + 10,
      env: { KUBECONFIG: this.cluster.kubeconfig },
    });
  }

  /** The same; answers what it said. @throws where it does not end with 0 */
  async weir(...words: string[]): Promise<string> {
    const { code, out, err } = await this.run(...words);
    assert.equal(code, 0, `weir ${words.join(" ")}\n${out}${err}`);
    return out;
  }

  /** Runs helm, Helm's real one. @throws where it does not end with 0 */
  helm(...words: string[]): Promise<string> {
    const home = `${this.cluster.directory}/helm`;
    const env = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map((name) => `${name}=${home}`);
    return ok(this.cluster.inNetwork(["env", ...env, `${cache.bin}/helm`, ...words]), {
      seconds: COMMAND_SECONDS_MAX,
    });
  }

  /** What `weir` says in the pod of a component: `node` on node `index`, or the control plane. */
  async inside(component: "node" | "control-plane", index: number | undefined, ...words: string[]) {
    const selector = `app.kubernetes.io/name=weir,app.kubernetes.io/component=${component}`;
    const fields = index === undefined ? [] : [`--field-selector=spec.nodeName=node-${index}`];
    const name = await this.kubectl(
      ...["get", "pod", "-n", "weir-system", "-l", selector, ...fields],
      ...["-o", "jsonpath={.items[0].metadata.name}"],
    );
    return await this.kubectl("exec", "-n", "weir-system", name, "--", "weir", ...words);
  }

  kubectl(...words: string[]): Promise<string> {
    return this.cluster.kubectl(words);
  }

  async list<T>(kind: string, ...more: string[]): Promise<T[]> {
    return (JSON.parse(await this.kubectl("get", kind, "-A", "-o", "json", ...more)) as Listed<T>).items;
  }

  /**
   * Waits until the parts are ready and everything agrees: the pods that Kubernetes has, the endpoints of every node, the slices and
   * identities that the operator writes, and the policies of the API server and of the engine, in force on every node.
   */
  async converged(seconds = 600): Promise<void> {
    let why = "";
    const agrees = async () => {
      why = await this.#difference().catch((error) => (error as Error).message);
      return why === "";
    };
    await waitFor("everything to agree", agrees, { seconds, everyMs: 1000 }).catch((error) => {
      throw new Error(`${(error as Error).message}: ${why}`);
    });
  }

  /** What does not agree; "": everything does. */
  async #difference(): Promise<string> {
    const status = await this.run("status", "--kubernetes");
    if (status.code !== 0) return status.out;
    const pods = (await this.list<PodObject>("pods")).filter(({ spec, status }) =>
      !spec.hostNetwork && status.phase === "Running" && status.podIP !== undefined
    );
    return await this.#endpointsDifference(pods) || await this.#policiesDifference();
  }

  /** Pods, the nodes' endpoints, slices, and the identities that all of them use. */
  async #endpointsDifference(pods: readonly PodObject[]): Promise<string> {
    const wanted = pods.map(({ metadata, spec, status }) =>
      `${metadata.namespace}/${metadata.name} ${status.podIP} on ${spec.nodeName}`
    );
    const endpoints: string[] = [], identified: string[] = [];
    for (const index of this.cluster.nodes.keys()) {
      const listed = JSON.parse(await this.inside("node", index, "endpoint", "list", "-o", "json"));
      for (const { name, status } of listed as EndpointObject[]) {
        if (!name.includes("/")) continue;
        if (status?.state !== "READY") return `${name} on node-${index} is ${status?.state}, and not READY`;
        endpoints.push(`${name} ${status.ipv4} on node-${index}`);
        identified.push(`${name} ${status.ipv4} is ${status.identity}`);
      }
    }
    const sliced = (await this.list<SliceObject>("ciliumendpointslices")).flatMap((
      { namespace, endpoints },
    ) =>
      endpoints.map(({ name, id, networking }) => ({
        id: String(id),
        text: `${namespace}/${name} ${networking.addressing[0]?.ipv4} is ${id}`,
      }))
    );
    const known = new Set(
      (await this.list<{ metadata: { name: string } }>("ciliumidentities")).map(({ metadata }) =>
        metadata.name
      ),
    );
    const unknown = sliced.filter(({ id }) => !known.has(id)).map(({ text }) => text);
    return differ("nodes have endpoints", endpoints, wanted) ||
      differ("slices have", sliced.map(({ text }) => text), identified) ||
      differ("identities that slices use, and there are none of,", unknown, []);
  }

  /** Policies of the API server and of the engine, and whether every node has them in force. */
  async #policiesDifference(): Promise<string> {
    const wanted = (await this.list<{ metadata: { name: string; namespace: string } }>("networkpolicies"))
      .map(({ metadata }) => `knp:${metadata.namespace}/${metadata.name}`);
    const held = JSON.parse(
      await this.inside("control-plane", undefined, "policy", "list", "-o", "json"),
    ) as PolicyObject[];
    const nodes = this.cluster.nodes.size;
    return differ("the engine has", held.map(({ name }) => name), wanted) || held
      .filter(({ error, inForce }) => error !== "" || inForce?.nodes !== nodes || inForce.inForce !== nodes)
      .map(({ name, error, inForce }) =>
        `${name} is not in force on ${nodes} nodes: ${error} ${JSON.stringify(inForce)}`
      ).join("\n");
  }
}

/** "": the same lines, in any order. */
function differ(what: string, found: readonly string[], wanted: readonly string[]): string {
  const [has, not] = [lines(found), lines(wanted)];
  return has === not ? "" : `${what}\n${has}\nand not\n${not}`;
}

function lines(texts: readonly string[]): string {
  return [...texts].sort().join("\n");
}

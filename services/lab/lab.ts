/**
 * A running lab: nodes with their agents, pods, and what manifests ask of them.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type {
  LabStatus,
  ManifestFile,
  ManifestRequest,
  ManifestResponse,
  ManifestResult,
} from "@weir/proto/lab";
import type { ClusterApi, NodeApi } from "./apis.ts";
import type { Service } from "@weir/proto/loadbalancer";
import { hostsPath, writeHosts } from "./hosts.ts";
import { findKind, kindsTakenBy } from "@weir/common/manifest";
import type { Manifest, PodManifest, PolicyManifest } from "./manifest.ts";
import { parseManifests } from "./manifests.ts";
import { placePod } from "./placement.ts";
import { Pod } from "./pod.ts";
import { ServicePods } from "./service_pods.ts";
import { within } from "./within.ts";
import type { Topology } from "./topology.ts";

/** What a lab is given. */
export interface LabOptions {
  readonly topology: Topology;
  readonly cluster: ClusterApi;
  /** The endpoint manager of each node. */
  readonly nodeApis: ReadonlyMap<string, NodeApi>;
  readonly logDirectory: string;
  /** What is mounted over /etc/hosts on nodes and outside; pods have one beside it for their namespace. */
  readonly hostsFile: string;
  /** How long `apply` waits for pods to become ready. */
  readonly readyMsMax?: number;
  /** How long `apply` waits for every node's kernel to know the addresses of pods. */
  readonly addressesMsMax?: number;
  readonly pollMs?: number;
  /** How long an endpoint manager may take to say what endpoints it has. */
  readonly answerMsMax?: number;
}

const READY_MS_MAX = 60_000;
/** How long `apply` waits for policies to be in force. */
const POLICY_MS_MAX = 20_000;
/** How long `apply` waits for nodes to know addresses. */
const ADDRESSES_MS_MAX = 20_000;
const POLL_MS = 50;
const ANSWER_MS_MAX = 2000;
const NOTES_MAX = 1000;

/** A running lab. Changes run one after another. */
export class Lab {
  #pods = new Map<string, Pod>();
  #namespaceLabels = new Map<string, Readonly<Record<string, string>>>([["default", {}]]);
  #notes = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();

  readonly #servicePods: ServicePods;
  #services: Service[] = [];

  constructor(readonly options: LabOptions) {
    this.#servicePods = new ServicePods(options.cluster, () => this.pods);
  }

  /** Services as they were after the last change, for the hosts file. */
  get services(): readonly Service[] {
    return this.#services;
  }

  /** Namespaces that have pods or were applied. */
  get namespaces(): string[] {
    return [...this.#namespaceLabels.keys()];
  }
  get pods(): Pod[] {
    return [...this.#pods.values()];
  }
  get notes(): string[] {
    return [...this.#notes];
  }

  /** The pod of this name; without a namespace that of "default", or the only one so called. Throws what there is. */
  pod(namespace: string | undefined, name: string): Pod {
    const exact = this.#pods.get(`${namespace ?? "default"}/${name}`);
    if (exact !== undefined) return exact;
    const named = [...this.#pods.values()].filter((pod) => pod.manifest.name === name);
    if (namespace === undefined && named.length === 1) return named[0];
    const known = (named.length > 0 ? named : this.pods).slice(0, 20).map((pod) => pod.name);
    throw new LabError(
      `Cannot find pod ${namespace ?? "default"}/${name}: the lab has ${known.join(", ") || "no pods"}`,
    );
  }

  /** Applies manifests as kubectl would: namespaces, pods, then policies; then waits until pods are ready. */
  apply(request: ManifestRequest): Promise<ManifestResponse> {
    return this.#inTurn(async () => {
      const { manifests, notes } = readFiles(request.files);
      const results: ManifestResult[] = [];
      for (const note of notes) if (this.#notes.size < NOTES_MAX) this.#notes.add(note);
      for (const [manifest] of ofKind(manifests, ["Namespace"])) {
        results.push(await this.#applyNamespace(manifest));
      }
      const placed = this.#place(ofKind(manifests, ["Pod"]));
      results.push(...await this.#changeServices("apply", manifests));
      results.push(...await this.#applyPods(placed));
      for (const [manifest] of ofKind(manifests, kindsTakenBy("policy-engine"))) {
        results.push(await this.#applyPolicy(manifest as PolicyManifest));
      }
      await this.#waitForPods(results);
      notes.push(...await this.#waitForAddresses(results));
      if (
        results.some(({ kind, action }) =>
          findKind(kind)?.taker === "policy-engine" && action !== "unchanged"
        )
      ) {
        await this.#waitForPolicies(notes);
      }
      await this.#settleServices(results);
      return { results, notes };
    });
  }

  /** Deletes what the manifests name, and pods by name; what is not there is said, not an error. */
  delete(request: ManifestRequest): Promise<ManifestResponse> {
    return this.#inTurn(async () => {
      const { manifests, notes } = readFiles(request.files);
      const results: ManifestResult[] = [];
      for (const [manifest] of ofKind(manifests, kindsTakenBy("policy-engine"))) {
        const policy = manifest as PolicyManifest;
        const existed = await this.options.cluster.deletePolicy(policy.objectName);
        results.push(result(policy.kind, policy.namespace, policy.name, existed ? "deleted" : "unchanged"));
      }
      results.push(...await this.#changeServices("delete", manifests));
      const names = [
        ...ofKind(manifests, ["Pod"]).map(([manifest]) => `${manifest.namespace}/${manifest.name}`),
        ...request.pods,
      ];
      for (const [manifest] of ofKind(manifests, ["Namespace"])) {
        names.push(...[...this.#pods.keys()].filter((name) => name.startsWith(`${manifest.name}/`)));
      }
      results.push(...await Promise.all([...new Set(names)].map((name) => this.#deletePod(name))));
      for (const [manifest] of ofKind(manifests, ["Namespace"])) {
        const existed = this.#namespaceLabels.delete(manifest.name);
        results.push(result("Namespace", "", manifest.name, existed ? "deleted" : "unchanged"));
      }
      await this.#settleServices(results);
      return { results, notes };
    });
  }

  /**
   * Asks every node for its endpoints and takes the answers in. Of a node that does not answer in time, what was known last
   * stays, and its pods say so.
   */
  async refresh(): Promise<void> {
    await Promise.all([...this.options.nodeApis].map(async ([node, api]) => {
      const pods = this.pods.filter((pod) => pod.around.node === node && !pod.manifest.hostNetwork);
      if (pods.length === 0) return;
      try {
        const endpoints = new Map(
          (await within(api.listEndpoints(), this.options.answerMsMax ?? ANSWER_MS_MAX)).map((
            endpoint,
          ) => [endpoint.name, endpoint]),
        );
        for (const pod of pods) pod.observe(endpoints.get(pod.name));
      } catch (error) {
        for (const pod of pods) {
          pod.unheard(`its endpoint manager does not answer: ${(error as Error).message}`);
        }
      }
    }));
  }

  /** The pods' part of the lab's status. */
  async status(): Promise<Pick<LabStatus, "pods" | "notes">> {
    await this.refresh();
    const pods = this.pods.map((pod) => pod.toLabPod());
    pods.sort((a, b) => `${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1);
    return { pods, notes: this.notes };
  }

  /** Stops every pod's commands. */
  async halt(): Promise<void> {
    await this.#servicePods.stop();
    await Promise.all(this.pods.map((pod) => pod.halt()));
  }

  async #applyNamespace(manifest: Manifest): Promise<ManifestResult> {
    if (manifest.kind !== "Namespace") throw new Error("not a Namespace");
    const before = this.#namespaceLabels.get(manifest.name);
    this.#namespaceLabels.set(manifest.name, manifest.labels);
    // Its labels are labels of every pod in it.
    for (const pod of this.pods) {
      if (pod.manifest.namespace !== manifest.name) continue;
      await pod.update(pod.manifest, pod.directory, manifest.labels);
    }
    const action = before === undefined
      ? "created"
      : JSON.stringify(before) === JSON.stringify(manifest.labels)
      ? "unchanged"
      : "configured";
    return result("Namespace", "", manifest.name, action);
  }

  /** Chooses nodes for all pods before the first is made: a wrong nodeName changes nothing. */
  #place(pods: [Manifest, ManifestFile][]): { manifest: PodManifest; directory: string; node: string }[] {
    const nodes = this.options.topology.nodes.map((node) => node.name);
    const perNode = new Map<string, number>();
    const count = (node: string) => perNode.set(node, (perNode.get(node) ?? 0) + 1);
    for (const pod of this.pods) count(pod.around.node);
    // Pods that name their node come first, so that the others fill what is left.
    const ordered = [...pods].sort(([a], [b]) => Number(named(b)) - Number(named(a)));
    const chosen = new Map<Manifest, string>();
    for (const [manifest] of ordered) {
      const pod = manifest as PodManifest;
      const existing = this.#pods.get(`${pod.namespace}/${pod.name}`);
      const placed = existing === undefined
        ? placePod(pod.nodeName, nodes, perNode)
        : { node: existing.around.node };
      if ("error" in placed) {
        throw new LabError(`${pod.source.file}:${pod.source.line}: Pod ${pod.name}: ${placed.error}`);
      }
      if (pod.nodeName !== undefined && placed.node !== pod.nodeName) {
        throw new LabError(
          `${pod.source.file}:${pod.source.line}: Pod ${pod.name} runs on ${placed.node}, nodeName is "${pod.nodeName}": a running pod does not move, delete it first`,
        );
      }
      if (existing === undefined) count(placed.node);
      chosen.set(manifest, placed.node);
    }
    return pods.map(([manifest, file]) => ({
      manifest: manifest as PodManifest,
      directory: file.directory,
      node: chosen.get(manifest)!,
    }));
  }

  async #applyPods(
    placed: { manifest: PodManifest; directory: string; node: string }[],
  ): Promise<ManifestResult[]> {
    for (const { manifest: { namespace } } of placed) {
      if (!this.#namespaceLabels.has(namespace)) this.#namespaceLabels.set(namespace, {});
    }
    // The commands mount the file of their namespace.
    if (placed.length > 0) await writeHosts(this, this.options.hostsFile);
    return await Promise.all(placed.map(async ({ manifest, directory, node }) => {
      const { namespace, name } = manifest;
      const labels = this.#namespaceLabels.get(namespace)!;
      const existing = this.#pods.get(`${namespace}/${name}`);
      try {
        if (existing !== undefined) {
          return result("Pod", namespace, name, await existing.update(manifest, directory, labels));
        }
        const pod = new Pod(manifest, directory, {
          lab: this.options.topology.lab,
          node,
          host: this.options.topology.nodes.find((each) => each.name === node)!,
          api: this.options.nodeApis.get(node)!,
          logDirectory: this.options.logDirectory,
          hostsFile: hostsPath(this.options.hostsFile, namespace),
        });
        // The load balancer knows the pod before its address is anywhere: not ready is not the same as unknown.
        await this.#servicePods.announce(pod);
        this.#pods.set(pod.name, pod);
        await pod.create(labels);
        return result("Pod", namespace, name, "created");
      } catch (error) {
        return result("Pod", namespace, name, "failed", (error as Error).message);
      }
    }));
  }

  async #applyPolicy(policy: PolicyManifest): Promise<ManifestResult> {
    const { kind, namespace, name, objectName, text, source } = policy;
    try {
      const before = await this.options.cluster.getPolicy(objectName);
      const stored = await this.options.cluster.putPolicy({
        name: objectName,
        kind,
        namespace,
        policyName: name,
        manifest: text,
        file: source.file,
        line: source.line,
      });
      const warnings = stored.warnings.map((warning) => `${warning.path}: ${warning.detail}`).join("; ");
      const action = before === undefined ? "created" : before.manifest === text ? "unchanged" : "configured";
      return result(kind, namespace, name, action, warnings);
    } catch (error) {
      return result(kind, namespace, name, "failed", (error as Error).message);
    }
  }

  /** Gives each file with services to the load balancer as a whole, so that the places in its messages are right. */
  async #changeServices(
    verb: "apply" | "delete",
    manifests: [Manifest, ManifestFile][],
  ): Promise<ManifestResult[]> {
    const results: ManifestResult[] = [];
    const files = new Map(
      ofKind(manifests, kindsTakenBy("load-balancer")).map(([, file]) => [file.file, file]),
    );
    for (const { file, text } of files.values()) {
      try {
        for (
          const { kind, name, change, warnings } of await this.options.cluster.changeServices(
            verb,
            text,
            file,
          )
        ) {
          if (change === "ignored") continue;
          const slash = name.indexOf("/");
          const action = change === "not found" ? "unchanged" : change;
          results.push(
            result(
              kind,
              name.slice(0, Math.max(0, slash)),
              name.slice(slash + 1),
              action,
              warnings.join("; "),
            ),
          );
        }
      } catch (error) {
        for (const [{ kind, namespace, name, source }] of ofKind(manifests, kindsTakenBy("load-balancer"))) {
          if (source.file === file) {
            results.push(result(kind, namespace, name, "failed", (error as Error).message));
          }
        }
      }
    }
    return results;
  }

  async #deletePod(name: string): Promise<ManifestResult> {
    const slash = name.indexOf("/");
    const [namespace, podName] = [name.slice(0, slash), name.slice(slash + 1)];
    const pod = this.#pods.get(name);
    if (pod === undefined) return result("Pod", namespace, podName, "unchanged", "there is none");
    try {
      await this.#servicePods.end(pod);
      await pod.remove();
      this.#pods.delete(name);
      await this.#servicePods.forget(name);
      return result("Pod", namespace, podName, "deleted");
    } catch (error) {
      return result("Pod", namespace, podName, "failed", (error as Error).message);
    }
  }

  /** Tells the load balancer of the pods, and where there are services waits until they use those that are ready. */
  async #settleServices(changed: readonly ManifestResult[]): Promise<void> {
    this.#servicePods.start();
    try {
      this.#services = await this.options.cluster.listServices();
    } catch {
      return; // It is being restarted; the pods are told to it as soon as it is there.
    }
    const pods = changed.flatMap(({ kind, namespace, name }) =>
      kind === "Pod" ? this.#pods.get(`${namespace}/${name}`) ?? [] : []
    ).filter((pod) => pod.state === "ready");
    if (this.#services.length > 0) await this.#servicePods.settle(pods);
  }

  /** Waits until every pod of the results is ready; a pod that is not becomes a failure with what it waits for. */
  async #waitForPods(results: ManifestResult[]): Promise<void> {
    const deadlineMs = Date.now() + (this.options.readyMsMax ?? READY_MS_MAX);
    const waiting = results.filter((item) => item.kind === "Pod" && item.action !== "failed")
      .map((item) => ({ item, pod: this.#pods.get(`${item.namespace}/${item.name}`)! }));
    while (true) {
      await this.refresh();
      const late = waiting.filter(({ pod }) => pod.state === "waiting" || pod.state === "creating");
      if (late.length === 0 || Date.now() > deadlineMs) break;
      await delay(this.options.pollMs ?? POLL_MS);
    }
    for (const { item, pod } of waiting) {
      if (pod.state === "ready") continue;
      item.action = "failed";
      item.message = `not ready: ${pod.toLabPod().message}`;
    }
  }

  /**
   * Waits until every node's kernel knows the addresses of the pods that are ready, after a change of some: the first packet to another
   * node is a pod's, not a stranger's. Says which nodes are behind; one that does not answer is not waited for.
   */
  async #waitForAddresses(results: readonly ManifestResult[]): Promise<string[]> {
    if (
      !results.some(({ kind, action }) => (kind === "Pod" || kind === "Namespace") && action !== "unchanged")
    ) return [];
    const wanted = new Map<string, number>();
    for (const { manifest, state, ipv4, ipv6, endpoint } of this.pods) {
      if (manifest.hostNetwork || state !== "ready") continue;
      if (ipv4 !== "") wanted.set(`${ipv4}/32`, endpoint?.status?.identity ?? 0);
      if (ipv6 !== "") wanted.set(`${ipv6}/128`, endpoint?.status?.identity ?? 0);
    }
    const deadlineMs = Date.now() + (this.options.addressesMsMax ?? ADDRESSES_MS_MAX);
    const answerMsMax = this.options.answerMsMax ?? ANSWER_MS_MAX;
    const notes = await Promise.all([...this.options.nodeApis].map(async ([node, api]) => {
      try {
        while (true) {
          const known = await within(api.listIpcache(), answerMsMax);
          const missing = [...wanted].filter(([prefix, identity]) => known.get(prefix) !== identity);
          if (missing.length === 0) return [];
          if (Date.now() > deadlineMs) {
            return [
              `${node} does not know ${missing.length} of ${wanted.size} addresses of pods yet: see weir status`,
            ];
          }
          await delay(this.options.pollMs ?? POLL_MS);
        }
      } catch (error) {
        return [`whether ${node} knows the pods' addresses is not known: ${(error as Error).message}`];
      }
    }));
    return notes.flat();
  }

  /** Waits until the policies that were just applied are in force at every node; says so if it takes too long. */
  async #waitForPolicies(notes: string[]): Promise<void> {
    const behind = await this.options.cluster.waitForPolicies(POLICY_MS_MAX);
    if (behind.length > 0) {
      notes.push(`policies are not in force yet at ${behind.join(", ")}: see weir status`);
    }
    await this.refresh();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#turn.then(work);
    this.#turn = next.catch(() => {});
    return next;
  }
}

/** Something asked of a lab that cannot be. */
export class LabError extends Error {
  override readonly name = "LabError";
}

function named(manifest: Manifest): boolean {
  return manifest.kind === "Pod" && manifest.nodeName !== undefined;
}

function readFiles(
  files: readonly ManifestFile[],
): { manifests: [Manifest, ManifestFile][]; notes: string[] } {
  const manifests: [Manifest, ManifestFile][] = [];
  const notes: string[] = [];
  for (const file of files) {
    const set = parseManifests(file.text, file.file);
    for (const manifest of set.manifests) manifests.push([manifest, file]);
    notes.push(...set.notes);
  }
  return { manifests, notes };
}

function ofKind(
  manifests: [Manifest, ManifestFile][],
  kinds: readonly string[],
): [Manifest & { namespace: string }, ManifestFile][] {
  return manifests.filter(([{ kind }]) => kinds.includes(kind)) as [
    Manifest & { namespace: string },
    ManifestFile,
  ][];
}

function result(kind: string, namespace: string, name: string, action: string, message = ""): ManifestResult {
  return { kind, namespace, name, action, message };
}

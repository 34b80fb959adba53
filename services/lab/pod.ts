/**
 * One pod of a lab: its namespace, its endpoint, its commands.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Endpoint } from "@weir/proto/endpoint";
import type { LabPod } from "@weir/proto/lab";
import type { NodeApi } from "./apis.ts";
import { IDENTITY_HOST } from "@weir/common";
import { podLabels } from "./labels.ts";
import type { PodManifest } from "./manifest.ts";
import type { SupervisedProcess } from "@weir/common/supervised-process";
import { POD_MARK, podProcess } from "./pod_process.ts";
import { podNetns } from "./topology.ts";
import { createPodNamespace, processesIn, removeNamespaces } from "./underlay.ts";

/** What a pod is made in. */
export interface PodSurroundings {
  readonly lab: string;
  readonly node: string;
  /** The node's own namespace and addresses, which a pod with `hostNetwork` has. */
  readonly host: { readonly netns: string; readonly ipv4: string; readonly ipv6: string };
  readonly api: NodeApi;
  readonly logDirectory: string;
  readonly hostsFile: string;
}

/** One pod of a lab. Its methods are called one at a time. */
export class Pod {
  #manifest: PodManifest;
  #directory: string;
  #processes: SupervisedProcess[] = [];
  #unheard = "";
  #state: "creating" | "waiting" | "ready" | "failed" = "creating";
  #message = "";
  #endpoint: Endpoint | undefined;
  #labels: string[] = [];
  readonly netns: string;

  constructor(manifest: PodManifest, directory: string, readonly around: PodSurroundings) {
    this.#manifest = manifest;
    this.#directory = directory;
    this.netns = manifest.hostNetwork
      ? around.host.netns
      : podNetns(around.lab, manifest.namespace, manifest.name);
  }

  /** "NAMESPACE/POD", the name of its endpoint. */
  get name(): string {
    return `${this.#manifest.namespace}/${this.#manifest.name}`;
  }
  get directory(): string {
    return this.#directory;
  }
  get manifest(): PodManifest {
    return this.#manifest;
  }
  get state(): "creating" | "waiting" | "ready" | "failed" {
    return this.#state;
  }
  /** Why it is not ready; "" when that is not known. */
  get message(): string {
    return this.#message;
  }
  get endpoint(): Endpoint | undefined {
    return this.#endpoint;
  }
  /** "" until it has one. */
  get ipv4(): string {
    return this.#manifest.hostNetwork ? this.around.host.ipv4 : this.#endpoint?.status?.ipv4 ?? "";
  }
  get ipv6(): string {
    return this.#manifest.hostNetwork ? this.around.host.ipv6 : this.#endpoint?.status?.ipv6 ?? "";
  }

  /** Makes the namespace, asks for the endpoint, starts the commands. */
  async create(namespaceLabels: Readonly<Record<string, string>>): Promise<void> {
    if (!this.#manifest.hostNetwork) await createPodNamespace(this.netns);
    await this.#putEndpoint(namespaceLabels);
    this.#startProcesses();
  }

  /** Brings a running pod to a new manifest: labels and ports by its endpoint, commands by a restart of them. */
  async update(
    manifest: PodManifest,
    directory: string,
    namespaceLabels: Readonly<Record<string, string>>,
  ): Promise<"configured" | "unchanged"> {
    if (manifest.hostNetwork !== this.#manifest.hostNetwork) {
      throw new Error("hostNetwork of a running pod does not change: delete it first");
    }
    const commandsChanged = directory !== this.#directory ||
      JSON.stringify(manifest.commands) !== JSON.stringify(this.#manifest.commands);
    const endpointChanged = JSON.stringify([podLabels(manifest, namespaceLabels), manifest.ports]) !==
      JSON.stringify([this.#labels, this.#manifest.ports]);
    this.#manifest = manifest;
    this.#directory = directory;
    if (endpointChanged) await this.#putEndpoint(namespaceLabels);
    if (commandsChanged && manifest.commands.length + this.#processes.length > 0) {
      await this.#stopProcesses();
      this.#startProcesses();
    }
    return endpointChanged || commandsChanged ? "configured" : "unchanged";
  }

  /** Takes in what the node's endpoint manager says of its endpoint. */
  observe(endpoint: Endpoint | undefined): void {
    this.#unheard = "";
    this.#endpoint = endpoint;
    const status = endpoint?.status;
    // A change of labels is done when the endpoint has answered with them and is ready again.
    const current = endpoint !== undefined && sameLabels(endpoint.labels, this.#labels);
    this.#message = status?.error?.error ?? "";
    if (status?.state === "READY" && current) this.#state = "ready";
    else if (status?.state === "INVALID") this.#state = "failed";
    else {
      this.#state = "waiting";
      if (this.#message === "") {
        this.#message = endpoint === undefined
          ? "no endpoint yet"
          : `endpoint ${(status?.state ?? "unknown").toLowerCase().replaceAll("_", "-")}`;
      }
    }
  }

  /** Nobody says how its endpoint is: what was known stays, and why. */
  unheard(message: string): void {
    this.#unheard = message;
  }

  /** Whether all its commands run. */
  get running(): boolean {
    return this.#processes.length === this.#manifest.commands.length &&
      this.#processes.every((process) => process.status.pid > 0);
  }
  /** Process ids of its commands that run. */
  get pids(): number[] {
    return this.#processes.map((process) => process.status.pid).filter((pid) => pid > 0);
  }

  /**
   * Removes commands, endpoint and namespace, in this order: what still runs within its grace period keeps its
   * connections.
   */
  async remove(): Promise<void> {
    const { preStopS, gracePeriodS, commands } = this.#manifest;
    if (commands.length > 0 && preStopS > 0) {
      await delay(Math.min(preStopS, gracePeriodS) * 1000);
    }
    await this.#stopProcesses(Math.max(0, gracePeriodS - preStopS) * 1000);
    if (this.#manifest.hostNetwork) return;
    await this.around.api.deleteEndpoint(this.name);
    await removeNamespaces([this.netns]);
  }

  /** Stops the commands only: the lab goes as a whole. */
  async halt(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
  }

  toLabPod(): LabPod {
    const status = this.#endpoint?.status;
    const dead = this.#processes.find((process) =>
      process.status.pid === 0 && process.status.lastError !== ""
    );
    return {
      name: this.#manifest.name,
      namespace: this.#manifest.namespace,
      node: this.around.node,
      netns: this.netns,
      state: this.#state,
      message: this.#unheard || this.#message ||
        (dead === undefined ? "" : `command ended: ${dead.status.lastError}, starting again`),
      ipv4: this.ipv4,
      ipv6: this.ipv6,
      identity: this.#manifest.hostNetwork ? IDENTITY_HOST : status?.identity ?? 0,
      endpoint: status?.id ?? 0,
      labels: this.#labels,
      restarts: this.#processes.reduce((sum, process) => sum + process.status.restarts, 0),
      pid: this.#processes[0]?.status.pid ?? 0,
    };
  }

  async #putEndpoint(namespaceLabels: Readonly<Record<string, string>>): Promise<void> {
    this.#labels = podLabels(this.#manifest, namespaceLabels);
    // To others it is its node, whose policy it has.
    if (this.#manifest.hostNetwork) {
      this.#state = "ready";
      return;
    }
    this.#state = "waiting";
    await this.around.api.putEndpoint({
      name: this.name,
      netns: `/run/netns/${this.netns}`,
      labels: this.#labels,
      namedPorts: [...this.#manifest.ports],
      namespace: this.#manifest.namespace,
      podName: this.#manifest.name,
      poolV4: this.#manifest.pool,
      poolV6: this.#manifest.pool,
    });
  }

  /** In the environment of all that its commands start. */
  get #mark(): string {
    return `${this.around.lab}/${this.name}`;
  }

  #startProcesses(): void {
    const { namespace, name } = this.#manifest;
    this.#processes = this.#manifest.commands.map((command) =>
      podProcess(command, {
        netns: this.netns,
        namespace,
        pod: name,
        node: this.around.node,
        mark: this.#mark,
        directory: this.#directory,
        logFile: `${this.around.logDirectory}/${namespace}.${name}.${command.container}.log`,
        hostsFile: this.around.hostsFile,
      })
    );
    for (const process of this.#processes) process.start();
  }

  async #stopProcesses(graceMs = 0): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop(graceMs)));
    this.#processes = [];
    // Whatever the commands left behind in the namespace; in a node's there are others.
    const left = await processesIn([this.netns]);
    const own = this.#manifest.hostNetwork ? await withEnvironment(left, this.#mark) : left;
    for (const pid of own) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
  }
}

/** Those of the processes that have the mark of a pod. */
async function withEnvironment(pids: readonly number[], mark: string): Promise<number[]> {
  const marked = await Promise.all(pids.map(async (pid) => {
    const text = await Deno.readTextFile(`/proc/${pid}/environ`).catch(() => "");
    return text.split("\0").includes(`${POD_MARK}=${mark}`);
  }));
  return pids.filter((_, i) => marked[i]);
}

function sameLabels(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && [...a].sort().join() === [...b].sort().join();
}

/** A lab as a target: pods are the lab's. @module */
import { WeirClient } from "@weir/client";
import { LabStatus, ManifestRequest, ManifestResponse } from "@weir/proto/lab";
import { DirectChanges } from "./cluster.ts";
import { PlaceProcess, proberWords } from "./place_process.ts";
import {
  type ClusterAccess,
  type Outside,
  type Place,
  type PlaceProgram,
  type PodAt,
  type PodSpec,
  type Target,
  TargetError,
  type TargetNode,
} from "./target.ts";

/** The lab answers when pods are ready. */
const CALL_MS_MAX = 300_000;
const LOG_BYTES_MAX = 8 << 20;

/** What is needed to speak to a lab. */
export interface LabTargetOptions {
  readonly lab: string;
  /** Directory of the lab's socket and logs. */
  readonly directory: string;
  readonly access: ClusterAccess;
}

/** A lab that is up. */
export class LabTarget implements Target {
  readonly title: string;
  readonly changes: DirectChanges;
  #netns = new Map<string, string>();

  private constructor(
    readonly options: LabTargetOptions,
    readonly nodes: readonly TargetNode[],
    readonly outside: Outside,
    readonly status: LabStatus,
  ) {
    this.title = `lab ${options.lab}`;
    this.changes = new DirectChanges(options.access);
  }

  get access(): ClusterAccess {
    return this.options.access;
  }

  /** @throws {ProblemError} the lab does not answer @throws {TargetError} it is not ready */
  static async open(options: LabTargetOptions): Promise<LabTarget> {
    const status = await statusOf(options);
    const bad = status.nodes.find(({ state }) => state !== "ready");
    if (status.state !== "ready" || bad !== undefined) {
      const why = bad === undefined ? status.error : `${bad.name} is ${bad.state}: ${bad.message}`;
      throw new TargetError(`Cannot test lab ${options.lab}: it is ${status.state}; ${why}`);
    }
    const outside = {
      ipv4: status.outsideIpv4,
      ipv6: status.outsideIpv6,
      worldIpv4: WORLD_V4,
      worldIpv6: WORLD_V6,
    };
    return new LabTarget(options, status.nodes, outside, status);
  }

  async makePods(namespace: string, pods: readonly PodSpec[]): Promise<PodAt[]> {
    const text = pods.map((pod) => podManifest(namespace, pod, this.nodes)).join("---\n");
    const answer = await this.#change("apply", text);
    const failed = answer.results.find(({ action }) => action === "failed");
    if (failed !== undefined) {
      throw new TargetError(`Cannot make pod ${failed.namespace}/${failed.name}: ${failed.message}`);
    }
    const status = await statusOf(this.options);
    return pods.map((spec) => {
      const pod = status.pods.find((one) => one.namespace === namespace && one.name === spec.name);
      if (pod?.state !== "ready") {
        throw new TargetError(
          `Cannot make pod ${namespace}/${spec.name}: it is ${pod?.state}: ${pod?.message}`,
        );
      }
      const made = { ...pod, hostNetwork: spec.hostNetwork === true };
      this.#netns.set(`${namespace}/${spec.name}`, pod.netns);
      return made;
    });
  }

  async removePods(namespacePrefix: string): Promise<void> {
    const { pods } = await statusOf(this.options);
    const names = new Set(pods.map(({ namespace }) => namespace));
    const left = [...names].filter((name) => name.startsWith(namespacePrefix));
    if (left.length === 0) return;
    const text = left.map((name) => `apiVersion: v1\nkind: Namespace\nmetadata: { name: ${name} }\n`).join(
      "---\n",
    );
    await this.#change("delete", text);
  }

  async routeOutside(verb: "replace" | "delete", prefixes: readonly string[]): Promise<void> {
    const [{ ipv4, ipv6 }] = this.nodes;
    for (const prefix of prefixes) {
      const args = [
        "-n",
        this.status.outsideNetns,
        "route",
        verb,
        prefix,
        "via",
        prefix.includes(":") ? ipv6 : ipv4,
      ];
      const { success, stderr } = await new Deno.Command("ip", { args, stdin: "null", stdout: "null" })
        .output();
      if (success || verb === "delete") continue; // it was not there
      throw new TargetError(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
    }
  }

  start(place: Place, ...words: string[]): PlaceProgram {
    return new PlaceProcess(["nsenter", `--net=/run/netns/${this.#netnsOf(place)}`, "--"], words);
  }

  #netnsOf(place: Place): string {
    if (place === "outside") return this.status.outsideNetns;
    if ("node" in place) return this.status.nodes.find(({ name }) => name === place.node)!.netns;
    return this.#netns.get(`${place.pod.namespace}/${place.pod.name}`)!;
  }

  async logsSince(unixMs: number): Promise<{ node: string; line: string }[]> {
    const since = new Date(unixMs).toISOString();
    const lines: { node: string; line: string }[] = [];
    for (const { name } of this.nodes) {
      const text = await tailOf(`${this.options.directory}/logs/${name}.agent.log`);
      for (const line of text.split("\n")) {
        const [, time] = /^\{"time":"([^"]+)"/.exec(line) ?? [];
        if (time !== undefined && time >= since) lines.push({ node: name, line });
      }
    }
    return lines;
  }

  async #change(verb: "apply" | "delete", text: string): Promise<ManifestResponse> {
    const client = clientOf(this.options);
    const files = [{ file: "weir connectivity test", directory: "/", text }];
    try {
      return await client.call(`/v1/manifests:${verb}`, {
        request: { message: ManifestRequest, value: { files } },
        response: ManifestResponse,
      });
    } finally {
      client.close();
    }
  }
}

/** What a lab's outside host answers for, see services/lab/topology.ts. */
const WORLD_V4 = ["198.51.100.10", "198.51.100.20", "203.0.113.10"];
const WORLD_V6 = ["2001:db8:100::10", "2001:db8:100::20", "2001:db8:113::10"];

function clientOf({ directory }: LabTargetOptions): WeirClient {
  return new WeirClient({ socket: `${directory}/lab.sock` }, { deadlineMs: CALL_MS_MAX });
}

async function statusOf(options: LabTargetOptions): Promise<LabStatus> {
  const client = clientOf(options);
  try {
    return await client.call("/v1/status", { method: "GET", response: LabStatus });
  } finally {
    client.close();
  }
}

function podManifest(namespace: string, pod: PodSpec, nodes: readonly TargetNode[]): string {
  const ports = pod.ports ?? [];
  const words = proberWords("serve", pod.name, ...ports.map(({ port, protocol }) => `${port}/${protocol}`));
  const tcp = ports.find(({ protocol }) => protocol === "TCP");
  const container = {
    name: "main",
    ...(ports.length === 0 ? {} : { command: words }),
    ports: ports.map(({ port, protocol, name, hostPort }) => ({
      containerPort: port,
      protocol,
      ...(name === undefined ? {} : { name }),
      ...(hostPort === undefined ? {} : { hostPort }),
    })),
    ...(tcp === undefined ? {} : { readinessProbe: { tcpSocket: { port: tcp.port } } }),
  };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: pod.name, namespace, labels: pod.labels },
    spec: {
      nodeName: nodes[Math.min(pod.node, nodes.length - 1)].name,
      hostNetwork: pod.hostNetwork === true,
      serviceAccountName: pod.serviceAccount ?? "default",
      terminationGracePeriodSeconds: 0,
      containers: [container],
    },
  }) + "\n";
}

/** The end of a log. A file that is not there has none. */
async function tailOf(path: string): Promise<string> {
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat();
    await file.seek(Math.max(0, size - LOG_BYTES_MAX), Deno.SeekMode.Start);
    return await new Response(file.readable).text();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

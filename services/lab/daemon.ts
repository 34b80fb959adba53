/**
 * The lab daemon: makes the machines, keeps the agents, serves the lab's API, removes everything at its end.
 *
 * @module
 */
import { ApiServer, listenUnix, type Logger, ProblemError } from "@weir/common";
import { WeirClient } from "@weir/client";
import {
  type LabProcess,
  LabStatus,
  ManifestRequest,
  ManifestResponse,
  TestRequest,
  TestResponse,
} from "@weir/proto/lab";
import { Process } from "@weir/proto/agent";
import { ExpectationError, parseExpectations } from "./expectations.ts";
import { writeHosts } from "./hosts.ts";
import { Lab, LabError } from "./lab.ts";
import { CLUSTER } from "./labels.ts";
import { ManifestError } from "./manifests.ts";
import { NodeAgent } from "./node_agent.ts";
import { labDirectory, LAUNCHER, runDirectory, serviceSocket, stateDirectory } from "./paths.ts";
import { clusterApi, nodeApi } from "./service_apis.ts";
import { runExpectations } from "./test_runner.ts";
import { type Topology, topology } from "./topology.ts";
import { createUnderlay, routePodCidr } from "./underlay.ts";

/** Options of a lab. */
export interface DaemonOptions {
  readonly lab: string;
  readonly nodesCount: number;
  readonly routing: "tunnel" | "direct";
  /** Options of the agents, "[NODE:]NAME[=VALUE]"; without a node of every agent. */
  readonly agentOptions?: readonly string[];
  readonly readyMsMax: number;
}

/** The flags that these options mean for one node's agent: "masquerade", "node-1:zone=a". */
export function agentFlags(options: readonly string[], node: string): string[] {
  return options.flatMap((option) => {
    const [, only, name] = /^(?:([a-z0-9-]+):)?([a-z][a-z0-9-]*(?:=.*)?)$/s.exec(option) ?? [];
    if (name === undefined) {
      throw new Error(`Cannot take the agent option "${option}": expected [NODE:]NAME or [NODE:]NAME=VALUE`);
    }
    return only === undefined || only === node ? [`--${name}`] : [];
  });
}

/** See the module comment. */
export class LabDaemon {
  readonly topology: Topology;
  readonly lab: Lab;
  #agents: NodeAgent[];
  #clients: Map<string, WeirClient>;
  #state: "starting" | "ready" | "failed" | "stopping" = "starting";
  #progress: string[] = [];
  #error = "";
  #podCidrs = new Map<string, { v4: string; v6: string }>();

  constructor(readonly options: DaemonOptions) {
    this.topology = topology(options.lab, options.nodesCount);
    const directory = labDirectory(options.lab);
    this.lab = new Lab({
      topology: this.topology,
      cluster: clusterApi(this.topology.controlPlane),
      nodeApis: new Map(this.topology.nodes.map((node) => [node.name, nodeApi(node.instance)])),
      logDirectory: `${directory}/logs`,
      hostsFile: `${directory}/hosts`,
    });
    this.#agents = this.topology.nodes.map((node) =>
      new NodeAgent(node, {
        weir: LAUNCHER,
        logFile: `${directory}/logs/${node.name}.agent.log`,
        args: [
          "--instance",
          node.instance,
          "--node-name",
          node.name,
          "--cluster",
          CLUSTER,
          "--ipv4",
          node.ipv4,
          "--ipv6",
          node.ipv6,
          "--routing-mode",
          options.routing,
          "--run-directory",
          runDirectory(),
          "--state-directory",
          stateDirectory(),
          ...(node.instance === this.topology.controlPlane ? ["--control-plane"] : [
            "--identity-allocator",
            `unix:${serviceSocket(this.topology.controlPlane, "identity-allocator")}`,
            "--policy-engine",
            `unix:${serviceSocket(this.topology.controlPlane, "policy-engine")}`,
            "--load-balancer",
            `unix:${serviceSocket(this.topology.controlPlane, "load-balancer")}`,
          ]),
          ...agentFlags(options.agentOptions ?? [], node.name),
        ],
      })
    );
    this.#clients = new Map(
      this.topology.nodes.map((
        node,
      ) => [node.name, new WeirClient({ socket: serviceSocket(node.instance, "agent") })]),
    );
  }

  /** Serves the API and brings the lab up; resolves when everything of it is ready, or has failed. */
  async start(): Promise<void> {
    const { nodes } = this.topology;
    try {
      await createUnderlay(this.topology);
      this.#step(`network: ${nodes.length} nodes and an outside host on one bridge, IPv4 and IPv6`);
      for (const agent of this.#agents) agent.start();
      await Promise.all(this.#agents.map((agent) => this.#waitForAgent(agent)));
      this.#step(`services: every service of ${nodes.map((node) => node.name).join(", ")} is ready`);
      await this.#routeOutside();
      this.#setState("ready");
    } catch (error) {
      this.#error = (error as Error).message;
      this.#setState("failed");
    }
  }

  /** Mounts the lab's API. */
  mount(api: ApiServer): void {
    api.action({ method: "GET", path: "/v1/status", response: LabStatus, handle: () => this.status() });
    api.action({
      path: "/v1/manifests:apply",
      request: ManifestRequest,
      response: ManifestResponse,
      bodyBytesMax: 64 << 20,
      handle: (request) => this.#readyThen(() => this.lab.apply(request)),
    });
    api.action({
      path: "/v1/manifests:delete",
      request: ManifestRequest,
      response: ManifestResponse,
      bodyBytesMax: 64 << 20,
      handle: (request) => this.#readyThen(() => this.lab.delete(request)),
    });
    api.action({
      path: "/v1/tests:run",
      request: TestRequest,
      response: TestResponse,
      handle: ({ file, text }) =>
        this.#readyThen(() => runExpectations(this.lab, parseExpectations(text, file))),
    });
  }

  /** Writes `lab.json`, by which the command line finds the lab. */
  writeRecord(): void {
    const directory = labDirectory(this.options.lab);
    const record = {
      name: this.options.lab,
      nodes: this.topology.nodes.map((node) => node.name),
      controlPlane: this.topology.controlPlane,
      pid: Deno.pid,
      state: this.#state,
    };
    Deno.writeTextFileSync(`${directory}/.lab.json`, JSON.stringify(record, null, 2) + "\n");
    Deno.renameSync(`${directory}/.lab.json`, `${directory}/lab.json`);
  }

  /** Everything there is to know. */
  async status(): Promise<LabStatus> {
    const { pods, notes } = await this.lab.status();
    const nodes = await Promise.all(this.#agents.map(async (agent) => {
      const { ready, text } = await this.#clients.get(agent.node.name)!.readiness();
      const cidrs = this.#podCidrs.get(agent.node.name);
      return {
        name: agent.node.name,
        instance: agent.node.instance,
        netns: agent.node.netns,
        ipv4: agent.node.ipv4,
        ipv6: agent.node.ipv6,
        podCidrV4: cidrs?.v4 ?? "",
        podCidrV6: cidrs?.v6 ?? "",
        state: ready ? "ready" : "starting",
        message: ready ? "" : agent.lastError || text.split("\n")[0],
        agentPid: agent.pid,
      };
    }));
    return LabStatus.create({
      name: this.options.lab,
      state: this.#state,
      progress: this.#progress,
      error: this.#error,
      nodes,
      pods,
      processes: await this.#processes(pods),
      notes,
      outsideNetns: this.topology.outside.netns,
      outsideIpv4: this.topology.outside.ipv4,
      outsideIpv6: this.topology.outside.ipv6,
      pid: Deno.pid,
      routing: this.options.routing,
      controlPlane: this.topology.controlPlane,
    });
  }

  /** Ends pods and agents in order. What they leave in the kernel the sweep removes. */
  async stop(): Promise<void> {
    this.#setState("stopping");
    await this.lab.halt();
    await Promise.all(this.#agents.map((agent) => agent.stop()));
  }

  async #processes(pods: LabStatus["pods"]): Promise<LabProcess[]> {
    const lab = this.options.lab;
    const processes: LabProcess[] = [{ lab, role: "lab", node: "", pid: Deno.pid, name: "lab" }];
    await Promise.all(this.#agents.map(async (agent) => {
      processes.push({ lab, role: "agent", node: agent.node.name, pid: agent.pid, name: "agent" });
      try {
        const { items } = await this.#clients.get(agent.node.name)!.collection("processes", Process).list();
        for (const { name, pid } of items) {
          processes.push({ lab, role: name, node: agent.node.name, pid, name });
        }
      } catch {
        // The agent is being restarted.
      }
    }));
    for (const { namespace, name, node, pid } of pods) {
      if (pid > 0) processes.push({ lab, role: "pod", node, pid, name: `${namespace}/${name}` });
    }
    return processes.sort((a, b) =>
      `${a.node} ${a.role} ${a.name}` < `${b.node} ${b.role} ${b.name}` ? -1 : 1
    );
  }

  async #waitForAgent(agent: NodeAgent): Promise<void> {
    const client = this.#clients.get(agent.node.name)!;
    const deadlineMs = Date.now() + this.options.readyMsMax;
    while (true) {
      const { ready, text } = await client.readiness();
      if (ready) return;
      // An agent that ends thrice while coming up will not come up.
      if (agent.restarts >= 3) throw new LabError(`${agent.node.name}: ${agent.lastError}`);
      if (Date.now() > deadlineMs) {
        throw new LabError(
          `${agent.node.name} is not ready after ${this.options.readyMsMax / 1000} s: ${
            agent.lastError || text.trim().replaceAll("\n", "; ")
          }`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** The outside host reaches pods through their node, as a router of the site would. */
  async #routeOutside(): Promise<void> {
    for (const { name, podCidrV4, podCidrV6 } of await this.lab.options.cluster.listNodes()) {
      const node = this.topology.nodes.find((node) => node.name === name);
      if (node === undefined) continue;
      this.#podCidrs.set(name, { v4: podCidrV4, v6: podCidrV6 });
      if (podCidrV4 !== "") await routePodCidr(this.topology, podCidrV4, node.ipv4);
      if (podCidrV6 !== "") await routePodCidr(this.topology, podCidrV6, node.ipv6);
    }
  }

  async #readyThen<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state !== "ready") {
      throw new ProblemError("LAB_NOT_READY", {
        status: 409,
        detail: `Cannot do this: lab ${this.options.lab} is ${this.#state}${
          this.#error ? `: ${this.#error}` : ""
        }`,
      });
    }
    try {
      const answer = await work();
      await writeHosts(this.lab, `${labDirectory(this.options.lab)}/hosts`);
      return answer;
    } catch (error) {
      if (error instanceof LabError || error instanceof ManifestError || error instanceof ExpectationError) {
        throw new ProblemError("LAB_REQUEST_INVALID", { status: 422, detail: error.message });
      }
      throw error;
    }
  }

  #step(line: string): void {
    this.#progress.push(line);
  }

  #setState(state: "starting" | "ready" | "failed" | "stopping"): void {
    this.#state = state;
    this.writeRecord();
  }
}

/** Serves the daemon's API on the lab's socket. */
export async function serve(daemon: LabDaemon, log: Logger): Promise<() => Promise<void>> {
  const api = new ApiServer({ name: "lab", log });
  daemon.mount(api);
  const listener = await listenUnix(api.fetch, `${labDirectory(daemon.options.lab)}/lab.sock`);
  return () => listener.shutdown(500);
}

/**
 * The lab daemon: makes the machines, keeps the agents, serves the lab's API, removes everything at its end.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
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
import type { SupervisedProcess } from "@weir/common/supervised-process";
import { Process } from "@weir/proto/agent";
import { ExpectationError, parseExpectations } from "./expectations.ts";
import { writeHosts } from "./hosts.ts";
import { Lab, LabError } from "./lab.ts";
import { CLUSTER } from "./labels.ts";
import { ManifestError } from "./manifests.ts";
import { nodeAgent } from "./node_agent.ts";
import { labDirectory, LAUNCHER, runDirectory, serviceSocket, stateDirectory } from "./paths.ts";
import { clusterApi, nodeApi } from "./service_apis.ts";
import { runExpectations } from "./test_runner.ts";
import { type LabNode, type Topology, topology } from "./topology.ts";
import { createUnderlay, routePodCidr } from "./underlay.ts";
import { within } from "./within.ts";

/** How long an agent may take to say how it is. */
const ANSWER_MS_MAX = 2000;

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

/** The lab stands in for systemd's watchdog, with the time that the agent has for its services. */
function hungAfterMs(options: readonly string[], node: string): number {
  const flag = agentFlags(options, node).findLast((flag) => flag.startsWith("--hung-after-s="));
  return 1000 * (Number(flag?.slice("--hung-after-s=".length)) || 30);
}

/** A lab with its machines, agents and pods. */
export class LabDaemon {
  readonly topology: Topology;
  readonly lab: Lab;
  #agents: { node: LabNode; process: SupervisedProcess }[];
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
    this.#clients = new Map(
      this.topology.nodes.map((
        node,
      ) => [node.name, new WeirClient({ socket: serviceSocket(node.instance, "agent") })]),
    );
    this.#agents = this.topology.nodes.map((node) => ({
      node,
      process: nodeAgent(node, {
        weir: LAUNCHER,
        client: this.#clients.get(node.name)!,
        hungAfterMs: hungAfterMs(options.agentOptions ?? [], node.name),
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
          ...(node.instance === this.topology.controlPlane
            ? [
              "--control-plane",
              "--ui-lab",
              options.lab,
              // Its nodes are on one host: what they share is no network, and needs no certificates.
              ...this.topology.nodes.filter((other) => other !== node).flatMap((other) => [
                "--hubble-relay-node",
                `${other.name}=${runDirectory()}/${other.instance}/hubble.sock`,
              ]),
            ]
            : [
              "--identity-allocator",
              `unix:${serviceSocket(this.topology.controlPlane, "identity-allocator")}`,
              "--policy-engine",
              `unix:${serviceSocket(this.topology.controlPlane, "policy-engine")}`,
              "--load-balancer",
              `unix:${serviceSocket(this.topology.controlPlane, "load-balancer")}`,
            ]),
          ...agentFlags(options.agentOptions ?? [], node.name),
        ],
      }),
    }));
  }

  /** Serves the API and brings the lab up; resolves when everything of it is ready, or has failed. */
  async start(): Promise<void> {
    const { nodes } = this.topology;
    try {
      await createUnderlay(this.topology);
      this.#step(`network: ${nodes.length} nodes and an outside host on one bridge, IPv4 and IPv6`);
      for (const { process } of this.#agents) process.start();
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
    const [{ pods, notes }, nodes] = await Promise.all([this.lab.status(), this.#nodes()]);
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

  async #nodes(): Promise<LabStatus["nodes"]> {
    return await Promise.all(this.#agents.map(async (agent) => {
      const { state, message } = await this.#nodeState(agent);
      const cidrs = this.#podCidrs.get(agent.node.name);
      return {
        name: agent.node.name,
        instance: agent.node.instance,
        netns: agent.node.netns,
        ipv4: agent.node.ipv4,
        ipv6: agent.node.ipv6,
        podCidrV4: cidrs?.v4 ?? "",
        podCidrV6: cidrs?.v6 ?? "",
        state,
        message,
        agentPid: agent.process.status.pid,
      };
    }));
  }

  async #nodeState({ node, process }: { node: LabNode; process: SupervisedProcess }) {
    const { state, lastError, waitsFor } = process.status;
    if (state === "hung") return { state, message: `its agent does not answer: ${waitsFor}` };
    const asked = this.#clients.get(node.name)!.readiness();
    const answer = await within(asked, ANSWER_MS_MAX).catch((error: Error) => error);
    if (answer instanceof Error) {
      return { state: "hung", message: `its agent does not answer: ${answer.message}` };
    }
    if (answer.ready) return { state: "ready", message: "" };
    return { state: "starting", message: lastError || answer.text.split("\n")[0] };
  }

  /** Ends pods and agents in order. What they leave in the kernel the sweep removes. */
  async stop(): Promise<void> {
    this.#setState("stopping");
    await this.lab.halt();
    await Promise.all(this.#agents.map(({ process }) => process.stop()));
  }

  async #processes(pods: LabStatus["pods"]): Promise<LabProcess[]> {
    const lab = this.options.lab;
    const processes: LabProcess[] = [{ lab, role: "lab", node: "", pid: Deno.pid, name: "lab" }];
    await Promise.all(this.#agents.map(async (agent) => {
      processes.push({
        lab,
        role: "agent",
        node: agent.node.name,
        pid: agent.process.status.pid,
        name: "agent",
      });
      try {
        const processesOf = this.#clients.get(agent.node.name)!.collection("processes", Process);
        const { items } = await within(processesOf.list(), ANSWER_MS_MAX);
        for (const { name, pid } of items) {
          processes.push({ lab, role: name, node: agent.node.name, pid, name });
        }
      } catch {
        // The agent is being restarted, or hangs.
      }
    }));
    for (const { namespace, name, node, pid } of pods) {
      if (pid > 0) processes.push({ lab, role: "pod", node, pid, name: `${namespace}/${name}` });
    }
    return processes.sort((a, b) =>
      `${a.node} ${a.role} ${a.name}` < `${b.node} ${b.role} ${b.name}` ? -1 : 1
    );
  }

  async #waitForAgent({ node, process }: { node: LabNode; process: SupervisedProcess }): Promise<void> {
    const client = this.#clients.get(node.name)!;
    const deadlineMs = Date.now() + this.options.readyMsMax;
    while (true) {
      const { ready, text } = await within(client.readiness(), ANSWER_MS_MAX)
        .catch((error: Error) => ({ ready: false, text: error.message }));
      if (ready) return;
      // An agent that ends thrice while coming up will not come up.
      if (process.status.restarts >= 3) throw new LabError(`${node.name}: ${process.status.lastError}`);
      if (Date.now() > deadlineMs) {
        throw new LabError(
          `${node.name} is not ready after ${this.options.readyMsMax / 1000} s: ${
            process.status.lastError || text.trim().replaceAll("\n", "; ")
          }`,
        );
      }
      await delay(100);
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

/**
 * What `weir status` and the web page find out: every question to every service at once, each with a deadline, and nothing assumed of what is
 * not answered.
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { Process } from "@weir/proto/agent";
import { Authority } from "@weir/proto/certificate";
import { DatapathService, DatapathStatus, Probes } from "@weir/proto/datapath";
import { AddressBlock, Endpoint, PeerStatus } from "@weir/proto/endpoint";
import { Node } from "@weir/proto/identity";
import { Service } from "@weir/proto/loadbalancer";
import { EngineRevision, NodePolicy } from "@weir/proto/policy";
import type { WeirClient } from "../client.ts";
import { type Answer, question } from "./question.ts";

/** One node that is asked. */
export interface StatusNode {
  readonly node: string;
  /** Directory with the sockets of its services; undefined: it is not looked into. */
  readonly directory?: string;
}

/** Whom {@link gather} asks. */
export interface StatusTargets {
  readonly nodes: readonly StatusNode[];
  /** How long an answer may take; default: two seconds. */
  readonly answerMsMax?: number;
  /** The cluster has a certificate authority, on another machine than the nodes'. */
  readonly hasAuthority?: boolean;
  /** A client of a service, of `node` or of the cluster's; {@link gather} closes it. */
  client(service: string, node?: StatusNode): WeirClient;
  /** A client of whatever listens on the socket of this name in a node's directory. */
  clientAt(socket: string, node: StatusNode): WeirClient;
}

/** How a service or node is. */
export type ServiceState = "ready" | "starting" | "hung" | "away" | "backoff" | "stopped";

/** One service of a node. */
export interface ServiceReport {
  name: string;
  state: string;
  /** 0 when not known. */
  pid: number;
  restarts: number;
  /** Since when it is in this state; 0 when not known. */
  sinceUnixS: number;
  message: string;
  /** It answered us, whatever its state is. */
  answers: boolean;
}

/** An endpoint, or a service on a node, that is not as desired. */
export interface EndpointReport {
  name: string;
  error: string;
  sinceUnixS: number;
  attempts: number;
}

/** Everything known of one node. */
export interface NodeReport {
  node: string;
  /** Every service of it is ready, and its agent says so. */
  ready: boolean;
  /** Why the agent does not answer. */
  error?: string;
  services: ServiceReport[];
  datapath?: DatapathStatus;
  /** The ways from it to the other nodes. */
  probes?: Probes;
  endpointsInError: EndpointReport[];
  /** Service ports that its kernel does not have as they should be, or whose health check node port nobody answers. */
  servicesInError: EndpointReport[];
  /** Prefixes of its endpoints' addresses that are used up, and pools of which it has too few. */
  addressesShort: AddressBlock[];
  /** Endpoints that are not ready and say no error. */
  endpointsWaiting: { name: string; state: string }[];
  /** Endpoints that work with something older than what is desired. */
  conditions: { kind: string; message: string; endpoints: number; sinceUnixS: number }[];
  endpoints?: number;
  endpointsReady?: number;
  /** What the node says of the services that it needs. */
  peers: PeerStatus[];
}

/** A service of the control plane that did not answer us. */
export interface SilentService {
  readonly service: string;
  readonly condition: "hung" | "away";
  readonly error: string;
  /** It would be on this machine: it is asked on a unix socket. */
  readonly isHere?: boolean;
}

/** What the control plane says; a part is absent when it did not. */
export interface ClusterReport {
  nodes?: Node[];
  policies?: NodePolicy[];
  revision?: EngineRevision;
  services?: number;
  /** Services of the control plane that did not answer us. */
  silent?: SilentService[];
}

/** All facts; {@link findings} says what they mean. */
export interface Facts {
  nodes: NodeReport[];
  cluster: ClusterReport;
}

const AGENT = "agent";
/** States of an endpoint that has no connection. */
const WAITING: ReadonlySet<string> = new Set(["WAITING_FOR_IDENTITY", "INVALID"]);
const NODE_SERVICES: readonly string[] = ["datapath", "l7-proxy", "endpoint-manager", "flow-exporter"];

/** Asks everything. Resolves within the deadline of one question (and a moment). */
export async function gather(targets: StatusTargets): Promise<Facts> {
  const [nodes, cluster] = await Promise.all([
    Promise.all(targets.nodes.map((node) => gatherNode(targets, node))),
    gatherCluster(targets),
  ]);
  return { nodes, cluster };
}

async function gatherCluster(targets: StatusTargets): Promise<ClusterReport> {
  const list = <T>(service: string, name: string, message: Message<T>) =>
    question(
      targets.client(service),
      async (client) => (await client.collection(name, message).list()).items,
      targets.answerMsMax,
    );
  const [nodes, policies, revision, services, authority] = await Promise.all([
    list("identity-allocator", "nodes", Node),
    list("policy-engine", "nodepolicies", NodePolicy),
    question(
      targets.client("policy-engine"),
      (client) => client.call("/v1/revision", { method: "GET", response: EngineRevision }),
      targets.answerMsMax,
    ),
    list("load-balancer", "services", Service),
    !targets.hasAuthority ? undefined : question(
      targets.client("certificate-authority"),
      (client) => client.call("/v1/authority", { method: "GET", response: Authority }),
      targets.answerMsMax,
    ),
  ]);
  const silent = Object.entries({
    "identity-allocator": nodes,
    "policy-engine": revision,
    "load-balancer": services,
    "certificate-authority": authority,
  }).flatMap(([service, answer]) =>
    answer?.kind === "hung" || answer?.kind === "away"
      ? [{ service, condition: answer.kind, error: answer.error, isHere: answer.error.includes(" unix:") }]
      : []
  );
  return {
    silent,
    nodes: valueOf(nodes),
    policies: valueOf(policies),
    revision: valueOf(revision),
    services: valueOf(services)?.length,
  };
}

async function gatherNode(targets: StatusTargets, target: StatusNode): Promise<NodeReport> {
  const report: NodeReport = {
    node: target.node,
    ready: false,
    services: [],
    endpointsInError: [],
    servicesInError: [],
    addressesShort: [],
    endpointsWaiting: [],
    conditions: [],
    peers: [],
  };
  const [processes, alive, datapath, probes, endpoints, peers, services, addresses] = await Promise.all([
    question(
      targets.client(AGENT, target),
      async (client) => (await client.collection("processes", Process).list()).items,
      targets.answerMsMax,
    ),
    askEach(targets, target),
    question(
      targets.client("datapath", target),
      (client) => client.call("/v1/status", { method: "GET", response: DatapathStatus }),
      targets.answerMsMax,
    ),
    question(
      targets.client("datapath", target),
      (client) => client.call("/v1/probes", { method: "GET", response: Probes }),
      targets.answerMsMax,
    ),
    question(
      targets.client("endpoint-manager", target),
      async (client) => (await client.collection("endpoints", Endpoint).list()).items,
      targets.answerMsMax,
    ),
    question(
      targets.client("endpoint-manager", target),
      async (client) => (await client.collection("peers", PeerStatus).list()).items,
      targets.answerMsMax,
    ),
    question(
      targets.client("endpoint-manager", target),
      async (client) => (await client.collection("services", DatapathService).list({ failed: "true" })).items,
      targets.answerMsMax,
    ),
    question(
      targets.client("endpoint-manager", target),
      async (client) => (await client.collection("addresses", AddressBlock).list()).items,
    ),
  ]);
  if (processes.kind !== "answered") report.error = processes.error;
  report.services = servicesOf(processes, alive);
  report.ready = processes.kind === "answered" && report.services.every(({ state }) => state === "ready");
  report.datapath = valueOf(datapath);
  report.probes = valueOf(probes);
  report.peers = valueOf(peers) ?? [];
  takeEndpoints(report, valueOf(endpoints));
  report.addressesShort = (valueOf(addresses) ?? []).filter(({ error, pool, used, usable }) =>
    error !== "" || (pool === "" && used >= usable)
  );
  report.servicesInError = (valueOf(services) ?? []).flatMap(({ name, status }) =>
    [status?.error, status?.healthCheck?.error].filter((error) => error?.error).map((error) => ({
      name,
      ...error!,
    }))
  );
  return report;
}

/** Asks every service that has a socket here whether it lives. */
async function askEach(targets: StatusTargets, target: StatusNode): Promise<Map<string, Answer<string>>> {
  const names = target.directory === undefined ? [] : await socketNames(target.directory);
  const answers = await Promise.all(
    names.map((name) =>
      question(
        targets.clientAt(name, target),
        async (client) => {
          const answer = await client.send("/livez");
          return await answer.text();
        },
        targets.answerMsMax,
      )
    ),
  );
  return new Map(names.map((name, index) => [name, answers[index]]));
}

async function socketNames(directory: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(directory)) {
      if (
        name.endsWith(".sock") &&
        !/^(agent|notify|hubble|hubble-relay|l7-records|ui-page|.*-read)\.sock$/.test(name)
      ) {
        names.push(name.slice(0, -5));
      }
    }
  } catch {
    return [...NODE_SERVICES]; // who may not list the directory may still speak to the services
  }
  return names.sort();
}

/** What the agent says of its services, corrected by whether they answered us. */
function servicesOf(
  processes: Answer<Process[]>,
  alive: ReadonlyMap<string, Answer<string>>,
): ServiceReport[] {
  const rows = new Map<string, ServiceReport>();
  const agent = processes.kind === "answered" ? "ready" : processes.kind === "hung" ? "hung" : "away";
  if (agent !== "ready") {
    const message = processes.kind === "answered" ? "" : processes.error;
    rows.set(AGENT, {
      name: AGENT,
      state: agent,
      pid: 0,
      restarts: 0,
      sinceUnixS: 0,
      message,
      answers: false,
    });
  }
  for (const process of valueOf(processes) ?? []) {
    const { name, state, pid, restarts, sinceUnixS } = process;
    const message = state === "ready" ? "" : process.lastError;
    // Where nobody was asked, the agent's word is all there is.
    const answers = alive.size === 0 && (state === "ready" || state === "starting");
    rows.set(name, { name, state, pid, restarts, sinceUnixS, message, answers });
  }
  for (const [name, answer] of alive) {
    const row = rows.get(name) ?? {
      name,
      state: "ready",
      pid: 0,
      restarts: 0,
      sinceUnixS: 0,
      message: "",
      answers: false,
    };
    row.answers = answer.kind === "answered";
    const known = rows.has(name);
    if (answer.kind === "hung" && row.state !== "hung") {
      Object.assign(row, { state: "hung", message: answer.error, sinceUnixS: 0 });
    } else if (answer.kind === "away" && (row.state === "ready" || !known)) {
      Object.assign(row, { state: "away", message: answer.error, sinceUnixS: 0 });
    } else if (answer.kind === "refused") {
      Object.assign(row, { state: "hung", message: answer.error });
    }
    rows.set(name, row);
  }
  return [...rows.values()];
}

function takeEndpoints(report: NodeReport, endpoints: Endpoint[] | undefined): void {
  if (endpoints === undefined) return;
  report.endpoints = endpoints.length;
  report.endpointsReady = endpoints.filter(({ status }) => status?.state === "READY").length;
  const conditions = new Map<string, NodeReport["conditions"][number]>();
  for (const { name, status } of endpoints) {
    if (status?.error?.error) {
      const { error, sinceUnixS, attempts } = status.error;
      report.endpointsInError.push({ name, error, sinceUnixS, attempts });
    }
    if (status && WAITING.has(status.state) && !status.error?.error) {
      report.endpointsWaiting.push({ name, state: status.state });
    }
    for (const { kind, message, sinceUnixS } of status?.conditions ?? []) {
      const row = conditions.get(kind) ?? { kind, message, endpoints: 0, sinceUnixS };
      row.endpoints++;
      row.sinceUnixS = Math.min(row.sinceUnixS, sinceUnixS);
      conditions.set(kind, row);
    }
  }
  report.conditions = [...conditions.values()];
}

function valueOf<T>(answer: Answer<T>): T | undefined {
  return answer.kind === "answered" ? answer.value : undefined;
}

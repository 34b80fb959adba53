/**
 * What is wrong, since when, and what follows from it for traffic. Pure: facts in, sentences out.
 *
 * @module
 */
import type { PeerStatus } from "@weir/proto/endpoint";
import type { Node } from "@weir/proto/identity";
import type { NodePolicy } from "@weir/proto/policy";
import { type PairTrouble, pairTroubles } from "./node_paths.ts";
import type { ClusterReport, Facts, NodeReport } from "./status_report.ts";

/**
 * - hung: the process is there and does not answer
 * - away: nothing listens
 * - partitioned: two that live do not hear each other
 * - stale: what is in force is older than what is wanted
 * - degraded: it works with less than it should
 */
export type Condition = "hung" | "away" | "partitioned" | "stale" | "degraded";

/** One thing that is wrong. */
export interface Finding {
  condition: Condition;
  /** "" for the cluster as a whole. */
  node: string;
  /** Service it is about, "" for the node. */
  subject: string;
  /** 0: not known. */
  sinceUnixS: number;
  message: string;
  /** What follows from it for traffic. */
  effect: string;
  /** What to do about it; "" where waiting is all. */
  remedy: string;
}

/** Silent for so long a node is cut off: three heartbeats. */
const HEARTBEAT_S_MAX = 90;

/** Whether the control plane has not heard of a node for too long; of one that was never heard it is not known. */
export function isSilent({ heartbeatUnixS }: Node, nowUnixS: number): boolean {
  return heartbeatUnixS > 0 && nowUnixS - heartbeatUnixS > HEARTBEAT_S_MAX;
}

/** A policy that was applied just now is on its way. */
export const BEHIND_S_MAX = 5;

/** What follows when a service does not answer. What is in the kernel goes on in every case. */
const EFFECTS: Readonly<Record<string, (node: string) => string>> = {
  agent: (node) => `services of ${node} that end or hang are not started again`,
  datapath: (node) =>
    `traffic and policy of ${node} go on as they are; changes of policy, endpoints and services do not reach its kernel`,
  "endpoint-manager": (node) =>
    `endpoints of ${node} cannot be added, changed or removed; new policies and services do not reach it, what is in force stays`,
  "l7-proxy": (node) =>
    `connections of ${node} for which a policy has L7 rules are refused or stand still; all other traffic goes on`,
  "flow-exporter": (node) => `weir observe shows nothing of ${node}; traffic is not affected`,
  "relay": () =>
    "hubble shows no flows of the whole cluster; weir observe, each node's own Hubble API and traffic are not affected",
  "flow-history": () =>
    "nothing tells what flows were before now; present flows, weir observe without --since and traffic are not affected",
  "kubernetes": () =>
    "what changes in Kubernetes (pods, policies, services) reaches no node, and no node joins; what is in force stays",
  "ui": () => "the web page does not answer; flows, their history and traffic are not affected",
  "identity-allocator": () =>
    "endpoints with new labels cannot be added, nodes cannot join; addresses of new endpoints do not reach other nodes",
  "policy-engine": () => "policies cannot be changed and reach no node; what is in force stays",
  "load-balancer": () => "services and their backends do not change; connections to them go on",
  "certificate-authority": () =>
    "nodes cannot join, certificates are not renewed; services of the control plane that start anew answer no other machine",
};
/** Nothing of the kernel's state is lost by starting anything of Weir anew. */
const REMEDIES: Readonly<Record<Condition, (node: string, service: string) => string>> = {
  hung: (node, service) =>
    service === "agent"
      ? `systemd (or the lab) starts it anew; if not: systemctl restart weir on ${node}`
      : `its agent starts it anew within half a minute; if it comes back like this, read the log of ${service} on ${node} (journalctl -u weir, or /run/weir/lab/LAB/logs)`,
  away: (node, service) =>
    service === "agent"
      ? `start it on ${node}: systemctl start weir, or weir agent`
      : `its agent starts it with backoff; why it ends is in the log of ${service} on ${node} (journalctl -u weir, or /run/weir/lab/LAB/logs)`,
  partitioned: (node) =>
    `look at the way from ${node} to the control plane: routes, firewall, TCP ports 7440 to 7443`,
  stale: () => "",
  degraded: () => "",
};
const PLANE_MACHINE = "the control plane's machine";
const CLUSTER_SERVICES = ["identity-allocator", "policy-engine", "load-balancer", "certificate-authority"];
/** Where none of them answers, it is the way to the control plane. */
const NEEDED_BY_NODES = ["identity-allocator", "policy-engine", "load-balancer"];

/** Everything that is wrong, the gravest first. */
export function findings({ nodes, cluster }: Facts, nowUnixS: number): Finding[] {
  const found: Finding[] = [];
  for (const node of nodes) found.push(...ofServices(node));
  const told = new Set(found.map(({ subject }) => subject));
  const silent = cluster.silent ?? [];
  const isCutOff = NEEDED_BY_NODES.every((name) => silent.some(({ service }) => service === name));
  for (const node of nodes) {
    for (const peer of node.peers) {
      // Where the others answer it is not the way.
      const own = isCutOff ? undefined : silent.find(({ service }) => service === peer.name)?.condition;
      // What has just begun passes by itself, as services start anew.
      if (nowUnixS - peer.sinceUnixS > BEHIND_S_MAX) found.push(...ofPeer(node.node, peer, told, own));
    }
  }
  for (const policy of cluster.policies ?? []) {
    found.push(...ofPolicy(policy, cluster.revision?.policyRevision, nowUnixS));
  }
  for (const node of cluster.nodes ?? []) found.push(...ofHeartbeat(node, nowUnixS));
  found.push(...ofPairs(nodes, cluster.nodes ?? [], nowUnixS));
  for (const node of nodes) {
    found.push(
      ...ofConditions(node, nowUnixS),
      ...ofFailedServices(node),
      ...ofAddresses(node),
      ...ofStuck(node),
      ...ofDatapath(node),
      ...ofTables(node),
    );
  }
  // A node says so only once it has waited for a heartbeat; we have asked just now.
  const untold = silent.filter(({ service }) => !found.some(({ subject }) => subject === service));
  const isNoticed = isCutOff && found.some(({ condition }) => condition === "partitioned");
  const isStarting = nodes.some(({ services }) => services.some(({ state }) => state === "starting"));
  if (isCutOff && untold.length === silent.length) found.push(ofCutOff(silent, isStarting));
  else if (!isNoticed) found.push(...untold.map(ofSilent));
  return found.sort((a, b) => ORDER.indexOf(a.condition) - ORDER.indexOf(b.condition));
}

const ORDER: readonly Condition[] = ["hung", "away", "partitioned", "stale", "degraded"];

function ofServices({ node, services }: NodeReport): Finding[] {
  return services.flatMap(({ name, state, sinceUnixS, message, answers }): Finding[] => {
    if (state === "ready") return [];
    const condition = state === "hung" ? "hung" : answers || state === "starting" ? "degraded" : "away";
    const effect = EFFECTS[name]?.(node) ?? "";
    const what = state === "starting"
      ? `is starting${message === "" || message.startsWith("Cannot reach") ? "" : `, waits for ${message}`}`
      : message;
    const remedy = state === "starting" ? "" : REMEDIES[condition](node, name);
    return [{ condition, node, subject: name, sinceUnixS, message: what || state, effect, remedy }];
  });
}

/**
 * A peer that we hear and the node does not is on the other side of a partition; one that nobody hears is told already.
 * @param own what is wrong with the peer itself, where we have seen it
 */
function ofPeer(
  node: string,
  peer: PeerStatus,
  told: ReadonlySet<string>,
  own: "hung" | "away" | undefined,
): Finding[] {
  const { name, state, error } = peer;
  if (state === "OK" || state === "STATE_UNSPECIFIED") return [];
  const effect = peer.effect || EFFECTS[name]?.(node) || "";
  const sinceUnixS = peer.lastHeardUnixS || peer.sinceUnixS;
  if (state === "STALE") {
    const message = error || `what ${name} says is older than what the node knows; it is filled again`;
    return [{
      condition: "stale",
      node,
      subject: name,
      sinceUnixS: peer.sinceUnixS,
      message,
      effect,
      remedy: "",
    }];
  }
  if (told.has(name)) return [];
  const cannot = `${node} does not hear ${name}${peer.address === "" ? "" : ` (${peer.address})`}`;
  const condition = own ?? (CLUSTER_SERVICES.includes(name) ? "partitioned" : "hung");
  const message = error === "" ? cannot : `${cannot}: ${error}`;
  return [{
    condition,
    node,
    subject: name,
    sinceUnixS,
    message,
    effect,
    remedy: REMEDIES[condition](own === undefined ? node : PLANE_MACHINE, name),
  }];
}

function ofSilent({ service, condition, error }: NonNullable<ClusterReport["silent"]>[number]): Finding {
  const effect = EFFECTS[service](""), remedy = REMEDIES[condition](PLANE_MACHINE, service);
  return { condition, node: "", subject: service, sinceUnixS: 0, message: error, effect, remedy };
}

/**
 * Nothing of the control plane answers us, on any of its machines.
 * @param isStarting services of a node that we see are starting
 */
function ofCutOff(silent: NonNullable<ClusterReport["silent"]>, isStarting: boolean): Finding {
  const isAway = silent.every(({ condition }) => condition === "away");
  // Its services come after the node's own.
  const comes = isAway && isStarting && silent.every(({ isHere }) => isHere);
  return {
    condition: comes ? "degraded" : isAway ? "away" : "partitioned",
    node: "",
    subject: "control plane",
    sinceUnixS: 0,
    message: comes ? "it is starting" : `none of its services answers: ${silent[0].error}`,
    effect:
      "changes of policy, identities and services do not reach this machine; its traffic goes on under what it has",
    remedy: comes
      ? ""
      : isAway
      ? "start it on its machine: systemctl start weir, or weir agent --control-plane"
      : REMEDIES.partitioned("here", ""),
  };
}

function ofPolicy(policy: NodePolicy, newest: number | undefined, nowUnixS: number): Finding[] {
  const { node, policyRevision, error } = policy;
  const behind = policy.behind && nowUnixS - policy.behindSinceUnixS > BEHIND_S_MAX;
  if (!behind && error === "") return [];
  const since = policy.behindSinceUnixS || policy.heardUnixS;
  const newer = newest === undefined ? "" : `, the newest is revision ${newest}`;
  const inForce = policyRevision === 0
    ? "it is not known what is in force there"
    : `what is in force there is revision ${policyRevision}`;
  return [{
    condition: "stale",
    node,
    subject: "policy",
    sinceUnixS: since,
    message: error === ""
      ? `new policies do not reach ${node}${newer}`
      : `${node} cannot put the newest policies in force: ${error}`,
    effect: inForce,
    remedy: error === ""
      ? `look at the services of ${node} above; is it gone for good: weir cluster remove ${node}`
      : notThere(error)
      ? `is the endpoint gone for good: weir endpoint delete NAME --node ${node}`
      : `weir status --node ${node} --verbose shows how full its maps are`,
  }];
}

function ofHeartbeat(node: Node, nowUnixS: number): Finding[] {
  const { name, heartbeatUnixS } = node;
  if (!isSilent(node, nowUnixS)) return [];
  return [{
    condition: "partitioned",
    node: name,
    subject: "control plane",
    sinceUnixS: heartbeatUnixS,
    message: `the control plane has not heard of ${name}`,
    effect:
      `changes of policy, identities and services may not reach ${name}; its traffic goes on under what it has`,
    remedy: `is ${name} up? ${
      REMEDIES.partitioned(name, "")
    }; is it gone for good: weir cluster remove ${name}`,
  }];
}

/** Failed services of a node that are told one by one. */
const FAILED_SERVICES_MAX = 3;
/** More pairs with the same trouble are told as one. */
const PAIRS_MAX = 3;

/** Ways between nodes, each pair once. Who is known not to answer is told already: its silence says nothing of the way. */
function ofPairs(reports: readonly NodeReport[], nodes: readonly Node[], nowUnixS: number): Finding[] {
  const quiet = new Set([
    ...nodes.filter((node) => node.state === "NODE_DEAD" || isSilent(node, nowUnixS)).map(({ name }) => name),
    ...reports.filter(({ services }) =>
      services.some(({ name, state }) => name === "datapath" && state !== "ready")
    ).map(({ node }) => node),
  ]);
  const probes = new Map(reports.flatMap(({ node, probes }) => probes === undefined ? [] : [[node, probes]]));
  const kinds = Map.groupBy(pairTroubles(probes, (node) => quiet.has(node)), ({ kind }) => kind);
  return [...kinds.values()].flatMap((pairs): Finding[] =>
    pairs.length <= PAIRS_MAX ? pairs.map((pair) => ofPair(pair)) : [ofPair(pairs[0], pairs)]
  );
}

/** @param all pairs with the same trouble, of which this is the worst */
function ofPair(
  { nodes, sinceUnixS, message, effect, remedy }: PairTrouble,
  all?: readonly PairTrouble[],
): Finding {
  const node = all === undefined ? nodes[0] : "";
  const most = all && mostOf(all.flatMap((pair) => pair.nodes));
  const sum = all &&
    `${all.length} pairs of nodes${
      most!.count === all.length ? `, all with ${most!.name}` : ""
    }, the worst: `;
  return {
    condition: "degraded",
    node,
    subject: all === undefined ? `way to ${nodes[1]}` : "ways between nodes",
    sinceUnixS: all === undefined ? sinceUnixS : Math.min(...all.map((pair) => pair.sinceUnixS)),
    message: `${sum ?? ""}${message}`,
    effect,
    remedy,
  };
}

function mostOf(names: readonly string[]): { name: string; count: number } {
  const counts = Map.groupBy(names, (name) => name);
  return [...counts].map(([name, same]) => ({ name, count: same.length })).reduce((a, b) =>
    b.count > a.count ? b : a
  );
}

const CONDITION_EFFECTS: Readonly<Record<string, [Condition, string]>> = {
  POLICY_STALE: ["stale", "the policy that they have stays in force"],
  POLICY_FAILED: ["stale", "the policy that they have stays in force"],
  IDENTITY_IN_DOUBT: ["degraded", "they keep the identity and the policy that they have"],
  NOT_ANNOUNCED: ["degraded", "other nodes do not know all of their addresses"],
  DATAPATH_SILENT: ["stale", "their changes do not reach the kernel"],
};

function ofConditions({ node, conditions, endpointsInError }: NodeReport, nowUnixS: number): Finding[] {
  const lasting = conditions.filter(({ sinceUnixS }) => nowUnixS - sinceUnixS > BEHIND_S_MAX);
  const found = lasting.map(({ kind, message, endpoints, sinceUnixS }): Finding => {
    const [condition, effect] = CONDITION_EFFECTS[kind] ?? ["degraded", ""];
    const what = `${endpoints} ${endpoints === 1 ? "endpoint" : "endpoints"}: ${message || kind}`;
    return { condition, node, subject: "endpoints", sinceUnixS, message: what, effect, remedy: "" };
  });
  for (const { name, error, sinceUnixS, attempts } of endpointsInError) {
    const message = `endpoint ${name}: ${error} (${attempts} attempts)`;
    const effect = "it has no connection until this is mended",
      remedy = notThere(error)
        ? `is it gone for good: weir endpoint delete ${name} --node ${node}`
        : `weir endpoint get ${name} --node ${node}`;
    found.push({ condition: "degraded", node, subject: "endpoints", sinceUnixS, message, effect, remedy });
  }
  return found;
}

/** Addresses that are used up: of the node's own prefixes, and of named pools, each once. */
function ofAddresses({ node, addressesShort }: NodeReport): Finding[] {
  const byPool = new Map(addressesShort.map((block) => [block.pool === "" ? block.name : block.pool, block]));
  return [...byPool].map(([name, { pool, used, usable, error }]): Finding => ({
    condition: "degraded",
    node,
    subject: "addresses",
    sinceUnixS: 0,
    message: pool === "" ? `${name}: ${used} of ${usable} addresses are in use` : `pool ${name}: ${error}`,
    effect: `new endpoints${
      pool === "" ? "" : ` of pool ${name}`
    } may get no address; those that run keep theirs`,
    remedy: pool === ""
      ? `move workloads to other nodes, or give ${node} a larger pod CIDR`
      : "weir endpoint pool list shows how full it is; give it more prefixes, or delete endpoints that name it",
  }));
}

/** Services that are not served as they should be: the first few, then how many there are. */
function ofFailedServices({ node, servicesInError }: NodeReport): Finding[] {
  // The ports of one service share its health check node port, and what is wrong with it.
  const told = new Set<string>();
  const distinct = servicesInError.filter(({ error }) => !told.has(error) && told.add(error));
  const found = distinct.slice(0, FAILED_SERVICES_MAX).map((
    { name, error, sinceUnixS, attempts },
  ): Finding => ({
    condition: "degraded",
    node,
    subject: "services",
    sinceUnixS,
    message: `service ${name}: ${error} (${attempts} attempts)`,
    effect: "",
    remedy: `weir service get ${name.split(":")[0]}`,
  }));
  const more = distinct.length - found.length;
  if (more > 0) found[found.length - 1].message += `, and ${more} more services`;
  return found;
}

/** What an endpoint is made of (namespace, device, cgroup) is not there any more. */
function notThere(error: string): boolean {
  return error.includes("it is not there");
}

/** Endpoints that wait for something, and say no error: what they wait for does not come. */
function ofStuck({ node, endpointsWaiting }: NodeReport): Finding[] {
  return endpointsWaiting.map(({ name, state }): Finding => ({
    condition: "degraded",
    node,
    subject: "endpoints",
    sinceUnixS: 0,
    message: `endpoint ${name} is not ready: ${state.toLowerCase().replaceAll("_", " ")}`,
    effect: "it has no connection yet",
    remedy: `weir endpoint get ${name} --node ${node}; identities come from the identity allocator`,
  }));
}

/** What a full table means for traffic. */
const TABLE_EFFECTS: Readonly<Record<string, string>> = {
  weir_ct: "new flows are refused, those that are there go on",
  weir_nat: "new flows that need translation are refused, those that are there go on",
  weir_ipcache: "addresses that do not fit count as unknown, and policy by identity does not let them in",
  weir_policies: "new policies cannot be put in force here",
  weir_endpoints: "no endpoint can be added here",
};
/** From here on a table counts as full. */
export const TABLE_FULL_PART = 0.97;

function ofTables({ node, datapath }: NodeReport): Finding[] {
  return (datapath?.pressure ?? []).flatMap(({ map, entries, entriesMax }): Finding[] => {
    // Events wait in their ring for a moment, and are counted where they are lost.
    if (map === "weir_events" || entriesMax === 0 || entries < TABLE_FULL_PART * entriesMax) return [];
    return [{
      condition: "degraded",
      node,
      subject: "datapath",
      sinceUnixS: 0,
      message: `the table ${map} is full: ${entries} of ${entriesMax} entries`,
      effect: TABLE_EFFECTS[map] ?? "what does not fit is refused",
      remedy: `weir top shows who holds how much`,
    }];
  });
}

function ofDatapath({ node, datapath }: NodeReport): Finding[] {
  return (datapath?.errors ?? []).map(({ kind, error, sinceUnixS }): Finding => ({
    condition: "degraded",
    node,
    subject: "datapath",
    sinceUnixS,
    message: `in error: ${kind}: ${error}`,
    effect: "what is in the kernel stays; this is tried again",
    remedy: "",
  }));
}

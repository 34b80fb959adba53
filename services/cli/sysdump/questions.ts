/** What a sysdump asks each service, and under which name the answer is kept. @module */
import type { Message } from "@weir/proto";
import { Process } from "@weir/proto/agent";
import {
  DatapathService,
  DatapathStatus,
  EndpointSockets,
  MapDump,
  NodeConfig,
  Probes,
  Program,
  Usage,
} from "@weir/proto/datapath";
import { DUMP_NAMES } from "@weir/proto/dumps";
import { AddressBlock, Endpoint, FqdnIdentity, KnownName, PeerStatus } from "@weir/proto/endpoint";
import { Holder, Identity, IpcacheEntry, Node, PodPool } from "@weir/proto/identity";
import { AddressPool, Backend, BackendOverride, Pod, Service, ServicePort } from "@weir/proto/loadbalancer";
import { GetAgentEventsResponse, GetFlowsResponse, ServerStatusResponse } from "@weir/proto/observer";
import { EngineRevision, NodePolicy, Policy, PolicyFault, PolicySelection } from "@weir/proto/policy";
import type { ServiceName } from "../context.ts";

/** A message of any type. */
// deno-lint-ignore no-explicit-any
export type AnyMessage = Message<any>;

/** Objects that are asked for one by one. */
export const EACH_MAX = 500;

/** One question. */
export type Question =
  /** All objects of a collection. */
  | { readonly kind: "list"; readonly name: string; readonly message: AnyMessage }
  /** An object of a collection that has no list, for each object of another; the first {@link EACH_MAX}. */
  | {
    readonly kind: "each";
    readonly name: string;
    readonly message: AnyMessage;
    readonly of: Question & { kind: "list" };
  }
  /** One message. */
  | { readonly kind: "call"; readonly path: string; readonly message: AnyMessage }
  /** The newest of a stream. */
  | { readonly kind: "stream"; readonly path: string; readonly message: AnyMessage }
  /** A text. */
  | { readonly kind: "text"; readonly path: string };

const list = (name: string, message: AnyMessage) => ({ kind: "list", name, message }) as const;
const call = (path: string, message: AnyMessage): Question => ({ kind: "call", path, message });
const stream = (path: string, message: AnyMessage): Question => ({ kind: "stream", path, message });
const text = (path: string): Question => ({ kind: "text", path });

/** Asked of every service; the first that does not answer is the last that is asked. */
const EVERY: readonly Question[] = [
  text("/livez"),
  text("/readyz?verbose"),
  text("/version"),
  text("/metrics"),
];

/** Services of the cluster, and what each is asked. */
export const CLUSTER_QUESTIONS: Partial<Record<ServiceName, readonly Question[]>> = {
  "identity-allocator": [
    ...EVERY,
    list("identities", Identity),
    list("nodes", Node),
    list("ipcache", IpcacheEntry),
    list("holders", Holder),
    list("podpools", PodPool),
  ],
  "policy-engine": [
    ...EVERY,
    list("policies", Policy),
    list("nodepolicies", NodePolicy),
    list("policyselections", PolicySelection),
    list("policyfaults", PolicyFault),
    call("/v1/revision", EngineRevision),
  ],
  "load-balancer": [
    ...EVERY,
    list("services", Service),
    list("serviceports", ServicePort),
    list("backends", Backend),
    list("addresspools", AddressPool),
    list("pods", Pod),
    list("backendoverrides", BackendOverride),
  ],
  "flow-history": EVERY,
  relay: EVERY,
};

/** Services of each node, and what each is asked. */
export const NODE_QUESTIONS: Partial<Record<ServiceName, readonly Question[]>> = {
  agent: [...EVERY, list("processes", Process)],
  datapath: [
    ...EVERY,
    call("/v1/status", DatapathStatus),
    call("/v1/usage", Usage),
    call("/v1/probes", Probes),
    list("nodeconfig", NodeConfig),
    list("programs", Program),
    ...DUMP_NAMES.map((name) => call(`/v1/maps/${name}`, MapDump)),
  ],
  "endpoint-manager": [
    ...EVERY,
    list("endpoints", Endpoint),
    list("services", DatapathService),
    list("addresses", AddressBlock),
    list("names", KnownName),
    list("fqdnidentities", FqdnIdentity),
    list("peers", PeerStatus),
    { kind: "each", name: "sockets", message: EndpointSockets, of: list("endpoints", Endpoint) },
  ],
  "l7-proxy": EVERY,
  "flow-exporter": [
    ...EVERY,
    call("/v1/status", ServerStatusResponse),
    stream("/v1/flows", GetFlowsResponse),
    stream("/v1/agent-events", GetAgentEventsResponse),
  ],
};

/** The file of an answer in its service's directory: "endpoints.json", "maps.policy.json", "flows.jsonl", "metrics.txt". */
export function fileOf(question: Question): string {
  switch (question.kind) {
    case "list":
    case "each":
      return `${question.name}.json`;
    case "call":
      return `${nameOf(question.path)}.json`;
    case "stream":
      return `${nameOf(question.path)}.jsonl`;
    case "text":
      return `${nameOf(question.path)}.txt`;
  }
}

const nameOf = (path: string) => path.split("?")[0].replace(/^\/(v1\/)?/, "").replaceAll("/", ".");

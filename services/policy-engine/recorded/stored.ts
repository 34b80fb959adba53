/**
 * A cluster's own record: connections as its flow history has them, policies as the engine stores them, and who is there now.
 * @module
 */
import {
  IDENTITY_ALLOCATED_MIN,
  isLocalIdentity,
  LabelError,
  LabelSet,
  PROTOCOL_NUMBERS,
} from "@weir/common";
import { formatFault } from "@weir/common/manifest";
import type { Endpoint } from "@weir/proto/flow";
import type { Connection } from "@weir/proto/history";
import type { Identity, IpcacheEntry } from "@weir/proto/identity";
import type { Policy as StoredPolicy } from "@weir/proto/policy";
import { withImpliedLabels } from "../implied_labels.ts";
import { readManifests } from "../manifest.ts";
import type { NamedPort } from "../named_ports.ts";
import type { Policy } from "../policy.ts";
import type { PolicyRepository } from "../policy_repository.ts";
import type { PortsOf } from "./judged_cluster.ts";
import { type EndFacts, endFacts, RecordError } from "./recorded_end.ts";
import type { FlowFacts, FlowRecorder } from "./recorder.ts";

const PROTOCOLS: Readonly<Record<string, number>> = {
  ...{ TCP: PROTOCOL_NUMBERS.TCP, UDP: PROTOCOL_NUMBERS.UDP, SCTP: PROTOCOL_NUMBERS.SCTP },
  ...{ ICMPv4: PROTOCOL_NUMBERS.ICMP, ICMPv6: PROTOCOL_NUMBERS.ICMPV6 },
};
/** Of connections of ICMP the type is not kept: they are questions that echo. */
const ECHO: Readonly<Record<string, number>> = { ICMPv4: 8, ICMPv6: 128 };
const POLICY_REASONS: ReadonlySet<string> = new Set(["POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED"]);
const KNOWN_MAX = 20_000;

/** Puts connections of the history into a record. */
export class ConnectionReader {
  readonly #known = new Map<string, EndFacts>();
  /** Ends whose labels cannot be read. */
  unread = 0;
  /** Connections of ICMP, whose type is not kept. */
  echoes = 0;

  constructor(readonly recorder: FlowRecorder) {}

  add(connection: Connection): void {
    let ends: Pick<FlowFacts, "source" | "destination">;
    try {
      ends = {
        source: this.#factsOf(connection.source, "source"),
        destination: this.#factsOf(connection.destination, "destination"),
      };
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      this.unread++;
      return;
    }
    const { protocol, destinationPort, endUnixS, destinationService } = connection, echo = ECHO[protocol];
    if (echo !== undefined) this.echoes++;
    this.recorder.add({
      ...ends,
      ms: endUnixS * 1000,
      node: connection.nodes[0] ?? "",
      type: "L3_L4",
      verdict: verdictOf(connection),
      sourceIp: connection.sourceIp,
      destinationIp: connection.destinationIp,
      protocol: PROTOCOLS[protocol] ?? 0,
      sourcePort: connection.sourcePort,
      destinationPort: echo ?? destinationPort,
      // The history has turned it round already.
      isReply: false,
      isRelated: false,
      direction: "",
      toService: destinationService !== undefined,
      sourceNames: [],
      destinationNames: connection.destinationNames,
    });
  }

  #factsOf(endpoint: Endpoint | undefined, path: string): EndFacts {
    const { labels = [], identity = 0, namespace = "", pod_name: pod = "", workloads = [] } = endpoint ?? {};
    const workload = workloads[0]?.name ?? "",
      key = JSON.stringify([identity, namespace, pod, workload, labels]);
    let facts = this.#known.get(key);
    if (facts === undefined) {
      facts = endFacts({ labels, identity, namespace, pod, workload, path });
      if (this.#known.size >= KNOWN_MAX) this.#known.clear();
      this.#known.set(key, facts);
    }
    return facts;
  }
}

/** What the worst of its flows was does not say whether a request was denied on it: its state does. */
function verdictOf({ state, dropReason }: Connection): FlowFacts["verdict"] {
  if (state !== "DENIED") return "passed";
  return POLICY_REASONS.has(dropReason) ? "denied" : "dropped";
}

/** Policies, and what of them cannot be read. */
export function readStoredPolicies(
  stored: readonly StoredPolicy[],
  cluster: string,
): { policies: Policy[]; unread: string[] } {
  const policies: Policy[] = [], unread: string[] = [];
  for (const { name, manifest, file, line, namespace } of stored) {
    const read = readManifests(manifest, {
      file,
      line: Math.max(1, line),
      namespace: namespace || undefined,
      cluster,
    });
    const policy = read.policies.find((one) => one.name === name);
    if (policy !== undefined) policies.push(policy);
    else {unread.push(
        `${name}: ${read.faults[0] === undefined ? "it holds another" : formatFault(read.faults[0], file)}`,
      );}
  }
  return { policies, unread };
}

/** Who is in a cluster now. */
export interface ClusterNow {
  readonly identities: readonly Identity[];
  readonly addresses: readonly IpcacheEntry[];
}

/** Puts the identities into a repository; those whose labels cannot be read are left out, and counted. */
export function addIdentities(
  repository: PolicyRepository,
  { identities }: ClusterNow,
  cluster: string,
): number {
  let unread = 0;
  for (const { number, labels } of identities) {
    if (number < IDENTITY_ALLOCATED_MIN || isLocalIdentity(number)) continue;
    try {
      repository.upsertIdentity(number, withImpliedLabels(number, LabelSet.parse(labels), cluster));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
      unread++;
    }
  }
  return unread;
}

/** Identities by the node that hosts them. */
export function hostedOf({ addresses }: ClusterNow, repository: PolicyRepository): Map<string, Set<number>> {
  const hosted = new Map<string, Set<number>>();
  for (const { identity, node, endpoint } of addresses) {
    if (endpoint === "" || node === "" || repository.group(identity) === undefined) continue;
    const known = hosted.get(node);
    if (known === undefined) hosted.set(node, new Set([identity]));
    else known.add(identity);
  }
  return hosted;
}

/** Port names by identity: those of one of its endpoints. */
export function portsOfNow({ addresses }: ClusterNow): PortsOf {
  const byIdentity = new Map<number, readonly NamedPort[]>();
  for (const { identity, namedPorts } of addresses) {
    if (namedPorts.length > 0 && !byIdentity.has(identity)) byIdentity.set(identity, namedPorts);
  }
  return ({ identity }) => byIdentity.get(identity) ?? [];
}

/**
 * What metrics need of a flow. Of an event of the datapath each part is made when it is asked for, so that counting makes no whole
 * flow; of a whole flow (those of layer 7 come so) it is read from there. Both give the same.
 * @module
 */
import type { Endpoint, Flow, Layer7, TrafficDirection, Verdict } from "@weir/proto/flow";
import { dropReasonName } from "@weir/proto/words";
import { L7_EVENT } from "@weir/flow-filter";
import type { DatapathEvent } from "../event.ts";
import {
  directionOf,
  EVENT_TYPE,
  type KnownAddress,
  labelsOf,
  replyOf,
  trueSender,
  verdictOf,
} from "../flow_builder.ts";
import type { Transport } from "../packet.ts";
import type { SeenNames } from "../seen_flow.ts";
import { type Workload, workloadOf } from "@weir/common";

/** One side of a flow. */
export interface CountedEnd {
  readonly identity: number;
  readonly namespace: string;
  readonly podName: string;
  readonly labels: readonly string[];
  readonly workload: Workload | undefined;
  readonly ip: string;
  /** DNS names of the address. */
  readonly names: readonly string[];
}

/** A flow as metrics see it. */
export interface CountedFlow {
  /** `event_type.type` and `.sub_type`. */
  readonly type: number;
  readonly subType: number;
  readonly verdict: Verdict;
  readonly dropReason: string;
  readonly family: 4 | 6 | undefined;
  readonly transport: Transport | undefined;
  /** undefined: not known. */
  readonly isReply: boolean | undefined;
  readonly direction: TrafficDirection;
  readonly matchType: number;
  readonly source: CountedEnd;
  readonly destination: CountedEnd;
  readonly l7: Layer7 | undefined;
}

/** An event of the datapath, counted without making its flow. */
export class CountedEvent implements CountedFlow {
  readonly l7 = undefined;
  readonly verdict: Verdict;
  #source: CountedEnd | undefined;
  #destination: CountedEnd | undefined;
  readonly #event: DatapathEvent;
  readonly #names: SeenNames;

  constructor(event: DatapathEvent, names: SeenNames) {
    this.#event = event;
    this.#names = names;
    this.verdict = verdictOf(event);
  }

  get type(): number {
    return EVENT_TYPE[this.#event.kind];
  }
  get subType(): number {
    const event = this.#event;
    if (event.kind === "trace") return event.point;
    return event.kind === "drop" ? event.reason : event.kind === "trouble" ? event.trouble : 0;
  }
  get dropReason(): string {
    const event = this.#event;
    if (event.kind === "drop") return dropReasonName(event.reason);
    return dropReasonName(event.kind === "policy-verdict" && event.verdict < 0 ? -event.verdict : 0);
  }
  get family(): 4 | 6 | undefined {
    return this.#names.packet.ip?.family;
  }
  get transport(): Transport | undefined {
    return this.#names.packet.transport;
  }
  get isReply(): boolean | undefined {
    return replyOf(this.#event, this.#names.packet);
  }
  get direction(): TrafficDirection {
    return directionOf(this.#event, this.#names.packet, this.#names);
  }
  get matchType(): number {
    return this.#event.kind === "policy-verdict" ? this.#event.matchType : 0;
  }
  get source(): CountedEnd {
    return this.#source ??= this.#makeSource();
  }
  get destination(): CountedEnd {
    return this.#destination ??= this.#makeDestination();
  }

  #makeSource(): CountedEnd {
    const names = this.#names, event = this.#event, ip = names.packet.ip?.source;
    const known = trueSender(event, ip, names) ?? (ip === undefined ? undefined : names.address(ip));
    return new SeenEnd(known, event.sourceIdentity || (known?.identity ?? 0), ip ?? "", names);
  }

  #makeDestination(): CountedEnd {
    const names = this.#names, { ip, transport } = names.packet;
    const known = ip && names.address(ip.destination);
    const identity = this.#event.destinationIdentity || (known?.identity ?? 0);
    // A virtual address is nobody's, and no unknown identity either.
    const isVirtual = identity === 0 &&
      (names.service() !== undefined
        ? this.isReply !== true
        : ip !== undefined && transport !== undefined && "destinationPort" in transport &&
          names.serviceAt(ip.destination, transport.destinationPort) !== undefined);
    return new SeenEnd(known, identity, ip?.destination ?? "", isVirtual ? undefined : names);
  }
}

class SeenEnd implements CountedEnd {
  readonly names = [];
  readonly #names: SeenNames | undefined;
  readonly #known: KnownAddress | undefined;

  constructor(
    known: KnownAddress | undefined,
    readonly identity: number,
    readonly ip: string,
    names: SeenNames | undefined,
  ) {
    this.#known = known;
    this.#names = names;
  }
  get namespace(): string {
    return this.#known?.namespace ?? "";
  }
  get podName(): string {
    return this.#known?.podName ?? "";
  }
  get labels(): readonly string[] {
    return this.#names === undefined ? [] : labelsOf(this.#known, this.identity, this.#names);
  }
  get workload(): Workload | undefined {
    return workloadOf(this.podName);
  }
}

/** A whole flow. */
export function countedFlow(flow: Flow): CountedFlow {
  return {
    type: flow.event_type?.type ?? 0,
    subType: flow.event_type?.sub_type ?? 0,
    verdict: flow.verdict,
    dropReason: flow.drop_reason_desc,
    family: flow.IP?.ipVersion === "IPv4" ? 4 : flow.IP?.ipVersion === "IPv6" ? 6 : undefined,
    transport: transportOf(flow.l4),
    isReply: flow.is_reply?.value,
    direction: flow.traffic_direction,
    matchType: flow.policy_match_type,
    source: endOf(flow.source, flow.IP?.source, flow.source_names),
    destination: endOf(flow.destination, flow.IP?.destination, flow.destination_names),
    l7: flow.l7,
  };
}

function endOf(
  end: Endpoint | undefined,
  ip: string | undefined,
  names: readonly string[],
): CountedEnd {
  return {
    identity: end?.identity ?? 0,
    namespace: end?.namespace ?? "",
    podName: end?.pod_name ?? "",
    labels: end?.labels ?? [],
    workload: end?.workloads[0] ?? workloadOf(end?.pod_name ?? ""),
    ip: ip ?? "",
    names,
  };
}

const NO_FLAGS = {
  FIN: false,
  SYN: false,
  RST: false,
  PSH: false,
  ACK: false,
  URG: false,
  ECE: false,
  CWR: false,
  NS: false,
};

function transportOf(l4: Flow["l4"]): Transport | undefined {
  if (l4?.TCP) {
    const { source_port: sourcePort, destination_port: destinationPort, flags = NO_FLAGS } = l4.TCP;
    return { kind: "TCP", sourcePort, destinationPort, flags };
  }
  if (l4?.UDP) {
    return { kind: "UDP", sourcePort: l4.UDP.source_port, destinationPort: l4.UDP.destination_port };
  }
  if (l4?.SCTP) {
    const { source_port: sourcePort, destination_port: destinationPort, chunk_type: chunkType } = l4.SCTP;
    return { kind: "SCTP", sourcePort, destinationPort, chunkType };
  }
  if (l4?.ICMPv4) return { kind: "ICMPv4", type: l4.ICMPv4.type, code: l4.ICMPv4.code };
  if (l4?.ICMPv6) return { kind: "ICMPv6", type: l4.ICMPv6.type, code: l4.ICMPv6.code };
  return undefined;
}

/** Protocol of a flow as metrics label it. */
export function protocolOf(flow: CountedFlow): string {
  if (flow.type === L7_EVENT) {
    return flow.l7?.dns ? "DNS" : flow.l7?.http ? "HTTP" : flow.l7?.kafka ? "Kafka" : "Unknown L7";
  }
  return flow.transport?.kind ?? "Unknown L4";
}

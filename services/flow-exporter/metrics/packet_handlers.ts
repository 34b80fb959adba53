/**
 * Metrics of packets: flow, drop, tcp, icmp, sctp, port-distribution, flows-to-world, policy. Names, labels and what counts are Hubble's.
 * Weir's own event "trouble" is counted by `flow` only: its packet was made to tell of others.
 * @module
 */
import { EVENT } from "@weir/proto/numbers";
import { matchTypeText, tracePointText, troubleText } from "@weir/proto/words";
import { L7_EVENT } from "@weir/flow-filter";
import { type CountedFlow, protocolOf } from "./counted_flow.ts";
import { directionText } from "./context_options.ts";
import { closed, type Handler, open } from "./handler.ts";
import { icmpText } from "./icmp_types.ts";

const family = (flow: CountedFlow) => flow.family === 6 ? "IPv6" : "IPv4";
/** A packet that went on. */
const passed = ({ verdict, type }: CountedFlow) =>
  (verdict === "FORWARDED" || verdict === "REDIRECTED") && type !== EVENT.TROUBLE;

/** flows_processed_total */
export const flow: Handler = {
  make({ context, table }) {
    const flows = table({
      name: "hubble_flows_processed_total",
      help: "Total number of flows processed",
      labels: [...closed("protocol", "type", "subtype", "verdict"), ...context.labels],
    });
    return (flow) => {
      const [type, subtype] = kindOf(flow);
      flows.add(
        [protocolOf(flow), type, subtype, flow.verdict, ...context.values(flow)],
        () => context.things(flow),
      );
    };
  },
};

function kindOf({ type, subType, l7 }: CountedFlow): [type: string, subtype: string] {
  switch (type) {
    case L7_EVENT:
      return ["L7", l7?.dns ? "DNS" : l7?.http ? "HTTP" : l7?.kafka ? "Kafka" : ""];
    case EVENT.DROP:
      return ["Drop", ""];
    case EVENT.TRACE:
      return ["Trace", tracePointText(subType)];
    case EVENT.POLICY_VERDICT:
      return ["PolicyVerdict", ""];
    case EVENT.TROUBLE:
      return ["Trouble", troubleText(subType)];
  }
  return ["Unknown", `${type}`];
}

/** drop_total: the verdict of a policy is no drop of its own, the drop itself follows it. */
export const drop: Handler = {
  make({ context, table }) {
    const drops = table({
      name: "hubble_drop_total",
      help: "Number of drops",
      labels: [...context.labels, ...closed("reason", "protocol")],
    });
    return (flow) => {
      if (flow.verdict !== "DROPPED" || flow.type === EVENT.POLICY_VERDICT) return;
      drops.add(
        [...context.values(flow), flow.dropReason, protocolOf(flow)],
        () => context.things(flow),
      );
    };
  },
};

/** tcp_flags_total */
export const tcp: Handler = {
  make({ context, table }) {
    const flags = table({
      name: "hubble_tcp_flags_total",
      help: "TCP flag occurrences",
      labels: [...closed("flag", "family"), ...context.labels],
    });
    return (flow) => {
      const { transport } = flow;
      if (transport?.kind !== "TCP" || !passed(flow) || flow.family === undefined) return;
      const { FIN, SYN, ACK, RST } = transport.flags;
      if (!FIN && !SYN && !RST) return;
      const values = ["", family(flow), ...context.values(flow)], things = () => context.things(flow);
      const count = (flag: string) => flags.add(values.with(0, flag), things);
      if (FIN) count("FIN");
      if (SYN) count(ACK ? "SYN-ACK" : "SYN");
      if (RST) count("RST");
    };
  },
};

/** icmp_total */
export const icmp: Handler = {
  make({ context, table }) {
    const messages = table({
      name: "hubble_icmp_total",
      help: "Number of ICMP messages",
      labels: [...closed("family"), open("type"), ...context.labels],
    });
    return (flow) => {
      const { transport } = flow;
      if (transport?.kind !== "ICMPv4" && transport?.kind !== "ICMPv6") return;
      if (flow.type === EVENT.TROUBLE) return;
      const { kind, type, code } = transport;
      messages.add(
        [kind === "ICMPv4" ? "IPv4" : "IPv6", icmpText(kind, type, code), ...context.values(flow)],
        () => context.things(flow),
      );
    };
  },
};

/** sctp_chunk_types_total */
export const sctp: Handler = {
  make({ context, table }) {
    const chunks = table({
      name: "hubble_sctp_chunk_types_total",
      help: "SCTP chunk type occurrences",
      labels: [...closed("chunk_type", "family"), ...context.labels],
    });
    return (flow) => {
      const { transport } = flow;
      if (transport?.kind !== "SCTP" || !passed(flow) || flow.family === undefined) return;
      const { chunkType = "UNSUPPORTED" } = transport;
      if (chunkType === "UNSUPPORTED") return;
      chunks.add([chunkType, family(flow), ...context.values(flow)], () => context.things(flow));
    };
  },
};

/** port_distribution_total: of questions, where it is known that they are none of the answers. */
export const portDistribution: Handler = {
  make({ context, table }) {
    const ports = table({
      name: "hubble_port_distribution_total",
      help: "Numbers of packets distributed by destination port",
      labels: [...closed("protocol"), open("port"), ...context.labels],
    });
    return (flow) => {
      const { transport } = flow;
      if (transport === undefined || !passed(flow) || flow.isReply !== false) return;
      ports.add([transport.kind, portOf(flow) || "0", ...context.values(flow)], () => context.things(flow));
    };
  },
};

function portOf({ transport }: CountedFlow): string {
  return transport !== undefined && "destinationPort" in transport ? `${transport.destinationPort}` : "";
}

/** flows_to_world_total: to `reserved:world`, no answers; of drops those by policy, unless `any-drop`. */
export const flowsToWorld: Handler = {
  make({ context, table, own }) {
    const anyDrop = own.has("any-drop"), withPort = own.has("port"), synOnly = own.has("syn-only");
    const flows = table({
      name: "hubble_flows_to_world_total",
      help: "Total number of flows to reserved:world",
      labels: [
        ...closed("protocol", "verdict"),
        ...(withPort ? [open("port")] : []),
        ...context.labels,
      ],
    });
    return (flow) => {
      const { transport, verdict, isReply } = flow, isDropped = verdict === "DROPPED";
      if (transport === undefined || flow.type === EVENT.TROUBLE) return;
      if (isDropped && !anyDrop && flow.dropReason !== "POLICY_DENIED") return;
      if (!isDropped && isReply === true) return;
      if (synOnly && (transport.kind !== "TCP" || !transport.flags.SYN || isReply === true)) return;
      if (!flow.destination.labels.includes("reserved:world")) return;
      flows.add(
        [protocolOf(flow), verdict, ...(withPort ? [portOf(flow)] : []), ...context.values(flow)],
        () => context.things(flow),
      );
    };
  },
};

const HOST = 1, HEALTH = 4;

/** policy_verdicts_total: of packets by what of the entry matched, of requests to a proxy by their protocol. */
export const policy: Handler = {
  make({ context, table }) {
    const verdicts = table({
      name: "hubble_policy_verdicts_total",
      help: "Total number of network policy verdicts",
      labels: [...closed("direction", "match", "action"), ...context.labels],
    });
    return (flow) => {
      const match = matchOf(flow);
      if (match === undefined || flow.source.identity === HOST) return;
      if (flow.source.identity === HEALTH || flow.destination.identity === HEALTH) return;
      verdicts.add(
        [directionText(flow), match, flow.verdict.toLowerCase(), ...context.values(flow)],
        () => context.things(flow),
      );
    };
  },
};

function matchOf({ type, matchType, l7 }: CountedFlow): string | undefined {
  if (type === EVENT.POLICY_VERDICT) return matchTypeText(matchType).toLowerCase();
  if (type !== L7_EVENT || l7?.type !== "REQUEST") return undefined;
  return l7.http ? "l7/http" : l7.dns ? "l7/dns" : l7.kafka ? "l7/kafka" : undefined;
}

/** What the probes found, as message and metrics. @module */
import { type Clock, DURATION_BUCKETS, type MetricLabels, type MetricsRegistry } from "@weir/common";
import { NodePath, type NodePathState, Probes } from "@weir/proto/datapath";
import type { Channel } from "./channel.ts";
import type { Peer, Prober } from "./prober.ts";

/** Nodes that have metrics of their own; of more those that are worst. */
const METRIC_NODES_MAX = 500;
/** From good to bad. */
const STATES: readonly NodePathState[] = ["OK", "UNKNOWN", "NOT_PROBING", "LOSSY", "UNREACHABLE"];

/** The whole report, by node. @param tunnelPort 0: pods' packets are routed */
export function probesReport(prober: Prober, clock: Clock, tunnelPort = 0): Probes {
  return Probes.create({
    ...prober.counters,
    intervalS: prober.intervalMs / 1000,
    error: prober.error,
    tunnelPort,
    paths: prober.peers.flatMap((peer) =>
      peer.channels.map((channel) => pathReport(peer.remote.name, channel, clock))
    ).sort((a, b) => a.node < b.node ? -1 : a.node > b.node ? 1 : 0),
  });
}

/** One way. */
export function pathReport(node: string, channel: Channel, clock: Clock): NodePath {
  const { spec, judgement, sent, heard, mtu } = channel;
  // Times are kept by a clock that is never set, and told by the one that people read.
  const nowMs = clock.monotonicMs(), unixMs = clock.nowMs() - nowMs;
  const { latency } = sent;
  return NodePath.create({
    node,
    kind: spec.kind,
    family: spec.family === 4 ? "IPv4" : "IPv6",
    address: spec.address,
    state: judgement.state,
    stateSinceUnixS: (unixMs + judgement.stateSinceMs) / 1000,
    judged: sent.judged.length,
    loss: sent.loss,
    lossIn: heard.loss,
    lossOut: lossOut(sent.loss, heard.loss),
    heardS: heard.heardMs === undefined ? undefined : (nowMs - heard.heardMs) / 1000,
    answeredS: channel.answeredMs === undefined ? undefined : (nowMs - channel.answeredMs) / 1000,
    latencyMinMs: latency?.minMs,
    latencyAvgMs: latency?.avgMs,
    mtuWanted: spec.mtuWanted,
    mtu: mtu.mtu,
    mtuSearching: mtu.searching,
    mtuSinceUnixS: judgement.mtuSinceMs === undefined ? 0 : (unixMs + judgement.mtuSinceMs) / 1000,
  });
}

/** A packet comes back when it arrived there and its answer here. */
function lossOut(loss: number, lossIn: number | undefined): number | undefined {
  if (lossIn === undefined) return undefined;
  return lossIn >= 1 ? 1 : Math.min(1, Math.max(0, 1 - (1 - loss) / (1 - lossIn)));
}

/** Metrics of the ways that pods' packets take; the returned function is to be called with each latency, in seconds. */
export function mountProbeMetrics(
  metrics: MetricsRegistry,
  prober: () => Prober,
): (latencyS: number) => void {
  const collect = (value: (channel: Channel) => number | undefined) => () =>
    worst(prober().peers).flatMap(({ remote, channels }): [MetricLabels, number][] =>
      channels.filter(({ spec }) => spec.kind === "POD").flatMap((channel): [MetricLabels, number][] => {
        const found = value(channel);
        const labels = { node: remote.name, family: channel.spec.family === 4 ? "IPv4" : "IPv6" };
        return found === undefined ? [] : [[labels, found]];
      })
    );
  const gauge = (name: string, help: string, value: (channel: Channel) => number | undefined) =>
    metrics.gauge(`weir_node_path_${name}`, help).collect(collect(value));
  gauge(
    "up",
    "1: probes to the node come back",
    ({ judgement }) => judgement.state === "UNREACHABLE" ? 0 : 1,
  );
  gauge("loss_ratio", "Probes lost, there and back, 0..1", ({ sent }) => sent.loss);
  gauge(
    "latency_seconds",
    "Mean latency of the last probes, there and back",
    ({ sent: { latency } }) => latency && latency.avgMs / 1000,
  );
  gauge(
    "mtu_bytes",
    "Largest packet that arrives at the node, of those that were tried",
    ({ mtu }) => mtu.mtu,
  );
  metrics.gauge("weir_probes", "Probes since the process began, by what became of them").collect(() =>
    Object.entries(prober().counters).map((
      [name, count],
    ) => [{ kind: name.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`) }, count])
  );
  const latency = metrics.histogram(
    "weir_node_probe_latency_seconds",
    "Latency to other nodes, there and back",
    DURATION_BUCKETS,
  );
  return (latencyS) => latency.observe(latencyS);
}

function worst(peers: readonly Peer[]): readonly Peer[] {
  if (peers.length <= METRIC_NODES_MAX) return peers;
  const rank = ({ channels }: Peer) =>
    Math.max(...channels.map(({ judgement }) => STATES.indexOf(judgement.state)));
  return [...peers].sort((a, b) => rank(b) - rank(a)).slice(0, METRIC_NODES_MAX);
}

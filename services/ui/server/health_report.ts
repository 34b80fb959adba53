/** How everything is, as `weir status` finds out, with what the page draws beside it. @module */
import {
  type Facts,
  findings,
  gather,
  question,
  type StatusNode,
  type StatusTargets,
} from "@weir/client/status";
import { ProgramList } from "@weir/proto/datapath";
import type { HealthNode, HealthProgram, HealthReport, Sources } from "../api.ts";

/** Asks everything. Ends within seconds whatever hangs. */
export async function healthReport(
  targets: StatusTargets,
  parts: { nowS: () => number; sources: Sources; folded: HealthReport["folded"] },
): Promise<HealthReport> {
  const [facts, ...programs] = await Promise.all([
    gather(targets),
    ...targets.nodes.map((node) => programsOf(targets, node)),
  ]);
  const atUnixS = parts.nowS(), found = findings(facts, atUnixS);
  const { identities = 0, policies = 0 } = facts.cluster.revision ?? {};
  const sum = (of: (node: Facts["nodes"][number]) => number | undefined) =>
    facts.nodes.reduce((all, node) => all + (of(node) ?? 0), 0);
  return {
    healthy: found.length === 0 && facts.nodes.every(({ ready }) => ready),
    atUnixS,
    findings: found,
    nodes: facts.nodes.map((node, index) => nodeOf(node, programs[index])),
    counts: {
      identities,
      policies,
      services: facts.cluster.services ?? 0,
      endpoints: sum((node) => node.endpoints),
      endpointsReady: sum((node) => node.endpointsReady),
    },
    sources: parts.sources,
    folded: parts.folded,
  };
}

function nodeOf(node: Facts["nodes"][number], programs: readonly HealthProgram[]): HealthNode {
  return {
    name: node.node,
    ready: node.ready,
    error: node.error ?? "",
    services: node.services.map(({ name, state, sinceUnixS, restarts, message }) => ({
      name,
      state,
      sinceUnixS,
      restarts,
      message,
    })),
    endpoints: node.endpoints ?? 0,
    endpointsReady: node.endpointsReady ?? 0,
    lostEvents: node.datapath?.lostEvents ?? 0,
    maps: (node.datapath?.pressure ?? []).map(({ map, entries, entriesMax }) => ({
      name: map,
      entries,
      entriesMax,
    })),
    programs,
    gate: node.datapath?.gate ?? "",
  };
}

/** What the gate said of the programs of a node; none where its datapath does not answer. */
async function programsOf(targets: StatusTargets, node: StatusNode): Promise<HealthProgram[]> {
  const answer = await question(
    targets.client("datapath", node),
    (client) => client.call("/v1/programs", { method: "GET", response: ProgramList }),
  );
  if (answer.kind !== "answered") return [];
  return answer.value.items.map((program) => ({
    name: program.name,
    object: program.object,
    attachedTo: program.attachedTo,
    verdict: program.verdict,
    verifier: program.verifier,
    visits: program.visits,
    timeUs: program.timeUs,
    same: program.tag === program.verifiedTag,
    hash: program.hash,
  }));
}

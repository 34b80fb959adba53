/** What the state of an endpoint, of its node and of the way between two nodes means for a connection. Pure. @module */
import { isSilent } from "@weir/client/status";
import { pairTroubles } from "@weir/client/status";
import type { ClusterFacts } from "./cluster_facts.ts";
import type { End } from "./ends.ts";
import { type Stage, stage } from "./stage.ts";

/** States in which an endpoint has its device, policy and address. */
const AT_WORK = new Set(["READY", "REGENERATING", "WAITING_TO_REGENERATE", "RESTORING"]);

/** Says of an endpoint what is not as it should be; nothing where all is well. */
export function endpointStages(kind: "source" | "destination", end: End, nowUnixS: number): Stage[] {
  const status = end.endpoint?.endpoint.status;
  if (end.endpoint === undefined) return [];
  const state = status?.state ?? "STATE_UNSPECIFIED";
  if (!AT_WORK.has(state)) {
    const why = status?.error?.error ?? "";
    const message = `the endpoint is not ready: ${state.toLowerCase().replaceAll("_", " ")}${
      why === "" ? "" : `: ${why}`
    }`;
    const fixes = [`Look at it: weir endpoint get ${end.endpoint.endpoint.name}`];
    return [stage(kind, end.title, "broken", message, { fixes })];
  }
  return (status?.conditions ?? []).map(({ kind: condition, message, sinceUnixS }) => {
    const since = sinceUnixS === 0 ? "" : ` (for ${Math.max(0, Math.round(nowUnixS - sinceUnixS))} s)`;
    return stage(
      kind,
      end.title,
      "unknown",
      `${message || condition}${since}: what the engine says below may not be in force there yet`,
      { fixes: ["weir status"] },
    );
  });
}

/** The way between the nodes of the two ends. */
export function pathStages(from: End, to: End, facts: ClusterFacts, nowUnixS: number): Stage[] {
  const names = [...new Set([from.node, to.node].filter((name) => name !== undefined && name !== ""))];
  const silent = names.flatMap((name): Stage[] => {
    const node = facts.nodes.find((one) => one.name === name);
    if (node === undefined) return [];
    const silentS = nowUnixS - node.heartbeatUnixS;
    if (node.state !== "NODE_DEAD" && !isSilent(node, nowUnixS)) return [];
    const message = `the control plane has not heard of ${name} for ${
      Math.round(silentS)
    } s: it is down or cut off`;
    return [
      stage("path", name!, "broken", message, {
        fixes: [`Look at ${name}: is it up, does its agent run, can it reach the control plane?`],
      }),
    ];
  });
  return silent.length > 0 ? silent : wayStages(names, facts);
}

/** What the probes of the two nodes say of the way between them. */
function wayStages(names: readonly (string | undefined)[], { probes }: ClusterFacts): Stage[] {
  const known = new Map(
    [...probes].flatMap(([node, one]) => one && names.includes(node) ? [[node, one]] : []),
  );
  // A datapath that does not answer us does not answer probes either: that is not the way.
  const isQuiet = (node: string) => probes.has(node) && probes.get(node) === undefined;
  return pairTroubles(known, isQuiet).filter(({ nodes }) => nodes.every((node) => names.includes(node)))
    .map(({ kind, nodes, message, effect, remedy }) =>
      stage(
        "path",
        nodes.join(", "),
        kind === "lossy" || kind === "pieces" ? "unknown" : "broken",
        `${message}; ${effect}`,
        { fixes: [`${remedy[0].toUpperCase()}${remedy.slice(1)}`] },
      )
    );
}

/** Where what the engine concludes from the newest policies is not in force yet: the node at which a direction is decided. */
export function inForceStages(
  from: End,
  to: End,
  { policies }: ClusterFacts,
  nowUnixS: number,
): Stage[] {
  const names = [from, to].flatMap(({ endpoint }) => endpoint === undefined ? [] : [endpoint.node]);
  return [...new Set(names)].flatMap((name): Stage[] => {
    const policy = policies.find(({ node }) => node === name);
    if (policy === undefined || (!policy.behind && policy.error === "")) return [];
    const { policyRevision, behindSinceUnixS, error } = policy;
    const has = policyRevision === 0
      ? "what it has is not known"
      : `it has those of revision ${policyRevision}`;
    const since = behindSinceUnixS === 0
      ? ""
      : ` for ${Math.max(0, Math.round(nowUnixS - behindSinceUnixS))} s`;
    const message =
      `the newest policies are not in force at ${name}${since} (${has}): until they are, its traffic may go another way than this answer${
        error === "" ? "" : `; ${error}`
      }`;
    return [stage("policy", name, "unknown", message, { fixes: ["weir status"] })];
  });
}

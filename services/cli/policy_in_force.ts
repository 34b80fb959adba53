/**
 * What is in force where: the wait of `weir policy apply` and `delete`, and the column of `weir policy list`.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { type Clock, systemClock } from "@weir/common/clock";
import { ProblemError } from "@weir/common/problem";
import { NodePolicy, type Policy, PolicyFault, WaitRequest, WaitResponse } from "@weir/proto/policy";
import { type CommandContext, UsageError } from "./context.ts";

/** How long `apply` waits unless it is told otherwise, in seconds. */
export const IN_FORCE_S = 30;
/** The fault of a policy database that is older than what is in force; it is no policy. */
export const DATABASE_FAULT = "database";
const RETRY_MS = 200;
/** Nodes that are named one by one. */
const NAMED_MAX = 10;
/** Longest wait of one call, in seconds. */
const CALL_S_MAX = 2;

/** Reads `--timeout 30s` (or `30`, `500ms`, `2m`) in seconds. @throws {UsageError} */
export function readTimeout(value: string | undefined, hint: string): number {
  if (value === undefined) return IN_FORCE_S;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(value);
  const seconds = match ? Number(match[1]) * { ms: 0.001, s: 1, m: 60 }[match[2] ?? "s"]! : NaN;
  if (seconds >= 0 && seconds <= 3600) return seconds;
  throw new UsageError(
    `Cannot read --timeout ${JSON.stringify(value)}: expected up to an hour, as in 30s`,
    hint,
  );
}

/**
 * Waits until a policy set is in force at every node, and says on stderr who is behind when it is not in time.
 * @returns the exit code: 0 in force, 1 not
 */
export async function waitInForce(
  context: CommandContext,
  client: WeirClient,
  options: { policyRevision: number; timeoutS: number; clock?: Clock },
): Promise<number> {
  const { policyRevision, timeoutS, clock = systemClock } = options;
  const startMs = clock.monotonicMs();
  let answer: WaitResponse | undefined, goneS = 0, failure: unknown;
  do {
    const callS = Math.max(0, Math.min(CALL_S_MAX, timeoutS - goneS));
    try {
      answer = await client.call("/v1/policies:wait", {
        request: { message: WaitRequest, value: { policyRevision, timeoutS: callS } },
        response: WaitResponse,
      });
    } catch (error) {
      // The engine is being restarted, or does not know the nodes yet. What was applied is stored.
      if (!(error instanceof ProblemError) || error.status < 500) throw error;
      failure = error;
      await clock.sleep(RETRY_MS, context.io.interrupted);
    }
    goneS = (clock.monotonicMs() - startMs) / 1000;
    if (answer?.inForce) {
      if (answer.nodes === 0) context.io.err("weir: warning: in force nowhere: the cluster has no nodes\n");
      return 0;
    }
  } while (goneS < timeoutS && !context.io.interrupted.aborted);
  if (answer === undefined) throw failure;
  context.io.err(notInForce(answer, timeoutS, clock.nowMs() / 1000));
  return 1;
}

/** What is not in force where, and what is instead. */
function notInForce(answer: WaitResponse, timeoutS: number, nowUnixS: number): string {
  const { nodes, nodesInForce, behind, policyRevision } = answer;
  const lines = [
    `weir: error: not in force at ${nodes - nodesInForce} of ${nodes} nodes after ${timeoutS} s ` +
    `(policy revision ${policyRevision}); it is stored, and comes into force there when they can:`,
    ...behind.slice(0, NAMED_MAX).map((node) => `  ${describeNode(node, nowUnixS)}`),
  ];
  const more = nodes - nodesInForce - Math.min(behind.length, NAMED_MAX);
  if (more > 0) lines.push(`  and ${more} more: GET /v1/nodepolicies names them`);
  return lines.join("\n") + "\n";
}

function describeNode(node: NodePolicy, nowUnixS: number): string {
  const { policyRevision, sinceUnixS, heardUnixS, error } = node;
  if (heardUnixS === 0) return `${node.node}: never said what is in force there`;
  const what = policyRevision === 0
    ? "what is in force there is not known"
    : `policy revision ${policyRevision} is in force there since ${time(sinceUnixS, nowUnixS)}`;
  const why = error === "" ? "" : `; ${error}`;
  return `${node.node}: ${what}${why}; last heard ${time(heardUnixS, nowUnixS)}`;
}

/** `00:41:10`, with the date when it is not of the last day. */
function time(unixS: number, nowUnixS: number): string {
  const text = new Date(unixS * 1000).toISOString();
  return nowUnixS - unixS < 24 * 3600 ? `${text.slice(11, 19)}Z` : `${text.slice(0, 19)}Z`;
}

/** Where a policy is in force. */
export interface InForce {
  readonly nodes: number;
  readonly inForce: number;
  /** Who has an older policy set, or fails with the newest. */
  readonly behind: readonly {
    readonly node: string;
    readonly policyRevision: number;
    readonly sinceUnixS: number;
  }[];
}

/** Every node's policy set; undefined where the engine cannot say. */
export async function nodePolicies(client: WeirClient): Promise<NodePolicy[] | undefined> {
  try {
    return (await client.collection("nodepolicies", NodePolicy).list()).items;
  } catch {
    return undefined; // an engine of an older version, or one whose own sources are not complete
  }
}

/** Stored policies that cannot be put in force, with why. */
export async function policyFaults(client: WeirClient): Promise<Map<string, string>> {
  try {
    const { items } = await client.collection("policyfaults", PolicyFault).list();
    return new Map(items.map(({ name, error }) => [name, error]));
  } catch {
    return new Map(); // an engine of an older version, or one that is not ready: nodePolicies() tells that
  }
}

/** Where this policy, as it is stored, is in force. */
export function inForceOf(policy: Policy, nodes: readonly NodePolicy[]): InForce {
  const behind = nodes.filter((node) => node.policyRevision < policy.policyRevision || node.error !== "");
  return {
    nodes: nodes.length,
    inForce: nodes.length - behind.length,
    behind: behind.map(({ node, policyRevision, behindSinceUnixS }) => ({
      node,
      policyRevision,
      sinceUnixS: behindSinceUnixS,
    })),
  };
}

/** `3/3 nodes`, or `2/3: not node-2 since 00:41:10Z`. */
export function inForceText({ nodes, inForce, behind }: InForce, nowUnixS: number): string {
  if (nodes === 0) return "no nodes";
  if (behind.length === 0) return `${inForce}/${nodes} nodes`;
  const [{ node, sinceUnixS }] = behind;
  const more = behind.length > 1 ? ` and ${behind.length - 1} more` : "";
  return `${inForce}/${nodes}: not ${node}${more}${
    sinceUnixS === 0 ? "" : ` since ${time(sinceUnixS, nowUnixS)}`
  }`;
}

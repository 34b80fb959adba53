/** Policies with whom they select and how often they decided, and explanations: asked of the policy engine. @module */
import type { WeirClient } from "@weir/client";
import { ProblemError } from "@weir/common";
import {
  EngineRevision,
  ExplainRequest,
  ExplainResponse,
  type ExplainStep,
  NodePolicy,
  Policy,
  PolicyFault,
  PolicySelection,
} from "@weir/proto/policy";
import type { Init } from "@weir/proto";
import type { Explanation, FlowPolicy, LineHits, PolicyDetail, PolicyReport, PolicyRow } from "../api.ts";
import type { PolicyHits, RuleHits } from "./policy_hits.ts";
import { policyText } from "./policy_text.ts";

/** Rows of the list; the report says when there are more. */
const POLICIES_MAX = 5000;

/** Hits, and since when they were counted. */
export interface HitsSince {
  readonly hits: PolicyHits;
  /** Of what flows; "": of all. */
  readonly text: string;
  readonly sinceUnixS: number;
}

/** The list. @throws {ProblemError} the engine does not answer */
export async function policyReport(
  engine: WeirClient,
  { hits, text: hitsOf, sinceUnixS }: HitsSince,
): Promise<PolicyReport> {
  const [policies, selections, faults, nodes, revision] = await Promise.all([
    engine.collection("policies", Policy).list(),
    engine.collection("policyselections", PolicySelection).list(),
    engine.collection("policyfaults", PolicyFault).list(),
    engine.collection("nodepolicies", NodePolicy).list(),
    engine.call("/v1/revision", { method: "GET", response: EngineRevision }),
  ]);
  const selected = new Map(selections.items.map((one) => [one.name, one]));
  const faulty = new Map(faults.items.map((one) => [one.name, one.error]));
  const counted = hits.byPolicy();
  return {
    policies: policies.items.slice(0, POLICIES_MAX).map((policy) =>
      rowOf(policy, {
        selection: selected.get(policy.name),
        fault: faulty.get(policy.name) ?? "",
        hits: counted.get(policy.name) ?? [],
      })
    ),
    revision: revision.policyRevision,
    hitsSinceUnixS: sinceUnixS,
    hitsOf,
    nodesBehind: nodes.items.filter(({ behind, error }) => behind || error !== "")
      .map(({ node, error, behindSinceUnixS }) => ({ node, error, sinceUnixS: behindSinceUnixS })),
  };
}

function rowOf(
  policy: Policy,
  { selection, fault, hits }: {
    selection: PolicySelection | undefined;
    fault: string;
    hits: readonly RuleHits[];
  },
): PolicyRow {
  const sum = (of: (hit: RuleHits) => number) => hits.reduce((all, hit) => all + of(hit), 0);
  return {
    name: policy.name,
    kind: policy.kind,
    namespace: policy.namespace,
    policyName: policy.policyName,
    file: policy.file,
    endpoints: selection?.endpoints ?? 0,
    hits: sum(({ allowed }) => allowed),
    denied: sum(({ denied }) => denied),
    lastHitUnixS: Math.max(0, ...hits.map(({ lastHitUnixS }) => lastHitUnixS)),
    createdUnixS: policy.createdUnixS,
    rules: policyText(policy.manifest).rules.length,
    warnings: [...policy.warnings, ...selection?.warnings ?? []].map(({ path, detail }) =>
      path === "" ? detail : `${path}: ${detail}`
    ),
    fault,
  };
}

/** One policy. @throws {ProblemError} NOT_FOUND */
export async function policyDetail(
  engine: WeirClient,
  name: string,
  { hits, text: hitsOf, sinceUnixS }: HitsSince,
): Promise<PolicyDetail> {
  const [policy, selections, faults] = await Promise.all([
    engine.collection("policies", Policy).get(name),
    engine.collection("policyselections", PolicySelection).list(),
    engine.collection("policyfaults", PolicyFault).list(),
  ]);
  if (policy === undefined) {
    throw new ProblemError("NOT_FOUND", {
      status: 404,
      detail: `Cannot find policy ${JSON.stringify(name)}`,
    });
  }
  const own = hits.byPolicy().get(name) ?? [], text = policyText(policy.manifest);
  const firstLine = Math.max(1, policy.line);
  const isOf = (hit: RuleHits, path: string) =>
    hit.path === path || hit.path.startsWith(`${path}.`) || hit.path.startsWith(`${path}[`);
  return {
    policy: rowOf(policy, {
      selection: selections.items.find((one) => one.name === name),
      fault: faults.items.find((one) => one.name === name)?.error ?? "",
      hits: own,
    }),
    yaml: policy.manifest,
    firstLine,
    lines: linesOf(own, firstLine),
    graph: {
      ...text,
      rules: text.rules.map((rule) => {
        const of = own.filter((hit) => isOf(hit, rule.path) && hit.direction === rule.direction);
        return {
          ...rule,
          allowed: of.reduce((sum, { allowed }) => sum + allowed, 0),
          denied: of.reduce((sum, { denied }) => sum + denied, 0),
        };
      }),
    },
    hitsSinceUnixS: sinceUnixS,
    hitsOf,
  };
}

function linesOf(hits: readonly RuleHits[], firstLine: number): LineHits[] {
  const lines = new Map<number, LineHits & { allowed: number; denied: number; lastHitUnixS: number }>();
  for (const { line: ofFile, path, allowed, denied, lastHitUnixS } of hits) {
    const line = ofFile - firstLine + 1;
    if (line < 1) continue;
    const row = lines.get(line) ?? { line, path, allowed: 0, denied: 0, lastHitUnixS: 0 };
    row.allowed += allowed;
    row.denied += denied;
    row.lastHitUnixS = Math.max(row.lastHitUnixS, lastHitUnixS);
    lines.set(line, row);
  }
  return [...lines.values()].sort((a, b) => a.line - b.line);
}

/** Asks why. @throws {ProblemError} */
export async function explain(engine: WeirClient, request: Init<ExplainRequest>): Promise<Explanation> {
  const answer = await engine.call("/v1/explain", {
    request: { message: ExplainRequest, value: request },
    response: ExplainResponse,
  });
  return explanationOf(answer, 0);
}

/** The engine's answer for the page. @param atUnixS when the policies held; 0: now */
export function explanationOf(answer: ExplainResponse, atUnixS: number): Explanation {
  const { allowed, policyRevision, steps } = answer;
  return { allowed, policyRevision, atUnixS, steps: steps.map(stepOf) };
}

function stepOf(step: ExplainStep): Explanation["steps"][number] {
  const direction = step.direction === "EGRESS" ? "egress" : "ingress";
  const policies = (step.rule?.sources ?? []).map((source): FlowPolicy => ({
    name: source.policy,
    kind: source.kind,
    namespace: source.namespace,
    policyName: source.policyName,
    direction,
    effect: step.allowed ? "allowed" : "denied",
    path: source.path,
    file: source.file,
    line: source.line,
  }));
  const { allowed, reason, labelFacts, change, alternatives, nearMiss, notes, manifest } = step;
  return {
    direction,
    allowed,
    reason,
    facts: labelFacts,
    change,
    alternatives,
    nearMiss,
    notes,
    manifest,
    policies,
  };
}

/** IP protocol numbers (IANA) by the names that flows have. */
const PROTOCOLS: Readonly<Record<string, number>> = { ICMPv4: 1, TCP: 6, UDP: 17, ICMPv6: 58, SCTP: 132 };

/** @throws {ProblemError} QUERY_INVALID */
export function protocolNumber(name: string): number {
  const number = PROTOCOLS[name] ?? PROTOCOLS[name.toUpperCase()];
  if (number !== undefined) return number;
  throw new ProblemError("QUERY_INVALID", {
    detail: `Cannot take protocol=${name.slice(0, 40)}`,
    expected: Object.keys(PROTOCOLS).join(", "),
  });
}

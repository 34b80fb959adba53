/** A flow as one row of the table. Pure. @module */
import { findKind } from "@weir/common/manifest-kind";
import type { Flow, Policy } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { troubleText } from "@weir/proto/words";
import type { FlowPolicy, FlowRow } from "../api.ts";
import { requestFacts } from "./request_facts.ts";
import { type EndNames, nodeNameOf, protocolOf, rowEnd, secondsOf } from "./flow_end.ts";

/** `event_type.type` of what an application said (Hubble's number for layer 7). */
const L7 = 129;

/** One row. */
export function rowOf(flow: Flow, names: EndNames, nowS: number): FlowRow {
  return {
    uuid: flow.uuid,
    timeUnixS: secondsOf(flow, nowS),
    node: nodeNameOf(flow.node_name),
    verdict: flow.verdict,
    dropReason: flow.verdict === "DROPPED" && flow.drop_reason_desc !== "DROP_REASON_UNKNOWN"
      ? flow.drop_reason_desc
      : "",
    direction: directionOf(flow),
    kind: kindOf(flow),
    reply: flow.is_reply?.value ?? null,
    source: rowEnd(flow, "source", names),
    destination: rowEnd(flow, "destination", names),
    protocol: protocolOf(flow),
    summary: flow.Summary,
    request: requestFacts(flow),
    policies: policiesOf(flow),
    trouble: flow.trouble?.kind ?? "",
  };
}

/** "ingress", "egress", "". */
export function directionOf(flow: Flow): "ingress" | "egress" | "" {
  return flow.traffic_direction === "INGRESS"
    ? "ingress"
    : flow.traffic_direction === "EGRESS"
    ? "egress"
    : "";
}

/** "policy-verdict", "drop", "trace:to-endpoint", "l7", "trouble:no-answer". */
function kindOf(flow: Flow): string {
  const { type = 0, sub_type = 0 } = flow.event_type ?? {};
  if (type === EVENT.DROP) return "drop";
  if (type === EVENT.POLICY_VERDICT) return "policy-verdict";
  if (type === EVENT.TROUBLE) return `trouble:${troubleText(sub_type)}`;
  if (type === L7) return "l7";
  return `trace:${flow.trace_observation_point.toLowerCase().replaceAll("_", "-")}`;
}

/** Name of the policy object: "cnp:shop/cart", "ccnp:web". */
export function policyObjectName(
  { kind, namespace, name }: Pick<Policy, "kind" | "namespace" | "name">,
): string {
  const { prefix = kind, clusterwide = false } = findKind(kind) ?? {};
  return `${prefix}:${clusterwide || namespace === "" ? name : `${namespace}/${name}`}`;
}

/** The policies behind a flow's verdict. */
export function policiesOf(flow: Flow): FlowPolicy[] {
  const all: FlowPolicy[] = [];
  const take = (list: readonly Policy[], direction: "ingress" | "egress", effect: "allowed" | "denied") => {
    for (const policy of list) {
      all.push({
        name: policyObjectName(policy),
        kind: policy.kind,
        namespace: policy.namespace,
        policyName: policy.name,
        direction,
        effect,
        path: policy.path,
        file: policy.file,
        line: policy.line,
      });
    }
  };
  take(flow.egress_denied_by, "egress", "denied");
  take(flow.ingress_denied_by, "ingress", "denied");
  take(flow.egress_allowed_by, "egress", "allowed");
  take(flow.ingress_allowed_by, "ingress", "allowed");
  return all;
}

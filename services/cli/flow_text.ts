/**
 * Flows as text, in the shapes that people know from `hubble observe`.
 *
 * @module
 */
import { reservedIdentityName } from "@weir/common/identity";
import { hostPort } from "@weir/common/join-token";
import type { Endpoint, Flow, Policy, Service } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { EVENT } from "@weir/proto/numbers";
import { dropReasonText, matchTypeText, troubleText } from "@weir/proto/words";
import { currentScreen, table } from "./output.ts";
import { paint } from "./screen.ts";

/** Forms of `weir observe -o`. */
export type FlowForm = "compact" | "dict" | "json" | "jsonpb" | "table";

/** What a line of a flow is made of. */
interface Parts {
  time: string;
  source: string;
  destination: string;
  arrow: string;
  type: string;
  verdict: string;
  summary: string;
}

const pad = (n: number, width = 2) => String(n).padStart(width, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** "Nov 22 10:00:00.000" in local time. */
function flowTime(time: { seconds: number; nanos: number } | undefined): string {
  if (!time) return "-";
  const d = new Date(time.seconds * 1000);
  const clock = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  return `${MONTHS[d.getMonth()]} ${pad(d.getDate())} ${clock}.${pad(Math.floor(time.nanos / 1e6), 3)}`;
}

function identityText(endpoint: Endpoint | undefined, service: Service | undefined): string {
  const number = endpoint?.identity ?? 0;
  // A virtual address is nobody's: what is dropped there has not got as far as a backend.
  if (number === 0 && service?.name) return "(service)";
  const name = reservedIdentityName(number);
  return name === undefined ? `(ID:${number})` : `(${name})`;
}

/** The pod, else the service, else the address. */
function hostText(
  end: { endpoint: Endpoint | undefined; service: Service | undefined },
  ip: string | undefined,
  port: number | undefined,
): string {
  const name = end.endpoint?.pod_name || end.service?.name;
  const namespace = end.endpoint?.pod_name ? end.endpoint.namespace : end.service?.namespace;
  const host = name ? (namespace ? `${namespace}/${name}` : name) : ip ?? "";
  return port === undefined ? host : hostPort(host, port);
}

function typeText(flow: Flow): string {
  const { type = 0, sub_type = 0 } = flow.event_type ?? {};
  if (type === EVENT.DROP) {
    const direction = flow.traffic_direction.replace(/^TRAFFIC_DIRECTION_.*/, "");
    return [dropReasonText(sub_type) ?? flow.drop_reason_desc, direction].filter((word) => word).join(" ");
  }
  if (type === EVENT.TROUBLE) return troubleText(sub_type);
  if (type === EVENT.POLICY_VERDICT) {
    const match = matchTypeText(flow.policy_match_type);
    const direction = flow.traffic_direction.replace("TRAFFIC_DIRECTION_", "");
    return `policy-verdict:${match} ${direction}`;
  }
  return flow.trace_observation_point.toLowerCase().replaceAll("_", "-");
}

/** "shop/web (CiliumNetworkPolicy web.yaml:5)". */
function policyText(policies: readonly Policy[]): string {
  return policies.map(({ namespace, name, kind, file, line, path }) => {
    const place = file === "" ? path : `${file}:${line}`;
    return `${namespace ? `${namespace}/` : ""}${name} (${place === "" ? kind : `${kind} ${place}`})`;
  }).join(", ");
}

function verdictText(flow: Flow): string {
  const denied = [...flow.ingress_denied_by, ...flow.egress_denied_by];
  const allowed = [...flow.ingress_allowed_by, ...flow.egress_allowed_by];
  const words: Record<string, string> = { FORWARDED: "ALLOWED", DROPPED: "DENIED", AUDIT: "AUDITED" };
  const word = flow.event_type?.type === EVENT.POLICY_VERDICT
    ? words[flow.verdict] ?? flow.verdict
    : flow.verdict;
  if (denied.length > 0 && isDefaultDeny(flow)) return `${word} BY default deny of ${policyText(denied)}`;
  if (denied.length > 0) return `${word} BY ${policyText(denied)}`;
  if (allowed.length > 0) return `${word} BY ${policyText(allowed)}`;
  return word;
}

/** No rule refused it: policies select the workload, and none of their rules allows it. */
function isDefaultDeny(flow: Flow): boolean {
  if (flow.event_type?.type === EVENT.POLICY_VERDICT) return matchTypeText(flow.policy_match_type) === "none";
  return flow.drop_reason_desc === "POLICY_DENIED";
}

/** Where the datapath dropped it: "policy.h:99". */
function placeText({ file, verdict }: Flow): string {
  return verdict === "DROPPED" && file?.name ? `${file.name}:${file.line}` : "";
}

/** Who sent what was refused: the addresses inside are only what the packet says. */
function tunnelText({ tunnel, verdict }: Flow): string {
  if (verdict !== "DROPPED" || !tunnel?.IP) return "";
  return `${tunnel.protocol} from ${tunnel.IP.source} VNI ${tunnel.vni}`;
}

function partsOf(flow: Flow): Parts {
  const transport = flow.l4?.TCP ?? flow.l4?.UDP ?? flow.l4?.SCTP;
  const source = hostText(
    { endpoint: flow.source, service: flow.source_service },
    flow.IP?.source ?? flow.ethernet?.source,
    transport?.source_port,
  );
  const destination = hostText(
    { endpoint: flow.destination, service: flow.destination_service },
    flow.IP?.destination ?? flow.ethernet?.destination,
    transport?.destination_port,
  );
  const reply = flow.is_reply?.value;
  const ends: [string, string] = [
    `${source} ${identityText(flow.source, flow.source_service)}`,
    `${destination} ${identityText(flow.destination, flow.destination_service)}`,
  ];
  return {
    time: flowTime(flow.time),
    source: reply ? ends[1] : ends[0],
    destination: reply ? ends[0] : ends[1],
    arrow: reply === undefined ? "<>" : reply ? "<-" : "->",
    type: typeText(flow),
    verdict: verdictText(flow),
    summary: [flow.Summary, tunnelText(flow), placeText(flow)].filter((text) => text !== "").join("; "),
  };
}

/** One answer as text, with its newline. */
export function flowText(
  answer: GetFlowsResponse,
  form: Exclude<FlowForm, "table">,
  options: { node: boolean },
): string {
  if (form === "json" || form === "jsonpb") return JSON.stringify(GetFlowsResponse.toJson(answer)) + "\n";
  if (answer.lost_events) {
    const { source, num_events_lost, holder } = answer.lost_events;
    const whose = holder === "" ? "" : ` of ${holder}`;
    return `${flowTime(answer.time)} EVENTS LOST: ${source} ${num_events_lost}${whose}\n`;
  }
  if (!answer.flow) return "";
  const p = partsOf(answer.flow);
  if (form === "dict") {
    const rows: [string, string][] = [
      ["TIMESTAMP", p.time],
      ...(options.node ? [["NODE", answer.node_name] as [string, string]] : []),
      ["SOURCE", p.source],
      ["DESTINATION", p.destination],
      ["TYPE", p.type],
      ["VERDICT", p.verdict],
      ["SUMMARY", p.summary],
    ];
    return rows.map(([key, value]) => `${key.padStart(11)}: ${value}\n`).join("") + "------------\n";
  }
  const node = options.node ? ` [${answer.node_name}]` : "";
  const verdict = paint(p.verdict, currentScreen());
  const summary = p.summary === "" ? "" : ` (${p.summary})`;
  return `${p.time}${node}: ${p.source} ${p.arrow} ${p.destination} ${p.type} ${verdict}${summary}\n`;
}

/** Answers as one table. */
export function flowTable(answers: readonly GetFlowsResponse[]): string {
  const rows = answers.filter((a) => a.flow).map((a) => {
    const p = partsOf(a.flow!);
    return [p.time, p.source, p.destination, p.type, p.verdict, p.summary];
  });
  return table(["TIMESTAMP", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"], rows);
}

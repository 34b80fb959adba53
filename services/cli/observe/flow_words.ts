/**
 * What a line about a flow is made of: who, to whom, what was seen, the verdict and what stands behind it.
 *
 * @module
 */
import { reservedIdentityName } from "@weir/common/identity";
import type { Endpoint, Flow, Policy, Service } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { dropReasonText, matchTypeText, tracePointText, troubleText } from "@weir/proto/words";
import { harmless } from "../harmless_text.ts";

/** How words of a flow are made. */
export interface WordOptions {
  /** Names in place of addresses. */
  readonly names: boolean;
  /**
   * The policies behind the verdict, which way a drop was, where the datapath dropped, and who sent what came in a tunnel. False:
   * what `hubble observe` prints, and no more.
   */
  readonly why: boolean;
  readonly colours: boolean;
}

/** The parts of a line, painted and without anything that a terminal would obey. */
export interface FlowWords {
  readonly source: string;
  readonly destination: string;
  readonly sourceIdentity: string;
  readonly destinationIdentity: string;
  /** "->", "<-" for an answer, "<>" where it is not known. */
  readonly arrow: string;
  readonly type: string;
  readonly verdict: string;
  readonly summary: string;
}

const COLOURS = { red: 31, green: 32, yellow: 33, magenta: 35, cyan: 36 } as const;
type Colour = keyof typeof COLOURS;

function painted(text: string, colour: Colour | undefined, { colours }: WordOptions): string {
  return colours && colour !== undefined ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text;
}

/** Name of an identity: "(world)", "(ID:300)". */
function identityText(
  endpoint: Endpoint | undefined,
  service: Service | undefined,
  options: WordOptions,
): string {
  const number = endpoint?.identity ?? 0;
  const name = reservedIdentityName(number);
  // A virtual address is nobody's: what is dropped there has not got as far as a backend.
  const text = options.why && number === 0 && service?.name
    ? "(service)"
    : name === undefined
    ? `(ID:${number})`
    : `(${name})`;
  return painted(text, "magenta", options);
}

interface End {
  readonly endpoint: Endpoint | undefined;
  readonly service: Service | undefined;
  readonly names: readonly string[];
  readonly ip: string;
  readonly port: number | undefined;
}

/** The pod, else the service, else DNS names, else the address. */
export function endText({ endpoint, service, names, ip }: Omit<End, "port">): string {
  const join = (namespace: string, name: string) => namespace === "" ? name : `${namespace}/${name}`;
  if (endpoint?.pod_name) return harmless(join(endpoint.namespace, endpoint.pod_name));
  if (service?.name) return harmless(join(service.namespace, service.name));
  return harmless(names.length > 0 ? names.join(",") : ip);
}

function hostText(end: End, options: WordOptions): string {
  const host = options.names ? endText(end) : harmless(end.ip);
  const port = end.port ? painted(`${end.port}`, "yellow", options) : "";
  const bracketed = host.includes(":") ? `[${host}]` : host;
  return painted(port === "" ? host : `${bracketed}:${port}`, "cyan", options);
}

function hostTexts(flow: Flow, options: WordOptions): [source: string, destination: string] {
  const { IP, ethernet } = flow;
  if (IP === undefined) {
    const text = (address: string | undefined) =>
      address === undefined ? "" : painted(harmless(address), "cyan", options);
    return [text(ethernet?.source), text(ethernet?.destination)];
  }
  const transport = flow.l4?.TCP ?? flow.l4?.UDP ?? flow.l4?.SCTP;
  return [
    hostText({
      endpoint: flow.source,
      service: flow.source_service,
      names: flow.source_names,
      ip: IP.source,
      port: transport?.source_port,
    }, options),
    hostText({
      endpoint: flow.destination,
      service: flow.destination_service,
      names: flow.destination_names,
      ip: IP.destination,
      port: transport?.destination_port,
    }, options),
  ];
}

const CAPTURE = 3, TRACE_SOCK = 7;
const XLATE_POINTS: Readonly<Record<number, string>> = {
  1: "pre-xlate-fwd",
  2: "post-xlate-fwd",
  3: "pre-xlate-rev",
  4: "post-xlate-rev",
};

/** What was seen: "to-endpoint", "Policy denied INGRESS", "http-request". */
export function typeText(flow: Flow, why: boolean): string {
  if (flow.l7 !== undefined) {
    const { http, dns, type } = flow.l7, kind = type.toLowerCase();
    if (http !== undefined) return `http-${kind}`;
    return dns === undefined ? `l7-${kind}` : `dns-${kind} ${harmless(dns.observation_source)}`;
  }
  const { type = 0, sub_type = 0 } = flow.event_type ?? {};
  if (type === EVENT.DROP) {
    const direction = why ? flow.traffic_direction.replace(/^TRAFFIC_DIRECTION_.*/, "") : "";
    return [dropReasonText(sub_type) ?? (why ? flow.drop_reason_desc : `${sub_type}, 0`), direction]
      .filter((word) => word).join(" ");
  }
  if (type === EVENT.TROUBLE) return troubleText(sub_type);
  if (type === EVENT.POLICY_VERDICT) {
    const direction = why ? flow.traffic_direction.replace("TRAFFIC_DIRECTION_", "") : flow.traffic_direction;
    return `policy-verdict:${matchTypeText(flow.policy_match_type)} ${direction}`;
  }
  if (type === CAPTURE) return flow.debug_capture_point;
  if (type === TRACE_SOCK) return XLATE_POINTS[sub_type] ?? "SOCK_XLATE_POINT_UNKNOWN";
  // Names of points that one version knows and the other does not are told by number.
  if (type === EVENT.TRACE) return tracePointText(sub_type) || `${sub_type}`;
  return "UNKNOWN";
}

/** "shop/web (CiliumNetworkPolicy web.yaml:5)". */
export function policyText(policies: readonly Policy[]): string {
  return policies.map(({ namespace, name, kind, file, line, path }) => {
    const place = file === "" ? path : `${file}:${line}`;
    return `${namespace ? `${namespace}/` : ""}${name} (${place === "" ? kind : `${kind} ${place}`})`;
  }).join(", ");
}

const ALLOWED = new Set(["FORWARDED", "REDIRECTED"]), DENIED = new Set(["DROPPED", "ERROR"]);

/** "DENIED BY shop/web (CiliumNetworkPolicy web.yaml:5)". */
export function verdictText(flow: Flow, why: boolean): string {
  const isVerdict = flow.event_type?.type === EVENT.POLICY_VERDICT, { verdict } = flow;
  const word = !isVerdict
    ? verdict
    : ALLOWED.has(verdict)
    ? "ALLOWED"
    : DENIED.has(verdict)
    ? "DENIED"
    : verdict === "AUDIT"
    ? "AUDITED"
    : verdict;
  if (!why) return word;
  const denied = [...flow.ingress_denied_by, ...flow.egress_denied_by];
  const allowed = [...flow.ingress_allowed_by, ...flow.egress_allowed_by];
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

const VERDICT_COLOURS: Readonly<Record<string, Colour>> = {
  FORWARDED: "green",
  REDIRECTED: "green",
  DROPPED: "red",
  ERROR: "red",
  AUDIT: "yellow",
  TRACED: "yellow",
  TRANSLATED: "yellow",
};

/** Where the datapath dropped it: "policy.h:99". */
function placeText({ file, verdict }: Flow): string {
  return verdict === "DROPPED" && file?.name ? `${file.name}:${file.line}` : "";
}

/** Who sent what was refused: the addresses inside are only what the packet says. */
function tunnelText({ tunnel, verdict }: Flow): string {
  if (verdict !== "DROPPED" || !tunnel?.IP) return "";
  return `${tunnel.protocol} from ${tunnel.IP.source} VNI ${tunnel.vni}`;
}

function summaryText(flow: Flow, options: WordOptions): string {
  const trace = flow.ip_trace_id?.trace_id ? `IP Trace ID: ${flow.ip_trace_id.trace_id}; ` : "";
  const auth = flow.auth_type === "DISABLED"
    ? ""
    : `; Auth: ${
      painted(harmless(`${flow.auth_type}`), flow.auth_type === "SPIRE" ? "green" : "red", options)
    }`;
  const text = `${trace}${harmless(flow.Summary)}${auth}`;
  return options.why
    ? [text, harmless(tunnelText(flow)), harmless(placeText(flow))].filter((part) => part !== "").join("; ")
    : text;
}

/** The words of a flow. */
export function flowWords(flow: Flow, options: WordOptions): FlowWords {
  const [source, destination] = hostTexts(flow, options);
  const reply = flow.is_reply?.value;
  return {
    source,
    destination,
    sourceIdentity: identityText(flow.source, flow.source_service, options),
    destinationIdentity: identityText(flow.destination, flow.destination_service, options),
    arrow: reply === undefined ? "<>" : reply ? "<-" : "->",
    type: harmless(typeText(flow, options.why)),
    verdict: painted(harmless(verdictText(flow, options.why)), VERDICT_COLOURS[flow.verdict], options),
    summary: summaryText(flow, options),
  };
}

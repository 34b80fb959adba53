/**
 * `weir policy explain --at TIME` and `--flow UUID`: a connection by the policies, labels and endpoints that held then, as the
 * flow history kept them.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { IpAddress } from "@weir/common/address";
import { reservedIdentityNumber } from "@weir/common/identity";
import { PROTOCOL_NUMBERS } from "@weir/common/map-state";
import type { Init, Message } from "@weir/proto";
import type { Endpoint, Flow } from "@weir/proto/flow";
import { FlowPage, HoldingPage } from "@weir/proto/history";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, Policy } from "@weir/proto/policy";
import { UsageError } from "../context.ts";
import { timeText } from "../observe/time_text.ts";
import { editDistance } from "../suggestion.ts";
import { type Explanation, policyStage } from "./explanation.ts";
import { stage } from "./stage.ts";

/** Objects of one kind that are read. */
export const HOLDINGS_MAX = 200_000;
const DEADLINE_MS = 30_000;
/** Around the time that was said a flow is looked for, in seconds. */
const NEAR_S = 60;
/** Names of a flow's destination that are asked about. */
const NAMES_MAX = 16;
const HINT = "weir help explain";
/** What is outside, of which the address says more. */
const WORLDS: ReadonlySet<number | undefined> = new Set(
  ["world", "world-ipv4", "world-ipv6"].map((name) => reservedIdentityNumber(name)),
);

/** What is asked of the past. */
export interface PastQuestion {
  /** As it was typed; undefined with a flow: when that was. */
  readonly at?: string;
  readonly flow?: string;
  readonly from?: string;
  readonly to?: string;
  readonly port: { readonly protocol: number; readonly port?: number; readonly portName?: string };
  readonly portText: string;
  readonly direction: "DIRECTION_UNSPECIFIED" | "INGRESS" | "EGRESS";
  readonly namespace: string;
}

/** One end: how the engine is asked about it. */
export interface PastEnd {
  readonly title: string;
  readonly labels?: readonly string[];
  readonly identity?: number;
  readonly ip?: string;
  /** A DNS name: of the address, or of addresses that nobody has kept. */
  readonly dnsName?: string;
  readonly namedPorts?: IpcacheEntry["namedPorts"];
}

/** Explains. @throws {UsageError} @throws {ProblemError} no history answers, or it does not reach so far back */
export async function explainAt(question: PastQuestion, history: WeirClient): Promise<Explanation> {
  const flow = question.flow === undefined ? undefined : await flowOf(history, question.flow, question.at);
  const at = flow?.time
    ? new Date(flow.time.seconds * 1000 + flow.time.nanos / 1e6).toISOString()
    : question.at!;
  const [policies, identities, addresses] = await Promise.all([
    held(history, at, "policy", Policy),
    held(history, at, "identity", Identity),
    held(history, at, "address", IpcacheEntry),
  ]);
  if (policies.knownSinceUnixS === 0 || policies.atUnixS < policies.knownSinceUnixS) {
    throw new UsageError(
      `Cannot tell what held at ${when(policies.atUnixS)}: ${
        policies.knownSinceUnixS === 0
          ? "the flow history has no policies yet"
          : `the flow history knows policies from ${when(policies.knownSinceUnixS)} on`
      }`,
      HINT,
    );
  }
  const ends = flow === undefined
    ? [question.from!, question.to!].map((name) => pastEnd(name, question.namespace, addresses.objects))
    : [flowEnd(flow.source, flow.IP?.source), flowEnd(flow.destination, flow.IP?.destination)];
  const [from, to] = ends;
  if (from.dnsName !== undefined) {
    throw new UsageError(
      `"${from.title}" is a DNS name, and nothing comes from one: say a pod or an address`,
      HINT,
    );
  }
  const port = flow === undefined ? question.port : flowPort(flow);
  const { explainPast } = await import("@weir/policy-engine/past");
  const facts = {
    policies: policies.objects,
    identities: identities.objects,
    addresses: addresses.objects,
    cluster: clusterOf(identities.objects),
  };
  const asked = (toName: string | undefined) =>
    ExplainRequest.create({
      ...port,
      direction: question.direction,
      fromLabels: [...from.labels ?? []],
      fromIdentity: from.identity,
      fromIp: from.ip,
      toLabels: [...to.labels ?? []],
      toIdentity: to.identity,
      toIp: to.ip,
      toName,
      toNamedPorts: [...to.namedPorts ?? []],
    } as Init<ExplainRequest>);
  const names = to.dnsName !== undefined
    ? [to.dnsName]
    : to.ip === undefined
    ? []
    : flow?.destination_names ?? [];
  // An address that one of its names opens is open.
  const answers = (names.length === 0 ? [undefined] : names.slice(0, NAMES_MAX))
    .map((name) => explainPast(asked(name), facts));
  const { response, unread } = answers.find(({ response }) => response.allowed) ?? answers[0];
  const portText = flow === undefined ? question.portText : flowPortText(flow);
  return {
    title: `${from.title} -> ${to.title}:${portText} at ${when(policies.atUnixS)}`,
    allowed: response.allowed,
    // What else was on its way then nobody keeps.
    works: response.allowed,
    stages: [
      ...(flow === undefined ? [] : [stage("flow", "", "ok", `${flow.verdict} ${flow.Summary}`.trim())]),
      ...response.steps.map((step) => policyStage(step, from, to)),
      ...(flow === undefined || isDenied(flow) === !response.allowed ? [] : [stage(
        "note",
        "",
        "unknown",
        `The flow itself was ${flow.verdict}: policies or labels were changing at that moment, or it was no policy that decided`,
      )]),
      ...(to.dnsName === undefined ? [] : [stage(
        "note",
        "",
        "unknown",
        `Which addresses ${to.dnsName} had then nobody keeps: what is said is of an address outside that no CIDR means`,
      )]),
      ...unread.map((text) => stage("left out", "", "unknown", text)),
    ],
    steps: response.steps,
    policyRevision: 0,
  };
}

const when = (unixS: number) => timeText({ seconds: Math.floor(unixS), nanos: 0 }, "RFC3339");

interface Held<T> {
  readonly objects: readonly T[];
  readonly atUnixS: number;
  readonly knownSinceUnixS: number;
}

async function held<T>(history: WeirClient, at: string, kind: string, message: Message<T>): Promise<Held<T>> {
  const objects: T[] = [];
  for (let after = "";;) {
    const page = await history.call("/v1/holdings", {
      method: "GET",
      response: HoldingPage,
      query: { at: [at], kind: [kind], after: [after] },
      deadlineMs: DEADLINE_MS,
    });
    objects.push(...page.holdings.map(({ object }) => message.decode(object)));
    if (page.next === "" || objects.length >= HOLDINGS_MAX) {
      return { objects, atUnixS: page.atUnixS, knownSinceUnixS: page.knownSinceUnixS };
    }
    after = page.next;
  }
}

async function flowOf(history: WeirClient, uuid: string, at: string | undefined): Promise<Flow> {
  const window = at === undefined ? {} : await around(history, at);
  for (let after = "";;) {
    const page = await history.call("/v1/flows", {
      method: "GET",
      response: FlowPage,
      query: { uuid: [uuid], last: ["1"], after: [after], ...window },
      deadlineMs: DEADLINE_MS,
    });
    if (page.flows.length > 0) return page.flows[0];
    if (page.next === "") break;
    after = page.next;
  }
  throw new UsageError(
    `The flow history has no flow ${uuid}${at === undefined ? "" : ` within a minute of ${at}`}`,
    "weir observe --since 1h -o json has the uuid of each flow",
  );
}

/** The history reads the time, so that it is read once. */
async function around(history: WeirClient, at: string): Promise<Record<string, string[]>> {
  const { atUnixS } = await history.call("/v1/holdings", {
    method: "GET",
    response: HoldingPage,
    query: { at: [at], kind: ["policy"], limit: ["1"] },
  });
  const time = (unixS: number) => [new Date(unixS * 1000).toISOString()];
  return { since: time(atUnixS - NEAR_S), until: time(atUnixS + NEAR_S) };
}

/** Who a flow's end was: by its labels, which it carries; a reserved one by its number, and what is outside by its address. */
export function flowEnd(endpoint: Endpoint | undefined, ip: string | undefined): PastEnd {
  const { namespace = "", pod_name = "", identity = 0, labels = [] } = endpoint ?? {};
  const title = pod_name === ""
    ? ip ?? `identity ${identity}`
    : `${namespace === "" ? "" : `${namespace}/`}${pod_name}`;
  const isReserved = identity > 0 && identity < 256,
    isOutside = labels.some((label) => /^(cidr|reserved):/.test(label));
  if (!isReserved && !isOutside && labels.length > 0) return { title, labels };
  return isReserved && !WORLDS.has(identity) ? { title, identity } : { title, ip };
}

/** A drop for another reason than policy is no denial. */
function isDenied({ verdict, drop_reason_desc: reason }: Flow): boolean {
  return verdict === "DROPPED" && (reason === "POLICY_DENIED" || reason === "POLICY_DENY");
}

function flowPort({ l4 }: Flow): { protocol: number; port: number } {
  for (const name of ["TCP", "UDP", "SCTP"] as const) {
    const ports = l4?.[name];
    if (ports) return { protocol: PROTOCOL_NUMBERS[name], port: ports.destination_port };
  }
  if (l4?.ICMPv4) return { protocol: PROTOCOL_NUMBERS.ICMP, port: l4.ICMPv4.type };
  if (l4?.ICMPv6) return { protocol: PROTOCOL_NUMBERS.ICMPV6, port: l4.ICMPv6.type };
  throw new UsageError("The flow has no protocol that policies know", HINT);
}

function flowPortText(flow: Flow): string {
  const { protocol, port } = flowPort(flow);
  return `${port}/${
    Object.entries(PROTOCOL_NUMBERS).find(([, number]) => number === protocol)?.[0] ?? protocol
  }`;
}

/** Who is meant, among those who were there. @throws {UsageError} */
export function pastEnd(name: string, namespace: string, addresses: readonly IpcacheEntry[]): PastEnd {
  const numbered = /^identity:([0-9]{1,10})$/.exec(name);
  if (numbered) return { title: name, identity: Number(numbered[1]) };
  if (name.includes("=")) return { title: name, labels: name.split(",").map((label) => label.trim()) };
  const address = IpAddress.tryParse(name);
  if (address) return { title: name, ip: address.text };
  if (name.startsWith("name/")) return dnsEnd(name.slice("name/".length));
  const asked = name.replace(/^(pod|endpoint)\//, "");
  const full = asked.includes("/") ? asked : `${namespace}/${asked}`;
  const nameOf = (entry: IpcacheEntry) =>
    entry.podName === "" ? entry.endpoint : `${entry.namespace}/${entry.podName}`;
  const found = addresses.find((entry) =>
    nameOf(entry) === full || (entry.endpoint !== "" && entry.endpoint === asked)
  );
  if (found) return { title: nameOf(found), identity: found.identity, namedPorts: found.namedPorts };
  const reserved = reservedIdentityNumber(name === "world" ? "world-ipv4" : name);
  if (reserved) return { title: name, identity: reserved };
  if (name.includes(".") && !name.includes("/")) return dnsEnd(name);
  const known = [...new Set(addresses.map(nameOf))].filter((one) => one !== "");
  const near = known.filter((one) => editDistance(one.split("/").at(-1)!, full.split("/").at(-1)!) <= 1)
    .slice(0, 3);
  throw new UsageError(
    `Cannot find "${name}" at that time: expected a pod or endpoint that was there, an address, a DNS name (name/NAME), a reserved name (world, host), identity:N or labels${
      near.length === 0 ? "" : `; did you mean ${near.join(" or ")}?`
    }`,
    HINT,
  );
}

function dnsEnd(dnsName: string): PastEnd {
  return { title: dnsName, dnsName };
}

/** Labels of identities say the cluster. */
function clusterOf(identities: readonly Identity[]): string {
  const prefix = "k8s:io.cilium.k8s.policy.cluster=";
  for (const { labels } of identities) {
    const found = labels.find((label) => label.startsWith(prefix));
    if (found !== undefined) return found.slice(prefix.length);
  }
  return "default";
}

/**
 * What is asked about one destination once it is known: its sockets, and what packets between the two ends met lately. Who does not
 * answer is left out: the rest of the answer stands.
 *
 * @module
 */
import { EndpointSockets } from "@weir/proto/datapath";
import type { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { clientOf } from "../clients.ts";
import type { CommandContext, NodeTarget } from "../context.ts";
import { question } from "@weir/client/status";
import type { End } from "./ends.ts";
import { networkStages } from "./network_stage.ts";
import { socketStage } from "./socket_stage.ts";
import { type Stage, stage } from "./stage.ts";
import { type SeenFlow, trafficStage } from "./traffic_stage.ts";

const TCP = 6, UDP = 17;
/** What happened before is another story. */
const RECENT_S = 60;
const FLOWS_MAX = 200;
/** What routers say of a packet comes from their own addresses. */
const ICMP_ERRORS = ["unreachable", "too-big"];

/** A connection to one destination, after services. */
export interface FarEnd {
  readonly from: End;
  readonly to: End;
  readonly protocol: number;
  readonly port: number | undefined;
  /** The service that led to this destination. */
  readonly service?: string;
  /** What a router on the way is called. */
  readonly nameOf?: (address: string) => string;
}

/** Stages of the far end: its network and its socket, then what real packets met. */
export async function farEndStages(
  farEnd: FarEnd,
  context: CommandContext,
  nowUnixS: number,
): Promise<Stage[]> {
  const [own, traffic] = await Promise.all([
    ownStages(farEnd, context),
    trafficOf(farEnd, context, nowUnixS),
  ]);
  return traffic === undefined ? own : [...own, traffic];
}

/** What the namespace of the near end lost. @param to where it goes, which tells the family */
export async function nearEndStages(from: End, to: End, context: CommandContext): Promise<Stage[]> {
  if (from.endpoint === undefined) return [];
  const answer = await socketsOf(from.endpoint, context);
  // Who does not answer is told of elsewhere; a device's network is another kernel's.
  if (answer.kind !== "answered" || !answer.value?.network) return [];
  return networkStages({
    title: from.title,
    network: answer.value.network,
    address: addressesOf(from).find((one) => one.includes(":") === addressesOf(to)[0]?.includes(":")),
  });
}

type EndpointAt = NonNullable<End["endpoint"]>;

function socketsOf({ target, endpoint }: EndpointAt, context: CommandContext) {
  return question(
    clientOf(context, "endpoint-manager", target),
    (client) => client.collection("sockets", EndpointSockets).get(endpoint.name),
  );
}

/** What the endpoint itself does with the connection. */
async function ownStages({ to, protocol, port, service }: FarEnd, context: CommandContext): Promise<Stage[]> {
  if (to.endpoint === undefined) return [];
  const answer = await socketsOf(to.endpoint, context);
  if (answer.kind === "hung" || answer.kind === "away") {
    const message = `endpoint-manager of ${to.endpoint.target.node} does not answer${
      answer.kind === "hung" ? " in time" : ""
    }: whether somebody listens is not known`;
    return [stage("socket", to.title, "unknown", message, { fixes: ["weir status"] })];
  }
  // A device's sockets are another kernel's: nobody here sees them.
  if (answer.kind !== "answered" || answer.value === undefined) return [];
  const { title } = to, sockets = answer.value, address = to.address ?? addressesOf(to)[0];
  const network = sockets.network ? networkStages({ title, network: sockets.network, address }) : [];
  if (port === undefined || (protocol !== TCP && protocol !== UDP)) return network;
  return [...network, socketStage({ title, protocol, port, sockets, service, address })];
}

async function trafficOf(
  { from, to, protocol, port, nameOf }: FarEnd,
  context: CommandContext,
  nowUnixS: number,
): Promise<Stage | undefined> {
  const source = addressesOf(from), destination = addressesOf(to);
  if (destination.length === 0 || source.length === 0) return undefined;
  const nodes = context.nodes().filter(({ node }) => node === from.node || node === to.node);
  const seen = (await Promise.all(nodes.flatMap((target) => [
    flowsOf(context, target, { ip: destination }),
    flowsOf(context, target, { "to-ip": source, type: ICMP_ERRORS }),
  ]))).flat();
  const flows = seen.filter(({ flow, unixS }) =>
    unixS > nowUnixS - RECENT_S && isBetween(flow, source, destination) && isPort(flow, protocol, port)
  );
  flows.sort((a, b) => a.unixS - b.unixS);
  return trafficStage({ fromNode: from.node, toNode: to.node, flows, nowUnixS, nameOf });
}

async function flowsOf(
  context: CommandContext,
  target: NodeTarget,
  filters: Readonly<Record<string, readonly string[]>>,
): Promise<SeenFlow[]> {
  const answer = await question(clientOf(context, "flow-exporter", target), async (client) => {
    const found: SeenFlow[] = [];
    const query = { ...filters, last: [`${FLOWS_MAX}`], watch: false };
    for await (const { flow, time } of client.stream("/v1/flows", GetFlowsResponse, { query })) {
      if (flow) {
        found.push({ node: target.node, unixS: (time?.seconds ?? 0) + (time?.nanos ?? 0) / 1e9, flow });
      }
    }
    return found;
  });
  return answer.kind === "answered" ? answer.value : [];
}

function addressesOf({ ip, endpoint }: End): string[] {
  const status = endpoint?.endpoint.status;
  return [...new Set([ip ?? "", status?.ipv4 ?? "", status?.ipv6 ?? ""])].filter((one) => one !== "");
}

function isBetween(
  { IP, trouble }: Flow,
  source: readonly string[],
  destination: readonly string[],
): boolean {
  if (IP === undefined) return false;
  // What a router says about it comes from the router.
  if (trouble !== undefined && source.includes(IP.destination) && destination.includes(trouble.about_ip)) {
    return true;
  }
  return (source.includes(IP.source) && destination.includes(IP.destination)) ||
    (destination.includes(IP.source) && source.includes(IP.destination));
}

function isPort({ l4, trouble }: Flow, protocol: number, port: number | undefined): boolean {
  if (port !== undefined && trouble !== undefined && trouble.about_port !== 0) {
    return trouble.about_port === port;
  }
  const layer = protocol === TCP ? l4?.TCP : protocol === UDP ? l4?.UDP : undefined;
  if (protocol !== TCP && protocol !== UDP) return true;
  // An ICMP error has no ports of its own.
  if (layer === undefined) return l4?.ICMPv4 !== undefined || l4?.ICMPv6 !== undefined;
  return port === undefined || layer.destination_port === port || layer.source_port === port;
}

/**
 * The whole way of a connection: the ends, the service, policy on both sides, the nodes, the socket, real packets. What is asked is asked at once, what is
 * concluded is concluded here.
 *
 * @module
 */
import {
  IDENTITY_HOST,
  IDENTITY_REMOTE_NODE,
  IDENTITY_WORLD,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
} from "@weir/common/identity";
import { IpAddress } from "@weir/common/address";
import { Prefix } from "@weir/common/prefix";
import { PROTOCOL_NUMBERS } from "@weir/common/map-state";
import type { Init } from "@weir/proto";
import type { NamedPort } from "@weir/proto/identity";
import type { L7Question } from "@weir/proto/l7";
import type { Backend } from "@weir/proto/loadbalancer";
import { ExplainRequest, ExplainResponse, type ExplainStep } from "@weir/proto/policy";
import { clientOf } from "../clients.ts";
import type { CommandContext } from "../context.ts";
import type { ClusterFacts } from "./cluster_facts.ts";
import { type End, ofPlaced } from "./ends.ts";
import { endpointStages, inForceStages, pathStages } from "./endpoint_stage.ts";
import { farEndStages, nearEndStages } from "./far_end.ts";
import { serviceStage } from "./service_stage.ts";
import { type Stage, stage } from "./stage.ts";

const TCP = PROTOCOL_NUMBERS.TCP, UDP = PROTOCOL_NUMBERS.UDP;
/** Backends of a service whose policy is asked for, one by one. */
const TARGETS_MAX = 16;

/** What is asked. */
export interface Connection {
  readonly from: End;
  readonly to: End;
  /** As it was written: `80/TCP`. */
  readonly portText: string;
  readonly protocol: number;
  readonly port?: number;
  readonly portName?: string;
  readonly direction: "DIRECTION_UNSPECIFIED" | "INGRESS" | "EGRESS";
  /** A request within it. */
  readonly request?: Init<L7Question>;
  /** As it was written. */
  readonly requestText?: string;
}

/** What comes of it. */
export interface Explanation {
  readonly title: string;
  /** Policy lets it through, at both ends and for every backend. */
  readonly allowed: boolean;
  /** False: it cannot work, or is denied. Undefined: who knows did not answer. */
  readonly works: boolean | undefined;
  readonly stages: readonly Stage[];
  /** The engine's own steps, for programs. */
  readonly steps: readonly ExplainStep[];
  readonly policyRevision: number;
}

/** Explains a connection. @throws {ProblemError} when the policy engine does not answer or cannot tell */
export async function explainConnection(
  connection: Connection,
  facts: ClusterFacts,
  context: CommandContext,
  nowUnixS: number,
): Promise<Explanation> {
  const { from } = connection;
  const to = withNodePort(connection, facts);
  const stages: Stage[] = [...facts.silent].map(([who, error]) =>
    stage("no answer", "", "unknown", `${who} does not answer: ${error}`)
  );
  stages.push(...endpointStages("source", from, nowUnixS));
  const steps: ExplainStep[] = [];
  let policyRevision = 0;
  const { protocol } = connection;
  const [near, ...answers] = await Promise.all([
    nearEndStages(from, to, context),
    ...targetsOf({ ...connection, to }, facts, stages).map(async (target) => ({
      target,
      answer: isItself(from, target.to)
        ? ITSELF
        : await askBoth({ ...connection, ...target }, facts, context),
      far: await farEndStages(
        {
          from,
          to: target.to,
          protocol,
          port: numberOf(target),
          service: serviceOf(to),
          nameOf: (address) => routerName(address, facts),
        },
        context,
        nowUnixS,
      ),
    })),
  ]);
  stages.push(...near);
  for (const { target: { to }, answer, far } of answers) {
    policyRevision = answer.policyRevision || policyRevision;
    steps.push(...answer.steps);
    const policy = isItself(from, to)
      ? [stage("path", to.title, "ok", "it reaches itself: no policy applies to that")]
      : answer.steps.map((step) => policyStage(step, from, to));
    if (to.isForeign) policy.unshift(nobodyStage(to));
    stages.push(
      ...policy,
      ...inForceStages(from, to, facts, nowUnixS),
      ...pathStages(from, to, facts, nowUnixS),
    );
    // A full backlog and lost answers are no news to who is denied.
    const isDenied = policy.some(({ state }) => state === "denied");
    stages.push(...endpointStages("destination", to, nowUnixS), ...(isDenied ? [] : far));
    if (
      (to.isNode || to.identity === IDENTITY_HOST) && connection.port !== undefined && !isDenied &&
      (protocol === TCP || protocol === UDP)
    ) {
      stages.push(nodeStage({ ...connection, to }, to.node ?? from.node ?? "the node", facts));
    }
  }
  const distinct = [...new Map(stages.map((one) => [JSON.stringify(one), one])).values()];
  const allowed = !distinct.some(({ state }) => state === "denied");
  const broken = distinct.some(({ state }) => state === "broken");
  const unknown = distinct.some(({ state }) => state === "unknown");
  return {
    title: `${from.title} -> ${to.title} ${connection.portText}${requestTitle(connection)}`,
    allowed,
    works: !allowed || broken ? false : unknown ? undefined : true,
    stages: distinct,
    steps,
    policyRevision,
  };
}

/** An address that nobody has: outside of the cluster that is nothing to say against it. */
/** Characters of a request in a title. */
const REQUEST_TITLE_MAX = 120;

function requestTitle({ requestText = "" }: Connection): string {
  if (requestText === "") return "";
  const cut = requestText.length > REQUEST_TITLE_MAX;
  return `, ${cut ? `${requestText.slice(0, REQUEST_TITLE_MAX)}…` : requestText}`;
}

function nobodyStage({ title, isGoneFrom }: End): Stage {
  if (isGoneFrom === undefined) {
    const message = "nobody in this cluster has this address: no pod, service or node";
    return stage("destination", title, "ok", message);
  }
  const { node, range } = isGoneFrom;
  const message =
    `nobody has this address: it is of the pods of ${node} (${range}), and the pod that had it is gone`;
  return stage("destination", title, "broken", message, {
    fixes: [
      "Ask for the pod by its name, or for a service: weir endpoint list shows the addresses there are",
    ],
  });
}

/** What a pod sends to its own address stays in it; what comes back to it from a service is let in. */
function isItself(from: End, to: End): boolean {
  return from.endpoint !== undefined && from.endpoint.node === to.endpoint?.node &&
    from.endpoint.endpoint.name === to.endpoint?.endpoint.name;
}
const ITSELF: Pick<ExplainResponse, "steps" | "policyRevision"> = { steps: [], policyRevision: 0 };

/** A port of a node may be a service's, or of a pod that has taken it as its host port. */
function withNodePort({ to, port, protocol }: Connection, { services }: ClusterFacts): End {
  if (!to.isNode || port === undefined) return to;
  const service = services.find(({ ports }) =>
    ports.some((one) =>
      PROTOCOL_NUMBERS[one.protocol] === protocol &&
      one.frontends.some(({ kind, port: number, node }) =>
        number === port && (kind === "NODE_PORT" || (kind === "HOST_PORT" && node === to.node))
      )
    )
  );
  return service === undefined ? to : { ...to, service, serviceAddress: to.ip };
}

/** What listens in a node's own namespace only the node can tell, and a host port of another node is no port here. */
function nodeStage(
  { to, port, protocol }: Connection,
  node: string,
  { services }: ClusterFacts,
): Stage {
  const elsewhere = services.flatMap(({ name, ports }) =>
    ports.filter((one) => PROTOCOL_NUMBERS[one.protocol] === protocol).flatMap(({ frontends }) =>
      frontends.filter((one) => one.kind === "HOST_PORT" && one.port === port)
        .map(({ node }) => `${name.replace(/^hostport:/, "")} has it as its host port on ${node}`)
    )
  );
  const what = `${node}:${port}`;
  return stage(
    "socket",
    to.title,
    "unknown",
    `no service has a node port and no pod here a host port ${port}: whether a process of the node itself listens on ${what} is not known`,
    {
      details: elsewhere.map((text): [string, string] => ["but", text]),
      fixes: [`Look there: ss -ln on ${node}`],
    },
  );
}

/** Where the packets go in the end, and to which port there: the destination itself, or backends of the service. */
function targetsOf(
  connection: Connection,
  facts: ClusterFacts,
  stages: Stage[],
): Pick<Connection, "to" | "port" | "portName">[] {
  const { from, to, port, portName } = connection;
  if (to.service === undefined) {
    const missing = portName === undefined ? undefined : missingName(connection, portName, facts);
    if (missing === undefined) return [{ to, port, portName }];
    stages.push(missing);
    return [];
  }
  const status = from.endpoint?.endpoint.status;
  const { stage: found, picked } = serviceStage({
    service: to.service,
    address: to.serviceAddress,
    atNode: to.isNode ? to.node : undefined,
    protocol: connection.protocol,
    port: port ?? portName ?? 0,
    outside: isOutside(from),
    sourceNode: from.node,
    sourceAddress: from.ip ?? status?.ipv4,
    backends: facts.backends,
  });
  stages.push(found);
  return picked.slice(0, TARGETS_MAX).map((backend) => ({
    to: endOfBackend(backend, facts),
    port: backend.port,
    portName: undefined,
  }));
}

/** A node answers for its pods with an address of theirs that no pod has. */
function routerName(address: string, { nodes, endpoints }: ClusterFacts): string {
  const node = nodes.find(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address) ??
    (endpoints.some(({ endpoint: { status } }) => status?.ipv4 === address || status?.ipv6 === address)
      ? undefined
      : nodes.find(({ podCidrV4, podCidrV6 }) =>
        [podCidrV4, podCidrV6].some((range) =>
          Prefix.tryParse(range)?.contains(IpAddress.parse(address)) ?? false
        )
      ));
  return node === undefined ? address : `${node.name} (${address})`;
}

/** Labels and numbers of the cluster's own may be anywhere in it. */
function isOutside({ isForeign, identity }: End): boolean {
  return isForeign === true ||
    [IDENTITY_WORLD, IDENTITY_WORLD_IPV4, IDENTITY_WORLD_IPV6].some((one) => one === identity);
}

/** The service that people can change; a host port is its pod's own. */
function serviceOf({ service }: End): string | undefined {
  return service?.type === "HostPort" ? undefined : service?.name;
}

/** The number that is asked for; of a name what the destination gives it. */
function numberOf({ to, port, portName }: Pick<Connection, "to" | "port" | "portName">): number | undefined {
  if (port !== undefined || portName === undefined) return port;
  return to.namedPorts?.find(({ name }) => name.toLowerCase() === portName.toLowerCase())?.port;
}

/** A port name that the destination does not have: what it has, and who has that name. */
function missingName({ to, protocol }: Connection, name: string, facts: ClusterFacts): Stage | undefined {
  const same = (port: NamedPort) =>
    port.name.toLowerCase() === name.toLowerCase() &&
    PROTOCOL_NUMBERS[(port.protocol || "TCP").toUpperCase()] === protocol;
  if (to.namedPorts === undefined || to.namedPorts.some(same)) return undefined;
  const text = ({ name, port, protocol }: NamedPort) => `${name} (${port}/${protocol || "TCP"})`;
  const has = to.namedPorts.map(text).join(", ") || "none";
  const others = facts.endpoints.filter(({ endpoint }) => endpoint.namedPorts.some(same)).slice(0, 4)
    .map((one): [string, string] => [
      "has it",
      `${ofPlaced(one).title}: ${text(one.endpoint.namedPorts.find(same)!)}`,
    ]);
  const message = `it has no port named ${name}: it has ${has}`;
  return stage("destination", to.title, "broken", message, {
    details: others,
    fixes: ["Ask for a port number, or give its container port that name"],
  });
}

function endOfBackend({ address, node, pod }: Backend, facts: ClusterFacts): End {
  const placed = facts.endpoints.find(({ endpoint: { status } }) =>
    status?.ipv4 === address || status?.ipv6 === address
  );
  return placed === undefined
    ? { title: pod || address, ip: address, node }
    : { ...ofPlaced(placed), address };
}

/** A node is `host` or `remote-node` to others, and to its own policies who the endpoint of its host is: asked for each side apart. */
async function askBoth(
  connection: Connection,
  facts: ClusterFacts,
  context: CommandContext,
): Promise<ExplainResponse> {
  const { from, to, direction } = connection;
  const [sender, receiver] = [hostOf(from, to, facts), hostOf(to, from, facts)];
  if (sender === undefined && receiver === undefined) return await ask(connection, context);
  const sides = (["EGRESS", "INGRESS"] as const)
    .filter((side) => direction === "DIRECTION_UNSPECIFIED" || direction === undefined || direction === side)
    .map((side) =>
      ask({
        ...connection,
        direction: side,
        from: side === "EGRESS" ? sender ?? from : from,
        to: side === "INGRESS" ? receiver ?? to : to,
      }, context)
    );
  const answers = await Promise.all(sides);
  return {
    ...answers[0],
    allowed: answers.every(({ allowed }) => allowed),
    steps: answers.flatMap(({ steps }) => steps),
    policyRevision: Math.max(...answers.map(({ policyRevision }) => policyRevision)),
  };
}

/** A node as the subject of policies; undefined: it is none, or its endpoints are not known. */
function hostOf(end: End, other: End, { endpoints }: ClusterFacts): End | undefined {
  if (!end.isNode && end.identity !== IDENTITY_HOST) return undefined;
  const node = end.node ?? other.node;
  const host = endpoints.find((placed) => placed.node === node && placed.endpoint.host);
  const identity = host?.endpoint.status?.identity;
  return identity ? { title: end.title, node, identity } : undefined;
}

async function ask(
  { from, to, protocol, port, portName, direction, request }: Connection,
  context: CommandContext,
): Promise<ExplainResponse> {
  const value: Init<ExplainRequest> = {
    protocol,
    port,
    portName,
    direction,
    request,
    ...prefixed("from", who(from, to)),
    ...prefixed("to", who(to, from)),
    toName: to.dnsName,
    fromEnforcement: from.endpoint?.endpoint.status?.enforcement,
    toEnforcement: to.endpoint?.endpoint.status?.enforcement,
    toNamedPorts: to.namedPorts && [...to.namedPorts],
  };
  const client = clientOf(context, "policy-engine");
  try {
    return await client.call("/v1/explain", {
      request: { message: ExplainRequest, value },
      response: ExplainResponse,
    });
  } finally {
    client.close();
  }
}

/** One end as the engine is asked about it. */
function who(end: End, other: End): { labels?: string[]; identity?: number; ip?: string } {
  if (end.isNode) {
    return { identity: end.node === other.node ? IDENTITY_HOST : IDENTITY_REMOTE_NODE };
  }
  if (end.labels !== undefined) return { labels: [...end.labels] };
  return end.identity === undefined ? { ip: end.ip } : { identity: end.identity };
}

function prefixed(
  end: "from" | "to",
  { labels, identity, ip }: ReturnType<typeof who>,
): Init<ExplainRequest> {
  return end === "from"
    ? { fromLabels: labels, fromIdentity: identity, fromIp: ip }
    : { toLabels: labels, toIdentity: identity, toIp: ip };
}

/** What one side's policies say, as a stage. */
export function policyStage(
  step: ExplainStep,
  from: Pick<End, "title" | "endpoint">,
  to: Pick<End, "title" | "endpoint">,
): Stage {
  const isEgress = step.direction === "EGRESS";
  const details: [string, string][] = step.labelFacts.map((fact) => ["because", fact]);
  if (step.nearMiss !== "") details.push(["almost", step.nearMiss]);
  for (const note of step.notes) details.push(["note", note]);
  const end = isEgress ? from : to;
  const passes = !step.allowed && end.endpoint?.endpoint.status?.audit;
  return stage(
    isEgress ? "egress" : "ingress",
    end.title,
    step.allowed || passes ? "ok" : "denied",
    passes
      ? `${step.reason}; audited: it passes, for the endpoint is in audit mode`
      : step.audited
      ? `${step.reason}, audited`
      : step.reason,
    {
      details,
      fixes: [`${step.change}${labelCommand(step, isEgress ? to : from)}`, ...step.alternatives]
        .filter((fix) => fix !== ""),
      manifest: step.manifest,
    },
  );
}

/** The command that gives an endpoint the label at once; a pod has it again when its manifest is applied. */
function labelCommand({ giveLabel }: ExplainStep, { endpoint }: Pick<End, "endpoint">): string {
  if (giveLabel === "" || endpoint === undefined) return "";
  const lasting = endpoint.endpoint.podName === "" ? "" : " (a pod keeps it when its manifest has it)";
  return `${lasting}: weir endpoint label ${endpoint.endpoint.name} ${giveLabel} --node ${endpoint.node}`;
}

/**
 * What a service does with a connection: which port of it is meant, which backends may get it, and why the others do not. Pure.
 *
 * @module
 */
import { IpAddress } from "@weir/common/address";
import { hostPort } from "@weir/common/join-token";
import { PROTOCOL_NUMBERS, protocolName } from "@weir/common/map-state";
import { Prefix } from "@weir/common/prefix";
import type { Backend, Frontend, Service, ServicePort } from "@weir/proto/loadbalancer";
import { type Stage, stage } from "./stage.ts";

/** The load balancer's reason where EndpointSlices say who is a backend. */
const SLICE_REASON = "NoEndpointOfSlices";

/** What a connection asks of a service. */
export interface ServiceQuestion {
  readonly service: Service;
  /** Address of the service that was asked for; undefined: whichever it has. */
  readonly address: string | undefined;
  /** IP protocol number. */
  readonly protocol: number;
  /** Number or name of the service's port. */
  readonly port: number | string;
  /** The node that was asked for its node port. */
  readonly atNode?: string;
  /** The source is not of the cluster. */
  readonly outside: boolean;
  /** Node of the source; undefined: it is outside of the cluster, or it is not known where. */
  readonly sourceNode: string | undefined;
  readonly sourceAddress: string | undefined;
  readonly backends: readonly Backend[];
}

/** What comes of it. */
export interface ServiceAnswer {
  readonly stage: Stage;
  /** Backends that a new connection may go to. */
  readonly picked: readonly Backend[];
}

/** Which backends a connection may get. */
export function serviceStage(question: ServiceQuestion): ServiceAnswer {
  const { service } = question;
  const subject = service.name;
  const broken = (message: string, fixes: string[] = [], details: Stage["details"] = []): ServiceAnswer => ({
    stage: stage("service", subject, "broken", message, { fixes, details }),
    picked: [],
  });
  if (service.ignored !== "") {
    return broken(`Weir does not serve it: ${service.ignored}`, [
      service.externalName === ""
        ? "Ask for one of its pods by name"
        : `Ask for the DNS name that it stands for: --to ${service.externalName}`,
    ]);
  }
  const port = portOf(question);
  if (port === undefined) {
    const has = service.ports.map(describePort).join(", ") || "none";
    return broken(
      `it has no port ${question.port}/${protocolName(question.protocol)}: it has ${has}`,
      service.ports.length === 0
        ? []
        : [`Ask for ${describePort(service.ports[0])}, or add the port to the service`],
    );
  }
  const conflict = service.conditions.find(({ type, ok }) => type === "Conflict" && !ok);
  const frontend = frontendOf(port, question);
  if (frontend === undefined) {
    return broken(
      conflict?.message ?? "it has no address that serves this port",
      conflict ? [] : [
        "Look at its conditions: weir service get " + subject,
      ],
    );
  }
  if (question.outside && frontend.kind === "CLUSTER_IP") return notFromOutside(question, port, frontend);
  const refused = refusedSource(port, frontend, question.sourceAddress);
  if (refused !== undefined) return broken(refused, ["Add the source to loadBalancerSourceRanges"]);
  return choose(question, port, frontend);
}

/** What a service lacks for who comes from outside: an address of a pool, or a port of the nodes. */
function notFromOutside({ service }: ServiceQuestion, port: ServicePort, frontend: Frontend): ServiceAnswer {
  const pool = service.conditions.find(({ type, ok }) => type === "AddressPool" && !ok);
  const nodePort = port.frontends.find(({ kind }) => kind === "NODE_PORT");
  const message =
    `${frontend.address} is its cluster IP, which nobody outside of the cluster reaches; it has no other address${
      pool === undefined ? "" : `: ${pool.message}`
    }`;
  const fixes = [
    ...(pool === undefined
      ? []
      : ["Apply a CiliumLoadBalancerIPPool that serves it: weir service pool list"]),
    nodePort === undefined
      ? "Make it a service of type NodePort or LoadBalancer"
      : `Ask a node for its node port: --to NODE -p ${nodePort.port}`,
  ];
  return { stage: stage("service", service.name, "broken", message, { fixes }), picked: [] };
}

function choose(question: ServiceQuestion, port: ServicePort, frontend: Frontend): ServiceAnswer {
  const { service, sourceNode } = question;
  const asked = IpAddress.tryParse(frontend.address || question.address || "")?.family;
  const own = question.backends.filter(({ service, address }) =>
    service === port.id && (asked === undefined || IpAddress.tryParse(address)?.family === asked)
  );
  const active = own.filter(({ state }) => state === "ACTIVE");
  const terminating = own.filter(({ state, serving }) => state === "TERMINATING" && serving);
  const usable = active.length > 0 ? active : terminating;
  const isInside = !question.outside;
  const policy = isInside && frontend.kind === "CLUSTER_IP"
    ? port.internalTrafficPolicy
    : isInside && (question.atNode === undefined || question.atNode === sourceNode)
    ? "CLUSTER"
    : port.externalTrafficPolicy;
  const local = policy === "LOCAL" && isInside && frontend.kind === "CLUSTER_IP";
  // To whom comes from another machine the node that was asked decides: it hands nothing on.
  const atNode = policy === "LOCAL" && !local ? question.atNode : undefined;
  const only = local ? sourceNode : atNode;
  const picked = only === undefined ? usable : usable.filter(({ node }) => node === only);
  const address = `${frontend.address || question.atNode || "every node"}:${frontend.port}/${port.protocol}`;
  const details: [string, string][] = [
    ...picked.map((one): [string, string] => [
      "backend",
      `${describeBackend(one)}${one.state === "TERMINATING" ? ": it is ending, and there is no other" : ""}`,
    ]),
    ...own.filter((one) => !picked.includes(one)).map((one): [string, string] => [
      "not",
      `${describeBackend(one)}: ${whyNot(one, only !== undefined, only, active.length > 0)}`,
    ]),
    ...service.excluded.map(({ pod, node, reason }): [string, string] => [
      "not",
      `${pod}${node === "" ? "" : ` on ${node}`}: ${reason}`,
    ]),
  ];
  if (policy === "LOCAL" && !isInside && atNode === undefined) {
    details.push(["note", "externalTrafficPolicy: Local: only nodes with a backend answer"]);
  }
  if (port.affinityTimeoutS > 0 && own.length > 1) {
    details.push([
      "note",
      `sessionAffinity: who has a backend keeps it for ${port.affinityTimeoutS} s, also when another answers sooner`,
    ]);
  }
  if (picked.length > 0) {
    const count = picked.length === 1 ? "1 backend" : `${picked.length} backends`;
    return {
      stage: stage("service", service.name, "ok", `${address} goes to ${count}`, { details }),
      picked,
    };
  }
  const elsewhere = [...new Set(usable.map(({ node }) => node))].join(", ");
  const condition = service.conditions.find(({ type, ok }) => type === "Backends" && !ok);
  const scope = local ? "internalTrafficPolicy" : "externalTrafficPolicy";
  const message = only !== undefined && usable.length > 0
    ? `${address} has no backend on ${only}, and ${scope} is Local (there are some on ${elsewhere})`
    : `${address} has no backend: ${condition?.message ?? "none is ready"}`;
  const held = own.filter(({ state }) => state === "MAINTENANCE" || state === "QUARANTINED");
  const fixes = only !== undefined && usable.length > 0
    ? [
      ...(local ? [] : [`Ask ${elsewhere} instead`]),
      `Run a backend on ${only}, or set ${scope}: Cluster`,
    ]
    : condition?.reason === SLICE_REASON
    ? [
      `Give a port of its EndpointSlice the name ${
        port.portName || "that is empty"
      }, or the service's port the name that the slice has`,
    ]
    : held.map(({ address }) => `Take it back: weir service backend ${service.name} ${address} --clear`);
  return { stage: stage("service", service.name, "broken", message, { details, fixes }), picked };
}

function portOf({ service, address, protocol, port }: ServiceQuestion): ServicePort | undefined {
  const alike = service.ports.filter((one) => PROTOCOL_NUMBERS[one.protocol] === protocol);
  if (typeof port === "string") return alike.find((one) => one.portName === port);
  const isOwn = service.ports.some(({ frontends }) => frontends.some((one) => one.address === address));
  return alike.find((one) =>
    one.frontends.some((frontend) =>
      frontend.port === port &&
      (address === undefined || frontend.address === address || (frontend.address === "" && !isOwn))
    )
  );
}

function frontendOf(
  port: ServicePort,
  { address, port: number, atNode, outside }: ServiceQuestion,
): Frontend | undefined {
  const { frontends } = port;
  if (outside && atNode === undefined && address === undefined) {
    const reached = frontends.find(({ kind }) => kind === "LOAD_BALANCER" || kind === "EXTERNAL_IP") ??
      frontends.find((one) => one.kind === "NODE_PORT" && one.port === number);
    if (reached !== undefined) return reached;
  }
  if (atNode !== undefined) {
    return frontends.find((one) =>
      one.port === number && (one.kind === "NODE_PORT" || (one.kind === "HOST_PORT" && one.node === atNode))
    );
  }
  if (address !== undefined) return frontends.find((one) => one.address === address) ?? frontends[0];
  return frontends.find(({ kind }) => kind === "CLUSTER_IP") ?? frontends[0];
}

function refusedSource(
  port: ServicePort,
  frontend: Frontend,
  source: string | undefined,
): string | undefined {
  if (port.sourceRanges.length === 0 || source === undefined || frontend.kind === "CLUSTER_IP") {
    return undefined;
  }
  const address = IpAddress.tryParse(source);
  if (address === undefined) return undefined;
  const inside = port.sourceRanges.some((range) => Prefix.parse(range).contains(address));
  if (inside !== port.sourceRangesDeny) return undefined;
  const ranges = port.sourceRanges.join(", ");
  return port.sourceRangesDeny
    ? `the source ${source} is in one of the ranges that are shut out (${ranges})`
    : `the source ${source} is in none of the source ranges (${ranges})`;
}

function whyNot(
  backend: Backend,
  local: boolean,
  sourceNode: string | undefined,
  hasActive: boolean,
): string {
  if (backend.state === "MAINTENANCE") return "in maintenance";
  if (backend.state === "QUARANTINED") return "quarantined";
  if (backend.state === "TERMINATING") return hasActive ? "it is ending" : "it is ending and answers no more";
  if (local) return `on ${backend.node}, not on ${sourceNode}: the traffic policy is Local`;
  return backend.state.toLowerCase();
}

function describeBackend({ address, port, node, pod }: Backend): string {
  const at = hostPort(address, port);
  return `${pod === "" ? at : `${pod} ${at}`}${node === "" ? "" : ` on ${node}`}`;
}

function describePort(port: ServicePort): string {
  const number = port.frontends.find(({ kind }) => kind !== "NODE_PORT")?.port ?? port.frontends[0]?.port ??
    "?";
  return `${port.portName === "" ? "" : `${port.portName} `}${number}/${port.protocol}`;
}

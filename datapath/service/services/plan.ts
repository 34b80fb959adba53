/**
 * What one service should have in the kernel: frontends, backends and who is in which selection. Pure; what the kernel
 * has already, and whether there is room, is the store's.
 *
 * @module
 */
import {
  BACKEND_ACTIVE,
  BACKEND_MAINTENANCE,
  BACKEND_QUARANTINED,
  BACKEND_TERMINATING,
  FRONTEND_AFFINITY,
  FRONTEND_CLOSED,
  FRONTEND_DSR,
  FRONTEND_EVERY_NODE,
  FRONTEND_EXTERNAL,
  FRONTEND_LOCAL,
  FRONTEND_NODE_PORT,
  FRONTEND_SOURCE_DENY,
  FRONTEND_SOURCE_RANGES,
  FrontendKey,
} from "@weir/maps";
import { protocolName } from "@weir/common";
import { hex, mapped, unmapped } from "../kernel/addresses.ts";
import { type Family, SCTP, type WantedBackend, type WantedFrontend, type WantedService } from "./image.ts";

/** The kernel's numbers of backend states. */
export const STATES: Record<string, number> = {
  ACTIVE: BACKEND_ACTIVE,
  TERMINATING: BACKEND_TERMINATING,
  QUARANTINED: BACKEND_QUARANTINED,
  MAINTENANCE: BACKEND_MAINTENANCE,
};

/** An entry of weir_frontends that a service should have. */
export interface PlannedFrontend {
  family: Family;
  external: boolean;
  nodePort: boolean;
  /** Other nodes have it too. */
  everyNode: boolean;
  /** The entry that closes the address's other ports. */
  closed: boolean;
}

/** What one service should have in the kernel. */
export interface ServicePlan {
  /** By key, as hex. */
  frontends: Map<string, PlannedFrontend>;
  backends: WantedBackend[];
  /** What cannot be had, in words; the rest is. */
  refusals: string[];
}

const ANY: readonly string[] = ["0.0.0.0", "::"];

/** Frontends and backends of a service. */
export function planService(service: WantedService, given: Iterable<WantedBackend>): ServicePlan {
  const frontends = new Map<string, PlannedFrontend>(), refusals: string[] = [];
  let backends = [...given], wanted = service.frontends;
  if (service.protocol === SCTP) {
    const port = sctpPort(wanted, backends);
    const ports = (items: { port: number }[]) => [...new Set(items.map((item) => item.port))].join(", ");
    const others = wanted.filter((frontend) => frontend.port !== port);
    const astray = backends.filter((backend) => backend.port !== port);
    if (others.length > 0 || astray.length > 0) {
      refusals.push(
        `SCTP ports are not rewritten: port ${port} is served` +
          (others.length > 0 ? `, not frontend port ${ports(others)}` : "") +
          (astray.length > 0 ? `, and no backend on port ${ports(astray)} is used` : ""),
      );
    }
    wanted = wanted.filter((frontend) => frontend.port === port);
    backends = backends.filter((backend) => backend.port === port);
  }
  const everywhere = familiesOf(wanted, backends);
  for (const { address, family, port, external, nodePort, closed, everyNode } of wanted) {
    for (const each of family === undefined ? everywhere : [family]) {
      const bytes = address ?? mapped(ANY[each]);
      const key = hex(FrontendKey.encode({ address: bytes, portBe: port, protocol: service.protocol }));
      frontends.set(key, { family: each, external, nodePort, everyNode, closed: false });
      if (!closed) continue;
      const rest = hex(FrontendKey.encode({ address: bytes, portBe: 0, protocol: 0 }));
      frontends.set(rest, { family: each, external, nodePort: false, everyNode: false, closed: true });
    }
  }
  return { frontends, backends, refusals };
}

/** The port that both sides have. */
function sctpPort(frontends: readonly WantedFrontend[], backends: readonly WantedBackend[]): number {
  const ports = new Set(backends.map((backend) => backend.port));
  return (frontends.find((frontend) => ports.has(frontend.port)) ?? frontends[0])?.port ?? 0;
}

/** Families in which a port of every address is served: those the service has addresses or backends of. */
function familiesOf(frontends: readonly WantedFrontend[], backends: readonly WantedBackend[]): Family[] {
  const families = new Set<Family>();
  for (const { family } of frontends) if (family !== undefined) families.add(family);
  for (const { family } of backends) families.add(family);
  return families.size === 0 ? [0, 1] : [...families];
}

/**
 * Who takes new flows in a family and scope: the active ones, or, when there are none, those that terminate and still
 * serve.
 */
export function selected(
  backends: readonly WantedBackend[],
  family: Family,
  scope: "internal" | "external",
): WantedBackend[] {
  const here = backends.filter((backend) => backend.family === family && backend[scope]);
  const active = here.filter((backend) => backend.state === "ACTIVE");
  return active.length > 0 ? active : here.filter((backend) => backend.state === "TERMINATING");
}

/** Flags of a frontend's record. */
export function flagsOf(service: WantedService, frontend: PlannedFrontend, outside: boolean): number {
  let flags = frontend.external && outside ? FRONTEND_EXTERNAL : 0;
  if (frontend.closed) return flags | FRONTEND_CLOSED;
  if (service.affinityTimeout > 0) flags |= FRONTEND_AFFINITY;
  // The ranges are the load balancer's: it comes to the node port with addresses of its own, having checked the client's.
  if (service.ranges.size > 0 && !frontend.nodePort) {
    flags |= FRONTEND_SOURCE_RANGES;
    if (service.rangesDeny) flags |= FRONTEND_SOURCE_DENY;
  }
  if (service.dsr) flags |= FRONTEND_DSR;
  if (frontend.nodePort) flags |= FRONTEND_NODE_PORT;
  if (frontend.everyNode) flags |= FRONTEND_EVERY_NODE | (service.externalLocal ? FRONTEND_LOCAL : 0);
  return flags;
}

/** "10.96.0.1 port 80 TCP" of a key. */
export function describeFrontend(key: string): string {
  const { address, portBe, protocol } = FrontendKey.decode(Uint8Array.fromHex(key));
  const text = unmapped(address);
  const where = ANY.includes(text) ? "of every address of the node" : text;
  return portBe === 0 ? `${where}, other ports` : `${where} port ${portBe} ${protocolName(protocol)}`;
}

/** Services and backends as they are asked for, checked and in the kernel's terms. Pure. @module */
import { IpAddress, ProblemError } from "@weir/common";
import { type Bytes, SERVICES_MAX, SourceRange } from "@weir/maps";
import type { DatapathBackend, DatapathService } from "@weir/proto/datapath";
import type { BackendState } from "@weir/proto/loadbalancer";
import { hex, mapped, parsePrefix } from "../kernel/addresses.ts";

/** 0 is IPv4, 1 IPv6: they have backends of their own. */
export type Family = 0 | 1;

/** A frontend, in both families when it has no address. */
export interface WantedFrontend {
  /** Undefined: every address of this node. */
  address: Bytes | undefined;
  family: Family | undefined;
  port: number;
  external: boolean;
  nodePort: boolean;
  /** Other nodes have it too. */
  everyNode: boolean;
  closed: boolean;
}

/** A service. */
export interface WantedService {
  id: number;
  name: string;
  protocol: number;
  frontends: WantedFrontend[];
  maglev: boolean;
  tableSize: number;
  seed: number;
  affinityTimeout: number;
  /** Keys of weir_source_ranges, as hex. */
  ranges: Set<string>;
  rangesDeny: boolean;
  dsr: boolean;
  /** Who comes from outside is served by backends of the node that is asked. */
  externalLocal: boolean;
}

/** A backend of a service. */
export interface WantedBackend {
  service: number;
  /** "address:port", the same text on every node. */
  text: string;
  address: Bytes;
  family: Family;
  port: number;
  state: BackendState;
  weight: number;
  internal: boolean;
  external: boolean;
  /** What its id goes by, once it was asked for under this protocol. */
  key?: { protocol: number; text: string };
}

/** Sizes that a Maglev table may have: primes. */
export const TABLE_SIZES: readonly number[] = [
  251,
  509,
  1021,
  2039,
  4093,
  8191,
  16381,
  32749,
  65521,
  131071,
];
const TABLE_SIZE_DEFAULT = 16381, WEIGHT_MAX = 100;
const PROTOCOLS: Record<string, number> = { TCP: 6, UDP: 17, SCTP: 132 };
/** Number of SCTP, whose ports cannot be rewritten. */
export const SCTP = 132;

/** Checks a service. @throws {ProblemError} SERVICE_INVALID */
export function wantedService(service: DatapathService): WantedService {
  const wrong = (field: string, found: unknown, expected: string) =>
    new ProblemError("SERVICE_INVALID", {
      status: 422,
      detail: `Cannot update service ${service.name} (id ${service.id}): ${field} is ${
        JSON.stringify(found)
      }, not ${expected}`,
      found: String(found),
      expected,
    });
  if (!(service.id >= 1 && service.id < SERVICES_MAX)) {
    throw wrong("id", service.id, `1 to ${SERVICES_MAX - 1}`);
  }
  const protocol = PROTOCOLS[service.protocol];
  if (protocol === undefined) throw wrong("protocol", service.protocol, "TCP, UDP or SCTP");
  const tableSize = service.tableSize || TABLE_SIZE_DEFAULT;
  if (!TABLE_SIZES.includes(tableSize)) {
    throw wrong("table_size", tableSize, `one of ${TABLE_SIZES.join(", ")}`);
  }
  const ranges = service.sourceRanges.map((text) => {
    const prefix = parsePrefix(text);
    const bits = prefix.family === 4 ? 96 + prefix.length : prefix.length;
    return hex(
      SourceRange.encode({
        prefixlen: 32 + bits,
        service: service.id,
        address: mapped(prefix.address.text),
      }),
    );
  });
  return {
    id: service.id,
    name: service.name,
    protocol,
    frontends: service.frontends.map(({ address: text, port, external, nodePort, closed, everyNode }) => {
      if (!isPort(port)) throw wrong("port", port, "1 to 65535");
      const address = text === "" ? undefined : IpAddress.tryParse(text);
      if (text !== "" && address === undefined) throw wrong("address", text, "an IPv4 or IPv6 address");
      return {
        address: address && mapped(address.text),
        family: address && (address.family === 4 ? 0 : 1),
        port,
        external,
        nodePort,
        everyNode,
        closed,
      };
    }),
    maglev: service.algorithm === "MAGLEV",
    tableSize,
    seed: service.seed,
    affinityTimeout: service.affinityTimeoutS,
    ranges: new Set(ranges),
    rangesDeny: service.sourceRangesDeny,
    dsr: service.forwarding === "DSR",
    externalLocal: service.externalLocal,
  };
}

/** Checks a backend. @throws {ProblemError} BACKEND_INVALID */
export function wantedBackend(backend: DatapathBackend): WantedBackend {
  const { service, address: text, port, weight, internal, external } = backend;
  const wrong = (field: string, found: unknown, expected: string) =>
    new ProblemError("BACKEND_INVALID", {
      status: 422,
      detail: `Cannot update backend ${text} port ${port} of service ${service}: ${field} is ${
        JSON.stringify(found)
      }, not ${expected}`,
      found: String(found),
      expected,
    });
  const address = IpAddress.tryParse(text);
  if (address === undefined) throw wrong("address", text, "an IPv4 or IPv6 address");
  if (!isPort(port)) throw wrong("port", port, "1 to 65535");
  if (!(weight <= WEIGHT_MAX)) throw wrong("weight", weight, `0 to ${WEIGHT_MAX}`);
  return {
    service,
    text: backendText(address, port),
    address: mapped(address.text),
    family: address.family === 4 ? 0 : 1,
    port,
    state: backend.state === "BACKEND_STATE_UNSPECIFIED" ? "ACTIVE" : backend.state,
    weight: weight || 1,
    internal,
    external,
  };
}

/** "10.0.0.7:80", "[fd00::7]:80". */
function backendText(address: IpAddress, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65535;
}

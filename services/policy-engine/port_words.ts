/** Ports of rules against the port that is asked about, and as people read them. @module */
import { protocolName } from "@weir/common";
import type { ExplainQuery } from "./decision.ts";
import type { PortMatch } from "./policy.ts";

/** Whether the ports of a rule mean the port. */
export function portMatches(port: PortMatch, query: ExplainQuery): boolean {
  if (port.protocol === 0) return true;
  if (port.protocol !== query.protocol) return false;
  if (port.name === "") return port.first <= query.port && query.port <= port.last;
  return query.toNamedPorts.some((named) =>
    named.name.toLowerCase() === port.name && named.port === query.port
  );
}

/** `80/TCP`, `8000-8080/TCP`, `http/TCP (8080 there)`, `ICMP type 8`, `every UDP port`. */
export function formatPort(
  { protocol, first, last, name }: PortMatch,
  { toNamedPorts }: ExplainQuery,
): string {
  if (protocol === 0) return "every port";
  const of = protocolName(protocol);
  if (name !== "") {
    const numbers = toNamedPorts.filter((named) => named.name.toLowerCase() === name.toLowerCase())
      .map(({ port }) => port);
    return `${name}/${of} (${
      numbers.length === 0 ? "the destination has no port of this name" : `${numbers.join(", ")} there`
    })`;
  }
  if (protocol === 1 || protocol === 58) return first === last ? `${of} type ${first}` : `every ${of}`;
  if (first === 0 && last === 65535) return `every ${of} port`;
  return first === last ? `${first}/${of}` : `${first}-${last}/${of}`;
}

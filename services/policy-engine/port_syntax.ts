/**
 * Reading of ports, port names and ICMP types from manifests.
 * @module
 */
import { PORT_MAX, PROTOCOL_NUMBERS } from "@weir/common";
import { describe, type ManifestNode, type ManifestReader } from "@weir/common/manifest";
import { PORT_MATCH_ANY, type PortMatch } from "./policy.ts";
import { readPortRules, type RulesContext, withRules } from "./rules_syntax.ts";

/** Most ports in one `toPorts` item, ICMP fields in one rule, and items of `toPorts`. */
export const PORTS_MAX = 40;
export const ICMP_FIELDS_MAX = 40;
export const PORT_RULES_MAX = 1000;

/** A service name of RFC 6335: at most 15 letters, digits and single inner hyphens, with a letter in it. */
const SERVICE_NAME = /^(?=.{1,15}$)(?=.*[A-Za-z])[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/;

/** Protocols that have ports, by name. */
export const PORT_PROTOCOLS: readonly string[] = ["TCP", "UDP", "SCTP"];
/** Protocols that `ANY` and an absent protocol stand for. ICMP is not among them. */
const ANY_PROTOCOLS = PORT_PROTOCOLS.map((name) => PROTOCOL_NUMBERS[name]);

/** What `toPorts` may not have yet. */
const TO_PORTS_UNSUPPORTED = {
  terminatingTLS: "not supported: the proxy does not open TLS",
  originatingTLS: "not supported: the proxy does not open TLS",
  listener: "not supported: it needs Envoy",
};

/** Reads Cilium's `toPorts`. */
export function readToPorts(reader: ManifestReader, node: ManifestNode, context: RulesContext): PortMatch[] {
  const matches: PortMatch[] = [];
  const items = reader.list(node, PORT_RULES_MAX) ?? [];
  for (const item of items) {
    const fields = reader.map(item, ["ports", "rules", "serverNames"], TO_PORTS_UNSUPPORTED);
    if (!fields) continue;
    const ports = fields.get("ports");
    const list = reader.list(ports, PORTS_MAX);
    if (ports && !list) continue;
    if (!list || list.length === 0) {
      // Upstream reads this as "every port" or as "no port", or refuses it, depending on what stands beside it.
      reader.unsupported(
        ports ?? item,
        "a toPorts item without ports",
        fields.has("rules") || fields.has("serverNames")
          ? "not possible beside rules: they need the ports that they are about"
          : "not supported: leave toPorts out for every port",
      );
      continue;
    }
    const read = list.map((node) => ({ node, matches: readCiliumPort(reader, node) }));
    const rules = readPortRules(reader, fields.get("rules"), fields.get("serverNames"), context);
    matches.push(...rules ? withRules(reader, read, rules) : read.flatMap(({ matches }) => matches));
  }
  // An empty toPorts list says nothing about ports.
  return node.kind === "list" && items.length === 0 ? [PORT_MATCH_ANY] : matches;
}

function readCiliumPort(reader: ManifestReader, node: ManifestNode): PortMatch[] {
  const fields = reader.map(node, ["port", "endPort", "protocol"]);
  if (!fields) return [];
  const protocols = readProtocols(reader, fields.get("protocol"));
  const portNode = fields.get("port");
  if (!portNode) {
    if (protocols) reader.invalid(node, "port is missing");
    return [];
  }
  const port = readPort(reader, portNode);
  const endNode = fields.get("endPort");
  const end = reader.integer(endNode, 0, PORT_MAX);
  if (port === undefined || !protocols || (endNode && end === undefined)) return [];
  if (typeof port === "string") {
    if (end) {
      reader.unsupported(endNode!, "endPort beside a port name", "not supported: a range needs a number");
    }
    return protocols.map((protocol) => ({ protocol, first: 0, last: 0, name: port }));
  }
  if (port === 0) {
    if (end) reader.unsupported(endNode!, "endPort beside port 0", "not supported: port 0 means every port");
    return protocols.map((protocol) => ({ protocol, first: 0, last: PORT_MAX, name: "" }));
  }
  return protocols.map((protocol) => ({ protocol, first: port, last: Math.max(port, end ?? 0), name: "" }));
}

function readProtocols(reader: ManifestReader, node: ManifestNode | undefined): number[] | undefined {
  if (!node) return ANY_PROTOCOLS;
  const text = reader.string(node, 32);
  if (text === undefined) return undefined;
  const name = text.toUpperCase();
  if (name === "ANY") return ANY_PROTOCOLS;
  if (name === "VRRP" || name === "IGMP") return reader.unsupported(node, `protocol ${name}`);
  if (name !== "TCP" && name !== "UDP" && name !== "SCTP") {
    return reader.invalid(node, `${JSON.stringify(text)}, want TCP, UDP, SCTP or ANY`);
  }
  return [PROTOCOL_NUMBERS[name]];
}

/** A number, or a name in lower case. */
function readPort(reader: ManifestReader, node: ManifestNode): number | string | undefined {
  if (node.kind === "number") return reader.integer(node, 0, PORT_MAX);
  const text = reader.string(node, 64);
  if (text === undefined) return undefined;
  if (/^[0-9]+$/.test(text) && Number(text) <= PORT_MAX) return Number(text);
  if (SERVICE_NAME.test(text)) return text.toLowerCase();
  return reader.invalid(
    node,
    `${
      describe(node)
    }, want a port from 0 to ${PORT_MAX} or a port name of 1 to 15 letters, digits and single hyphens`,
  );
}

/** Reads a port name, in lower case then. */
export function readPortName(reader: ManifestReader, node: ManifestNode): string | undefined {
  const text = reader.string(node, 64);
  if (text === undefined || SERVICE_NAME.test(text)) return text?.toLowerCase();
  return reader.invalid(
    node,
    `${describe(node)}, want a port name of 1 to 15 letters, digits and single hyphens`,
  );
}

/** Reads the ports of a Kubernetes NetworkPolicy rule; an empty list is every port. */
export function readKubernetesPorts(reader: ManifestReader, node: ManifestNode | undefined): PortMatch[] {
  const items = reader.list(node, PORT_RULES_MAX);
  if (!node || items?.length === 0) return [PORT_MATCH_ANY];
  return (items ?? []).flatMap((item) => readKubernetesPort(reader, item) ?? []);
}

function readKubernetesPort(reader: ManifestReader, node: ManifestNode): PortMatch | undefined {
  const fields = reader.map(node, ["port", "endPort", "protocol"]);
  if (!fields) return undefined;
  const protocolNode = fields.get("protocol");
  const protocolText = protocolNode ? reader.string(protocolNode, 32) : "TCP";
  if (protocolText === undefined) return undefined;
  if (!PORT_PROTOCOLS.includes(protocolText)) {
    return reader.invalid(protocolNode!, `${JSON.stringify(protocolText)}, want TCP, UDP or SCTP`);
  }
  const protocol = PROTOCOL_NUMBERS[protocolText];
  const portNode = fields.get("port");
  const endNode = fields.get("endPort");
  if (!portNode) {
    if (endNode) return reader.invalid(endNode, "endPort without port");
    return { protocol, first: 0, last: PORT_MAX, name: "" };
  }
  const isText = portNode.kind === "string";
  const port = isText ? readPort(reader, portNode) : reader.integer(portNode, 1, PORT_MAX);
  if (port === undefined) return undefined;
  if (typeof port === "number" && isText) {
    return reader.invalid(portNode, `${describe(portNode)}, want a number without quotes, or a port name`);
  }
  const end = reader.integer(endNode, 1, PORT_MAX);
  if (endNode && end === undefined) return undefined;
  if (typeof port === "string") {
    if (endNode) return reader.invalid(endNode, "endPort beside a port name, want a number for port");
    return { protocol, first: 0, last: 0, name: port };
  }
  if (end !== undefined && end < port) return reader.invalid(endNode!, `${end}, want at least port ${port}`);
  return { protocol, first: port, last: end ?? port, name: "" };
}

/** ICMP types by name. */
const ICMP_TYPES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  IPv4: {
    EchoReply: 0,
    DestinationUnreachable: 3,
    Redirect: 5,
    Echo: 8,
    EchoRequest: 8,
    RouterAdvertisement: 9,
    RouterSelection: 10,
    TimeExceeded: 11,
    ParameterProblem: 12,
    Timestamp: 13,
    TimestampReply: 14,
    Photuris: 40,
    ExtendedEchoRequest: 42,
    ExtendedEchoReply: 43,
  },
  IPv6: {
    DestinationUnreachable: 1,
    PacketTooBig: 2,
    TimeExceeded: 3,
    ParameterProblem: 4,
    EchoRequest: 128,
    EchoReply: 129,
    MulticastListenerQuery: 130,
    MulticastListenerReport: 131,
    MulticastListenerDone: 132,
    RouterSolicitation: 133,
    RouterAdvertisement: 134,
    NeighborSolicitation: 135,
    NeighborAdvertisement: 136,
    RedirectMessage: 137,
    RouterRenumbering: 138,
    ICMPNodeInformationQuery: 139,
    ICMPNodeInformationResponse: 140,
    InverseNeighborDiscoverySolicitation: 141,
    InverseNeighborDiscoveryAdvertisement: 142,
    HomeAgentAddressDiscoveryRequest: 144,
    HomeAgentAddressDiscoveryReply: 145,
    MobilePrefixSolicitation: 146,
    MobilePrefixAdvertisement: 147,
    DuplicateAddressRequestCodeSuffix: 157,
    DuplicateAddressConfirmationCodeSuffix: 158,
    ExtendedEchoRequest: 160,
    ExtendedEchoReply: 161,
  },
};

/** Reads Cilium's `icmps`: the type goes where other protocols have the port. */
export function readIcmps(reader: ManifestReader, node: ManifestNode): PortMatch[] {
  const matches: PortMatch[] = [];
  for (const item of reader.list(node, ICMP_FIELDS_MAX) ?? []) {
    const fields = reader.map(item, ["fields"]);
    for (const field of reader.list(fields?.get("fields"), ICMP_FIELDS_MAX) ?? []) {
      const match = readIcmpField(reader, field);
      if (match) matches.push(match);
    }
  }
  return matches;
}

function readIcmpField(reader: ManifestReader, node: ManifestNode): PortMatch | undefined {
  const fields = reader.map(node, ["family", "type"]);
  if (!fields) return undefined;
  const familyNode = fields.get("family");
  const family = familyNode ? reader.string(familyNode, 32) : "IPv4";
  const typeNode = fields.get("type");
  if (!typeNode) return reader.invalid(node, "type is missing");
  if (family === undefined) return undefined;
  if (!Object.hasOwn(ICMP_TYPES, family)) {
    return reader.invalid(familyNode!, `${JSON.stringify(family)}, want IPv4 or IPv6`);
  }
  const protocol = family === "IPv4" ? PROTOCOL_NUMBERS.ICMP : PROTOCOL_NUMBERS.ICMPV6;
  const text = typeNode.kind === "string" ? typeNode.scalar as string : undefined;
  let type: number | undefined;
  if (text !== undefined && !/^[0-9]+$/.test(text)) {
    type = Object.hasOwn(ICMP_TYPES[family], text) ? ICMP_TYPES[family][text] : undefined;
    if (type === undefined) {
      return reader.invalid(typeNode, `${JSON.stringify(text)} is no ICMP type of ${family}`);
    }
  } else if (text !== undefined) {
    type = Number(text);
    if (type > 255) return reader.invalid(typeNode, `${text}, want an ICMP type from 0 to 255`);
  } else {
    type = reader.integer(typeNode, 0, 255);
  }
  return type === undefined ? undefined : { protocol, first: type, last: type, name: "" };
}

/**
 * Reading of ports as the policies of administrators have them: `ports` (v1alpha1) and `protocols` (v1alpha2).
 * @module
 */
import { PORT_MAX, PROTOCOL_NUMBERS } from "@weir/common";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { readOneField } from "./one_field.ts";
import { PORT_MATCH_ANY, type PortMatch } from "./policy.ts";
import { PORT_PROTOCOLS, readPortName } from "./port_syntax.ts";

/** Reads the list; absent it is every port of every protocol. */
export function readTieredPorts(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  { itemsMax, portsField }: { readonly itemsMax: number; readonly portsField: "ports" | "protocols" },
): PortMatch[] {
  if (node === undefined) return [PORT_MATCH_ANY];
  const items = reader.list(node, itemsMax) ?? [];
  if (node.kind === "list" && items.length === 0) {
    reader.invalid(node, "an empty list, want at least one item, or none of the field for every port");
  }
  const read = portsField === "ports" ? readPortItem : readProtocolItem;
  return items.flatMap((item) => read(reader, item) ?? []);
}

/** `{portNumber: {protocol, port}}`, `{portRange: {protocol, start, end}}` or `{namedPort}`. */
function readPortItem(reader: ManifestReader, item: ManifestNode): PortMatch[] | undefined {
  const [key, node] = readOneField(reader, item, ["portNumber", "portRange", "namedPort"]) ?? [];
  if (node === undefined) return undefined;
  if (key === "namedPort") return readNamed(reader, node);
  const fields = reader.map(node, key === "portNumber" ? ["protocol", "port"] : ["protocol", "start", "end"]);
  if (!fields) return undefined;
  const protocol = readProtocol(reader, fields.get("protocol"));
  const ports = key === "portNumber"
    ? readNumber(reader, node, fields.get("port"), "port")
    : readRange(reader, node, fields);
  return protocol === undefined || !ports ? undefined : [{ protocol, ...ports, name: "" }];
}

function readProtocol(reader: ManifestReader, node: ManifestNode | undefined): number | undefined {
  const given = node ? reader.string(node, 32) : "";
  if (given === undefined) return undefined;
  const text = given || "TCP";
  return PORT_PROTOCOLS.includes(text)
    ? PROTOCOL_NUMBERS[text]
    : reader.invalid(node!, `${JSON.stringify(text)}, want TCP, UDP or SCTP`);
}

/** `{tcp: {destinationPort: {number}}}`, `udp`, `sctp`, `{destinationPort: {range: {start, end}}}` or `{destinationNamedPort}`. */
function readProtocolItem(reader: ManifestReader, item: ManifestNode): PortMatch[] | undefined {
  const [key, node] = readOneField(reader, item, ["tcp", "udp", "sctp", "destinationNamedPort"]) ?? [];
  if (node === undefined) return undefined;
  if (key === "destinationNamedPort") return readNamed(reader, node);
  const protocol = PROTOCOL_NUMBERS[key!.toUpperCase()];
  const port = readOneField(reader, node, ["destinationPort"])?.[1];
  const [form, value] = (port && readOneField(reader, port, ["number", "range"])) ?? [];
  if (value === undefined) return undefined;
  if (form === "number") {
    const ports = readNumber(reader, port!, value, "number");
    return ports && [{ protocol, ...ports, name: "" }];
  }
  const fields = reader.map(value, ["start", "end"]), ports = fields && readRange(reader, value, fields);
  return ports && [{ protocol, ...ports, name: "" }];
}

function readNamed(reader: ManifestReader, node: ManifestNode): PortMatch[] | undefined {
  const name = readPortName(reader, node);
  if (name === undefined) return undefined;
  return PORT_PROTOCOLS.map((protocol) => ({
    protocol: PROTOCOL_NUMBERS[protocol],
    first: 0,
    last: 0,
    name,
  }));
}

function readNumber(
  reader: ManifestReader,
  parent: ManifestNode,
  node: ManifestNode | undefined,
  field: string,
): { first: number; last: number } | undefined {
  if (node === undefined) return reader.invalid(parent, `${field} is missing`);
  const port = reader.integer(node, 1, PORT_MAX);
  return port === undefined ? undefined : { first: port, last: port };
}

function readRange(
  reader: ManifestReader,
  parent: ManifestNode,
  fields: ReadonlyMap<string, ManifestNode>,
): { first: number; last: number } | undefined {
  const first = readNumber(reader, parent, fields.get("start"), "start")?.first;
  const last = readNumber(reader, parent, fields.get("end"), "end")?.first;
  if (first === undefined || last === undefined) return undefined;
  return first < last
    ? { first, last }
    : reader.invalid(fields.get("end")!, `${last}, want more than start ${first}`);
}

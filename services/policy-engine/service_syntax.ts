/**
 * Reading of `toServices`: services by name or by their labels, whose pods and addresses are meant.
 * @module
 */
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { readSelector } from "./label_syntax.ts";
import { servicesOf } from "./peer_source.ts";
import { PEERS_MAX } from "./peer_syntax.ts";
import { type Peer, sourcePeer } from "./policy.ts";

/** The API server's own service: nodes stand behind it. */
const API_SERVER = { namespace: "default", name: "kubernetes" };
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Reads a list of `{k8sService: {serviceName, namespace}}` and `{k8sServiceSelector: {selector, namespace}}`. */
export function readServices(
  reader: ManifestReader,
  node: ManifestNode,
  warn: (path: string, detail: string) => void,
): Peer[] {
  return (reader.list(node, PEERS_MAX) ?? []).flatMap((item) => {
    const fields = reader.map(item, ["k8sService", "k8sServiceSelector"]);
    if (!fields) return [];
    const named = fields.get("k8sService"), labelled = fields.get("k8sServiceSelector");
    if ((named === undefined) === (labelled === undefined)) {
      return reader.invalid(item, "want exactly one of k8sService and k8sServiceSelector") ?? [];
    }
    const selector = named ? readNamed(reader, named, warn) : readLabelled(reader, labelled!);
    return selector ? [{ path: item.path, line: item.line, selector: sourcePeer("service", selector) }] : [];
  });
}

function readNamed(reader: ManifestReader, node: ManifestNode, warn: (path: string, detail: string) => void) {
  const fields = reader.map(node, ["serviceName", "namespace"]);
  if (!fields) return undefined;
  const nameNode = fields.get("serviceName");
  if (!nameNode) return reader.invalid(node, "serviceName is missing");
  const name = readName(reader, nameNode), namespace = readNamespace(reader, fields.get("namespace"));
  if (name === undefined || namespace === undefined) return undefined;
  if (name === API_SERVER.name && (namespace === "" || namespace === API_SERVER.namespace)) {
    warn(
      node.path,
      "nodes stand behind this service, whom no address means: say toEntities: [kube-apiserver]",
    );
  }
  return servicesOf(namespace || undefined, name);
}

function readLabelled(reader: ManifestReader, node: ManifestNode) {
  const fields = reader.map(node, ["selector", "namespace"]);
  if (!fields) return undefined;
  const selectorNode = fields.get("selector");
  if (!selectorNode) {
    return reader.invalid(node, "selector is missing, want a selector ({} for every service)");
  }
  const selector = readSelector(reader, selectorNode, { sources: false, defaultSource: "k8s" });
  const namespace = readNamespace(reader, fields.get("namespace"));
  return selector && namespace !== undefined
    ? servicesOf(namespace || undefined, undefined, selector)
    : undefined;
}

/** `""`, or none: every namespace, as Cilium has it. */
function readNamespace(reader: ManifestReader, node: ManifestNode | undefined): string | undefined {
  if (node === undefined || node.scalar === "") return "";
  return readName(reader, node);
}

function readName(reader: ManifestReader, node: ManifestNode): string | undefined {
  const name = reader.string(node, 63);
  return name === undefined || NAME.test(name)
    ? name
    : reader.invalid(node, `${JSON.stringify(name)} is no name, want lower case letters, digits and -`);
}

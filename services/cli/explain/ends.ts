/**
 * The two ends of a connection as people name them: a pod, an endpoint, an address, a node, an entity, labels, an identity, a
 * service by name or by one of its addresses, a DNS name.
 *
 * @module
 */
import { IpAddress } from "@weir/common/address";
import { reservedIdentityNumber } from "@weir/common/identity";
import { Prefix } from "@weir/common/prefix";
import type { NamedPort, Node } from "@weir/proto/identity";
import type { Service } from "@weir/proto/loadbalancer";
import { UsageError } from "../context.ts";
import { editDistance } from "../suggestion.ts";
import type { ClusterFacts, PlacedEndpoint } from "./cluster_facts.ts";

/** Who is meant. */
export interface End {
  /** As people know it: `shop/web-1`, `service shop/web`, `198.51.100.10`, `node-1`. */
  readonly title: string;
  /** How the policy engine is asked about it: one of the three. */
  readonly labels?: readonly string[];
  readonly identity?: number;
  readonly ip?: string;
  /** A DNS name outside, beside its address or without one. */
  readonly dnsName?: string;
  readonly namedPorts?: readonly NamedPort[];
  readonly endpoint?: PlacedEndpoint;
  /** Which of the endpoint's addresses is meant; undefined: its first. */
  readonly address?: string;
  /** Where it is, as far as it is known. */
  readonly node?: string;
  readonly service?: Service;
  /** The address of the service that was asked for; undefined: its first. */
  readonly serviceAddress?: string;
  /** It is a node itself: to others a remote node, to its own endpoints their host. */
  readonly isNode?: boolean;
  /** An address that nobody in the cluster has. */
  readonly isForeign?: boolean;
  /** It is of the range of a node's pods, and none of them has it. */
  readonly isGoneFrom?: { readonly node: string; readonly range: string };
}

/** What cannot be told from the facts alone. */
export interface EndQuestions {
  /** Whether an address means everybody in a network of a node. */
  isBroadcast(address: string): Promise<boolean>;
  /** Addresses of a DNS name; empty when it has none. */
  resolve(name: string): Promise<readonly string[]>;
}

/** @throws {UsageError} for a name that means nothing, or several things */
export async function endOf(
  name: string,
  namespace: string,
  facts: ClusterFacts,
  questions: EndQuestions,
): Promise<End> {
  if (IpAddress.tryParse(name)) return await endOfAddress(name, facts, questions);
  const numbered = /^identity:([0-9]+)$/.exec(name);
  if (numbered) return { title: name, identity: Number(numbered[1]) };
  if (name.includes("=")) return { title: name, labels: name.split(",").map((label) => label.trim()) };
  const [, kind, rest] = /^(service|svc|pod|endpoint|node|name)\/(.+)$/.exec(name) ?? [];
  if (kind === "service" || kind === "svc") {
    const service = findService(rest, namespace, facts);
    if (service !== undefined) return endOfService(service);
    throw notFound(rest, "service", facts.services.map((one) => one.name), "weir service list");
  }
  if (kind === "node") {
    const node = facts.nodes.find((one) => one.name === rest);
    if (node !== undefined) return endOfNode(node);
    throw notFound(rest, "node", facts.nodes.map((one) => one.name), "weir status");
  }
  if (kind === "name") return { title: rest, dnsName: rest };
  const asked = rest ?? name;
  const found = findEndpoint(asked, namespace, facts);
  if (found !== undefined) return found;
  if (kind !== undefined) throw notFound(asked, kind, endpointNames(facts), "weir endpoint list");
  const reserved = name === "world" ? reservedIdentityNumber("world-ipv4") : reservedIdentityNumber(name);
  if (reserved) return { title: name, identity: reserved };
  const node = facts.nodes.find((one) => one.name === name);
  if (node !== undefined) return endOfNode(node);
  const service = findService(name, namespace, facts);
  if (service !== undefined) return endOfService(service);
  if (name.includes(".")) {
    const [address] = await questions.resolve(name);
    if (address !== undefined) {
      const end = await endOfAddress(address, facts, questions);
      // What is of the cluster is meant by its labels, whatever its name.
      return { ...end, title: `${name} (${end.title})`, dnsName: end.isForeign ? name : undefined };
    }
  }
  throw notFound(name, undefined, endpointNames(facts), "weir endpoint list");
}

function endOfService(service: Service, serviceAddress?: string): End {
  const title = `service ${service.namespace}/${service.serviceName}`;
  return { title, service, serviceAddress, ip: serviceAddress };
}

function endOfNode(node: Node): End {
  return { title: node.name, ip: node.ipv4 || node.ipv6, node: node.name, isNode: true };
}

/** An address of an endpoint, a service or a node is that; every other is itself. */
async function endOfAddress(address: string, facts: ClusterFacts, questions: EndQuestions): Promise<End> {
  const text = IpAddress.parse(address).text;
  const placed = facts.endpoints.find(({ endpoint: { status } }) =>
    status?.ipv4 === text || status?.ipv6 === text
  );
  if (placed !== undefined) {
    const title = `${text} (${titleOf(placed)})`;
    // The engine knows announced addresses itself, and then what port names mean at this very endpoint.
    const isAnnounced = facts.ipcache.some(({ prefix }) => prefix.split("/")[0] === text);
    const end = { ...ofPlaced(placed), title, ip: text, address: text };
    return isAnnounced ? { ...end, identity: undefined, labels: undefined } : end;
  }
  const service = facts.services.find((one) =>
    one.ports.some((port) => port.frontends.some((frontend) => frontend.address === text))
  );
  if (service !== undefined) {
    return { ...endOfService(service, text), title: `${text} (service ${service.name})` };
  }
  const node = facts.nodes.find(({ ipv4, ipv6 }) => ipv4 === text || ipv6 === text);
  if (node !== undefined) return { ...endOfNode(node), title: `${text} (${node.name})`, ip: text };
  if (await questions.isBroadcast(text)) {
    return { title: text, identity: reservedIdentityNumber("broadcast") };
  }
  const entry = facts.ipcache.find(({ prefix }) => prefix === text || prefix.split("/")[0] === text);
  const isForeign = entry === undefined || entry.node === "";
  const isGoneFrom = isForeign ? podRangeOf(text, facts) : undefined;
  return { title: text, ip: text, node: entry?.node, namedPorts: entry?.namedPorts, isForeign, isGoneFrom };
}

/** The node among whose pods' addresses this one is, when its endpoints are known. */
function podRangeOf(address: string, { nodes, silent }: ClusterFacts): End["isGoneFrom"] {
  const one = IpAddress.parse(address);
  for (const { name, podCidrV4, podCidrV6, pools } of nodes) {
    if (silent.has(`endpoint-manager of ${name}`)) continue;
    const ranges = [podCidrV4, podCidrV6, ...pools.flatMap(({ cidrs }) => cidrs)];
    const range = ranges.find((range) => Prefix.tryParse(range)?.contains(one));
    if (range !== undefined) return { node: name, range };
  }
  return undefined;
}

/** `NAME`, `NAMESPACE/NAME`, and as DNS has it `NAME.NAMESPACE.svc[.cluster.local]`. */
function findService(name: string, namespace: string, { services }: ClusterFacts): Service | undefined {
  const dns = /^([^./]+)\.([^./]+)\.svc(\.cluster\.local)?\.?$/.exec(name);
  const whole = dns ? `${dns[2]}/${dns[1]}` : name.includes("/") ? name : `${namespace}/${name}`;
  const exact = services.find((one) => one.name === whole && one.type !== "HostPort");
  if (exact !== undefined || dns || name.includes("/")) return exact;
  const elsewhere = services.filter((one) => one.serviceName === name && one.type !== "HostPort");
  if (elsewhere.length > 1) {
    throw new UsageError(`"${name}" may be ${elsewhere.map((one) => one.name).join(" or ")}: say which`);
  }
  return elsewhere[0];
}

/** By the name of the endpoint or of its pod; those that are not ready yet too. */
function findEndpoint(name: string, namespace: string, facts: ClusterFacts): End | undefined {
  const placed = oneOf(
    facts.endpoints.map((one) => ({ ...one.endpoint, podName: one.endpoint.podName, one })),
    name,
    namespace,
    ({ name }) => name,
  );
  if (placed !== undefined) return ofPlaced(placed.one);
  // A node that does not answer: what the cluster knows of its endpoints.
  const entry = oneOf(facts.ipcache, name, namespace, ({ endpoint }) => endpoint);
  if (entry === undefined) return undefined;
  const title = entry.podName === "" ? entry.endpoint : `${entry.namespace}/${entry.podName}`;
  return { title, identity: entry.identity, namedPorts: entry.namedPorts, node: entry.node };
}

function oneOf<T extends { namespace: string; podName: string }>(
  items: readonly T[],
  name: string,
  namespace: string,
  own: (item: T) => string,
): T | undefined {
  const exact =
    items.find((item) =>
      own(item) === name || (item.podName !== "" && `${item.namespace}/${item.podName}` === name)
    ) ?? items.find((item) => item.podName === name && item.namespace === namespace);
  if (exact !== undefined) return exact;
  const anywhere = items.filter((item) => item.podName === name);
  const places = new Set(anywhere.map((item) => `${item.namespace}/${item.podName}`));
  if (places.size > 1) throw new UsageError(`"${name}" may be ${[...places].join(" or ")}: say which`);
  return anywhere[0];
}

/** An endpoint as an end. */
export function ofPlaced(placed: PlacedEndpoint): End {
  const { endpoint, node } = placed;
  const { identity } = endpoint.status ?? { identity: 0 };
  const who = identity === 0 ? { labels: endpoint.labels } : { identity };
  return { title: titleOf(placed), ...who, namedPorts: endpoint.namedPorts, endpoint: placed, node };
}

function titleOf({ endpoint }: PlacedEndpoint): string {
  return endpoint.podName === "" ? endpoint.name : `${endpoint.namespace}/${endpoint.podName}`;
}

function endpointNames(facts: ClusterFacts): string[] {
  return facts.endpoints.map(titleOf);
}

function notFound(
  name: string,
  kind: string | undefined,
  known: readonly string[],
  hint: string,
): UsageError {
  const last = name.split("/").at(-1)!;
  const words = kind === undefined ? [...known, "world", "host", "multicast", "broadcast"] : known;
  // One letter more, less, other, or two swapped; or the same name in another place.
  const near = words.filter((one) => editDistance(one.split("/").at(-1)!, last) <= 1);
  const perhaps = near.length === 0 ? "" : `; did you mean ${near.slice(0, 3).join(" or ")}?`;
  return new UsageError(
    kind === undefined
      ? `Cannot find "${name}": it is no pod, endpoint, service, node, address, name that has one, reserved name (world, host), identity:N or list of labels${perhaps}`
      : `Cannot find ${kind} "${name}"${perhaps}`,
    hint,
  );
}

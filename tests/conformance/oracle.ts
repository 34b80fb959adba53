/**
 * The slow, obvious evaluator: manifests as plain values, one connection at a time, no caches, no selectors shared with
 * the engine. Whatever the engine says fast must be what this says slowly.
 * @module
 */

import {
  inCidr,
  type Manifest,
  matchesSelector,
  meansName,
  type OracleEnd,
  type OracleQuery,
} from "./oracle_matching.ts";
import { isTieredManifest, tierDecides } from "./tiered_oracle.ts";

export type { Manifest, OracleEnd, OracleQuery } from "./oracle_matching.ts";

const NAMESPACE = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels.";
const CLUSTER = "io.cilium.k8s.policy.cluster";

/** True when the connection is allowed at the subject. */
export function oracleAllows(manifests: readonly Manifest[], asked: OracleQuery): boolean {
  const tiered = manifests.filter(isTieredManifest);
  return tierDecides(tiered, "Admin", asked) ??
    ordinaryAllows(manifests.filter((one) => !tiered.includes(one)), asked) ??
    tierDecides(tiered, "Baseline", asked) ?? true;
}

/** What the policies between the tiers say; undefined when none of them is about the subject in this direction. */
function ordinaryAllows(manifests: readonly Manifest[], asked: OracleQuery): boolean | undefined {
  let closed = false, open = false, allowed = false;
  const groups = manifests.filter(({ kind }) => kind === "CiliumCIDRGroup");
  const services = manifests.filter(({ kind }) => kind === "ServicePeers");
  const query = { ...asked, groups, services };
  for (const manifest of manifests.filter((one) => !groups.includes(one) && !services.includes(one))) {
    for (const rule of rulesOf(manifest)) {
      if (!selects(manifest, rule, query.subject)) continue;
      const effect = effectOf(manifest, rule, query);
      if (effect === undefined) continue;
      if (effect.denied) return false; // a deny anywhere beats everything
      if (effect.allowed) allowed = true;
      if (effect.defaultDeny) closed = true;
      else open = true;
    }
  }
  if (allowed) return true;
  return closed ? false : open ? true : undefined;
}

function rulesOf(manifest: Manifest): Manifest[] {
  return [...manifest.spec ? [manifest.spec] : [], ...manifest.specs ?? []];
}

function selects(manifest: Manifest, rule: Manifest, subject: OracleEnd): boolean {
  if (subject.outside !== undefined) return false;
  const namespace = manifest.metadata.namespace ?? "default";
  if (
    manifest.kind !== "CiliumClusterwideNetworkPolicy" && subject.labels[`k8s:${NAMESPACE}`] !== namespace
  ) return false;
  const selector = rule.endpointSelector ?? rule.podSelector ?? {};
  if (manifest.kind !== "CiliumNetworkPolicy") return matchesSelector(selector, subject.labels);
  // The policy's own namespace stands, whatever the selector says about it.
  const { [`k8s:${NAMESPACE}`]: _, ...matchLabels } = selector.matchLabels ?? {};
  return matchesSelector({ ...selector, matchLabels }, subject.labels);
}

interface Effect {
  readonly allowed: boolean;
  readonly denied: boolean;
  readonly defaultDeny: boolean;
}

function effectOf(manifest: Manifest, rule: Manifest, query: OracleQuery): Effect | undefined {
  const { direction } = query;
  if (manifest.kind === "NetworkPolicy") {
    const types: string[] = rule.policyTypes ?? ["Ingress", ...rule.egress?.length > 0 ? ["Egress"] : []];
    if (!types.some((type) => type.toLowerCase() === direction)) return undefined;
    const sections: Manifest[] = rule[direction] ?? [];
    const allowed = sections.some((section) => kubernetesSection(manifest, section, query));
    return { allowed, denied: false, defaultDeny: true };
  }
  const allows: Manifest[] = rule[direction] ?? [], denies: Manifest[] = rule[`${direction}Deny`] ?? [];
  if (allows.length + denies.length === 0) return undefined;
  return {
    // What leaves the rest open filters no request either.
    allowed: allows.some((section) =>
      ciliumSection(
        manifest,
        section,
        rule.enableDefaultDeny?.[direction] === false ? { ...query, request: undefined } : query,
      )
    ),
    denied: denies.some((section) => ciliumSection(manifest, section, query)),
    defaultDeny: rule.enableDefaultDeny?.[direction] ?? true,
  };
}

function kubernetesSection(manifest: Manifest, section: Manifest, query: OracleQuery): boolean {
  const peers: Manifest[] = section[query.direction === "ingress" ? "from" : "to"] ?? [];
  const namespace = manifest.metadata.namespace ?? "default";
  const peer = peers.length === 0 || peers.some((peer) => {
    if (peer.ipBlock) return inBlock(peer.ipBlock, query.remote);
    const labels = query.remote.labels;
    if (query.remote.outside !== undefined || labels[`k8s:${NAMESPACE}`] === undefined) return false;
    if (labels[`k8s:${CLUSTER}`] !== "default") return false;
    if (!matchesSelector(peer.podSelector ?? {}, labels)) return false;
    if (!peer.namespaceSelector) return labels[`k8s:${NAMESPACE}`] === namespace;
    const ofNamespace = Object.entries(labels).filter(([key]) => key.startsWith(`k8s:${NAMESPACE_LABELS}`));
    return matchesSelector(
      peer.namespaceSelector,
      Object.fromEntries(
        ofNamespace.map(([key, value]) => [`k8s:${key.slice(4 + NAMESPACE_LABELS.length)}`, value]),
      ),
    );
  });
  const ports: Manifest[] = section.ports ?? [];
  return peer &&
    (ports.length === 0 || ports.some((port) => matchesPort({ protocol: "TCP", ...port }, query, false)));
}

function ciliumSection(manifest: Manifest, section: Manifest, query: OracleQuery): boolean {
  const word = query.direction === "ingress" ? "from" : "to";
  const endpoints: Manifest[] | undefined = section[`${word}Endpoints`];
  const entities: string[] | undefined = section[`${word}Entities`];
  const cidrs: string[] | undefined = section[`${word}CIDR`];
  const sets: Manifest[] | undefined = section[`${word}CIDRSet`];
  const fqdns: Manifest[] | undefined = query.direction === "egress" ? section.toFQDNs : undefined;
  const services: Manifest[] | undefined = query.direction === "egress" ? section.toServices : undefined;
  const hasPeers = services !== undefined || endpoints !== undefined || entities !== undefined ||
    cidrs !== undefined ||
    sets !== undefined || fqdns !== undefined;
  const hasPorts = section.toPorts !== undefined || section.icmps !== undefined;
  if (!hasPeers && !hasPorts) return false;
  const { remote } = query;
  const peer = !hasPeers ||
    endpoints?.some((selector) => meansEndpoint(manifest, selector, remote)) ||
    entities?.some((entity) => meansEntity(entity, remote)) ||
    cidrs?.some((cidr) => inBlock({ cidr }, remote)) ||
    sets?.some((set) => inSet(set, query)) ||
    services?.some((service) => meansService(service, query)) ||
    fqdns?.some((fqdn) => remote.names?.some((name) => meansName(fqdn, name)));
  if (!peer) return false;
  if (section.icmps) {
    return query.protocol === "ICMP" &&
      section.icmps.some((icmp: Manifest) =>
        icmp.fields.some((field: Manifest) => field.type === query.port)
      );
  }
  if (!section.toPorts) return true;
  return section.toPorts.some((item: Manifest) =>
    item.ports.some((port: Manifest) =>
      matchesPort({ ...port, port: /^[0-9]+$/.test(port.port) ? Number(port.port) : port.port }, query, true)
    ) && passesRules(item.rules?.http ?? [], query.request)
  );
}

/** An empty list is no rule. The expressions of the tests mean the same to JavaScript. */
function passesRules(rules: Manifest[], request: OracleQuery["request"]): boolean {
  if (request === undefined || rules.length === 0) return true;
  const is = (pattern: string | undefined, text: string) =>
    pattern === undefined || new RegExp(`^(?:${pattern})$`).test(text);
  return rules.some(({ method, path }) => is(method, request.method) && is(path, request.path));
}

function meansEndpoint(manifest: Manifest, selector: Manifest, remote: OracleEnd): boolean {
  if (remote.outside !== undefined) return false;
  const text = JSON.stringify(selector);
  if (!text.includes(NAMESPACE) && !text.includes(NAMESPACE_LABELS)) {
    const namespace = remote.labels[`k8s:${NAMESPACE}`];
    if (manifest.kind === "CiliumClusterwideNetworkPolicy" ? namespace === undefined : false) return false;
    if (manifest.kind === "CiliumNetworkPolicy" && namespace !== (manifest.metadata.namespace ?? "default")) {
      return false;
    }
  }
  if (!text.includes(CLUSTER) && remote.labels[`k8s:${CLUSTER}`] !== "default") return false;
  return matchesSelector(selector, remote.labels);
}

function meansEntity(entity: string, remote: OracleEnd): boolean {
  if (entity === "all") return true;
  if (entity === "world") return remote.outside !== undefined;
  if (entity === "cluster") {
    return remote.labels[`k8s:${CLUSTER}`] === "default" || "reserved:host" in remote.labels;
  }
  return `reserved:${entity}` in remote.labels;
}

function matchesPort(port: Manifest, query: OracleQuery, clusterNames: boolean): boolean {
  const protocol = port.protocol ?? "ANY";
  if (query.protocol === "ICMP" || (protocol !== "ANY" && protocol !== query.protocol)) return false;
  if (port.port === undefined || port.port === 0) return true;
  if (typeof port.port === "number") {
    return query.port >= port.port && query.port <= (port.endPort ?? port.port);
  }
  const numbers = (end: OracleEnd) =>
    end.namedPorts.filter((named) => named.name === port.port && named.protocol === query.protocol).map((n) =>
      n.port
    );
  if (query.direction === "ingress") return numbers(query.subject).includes(query.port);
  const own = numbers(query.remote);
  if (own.length > 0) return own.includes(query.port);
  const all = new Set(query.everyone.flatMap(numbers));
  return clusterNames && all.size === 1 && all.has(query.port);
}

function inBlock(block: { cidr: string; except?: string[] }, remote: OracleEnd): boolean {
  if (remote.outside === undefined) return false;
  return inCidr(block.cidr, remote.outside) &&
    !block.except?.some((except) => inCidr(except, remote.outside!));
}

/** A prefix, or all prefixes of the groups that are meant, without the exceptions. */
function inSet({ cidrGroupRef, cidrGroupSelector, ...block }: Manifest, query: OracleQuery): boolean {
  if (cidrGroupRef === undefined && cidrGroupSelector === undefined) {
    return inBlock(block as never, query.remote);
  }
  return query.groups!.filter(({ metadata }) =>
    cidrGroupRef === undefined
      ? matchesSelector(cidrGroupSelector, metadata.labels ?? {})
      : metadata.name === cidrGroupRef
  ).some(({ spec }) =>
    spec.externalCIDRs.some((cidr: string) => inBlock({ cidr, except: block.except }, query.remote))
  );
}

/** Pods that the selector of a service selects in its namespace, or its addresses where it has none. */
function meansService(
  { k8sService, k8sServiceSelector }: Manifest,
  { services, remote }: OracleQuery,
): boolean {
  const { namespace = "" } = k8sService ?? k8sServiceSelector;
  return services!.filter(({ metadata }) =>
    (namespace === "" || metadata.namespace === namespace) &&
    (k8sService
      ? metadata.name === k8sService.serviceName
      : matchesSelector(k8sServiceSelector.selector, metadata.labels))
  ).some(({ metadata, spec }) => {
    if (Object.keys(spec.selector).length === 0) return spec.addresses.includes(remote.outside);
    const { labels } = remote;
    return remote.outside === undefined && labels[`k8s:${NAMESPACE}`] === metadata.namespace &&
      labels[`k8s:${CLUSTER}`] === "default" && matchesSelector({ matchLabels: spec.selector }, labels);
  });
}

/**
 * What a cluster cannot do without, and what rules do to it: names (DNS), the API server, and addresses that a CIDR rule seems to mean.
 * @module
 */
import { LabelSet, type Prefix, PROTOCOL_NUMBERS } from "@weir/common";
import type { Inventory } from "../offline/inventory.ts";
import type { PeerSelector, PortMatch } from "../policy.ts";
import { allowsDns } from "../policy_selection.ts";
import { type Finding, finding } from "./finding.ts";
import type { PlacedSection } from "./placed_section.ts";
import { selectorWithin } from "./within.ts";
import { isReserved, type Who } from "./who.ts";

const PORT_DNS = 53;
/** Where API servers listen, when nothing says it. */
const PORTS_API = [443, 6443];
/** Names and labels that DNS servers of clusters go by. */
const DNS_NAMES = /^(kube-dns|core-?dns|rke2-coredns.*|dns-default|node-local-dns)$/;
const API_LABELS = LabelSet.parse(["reserved:kube-apiserver", "reserved:remote-node"]);

/** Peers that stand for DNS and for the API server here. */
export class Essentials {
  readonly #dns: readonly LabelSet[];
  readonly #api: Inventory["cluster"]["apiServer"];

  constructor({ workloads, cluster }: Inventory, clusterName: string) {
    const found = workloads.filter(({ name, labels, declared }) =>
      DNS_NAMES.test(name) || declared.some(({ port, protocol }) =>
        port === PORT_DNS && protocol === "UDP"
      ) || labels.withKey("k8s-app").some(({ value }) => DNS_NAMES.test(value))
    ).map(({ labels }) => labels);
    this.#dns = found.length > 0 ? found : [LabelSet.parse([
      "k8s:k8s-app=kube-dns",
      "k8s:io.kubernetes.pod.namespace=kube-system",
      "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=kube-system",
      `k8s:io.cilium.k8s.policy.cluster=${clusterName}`,
    ])];
    this.#api = cluster.apiServer;
  }

  /** What a deny takes away. */
  denied({ policy, rule, direction, section }: PlacedSection): Finding[] {
    if (!section.deny) return [];
    const place = { policy, line: section.line, path: section.path }, found: Finding[] = [];
    const hasDns = hits(section.ports, "UDP", [PORT_DNS]) || hits(section.ports, "TCP", [PORT_DNS]);
    const hitsDns = hasDns &&
      (direction === "EGRESS"
        ? section.peers.some(({ selector }) => this.#dns.some((labels) => means(selector, labels)))
        : section.peers.length > 0 && this.#dns.some((labels) => rule.subject.matches(labels)));
    if (hitsDns) {
      found.push(finding({
        ...place,
        id: "denies-dns",
        says: direction === "EGRESS"
          ? "it denies connections to the cluster's DNS on port 53"
          : "it selects the cluster's DNS and denies connections to its port 53",
        action: rule.tier === undefined
          ? "Leave DNS out of the deny (other peers or ports): no allow can open it again"
          : "Leave DNS out of the deny (other peers or ports), or accept it in a rule above",
      }));
    }
    const { prefixes, ports } = this.#api;
    const hitsApi = direction === "EGRESS" &&
      hits(section.ports, "TCP", ports.length > 0 ? ports : PORTS_API) &&
      section.peers.some(({ selector }) =>
        means(selector, API_LABELS) ||
        selector.type === "cidr" && prefixes.some((one) => contains(selector, one))
      );
    if (hitsApi) {
      found.push(finding({
        ...place,
        id: "denies-api-server",
        says: "it denies connections to the API server",
        action: "Leave the API server out of the deny, unless these pods must never reach it",
      }));
    }
    return found;
  }

  /** Rules that close egress of somebody for whom no policy allows DNS. */
  closedDns(sections: readonly PlacedSection[], who: Who): Finding[] {
    const opening = sections.filter(({ direction, section }) =>
        direction === "EGRESS" && allowsDns([section]) &&
        section.peers.some(({ selector }) => this.#mayBeDns(selector))
      ),
      found: Finding[] = [],
      seen = new Set<PlacedSection["rule"]>();
    for (const { policy, rule, direction, section } of sections) {
      // What allows nothing at all is meant to.
      if (direction !== "EGRESS" || section.deny || section.peers.length === 0 || seen.has(rule)) continue;
      const { defaultDeny, path, line } = rule.directions.EGRESS;
      if (!defaultDeny) continue;
      seen.add(rule);
      const selected = who.selectedBy(rule.subject);
      const isOpen = selected.length > 0
        ? selected.every(({ labels }) => opening.some((one) => one.rule.subject.matches(labels)))
        : opening.some((one) => selectorWithin(rule.subject, one.rule.subject));
      if (isOpen) continue;
      found.push(finding({
        id: "closes-dns",
        policy,
        line,
        path,
        says: "it closes egress, and nothing allows 53/UDP: names cannot be resolved",
        action: "Allow 53/UDP and 53/TCP to the cluster's DNS, unless these pods need no names",
      }));
    }
    return found;
  }

  /** Resolvers outside, and those of nodes, are as good as the cluster's. */
  #mayBeDns(selector: PeerSelector): boolean {
    return selector.type !== "labels" || isReserved(selector.selector) ||
      this.#dns.some((labels) => means(selector, labels));
  }
}

/** CIDR rules whose prefix covers addresses of the cluster: they are about addresses outside alone. */
export function coveredAddresses({ policy, section }: PlacedSection, { cluster }: Inventory): Finding[] {
  return section.peers.flatMap(({ selector, path, line }) => {
    // Everything is the world, and everybody knows.
    if (selector.type !== "cidr" || selector.prefix.length === 0) return [];
    const hit = cluster.addresses.filter(({ prefix }) =>
      contains(selector, prefix) || prefix.contains(selector.prefix)
    );
    if (hit.length === 0) return [];
    const [{ what, prefix, kind }] = hit, more = hit.length > 1 ? ` and ${hit.length - 1} more` : "";
    const effect = section.deny ? "deny" : "allow";
    return [finding({
      id: "cidr-cluster",
      policy,
      line,
      path,
      says: `${selector.prefix} covers ${what} (${prefix})${more}, and a CIDR rule does not ${effect} ${
        kind === "service" ? "services: policies see the pod behind one" : "pods and nodes"
      }`,
      action: kind === "service"
        ? "Select the service's pods by their labels, or name the service by toServices"
        : "Select them by labels or entities; only agents with --policy-cidr-match count pods for CIDR rules",
    })];
  });
}

function contains({ prefix, except }: Extract<PeerSelector, { type: "cidr" }>, inner: Prefix): boolean {
  return prefix.contains(inner) && !except.some((one) => one.contains(inner));
}

function means(selector: PeerSelector, labels: LabelSet): boolean {
  return selector.type === "any" || selector.type === "labels" && selector.selector.matches(labels);
}

function hits(ports: readonly PortMatch[], protocol: "TCP" | "UDP", numbers: readonly number[]): boolean {
  return ports.some((port) =>
    port.protocol === 0 || port.protocol === PROTOCOL_NUMBERS[protocol] && port.name === "" &&
      numbers.some((number) => port.first <= number && number <= port.last)
  );
}

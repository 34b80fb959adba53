/**
 * Selectors of a policy that mean nobody in the inventory, and ports and port names that those whom they mean do not have.
 * @module
 */
import { protocolName } from "@weir/common";
import type { Inventory, Workload } from "../offline/inventory.ts";
import type { ServiceOfPods } from "../offline/cluster_facts.ts";
import { formatPeerSelector, type Policy, type PortMatch } from "../policy.ts";
import { type Finding, finding } from "./finding.ts";
import type { PlacedSection } from "./placed_section.ts";
import { isReserved, selectorWords, type Who } from "./who.ts";

/** Subjects that nobody is. */
export function unselected(policies: readonly Policy[], who: Who): Finding[] {
  if (!who.isKnown) return [];
  return policies.flatMap((policy) =>
    policy.rules.flatMap(({ subject, path, line }) => {
      if (isReserved(subject) || who.selectedBy(subject).length > 0) return [];
      return [finding({
        id: "selects-nobody",
        policy,
        line,
        path,
        says: `no pod has ${selectorWords(subject)}`,
        action: `Look at the selector: ${who.hint(subject)}`,
      })];
    })
  );
}

/** Peers that nobody is. */
export function meantNobody(
  { policy, section }: PlacedSection,
  who: Who,
  policies: readonly Policy[],
): Finding[] {
  return section.peers.flatMap(({ selector, path, line }) => {
    if (selector.type === "source") {
      const { kind, selector: wanted } = selector;
      if (policies.some(({ source }) => source?.kind === kind && wanted.matches(source.labels))) return [];
      return [finding({
        id: "object-missing",
        policy,
        line,
        path,
        says: `${
          formatPeerSelector({ ...selector, except: [] })
        }: nothing of that name or label is among the files`,
        action: "Add its manifest, or correct the name: until it is there nobody is meant",
      })];
    }
    if (selector.type !== "labels" || !who.isKnown || isReserved(selector.selector)) return [];
    if (who.selectedBy(selector.selector).length > 0) return [];
    const isElsewhere = who.isElsewhere(selector.selector);
    return [finding({
      id: isElsewhere ? "peer-elsewhere" : "peer-nobody",
      policy,
      line,
      path,
      says: `no pod has ${selectorWords(selector.selector)}`,
      action: isElsewhere
        ? "Check the namespace's name, or add its pods to the files"
        : `Look at the selector: ${who.hint(selector.selector)}`,
    })];
  });
}

/** Ports that none of those at whom the connections arrive has. */
export function unservedPorts(placed: PlacedSection, who: Who, { cluster, workloads }: Inventory): Finding[] {
  const { policy, rule, direction, section } = placed, found = new Map<string, Finding>();
  const targets = direction === "INGRESS"
    ? who.selectedBy(rule.subject)
    : section.peers.flatMap(({ selector }) =>
      selector.type === "labels" ? who.selectedBy(selector.selector) : []
    );
  const isPods = direction === "INGRESS" ||
    section.peers.every(({ selector }) => selector.type === "labels" && !isReserved(selector.selector));
  const place = { policy, line: section.line, path: section.path };
  for (const port of section.ports) {
    if (port.protocol === 0 || found.has(port.name || `${port.first}`)) continue;
    const shown = `${port.name || (port.first === port.last ? port.first : `${port.first}-${port.last}`)}/${
      protocolName(port.protocol)
    }`;
    if (port.name !== "") {
      const among = targets.length > 0 ? targets : direction === "EGRESS" ? workloads : [];
      if (among.length === 0 || among.some((workload) => declares(workload, port))) continue;
      // Protocols that a name was not written with are tried too.
      if (
        section.ports.some((other) => other.name === port.name && among.some((one) => declares(one, other)))
      ) {
        continue;
      }
      found.set(
        port.name,
        finding({
          ...place,
          id: "port-name-unknown",
          says: `no container of ${namesOf(among)} declares a port named ${port.name}`,
          action: `Declare it (ports: [{ name: ${port.name}, containerPort: ... }]), or write the number`,
        }),
      );
      continue;
    }
    // A deny of what nobody has does no harm.
    if (section.deny || !isPods || targets.length === 0 || port.first === 0 || !isPortProtocol(port)) {
      continue;
    }
    // Who declares nothing may listen anywhere.
    if (targets.some(({ declared }) => declared.length === 0)) continue;
    if (targets.some((workload) => declares(workload, port))) continue;
    const siblings = section.ports.filter(({ first, last, name }) =>
      name === "" && first === port.first && last === port.last
    );
    if (siblings.some((other) => targets.some((workload) => declares(workload, other)))) continue;
    found.set(
      `${port.first}`,
      finding({
        ...place,
        id: "port-unserved",
        says: `no container of ${namesOf(targets)} declares port ${shown}${
          servicePortOf(port, targets, cluster.services)
        }`,
        action: `They declare ${
          [
            ...new Set(
              targets.flatMap(({ declared }) => declared.map((one) => `${one.port}/${one.protocol}`)),
            ),
          ]
            .slice(0, 8).join(", ")
        }: policies are about the port of the pod, not of the service`,
      }),
    );
  }
  return [...found.values()];
}

/** Of ICMP the numbers are types. */
function isPortProtocol({ protocol }: PortMatch): boolean {
  return ["TCP", "UDP", "SCTP"].includes(protocolName(protocol));
}

function declares({ declared, ports }: Workload, { name, first, last, protocol }: PortMatch): boolean {
  const isProtocol = (one: { protocol: string }) => one.protocol === protocolName(protocol);
  return name === ""
    ? declared.some((one) => isProtocol(one) && first <= one.port && one.port <= last)
    : ports.some((one) => isProtocol(one) && one.name.toLowerCase() === name);
}

function namesOf(workloads: readonly Workload[]): string {
  const names = [...new Set(workloads.map(({ namespace, name }) => `${namespace}/${name}`))];
  return names.length <= 3
    ? names.join(", ")
    : `${names.slice(0, 2).join(", ")} and ${names.length - 2} more`;
}

/** What a service makes of the port, where people took its port for the pods'. */
function servicePortOf(
  { first, last, protocol }: PortMatch,
  targets: readonly Workload[],
  services: readonly ServiceOfPods[],
): string {
  for (const { namespace, name, selector, ports } of services) {
    const port = ports.find((one) =>
      one.port >= first && one.port <= last && one.protocol === protocolName(protocol) &&
      one.target !== one.port
    );
    if (port === undefined) continue;
    const isMeant = targets.some((target) =>
      target.namespace === namespace &&
      Object.entries(selector).every(([key, value]) =>
        target.labels.withKey(key).some((label) => label.value === value)
      )
    );
    if (isMeant) {
      return `; ${port.port} is the port of service ${namespace}/${name}, whose pods have ${port.target}`;
    }
  }
  return "";
}

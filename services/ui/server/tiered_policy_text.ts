/** What rules of administrators' policies say, for the drawing of them. Pure; it judges nothing. @module */
import { asList, type Fields, selectorText } from "./selector_text.ts";

/** Whom a policy is for: `subject`, or who a peer is. */
export function podsText(peer: unknown): string[] {
  const { namespaces, pods, nodes, networks, domainNames } = (peer ?? {}) as Fields;
  if (nodes !== undefined) return [`node ${selectorText(nodes, "every node")}`];
  if (networks !== undefined || domainNames !== undefined) {
    return [...asList(networks), ...asList(domainNames)].map((one) => `${one}`);
  }
  const { podSelector, ...of } = (pods ?? {}) as Fields;
  const written = (namespaces ?? of.namespaces ?? of.namespaceSelector ?? {}) as Fields;
  const where = selectorText(written.namespaceSelector ?? written, "every namespace");
  return [`${selectorText(podSelector, "every pod")} in ${where}`];
}

/** One rule: who, which ports, and what becomes of it. */
export function tieredRule(
  { action, from, to, ports, protocols }: Fields,
): { deny: boolean; peers: string[]; ports: string[] } {
  const peers = [...asList(from), ...asList(to)].flatMap(podsText);
  return {
    deny: action === "Deny",
    // A drawing knows two colours: what is left to the next tier is said.
    peers: action === "Pass" ? peers.map((peer) => `${peer}: the next tier decides`) : peers,
    ports: [...asList(ports), ...asList(protocols)].flatMap(portTexts),
  };
}

function portTexts(item: unknown): string[] {
  const { portNumber, portRange, namedPort, destinationNamedPort, ...protocols } = (item ?? {}) as Fields;
  const name = namedPort ?? destinationNamedPort;
  if (name !== undefined) return [`${name}`];
  const { protocol = "TCP", port, start, end } = (portNumber ?? portRange ?? {}) as Fields;
  if (portNumber !== undefined || portRange !== undefined) {
    return [`${port ?? `${start}-${end}`}/${protocol}`];
  }
  return Object.entries(protocols).map(([of, fields]) => {
    const { number, range } = ((fields as Fields)?.destinationPort ?? {}) as Fields;
    const { start, end } = (range ?? {}) as Fields;
    return `${number ?? `${start}-${end}`}/${of.toUpperCase()}`;
  });
}

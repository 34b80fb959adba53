/**
 * Whom a policy selects in the cluster as it is now, and what of it means nobody: a selector without endpoints, a CIDR group or a
 * service that is not there, a port name that no endpoint has, a prefix that covers nodes, or pods whose nodes do not count them for CIDR rules, egress that closes DNS, names whose addresses
 * nobody learns (`name_learning.ts`) or that meet rules of another protocol (`meeting_protocols.ts`). Nothing of it is refused: the endpoints may come later.
 * @module
 */
import {
  hostLabels,
  IDENTITY_WORLD_IPV4,
  type LabelSet,
  Prefix,
  PrefixTrie,
  protocolName,
  type Selector,
} from "@weir/common";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { PolicySelection, Warning } from "@weir/proto/policy";
import { requirementWords } from "./explain_words.ts";
import { meetingProtocols } from "./meeting_protocols.ts";
import { NameLearning } from "./name_learning.ts";
import type { PeerSource } from "./peer_source.ts";
import {
  type Direction,
  DIRECTIONS,
  formatPeerSelector,
  labelPeer,
  type PeerIdentity,
  type Policy,
  type PolicyRule,
  type PortMatch,
  type RuleSection,
  ruleSelects,
  type SourceSelector,
} from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";

const TCP = 6, UDP = 17, PORT_DNS = 53, PORT_SSH = 22;
/** Without these a node is hard to reach, or to use. */
const NEEDED_OF_HOSTS = [
  {
    direction: "INGRESS",
    protocol: TCP,
    port: PORT_SSH,
    detail: "nothing allows 22/TCP to these nodes: new SSH connections are refused, open ones go on",
  },
  {
    direction: "EGRESS",
    protocol: UDP,
    port: PORT_DNS,
    detail: "nothing allows these nodes 53/UDP: they cannot resolve names",
  },
] as const;
/** Subjects whose other policies are looked at for DNS. */
const SUBJECTS_LOOKED_AT = 16;

/** The cluster as the directory shows it. */
export interface ClusterView {
  readonly endpoints: Iterable<IpcacheEntry>;
  readonly nodes: Iterable<Node>;
}

/** Looks at policies against one view of the cluster. */
export class PolicySelections {
  /** Nodes of each endpoint; a name may be there on several. */
  readonly #nodes = new Map<string, Set<string>>();
  /** Names of the endpoints of each identity. */
  readonly #endpoints = new Map<number, Set<string>>();
  /** Pod CIDRs and addresses of nodes, with what they are. */
  readonly #own = new PrefixTrie<{ prefix: Prefix; what: string }>();
  /** What the hosts of nodes are called. */
  readonly #hosts: { name: string; labels: LabelSet }[] = [];
  readonly #repository: PolicyRepository;
  readonly #more: { sources: () => Iterable<PeerSource> };

  /** @param more objects that count beside those of the repository */
  constructor(
    repository: PolicyRepository,
    { endpoints, nodes }: ClusterView,
    more: { sources: () => Iterable<PeerSource> } = { sources: () => [] },
  ) {
    this.#repository = repository;
    this.#more = more;
    const counting = new Set<string>();
    for (const { identity, endpoint, node } of endpoints) {
      if (endpoint === "") continue;
      if ((repository.identity(identity)?.prefixes.length ?? 0) > 0) counting.add(node);
      const places = this.#nodes.get(endpoint);
      if (places === undefined) this.#nodes.set(endpoint, new Set([node]));
      else places.add(node);
      const names = this.#endpoints.get(identity);
      if (names === undefined) this.#endpoints.set(identity, new Set([endpoint]));
      else names.add(endpoint);
    }
    for (const node of nodes) {
      const name = `node ${node.name}`;
      this.#hosts.push({ name, labels: hostLabels(node.labels) });
      this.#nodes.set(name, new Set([node.name]));
      if (!counting.has(node.name)) {
        for (const text of [node.podCidrV4, node.podCidrV6, ...node.pools.flatMap(({ cidrs }) => cidrs)]) {
          this.#add(text, `pods of ${node.name}`);
        }
      }
      for (const text of [node.ipv4, node.ipv6]) this.#add(text, `node ${node.name}`);
    }
  }

  #add(text: string, what: string): void {
    const prefix = text === "" ? undefined : Prefix.tryParse(text);
    if (prefix !== undefined) this.#own.add(prefix, { prefix, what });
  }

  /** @param policy stored or not: one that is only asked about */
  of(policy: Policy): PolicySelection {
    const warnings: Warning[] = [];
    const names = new Set<string>();
    for (const rule of policy.rules) {
      const subjects = this.#subjectsOf(rule.subject);
      const own = rule.isForHosts
        ? this.#hosts.filter(({ labels }) => ruleSelects(rule, labels)).map(({ name }) => name)
        : subjects.flatMap(({ number }) => [...this.#endpoints.get(number) ?? []]);
      for (const name of own) names.add(name);
      if (own.length === 0) {
        warnings.push({
          path: `${rule.path}.${subjectField(rule)}`,
          detail: `no ${rule.isForHosts ? "node" : "endpoint"} has ${wordsOf(rule.subject)}`,
        });
      }
      for (const direction of DIRECTIONS) {
        for (const section of rule.directions[direction].sections) {
          const nameless = this.#nameless(section.ports, direction, subjects);
          for (const name of nameless) warnings.push({ path: section.path, detail: name });
          for (const { selector, path } of section.peers) {
            if (selector.type === "cidr") {
              warnings.push(...this.#covered(selector.prefix, path, section.deny));
            } else if (selector.type === "source") {
              warnings.push(...this.#named(selector, path, section.deny));
            }
          }
        }
      }
      warnings.push(...this.#ofNames(policy, rule, subjects));
      if (rule.isForHosts && own.length > 0) warnings.push(...this.#cutsHosts(policy, rule));
      if (this.#closesDns(policy, rule, subjects)) {
        warnings.push({
          path: rule.directions.EGRESS.path,
          detail: "it closes egress, and nothing allows 53/UDP: names cannot be resolved",
        });
      }
    }
    const nodes = new Set([...names].flatMap((name) => [...this.#nodes.get(name) ?? []]));
    return {
      name: policy.name,
      endpoints: names.size,
      warnings: withoutRepeated(warnings),
      nodes: [...nodes].sort(),
    };
  }

  #subjectsOf(selector: Selector): PeerIdentity[] {
    // Of a stored policy the cache knows them already.
    const { selectors } = this.#repository;
    const cached = selectors.acquire(labelPeer(selector));
    const numbers = [...cached.matches].filter((number) => this.#endpoints.has(number));
    selectors.release(cached);
    return numbers.map((number) => selectors.identity(number)!);
  }

  /** Port names that nobody has who could be meant. */
  #nameless(ports: readonly PortMatch[], direction: Direction, subjects: readonly PeerIdentity[]): string[] {
    const found = new Set<string>();
    for (const { name, protocol } of ports) {
      if (name === "") continue;
      const having = new Set(this.#repository.namedPorts.identitiesWith(protocol, name));
      const isHad = direction === "EGRESS"
        ? having.size > 0
        : subjects.some(({ number }) => having.has(number));
      if (isHad || (direction === "INGRESS" && subjects.length === 0)) continue;
      const who = direction === "EGRESS" ? "no endpoint" : "no endpoint that it selects";
      found.add(`${who} has a ${protocolName(protocol)} port named ${name}`);
    }
    return [...found];
  }

  /** Objects of a selector that are not there, and the first of their prefixes that seems to mean more than it does. */
  #named(selector: SourceSelector, path: string, deny: boolean): Warning[] {
    const { kind, except } = selector, sources = [...this.#repository.selectors.sourcesOf(selector)];
    for (const source of sources.length > 0 ? [] : this.#more.sources()) {
      if (source.kind === kind && selector.selector.matches(source.labels)) sources.push(source);
    }
    if (sources.length === 0) {
      const what = formatPeerSelector({ ...selector, except: [] });
      return [{
        path,
        detail: `${what} ${/^\w+( group)? \S+$/.test(what) ? "is" : "are"} not there: nobody is meant`,
      }];
    }
    for (const { prefixes } of sources) {
      for (const prefix of prefixes) {
        if (except.some((one) => one.contains(prefix))) continue;
        const covered = this.#covered(prefix, path, deny);
        if (covered.length > 0) return covered;
      }
    }
    return [];
  }

  #covered(prefix: Prefix, path: string, deny: boolean): Warning[] {
    // Everything is the world, and everybody knows.
    if (prefix.length === 0) return [];
    const hit = new Set([...this.#own.inside(prefix), ...this.#own.around(prefix)]);
    if (hit.size === 0) return [];
    const [first] = hit, more = hit.size === 1 ? "" : ` and ${hit.size - 1} more`;
    const effect = deny ? "does not deny" : "does not allow";
    return [{
      path,
      detail:
        `${prefix.text} covers ${first.what} (${first.prefix.text})${more}: a CIDR rule ${effect} pods and nodes, only addresses outside of the cluster`,
    }];
  }

  /** Selectors of names of a rule that select nothing, for no question of a subject gets to the proxy that could tell an address; or meet another protocol. */
  #ofNames(policy: Policy, rule: Policy["rules"][number], subjects: readonly PeerIdentity[]): Warning[] {
    const selectors = rule.directions.EGRESS.sections.flatMap(({ peers }) => peers)
      .filter(({ selector }) => selector.type === "fqdn");
    if (selectors.length === 0) return [];
    const own = policy.rules.filter((one) => one.subject.key === rule.subject.key);
    const beside = subjects.slice(0, SUBJECTS_LOOKED_AT).map((subject) => [
      ...this.#repository.rulesFor(subject).filter((one) => one.policy.name !== policy.name)
        .map((one) => one.rule),
      ...policy.rules.filter((one) => ruleSelects(one, subject.labels)),
    ]);
    // Of nobody yet, whatever policy there is may be the one that selects them later.
    const others = subjects.length === 0
      ? [this.#repository.policies().flatMap(({ rules }) => rules)]
      : beside;
    const warnings = new Map<string, Warning>();
    for (const rules of others) {
      const learning = new NameLearning([...own, ...rules]);
      for (const { selector, path } of selectors) {
        const detail = selector.type === "fqdn" ? learning.lacks(selector.name) : undefined;
        if (detail !== undefined) warnings.set(path, { path, detail });
      }
    }
    const world = this.#repository.identity(IDENTITY_WORLD_IPV4)!.labels;
    for (const rules of [[], ...beside]) {
      for (const warning of meetingProtocols(rule, [...own, ...rules], world)) {
        warnings.set(`${warning.path} protocols`, warning);
      }
    }
    return [...warnings.values()];
  }

  /** Whether a rule closes egress of somebody for whom no policy allows DNS. */
  /** What people need of nodes that no rule for these allows. */
  #cutsHosts(policy: Policy, rule: Policy["rules"][number]): Warning[] {
    const others = this.#repository.policies().filter(({ name }) => name !== policy.name);
    const beside = [policy, ...others].flatMap(({ rules }) => rules)
      .filter((one) => one.isForHosts && this.#hosts.some(({ labels }) => ruleSelects(one, labels)));
    const warnings: Warning[] = [];
    for (const { direction, protocol, port, detail } of NEEDED_OF_HOSTS) {
      const { defaultDeny, path, sections } = rule.directions[direction];
      const denies = sections.some((section) =>
        section.deny && section.peers.length > 0 && hasPort(section, protocol, port)
      );
      const allows = beside.some((one) =>
        one.directions[direction].sections.some((section) =>
          !section.deny && section.peers.length > 0 && hasPort(section, protocol, port)
        )
      );
      if (defaultDeny && (denies || !allows)) warnings.push({ path, detail });
    }
    return warnings;
  }

  #closesDns(policy: Policy, rule: Policy["rules"][number], subjects: readonly PeerIdentity[]): boolean {
    const egress = rule.directions.EGRESS;
    // What allows nothing at all is meant to.
    if (!egress.defaultDeny || !egress.sections.some(({ deny, peers }) => !deny && peers.length > 0)) {
      return false;
    }
    if (policy.rules.some((one) => allowsDns(one.directions.EGRESS.sections))) return false;
    return subjects.slice(0, SUBJECTS_LOOKED_AT).some((subject) =>
      !this.#repository.rulesFor(subject).some((one) => allowsDns(one.rule.directions.EGRESS.sections))
    );
  }
}

/** Whether some section of egress lets questions of DNS pass to somebody. */
export function allowsDns(sections: Policy["rules"][number]["directions"]["EGRESS"]["sections"]): boolean {
  return sections.some(({ deny, peers, ports }) =>
    !deny && peers.length > 0 &&
    ports.some(({ protocol, first, last, name }) =>
      protocol === 0 ||
      protocol === UDP && (name === "" ? first <= PORT_DNS && PORT_DNS <= last : name.startsWith("dns"))
    )
  );
}

function wordsOf(selector: Selector): string {
  // (That it is for hosts is said by the place.)
  const words = requirementWords(selector).filter((word) => word !== "reserved:host=");
  return words.join(",").replaceAll("any:", "") || "any label";
}

function hasPort({ ports }: RuleSection, protocol: number, port: number): boolean {
  return ports.some((match) =>
    (match.protocol === 0 || match.protocol === protocol) &&
    (match.protocol === 0 || (match.name === "" && match.first <= port && port <= match.last))
  );
}

/** A policy of a tier is one rule for each direction, with the same subject. */
function withoutRepeated(warnings: readonly Warning[]): Warning[] {
  return [...new Map(warnings.map((warning) => [`${warning.path} ${warning.detail}`, warning])).values()];
}

/** Where a rule says whom it selects. */
function subjectField({ isForHosts, tier }: PolicyRule): string {
  return tier !== undefined ? "subject" : isForHosts ? "nodeSelector" : "endpointSelector";
}

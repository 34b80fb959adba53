/**
 * Why a connection is allowed or denied, and the smallest change that would flip it. Works on the state that the
 * datapath is given.
 * @module
 */
import {
  formatLabel,
  formatRequirement,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  protocolName,
  requirementHolds,
  type Verdict,
} from "@weir/common";
import type { ExplainStep, RuleSource } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import type { NamedPort } from "./named_ports.ts";
import { PairState } from "./pair_state.ts";
import { type Direction, formatPeerSelector, type PeerIdentity, type PortMatch } from "./policy.ts";
import { isSubject, type PolicyRepository } from "./policy_repository.ts";

/** Most facts that one step lists. */
export const FACTS_MAX = 32;

/** A connection to explain. */
export interface ExplainQuery {
  readonly from: PeerIdentity;
  readonly to: PeerIdentity;
  readonly protocol: number;
  /** Destination port, or ICMP type. */
  readonly port: number;
  /** Port names of the destination. */
  readonly toNamedPorts: readonly NamedPort[];
  /** Prefix of the destination, where it is known: endpoints of one identity may differ in what a port name means. */
  readonly toAddress?: string;
}

/** What decides in one direction: at the source for EGRESS, at the destination for INGRESS. */
export function explainDirection(
  repository: PolicyRepository,
  query: ExplainQuery,
  direction: Direction,
): ExplainStep {
  const subject = direction === "EGRESS" ? query.from : query.to;
  const remote = direction === "EGRESS" ? query.to : query.from;
  const namedPorts = direction === "INGRESS" ? query.toNamedPorts : [];
  const words = wordsOf(query, direction);
  const step: ExplainStep = {
    direction,
    allowed: true,
    reason: "",
    entry: undefined,
    rule: undefined,
    labelFacts: [],
    flip: "",
    subjectIdentity: repository.identity(subject.number) ? subject.number : 0,
    remoteIdentity: repository.identity(remote.number) ? remote.number : 0,
  } as ExplainStep;
  if (!isSubject(subject.number) && repository.identity(subject.number)) {
    return {
      ...step,
      reason: `Allowed: the ${words.subject} is ${describeIdentity(subject)}, where no policy is enforced`,
    };
  }
  const pair = PairState.of(repository, subject, remote, { namedPorts });
  const verdict = lookUp(pair, query, direction);
  const context: Context = { pair, query, direction, words, verdict };
  return {
    ...step,
    allowed: verdict.allowed,
    reason: reasonOf(context),
    entry: verdict.entry,
    rule: verdict.cookie === 0 ? undefined : pair.rule(verdict.cookie),
    labelFacts: factsOf(context).slice(0, FACTS_MAX),
    flip: flipOf(context),
  };
}

function lookUp(pair: PairState, { protocol, port, toAddress }: ExplainQuery, direction: Direction): Verdict {
  const address = direction === "EGRESS" ? toAddress : undefined;
  return pair.state.lookup(pair.remote.number, direction, protocol, port, address);
}

interface Words {
  /** `source` or `destination`: the end whose policy it is, and the other end. */
  readonly subject: string;
  readonly remote: string;
  /** `ingress` or `egress`. */
  readonly direction: string;
  /** `80/TCP` */
  readonly port: string;
  /** `from` or `to`, before the remote end. */
  readonly preposition: string;
}

interface Context {
  readonly pair: PairState;
  readonly query: ExplainQuery;
  readonly direction: Direction;
  readonly words: Words;
  readonly verdict: Verdict;
}

function wordsOf({ protocol, port }: ExplainQuery, direction: Direction): Words {
  const text = protocol === 1 || protocol === 58
    ? `${protocolName(protocol)} type ${port}`
    : `${port}/${protocolName(protocol)}`;
  return direction === "INGRESS"
    ? { subject: "destination", remote: "source", direction: "ingress", port: text, preposition: "from" }
    : { subject: "source", remote: "destination", direction: "egress", port: text, preposition: "to" };
}

function reasonOf({ pair, verdict, words }: Context): string {
  const rule = pair.rule(verdict.cookie);
  if (verdict.by === "open") return `Allowed: no policy selects the ${words.subject} for ${words.direction}`;
  if (verdict.by === "default-deny") {
    const policies = [...new Set(rule?.sources.map((source) => source.policy) ?? [])];
    const who = policies.length === 0
      ? `the ${words.subject} is always enforced`
      : `${listOf(policies)} ${
        policies.length === 1 ? "selects" : "select"
      } the ${words.subject} for ${words.direction}`;
    return `Denied by default: ${who} and no rule allows ${words.port} ${words.preposition} the ${words.remote}`;
  }
  const where = listOf((rule?.sources ?? []).map(formatSource));
  return verdict.allowed ? `Allowed by ${where}` : `Denied by ${where}`;
}

/** Facts about labels: why the policies select the subject, and why the deciding rules mean the remote end. */
function factsOf({ pair, verdict, words }: Context): string[] {
  const facts = new Set<string>();
  const uses = verdict.by === "entry" ? pair.usesOf(verdict.cookie) : [];
  const sources = pair.rule(verdict.cookie)?.sources ?? [];
  const rules = verdict.by === "entry"
    ? [...new Set(uses.map((use) => use.rule))]
    : pair.rules.filter((rule) => sources.some((source) => source.policy === rule.policy.name));
  for (const rule of rules) {
    for (const fact of requirementFacts(rule.rule.subject.requirements, pair.subject)) {
      facts.add(`${fact} of the ${words.subject} is what ${rule.policy.name} ${rule.rule.path} selects`);
    }
  }
  for (const use of uses) {
    const where = `${use.rule.policy.name} ${use.peer.path}`;
    const { selector } = use.peer;
    if (selector.type === "labels") {
      for (const fact of requirementFacts(selector.selector.requirements, pair.remote)) {
        facts.add(`${fact} of the ${words.remote} matches ${where}`);
      }
    } else if (selector.type === "cidr") {
      const prefix = pair.remote.prefixes.find((prefix) => selector.prefix.contains(prefix));
      facts.add(
        `${prefix ?? "world"} of the ${words.remote} lies in ${formatPeerSelector(selector)} of ${where}`,
      );
    } else facts.add(`${where} is for everyone`);
  }
  return [...facts];
}

function requirementFacts(
  requirements: readonly { source: string; key: string; operator: string; values: readonly string[] }[],
  identity: PeerIdentity,
): string[] {
  // Being in the local cluster is asked of everybody and tells nobody anything.
  return requirements.filter(({ key }) => key !== LABEL_CLUSTER).map((requirement) => {
    const label = identity.labels.withKey(requirement.key).find((label) =>
      requirement.source === "any" || requirement.source === label.source
    );
    return label ? formatLabel(label) : `no label ${requirement.key}`;
  });
}

function flipOf(context: Context): string {
  const { pair, verdict, words, query, direction } = context;
  if (verdict.by === "open") {
    return `Apply a policy that selects the ${words.subject} and has ${words.direction} rules that leave the ${words.remote} out`;
  }
  if (verdict.by === "default-deny") return flipDefaultDeny(context);
  const uses = pair.usesOf(verdict.cookie);
  const removed = listOf([...new Set(uses.map((use) => formatSource(use.source)))]);
  if (uses.length === 0) {
    return `Set enableDefaultDeny.${words.direction} to true in ${
      listOf((pair.rule(verdict.cookie)?.sources ?? []).map((s) => s.policy))
    }`;
  }
  const after = lookUp(pair.without(uses), query, direction);
  if (after.allowed !== verdict.allowed) return `Remove ${removed}`;
  if (verdict.allowed) {
    const others = pair.without(uses).usesOf(after.cookie).length;
    const policy = uses[0].rule.policy;
    const more = `${others === 0 ? "another rule" : `${others} more rule(s)`} would still allow it`;
    return policy.kind === "NetworkPolicy"
      ? `Remove every rule that allows it: without ${removed} ${more}`
      : `Add ${words.direction}Deny for ${words.port} ${words.preposition} the ${words.remote} to ${policy.name}: a deny beats every allow (without ${removed} ${more})`;
  }
  if (after.by === "entry") return `Remove ${removed}, and then what denies it next`;
  return `Remove ${removed} and allow ${words.port} ${words.preposition} the ${words.remote}: no other rule does`;
}

/** The allow rule that comes nearest, by how many conditions fail. */
function flipDefaultDeny({ pair, query, direction, words }: Context): string {
  let best: { use: PeerUse; failing: string[]; portFits: boolean; cost: number } | undefined;
  for (const use of pair.rules.flatMap((rule) => rule.uses)) {
    if (use.direction !== direction || use.section.deny) continue;
    // No address makes a CIDR rule select a pod.
    if (use.peer.selector.type === "cidr" && pair.remote.prefixes.length === 0) continue;
    const portFits = use.section.ports.some((port) => portMatches(port, query));
    const failing = failingConditions(use, pair.remote);
    const cost = failing.length + (portFits ? 0 : 1);
    if (cost === 0) continue; // a port name that means another number here
    if (failing.some(meansEntity)) continue;
    if (!best || cost < best.cost) best = { use, failing, portFits, cost };
  }
  if (best && best.failing.length === 0) {
    return `Add port ${words.port} to ${best.use.rule.policy.name} ${best.use.section.path}, which already means the ${words.remote}`;
  }
  if (best && best.portFits && best.failing.length === 1) {
    return `Give the ${words.remote} ${best.failing[0]}: then ${formatSource(best.use.source)} allows it`;
  }
  const policy = pair.rules.find((rule) => closes(rule, direction))?.policy;
  // A selector of a namespaced policy means that namespace unless it names another.
  const elsewhere = pair.remote.labels.withKey(LABEL_NAMESPACE)
    .filter((label) => policy !== undefined && policy.namespace !== "" && label.value !== policy.namespace);
  return `Add a rule to ${policy?.name ?? "a policy"} that allows ${words.port} ${words.preposition} ${
    [describeIdentity(pair.remote), ...elsewhere.map(formatLabel)].join(", ")
  }`;
}

function closes(rule: CompiledRule, direction: Direction): boolean {
  return rule.rule.directions[direction].defaultDeny;
}

function portMatches(port: PortMatch, query: ExplainQuery): boolean {
  if (port.protocol === 0) return true;
  if (port.protocol !== query.protocol) return false;
  if (port.name === "") return port.first <= query.port && query.port <= port.last;
  return query.toNamedPorts.some((named) =>
    named.name.toLowerCase() === port.name && named.port === query.port
  );
}

/** Nobody can give somebody the label of an entity: who is the world or a group is so by its address. */
function meansEntity(condition: string): boolean {
  return condition.startsWith("label reserved:");
}

function failingConditions(use: PeerUse, remote: PeerIdentity): string[] {
  const { selector } = use.peer;
  if (selector.type === "any") return [];
  if (selector.type === "cidr") {
    const inside = remote.prefixes.some((prefix) =>
      selector.prefix.contains(prefix) && !selector.except.some((except) => except.contains(prefix))
    );
    return inside ? [] : [`an address in ${formatPeerSelector(selector)}`];
  }
  return selector.selector.requirements.filter((requirement) => !requirementHolds(requirement, remote.labels))
    .map((requirement) => {
      const has = remote.labels.withKey(requirement.key).map((label) => label.value).join();
      return `label ${formatRequirement(requirement).replace("any:", "")}${
        has === "" ? "" : ` (it has ${has})`
      }`;
    });
}

/** `cnp:default/rule1 spec.ingress[0] (rule1.yaml:12)` */
export function formatSource(source: RuleSource): string {
  const place = source.file === "" ? `line ${source.line}` : `${source.file}:${source.line}`;
  return `${source.policy} ${source.path} (${place})`;
}

/** An identity in few words: its reserved name, prefix, or the labels that people gave it. */
export function describeIdentity(identity: PeerIdentity): string {
  if (identity.prefixes.length > 0) return identity.prefixes.join(", ");
  const labels = [...identity.labels];
  const reserved = labels.find((label) => label.source === "reserved");
  if (reserved) return reserved.key;
  const own = labels.filter((label) =>
    !label.key.startsWith("io.cilium.") && !label.key.startsWith("io.kubernetes.")
  );
  return (own.length > 0 ? own : labels).map(formatLabel).join(", ");
}

function listOf(items: readonly string[]): string {
  const shown = items.slice(0, 4);
  const more = items.length - shown.length;
  if (more > 0) return `${shown.join(", ")} and ${more} more`;
  return shown.length < 2 ? shown.join() : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

/**
 * Why a connection is allowed or denied. Works on the state that the datapath is given.
 * @module
 */
import { formatLabel, LABEL_CLUSTER, type Prefix } from "@weir/common";
import type { ExplainStep } from "@weir/proto/policy";
import { type Decision, type ExplainQuery, lookUp, wordsOf } from "./decision.ts";
import { describeIdentity, formatSource, listOf } from "./explain_words.ts";
import { fqdnName } from "./fqdn_selector.ts";
import { NameLearning } from "./name_learning.ts";
import { PairState } from "./pair_state.ts";
import type { PeerSource } from "./peer_source.ts";
import { type Direction, formatPeerSelector, type PeerIdentity } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import { judgeRequest } from "./request_judgement.ts";
import { smallestChange } from "./smallest_change.ts";
import { isSubject } from "./subject_groups.ts";
import { isLeftOpen, passedOn, tierWords } from "./tier_words.ts";

/** Most facts that one step lists. */
export const FACTS_MAX = 32;

/** What decides in one direction: at the source for EGRESS, at the destination for INGRESS. */
export function explainDirection(
  repository: PolicyRepository,
  query: ExplainQuery,
  direction: Direction,
  /** Addresses of the cluster's own workloads with an identity. */
  prefixesOf: (identity: number) => readonly Prefix[] = () => [],
): ExplainStep {
  const subject = direction === "EGRESS" ? query.from : query.to;
  const remote = direction === "EGRESS" ? query.to : query.from;
  const namedPorts = direction === "INGRESS" ? query.toNamedPorts : [];
  const words = wordsOf(query, direction);
  const step: ExplainStep = {
    direction,
    allowed: true,
    audited: false,
    reason: "",
    entry: undefined,
    rule: undefined,
    labelFacts: [],
    change: "",
    nearMiss: "",
    alternatives: [],
    manifest: "",
    notes: [],
    giveLabel: "",
    subjectIdentity: repository.identity(subject.number) ? subject.number : 0,
    remoteIdentity: repository.identity(remote.number) ? remote.number : 0,
  } as ExplainStep;
  if (!isSubject(subject.number) && repository.identity(subject.number)) {
    return {
      ...step,
      reason: `Allowed: the ${words.subject} is ${describeIdentity(subject)}, where no policy is enforced`,
    };
  }
  const enforcement = direction === "EGRESS" ? query.fromEnforcement : query.toEnforcement;
  const pair = PairState.of(repository, subject, remote, { namedPorts, enforcement });
  const verdict = lookUp(pair, query, direction);
  const context: Decision = { pair, query, direction, words, verdict };
  const { more = [], ...judged } = judgeRequest(context, query.request);
  return {
    ...step,
    allowed: verdict.allowed,
    reason: reasonOf(context),
    entry: verdict.entry,
    rule: verdict.cookie === 0 ? undefined : pair.rule(verdict.cookie),
    labelFacts: factsOf(context).slice(0, FACTS_MAX),
    audited: verdict.audited !== undefined,
    notes: [
      ...passedOn(context),
      ...more,
      ...aboutAudit(context),
      ...aboutNames(context),
      ...unheededCidrs(pair, direction, words.remote, prefixesOf),
    ]
      .slice(
        0,
        FACTS_MAX,
      ),
    ...smallestChange(context),
    ...judged,
  };
}

function reasonOf(decision: Decision): string {
  const { pair, verdict, words } = decision;
  const rule = pair.rule(verdict.cookie);
  if (pair.enforcement === "NEVER") return `Allowed: policies are never enforced on the ${words.subject}`;
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
  if (isLeftOpen(decision)) {
    const policies = [...new Set(rule?.sources.map((source) => source.policy) ?? [])];
    return `Allowed: no rule of ${
      listOf(policies)
    } decides about ${words.port} ${words.preposition} the ${words.remote}, and no policy closes ${words.direction}`;
  }
  const uses = pair.usesOf(verdict.cookie);
  const where = listOf((rule?.sources ?? []).map((source) => {
    const use = uses.find(({ source: { policy, path } }) => policy === source.policy && path === source.path);
    return formatSource(source) + (use === undefined ? "" : tierWords(use));
  }));
  return verdict.allowed ? `Allowed by ${where}` : `Denied by ${where}`;
}

/** What policies in audit mode would do. */
function aboutAudit({ pair, verdict, words }: Decision): string[] {
  if (verdict.audited === undefined) return [];
  const rule = pair.rule(verdict.audited.cookie), sources = rule?.sources ?? [];
  const what = rule?.defaultDeny
    ? `${
      listOf([...new Set(sources.map(({ policy }) => policy))])
    } would deny ${words.port} ${words.preposition} the ${words.remote} by default`
    : `${listOf(sources.map(formatSource))} would deny it`;
  return [`audited: ${what} if it were enforced; it is in audit mode, so it passes and is reported`];
}

/** What is not seen from a verdict that names had a part in. */
function aboutNames({ pair, direction, verdict, words, query }: Decision): string[] {
  const { remote, rules } = pair;
  if (direction !== "EGRESS" || remote.askedName === undefined) return [];
  const notes: string[] = [];
  const selectors = pair.usesOf(verdict.cookie).flatMap(({ peer: { selector } }) =>
    selector.type === "fqdn" ? [selector.name] : []
  );
  const isByName = verdict.by === "entry" && verdict.allowed && selectors.length > 0;
  if (isByName) {
    const learning = new NameLearning(rules.map(({ rule }) => rule));
    const asked = fqdnName({ matchName: remote.askedName, matchPattern: "" });
    const lacking = learning.lacks(asked);
    if (lacking !== undefined) notes.push(lacking);
    notes.push(
      `it is open while DNS's answer to the ${words.subject} counts, and for every other name with the same address`,
    );
  }
  if (query.toAddress === undefined) {
    notes.push(
      `${remote.askedName} is taken to have an IPv4 address that no policy has a CIDR rule for: name an address to ask about that one`,
    );
  }
  return notes;
}

/** CIDR rules that cover an address of the other end, which is of the cluster: they do not mean that. */
function unheededCidrs(
  pair: PairState,
  direction: Direction,
  end: string,
  prefixesOf: (identity: number) => readonly Prefix[],
): string[] {
  const { rules, remote } = pair;
  // Who has prefixes in its identity is outside, or its node says that CIDR rules mean pods: they are about it.
  if (remote.prefixes.length > 0) return [];
  const own = prefixesOf(remote.number);
  if (own.length === 0) return [];
  const notes = rules.flatMap((rule) => rule.uses).flatMap((use) => {
    if (use.direction !== direction) return [];
    const covers = pair.addressesOf(use).some((prefix) =>
      prefix.length > 0 && own.some((one) => prefix.contains(one))
    );
    if (!covers) return [];
    return `${formatSource(use.source)} covers the address of the ${end} and does not ${
      use.section.deny ? "deny" : "allow"
    } it: a CIDR rule never means pods and nodes, say ${
      direction === "INGRESS" ? "fromEndpoints" : "toEndpoints"
    } or ${direction === "INGRESS" ? "fromEntities" : "toEntities"}`;
  });
  return [...new Set(notes)];
}

/** Facts about labels: why the policies select the subject, and why the deciding rules mean the remote end. */
function factsOf({ pair, verdict, words }: Decision): string[] {
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
    } else if (selector.type === "fqdn") {
      const name = pair.remote.askedName ?? "a name";
      facts.add(`${name} of the ${words.remote} is what ${formatPeerSelector(selector)} of ${where} means`);
    } else if (selector.type === "source") {
      for (const source of pair.sourcesOf(use)) {
        for (const fact of sourceFacts(source, pair.remote)) {
          facts.add(`${fact.replace("%", words.remote)}, which ${where} names`);
        }
      }
    } else facts.add(`${where} is for everyone`);
  }
  return [...facts];
}

/** Why an object means an identity; `%` stands for the end. Empty: it does not. */
function sourceFacts({ kind, name, prefixes, pods }: PeerSource, identity: PeerIdentity): string[] {
  const what = kind === "group" ? `CIDR group ${name}` : `service ${name}`;
  if (pods?.matches(identity.labels)) {
    return requirementFacts(pods.requirements, identity).map((fact) =>
      `${fact} of the % is what ${what} selects`
    );
  }
  return identity.prefixes.flatMap((own) => {
    const around = prefixes.find((prefix) => prefix.contains(own));
    return around === undefined ? [] : `${own} of the % lies in ${around} of ${what}`;
  });
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

/**
 * The smallest change that turns a verdict: what to edit, what else would do, the rule that almost matched, and for a default
 * deny a policy that can be applied as it is.
 * @module
 */
import {
  formatLabel,
  formatRequirement,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  requirementHolds,
} from "@weir/common";
import { allowingPolicy } from "./allowing_policy.ts";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import { type Decision, lookUp } from "./decision.ts";
import { describeIdentity, formatSource, listOf, placeOf, requirementWords } from "./explain_words.ts";
import type { PairState } from "./pair_state.ts";
import { formatPort, portMatches } from "./port_words.ts";
import { isLeftOpen } from "./tier_words.ts";
import { type Direction, formatPeerSelector, type PeerSelector } from "./policy.ts";

/** What to do, in words, and as a manifest. Empty: there is nothing to say. */
export interface Change {
  readonly change: string;
  readonly nearMiss: string;
  readonly alternatives: string[];
  readonly manifest: string;
  /** The label that the remote end itself is to get: "app=client"; "" where the change is another. */
  readonly giveLabel: string;
}

/** What would turn the verdict. */
export function smallestChange(decision: Decision): Change {
  const none = { nearMiss: "", alternatives: [], manifest: "", giveLabel: "" };
  const { pair, verdict, words } = decision;
  if (pair.enforcement === "NEVER") {
    const change =
      `Let policies be enforced on the ${words.subject}: weir endpoint config NAME enforcement=default, or weir agent --enable-policy default on its node`;
    return { ...none, change };
  }
  if (verdict.by === "open" || isLeftOpen(decision)) {
    const change =
      `Apply a policy that selects the ${words.subject} and has ${words.direction} rules that leave the ${words.remote} out`;
    return { ...none, change };
  }
  if (verdict.by === "default-deny") return toAllow(decision);
  return { ...none, change: withoutRules(decision), alternatives: verdict.allowed ? [] : narrower(decision) };
}

/** Turns a verdict that an entry gave. */
function withoutRules(decision: Decision): string {
  const { pair, verdict, words, query, direction } = decision;
  const uses = pair.usesOf(verdict.cookie);
  const removed = listOf([...new Set(uses.map((use) => formatSource(use.source)))]);
  if (uses.length === 0) {
    return `Set enableDefaultDeny.${words.direction} to true in ${
      listOf((pair.rule(verdict.cookie)?.sources ?? []).map((source) => source.policy))
    }`;
  }
  const after = lookUp(pair.without(uses), query, direction);
  if (after.allowed !== verdict.allowed) return `Remove ${removed}`;
  if (verdict.allowed) {
    const others = pair.without(uses).usesOf(after.cookie).length;
    const policy = uses[0].rule.policy;
    const more = `${others === 0 ? "another rule" : `${others} more rule(s)`} would still allow it`;
    if (uses[0].rule.rule.tier !== undefined) {
      return `Put a rule that denies ${words.port} ${words.preposition} the ${words.remote} above ${removed} (without it ${more})`;
    }
    return policy.kind === "NetworkPolicy"
      ? `Remove every rule that allows it: without ${removed} ${more}`
      : `Add ${words.direction}Deny for ${words.port} ${words.preposition} the ${words.remote} to ${policy.name}: a deny beats every allow (without ${removed} ${more})`;
  }
  if (uses[0].rule.rule.tier !== undefined) {
    return `Put a rule that allows ${words.port} ${words.preposition} the ${words.remote} above ${removed}`;
  }
  if (after.by === "entry") return `Remove ${removed}, and then what denies it next`;
  return `Remove ${removed} and allow ${words.port} ${words.preposition} the ${words.remote}: no other rule does`;
}

/** An allow rule that does not match, and what is missing. */
interface NearRule {
  readonly use: PeerUse;
  readonly failing: readonly string[];
  readonly portFits: boolean;
}

/** Turns a default deny. */
function toAllow(decision: Decision): Change {
  const { pair, words, direction } = decision;
  const near = nearestRule(decision);
  const policy = pair.rules.find((rule) => closes(rule, direction))?.policy;
  const manifest = policy === undefined ? "" : allowingPolicy(decision, policy);
  const rest = {
    giveLabel: "",
    nearMiss: near ? nearMiss(near, decision) : "",
    alternatives: narrower(decision),
    manifest,
  };
  if (near && near.failing.length === 0) {
    const { rule: { policy }, section } = near.use;
    return {
      ...rest,
      change: `Add port ${words.port} to ${policy.name} ${section.path} (${
        placeOf(policy, section.line)
      }), which already means the ${words.remote}`,
    };
  }
  if (
    near && near.portFits && near.failing.length === 1 && !isGiven(near.failing[0]) &&
    !meansEntity(near.failing[0]) && near.use.peer.selector.type === "labels"
  ) {
    return {
      ...rest,
      giveLabel: labelToGive(near.failing[0]),
      change: `Give ${holderOf(near.failing[0], decision)} ${shortLabel(near.failing[0])}: then ${
        formatSource(near.use.source)
      } allows it`,
    };
  }
  // A selector of a namespaced policy means that namespace unless it names another.
  const elsewhere = pair.remote.labels.withKey(LABEL_NAMESPACE)
    .filter((label) => policy !== undefined && policy.namespace !== "" && label.value !== policy.namespace);
  const whom = [describeIdentity(pair.remote), ...elsewhere.map(formatLabel)].join(", ");
  const to = policy?.name ?? "a policy";
  return {
    ...rest,
    change: `Add a rule to ${to} that allows ${words.port} ${words.preposition} ${whom}`,
  };
}

/** The allow rule that comes nearest, by how many conditions fail. */
function nearestRule({ pair, query, direction }: Decision): NearRule | undefined {
  let best: NearRule | undefined, bestCost = Infinity;
  for (const use of pair.rules.flatMap((rule) => rule.uses)) {
    if (use.direction !== direction || use.section.deny || use.section.pass) continue;
    if (isByAddress(use.peer.selector) && pair.remote.prefixes.length === 0) continue;
    // Nor has it a name, unless it was asked for by one.
    if (use.peer.selector.type === "fqdn" && pair.remote.askedName === undefined) continue;
    const portFits = use.section.ports.some((port) => portMatches(port, query));
    const failing = failingConditions(use, pair);
    const cost = failing.length + (portFits ? 0 : 1);
    if (cost === 0) continue; // a port name that means another number here
    // Nobody becomes an entity: the rule is shown, and its label is not offered to anybody.
    if (failing.some(meansEntity) && (!portFits || best !== undefined)) continue;
    if (cost < bestCost || best?.failing.some(meansEntity)) {
      [best, bestCost] = [{ use, failing, portFits }, cost];
    }
  }
  return best;
}

/** "cnp:shop/web spec.ingress[0] (web.yaml:12) allows 8008/TCP; you asked for 8080/TCP". Empty where nothing comes near. */
function nearMiss({ use, failing, portFits }: NearRule, { words, pair, query }: Decision): string {
  if (failing.length + (portFits ? 0 : 1) > 2) return "";
  const parts: string[] = [];
  if (!portFits) {
    const { ports } = use.section;
    const alike = ports.filter(({ protocol }) => protocol === query.protocol);
    const allowed = (alike.length > 0 ? alike : ports).map((port) => formatPort(port, query));
    parts.push(`allows ${listOf(allowed)}; you asked for ${words.port}`);
  }
  if (failing.length > 0) {
    const who = wordsOfSelector(use.peer.selector);
    const namespace = pair.remote.labels.withKey(LABEL_NAMESPACE).filter(() => failing.some(isGiven));
    const is = [describeIdentity(pair.remote), ...namespace.map(formatLabel)].join(",");
    parts.push(`means ${who}; the ${words.remote} is ${is}`);
  }
  return parts.length === 0 ? "" : `${formatSource(use.source)} ${parts.join(", and ")}`;
}

/** Policies that select more than the subject and so may select too much. */
function narrower({ pair, direction, words, verdict }: Decision): string[] {
  const rules = verdict.by === "default-deny"
    ? pair.rules.filter((rule) => closes(rule, direction))
    : [...new Set(pair.usesOf(verdict.cookie).map((use) => use.rule))];
  return rules.filter((rule) => rule.subject.matches.size > 1).map(({ policy, rule, subject }) => {
    const selector = wordsOfSelector(subject.selector);
    return `Narrow the selector of ${policy.name} ${rule.path} (${
      placeOf(policy, rule.line)
    }), where it should not mean the ${words.subject}: ${selector} selects ${subject.matches.size} identities`;
  });
}

/** A selector as people read it. */
function wordsOfSelector(selector: PeerSelector): string {
  if (selector.type !== "labels") return formatPeerSelector(selector);
  const named = requirementWords(selector.selector)
    .filter((text) => text.replace(/^k8s:/, "") !== LABEL_NAMESPACE);
  return shortLabel(named.join(",").replaceAll("any:", "")) || "everything";
}

/** `k8s:io.cilium.k8s.namespace.labels.team=a` is to people `namespace label team=a`. */
function shortLabel(text: string): string {
  return text.replaceAll(`label k8s:${LABEL_NAMESPACE_META_PREFIX}`, "label ")
    .replaceAll(`k8s:${LABEL_NAMESPACE_META_PREFIX}`, "namespace label ");
}

/** "app=client" of a condition that asks for exactly that; a key alone, a choice or a namespace's label is nothing to set. */
function labelToGive(condition: string): string {
  const [, label] = /^label (?:k8s:|any:)?([^\s:=!]+=[^\s]+)(?: \(it has .*\))?$/.exec(condition) ?? [];
  return label === undefined || condition.includes(LABEL_NAMESPACE_META_PREFIX) ? "" : label;
}

/** Who is to get a label: labels of a namespace are the namespace's, and no pod can be given them. */
function holderOf(condition: string, { pair, words }: Decision): string {
  if (!condition.includes(LABEL_NAMESPACE_META_PREFIX)) return `the ${words.remote}`;
  const [namespace] = pair.remote.labels.withKey(LABEL_NAMESPACE).map(({ value }) => value);
  return `namespace ${namespace ?? "of"} ${
    namespace === undefined ? `the ${words.remote}` : `(of the ${words.remote})`
  }`;
}

function closes(rule: CompiledRule, direction: Direction): boolean {
  return rule.rule.directions[direction].defaultDeny;
}

/** Nobody can give somebody the label of an entity: who is the world or a group is so by its address. */
function meansEntity(condition: string): boolean {
  return condition.startsWith("label reserved:");
}

/** Nobody gives labels to somebody that come from where it is: its namespace, its cluster. */
function isGiven(condition: string): boolean {
  return [LABEL_NAMESPACE, LABEL_CLUSTER].some((key) => condition.includes(key));
}

/** No address makes a rule of these select a pod. */
function isByAddress(selector: PeerSelector): boolean {
  return selector.type === "cidr" || (selector.type === "source" && selector.kind === "group");
}

function failingConditions(use: PeerUse, pair: PairState): string[] {
  const { selector } = use.peer, { remote } = pair;
  if (selector.type === "any") return [];
  if (selector.type !== "labels") {
    const what = isByAddress(selector)
      ? "an address in"
      : selector.type === "source"
      ? "an endpoint of"
      : "a name that is";
    return pair.means(use) ? [] : [`${what} ${formatPeerSelector(selector)}`];
  }
  return selector.selector.requirements.filter((requirement) => !requirementHolds(requirement, remote.labels))
    .map((requirement) => {
      const has = remote.labels.withKey(requirement.key).map((label) => label.value).join();
      return `label ${formatRequirement(requirement).replace("any:", "")}${
        has === "" ? "" : ` (it has ${has})`
      }`;
    });
}

/**
 * Rules ready for resolution: their selectors are taken from the selector cache, their sources are spelled out once.
 * @module
 */
import type { SourceRef } from "./cookie_registry.ts";
import { nameKey } from "./named_ports.ts";
import {
  type Direction,
  DIRECTIONS,
  labelPeer,
  type Peer,
  type Policy,
  type PolicyRule,
  type RuleSection,
} from "./policy.ts";
import type { CachedSelector } from "./cached_selector.ts";
import type { SelectorCache } from "./selector_cache.ts";

/** Peers of one section that share a selector, in one direction. */
export interface PeerUse {
  readonly rule: CompiledRule;
  readonly direction: Direction;
  readonly section: RuleSection;
  readonly peer: Peer;
  readonly selector: CachedSelector;
  readonly source: SourceRef;
}

/** One rule of one policy. */
export interface CompiledRule {
  /** Different for each version of a rule that is put in, never used again. */
  readonly serial: number;
  readonly policy: Policy;
  readonly rule: PolicyRule;
  readonly subject: CachedSelector;
  readonly uses: readonly PeerUse[];
  /** The source of the rule itself by direction, for default deny and the allow-all of `enableDefaultDeny: false`. */
  readonly sources: Readonly<Record<Direction, SourceRef>>;
  /** Port names in egress rules, by `nameKey`: they make the rule depend on the peers' tables. */
  readonly egressNames: ReadonlySet<string>;
  /** Some port of it has L7 rules. */
  readonly hasPortRules: boolean;
}

/** Compiles a rule; its selectors are in use until {@link releaseRule}. */
export function compileRule(
  policy: Policy,
  rule: PolicyRule,
  serial: number,
  cache: SelectorCache,
): CompiledRule {
  const uses: PeerUse[] = [];
  const sourceOf = (path: string, line: number): SourceRef => ({
    id: `${policy.name}#${path}`,
    policy: policy.name,
    kind: policy.kind,
    namespace: policy.namespace,
    policyName: policy.policyName,
    path,
    file: policy.file,
    line,
    labels: [...rule.labels],
  });
  const compiled: CompiledRule = {
    serial,
    policy,
    rule,
    subject: cache.acquire(labelPeer(rule.subject)),
    uses,
    sources: {
      INGRESS: sourceOf(rule.directions.INGRESS.path, rule.directions.INGRESS.line),
      EGRESS: sourceOf(rule.directions.EGRESS.path, rule.directions.EGRESS.line),
    },
    egressNames: new Set(
      rule.directions.EGRESS.sections.flatMap((section) =>
        section.ports.filter((port) => port.name !== "").map((port) => nameKey(port.protocol, port.name))
      ),
    ),
    hasPortRules: DIRECTIONS.some((direction) =>
      rule.directions[direction].sections.some(({ ports }) => ports.some(({ rules }) => rules !== undefined))
    ),
  };
  for (const direction of DIRECTIONS) {
    for (const section of rule.directions[direction].sections) {
      for (const peer of section.peers) {
        uses.push({
          rule: compiled,
          direction,
          section,
          peer,
          selector: cache.acquire(peer.selector),
          source: sourceOf(peer.path, peer.line),
        });
      }
    }
  }
  return compiled;
}

/** Gives the selectors back. */
export function releaseRule(rule: CompiledRule, cache: SelectorCache): void {
  cache.release(rule.subject);
  for (const use of rule.uses) cache.release(use.selector);
}

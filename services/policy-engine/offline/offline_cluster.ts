/**
 * A cluster that is made of files: the engine's own repository with policies and ends in it.
 * @module
 */
import { IDENTITY_WORLD_IPV4, IDENTITY_WORLD_IPV6, MapState, Prefix } from "@weir/common";
import type { RuleSource } from "@weir/proto/policy";
import type { CidrNumbers } from "../cidr_numbers.ts";
import { formatFqdnName, parseFqdnName } from "../fqdn_selector.ts";
import { type Policy, policyMentions } from "../policy.ts";
import { PolicyRepository } from "../policy_repository.ts";
import type { PolicyGroup } from "../policy_group.ts";
import { type End, isSubjectEnd, nameEnd, prefixEnd } from "./end.ts";

/** Options of {@link OfflineCluster}. */
export interface OfflineClusterOptions {
  readonly policies: readonly Policy[];
  /** Those that have labels; others need not be told. */
  readonly ends: readonly End[];
  /** Shared by clusters that are compared. */
  readonly numbers?: CidrNumbers;
}

/** Policies over ends. */
export class OfflineCluster {
  readonly #repository: PolicyRepository;
  readonly #states = new Map<End, MapState>();
  readonly #prefixes = new Map<string, number>();
  #pairs: { readonly prefix: Prefix; readonly identity: number }[] | undefined;
  readonly #texts = new Map<string, number>();

  /** @throws {CidrNumberError} more prefixes than numbers */
  constructor({ policies, ends, numbers }: OfflineClusterOptions) {
    this.#repository = new PolicyRepository({ cidrNumbers: numbers });
    for (const policy of policies) this.#repository.upsertPolicy(policy);
    for (const end of ends) {
      if (!isSubjectEnd(end)) continue;
      this.#repository.upsertIdentity(end.number, end.labels);
      const named = end.ports?.filter(({ name }) => name !== "") ?? [];
      if (named.length > 0) this.#repository.setNamedPorts(`end-${end.number}`, end.number, named);
    }
  }

  /** What its policies mean outside: prefixes and names. */
  outside(): End[] {
    const found = new Map<string, End>();
    for (const text of this.#repository.policies().flatMap(policyMentions)) {
      const name = parseFqdnName(text);
      found.set(text, name ? nameEnd(text, formatFqdnName(name)) : prefixEnd(Prefix.parse(text)));
    }
    return [...found.values()];
  }

  /** The policy of an end as its node would have it; undefined: it has none. */
  stateOf(end: End): MapState | undefined {
    if (!isSubjectEnd(end)) return undefined;
    let state = this.#states.get(end);
    if (state === undefined) {
      const message = this.#repository.mapState(end.number);
      if (message === undefined) return undefined;
      this.#states.set(end, state = MapState.of(message, end.ports));
    }
    return state;
  }

  /** What ends of one policy share. */
  groupOf(end: End): PolicyGroup | undefined {
    return this.#repository.group(end.number);
  }

  /** As whom others know an end: what is said of each of these is said of it. */
  identitiesOf({ number, prefix, selector, type }: End): readonly number[] {
    if (selector !== undefined) {
      const { identity } = this.#repository.fqdnSelector(selector) ?? {};
      return identity === undefined ? [IDENTITY_WORLD_IPV4] : [IDENTITY_WORLD_IPV4, identity];
    }
    return [prefix === undefined || type === "world" ? number : this.#longestAround(prefix)];
  }

  /** A number for a text, the same for the same text. */
  numberOfText(text: string): number {
    const known = this.#texts.get(text) ?? this.#texts.size;
    this.#texts.set(text, known);
    return known;
  }

  /** The rules behind a cookie. */
  sourcesOf(cookie: number): readonly RuleSource[] {
    return this.#repository.cookies.get(cookie)?.sources ?? [];
  }

  #longestAround(prefix: Prefix): number {
    const known = this.#prefixes.get(prefix.text);
    if (known !== undefined) return known;
    let length = -1, identity = prefix.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
    this.#pairs ??= this.#repository.cidrPairs().map((pair) => ({
      ...pair,
      prefix: Prefix.parse(pair.prefix),
    }));
    for (const { prefix: around, identity: number } of this.#pairs) {
      if (!around.contains(prefix) || around.length <= length) continue;
      length = around.length;
      identity = number;
    }
    this.#prefixes.set(prefix.text, identity);
    return identity;
  }
}

/**
 * The policy of one subject towards one remote identity: what explain and what-if questions are asked of. Identities that
 * nothing allocated (labels that someone asks about) are resolved by the same code as all others.
 * @module
 */
import { enforcedAs, IDENTITY_INIT, MapState, type Prefix } from "@weir/common";
import type { Enforcement } from "@weir/proto/common";
import type { MapState as MapStateMessage, Rule } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import { CookieRegistry } from "./cookie_registry.ts";
import { resolveDirection, resolveEntries, type ResolverTables } from "./entry_resolver.ts";
import type { NamedPort } from "./named_ports.ts";
import type { PeerSource } from "./peer_source.ts";
import type { PeerIdentity } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import { RuleSetRegistry } from "./rule_set_registry.ts";

/** Stands for an identity that has no number. */
export const IDENTITY_ASKED_SUBJECT = 0xffff_fffe;
export const IDENTITY_ASKED_REMOTE = 0xffff_ffff;

/** What one subject lets one remote identity do. */
export class PairState {
  readonly state: MapState;
  readonly #cookies: CookieRegistry;
  readonly #repository: PolicyRepository;
  readonly #namedPorts: readonly NamedPort[];

  private constructor(
    readonly subject: PeerIdentity,
    readonly remote: PeerIdentity,
    /** Rules that select the subject, but for those in audit mode. */
    readonly rules: readonly CompiledRule[],
    /** Uses of their peers that mean the remote identity, those for everyone included. */
    readonly uses: readonly PeerUse[],
    repository: PolicyRepository,
    namedPorts: readonly NamedPort[],
    /** When policies are enforced on the subject. */
    readonly enforcement: Enforcement,
    message: MapStateMessage,
    cookies: CookieRegistry,
  ) {
    this.#repository = repository;
    this.#namedPorts = namedPorts;
    this.state = MapState.of({ ...message, ...enforcedAs(message, enforcement) }, namedPorts);
    this.#cookies = cookies;
  }

  /**
   * @param namedPorts port names of the subject itself
   * @param enforcement when policies are enforced on it, default `DEFAULT`
   * @param without uses that are thought away
   */
  static of(
    repository: PolicyRepository,
    subject: PeerIdentity,
    remote: PeerIdentity,
    options: {
      namedPorts?: readonly NamedPort[];
      enforcement?: Enforcement;
      without?: ReadonlySet<PeerUse>;
    } = {},
  ): PairState {
    const enforcement = options.enforcement ?? "DEFAULT";
    const namedPorts = options.namedPorts ?? [];
    const all = repository.rulesFor(subject), rules = all.filter(({ policy }) => !policy.audit);
    const meaning = all.flatMap((rule) => rule.uses).filter((use) =>
      repository.selectors.means(use.selector, remote) && !options.without?.has(use)
    );
    const uses = meaning.filter(({ rule }) => !rule.policy.audit);
    const group = repository.group(subject.number);
    const known = group && options.without === undefined && repository.identity(remote.number) === remote;
    if (known) {
      const entries = group.entriesFor(remote.number);
      const message = { ...group.state().head(subject.number, repository.policyRevision), entries };
      const { cookies } = repository;
      return new PairState(
        subject,
        remote,
        rules,
        uses,
        repository,
        namedPorts,
        enforcement,
        message,
        cookies,
      );
    }
    const tables: ResolverTables = {
      cookies: new CookieRegistry(),
      namedPorts: repository.namedPorts,
      ruleSets: new RuleSetRegistry(),
    };
    const always = subject.number === IDENTITY_INIT;
    const ingress = resolveDirection("INGRESS", all, tables.cookies, always);
    const egress = resolveDirection("EGRESS", all, tables.cookies, always);
    const entries = [
      ...resolveEntries(0, meaning.filter((use) => use.peer.selector.type === "any"), tables),
      ...resolveEntries(remote.number, meaning.filter((use) => use.peer.selector.type !== "any"), tables),
      ...[ingress, egress].flatMap(({ allowAll, auditDefault }) => [allowAll, auditDefault])
        .filter((entry) => entry !== undefined),
    ];
    const message: MapStateMessage = {
      identity: subject.number,
      policyRevision: repository.policyRevision,
      enforceIngress: ingress.enforced,
      enforceEgress: egress.enforced,
      ingressDefaultCookie: ingress.defaultCookie,
      egressDefaultCookie: egress.defaultCookie,
      entries,
      selfDescribed: false,
      silent: [],
      knownIdentities: [],
      ruleSets: tables.ruleSets.all(),
      fqdnSelectors: [],
      error: "",
    };
    return new PairState(
      subject,
      remote,
      rules,
      uses,
      repository,
      namedPorts,
      enforcement,
      message,
      tables.cookies,
    );
  }

  /** The same pair with some uses thought away. */
  without(uses: Iterable<PeerUse>): PairState {
    const without = new Set(uses);
    return PairState.of(this.#repository, this.subject, this.remote, {
      namedPorts: this.#namedPorts,
      enforcement: this.enforcement,
      without,
    });
  }

  /** The rule behind a cookie of this state. */
  rule(cookie: number): Rule | undefined {
    return this.#cookies.get(cookie);
  }

  /** Whether the peers of a use are the remote identity, whatever their ports. */
  means(use: PeerUse): boolean {
    return this.#repository.selectors.means(use.selector, this.remote);
  }

  /** Prefixes that a use is about, exceptions apart: its own, or those of the objects that it names. */
  addressesOf(use: PeerUse): Prefix[] {
    const { selector } = use.peer;
    return selector.type === "cidr"
      ? [selector.prefix]
      : this.sourcesOf(use).flatMap(({ prefixes }) => prefixes);
  }

  /** Objects that a use names. */
  sourcesOf({ peer: { selector } }: PeerUse): PeerSource[] {
    return selector.type === "source" ? [...this.#repository.selectors.sourcesOf(selector)] : [];
  }

  /** The uses behind a cookie. */
  usesOf(cookie: number): PeerUse[] {
    const sources = this.rule(cookie)?.sources ?? [];
    return this.uses.filter((use) =>
      sources.some((source) => source.policy === use.source.policy && source.path === use.source.path)
    );
  }
}

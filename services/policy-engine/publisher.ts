/**
 * The repository's output as tables that can be listed and watched.
 * @module
 */
import { type Clock, type MetricsRegistry, randomEpoch, WatchedTable } from "@weir/common";
import type { CidrIdentity, FqdnSelector, Rule } from "@weir/proto/policy";
import { COOKIES_MAX } from "./cookie_registry.ts";
import { isFqdnText } from "./fqdn_selector.ts";
import { MapStateTable } from "./map_state_table.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import { RULE_SETS_MAX } from "./rule_set_registry.ts";

/** The tables that nodes follow. They share one counter: a revision says how far a reader is in all of them. */
export class Publisher {
  readonly mapStates: MapStateTable;
  readonly cidrIdentities: WatchedTable<CidrIdentity>;
  readonly fqdnSelectors: WatchedTable<FqdnSelector>;
  readonly rules: WatchedTable<Rule>;
  readonly #published;
  readonly #gauges;

  /** The policy set that is shown; 0: none yet. */
  policyRevision = 0;
  /** Tells these tables from those of another process, or of another replica. */
  readonly epoch: string = randomEpoch();
  readonly #repository: PolicyRepository;
  #revision: number;
  /** Prefixes and selectors of names that go, or change their number, while all map states stay as they are: they stay too until those move. */
  readonly #withheld = new Set<string>();

  /** @param clock its wall clock makes the revisions of a later process the higher ones */
  constructor(repository: PolicyRepository, metrics: MetricsRegistry, clock: Clock) {
    this.#repository = repository;
    this.#revision = Math.floor(clock.nowMs()) * 1000;
    const common = { revision: this.#revision, epoch: this.epoch };
    this.mapStates = new MapStateTable(common);
    this.cidrIdentities = new WatchedTable({ name: "cidridentities", ...common });
    this.fqdnSelectors = new WatchedTable({ name: "fqdnselectors", ...common });
    const entriesMax = COOKIES_MAX * 2;
    this.rules = new WatchedTable({ name: "rules", entriesMax, historyMax: 16_384, ...common });
    this.#published = metrics.counter(
      "weir_policy_map_states_published_total",
      "Map states that changed",
    );
    this.#gauges = {
      policies: metrics.gauge("weir_policy_policies", "Policies in force"),
      selectors: metrics.gauge("weir_policy_selectors", "Different selectors in use"),
      identities: metrics.gauge("weir_policy_identities", "Identities known"),
      groups: metrics.gauge("weir_policy_groups", "Different policies among the subjects"),
      resolutions: metrics.gauge(
        "weir_policy_identity_resolutions",
        "Remote identities resolved since the start",
      ),
    };
  }

  /**
   * Puts everything that changed into the tables: rules before the map states that name their cookies. Map states say
   * themselves which prefixes they were made with.
   * @param isBehind nodes have newer policies in force: what was published before is as old as what is known now
   * @returns the revision at which all tables say it
   */
  publish(isBehind = false): number {
    const repository = this.#repository;
    const swept = repository.cookies.full || repository.ruleSets.size > RULE_SETS_MAX
      ? repository.sweepCookies()
      : [];
    const changes = repository.takeChanges();
    this.policyRevision = repository.policyRevision;
    for (const cookie of changes.cookies) {
      const rule = repository.cookies.get(cookie);
      if (rule) this.rules.put(String(cookie), rule, ++this.#revision);
    }
    const isOther = (text: string) =>
      this.#tableOf(text).get(text)?.identity !== this.#mentioned(text)?.identity;
    for (const text of changes.removedPrefixes) this.#withheld.add(text);
    const added = new Set(changes.addedPrefixes);
    if (!repository.holdsEverybody) {
      for (const text of this.#withheld) {
        if (isOther(text)) this.#tableOf(text).delete(text, ++this.#revision);
        added.add(text);
      }
      this.#withheld.clear();
    }
    const written = this.mapStates.write(repository, changes, { revision: this.#revision, isBehind });
    this.#revision = written.revision;
    this.#published.increment(undefined, written.count);
    for (const text of added) {
      const mentioned = this.#mentioned(text);
      if (!mentioned || !isOther(text)) continue;
      if (repository.holdsEverybody && this.#tableOf(text).has(text)) this.#withheld.add(text);
      else if ("prefix" in mentioned) this.cidrIdentities.put(text, mentioned, ++this.#revision);
      else this.fqdnSelectors.put(text, mentioned, ++this.#revision);
    }
    for (const subject of changes.removedSubjects) this.mapStates.delete(subject, ++this.#revision);
    this.#revision = this.mapStates.publishKnown(this.#revision);
    for (const cookie of swept) {
      if (!repository.cookies.get(cookie)) this.rules.delete(String(cookie), ++this.#revision);
    }
    for (const table of [this.rules, this.cidrIdentities, this.fqdnSelectors, this.mapStates]) {
      table.advance(this.#revision);
    }
    this.#gauges.policies.set(repository.policyCount);
    this.#gauges.selectors.set(repository.selectors.size);
    this.#gauges.identities.set(repository.selectors.identityCount);
    this.#gauges.groups.set(repository.groupCount);
    this.#gauges.resolutions.set(repository.work.identitiesResolved);
    return this.#revision;
  }

  #tableOf(text: string): WatchedTable<CidrIdentity> | WatchedTable<FqdnSelector> {
    return isFqdnText(text) ? this.fqdnSelectors : this.cidrIdentities;
  }

  #mentioned(text: string): CidrIdentity | FqdnSelector | undefined {
    const repository = this.#repository;
    return isFqdnText(text) ? repository.fqdnSelector(text) : repository.cidrIdentity(text);
  }

  /** Tells every reader how far the tables are, also those for whom nothing changed. */
  announce(): void {
    this.cidrIdentities.announce();
    this.fqdnSelectors.announce();
    this.mapStates.announce();
  }
}

/**
 * The repository's output as tables that can be listed and watched.
 * @module
 */
import { type MetricsRegistry, WatchedTable } from "@weir/common";
import type { CidrIdentity, MapState, Rule } from "@weir/proto/policy";
import { COOKIES_MAX } from "./cookie_registry.ts";
import type { PolicyRepository } from "./policy_repository.ts";

/** Changes of map states that are held for watchers: each may be large. */
const MAP_STATE_HISTORY_MAX = 2048;

/** See the module comment. */
export class Publisher {
  readonly mapStates: WatchedTable<MapState> = new WatchedTable({
    name: "mapstates",
    historyMax: MAP_STATE_HISTORY_MAX,
  });
  readonly cidrIdentities: WatchedTable<CidrIdentity> = new WatchedTable({ name: "cidridentities" });
  readonly rules: WatchedTable<Rule> = new WatchedTable({
    name: "rules",
    entriesMax: COOKIES_MAX * 2,
    historyMax: 16_384,
  });
  readonly #published;
  readonly #gauges;

  constructor(private readonly repository: PolicyRepository, metrics: MetricsRegistry) {
    this.#published = metrics.counter(
      "weir_policy_map_states_published_total",
      "Map states given to watchers",
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
   * Puts everything that changed into the tables: rules before the map states that name their cookies, a new prefix
   * after the map states that know its identity and a prefix that is gone before them. A reader that applies the
   * streams in this order never has an address whose identity its policy does not know.
   */
  publish(): void {
    const { repository } = this;
    const changes = repository.takeChanges();
    for (const cookie of changes.cookies) {
      const rule = repository.cookies.get(cookie);
      if (rule) this.rules.put(String(cookie), rule);
    }
    for (const prefix of changes.removedPrefixes) this.cidrIdentities.delete(prefix);
    for (const subject of changes.mapStates) this.#publishMapState(subject);
    for (const prefix of changes.addedPrefixes) {
      const identity = repository.cidrIdentity(prefix);
      if (identity) this.cidrIdentities.put(prefix, identity);
    }
    for (const subject of changes.removedSubjects) this.mapStates.delete(String(subject));
    if (repository.cookies.full) {
      for (const cookie of repository.sweepCookies()) this.rules.delete(String(cookie));
    }
    this.#gauges.policies.set(repository.policyCount);
    this.#gauges.selectors.set(repository.selectors.size);
    this.#gauges.identities.set(repository.selectors.identityCount);
    this.#gauges.groups.set(repository.groupCount);
    this.#gauges.resolutions.set(repository.work.identitiesResolved);
  }

  #publishMapState(subject: number): void {
    const state = this.repository.mapState(subject);
    if (!state) return;
    const before = state.error === "" ? undefined : this.mapStates.get(String(subject));
    // A state that cannot be resolved keeps what was in force and says what is wrong.
    this.mapStates.put(String(subject), before ? { ...before, error: state.error } : state);
    this.#published.increment();
  }
}

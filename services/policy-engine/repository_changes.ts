/**
 * What a repository has changed and nobody was told of yet.
 * @module
 */
import type { EntryLayer } from "./entry_layer.ts";
import type { PolicyGroup } from "./policy_group.ts";

/** What changed since the last call of `PolicyRepository.takeChanges`. Names may repeat a change; all are sets. */
export interface RepositoryChanges {
  /** Subjects whose map state is new or different. */
  readonly mapStates: ReadonlySet<number>;
  /** Of these, those who are new, are in another group, or may not be told what their group has. */
  readonly subjects: ReadonlySet<number>;
  /** Groups that have changed: each gives all of its subjects something new. */
  readonly groups: ReadonlySet<PolicyGroup>;
  /** Subjects that are gone. */
  readonly removedSubjects: ReadonlySet<number>;
  /**
   * Prefixes and selectors of names (by their texts) whose identity is new, and those whose is gone; one that moved to another
   * number is in both.
   */
  readonly addedPrefixes: ReadonlySet<string>;
  readonly removedPrefixes: ReadonlySet<string>;
  /** Cookies that are new or say something else. */
  readonly cookies: readonly number[];
}

/** Changes that pile up until they are taken. */
export class PendingChanges {
  readonly groups: Set<PolicyGroup> = new Set();
  /** With every group that lies on them. */
  readonly layers: Set<EntryLayer> = new Set();
  readonly subjects: Set<number> = new Set();
  readonly removedSubjects: Set<number> = new Set();
  readonly addedPrefixes: Set<string> = new Set();
  readonly removedPrefixes: Set<string> = new Set();

  /** All of them, which are told from then on. @param all every group that there is */
  take(all: Iterable<PolicyGroup>, cookies: readonly number[]): RepositoryChanges {
    if (this.layers.size > 0) {
      for (const group of all) {
        if (this.layers.has(group.layer) || group.layer.liesOn(this.layers)) this.groups.add(group);
      }
    }
    const subjects = new Set(this.subjects), groups = new Set(this.groups);
    const changes: RepositoryChanges = {
      get mapStates() {
        const all = new Set(subjects);
        for (const group of groups) for (const subject of group.subjects) all.add(subject);
        return all;
      },
      subjects,
      groups,
      removedSubjects: new Set(this.removedSubjects),
      addedPrefixes: new Set(this.addedPrefixes),
      removedPrefixes: new Set(this.removedPrefixes),
      cookies,
    };
    this.groups.clear();
    this.layers.clear();
    this.subjects.clear();
    this.removedSubjects.clear();
    this.addedPrefixes.clear();
    this.removedPrefixes.clear();
    return changes;
  }
}

/**
 * The map states as a table that can be listed and watched. What a group of subjects gets is written once for all of them,
 * and a map state is made when somebody reads it: what a rule for everyone changes costs a few groups, not a message each.
 *
 *     subject 256 ─┐                                     revision of a map state: the greater of
 *     subject 257 ─┼─▶ what their group has, from 41 on    its own (256 came at 43) and
 *     subject 300 ─┘                                       41 + its place (each subject has another)
 *
 * A watcher is told of each subject as it is now; what lay between is not kept. Beside them, and only by their names, it has the pages
 * of known identities (`known_pages.ts`).
 * @module
 */
import {
  type Change,
  NAME_INDEX,
  randomEpoch,
  type TableObserver,
  type TablePage,
  type Watchable,
} from "@weir/common";
import { MapState } from "@weir/proto/policy";
import { KnownPages } from "./known_pages.ts";
import type { GroupState, PolicyGroup } from "./policy_group.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import type { RepositoryChanges } from "./repository_changes.ts";

/** Deletions that are held for watchers. */
const DELETIONS_MAX = 4096;
/** More changes at once than this share of the subjects are not told one by one. */
const MANY_SHARE = 1 / 8;

/** What the table knows of a group. */
interface Published {
  readonly group: PolicyGroup;
  /** The policy set that its entries, as they are shown, were made from. */
  policyRevision: number;
  /** Its subjects keep what they had. */
  isFaulty: boolean;
  /** Its last change was at this revision, plus the place of each subject, plus one. */
  since: number;
}

/** Why a subject does not get what its group has, and what it keeps meanwhile; it is closed where there was nothing. */
interface Kept {
  readonly error: string;
  readonly of?: { readonly state: GroupState; readonly policyRevision: number };
}

interface Subject {
  readonly number: number;
  readonly name: string;
  readonly place: number;
  published: Published;
  /** When something but its group's entries changed. */
  revision: number;
  policyRevision: number;
  kept?: Kept;
  /** The newest PUT, as long as somebody uses it. */
  put?: WeakRef<Change<MapState>>;
}

/** The map states of all subjects, made when they are read. */
export class MapStateTable implements Watchable<MapState> {
  readonly name = "mapstates";
  readonly pending = false;
  readonly epoch: string;
  readonly order: string = randomEpoch();
  readonly #subjects = new Map<string, Subject>();
  readonly #places: (Subject | undefined)[] = [];
  readonly #freePlaces: number[] = [];
  readonly #groups = new WeakMap<PolicyGroup, Published>();
  /** The newest deletion of each subject that is gone, oldest first. */
  readonly #deletions = new Map<string, Change<MapState>>();
  readonly #observers = new Set<TableObserver<MapState>>();
  readonly #known = new KnownPages();
  #revision: number;
  #oldest: number;

  constructor(options: { revision: number; epoch: string }) {
    this.epoch = options.epoch;
    this.#revision = this.#oldest = options.revision;
  }

  get revision(): number {
    return this.#revision;
  }
  get oldestRevision(): number {
    return this.#oldest;
  }
  /** Number of subjects. */
  get size(): number {
    return this.#subjects.size;
  }

  get(name: string): MapState | undefined {
    return this.putOf(name)?.value;
  }
  putOf(name: string): Change<MapState> | undefined {
    const subject = this.#subjects.get(name);
    return subject ? putOf(subject) : this.#known.putOf(name);
  }
  list(): MapState[] {
    return this.puts().map(({ value }) => value!);
  }
  puts(): Change<MapState>[] {
    return Array.from(this.#subjects.values(), putOf);
  }
  page(from: number, max: number, filter?: (value: MapState) => boolean): TablePage<MapState> {
    const puts: Change<MapState>[] = [];
    for (let place = from; place < this.#places.length; place++) {
      const subject = this.#places[place];
      if (subject === undefined) continue;
      const put = putOf(subject);
      if (filter?.(put.value!) === false) continue;
      if (puts.length >= max) return { puts, next: place };
      puts.push(put);
    }
    return { puts };
  }

  holds({ revision, epoch }: { revision: number; epoch?: string }): boolean {
    if (revision < this.#oldest || revision > this.#revision) return false;
    return epoch === undefined || epoch === "" || epoch === this.epoch;
  }
  changesSince(revision: number, max = 256): Change<MapState>[] | undefined {
    if (!this.holds({ revision })) return undefined;
    return revision === this.#revision ? [] : this.#newest(revision, undefined, max);
  }
  changesByKeys(
    revision: number,
    index: string,
    keys: Iterable<string>,
    max = 256,
  ): Change<MapState>[] | undefined {
    this.index(index);
    return this.holds({ revision }) ? this.#newest(revision, new Set(keys), max) : undefined;
  }
  countSince(revision: number): number {
    let count = 0;
    for (const subject of this.#subjects.values()) if (revisionOf(subject) > revision) count++;
    for (const deletion of this.#deletions.values()) if (deletion.revision > revision) count++;
    return count;
  }

  /** Both keys of a map state are its name. */
  index(name: string): void {
    if (name !== NAME_INDEX && name !== "identity") throw new Error(`Map states have no index ${name}`);
  }
  /** Nothing is held for watchers that are behind. */
  trim(): void {}
  observe(observer: TableObserver<MapState>): () => void {
    this.#observers.add(observer);
    return () => this.#observers.delete(observer);
  }
  /** Sends SYNCED to every watcher at once, also to those whose objects did not change. */
  announce(): void {
    for (const observer of this.#observers) observer.announced();
  }
  /** Moves to `revision` without a change: a table with the same counter has changed. */
  advance(revision: number): void {
    this.#revision = Math.max(this.#revision, revision);
  }

  /**
   * Takes over what changed in the repository. A subject that cannot be given what its group has keeps what it had, with
   * why; where the engine is behind what is in force at nodes, what it had is as old, and it is closed.
   * @param at the revision from which on it is written
   * @returns the revision of the last change, and how many map states changed
   */
  write(
    repository: PolicyRepository,
    changes: Pick<RepositoryChanges, "subjects" | "groups">,
    at: { revision: number; isBehind: boolean },
  ): { revision: number; count: number } {
    const { policyRevision } = repository, since = Math.max(at.revision, this.#revision);
    const own = new Set(changes.subjects);
    let count = own.size;
    for (const group of changes.groups) {
      count += group.subjects.size;
      // Whether its subjects keep what they had is decided for each, as long as that may be so for one of them.
      const isDoubtful = group.isFaulty || this.#groups.get(group)?.isFaulty;
      if (isDoubtful) { for (const subject of group.subjects) own.add(subject); }
    }
    const areMany = count > this.#subjects.size * MANY_SHARE;
    if (!areMany) {
      for (const group of changes.groups) {
        for (const subject of group.subjects) own.add(subject);
      }
    }
    const kept = new Map<number, Kept>();
    for (const subject of own) {
      const why = this.#whyKept(repository, subject, at.isBehind);
      if (why) kept.set(subject, why);
    }
    for (const group of changes.groups) {
      const published = this.#published(group);
      group.show();
      published.policyRevision = policyRevision;
      published.isFaulty = group.isFaulty;
      if (areMany) published.since = since;
    }
    // Every place has a revision of its own, whether its subject is in a group that changed or not.
    let next = areMany ? since + this.#places.length : since;
    const touched: Subject[] = [];
    for (const number of own) {
      const group = repository.group(number);
      if (group === undefined) continue;
      touched.push(this.#put(number, this.#published(group), {
        revision: ++next,
        policyRevision,
        kept: kept.get(number),
      }));
    }
    this.#revision = next;
    for (const observer of this.#observers) {
      if (areMany) observer.manyChanged(since);
      else for (const subject of touched) observer.changed(putOf(subject));
    }
    return { revision: next, count };
  }

  /** Deletes a subject's map state; false when there is none. */
  delete(number: number, revision: number): boolean {
    const name = String(number), subject = this.#subjects.get(name);
    if (subject === undefined) return false;
    this.#known.note(number, false);
    this.#subjects.delete(name);
    this.#places[subject.place] = undefined;
    this.#freePlaces.push(subject.place);
    this.#revision = revision;
    const previous = MapState.create({ identity: number });
    const change: Change<MapState> = { type: "DELETED", revision, name, previous };
    this.#deletions.set(name, change);
    for (const observer of this.#observers) observer.changed(change);
    if (this.#deletions.size > DELETIONS_MAX) {
      const [oldest, deletion] = this.#deletions.entries().next().value!;
      this.#deletions.delete(oldest);
      this.#oldest = deletion.revision;
    }
    return true;
  }

  /**
   * Says which identities the map states know that were written; to be called after they were.
   * @returns the revision of the last page, or the one given
   */
  publishKnown(revision: number): number {
    let next = Math.max(revision, this.#revision);
    if (!this.#known.isDirty) return next;
    const changes = this.#known.publish(() => ++next);
    this.#revision = next;
    for (const observer of this.#observers) {
      for (const change of changes) observer.changed(change);
      // Who follows a page waits for all that came before it.
      observer.announced();
    }
    return next;
  }

  #whyKept(repository: PolicyRepository, number: number, isBehind: boolean): Kept | undefined {
    const group = repository.group(number);
    const error = repository.holdOf(number) ?? (group?.isFaulty ? group.state().errorOf(number) : "");
    if (error === "") return undefined;
    const subject = this.#subjects.get(String(number));
    if (subject === undefined || isBehind) return { error };
    if (subject.kept) return { error, of: subject.kept.of };
    return {
      error,
      of: { state: subject.published.group.shown(), policyRevision: policyRevisionOf(subject) },
    };
  }

  #published(group: PolicyGroup): Published {
    let published = this.#groups.get(group);
    if (published === undefined) {
      // Its subjects, all new in it, have revisions of their own.
      published = { group, policyRevision: 0, isFaulty: group.isFaulty, since: -Infinity };
      group.show();
      this.#groups.set(group, published);
    }
    return published;
  }

  #put(
    number: number,
    published: Published,
    now: Pick<Subject, "revision" | "policyRevision" | "kept">,
  ): Subject {
    const name = String(number);
    let subject = this.#subjects.get(name);
    if (subject === undefined) {
      const place = this.#freePlaces.pop() ?? this.#places.length;
      subject = { number, name, place, published, ...now };
      this.#known.note(number, true);
      this.#places[place] = subject;
      this.#subjects.set(name, subject);
      this.#deletions.delete(name);
    } else Object.assign(subject, { published, ...now });
    return subject;
  }

  /** The newest change of each of `names` (default all) that has one after `revision`, oldest first. */
  #newest(revision: number, names: ReadonlySet<string> | undefined, max: number): Change<MapState>[] {
    const found: { revision: number; of: Subject | Change<MapState> }[] = [];
    for (const name of names ?? this.#subjects.keys()) {
      const subject = this.#subjects.get(name);
      if (subject && revisionOf(subject) > revision) {
        found.push({ revision: revisionOf(subject), of: subject });
      }
    }
    for (const name of names ?? this.#deletions.keys()) {
      const deletion = this.#deletions.get(name);
      if (deletion && deletion.revision > revision) {
        found.push({ revision: deletion.revision, of: deletion });
      }
    }
    for (const page of this.#known.newest(revision, names ?? [])) {
      found.push({ revision: page.revision, of: page });
    }
    return found.sort((a, b) => a.revision - b.revision).slice(0, max)
      .map(({ of }) => "type" in of ? of : putOf(of));
  }
}

/** Revision at which a subject's map state last changed. */
function revisionOf({ kept, revision, published, place }: Subject): number {
  return kept === undefined ? Math.max(revision, published.since + place + 1) : revision;
}

function policyRevisionOf({ policyRevision, published }: Subject): number {
  return Math.max(policyRevision, published.policyRevision);
}

function putOf(subject: Subject): Change<MapState> {
  const revision = revisionOf(subject), known = subject.put?.deref();
  if (known?.revision === revision) return known;
  const { number, name, published, kept } = subject;
  let value: MapState;
  if (kept === undefined) value = published.group.shown().mapState(number, policyRevisionOf(subject));
  else if (kept.of) value = kept.of.state.mapState(number, kept.of.policyRevision, kept.error);
  else value = published.group.shown().closed(number, policyRevisionOf(subject), kept.error);
  const put: Change<MapState> = { type: "PUT", revision, name, value };
  subject.put = new WeakRef(put);
  return put;
}

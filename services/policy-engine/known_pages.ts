/**
 * Which identities the published map states were made with, in pages of 256 numbers that can be watched by their names beside map
 * states, in the same order: a reader that has a page has every map state that knows its identities. Nodes let an address in
 * only then (endpoint-manager/identity_order.ts); a map state itself does not say whom it does not mention.
 * @module
 */
import { type Change, knownPageOf } from "@weir/common";
import { MapState } from "@weir/proto/policy";

interface Page {
  readonly name: string;
  readonly identities: Set<number>;
  revision: number;
  put?: Change<MapState>;
}

/** The pages. */
export class KnownPages {
  readonly #pages = new Map<string, Page>();
  readonly #changed = new Set<Page>();

  /** True when something was noted that is not published. */
  get isDirty(): boolean {
    return this.#changed.size > 0;
  }

  /** Map states know the identity from now on, or do not any more. */
  note(identity: number, isKnown: boolean): void {
    const name = knownPageOf(identity);
    let page = this.#pages.get(name);
    if (page === undefined) this.#pages.set(name, page = { name, identities: new Set(), revision: 0 });
    if (page.identities.has(identity) === isKnown) return;
    if (isKnown) page.identities.add(identity);
    else page.identities.delete(identity);
    this.#changed.add(page);
  }

  /** Publishes what was noted, each page at the next revision. */
  publish(nextRevision: () => number): Change<MapState>[] {
    const changes: Change<MapState>[] = [];
    for (const page of this.#changed) {
      page.revision = nextRevision();
      page.put = undefined;
      changes.push(putOf(page));
    }
    this.#changed.clear();
    return changes;
  }

  putOf(name: string): Change<MapState> | undefined {
    const page = this.#pages.get(name);
    return page && page.revision > 0 ? putOf(page) : undefined;
  }

  /** The pages of these names that were published after a revision. */
  newest(revision: number, names: Iterable<string>): Change<MapState>[] {
    const found: Change<MapState>[] = [];
    for (const name of names) {
      const page = this.#pages.get(name);
      if (page && page.revision > revision) found.push(putOf(page));
    }
    return found;
  }
}

function putOf(page: Page): Change<MapState> {
  return page.put ??= {
    type: "PUT",
    revision: page.revision,
    name: page.name,
    value: MapState.create({ knownIdentities: [...page.identities].sort((a, b) => a - b) }),
  };
}

/**
 * What the map's pieces read: each card and the canvas follow it by themselves, so that new rates draw the cards that changed and
 * nothing else.
 * @module
 */
import { createContext, useContext, useRef, useSyncExternalStore } from "react";
import type { Card } from "../../api.ts";
import type { MapState } from "../model/map_state.ts";
import type { Placement } from "../model/placement.ts";
import type { Island, VisibleGraph } from "../model/visible_graph.ts";

/** All that is drawn. */
export interface MapView {
  readonly state: MapState;
  readonly graph: VisibleGraph;
  readonly placement: Placement;
}

/** Holds the newest view, and what the pointer or the focus is on. */
export class MapStore {
  #view: MapView | undefined;
  #focus = "";
  #near: ReadonlySet<string> | undefined;
  #selected = "";
  readonly #listeners = new Set<() => void>();

  get view(): MapView | undefined {
    return this.#view;
  }
  /** Id of the node or edge under the pointer; "" of none. */
  get focus(): string {
    return this.#focus;
  }
  get selected(): string {
    return this.#selected;
  }

  /** What is looked at and its neighbours; undefined while nothing is. */
  get near(): ReadonlySet<string> | undefined {
    return this.#near;
  }

  setView(view: MapView | undefined): void {
    this.#view = view;
    this.#tell();
  }
  setFocus(id: string): void {
    if (id === this.#focus) return;
    this.#focus = id;
    this.#tell();
  }
  setSelected(id: string): void {
    if (id === this.#selected) return;
    this.#selected = id;
    this.#tell();
  }

  readonly subscribe = (listener: () => void): () => void => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #tell(): void {
    const focus = this.#focus || this.#selected;
    if (focus === "") this.#near = undefined;
    else {
      const near = new Set([focus]);
      for (const { id, from, to } of this.#view?.graph.edges ?? []) {
        if (from === focus || to === focus || id === focus) near.add(from).add(to);
      }
      this.#near = near;
    }
    for (const listener of this.#listeners) listener();
  }
}

export const MapStoreContext = createContext<MapStore>(new MapStore());
export const useMapStore = (): MapStore => useContext(MapStoreContext);

/**
 * A card; undefined once it is gone.
 * @param isNear Its numbers can be read: it is drawn anew with each. Else only when it begins or ends to drop: a thousand cards
 * stand in sight then.
 */
export function useCard(id: string, isNear: boolean): Card | undefined {
  const store = useMapStore(), kept = useRef<Card | undefined>(undefined);
  return useSyncExternalStore(store.subscribe, () => {
    const card = store.view?.state.cards.get(id), old = kept.current;
    const isSame = !isNear && card && old && card.name === old.name && hasDrops(card) === hasDrops(old);
    return isSame ? old : kept.current = card;
  });
}

export const hasDrops = (card: Card): boolean => card.droppedIn + card.droppedOut > 0;

/** Of an island only what it is called by, and how many cards it has: that changes seldom. */
export function useIslandText(id: string): { name: string; cards: number; closed: boolean; drops: boolean } {
  const store = useMapStore();
  const text = useSyncExternalStore(store.subscribe, () => textOf(store.view?.graph.islands.get(id)));
  const [name, cards, closed, drops] = text.split("\n");
  return { name, cards: Number(cards), closed: closed === "1", drops: drops === "1" };
}

function textOf(island: Island | undefined): string {
  if (!island) return "\n0\n0\n0";
  const drops = island.cards.some(hasDrops);
  return `${island.name}\n${island.cards.length}\n${island.closed ? 1 : 0}\n${drops ? 1 : 0}`;
}

/** Whether a node is what the reader looks at, or a neighbour of it. */
export function useNear(id: string): boolean {
  const store = useMapStore();
  return useSyncExternalStore(store.subscribe, () => store.near?.has(id) ?? false);
}

/** Whether a node is the selected one. */
export function useSelected(id: string): boolean {
  const store = useMapStore();
  return useSyncExternalStore(store.subscribe, () => store.selected === id);
}

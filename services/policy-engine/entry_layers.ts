/**
 * The layers of entries that groups of subjects lie on, each there once however many lie on it, and which of them a change of peers
 * concerns.
 * @module
 */
import type { CompiledRule } from "./compiled_rule.ts";
import { EntryLayer, LAYER_RANKS, type LayerTools, rankOf } from "./entry_layer.ts";
import type { CachedSelector } from "./cached_selector.ts";

/** All layers of a repository. */
export class EntryLayers {
  readonly #tools: LayerTools;
  readonly #layers = new Map<string, EntryLayer>();
  /** By the peer selectors that rules of their own use. */
  readonly #bySelector = new Map<string, Set<EntryLayer>>();
  /** Layers whose entries depend on the peers' port names, whatever selectors mean them. */
  readonly #named = new Set<EntryLayer>();

  constructor(tools: LayerTools) {
    this.#tools = tools;
  }

  /**
   * The topmost layer of a set of rules; each call is undone by one release.
   * @param before the topmost layer of rules that are almost the same
   */
  take(rules: readonly CompiledRule[], before: EntryLayer | undefined): EntryLayer {
    const byRank = Map.groupBy(rules, rankOf);
    let layer: EntryLayer | undefined, key = "";
    for (let rank = 0; rank < LAYER_RANKS; rank++) {
      const own = byRank.get(rank);
      if (own === undefined && (layer !== undefined || rank < LAYER_RANKS - 1)) continue;
      key += `${own?.map((rule) => rule.serial).join(",") ?? ""}/`;
      let like = before;
      while (like !== undefined && like.rank !== rank) like = like.parent;
      const parent: EntryLayer | undefined = layer;
      layer = this.#layers.get(key) ??
        this.#add(new EntryLayer(key, rank, own ?? [], parent, this.#tools, like));
    }
    layer!.users++;
    return layer!;
  }

  #add(layer: EntryLayer): EntryLayer {
    const { key, parent } = layer;
    if (parent) parent.users++;
    this.#layers.set(key, layer);
    if (layer.namesEveryone) this.#named.add(layer);
    for (const selector of layer.selectorKeys()) {
      const layers = this.#bySelector.get(selector);
      if (layers) layers.add(layer);
      else this.#bySelector.set(selector, new Set([layer]));
    }
    return layer;
  }

  /** Undoes one {@link take}. @returns layers that nobody lies on any more */
  release(layer: EntryLayer): EntryLayer[] {
    const gone: EntryLayer[] = [];
    for (let at: EntryLayer | undefined = layer; at !== undefined && --at.users <= 0; at = at.parent) {
      gone.push(at);
      this.#layers.delete(at.key);
      this.#named.delete(at);
      for (const selector of at.selectorKeys()) {
        const layers = this.#bySelector.get(selector);
        layers?.delete(at);
        if (layers?.size === 0) this.#bySelector.delete(selector);
      }
    }
    return gone;
  }

  /** Every layer that somebody lies on. */
  all(): IterableIterator<EntryLayer> {
    return this.#layers.values();
  }

  /** Layers with a rule of their own that uses a peer selector. */
  of({ key }: CachedSelector): Iterable<EntryLayer> {
    return this.#bySelector.get(key) ?? [];
  }

  /** Layers whose entries depend on these peer selectors. */
  using(selectors: Iterable<CachedSelector>): Set<EntryLayer> {
    const layers = new Set(this.#named);
    for (const selector of selectors) {
      for (const layer of this.of(selector)) layers.add(layer);
    }
    return layers;
  }
}

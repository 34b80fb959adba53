/**
 * What of the map is seen: cards in islands, closed islands as one box each, and the edges between them. Pure.
 * @module
 */
import type { Card, Edge, EdgeVerdict } from "../../api.ts";
import type { MapState } from "./map_state.ts";

/** Above so many cards islands are closed until somebody opens them. */
export const OPEN_CARDS_MAX = 120;

/** A box: a card, or an island that is closed. */
export interface VisibleNode {
  /** The card's id, or the island's. */
  readonly id: string;
  readonly island: string;
  /** undefined for a closed island. */
  readonly card: Card | undefined;
}

/** Cards that belong together. */
export interface Island {
  /** "ns:shop". */
  readonly id: string;
  readonly name: string;
  readonly closed: boolean;
  readonly cards: readonly Card[];
}

/** One or more edges between two boxes. */
export interface VisibleEdge {
  /** "FROM>TO". */
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly verdict: EdgeVerdict;
  readonly rate: number;
  readonly dropRate: number;
  readonly edges: readonly Edge[];
}

/** All that is drawn. */
export interface VisibleGraph {
  readonly islands: ReadonlyMap<string, Island>;
  readonly nodes: ReadonlyMap<string, VisibleNode>;
  readonly edges: readonly VisibleEdge[];
  /** Whether islands are closed by default, for there are too many cards. */
  readonly manyCards: boolean;
}

/** The island of a card; "" of one that stands alone (world, host, DNS names, and all when grouped otherwise). */
export function islandOf(card: Card): string {
  return card.kind === "workload" && card.namespace !== "" ? `ns:${card.namespace}` : "";
}

/**
 * @param choices Islands that a reader closed or opened: "-ns:shop", "+ns:shop"; the last word about one counts.
 */
export function visibleGraph(
  state: Pick<MapState, "cards" | "edges">,
  choices: readonly string[],
): VisibleGraph {
  const manyCards = state.cards.size > OPEN_CARDS_MAX;
  const chosen = new Map(choices.map((choice) => [choice.slice(1), choice[0] === "-"]));
  const members = new Map<string, Card[]>();
  for (const card of state.cards.values()) {
    const island = islandOf(card);
    if (island === "") continue;
    const cards = members.get(island);
    if (cards) cards.push(card);
    else members.set(island, [card]);
  }
  const islands = new Map<string, Island>();
  for (const [id, cards] of members) {
    islands.set(id, { id, name: id.slice(3), closed: chosen.get(id) ?? manyCards, cards });
  }
  const nodes = new Map<string, VisibleNode>();
  const shownAs = new Map<string, string>();
  for (const card of state.cards.values()) {
    const island = islandOf(card);
    const id = island !== "" && islands.get(island)!.closed ? island : card.id;
    shownAs.set(card.id, id);
    if (id === card.id) nodes.set(id, { id, island, card });
    else if (!nodes.has(id)) nodes.set(id, { id, island, card: undefined });
  }
  return { islands, nodes, edges: visibleEdges(state.edges.values(), shownAs), manyCards };
}

function visibleEdges(edges: Iterable<Edge>, shownAs: ReadonlyMap<string, string>): VisibleEdge[] {
  const between = new Map<string, Edge[]>();
  for (const edge of edges) {
    const from = shownAs.get(edge.from), to = shownAs.get(edge.to);
    if (from === undefined || to === undefined) continue;
    // Inside of a closed island; but what speaks to itself is shown.
    if (from === to && from !== edge.from) continue;
    const id = `${from}>${to}`;
    const same = between.get(id);
    if (same) same.push(edge);
    else between.set(id, [edge]);
  }
  return [...between].map(([id, same]) => ({
    id,
    from: shownAs.get(same[0].from)!,
    to: shownAs.get(same[0].to)!,
    verdict: joinVerdicts(same.map((edge) => edge.verdict)),
    rate: same.reduce((sum, edge) => sum + edge.rate, 0),
    dropRate: same.reduce((sum, edge) => sum + edge.dropRate, 0),
    edges: same,
  }));
}

/** The verdict of several edges in one. */
export function joinVerdicts(verdicts: readonly EdgeVerdict[]): EdgeVerdict {
  const has = (verdict: EdgeVerdict) => verdicts.includes(verdict);
  if (verdicts.every((verdict) => verdict === verdicts[0])) return verdicts[0] ?? "allowed";
  if (has("mixed") || has("dropped")) return "mixed";
  return has("error") ? "error" : "audited";
}

/**
 * The map as the page holds it: cards and edges by id, changed by the server's differences. A state is never changed in
 * place, so that whoever holds an older one may go on drawing it.
 * @module
 */
import type { Card, Completeness, Edge, MapDifference, MapSnapshot } from "../../api.ts";

/** Cards and edges at one moment. */
export interface MapState {
  readonly cards: ReadonlyMap<string, Card>;
  readonly edges: ReadonlyMap<string, Edge>;
  readonly foldedCards: number;
  readonly foldedEdges: number;
  readonly completeness: Completeness;
  readonly sinceUnixS: number;
  readonly untilUnixS: number;
  /** Changes when a card or edge came or went: then, and only then, there is something to place. */
  readonly structure: number;
}

/** More than the server's maxima: what is above is not taken from a server that keeps none. */
const CARDS_MAX = 5000;
const EDGES_MAX = 20_000;

let structures = 0;

/** A whole map. */
export function mapStateOf(snapshot: MapSnapshot): MapState {
  const cards = new Map(snapshot.cards.slice(0, CARDS_MAX).map((card) => [card.id, card]));
  return {
    cards,
    edges: withEnds(new Map(snapshot.edges.slice(0, EDGES_MAX).map((edge) => [edge.id, edge])), cards),
    foldedCards: snapshot.foldedCards,
    foldedEdges: snapshot.foldedEdges,
    completeness: snapshot.completeness,
    sinceUnixS: snapshot.sinceUnixS,
    untilUnixS: snapshot.untilUnixS,
    structure: ++structures,
  };
}

/** The map after the differences, in their order. What did not change is the same object as before. */
export function applyDifferences(state: MapState, differences: readonly MapDifference[]): MapState {
  if (differences.length === 0) return state;
  const cards = new Map(state.cards), edges = new Map(state.edges);
  let structure = false;
  for (const difference of differences) {
    for (const id of difference.goneEdges) structure = edges.delete(id) || structure;
    for (const id of difference.goneCards) structure = cards.delete(id) || structure;
    for (const card of difference.cards) {
      if (!cards.has(card.id)) {
        if (cards.size >= CARDS_MAX) continue;
        structure = true;
      }
      cards.set(card.id, card);
    }
    for (const edge of difference.edges) {
      if (!edges.has(edge.id)) {
        if (edges.size >= EDGES_MAX) continue;
        structure = true;
      }
      edges.set(edge.id, edge);
    }
  }
  const last = differences[differences.length - 1];
  return {
    cards,
    edges: structure ? withEnds(edges, cards) : edges,
    foldedCards: last.foldedCards,
    foldedEdges: last.foldedEdges,
    completeness: last.completeness,
    sinceUnixS: last.sinceUnixS,
    untilUnixS: last.untilUnixS,
    structure: structure ? ++structures : state.structure,
  };
}

/** An edge without one of its cards cannot be drawn. */
function withEnds(edges: Map<string, Edge>, cards: ReadonlyMap<string, Card>): Map<string, Edge> {
  for (const [id, edge] of edges) if (!cards.has(edge.from) || !cards.has(edge.to)) edges.delete(id);
  return edges;
}

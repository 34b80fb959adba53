/**
 * Where boxes stand: the graphs that ELK is given, what comes back, and where a box goes that came later. Two steps, so that
 * the time grows with islands and not with all cards at once: first the cards of each island, then islands as boxes among the
 * cards that stand alone. Pure; lengths are CSS pixels at zoom 1.
 * @module
 */
import type { VisibleEdge, VisibleGraph } from "./visible_graph.ts";

/** A rectangle. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Boxes of nodes and of open islands, by id. */
export interface Placement {
  readonly nodes: ReadonlyMap<string, Box>;
  readonly islands: ReadonlyMap<string, Box>;
}

/** What ELK takes and gives, as far as it is used. */
export interface ElkGraph {
  id: string;
  layoutOptions?: Record<string, string>;
  x?: number;
  y?: number;
  width?: number;
  height?: number;
  children?: ElkGraph[];
  edges?: { id: string; sources: string[]; targets: string[] }[];
}

export const CARD_WIDTH = 196;
export const CARD_HEAD = 50;
export const PORT_HEIGHT = 22;
export const PORTS_SHOWN_MAX = 4;
export const ISLAND_HEAD = 40;
export const ISLAND_PADDING = 20;
/** Between boxes that were placed without ELK. */
const GAP = 28;

/** Size of a card: its head and a line for each of its busiest ports. */
export function cardSize(ports: number): { width: number; height: number } {
  const rows = Math.min(PORTS_SHOWN_MAX, ports);
  return { width: CARD_WIDTH, height: CARD_HEAD + (rows > 0 ? rows * PORT_HEIGHT + 8 : 0) };
}

/** Size of a node of the graph. */
export function nodeSize(graph: VisibleGraph, id: string): { width: number; height: number } {
  const node = graph.nodes.get(id)!;
  return node.card ? cardSize(node.card.ports.length) : { width: CARD_WIDTH, height: CARD_HEAD + 16 };
}

const LAYERED: Record<string, string> = {
  "elk.algorithm": "layered",
  "elk.direction": "RIGHT",
  "elk.spacing.nodeNode": "26",
  "elk.layered.spacing.nodeNodeBetweenLayers": "80",
  "elk.spacing.componentComponent": "34",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
  "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.aspectRatio": "1.7",
};

/** Above so many edges the slower steps of ELK are left out. */
const EDGES_FAST = 150;
/** Of a graph with more edges than this per node, ELK is given the strongest: its time grows with edges times layers. */
const EDGES_PER_NODE = 2;
const FAST: Record<string, string> = {
  "elk.layered.nodePlacement.strategy": "SIMPLE",
  "elk.layered.thoroughness": "1",
};

const options = (edges: number) => edges > EDGES_FAST ? { ...LAYERED, ...FAST } : LAYERED;

type Pair = readonly [from: string, to: string, rate: number];

/** Without what speaks to itself; each pair once; sorted, so that the same graph is placed the same. */
function elkEdges(pairs: Iterable<Pair>, nodes: number): NonNullable<ElkGraph["edges"]> {
  const ids = new Map<string, Pair>();
  for (const [from, to, rate] of pairs) {
    if (from === to) continue;
    const id = `${from}>${to}`;
    ids.set(id, [from, to, rate + (ids.get(id)?.[2] ?? 0)]);
  }
  let kept = [...ids];
  if (kept.length > EDGES_PER_NODE * nodes) kept = strongest(kept);
  return kept.sort(([a], [b]) => a < b ? -1 : 1).map(([id, [from, to]]) => ({
    id,
    sources: [from],
    targets: [to],
  }));
}

/** The two strongest edges out of each node, and the strongest one into each: nobody loses its place in the order. */
function strongest(edges: [id: string, pair: Pair][]): [id: string, pair: Pair][] {
  const out = new Map<string, number>(), into = new Set<string>();
  return [...edges].sort(([a, x], [b, y]) => y[2] - x[2] || (a < b ? -1 : 1)).filter(([, [from, to]]) => {
    const left = out.get(from) ?? 0;
    if (left >= 2 && into.has(to)) return false;
    out.set(from, left + 1);
    into.add(to);
    return true;
  });
}

const byId = (a: { id: string }, b: { id: string }) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0;

/** First step: the graph of each open island. */
export function islandGraphs(graph: VisibleGraph): ElkGraph[] {
  const children = new Map<string, ElkGraph[]>();
  for (const node of graph.nodes.values()) {
    if (node.island === "" || !node.card) continue;
    const list = children.get(node.island) ?? [];
    list.push({ id: node.id, ...nodeSize(graph, node.id) });
    children.set(node.island, list);
  }
  const inside = new Map<string, Pair[]>();
  for (const { from, to, rate } of graph.edges) {
    const [a, b] = [graph.nodes.get(from)!, graph.nodes.get(to)!];
    if (a.island === "" || a.island !== b.island || !a.card || !b.card) continue;
    const list = inside.get(a.island) ?? [];
    list.push([from, to, rate]);
    inside.set(a.island, list);
  }
  return [...children].map(([id, list]) => {
    const edges = elkEdges(inside.get(id) ?? [], list.length);
    return { id, layoutOptions: options(edges.length), children: list.sort(byId), edges };
  }).sort(byId);
}

/** Second step: islands and lone cards, with the islands' sizes from the first. */
export function outerGraph(graph: VisibleGraph, islands: readonly ElkGraph[]): ElkGraph {
  const open = new Map(islands.map((island) => [island.id, island]));
  const boxOf = (id: string) => {
    const node = graph.nodes.get(id)!;
    return node.card && node.island !== "" ? node.island : id;
  };
  const children: ElkGraph[] = islands.map((island) => ({
    id: island.id,
    width: Math.max(CARD_WIDTH, island.width ?? 0) + 2 * ISLAND_PADDING,
    height: (island.height ?? 0) + ISLAND_HEAD + ISLAND_PADDING,
  }));
  for (const node of graph.nodes.values()) {
    if (!open.has(node.island) || !node.card) children.push({ id: node.id, ...nodeSize(graph, node.id) });
  }
  const edges = elkEdges(
    graph.edges.map(({ from, to, rate }): Pair => [boxOf(from), boxOf(to), rate]),
    children.length,
  );
  return { id: "map", layoutOptions: options(edges.length), children: children.sort(byId), edges };
}

/** The answers of both steps as a placement. */
export function placementOf(outer: ElkGraph, islands: readonly ElkGraph[]): Placement {
  const nodes = new Map<string, Box>(), boxes = new Map<string, Box>();
  const inner = new Map(islands.map((island) => [island.id, island]));
  for (const child of outer.children ?? []) {
    const box = boxOf(child);
    const island = inner.get(child.id);
    if (!island) {
      nodes.set(child.id, box);
      continue;
    }
    boxes.set(child.id, box);
    for (const card of island.children ?? []) {
      const at = boxOf(card);
      nodes.set(card.id, { ...at, x: box.x + ISLAND_PADDING + at.x, y: box.y + ISLAND_HEAD + at.y });
    }
  }
  return { nodes, islands: boxes };
}

const boxOf = ({ x = 0, y = 0, width = 0, height = 0 }: ElkGraph): Box => ({
  x: Math.round(x),
  y: Math.round(y),
  width: Math.round(width),
  height: Math.round(height),
});

/**
 * Places what came later, and forgets what went, without moving anything that stands. A card of an island goes below its
 * other cards, where the island can grow without touching what is beneath; else, and without an island, below the whole map.
 * @returns The same object when nothing came or went.
 */
export function placeNewcomers(placement: Placement, graph: VisibleGraph): Placement {
  const came = [...graph.nodes.keys()].filter((id) => !placement.nodes.has(id));
  const gone = [...placement.nodes.keys()].filter((id) => !graph.nodes.has(id));
  const emptied = [...placement.islands.keys()].filter((id) => graph.islands.get(id)?.closed ?? true);
  if (came.length === 0 && gone.length === 0 && emptied.length === 0) return placement;
  const nodes = new Map(placement.nodes), islands = new Map(placement.islands);
  for (const id of gone) nodes.delete(id);
  for (const id of emptied) islands.delete(id);
  const outside: string[] = [];
  for (const id of came.sort()) {
    const { island } = graph.nodes.get(id)!;
    const box = islands.get(island);
    const size = nodeSize(graph, id);
    const at = box && freePlace(box, size, nodes, islands, island);
    if (!box || !at) {
      outside.push(id);
      continue;
    }
    nodes.set(id, { ...at, ...size });
    const bottom = at.y + size.height + ISLAND_PADDING;
    const right = at.x + size.width + ISLAND_PADDING;
    islands.set(island, {
      ...box,
      width: Math.max(box.width, right - box.x),
      height: Math.max(box.height, bottom - box.y),
    });
  }
  const all = [...nodes.values(), ...islands.values()];
  let x = all.length > 0 ? Math.min(...all.map((box) => box.x)) : 0;
  const y = all.length > 0 ? Math.max(...all.map((box) => box.y + box.height)) + 2 * GAP : 0;
  for (const id of outside) {
    const size = nodeSize(graph, id);
    nodes.set(id, { x, y, ...size });
    x += size.width + GAP;
  }
  return { nodes, islands };
}

/** A free place for a card in its island: in a gap of its rows, else below, as long as the island may grow. */
function freePlace(
  box: Box,
  size: { width: number; height: number },
  nodes: ReadonlyMap<string, Box>,
  islands: ReadonlyMap<string, Box>,
  self: string,
): { x: number; y: number } | undefined {
  const near = [...nodes.values()].filter((other) =>
    overlaps({ ...box, height: box.height + 4000 }, other, GAP)
  );
  const others = [...islands].filter(([id]) => id !== self).map(([, other]) => other);
  const lastY = box.y + box.height + 600;
  for (let y = box.y + ISLAND_HEAD; y < lastY; y += PORT_HEIGHT) {
    for (
      let x = box.x + ISLAND_PADDING;
      x + size.width + ISLAND_PADDING <= box.x + box.width;
      x += CARD_WIDTH / 4
    ) {
      const at = { x, y, ...size };
      if (near.some((other) => overlaps(at, other, GAP - 4))) continue;
      const grown = { ...box, height: Math.max(box.height, y + size.height + ISLAND_PADDING - box.y) };
      if (others.some((other) => overlaps(grown, other, GAP / 2))) return undefined;
      // A lone card that stands below is in the way of the growing island as well.
      if (grown.height > box.height && near.some((o) => o.y >= box.y + box.height && overlaps(grown, o, 4))) {
        return undefined;
      }
      return { x, y };
    }
  }
  return undefined;
}

function overlaps(a: Box, b: Box, gap: number): boolean {
  return a.x < b.x + b.width + gap && b.x < a.x + a.width + gap && a.y < b.y + b.height + gap &&
    b.y < a.y + a.height + gap;
}

/** Whether two boxes of a placement touch: what a placement must never have. For tests. */
export function collisions(placement: Placement): [string, string][] {
  const found: [string, string][] = [];
  const nodes = [...placement.nodes];
  nodes.forEach(([a, boxA], i) => {
    for (const [b, boxB] of nodes.slice(i + 1)) if (overlaps(boxA, boxB, 0)) found.push([a, b]);
  });
  return found;
}

/** Edges that touch a node. */
export function edgesOf(edges: readonly VisibleEdge[], id: string): VisibleEdge[] {
  return edges.filter((edge) => edge.from === id || edge.to === id);
}

import assert from "node:assert/strict";
import type { Card, Edge } from "../../api.ts";
import {
  cardSize,
  collisions,
  type ElkGraph,
  ISLAND_HEAD,
  ISLAND_PADDING,
  islandGraphs,
  outerGraph,
  placementOf,
  placeNewcomers,
} from "./placement.ts";
import { visibleGraph } from "./visible_graph.ts";

const card = (id: string, namespace: string, ports = 1) =>
  ({
    id,
    kind: namespace === "" ? "world" : "workload",
    name: id,
    namespace,
    ports: Array.from({ length: ports }),
  }) as unknown as Card;
const state = (cards: Card[], pairs: [string, string][]) => ({
  cards: new Map(cards.map((c) => [c.id, c])),
  edges: new Map(pairs.map(([from, to]) => {
    const id = `${from}>${to}`;
    return [id, { id, from, to, verdict: "allowed", rate: 1, dropRate: 0 } as Edge];
  })),
});
/** Stands in for ELK: one row. */
const inRow = (graph: ElkGraph): ElkGraph => {
  let x = 0;
  const children = graph.children!.map((child) => {
    const at = { ...child, x, y: 0 };
    x += child.width! + 60;
    return at;
  });
  return { ...graph, children, width: x - 60, height: Math.max(...children.map((c) => c.height!)) };
};
const SHOP = state(
  [card("a", "shop"), card("b", "shop", 9), card("c", "ops"), card("world", "")],
  [["a", "b"], ["b", "a"], ["world", "a"], ["b", "c"], ["a", "a"], ["a", "c"]],
);

Deno.test("islandGraphs() and outerGraph() give each edge to one step, and none that speaks to itself", () => {
  const graph = visibleGraph(SHOP, []);
  const islands = islandGraphs(graph);
  assert.deepEqual(islands.map((g) => [g.id, g.children!.length, g.edges!.length]), [["ns:ops", 1, 0], [
    "ns:shop",
    2,
    2,
  ]]);
  const outer = outerGraph(graph, islands.map(inRow));
  assert.deepEqual(outer.edges!.map((e) => e.id), ["ns:shop>ns:ops", "world>ns:shop"]);
  assert.deepEqual(outer.children!.map((c) => c.id), ["ns:ops", "ns:shop", "world"]);
  const closed = visibleGraph(SHOP, ["-ns:shop"]);
  assert.deepEqual(islandGraphs(closed).map((g) => g.id), ["ns:ops"]);
  assert.deepEqual(outerGraph(closed, islandGraphs(closed).map(inRow)).edges!.map((e) => e.id), [
    "ns:shop>ns:ops",
    "world>ns:shop",
  ]);
});

Deno.test("outerGraph() gives ELK no more edges than it can take, and leaves no node without one", () => {
  const cards = Array.from({ length: 60 }, (_, i) => card(`w${i}`, ""));
  const pairs = cards.flatMap((a) => cards.map((b): [string, string] => [a.id, b.id]));
  const { edges } = outerGraph(visibleGraph(state(cards, pairs), []), []);
  assert.ok(edges!.length <= 3 * 60, String(edges!.length));
  const ends = new Set(edges!.flatMap((edge) => [...edge.sources, ...edge.targets]));
  assert.equal(ends.size, 60);
});

Deno.test("placementOf() puts cards inside of their island", () => {
  const graph = visibleGraph(SHOP, []);
  const islands = islandGraphs(graph).map(inRow);
  const placement = placementOf(inRow(outerGraph(graph, islands)), islands);
  const shop = placement.islands.get("ns:shop")!, b = placement.nodes.get("b")!;
  assert.ok(b.x >= shop.x + ISLAND_PADDING && b.x + b.width + ISLAND_PADDING <= shop.x + shop.width);
  assert.ok(b.y >= shop.y + ISLAND_HEAD && b.y + b.height + ISLAND_PADDING <= shop.y + shop.height);
  assert.deepEqual(collisions(placement), []);
});

Deno.test("placeNewcomers() moves nothing that stands, and nothing touches", () => {
  const graph = visibleGraph(SHOP, []);
  const islands = islandGraphs(graph).map(inRow);
  let placement = placementOf(inRow(outerGraph(graph, islands)), islands);
  assert.equal(placeNewcomers(placement, graph), placement);
  const before = placement;
  const cards = [...SHOP.cards.values()];
  for (let i = 0; i < 30; i++) {
    cards.push(card(`new${i}`, ["shop", "ops", "", "fresh"][i % 4], i % 6));
    placement = placeNewcomers(placement, visibleGraph(state(cards, []), []));
    assert.deepEqual(collisions(placement), [], `after ${i}`);
  }
  for (const [id, box] of before.nodes) assert.deepEqual(placement.nodes.get(id), box, id);
  assert.equal(placement.nodes.size, cards.length);
  const fewer = placeNewcomers(placement, visibleGraph(state(cards.slice(1), []), []));
  assert.equal(fewer.nodes.has("a"), false);
});

Deno.test("cardSize() has room for four ports", () => {
  assert.ok(cardSize(0).height < cardSize(1).height);
  assert.equal(cardSize(4).height, cardSize(40).height);
});

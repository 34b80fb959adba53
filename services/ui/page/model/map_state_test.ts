import assert from "node:assert/strict";
import type { Card, Edge, MapDifference, MapSnapshot } from "../../api.ts";
import { applyDifferences, mapStateOf } from "./map_state.ts";
import { joinVerdicts, OPEN_CARDS_MAX, visibleGraph } from "./visible_graph.ts";

const completeness = { seen: 0, shown: 0, lost: 0, sampled: 1, text: "" };
const card = (id: string, namespace = "shop"): Card => ({
  id,
  kind: namespace === "" ? "world" : "workload",
  name: id,
  namespace,
  workloadKind: "Deployment",
  nodes: [],
  labels: [],
  identities: [],
  pods: 1,
  ports: [],
  rateIn: 0,
  rateOut: 0,
  droppedIn: 0,
  droppedOut: 0,
  lastSeenUnixS: 0,
  query: {},
});
const edge = (from: string, to: string, verdict: Edge["verdict"] = "allowed", rate = 1): Edge => ({
  id: `${from}>${to}`,
  from,
  to,
  verdict,
  rate,
  dropRate: 0,
  flows: 1,
  allowed: 1,
  dropped: 0,
  audited: 0,
  trouble: 0,
  protocols: [],
  reasons: [],
  firstSeenUnixS: 0,
  lastSeenUnixS: 0,
});
const snapshot = (cards: Card[], edges: Edge[]): MapSnapshot => ({
  group: "workload",
  sinceUnixS: 0,
  untilUnixS: 0,
  cards,
  edges,
  foldedCards: 0,
  foldedEdges: 0,
  completeness,
});
const difference = (parts: Partial<MapDifference>): MapDifference => ({
  cards: [],
  edges: [],
  goneCards: [],
  goneEdges: [],
  foldedCards: 0,
  foldedEdges: 0,
  completeness,
  sinceUnixS: 0,
  untilUnixS: 1,
  ...parts,
});

Deno.test("applyDifferences() keeps what did not change, and tells whether anything is to be placed", () => {
  const first = mapStateOf(snapshot([card("a"), card("b")], [edge("a", "b")]));
  const rates = applyDifferences(first, [difference({ edges: [edge("a", "b", "allowed", 9)] })]);
  assert.equal(rates.structure, first.structure);
  assert.equal(rates.cards.get("a"), first.cards.get("a"));
  assert.equal(rates.edges.get("a>b")!.rate, 9);
  assert.equal(first.edges.get("a>b")!.rate, 1, "the older state is as it was");
  const more = applyDifferences(rates, [
    difference({ cards: [card("c")] }),
    difference({ goneCards: ["b"] }),
  ]);
  assert.notEqual(more.structure, first.structure);
  assert.deepEqual([...more.cards.keys()], ["a", "c"]);
  assert.deepEqual([...more.edges.keys()], [], "an edge goes with its card");
});

Deno.test("applyDifferences() takes what a wrong server sends", () => {
  const first = mapStateOf(snapshot([card("a")], [edge("a", "nobody")]));
  assert.equal(first.edges.size, 0);
  const after = applyDifferences(first, [difference({ goneCards: ["nobody"], goneEdges: ["x"] })]);
  assert.equal(after.structure, first.structure);
  const flood = Array.from({ length: 6000 }, (_, i) => card(`n${i}`));
  assert.equal(applyDifferences(first, [difference({ cards: flood })]).cards.size, 5000);
  assert.equal(applyDifferences(first, []), first);
});

Deno.test("visibleGraph() joins the edges of a closed island and hides those inside", () => {
  const state = mapStateOf(snapshot(
    [card("a"), card("b"), card("c", "ops"), card("world", "")],
    [
      edge("a", "b"),
      edge("a", "c", "dropped", 2),
      edge("b", "c", "allowed", 3),
      edge("world", "a"),
      edge("c", "c"),
    ],
  ));
  const open = visibleGraph(state, []);
  assert.deepEqual([...open.nodes.keys()], ["a", "b", "c", "world"]);
  assert.equal(open.edges.length, 5);
  const closed = visibleGraph(state, ["-ns:shop"]);
  assert.deepEqual([...closed.nodes.keys()], ["ns:shop", "c", "world"]);
  const joined = closed.edges.find((e) => e.id === "ns:shop>c")!;
  assert.equal(joined.verdict, "mixed");
  assert.equal(joined.rate, 5);
  assert.deepEqual(closed.edges.map((e) => e.id).sort(), ["c>c", "ns:shop>c", "world>ns:shop"]);
});

Deno.test("visibleGraph() closes the islands of a large map, but for those that a reader opened", () => {
  const cards = Array.from({ length: OPEN_CARDS_MAX + 1 }, (_, i) => card(`w${i}`, i % 2 ? "odd" : "even"));
  const graph = visibleGraph(mapStateOf(snapshot(cards, [])), ["+ns:odd"]);
  assert.equal(graph.manyCards, true);
  assert.equal(graph.islands.get("ns:even")!.closed, true);
  assert.equal(graph.islands.get("ns:odd")!.closed, false);
});

Deno.test("joinVerdicts() never hides a drop", () => {
  assert.equal(joinVerdicts(["allowed", "allowed"]), "allowed");
  assert.equal(joinVerdicts(["dropped", "dropped"]), "dropped");
  assert.equal(joinVerdicts(["allowed", "dropped"]), "mixed");
  assert.equal(joinVerdicts(["allowed", "audited"]), "audited");
  assert.equal(joinVerdicts(["allowed", "error"]), "error");
  assert.equal(joinVerdicts([]), "allowed");
});

import assert from "node:assert/strict";
import type { Placement } from "../model/placement.ts";
import type { VisibleEdge, VisibleGraph } from "../model/visible_graph.ts";
import { distanceTo, edgeShape, pointAt, signPlace } from "./edge_shape.ts";

const box = (x: number, y: number) => ({ x, y, width: 200, height: 120 });
const placement: Placement = { nodes: new Map([["a", box(0, 0)], ["b", box(400, 200)]]), islands: new Map() };
const graph = {
  nodes: new Map([
    ["a", { id: "a", island: "", card: { ports: [] } }],
    ["b", {
      id: "b",
      island: "",
      card: { ports: [{ protocol: "UDP", port: 53 }, { protocol: "TCP", port: 80 }] },
    }],
  ]),
} as unknown as VisibleGraph;
const edge = (from: string, to: string, port = 80) =>
  ({ from, to, edges: [{ protocols: [{ protocol: "TCP", port }] }] }) as unknown as VisibleEdge;

Deno.test("edgeShape() ends at the line of its port, else at the head", () => {
  const second = edgeShape(graph, placement, edge("a", "b"))!,
    head = edgeShape(graph, placement, edge("a", "b", 9))!;
  assert.deepEqual(pointAt(second, 0), [200, 25]);
  assert.deepEqual(pointAt(second, 1), [400, 200 + 50 + 22 + 11]);
  assert.deepEqual(pointAt(head, 1), [400, 225]);
  assert.equal(edgeShape(graph, placement, edge("a", "nobody")), undefined);
});

Deno.test("edgeShape() keeps its bounds, back to the left and to itself too", () => {
  for (const one of [edge("a", "b"), edge("b", "a"), edge("a", "a")]) {
    const shape = edgeShape(graph, placement, one)!;
    for (let t = 0; t <= 1; t += 0.05) {
      const [x, y] = pointAt(shape, t);
      assert.ok(x >= shape.left && x <= shape.right && y >= shape.top && y <= shape.bottom);
    }
  }
});

Deno.test("signPlace() keeps signs from behind cards", () => {
  const shape = edgeShape(graph, placement, edge("a", "b"))!;
  assert.equal(signPlace(shape, [...placement.nodes.values()]), 0.5);
  const [x, y] = pointAt(shape, 0.5);
  const inTheWay = { x: x - 10, y: y - 10, width: 20, height: 20 };
  const t = signPlace(shape, [inTheWay]);
  assert.notEqual(t, 0.5);
  const [, signY] = pointAt(shape, t);
  assert.ok(Math.abs(signY - y) > 10);
  assert.equal(signPlace(shape, [{ x: -1000, y: -1000, width: 3000, height: 3000 }]), 0.5);
});

Deno.test("distanceTo() finds what is near the curve", () => {
  const shape = edgeShape(graph, placement, edge("a", "b"))!;
  const [x, y] = pointAt(shape, 0.37);
  assert.ok(distanceTo(shape, x, y, 6) < 1);
  assert.ok(distanceTo(shape, x, y + 4, 6) <= 4);
  assert.equal(distanceTo(shape, x, y + 60, 6), Infinity);
  assert.equal(distanceTo(shape, -500, -500, 6), Infinity);
});

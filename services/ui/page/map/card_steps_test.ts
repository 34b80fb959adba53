import assert from "node:assert/strict";
import { nextCard } from "./card_steps.ts";

const box = (x: number, y: number) => ({ x, y, width: 200, height: 80 });
const NODES = new Map([["a", box(0, 0)], ["b", box(300, 10)], ["c", box(0, 120)], ["d", box(300, 400)]]);

Deno.test("nextCard() goes to the nearest card that way, and stays at the rim", () => {
  const cases: [string, string, string | undefined][] = [
    ["a", "ArrowRight", "b"],
    ["a", "ArrowDown", "c"],
    ["b", "ArrowLeft", "a"],
    ["c", "ArrowUp", "a"],
    ["b", "ArrowDown", "d"],
    ["a", "ArrowLeft", undefined],
    ["a", "Enter", undefined],
    ["gone", "ArrowLeft", undefined],
  ];
  for (const [from, key, to] of cases) assert.equal(nextCard(NODES, from, key), to, `${from} ${key}`);
});

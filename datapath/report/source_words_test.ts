import { deepEqual, equal } from "node:assert/strict";
import { argumentsIn, fieldIn, pointerIn } from "./source_words.ts";

/** A line whose compiler's column is at the mark `^`. */
function line(marked: string) {
  const column = marked.indexOf("^");
  return {
    offset: 0,
    file: "x.c",
    line: 1,
    text: marked.replace("^", ""),
    column: column < 0 ? 0 : column + 1,
  };
}

Deno.test("pointerIn() finds the variable that a line goes through", () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ["if (ip4->^protocol == 6)", "ip4"],
    ["session->bytes ^+= skb->len;", "session"],
    ["table->slots[index] ^= skb->len;", "table"],
    ["x = skb->cb[^0];", "skb->cb"],
    ["return data^[0];", "data"],
    ["*(volatile int *)&limit ^= 3;", "limit"],
    ["return ^*count;", "count"],
    ["while (^x)", undefined],
    ['asm volatile("^r1 = *(u32 *)(r2 + 0)");', undefined],
  ];
  for (const [text, expected] of cases) equal(pointerIn(line(text)), expected, text);
});

Deno.test("fieldIn() joins a field with its variable", () => {
  equal(fieldIn(line("if (skb->^tc_classid == 7)")), "skb->tc_classid");
  equal(fieldIn(line("return a.b->^c;")), "a.b->c");
});

Deno.test("argumentsIn() splits a call as it is written", () => {
  deepEqual(argumentsIn(line("r = f(a, g(b, c), &k[1]);"), "f"), ["a", "g(b, c)", "&k[1]"]);
  deepEqual(argumentsIn(line("r = f(a"), "f"), ["a"]);
  equal(argumentsIn(line("r = h(a);"), "f"), undefined);
});

import { deepEqual, equal } from "node:assert/strict";
import { argumentsIn, fieldIn, indexIn, pointerIn, withoutCasts } from "./source_words.ts";

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

Deno.test("pointerIn() takes no word of a cast, a type or a comment for a variable", () => {
  const cases: [text: string, at: string, name: string | undefined][] = [
    ["x = *(volatile __u64 *)session;", "*(", "session"],
    ["*(volatile typeof(session->packets) *)session = 1;", "*(", "session"],
    ["return (*(const volatile typeof(count) *)&(count));", "(*", "count"],
    ["value = *((struct session *)pointer);", "*((", "pointer"],
    ["return *data; /* here */", "/*", undefined],
    ["__sync_fetch_and_add(counter, 1); // * later", "__sync", "counter"],
    ["x = (__u32 *)address;", "(__u32", undefined],
  ];
  for (const [text, at, name] of cases) {
    const column = text.indexOf(at) + 1;
    equal(pointerIn({ offset: 0, file: "a.c", line: 1, column, text }), name, text);
  }
});

Deno.test("withoutCasts() leaves calls and groups alone", () => {
  const cases: [string, string][] = [
    ["(void *)(long)ctx->data", "ctx->data"],
    ["f((struct sock *)sk, (int)n)", "f(sk, n)"],
    ["(a + b) * c", "(a + b) * c"],
    ["sizeof(x) + y", "sizeof(x) + y"],
    ["f(a) * b", "f(a) * b"],
    ["(__u8)(x >> 8)", "(x >> 8)"],
  ];
  for (const [text, plain] of cases) equal(withoutCasts(text), plain, text);
});

Deno.test("indexIn() finds what is added to a pointer", () => {
  const line = (text: string) => ({ offset: 0, file: "a.c", line: 1, column: 1, text });
  equal(indexIn(line("return session->ports[index & 7];")), "index");
  equal(indexIn(line("data += length; /* + more */")), "length");
  equal(indexIn(line("return ports[3];")), undefined);
});

import { deepEqual } from "node:assert/strict";
import { linesOf } from "./lines.ts";

Deno.test("linesOf() gives whole lines, however they come", async () => {
  const text = "one\n\nzwölf\nlong line\nrest";
  for (const size of [1, 2, 3, 7, 100]) {
    const bytes = new TextEncoder().encode(text);
    const pieces = Array.from(
      { length: Math.ceil(bytes.length / size) },
      (_, i) => bytes.slice(i * size, (i + 1) * size),
    );
    deepEqual(await Array.fromAsync(linesOf(ReadableStream.from(pieces))), ["one", "", "zwölf", "long line"]);
  }
});

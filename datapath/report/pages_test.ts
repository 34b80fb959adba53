import { deepEqual, equal, match, ok } from "node:assert/strict";
import { CODES } from "@weir/verifier";
import { codeName, pageNumbers, pageOf, parseCode, renderPage } from "./pages.ts";

Deno.test("pageOf() has a page with a way out for every code of the verifier", () => {
  for (const code of CODES.keys()) {
    const page = pageOf(code);
    ok(page !== undefined, `code ${code} has no page`);
    ok(page.meaning.length > 10 && page.fix.length > 10, `the page of ${code} is too short`);
  }
});

Deno.test("renderPage() shows the wrong and the right form", () => {
  const text = renderPage(pageOf(61)!);
  match(text, /^WV0061 null-dereference \(unsafe\)\n/);
  match(text, /Wrong:[\s\S]*v->count\+\+[\s\S]*Right:[\s\S]*if \(!v\) return 0;/);
});

Deno.test("parseCode() takes every way to write a code", () => {
  deepEqual(["WV0070", "wv70", "70", "packet-out-of-bounds"].map(parseCode), [70, 70, 70, 70]);
  deepEqual(["WV9999", "0", "nonsense", ""].map(parseCode), [undefined, undefined, undefined, undefined]);
  for (const code of pageNumbers()) equal(parseCode(codeName(code)), code);
});

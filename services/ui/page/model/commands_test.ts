import assert from "node:assert/strict";
import { cardTerms, endTerms, observeCommand, shellWord } from "./commands.ts";
import { readFilter } from "./filter_language.ts";

Deno.test("observeCommand() writes what readFilter() reads back", () => {
  const { terms } = readFilter(
    `from-pod=shop/cart not port=53 reply=false ip-version=6 cel-expression="a b"`,
  );
  const command = observeCommand("weir", terms, { lab: "demo" })!;
  assert.equal(
    command,
    "weir observe --lab demo --from-pod shop/cart --not --port 53 --reply=false --ipv6 --cel-expression 'a b' --follow",
  );
  assert.deepEqual(readFilter(command).terms, terms);
});

Deno.test("observeCommand() gives the window, and nothing that hubble lacks", () => {
  const { terms } = readFilter("type=no-answer");
  assert.equal(observeCommand("hubble", terms), null);
  assert.equal(
    observeCommand("hubble", [], {
      window: { sinceUnixS: 1_780_000_000, untilUnixS: 1_780_000_060 },
      lab: "x",
    }),
    "hubble observe --since 2026-05-28T20:26:40Z --until 2026-05-28T20:27:40Z",
  );
});

Deno.test("shellWord() leaves nothing to the shell", () => {
  assert.equal(shellWord("shop/cart"), "shop/cart");
  assert.equal(shellWord("a;rm -rf"), "'a;rm -rf'");
  assert.equal(shellWord("it's"), `'it'\\''s'`);
  assert.equal(shellWord("$(x)"), "'$(x)'");
});

Deno.test("cardTerms() and endTerms() name a card as the command line does", () => {
  const card = { query: { workload: "Deployment/cart", namespace: "shop" } };
  const words = (terms: ReturnType<typeof cardTerms>) => terms.map(({ name, value }) => `${name}=${value}`);
  assert.deepEqual(words(cardTerms(card)), ["workload=Deployment/cart", "namespace=shop"]);
  assert.deepEqual(words(endTerms("to", card)), ["to-workload=Deployment/cart", "to-namespace=shop"]);
  assert.deepEqual(words(endTerms("from", { query: { "node-name": "node-1" } })), ["node-name=node-1"]);
  assert.deepEqual(cardTerms({ query: {} }), []);
});

import { equal, match } from "node:assert/strict";
import { didYouMean, nearest, unknownVerb } from "./suggestion.ts";

Deno.test("nearest() finds what was meant and nothing that is far", () => {
  const known = ["apply", "get", "list", "delete", "explain", "accept-database"];
  const cases: [string, string | undefined][] = [
    ["lsit", "list"],
    ["aply", "apply"],
    ["delte", "delete"],
    ["accept", "accept-database"],
    ["LIST", "list"],
    ["got", "get"],
    ["zzz", undefined],
    ["", undefined],
    ["x", undefined],
  ];
  for (const [word, meant] of cases) equal(nearest(word, known), meant, word);
});

Deno.test("unknownVerb() says what was meant and what there is", () => {
  match(
    unknownVerb("policy", "lsit", ["list", "get"]).message,
    /did you mean "list"\?\): expected list, get$/,
  );
  match(
    unknownVerb("policy", undefined, ["list", "get"]).message,
    /^Say what to do with policy: expected list, get$/,
  );
  equal(didYouMean("zzz", ["list"]), "");
});

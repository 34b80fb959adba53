import assert from "node:assert/strict";
import { LabelSet } from "./labels.ts";
import { formatRequirement, SelectorError } from "./selector.ts";
import { parseSelector, parseSelectorTerms, selectsTexts } from "./selector_text.ts";

Deno.test("parseSelector() reads what kubectl reads, with sources", () => {
  const cases: [string, string][] = [
    ["app=web", "any:app=web"],
    [" k8s:app == web ,!x", "!any:x|k8s:app=web"],
    ["app!=web", "any:app!=web"],
    ["app=", "any:app="],
    ["app in (b, a),c notin (d,e)", "any:app in (a,b)|any:c notin (d,e)"],
    ["app.kubernetes.io/name, ! reserved:host", "!reserved:host|any:app.kubernetes.io/name"],
    ["cidr:10.0.0.0/8", "cidr:10.0.0.0/8"],
  ];
  for (const [text, expected] of cases) {
    assert.equal(parseSelector(text).requirements.map(formatRequirement).join("|"), expected, text);
  }
  assert.equal(parseSelectorTerms([]).requirements.length, 0);
});

Deno.test("parseSelector() refuses what is none, by its term", () => {
  for (
    const text of [
      "",
      "a,",
      "=x",
      "!",
      "a b",
      "a in b",
      "a in (b",
      "a)",
      "a=b=c",
      "k8s:",
      ":a",
      "a=b c",
      "!a=b",
    ]
  ) {
    assert.throws(() => parseSelector(text), SelectorError, text);
  }
  assert.throws(() => parseSelector("a=1,b c"), /Cannot read selector: a term is "b c", want KEY=VALUE/);
  assert.throws(() => parseSelector(Array(200).fill("a").join()), /200 terms, want at most 128/);
});

Deno.test("selectsTexts() says of texts what Selector.matches() says of labels", () => {
  const sets = [[], ["k8s:app=web"], ["k8s:app=api", "unspec:app=web"], ["reserved:host"], ["k8s:app"]];
  const terms = [
    "app=web",
    "app!=web",
    "app=",
    "app",
    "!app",
    "k8s:app=web",
    "host",
    "!reserved:host",
    "app in (web,api)",
    "k8s:app notin (web)",
  ];
  for (const set of sets) {
    for (const term of terms) {
      const selector = parseSelector(term);
      assert.equal(selectsTexts(selector, set), selector.matches(LabelSet.parse(set)), `${term} of ${set}`);
    }
  }
});

import assert from "node:assert/strict";
import { LabelSet } from "./labels.ts";
import { Selector, SelectorError, type SelectorSpec } from "./selector.ts";

Deno.test("Selector.matches() follows Kubernetes, absent keys included, with any source unless one is named", () => {
  const labels = LabelSet.parse(["k8s:app=web", "k8s:tier=front", "reserved:init"]);
  const cases: [SelectorSpec, boolean][] = [
    [{}, true],
    [{ matchLabels: { app: "web" } }, true],
    [{ matchLabels: { "k8s:app": "web" } }, true],
    [{ matchLabels: { "any:app": "web" } }, true],
    [{ matchLabels: { "container:app": "web" } }, false],
    [{ matchLabels: { "reserved:init": "" } }, true],
    [{ matchLabels: { app: "web", tier: "back" } }, false],
    [{ matchExpressions: [{ key: "app", operator: "In", values: ["api", "web"] }] }, true],
    [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["api"] }] }, true],
    [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }, false],
    [{ matchExpressions: [{ key: "none", operator: "NotIn", values: ["web"] }] }, true],
    [{ matchExpressions: [{ key: "none", operator: "In", values: ["web"] }] }, false],
    [{ matchExpressions: [{ key: "app", operator: "Exists" }] }, true],
    [{ matchExpressions: [{ key: "none", operator: "Exists" }] }, false],
    [{ matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }, false],
    [{ matchExpressions: [{ key: "k8s:init", operator: "DoesNotExist" }] }, true],
  ];
  for (const [spec, expected] of cases) {
    assert.equal(Selector.parse(spec).matches(labels), expected, JSON.stringify(spec));
  }
});

Deno.test("Selector.parse() gives one key to selectors that say the same", () => {
  const a = Selector.parse({ matchLabels: { b: "2", a: "1" } });
  const b = Selector.parse({
    matchExpressions: [{ key: "any:a", operator: "In", values: ["1", "1"] }, {
      key: "b",
      operator: "In",
      values: ["2"],
    }],
  });
  assert.equal(a.key, b.key);
  assert.equal(a.toString(), "any:a=1,any:b=2");
  assert.ok(a.mentions("a") && a.mentions("a", "k8s") && !a.mentions("c"));
});

Deno.test("Selector.parse() refuses unknown operators and values where they do not belong", () => {
  const cases: [SelectorSpec, string][] = [
    [{ matchExpressions: [{ key: "a", operator: "Like", values: ["b"] }] }, "matchExpressions[0].operator"],
    [{ matchExpressions: [{ key: "a", operator: "In", values: [] }] }, "matchExpressions[0].values"],
    [{ matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] }, "matchExpressions[0].values"],
    [{ matchExpressions: [{ key: "k8s:", operator: "Exists" }] }, "matchExpressions[0].key"],
    [{ matchLabels: { "": "x" } }, "matchLabels"],
    [{ matchLabels: Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`l${i}`, "x"])) }, "selector"],
  ];
  for (const [spec, path] of cases) {
    assert.throws(
      () => Selector.parse(spec),
      (error) => error instanceof SelectorError && error.path === path,
    );
  }
});

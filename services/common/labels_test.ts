import assert from "node:assert/strict";
import { formatLabel, LabelError, LABELS_MAX, LabelSet, parseLabel } from "./labels.ts";

Deno.test("parseLabel() reads source, key and value in every form", () => {
  const cases: [string, string][] = [
    ["k8s:app=web", "k8s:app=web"],
    ["app=web", "unspec:app=web"],
    ["app", "unspec:app"],
    ["reserved:host", "reserved:host"],
    ["k8s:io.kubernetes.pod.namespace=a", "k8s:io.kubernetes.pod.namespace=a"],
    ["url=http://x=y", "unspec:url=http://x=y"],
    ["cidr:2001:db8::/32", "cidr:2001:db8::/32"],
    ["k8s:empty=", "k8s:empty"],
  ];
  for (const [text, expected] of cases) {
    const label = parseLabel(text);
    assert.equal(formatLabel(label), expected);
    assert.deepEqual(parseLabel(formatLabel(label)), label, "formatting and reading again changes nothing");
  }
  assert.equal(formatLabel(parseLabel("app=web", { defaultSource: "k8s" })), "k8s:app=web");
});

Deno.test("parseLabel() refuses what would not survive a line of output", () => {
  const bad = [
    "",
    "=x",
    "k8s:",
    "k8s:=v",
    "any:app=x",
    "K8S:app=x",
    ":x",
    "k8s:a b=c",
    "k8s:a=b;c",
    "k8s:a=b\nc",
    "k8s:a\0=b",
    "k8s:a=\u009bm",
    "k8s:a\u0085=b",
    "k8s:a=b\u2028c",
    "k8s:a=\ud800",
  ];
  for (const text of [...bad, `k8s:${"k".repeat(513)}`, `k8s:a=${"v".repeat(513)}`]) {
    assert.throws(() => parseLabel(text), LabelError, JSON.stringify(text));
  }
});

Deno.test("LabelSet has one key for one set, whatever the order", () => {
  const texts = ["k8s:b=2", "k8s:a=1", "reserved:host", "unspec:a=3"];
  const key = LabelSet.parse(texts).key;
  assert.equal(key, "k8s:a=1;k8s:b=2;reserved:host;unspec:a=3");
  assert.equal(LabelSet.parse(texts.toReversed()).key, key);
  assert.equal(LabelSet.parse([...texts, "k8s:a=1"]).key, key);
  assert.notEqual(LabelSet.parse(["k8s:a=1"]).key, LabelSet.parse(["unspec:a=1"]).key);
  const set = LabelSet.parse(texts);
  assert.equal(set.get("any", "a"), "1");
  assert.equal(set.get("unspec", "a"), "3");
  assert.equal(set.get("cni", "a"), undefined);
  assert.equal(set.with([parseLabel("k8s:a=9")]).get("k8s", "a"), "9");
  assert.deepEqual(set.filter((label) => label.source === "k8s").toStrings(), ["k8s:a=1", "k8s:b=2"]);
  const many = Array.from({ length: LABELS_MAX + 1 }, (_, i) => `k8s:l${i}=x`);
  assert.throws(() => LabelSet.parse(many), LabelError);
  assert.equal(LabelSet.parse(many.slice(1)).size, LABELS_MAX);
});

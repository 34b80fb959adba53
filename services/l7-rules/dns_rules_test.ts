import assert from "node:assert/strict";
import { DnsRule } from "@weir/proto/l7";
import { compileDnsRules, compileName, compileNamePattern, judgeDns } from "./dns_rules.ts";
import { RuleFault } from "./pattern.ts";

Deno.test("compileName() means one name, in any case, with or without its final dot", () => {
  const table: [string, string, boolean][] = [
    ["a.b", "a.b.", true],
    ["a.b.", "a.b", true],
    ["A.b", "a.B.", true],
    ["a.b", "x.a.b.", false],
    ["a.b", "a-b.", false],
    ["_sip._tcp.x", "_sip._tcp.x.", true],
  ];
  for (const [rule, name, is] of table) assert.equal(compileName(rule)(name), is, `${rule} ${name}`);
});

Deno.test("compileNamePattern() lets a star stand for part of a label, two at the start for whole labels", () => {
  const table: Record<string, [string[], string[]]> = {
    "*": [["a.b.c.", "a.", "."], ["a/b.", "a b."]],
    "**": [["a.b.c.", "."], []],
    "*.": [["a.b.c.", "."], []],
    "***.": [["a.b.c.", "."], []],
    "*.x.y": [["a.x.y.", "A.X.y", "a-_1.x.y."], ["x.y.", "a.b.x.y.", "a.x.y.z.", "axxy.", "a!.x.y."]],
    "*.X.y.": [["a.x.y."], ["x.y."]],
    "*x.y": [["x.y.", "ax.y."], ["a.x.y."]],
    "sub*.x": [["sub.x.", "subway.x."], ["sub.way.x.", "sudb.x."]],
    "a*b.x": [["ab.x.", "aab.x.", "a-b.x.", "abab.x."], ["a.b.x.", "abc.x."]],
    "*a*b*.x": [["ab.x.", "xaxbx.x."], ["ba.x."]],
    "**.x.y": [["a.x.y.", "a.b.x.y.", "a.b.c.x.y."], ["x.y.", "ax.y."]],
    "***.x.y": [["a.x.y.", "a.b.x.y."], ["x.y."]],
    "a.**.b": [["a.x.b.", "a.xy.b."], ["a.x.y.b.", "a.b."]],
    "**x.y": [["x.y.", "ax.y."], ["a.x.y."]],
    "**.*.y": [["a.b.y.", "a.b.c.y."], ["b.y."]],
  };
  for (const [pattern, [means, others]] of Object.entries(table)) {
    const matches = compileNamePattern(pattern);
    for (const name of means) assert(matches(name), `${pattern} means ${name}`);
    for (const name of others) assert(!matches(name), `${pattern} does not mean ${name}`);
  }
});

Deno.test("compileDnsRules() refuses what is no name, and rules that say nothing or two things", () => {
  const table: [Partial<DnsRule>, RegExp][] = [
    [{}, /exactly one of matchName and matchPattern/],
    [{ matchName: "a", matchPattern: "b" }, /exactly one of/],
    [{ matchName: "*.a" }, /"\*\.a" is no name/],
    [{ matchName: "a b" }, /is no name/],
    [{ matchPattern: "a/b" }, /is no name, want letters, digits, hyphens, underscores, dots and stars/],
    [{ matchName: "a".repeat(256) }, /has 256 characters, want at most 255/],
  ];
  for (const [rule, message] of table) {
    assert.throws(
      () => compileDnsRules([DnsRule.create(rule)]),
      (error) => error instanceof RuleFault && message.test(error.message),
    );
  }
});

Deno.test("judgeDns() names the rule", () => {
  const rules = compileDnsRules([
    DnsRule.create({ cookie: 1, matchPattern: "*.example.com" }),
    DnsRule.create({ cookie: 2, matchName: "www.example.com" }),
    DnsRule.create({ cookie: 3, matchName: "other" }),
  ]);
  const cookieOf = (name: string) => judgeDns(rules, { kind: "DNS", name }, 99).cookie;
  assert.deepEqual(["WWW.example.com.", "api.example.com", "other", "nothing"].map(cookieOf), [2, 1, 3, 99]);
});

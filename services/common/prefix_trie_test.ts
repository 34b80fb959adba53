import assert from "node:assert/strict";
import { Prefix } from "./prefix.ts";
import { PrefixTrie } from "./prefix_trie.ts";

const PREFIXES = [
  "0.0.0.0/0",
  "10.0.0.0/8",
  "10.1.0.0/16",
  "10.1.2.0/24",
  "10.1.2.3/32",
  "192.0.2.0/24",
  "::/0",
  "2001:db8::/32",
];

Deno.test("PrefixTrie finds what lies inside and around, like a comparison with every prefix", () => {
  const trie = new PrefixTrie<string>();
  const all = PREFIXES.map((text) => Prefix.parse(text));
  for (const prefix of all) trie.add(prefix, prefix.text);
  const check = (left: readonly Prefix[]) => {
    for (
      const asked of [
        ...all,
        Prefix.parse("10.1.3.0/24"),
        Prefix.parse("2001:db8::1"),
        Prefix.parse("10.1.2.3/31"),
      ]
    ) {
      const inside = left.filter((prefix) => asked.contains(prefix)).map(String).sort();
      const around = left.filter((prefix) => prefix.contains(asked)).map(String);
      assert.deepEqual([...trie.inside(asked)].sort(), inside, `inside ${asked}`);
      assert.deepEqual([...trie.around(asked)], around, `around ${asked}`);
    }
  };
  check(all);
  trie.delete(all[2], all[2].text);
  trie.delete(all[2], all[2].text);
  trie.delete(Prefix.parse("203.0.113.0/24"), "never there");
  check(all.filter((_, index) => index !== 2));
  for (const prefix of all) trie.delete(prefix, prefix.text);
  check([]);
});

import assert from "node:assert/strict";
import { AddressError, IpAddress } from "./address.ts";
import { portPrefixContains, portPrefixes, portPrefixLast } from "./port_prefix.ts";
import { Prefix } from "./prefix.ts";

Deno.test("Prefix.parse() clears host bits and refuses what is no prefix", () => {
  const cases: [string, string][] = [
    ["10.1.1.1/8", "10.0.0.0/8"],
    ["10.1.1.1", "10.1.1.1/32"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["10.255.255.255/9", "10.128.0.0/9"],
    ["2001:db8:ffff::1/33", "2001:db8:8000::/33"],
    ["::1", "::1/128"],
  ];
  for (const [text, expected] of cases) assert.equal(Prefix.parse(text).text, expected);
  for (
    const bad of [
      "",
      "/8",
      "10.0.0.0/33",
      "10.0.0.0/-1",
      "10.0.0.0/08",
      "10.0.0.0/",
      "10.0.0/8",
      "::/129",
      "10.0.0.0/255.0.0.0",
    ]
  ) {
    assert.throws(() => Prefix.parse(bad), AddressError, bad);
    assert.equal(Prefix.tryParse(bad), undefined);
  }
  assert.throws(() => Prefix.parse("10.0.0.1", { bare: false }), AddressError);
});

Deno.test("Prefix.contains() knows addresses, longer prefixes and families", () => {
  const cases: [string, string, boolean][] = [
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["10.0.0.0/8", "10.0.0.0/8", true],
    ["10.0.0.0/8", "10.0.0.0/7", false],
    ["10.1.2.0/23", "10.1.3.255", true],
    ["10.1.2.0/23", "10.1.4.0", false],
    ["0.0.0.0/0", "::1", false],
    ["::/0", "2001:db8::/32", true],
    ["2001:db8::/31", "2001:db9::1", true],
    ["2001:db8::/32", "2001:db9::1", false],
    ["192.0.2.1/32", "192.0.2.1", true],
  ];
  for (const [prefix, other, expected] of cases) {
    const value = other.includes("/") ? Prefix.parse(other) : IpAddress.parse(other);
    assert.equal(Prefix.parse(prefix).contains(value), expected, `${prefix} contains ${other}`);
  }
  assert.equal(Prefix.parse("10.0.0.0/24").addressAt(7).text, "10.0.0.7");
  assert.throws(() => Prefix.parse("10.0.0.0/24").addressAt(256), AddressError);
  assert.equal(Prefix.parse("fd00::/64").addressCount, 1n << 64n);
});

Deno.test("portPrefixes() covers a range exactly, with the fewest prefixes", () => {
  const counts: [number, number, number][] = [
    [1, 65534, 30],
    [1, 1023, 10],
    [0, 1023, 1],
    [1024, 65535, 6],
    [0, 65535, 1],
    [80, 80, 1],
    [16, 31, 1],
  ];
  for (const [first, last, count] of counts) {
    const prefixes = portPrefixes(first, last);
    assert.equal(prefixes.length, count, `${first}-${last}`);
    let next = first;
    for (const prefix of prefixes) {
      assert.equal(prefix.port, next);
      assert.ok(
        portPrefixContains(prefix, prefix.port) && portPrefixContains(prefix, portPrefixLast(prefix)),
      );
      assert.ok(!portPrefixContains(prefix, (portPrefixLast(prefix) + 1) & 0xffff) || prefix.bits === 0);
      next = portPrefixLast(prefix) + 1;
    }
    assert.equal(next, last + 1);
  }
  for (const [first, last] of [[2, 1], [-1, 5], [0, 65536], [1.5, 2]]) {
    assert.throws(() => portPrefixes(first, last), RangeError);
  }
});

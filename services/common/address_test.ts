import assert from "node:assert/strict";
import { AddressError, IpAddress } from "./address.ts";

Deno.test("IpAddress.parse() reads both families and formats them canonically", () => {
  const cases: [string, string][] = [
    ["10.0.0.1", "10.0.0.1"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["::ffff:1.2.3.4", "::ffff:1.2.3.4"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
  ];
  for (const [text, expected] of cases) {
    const address = IpAddress.parse(text);
    assert.equal(address.text, expected);
    assert.ok(IpAddress.fromBytes(address.bytes).equals(address));
    assert.ok(IpAddress.fromBigInt(address.toBigInt(), address.family).equals(address));
  }
});

Deno.test("IpAddress.parse() refuses everything else", () => {
  const bad = [
    "",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "010.1.1.1",
    "1.2.3.4 ",
    "0x1.2.3.4",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "g::",
    "fe80::1%eth0",
    "1.2.3.4::",
    "::1.2.3",
    "::1.2.3.256",
    "[::1]",
  ];
  for (const text of bad) assert.throws(() => IpAddress.parse(text), AddressError, JSON.stringify(text));
  assert.throws(() => IpAddress.fromBytes(new Uint8Array(5)), AddressError);
  assert.throws(() => IpAddress.fromBigInt(1n << 32n, 4), AddressError);
});

Deno.test("IpAddress counts and compares across the whole space", () => {
  assert.equal(IpAddress.parse("10.0.0.255").add(1).text, "10.0.1.0");
  assert.equal(IpAddress.parse("fd00::ffff").add(1n).text, "fd00::1:0");
  assert.equal(IpAddress.parse("10.0.1.0").add(-1).text, "10.0.0.255");
  assert.throws(() => IpAddress.parse("255.255.255.255").add(1), AddressError);
  assert.throws(() => IpAddress.parse("0.0.0.0").add(-1), AddressError);
  const sorted = ["10.0.0.2", "::1", "10.0.0.10", "9.9.9.9"].map(IpAddress.parse).sort((a, b) =>
    a.compare(b)
  );
  assert.deepEqual(sorted.map(String), ["9.9.9.9", "10.0.0.2", "10.0.0.10", "::1"]);
});

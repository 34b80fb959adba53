import assert from "node:assert/strict";
import {
  cidrIdentityLabels,
  formatIdentity,
  identityOfMany,
  isFqdnIdentity,
  isLocalIdentity,
  isReservedIdentity,
  RESERVED_IDENTITIES,
  reservedIdentityLabels,
  reservedIdentityName,
  reservedIdentityNumber,
} from "./identity.ts";
import { IpAddress } from "./address.ts";
import { Prefix } from "./prefix.ts";

Deno.test("Reserved identities have the numbers that are on the wire", () => {
  const names = [
    "unknown",
    "host",
    "world",
    "unmanaged",
    "health",
    "init",
    "remote-node",
    "kube-apiserver",
    "ingress",
  ];
  names.push("world-ipv4", "world-ipv6", "overlay-to-encrypt");
  const numbers: [number, string][] = [...names.entries(), [64, "multicast"], [65, "broadcast"]];
  for (const [number, name] of numbers) {
    assert.equal(reservedIdentityNumber(name), number);
    assert.equal(reservedIdentityName(number), name);
    assert.ok(isReservedIdentity(number) && !isLocalIdentity(number));
  }
  assert.equal(Object.keys(RESERVED_IDENTITIES).length, numbers.length);
  assert.equal(reservedIdentityNumber("toString"), undefined);
  assert.equal(reservedIdentityLabels(7)?.key, "reserved:kube-apiserver;reserved:remote-node");
  assert.equal(formatIdentity(1), "1 (host)");
  assert.equal(formatIdentity(4242), "4242");
  assert.ok(
    isLocalIdentity(1 << 24) && isLocalIdentity(0x02ffffff) && !isLocalIdentity(0x03000000) &&
      !isLocalIdentity(65535) && !isFqdnIdentity(0x01ffffff) && isFqdnIdentity(0x02000000),
  );
});

Deno.test("identityOfMany() knows groups and everybody by their bits", () => {
  const cases: [string, number | undefined][] = [
    ["224.0.0.1", 64],
    ["239.255.255.250", 64],
    ["255.255.255.255", 65],
    ["ff02::1", 64],
    ["ff0e::7", 64],
    ["223.255.255.255", undefined],
    ["240.0.0.1", undefined],
    ["192.0.2.255", undefined],
    ["fe80::1", undefined],
  ];
  for (const [text, identity] of cases) assert.equal(identityOfMany(IpAddress.parse(text)), identity, text);
});

Deno.test("cidrIdentityLabels() gives a prefix its own label and its family's world; /0 is the world alone", () => {
  assert.equal(cidrIdentityLabels(Prefix.parse("10.0.0.0/8")).key, "cidr:10.0.0.0/8;reserved:world-ipv4");
  assert.equal(cidrIdentityLabels(Prefix.parse("fd00::/8")).key, "cidr:fd00::/8;reserved:world-ipv6");
  assert.equal(cidrIdentityLabels(Prefix.parse("::/0")).key, "reserved:world-ipv6");
});

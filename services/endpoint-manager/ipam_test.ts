import assert from "node:assert/strict";
import { IpAddress } from "@weir/common";
import { EndpointIds, IpamError, PodAddresses } from "./ipam.ts";

Deno.test("PodAddresses.allocate() leaves network, gateway and broadcast alone and lets a freed address rest", () => {
  const pool = new PodAddresses("10.0.0.0/29");
  assert.equal(pool.gateway.text, "10.0.0.1");
  const given = [1, 2, 3, 4, 5].map((n) => pool.allocate(`ep${n}`).text);
  assert.deepEqual(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
  assert.throws(
    () => pool.allocate("one more"),
    (e: Error) => e instanceof IpamError && e.code === "IPAM_EXHAUSTED",
  );
  pool.release("10.0.0.4", "someone else");
  assert.equal(pool.ownerOf("10.0.0.4"), "ep3");
  pool.release("10.0.0.3", "ep2");
  pool.release("10.0.0.5", "ep4");
  assert.equal(pool.allocate("a").text, "10.0.0.3");
  assert.equal(pool.allocate("b").text, "10.0.0.5");
});

Deno.test("PodAddresses.claim() is repeatable for its owner and refuses others, the gateway and the outside", () => {
  const pool = new PodAddresses("fd00:10::/112");
  const address = IpAddress.parse("fd00:10::20");
  pool.claim(address, "web");
  pool.claim(address, "web");
  const faults: [string, string][] = [["fd00:10::20", "IPAM_TAKEN"], ["fd00:10::1", "IPAM_OUTSIDE"], [
    "fd00:11::5",
    "IPAM_OUTSIDE",
  ]];
  for (const [text, code] of faults) {
    assert.throws(
      () => pool.claim(IpAddress.parse(text), "db"),
      (e: Error) => e instanceof IpamError && e.code === code,
    );
  }
});

Deno.test("EndpointIds hands out 4094 numbers once each", () => {
  const ids = new EndpointIds();
  assert.equal(ids.claim(2), true);
  assert.equal(ids.claim(2), false);
  const seen = new Set([2]);
  for (let i = 0; i < 4093; i++) seen.add(ids.allocate());
  assert.equal(seen.size, 4094);
  assert.throws(() => ids.allocate(), IpamError);
  ids.release(77);
  assert.equal(ids.allocate(), 77);
});

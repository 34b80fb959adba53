import assert from "node:assert/strict";
import { decodeAttributes, encodeAttributes, encodeMessage, text, textOf, u32 } from "./netlink.ts";
import { decodeDevice, formatMac, parseMac } from "./link.ts";
import { decodeRoute, encodeRoute } from "./route.ts";

Deno.test("encodeAttributes() pads to four bytes and marks what is nested", () => {
  const bytes = encodeAttributes([[3, text("lo")], [18, [[1, text("veth")]]]]);
  assert.deepEqual([...bytes], [
    ...[7, 0, 3, 0, 0x6c, 0x6f, 0, 0],
    ...[16, 0, 18, 0x80, 9, 0, 1, 0, 0x76, 0x65, 0x74, 0x68, 0, 0, 0, 0],
  ]);
  const found = decodeAttributes(bytes);
  assert.equal(textOf(found.get(3)), "lo");
  assert.equal(textOf(decodeAttributes(found.get(18)!).get(1)), "veth");
});

Deno.test("decodeAttributes() stops at a length that does not fit", () => {
  assert.equal(decodeAttributes(Uint8Array.of(3, 0, 1, 0)).size, 0);
  assert.equal(decodeAttributes(Uint8Array.of(200, 0, 1, 0)).size, 0);
  assert.equal(decodeAttributes(Uint8Array.of(1, 0)).size, 0);
});

Deno.test("encodeMessage() writes the header", () => {
  const view = new DataView(encodeMessage(16, 5, 9, u32(7)).buffer);
  assert.deepEqual(
    [view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true), view.getUint32(8, true)],
    [20, 16, 5, 9],
  );
});

Deno.test("encodeRoute() and decodeRoute() agree", () => {
  const route = {
    destination: Uint8Array.of(10, 0, 1, 0),
    prefixLength: 24,
    ifindex: 7,
    gateway: Uint8Array.of(10, 0, 0, 1),
    source: Uint8Array.of(10, 0, 0, 2),
    onlink: true,
  };
  const { onlink: _, ...expected } = route;
  assert.deepEqual(decodeRoute(encodeRoute(route)), { ...expected, protocol: 87 });
});

Deno.test("parseMac() reads what formatMac() writes and refuses the rest", () => {
  assert.equal(formatMac(parseMac("02:00:5e:10:00:ff")), "02:00:5e:10:00:ff");
  assert.throws(() => parseMac("02:00:5e:10:00"), { code: "invalid" });
});

Deno.test("decodeDevice() reads a device without attributes", () => {
  assert.equal(decodeDevice(new Uint8Array(16)).name, "");
});

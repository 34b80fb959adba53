import { deepEqual, equal } from "node:assert/strict";
import { isOn, PARTS, portOf, turned } from "./parts.ts";

const ON = { relay: true, ui: true, history: true }, OFF = { relay: false, ui: false, history: false };

Deno.test("turned() turns parts off and on, and leaves all else", () => {
  const config = { masquerade: true, hubbleRelayListen: "127.0.0.1:5000", uiListen: "127.0.0.1:7000" };
  deepEqual(turned(config, ON), config);
  const off = turned(config, OFF);
  deepEqual(off, { ...config, hubbleRelayListen: "", noUi: true, noFlowHistory: true });
  deepEqual(PARTS.map((part) => isOn(off, part)), [false, false, false]);
  deepEqual(turned(off, ON), { masquerade: true, uiListen: "127.0.0.1:7000" });
  deepEqual(turned({ uiListen: "" }, ON), {});
  deepEqual(turned({}, { ...ON, ui: false }), { noUi: true });
  equal(isOn({ noUi: false }, "ui"), true);
});

Deno.test("portOf() is where a part was told to listen", () => {
  equal(portOf({}, "relay"), 4245);
  equal(portOf({ hubbleRelayListen: "127.0.0.1:5000" }, "relay"), 5000);
  equal(portOf({ hubbleRelayListen: "" }, "relay"), 4245);
  equal(portOf({ uiListen: "127.0.0.1" }, "ui"), 12000);
});

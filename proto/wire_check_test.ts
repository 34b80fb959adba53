import assert from "node:assert/strict";
import { GetFlowsResponse } from "./gen/observer.ts";
import { WireCheck } from "./wire_check.ts";

const checker = new WireCheck("observer.GetFlowsResponse", ["flow.node_name"]);
const flow = (...bytes: number[]) => new Uint8Array([0x0a, bytes.length, ...bytes]);

const WRONG: Record<string, [bytes: Uint8Array, why: RegExp]> = {
  "a field that is cut off": [new Uint8Array([0x0a, 5, 1]), /cut off/],
  "a number that is cut off": [new Uint8Array([0x80]), /number/],
  "a number of eleven bytes": [flow(0x08, ...Array(10).fill(0x80), 1), /number/],
  "a number beyond 64 bits": [flow(0x08, ...Array(9).fill(0xff), 2), /number/],
  "field 0": [new Uint8Array([0x02, 0]), /no field 0/],
  "a group": [new Uint8Array([0x0b, 0x0c]), /kind 3/],
  "a kind that does not exist": [new Uint8Array([0x0f]), /kind 7/],
  "eight bytes that are cut off": [new Uint8Array([0x09, 1, 2]), /cut off/],
  "text that is no UTF-8, deep inside": [flow(0x42, 3, 0x2a, 1, 0xff), /UTF-8/],
  "a list of numbers that is cut off": [flow(0x42, 2, 0x0a, 9), /cut off/],
  "a time beyond the year 9999": [flow(0x0a, 11, 0x08, ...Array(9).fill(0xff), 1), /time/],
  "an extension": [flow(0x82, 0x9f, 0x49, 0), /extension/],
  "a field of a flow that reaches beyond it": [new Uint8Array([0x0a, 2, 0x12, 4, 65, 65, 65, 65]), /cut off/],
};

Deno.test("WireCheck refuses what a decoder or a printer would stop at", () => {
  for (const [name, [bytes, why]] of Object.entries(WRONG)) {
    assert.throws(() => checker.check(bytes), (error) => {
      assert.ok(error instanceof RangeError, name);
      assert.match(error.message, why, name);
      return true;
    });
  }
});

Deno.test("WireCheck takes fields that nobody knows yet, and the last of a text that comes twice", () => {
  assert.equal(
    checker.check(new Uint8Array([0xf8, 0xff, 0xff, 0xff, 0x0f, 1, 0xfd, 0x7f, 1, 2, 3, 4])).size,
    0,
  );
  const [one, two] = ["a", "b"].map((node_name) => GetFlowsResponse.encode({ flow: { node_name } }));
  assert.equal(checker.check(new Uint8Array([...one, ...two])).get("flow.node_name"), "b");
  assert.equal(GetFlowsResponse.decode(new Uint8Array([...one, ...two])).flow!.node_name, "b");
});

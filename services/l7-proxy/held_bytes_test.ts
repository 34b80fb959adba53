import assert from "node:assert/strict";
import { HeldBytes, HeldBytesError, SharedHold } from "./held_bytes.ts";

Deno.test("SharedHold leaves room to who comes next: no client holds more than twice what is free", () => {
  const shared = new SharedHold(300_000);
  const greedy = Array.from({ length: 200 }, () => new HeldBytes(shared.of("greedy"), 100_000));
  const refused = greedy.filter((held) => {
    try {
      held.append(new Uint8Array(4096));
      return false;
    } catch (error) {
      assert.ok(error instanceof HeldBytesError);
      return true;
    }
  });
  assert.ok(refused.length > 100 && shared.bytes <= 200_000 && shared.bytes > 190_000, `${shared.bytes}`);
  const other = new HeldBytes(shared.of("other"), 100_000);
  other.append(new Uint8Array(40_000));
  assert.equal(other.length, 40_000);
  for (const held of [...greedy, other]) held.take();
  assert.equal(shared.bytes, 0);
});

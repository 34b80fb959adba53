import assert from "node:assert/strict";
import { type Case, open, testOnBoth } from "./testing.ts";

const CASES: Record<string, Case> = {
  async "a batch is written whole, in one change of the counter per object, and repeating it changes nothing"(
    url,
  ) {
    const a = await open(url);
    const upserts = Array.from(
      { length: 100 },
      (_, i) => ({ prefix: `10.0.1.${i}`, identity: 300, node: "node-1" }),
    );
    assert.deepEqual(await a.updateIpcache({ node: "node-1", upserts }), {
      upserted: 100,
      deleted: 0,
      refused: [],
    });
    const { revision } = a.allocator.ipcache;
    assert.equal((await a.updateIpcache({ node: "node-1", upserts })).upserted, 100);
    assert.equal(a.allocator.ipcache.revision, revision);
    const more = await a.updateIpcache({
      node: "node-1",
      upserts: [{ prefix: "10.0.1.1/32", identity: 301, node: "node-1" }],
      deletes: ["10.0.1.2", "10.0.1.2/32", "10.0.1.200", "10.0.1.1/32"],
    });
    assert.deepEqual(more, { upserted: 1, deleted: 1, refused: [] }, "what is put and deleted is put");
    assert.equal(a.allocator.ipcache.get("10.0.1.1/32")!.identity, 301);
    assert.equal(a.allocator.ipcache.size, 99);
    await a.close();
  },

  async "what is wrong in a batch is refused by name, and the rest is done"(url) {
    const a = await open(url);
    await a.ipcache.put("10.0.2.1/32", { node: "node-2" });
    await a.ipcache.put("192.0.2.0/24", { node: "" });
    const { upserted, deleted, refused } = await a.updateIpcache({
      node: "node-1",
      upserts: [
        { prefix: "10.0.1.1/32", node: "node-1" },
        { prefix: "10.0.1.2/32", node: "node-2" },
        { prefix: "10.0.1.3/32", node: "" },
        { prefix: "10.0.0.300", node: "node-1" },
      ],
      deletes: ["10.0.2.1/32", "192.0.2.0/24", "nonsense"],
    });
    assert.deepEqual([upserted, deleted], [1, 0]);
    assert.deepEqual(refused.map(({ prefix, code }) => [prefix, code]), [
      ["nonsense", "INVALID_ARGUMENT"],
      ["10.0.1.2/32", "INVALID_ARGUMENT"],
      ["10.0.1.3/32", "INVALID_ARGUMENT"],
      ["10.0.0.300", "INVALID_ARGUMENT"],
      ["10.0.2.1/32", "ENTRY_OF_OTHER"],
      ["192.0.2.0/24", "ENTRY_OF_OTHER"],
    ]);
    assert.equal(a.allocator.ipcache.size, 3);
    await a.close();
  },

  async "a batch over its limit is refused with the limit named"(url) {
    const a = await open(url);
    const upserts = Array.from(
      { length: 1025 },
      (_, i) => ({ prefix: `10.0.${i >> 8}.${i & 255}`, node: "node-1" }),
    );
    await assert.rejects(a.updateIpcache({ node: "node-1", upserts }), {
      code: "BATCH_TOO_LARGE",
      message: /1025 prefixes at once: at most 1024/,
    });
    await assert.rejects(a.updateIpcache({ node: "", upserts: [] }), { code: "INVALID_ARGUMENT" });
    assert.equal(a.allocator.ipcache.size, 0);
    await a.close();
  },
};

testOnBoth("Ipcache", CASES);

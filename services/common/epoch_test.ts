import assert from "node:assert/strict";
import { Node } from "@weir/proto/identity";
import { EpochLine } from "./epoch.ts";
import { Database, Store } from "./state.ts";

Deno.test("EpochLine.includes() knows which positions are a part of this history", () => {
  const line = new EpochLine([
    { epoch: "a", fromRevision: 1 },
    { epoch: "b", fromRevision: 300 },
    { epoch: "c", fromRevision: 250 }, // restored to before where b began
  ]);
  const cases: [string, number, boolean][] = [
    ["a", 200, true],
    ["a", 250, true],
    ["a", 251, false],
    ["a", 500, false],
    ["b", 250, true],
    ["b", 300, false],
    ["c", 250, true],
    ["c", 9000, true],
    ["x", 1, false],
  ];
  for (const [epoch, revision, expected] of cases) {
    assert.equal(line.includes({ epoch, revision }), expected, `${epoch} ${revision}`);
  }
  assert.equal(line.newest, "c");
});

async function openStore(path: string) {
  const database = new Database(`sqlite:${path}`);
  const store = new Store({ database });
  const nodes = store.collection("nodes", Node);
  await store.start();
  const put = (name: string) => store.transact((tx) => tx.put("nodes", name, Node.create({ name })));
  const position = () => ({ revision: nodes.revision, epoch: nodes.epoch });
  return { store, nodes, put, position, close: async () => (await store.stop(), await database.close()) };
}

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a position survives the restart of its process, with the history behind it", () =>
  withDirectory(async (directory) => {
    const first = await openStore(`${directory}/x.db`);
    await first.put("a");
    const early = first.position();
    await first.put("b");
    const late = first.position();
    await first.close();
    const second = await openStore(`${directory}/x.db`);
    assert.notEqual(second.nodes.epoch, late.epoch);
    assert.equal(second.nodes.holds(late), true);
    assert.equal(second.nodes.holds(early), true);
    assert.deepEqual(second.nodes.changesSince(early.revision)!.map((c) => `${c.type} ${c.name}`), ["PUT b"]);
    await second.put("c");
    assert.equal(second.nodes.holds(second.position()), true);
    await second.close();
  }));

Deno.test("a database replaced by an older copy under a stopped process makes later positions invalid", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/x.db`;
    const first = await openStore(path);
    await first.put("a");
    const kept = first.position();
    await first.close();
    await Deno.copyFile(path, `${directory}/backup.db`);
    const second = await openStore(path);
    await second.put("b");
    const lost = second.position();
    await second.close();
    for (const suffix of ["-wal", "-shm"]) await Deno.remove(path + suffix).catch(() => {});
    await Deno.rename(`${directory}/backup.db`, path);
    const restored = await openStore(path);
    assert.equal(restored.nodes.holds(kept), true);
    assert.equal(restored.nodes.holds(lost), false, "not yet there");
    // The copy has advanced past the client's revision: the number is held, what it meant to the client is not.
    await restored.put("other");
    await restored.put("another");
    assert.ok(restored.nodes.revision > lost.revision);
    assert.equal(restored.nodes.holds(lost), false, "another history");
    assert.equal(restored.nodes.holds({ revision: lost.revision }), true, "which only the epoch tells");
    assert.equal(restored.nodes.holds(kept), true);
    await restored.close();
  }));

import assert from "node:assert/strict";
import { Node } from "@weir/proto/identity";
import { ApiServer, listenUnix, WatchedTable } from "@weir/common";
import { Reflector, WeirClient } from "./mod.ts";

async function until(what: () => boolean, ms = 60_000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("watchers on sockets get the same bytes whole, beside one that does not read", async () => {
  const table = new WatchedTable<Node>({ name: "nodes", historyMax: 100 });
  const api = new ApiServer({ name: "test" });
  api.collection({ name: "nodes", message: Node, table });
  const put = (n: number, ipv4: string) =>
    table.put(`n${n}`, Node.create({ name: `n${n}`, ipv4, labels: ["x".repeat(50)] }));
  for (let n = 0; n < 3000; n++) put(n, "1");
  const directory = await Deno.makeTempDir();
  const listener = await listenUnix(api.fetch, `${directory}/x.sock`);
  const stuck = await Deno.connect({ transport: "unix", path: `${directory}/x.sock` });
  await stuck.write(new TextEncoder().encode("GET /v1/nodes?watch=true HTTP/1.1\r\nhost: x\r\n\r\n"));
  const clients = Array.from({ length: 20 }, () => new WeirClient({ socket: `${directory}/x.sock` }));
  const lost: string[] = [];
  const reflectors = clients.map((client) =>
    new Reflector(client.collection("nodes", Node), {
      onState: (error) => lost.push(error?.code ?? "back"),
    }).start()
  );
  try {
    await Promise.all(reflectors.map((reflector) => reflector.waitSynced()));
    for (let n = 0; n < 3000; n++) put(n, "2");
    table.delete("n7");
    await until(() => reflectors.every((copy) => copy.revision === table.revision));
    const expected = table.entries();
    for (const copy of reflectors) assert.deepEqual(copy.entries(), expected);
    assert.deepEqual(lost, []);
    const { items, epoch } = await clients[0].collection("nodes", Node).list();
    assert.deepEqual([items.length, epoch], [2999, table.epoch]);
  } finally {
    await Promise.all(reflectors.map((reflector) => reflector.stop()));
    for (const client of clients) client.close();
    stuck.close();
    await listener.shutdown(100);
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import type { ProblemError } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { EndpointFiles } from "./endpoint_store.ts";
import { NodeFile } from "./node_file.ts";
import { PolicySetFile } from "./policy_set_file.ts";
import { writeStateFile } from "./state_file.ts";

const endpoint = (id: number, name = "default/web") => Endpoint.create({ name, netns: "/n", status: { id } });

async function withDirectory(body: (directory: string) => Promise<void>) {
  const directory = await Deno.makeTempDir();
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("EndpointFiles.save() keeps the newest of calls that overlap, whatever each began with", () =>
  withDirectory(async (directory) => {
    const store = new EndpointFiles(directory);
    await store.load();
    let now = endpoint(1);
    const saves = [];
    for (let id = 1; id <= 20; id++) {
      now = endpoint(id);
      saves.push(store.save(now.name, () => now));
    }
    await Promise.all(saves);
    assert.equal((await store.load()).endpoints[0].endpoint.status?.id, 20);
    await Promise.all([
      store.save(now.name, () => now),
      store.remove(now.name),
      store.save(now.name, () => undefined),
    ]);
    assert.deepEqual((await store.load()).endpoints, [], "one that is gone is not written again");
  }));

Deno.test("EndpointFiles.markDeleting() outlives the process, and what was begun twice too", () =>
  withDirectory(async (directory) => {
    const store = new EndpointFiles(directory);
    await store.load();
    await store.save("default/web", () => endpoint(3));
    await store.markDeleting("default/web");
    await store.markDeleting("default/web");
    const again = new EndpointFiles(directory);
    const [{ endpoint: kept, deleting }] = (await again.load()).endpoints;
    assert.deepEqual([kept.status?.id, deleting], [3, true]);
    // An older file beside it (a machine that lost power between two writes) does not bring it back.
    await Deno.writeTextFile(`${directory}/default%2Fweb.json`, JSON.stringify(Endpoint.toJson(kept)));
    assert.deepEqual((await again.load()).endpoints.map((e) => e.deleting), [true]);
    await again.remove("default/web");
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  }));

Deno.test("writeStateFile() names what it could not write, and leaves the file of before and nothing else", () =>
  withDirectory(async (directory) => {
    await writeStateFile(`${directory}/a`, "old");
    await assert.rejects(
      writeStateFile(`${directory}/none/a`, "x"),
      (e: ProblemError) =>
        e.code === "ENDPOINT_STORE_FAILED" && e.status === 507 && /none\/a/.test(e.message),
    );
    // A directory in the file's place cannot be replaced.
    await Deno.mkdir(`${directory}/b`);
    await assert.rejects(writeStateFile(`${directory}/b`, "x"), { code: "ENDPOINT_STORE_FAILED" });
    assert.equal(await Deno.readTextFile(`${directory}/a`), "old");
    assert.deepEqual([...Deno.readDirSync(directory)].map((e) => e.name).sort(), ["a", "b"]);
  }));

Deno.test({
  name: "EndpointFiles on a disk that is full, or read-only, says so; a full one keeps nobody from deleting",
  ignore: Deno.uid() !== 0,
  fn: () =>
    withDirectory(async (directory) => {
      const mount = async (...args: string[]) => {
        const { success, stderr } = await new Deno.Command("mount", { args }).output();
        assert.ok(success, new TextDecoder().decode(stderr));
      };
      await mount("-t", "tmpfs", "-o", "size=64k", "none", directory);
      try {
        const store = new EndpointFiles(directory);
        await store.load();
        await store.save("default/web", () => endpoint(1));
        const big = Endpoint.create({
          ...endpoint(2, "default/big"),
          labels: ["k8s:x=" + "y".repeat(100_000)],
        });
        await assert.rejects(store.save(big.name, () => big), (e: ProblemError) => {
          assert.equal(e.code, "ENDPOINT_STORE_FAILED");
          assert.equal(e.problem.found, "a full disk");
          return true;
        });
        assert.deepEqual((await store.load()).endpoints.map((e) => e.endpoint.name), ["default/web"]);
        await Deno.writeFile(`${directory}/filler`, new Uint8Array(60_000)).catch(() => {});
        await store.markDeleting("default/web");
        assert.equal((await store.load()).endpoints[0].deleting, true);
        await mount("-o", "remount,ro", directory);
        await assert.rejects(store.remove("default/web"), (e: ProblemError) => {
          assert.equal(e.problem.found, "a read-only disk");
          return true;
        });
      } finally {
        await new Deno.Command("umount", { args: [directory] }).output();
      }
    }),
});

Deno.test("PolicySetFile gives back what was kept, and nothing where it cannot be read", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/policy-set.json`, file = new PolicySetFile(path);
    assert.equal(await file.load(), undefined);
    await file.save({ policyRevision: 5, policySet: "5:0123456789abcdef" });
    assert.deepEqual(await file.load(), { policyRevision: 5, policySet: "5:0123456789abcdef" });
    for (const broken of ["{", "7", "null", '{"policyRevision": "5", "policySet": ""}']) {
      await Deno.writeTextFile(path, broken);
      assert.equal(await file.load(), undefined, broken);
    }
  }));

Deno.test("NodeFile gives back what was kept, and nothing where it cannot be read", () =>
  withDirectory(async (directory) => {
    const file = new NodeFile(`${directory}/node.json`);
    assert.equal(await file.load(), undefined);
    await file.save({ name: "n", podCidrV4: "10.0.1.0/24" } as never);
    assert.equal((await file.load())?.podCidrV4, "10.0.1.0/24");
    await Deno.writeTextFile(`${directory}/node.json`, "{");
    assert.equal(await file.load(), undefined);
  }));

/**
 * A database as version bb843b6 left it (testdata/identity-0.sql: its first schema, one node with three endpoints) keeps its
 * numbers and addresses.
 * @module
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { open } from "./testing.ts";

const OLD = new URL("testdata/identity-0.sql", import.meta.url);
const APPS = [["web", 256, "10.0.0.2/32"], ["client", 257, "10.0.0.3/32"], ["stranger", 258, "10.0.0.4/32"]];
const COMMON = ["k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=default"];

Deno.test("An identity database of the first schema keeps its numbers, addresses and nodes", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/identity.db`;
  const old = new DatabaseSync(path);
  old.exec(await Deno.readTextFile(OLD));
  old.close();
  try {
    // The second start finds a database that has been migrated.
    for (const start of ["first", "second"]) {
      const a = await open(`sqlite:${path}`);
      try {
        for (const [app, number, prefix] of APPS) {
          const labels = [...COMMON, `unspec:app=${app}`];
          assert.deepEqual((await a.identities.get(`${number}`))?.labels, labels, start);
          const answer = await a.allocate(labels, `${app}`, "server");
          assert.deepEqual([answer.number, answer.created], [number, false], start);
          const entry = await a.ipcache.get(`${prefix}`);
          assert.deepEqual([entry?.identity, entry?.node], [number, "server"], start);
        }
        assert.equal((await a.nodes.get("server"))?.ipv4, "192.0.2.1", start);
        const fresh = await a.allocate([...COMMON, `unspec:app=${start}`], start, "server");
        assert.ok(fresh.created && !APPS.some(([, number]) => number === fresh.number), start);
      } finally {
        await a.close();
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { sql } from "kysely";
import { Node } from "@weir/proto/identity";
import { type Case, open, testOnBoth } from "./testing.ts";

const CASES: Record<string, Case> = {
  async "free ones are given in order, freed ones again, and hand-picked ones are gone around"(url) {
    const a = await open(url, { podPoolV4: "10.9.0.0/20", podPoolV6: "" });
    await a.nodes.put("picked", { podCidrV4: "10.9.2.128/25" });
    const given: string[] = [];
    for (let i = 0; i < 4; i++) given.push((await a.nodes.put(`node-${i}`, {})).podCidrV4);
    assert.deepEqual(given, ["10.9.0.0/24", "10.9.1.0/24", "10.9.3.0/24", "10.9.4.0/24"]);
    await a.nodes.delete("node-1");
    await a.nodes.delete("picked");
    assert.equal((await a.nodes.put("heir", {})).podCidrV4, "10.9.1.0/24");
    assert.equal((await a.nodes.put("heir-2", {})).podCidrV4, "10.9.2.0/24");
    assert.equal((await a.nodes.put("heir-3", {})).podCidrV4, "10.9.5.0/24");
    await a.close();
    const b = await open(url, { podPoolV4: "10.9.0.0/20", podPoolV6: "" });
    for (let i = 6; i < 16; i++) {
      assert.equal((await b.nodes.put(`more-${i}`, {})).podCidrV4, `10.9.${i}.0/24`);
    }
    await assert.rejects(b.nodes.put("late", {}), {
      code: "POD_CIDRS_EXHAUSTED",
      message: /all 16 of 10\.9\.0\.0\/20/,
    });
    await b.nodes.delete("more-9");
    assert.equal((await b.nodes.put("late", {})).podCidrV4, "10.9.9.0/24");
    await b.close();
  },

  async "16,384 nodes fit, the next one is refused before the database has it"(url) {
    const empty = await open(url);
    // Put by hand: 16,383 calls would take long, and are not what is tried.
    const rows = Array.from(
      { length: 16_383 },
      (_, i) => Node.create({ name: `node-${i}`, podCidrV4: cidr(i) }),
    );
    for (let at = 0; at < rows.length; at += 1000) {
      const part = rows.slice(at, at + 1000);
      await sql`insert into weir_objects (collection, name, revision, body) values ${
        sql.join(part.map((node) => sql`('nodes', ${node.name}, 1, ${Node.encode(node)})`))
      }`.execute(empty.database.kysely);
      await sql`insert into weir_pod_cidr (cidr, node, family) values ${
        sql.join(part.map((node) => sql`(${node.podCidrV4}, ${node.name}, 4)`))
      }`.execute(empty.database.kysely);
    }
    await empty.close();
    const a = await open(url, { podPoolV6: "" });
    assert.equal(a.allocator.nodes.size, 16_383);
    assert.equal((await a.nodes.put("last", {})).podCidrV4, cidr(16_383));
    await assert.rejects(a.nodes.put("one-more", {}), {
      code: "TABLE_FULL",
      status: 507,
      message: /16384 of 16384/,
    });
    await a.nodes.put("last", { ipv4: "192.0.2.1" });
    const { rows: stored } = await sql<{ count: string }>`
      select count(*) as count from weir_objects where collection = 'nodes'`.execute(a.database.kysely);
    assert.equal(Number(stored[0].count), 16_384);
    const { rows: cidrs } = await sql`select 1 from weir_pod_cidr where node = 'one-more'`.execute(
      a.database.kysely,
    );
    assert.equal(cidrs.length, 0);
    await a.close();
  },
};

const cidr = (i: number) => `10.${i >> 8}.${i & 255}.0/24`;

testOnBoth("PodCidrs", CASES);

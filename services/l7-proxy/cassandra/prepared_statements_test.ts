import assert from "node:assert/strict";
import { PreparedStatements } from "./prepared_statements.ts";

const statement = (table: string) => ({
  statements: [{ action: "select", keyspace: "ks", table, scope: "table" as const }],
  keyspaces: [""],
  use: null,
});
const id = (number: number) => new Uint8Array([number >> 8, number]);

Deno.test("PreparedStatements knows ids by server, and lets the least recently used go", () => {
  const prepared = new PreparedStatements({ perServerMax: 3, max: 5 });
  for (const number of [1, 2, 3]) prepared.learn("a", id(number), statement(`t${number}`));
  assert.equal(prepared.get("b", id(1)), undefined, "another server");
  assert.equal(prepared.get("a", id(1))?.statements[0].table, "t1");
  prepared.learn("a", id(4), statement("t4"));
  assert.equal(prepared.get("a", id(2)), undefined);
  assert.equal(prepared.get("a", id(1))?.statements[0].table, "t1");
  prepared.learn("a", id(4), statement("t5"));
  assert.equal(prepared.get("a", id(4))?.statements[0].table, "t5", "learnt anew");
  assert.equal(prepared.size, 3);
});

Deno.test("PreparedStatements takes room from the server that has the most", () => {
  const prepared = new PreparedStatements({ perServerMax: 4, max: 5 });
  for (const number of [1, 2, 3, 4]) prepared.learn("greedy", id(number), statement("t"));
  prepared.learn("modest", id(1), statement("t"));
  prepared.learn("modest", id(2), statement("t"));
  assert.equal(prepared.size, 5);
  assert.equal(prepared.evicted, 1);
  assert.equal(prepared.get("greedy", id(1)), undefined);
  assert.notEqual(prepared.get("modest", id(1)), undefined);
  for (let server = 0; server < 100; server++) prepared.learn(`s${server}`, id(1), statement("t"));
  assert.equal(prepared.size, 5);
  assert.notEqual(prepared.get("s99", id(1)), undefined);
});

Deno.test("PreparedStatements counts the statements of a batch", () => {
  const prepared = new PreparedStatements({ perServerMax: 8, max: 12 });
  const batch = (count: number) => ({
    ...statement("t"),
    statements: Array.from({ length: count }, (_, at) => statement(`t${at}`).statements[0]),
  });
  for (const number of [1, 2, 3]) prepared.learn("a", id(number), batch(4));
  assert.deepEqual([prepared.size, prepared.evicted, prepared.get("a", id(1))], [8, 1, undefined]);
  prepared.learn("a", id(2), statement("t"));
  assert.equal(prepared.size, 5, "learnt anew, with fewer");
  prepared.learn("b", id(1), batch(8));
  assert.deepEqual([prepared.size, prepared.get("a", id(3))], [9, undefined]);
  prepared.learn("a", id(4), batch(8));
  assert.equal(prepared.get("a", id(4))?.statements.length, 8);
  assert.ok(prepared.size <= 12);
});

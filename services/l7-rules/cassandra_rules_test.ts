import assert from "node:assert/strict";
import { CassandraRule } from "@weir/proto/l7";
import { cassandraJudge, compileCassandraRule, judgeCassandra } from "./cassandra_rules.ts";
import { RuleFault } from "./pattern.ts";
import type { CassandraStatement } from "./request.ts";

const judge = (rules: Partial<CassandraRule>[], ...statements: CassandraStatement[]) =>
  judgeCassandra(
    rules.map((rule, at) => compileCassandraRule(CassandraRule.create({ cookie: at + 1, ...rule }))),
    { kind: "CASSANDRA", statements },
    99,
  );
const statement = (action: string, table?: string): CassandraStatement => ({ action, table });

Deno.test("judgeCassandra() takes the action exactly and searches the table", () => {
  const table: [Partial<CassandraRule>, CassandraStatement, boolean][] = [
    [{}, statement("select", "ks.t"), true],
    [{}, statement("list-roles"), true],
    [{}, statement(""), true],
    [{ queryAction: "select" }, statement("select", "ks.t"), true],
    [{ queryAction: "select" }, statement("select"), true],
    [{ queryAction: "select" }, statement("insert", "ks.t"), false],
    [{ queryAction: "select" }, statement(""), false],
    [{ queryAction: "list-roles" }, statement("list-roles"), true],
    [{ queryAction: "create-keyspace", queryTable: "^ks$" }, statement("create-keyspace", "ks"), true],
    [{ queryAction: "create-keyspace", queryTable: "^ks$" }, statement("create-keyspace", "ks2"), false],
    [{ queryTable: "system\\..*" }, statement("select", "system.local"), true],
    [{ queryTable: "system\\..*" }, statement("select", "system_schema.tables"), false],
    // Searched for, not matched as a whole.
    [{ queryTable: "secret" }, statement("select", "ks.topsecret2"), true],
    [{ queryTable: "^ks\\.t$" }, statement("select", "ks.t2"), false],
    // Unquoted names have no case; quoted ones do.
    [{ queryTable: "myTable" }, statement("select", "ks.mytable"), true],
    [{ queryTable: "mytable" }, statement("select", "ks.myTable"), false],
    [{ queryTable: "myTable" }, statement("select", "ks.myTable"), true],
    [{ queryTable: "^ks\\.[^A-Z]+$" }, statement("select", "ks.mytable"), true],
    // What cannot be judged is not allowed.
    [{ queryTable: ".*" }, statement("select"), false],
    [{ queryTable: ".*" }, statement(""), false],
    // The keyspace counts where names follow.
    [{ queryAction: "select", queryTable: "^ks\\." }, statement("use", "other"), true],
  ];
  for (const [rule, one, allowed] of table) {
    assert.equal(judge([rule], one).allowed, allowed, JSON.stringify([rule, one]));
  }
});

Deno.test("judgeCassandra() judges the members of a batch one by one, and names those that nothing allows", () => {
  const rules = [{ queryAction: "insert", queryTable: "ok" }, { queryAction: "update", queryTable: "ok" }];
  const ok = [statement("insert", "ks.ok"), statement("update", "ks.ok")];
  assert.deepEqual(judge(rules, ...ok).cookie, 1);
  const denied = judge(rules, ...ok, statement("delete", "ks.ok"), statement("insert", "ks.no"));
  assert.deepEqual([denied.allowed, denied.cookie, denied.denied], [false, 99, ["2", "3"]]);
  assert.equal(judge(rules).allowed, false);
});

Deno.test("compileCassandraRule() refuses unknown actions, and a table beside an action that has none", () => {
  const table: [Partial<CassandraRule>, RegExp][] = [
    [{ queryAction: "Select" }, /query_action "Select" is none that is known/],
    [{ queryAction: "list-roles", queryTable: "x" }, /about no table/],
    [{ queryTable: "(" }, /no regular expression/],
  ];
  for (const [rule, message] of table) {
    assert.throws(
      () => compileCassandraRule(CassandraRule.create(rule)),
      (error) => error instanceof RuleFault && message.test(error.message),
    );
  }
});

Deno.test("cassandraJudge() says again what judgeCassandra() said, of a table without a name too, however many are asked about", () => {
  const rules = [{ queryAction: "select", queryTable: "^ks\\.t[0-7]*$" }, { queryAction: "list-roles" }, {
    queryTable: "^$",
  }].map((rule, at) => compileCassandraRule(CassandraRule.create({ cookie: at + 1, ...rule })));
  const judges = cassandraJudge(rules, 9);
  const asked = [
    statement("list-roles"),
    statement("select"),
    statement("select", ""),
    statement("select", "ks.t1"),
  ];
  for (let at = 0; at < 1500; at++) asked.push(statement("select", `ks.t${at}`));
  for (let round = 0; round < 2; round++) {
    for (const one of asked) {
      const request = { kind: "CASSANDRA", statements: [one] } as const;
      assert.deepEqual(judges(request), judgeCassandra(rules, request, 9));
    }
  }
});

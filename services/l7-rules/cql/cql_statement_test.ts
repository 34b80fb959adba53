import assert from "node:assert/strict";
import { CqlError, TOKENS_MAX } from "./cql_lexer.ts";
import { readCql, STATEMENTS_MAX } from "./cql_statement.ts";

/** "action target", members of a batch with ";" between them; "USE" where the text changes the keyspace. */
function read(text: string): string {
  const { statements, use } = readCql(text);
  const all = statements.map(({ action, keyspace, table, scope }) =>
    [
      action,
      ...(scope === "none"
        ? []
        : [scope === "keyspace" ? keyspace : keyspace === "" ? table : `${keyspace}.${table}`]),
    ]
      .join(" ")
  );
  return all.join("; ") + (use === null ? "" : ` USE ${use}`);
}

Deno.test("readCql() reads action and table of every form", () => {
  const cases: [string, string][] = [
    ["SELECT * FROM ks.t", "select ks.t"],
    ["select JSON distinct a, count(*) AS n from T where k = 'x' ALLOW FILTERING;;", "select t"],
    ["SELECT json FROM t", "select t"],
    ["SELECT CAST(a AS text), writetime(b), [1, 2], {'a': 1}, (int) 5 FROM ks . t", "select ks.t"],
    ["SELECT a['from'], \"from\" FROM t", "select t"],
    ['SELECT * FROM "Ks"."myTable"', "select Ks.myTable"],
    ["SELECT * FROM MyKs.myTable", "select myks.mytable"],
    ["/* all */ SELECT -- of it\n * // here\r FROM t -- end", "select t"],
    ["SELECT *\tFROM\r\nks\n.\nt", "select ks.t"],
    ["INSERT INTO ks.t(k, v) VALUES ('from', 1) IF NOT EXISTS USING TTL 5", "insert ks.t"],
    ["INSERT INTO t JSON '{\"k\": 1}' DEFAULT UNSET", "insert t"],
    ["UPDATE ks.t USING TTL 3 SET a = a + {1: 'x'}, b[0] = ? WHERE k = :name IF a = 1", "update ks.t"],
    ["DELETE a, b['x'], c.f FROM ks.t USING TIMESTAMP 5 WHERE k = 0xCAFE", "delete ks.t"],
    ["DELETE FROM t WHERE k = 1", "delete t"],
    ["TRUNCATE t", "truncate-table t"],
    ["TRUNCATE TABLE ks.t", "truncate-table ks.t"],
    ["truncate columnfamily t", "truncate-table t"],
    ["USE ks", "use ks USE ks"],
    ['USE "Ks";', "use Ks USE Ks"],
    ["CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': 'x'}", "create-keyspace k"],
    ["ALTER SCHEMA IF EXISTS k WITH durable_writes = true", "alter-keyspace k"],
    ["DROP KEYSPACE k", "drop-keyspace k"],
    ["CREATE TABLE ks.t (k text PRIMARY KEY)", "create-table ks.t"],
    ["CREATE COLUMNFAMILY IF NOT EXISTS t (k int PRIMARY KEY)", "create-table t"],
    ["CREATE TABLE a LIKE b", "create-table a"],
    ["ALTER TABLE IF EXISTS ks.t ADD (a int, b int)", "alter-table ks.t"],
    ["DROP TABLE IF EXISTS t", "drop-table t"],
    ["CREATE INDEX IF NOT EXISTS i ON ks.t (a)", "create-index"],
    ["CREATE CUSTOM INDEX ON t (a) USING 'x'", "create-index"],
    ["DROP INDEX i", "drop-index"],
    [
      "CREATE MATERIALIZED VIEW v AS SELECT a FROM t WHERE a IS NOT NULL PRIMARY KEY (a)",
      "create-materialized-view",
    ],
    ["ALTER MATERIALIZED VIEW v WITH comment = 'x'", "alter-materialized-view"],
    ["DROP MATERIALIZED VIEW IF EXISTS v", "drop-materialized-view"],
    [
      "CREATE OR REPLACE FUNCTION f(a int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS $$ return ';'; $$",
      "create-function",
    ],
    ["CREATE OR REPLACE AGGREGATE a(int) SFUNC s STYPE int INITCOND 0", "create-aggregate"],
    ["DROP FUNCTION f(int)", "drop-function"],
    ["CREATE TYPE ks.u (a int)", "create-type"],
    ["ALTER TYPE u ADD b int", "alter-type"],
    ["DROP TYPE u", "drop-type"],
    ["CREATE TRIGGER x ON t USING 'c'", "create-trigger"],
    ["DROP TRIGGER x ON t", "drop-trigger"],
    ["CREATE ROLE r WITH PASSWORD = 'it''s; fine' AND LOGIN = true", "create-role"],
    ["ALTER ROLE r WITH SUPERUSER = false", "alter-role"],
    ["DROP ROLE IF EXISTS r", "drop-role"],
    ["CREATE USER u WITH PASSWORD 'x' NOSUPERUSER", "create-user"],
    ["ALTER USER u WITH PASSWORD 'x'", "alter-user"],
    ["DROP USER u", "drop-user"],
    ["GRANT SELECT ON ks.t TO r", "grant-permission"],
    ["GRANT ALL PERMISSIONS ON ALL KEYSPACES TO r", "grant-permission"],
    ["GRANT admin TO r", "grant-role"],
    ["REVOKE SELECT ON KEYSPACE k FROM r", "revoke-permission"],
    ["REVOKE admin FROM r", "revoke-role"],
    ["LIST ROLES OF r", "list-roles"],
    ["LIST USERS", "list-users"],
    ["LIST ALL PERMISSIONS ON t OF r NORECURSIVE", "list-permissions"],
    ["DESCRIBE KEYSPACES", "describe"],
    ["DESC TABLE ks.t WITH INTERNALS", "describe"],
    ["ADD IDENTITY 'x' TO ROLE 'r'", "add-identity"],
    [
      "BEGIN BATCH INSERT INTO a (k) VALUES (1); UPDATE ks.b SET v = 1 WHERE k = 1; DELETE FROM c WHERE k = 1; APPLY BATCH;",
      "insert a; update ks.b; delete c",
    ],
    [
      "BEGIN UNLOGGED BATCH USING TIMESTAMP 1 INSERT INTO a (k) VALUES (1) INSERT INTO a (k) VALUES (2) DELETE v FROM b WHERE k = 1 APPLY BATCH",
      "insert a; delete b",
    ],
    ["begin counter batch update t set c = c + 1 where k = 'insert into secret' apply batch", "update t"],
    [
      "SELECT * FROM t WHERE d = 1h30m AND e = P1Y2M AND f = 550e8400-e29b-41d4-a716-446655440000 AND g = -1.5e-3",
      "select t",
    ],
    ["SELECT * FROM t WHERE a = -NaN AND b = Infinity AND c = 0x AND l[1..2] = ?", "select t"],
  ];
  for (const [text, expected] of cases) assert.equal(read(text), expected, text);
});

Deno.test("readCql() is not led past a table", () => {
  const cases: [string, string][] = [
    ["select * from ks.secret where k = ' from ks.ok '", "select ks.secret"],
    ["select * from ks.secret where k = 'it''s' and v = '' -- from ks.ok\n", "select ks.secret"],
    ["select * from ks.secret where k = $$ ' from ks.ok $$", "select ks.secret"],
    ['select "a"" from ks.ok" from ks.secret', "select ks.secret"],
    ["select /* from ks.ok */ * from /* ks.ok */ ks.secret", "select ks.secret"],
    ["select /*/ from ks.ok /*/ * from ks.secret", "select ks.secret"],
    ["insert into t(a) values (1)", "insert t"],
    ['select * from "Secret"', "select Secret"],
    [
      "begin batch insert into ok (k) values (1) insert into secret (k) values ('apply batch') apply batch",
      "insert ok; insert secret",
    ],
    [
      "begin batch insert into ok (k) values ('x')insert into secret(k) values (1)apply batch",
      "insert ok; insert secret",
    ],
    [
      "begin batch update ok set a = 'x'delete from secret where k = 1 apply batch",
      "update ok; delete secret",
    ],
  ];
  for (const [text, expected] of cases) assert.equal(read(text), expected, text);
});

Deno.test("readCql() refuses what it could read otherwise than the server", () => {
  const cases = [
    // Constants that the server ends where a keyword begins.
    "begin batch update ok set a = 1INSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = 0xINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = 1dINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = 1e5INSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = 1µsINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = P1DINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = P0001-02-03T04:05:06INSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = -NANINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = -infinityINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = 550e8400-e29b-41d4-a716-44665544000aINSERT into secret (k) values (1) apply batch",
    "begin batch update ok set a = fe0e8400-e29b-41d4-a716-44665544000aINSERT into secret (k) values (1) apply batch",
    // More than one statement.
    "select * from ok; select * from secret",
    "select * from ok; drop table secret",
    "begin batch insert into ok (k) values (1) apply batch; truncate secret",
    "begin batch insert into ok (k) values (1); select * from secret; apply batch",
    "use ks; select * from secret",
    "use ks select",
    "select * from ok from secret",
    "delete from ok where k = 1 from secret",
    // Names.
    "select * from a.b.c",
    'select * from "ks.secret"',
    'select * from ""',
    'select * from "a b"',
    `select * from ${"a".repeat(223)}`,
    "select * from 'ok'",
    "select * from 5",
    "select * from ?",
    "select * from .t",
    // Without an end, or with characters that the server has not either.
    "select * from t where a = 'x",
    "select * from t where a = $$x$",
    'select * from "t',
    "select * /* from t",
    "select * from t where a = $x",
    "select * from t\u00a0where a = 1",
    "\ufeffselect * from t",
    "select * from t\0",
    // No statement.
    "",
    ";",
    "-- nothing",
    "select 1",
    "insert t (a) values (1)",
    "begin transaction select * from t commit transaction",
    "begin batch apply batch",
    "begin batch insert into t (a) values (1)",
    "create or replace table t (k int primary key)",
    "alter index i",
    "'select' * from t",
    "drop",
  ];
  for (const text of cases) assert.throws(() => readCql(text), CqlError, text);
});

Deno.test("readCql() has limits on words and on members", () => {
  assert.throws(
    () => readCql(`select * from t where a in (${"1,".repeat(TOKENS_MAX / 2)}1)`),
    /over 100000 words/,
  );
  const members = (count: number) =>
    `begin batch ${
      Array.from({ length: count }, (_, at) => `insert into t${at} (k) values (1)`).join(" ")
    } apply batch`;
  assert.equal(readCql(members(STATEMENTS_MAX)).statements.length, STATEMENTS_MAX);
  assert.throws(() => readCql(members(STATEMENTS_MAX + 1)), /over 256 different statements/);
  const same = `begin batch ${"insert into t (k) values (1);".repeat(1000)} apply batch`;
  assert.equal(readCql(same).statements.length, 1);
});

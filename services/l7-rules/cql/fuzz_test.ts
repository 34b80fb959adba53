import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { CqlError } from "./cql_lexer.ts";
import { readCql } from "./cql_statement.ts";

const rounds = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 3000);

/** Words with a blank where one is needed, and what they do. */
const STATEMENTS: readonly (readonly [words: readonly string[], means: string])[] = [
  ["SELECT * FROM ks . t WHERE k = 'x' AND l = 5", "select ks.t"],
  ["SELECT a , count ( * ) FROM t ALLOW FILTERING", "select .t"],
  ["INSERT INTO ks . t ( k ) VALUES ( ? ) USING TTL 5", "insert ks.t"],
  ["UPDATE t SET a = a + 1 WHERE k = ?", "update .t"],
  ["DELETE FROM ks . t WHERE k = $$from$$", "delete ks.t"],
  ["TRUNCATE TABLE ks . t", "truncate-table ks.t"],
  ["USE ks", "use ks."],
  ["DROP TABLE IF EXISTS ks . t", "drop-table ks.t"],
].map(([text, means]) => [text.split(" "), means] as const);

const means = (text: string) =>
  readCql(text).statements.map(({ action, keyspace, table }) => `${action} ${keyspace}.${table}`).join("; ");

function randomOf() {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9), random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  return { seed, random, whole, pick: <T>(list: readonly T[]) => list[whole(list.length)] };
}

Deno.test("readCql() takes a statement for the same, whatever stands between its words and in whichever case", () => {
  const { seed, random, whole, pick } = randomOf();
  const between = [
    ..." |\t|\n|\r\n|  |/**/|/* from ks.secret */|/* ' */|/* \" */| -- from ks.secret\n| // ' $$\n|/*/ */|\n--\n|/* /* */"
      .split("|"),
  ];
  for (let round = 0; round < rounds; round++) {
    const [words, expected] = pick(STATEMENTS);
    const text = words.map((word) => {
      // Strings have a case.
      if (/['$]/.test(word)) return word;
      return Array.from(word, (letter) => random() < 0.3 ? letter.toLowerCase() : letter.toUpperCase()).join(
        "",
      );
    }).reduce((all, word) => all + Array.from({ length: 1 + whole(2) }, () => pick(between)).join("") + word);
    assert.equal(
      means(text).replace(/^use ks\.$/, "use ks."),
      expected,
      `seed ${seed}, round ${round}: ${text}`,
    );
  }
});

Deno.test("readCql() finds each table that is named outside of strings and comments, or refuses the text", () => {
  const { seed, random, whole, pick } = randomOf();
  const parts = [
    ..."'|''|\"|$$|$|--|//|/*|*/|\n|\r|;|.|,|(|)|?|:a|5|0x|1h|-|\0|\u00e4|\ufeff".split("|"),
    ..." from ks.ok | from ks.secret |select |insert into secret (k) values (1) |begin batch | apply batch|use ks"
      .split("|"),
  ];
  let read = 0, refused = 0;
  for (let round = 0; round < rounds; round++) {
    let text = pick(STATEMENTS)[0].join(" ");
    for (let changes = 1 + whole(5); changes > 0; changes--) {
      const at = whole(text.length + 1), gone = random() < 0.3 ? whole(5) : 0;
      text = text.slice(0, at) + pick(parts) + text.slice(at + gone);
    }
    const what = `seed ${seed}, round ${round}: ${JSON.stringify(text)}`;
    try {
      const { statements } = readCql(text);
      assert.ok(statements.length > 0, what);
      read++;
      // What a plain reader of words sees when strings and comments are gone, and names in quotes are one word.
      const plain = text.replace(
        /'(?:[^']|'')*'|\$\$[^]*?\$\$|"(?:[^"]|"")*"|--[^\n\r]*|\/\/[^\n\r]*|\/\*[^]*?\*\//g,
        (found) => found.startsWith('"') ? '"name"' : " ",
      );
      // One statement that is none in the middle is refused by the server; a batch begins its next member there.
      const named = /^\s*begin\b/i.test(plain)
        ? /(?<!\.\s*)\b(?:from|into)\s+(?:ks\s*\.\s*)?secret\b/i
        : /^\s*(?:select|delete)\b[^]*(?<!\.\s*)\bfrom\s+(?:ks\s*\.\s*)?secret\b/i;
      // The server has no table `from`: the word is reserved.
      if (
        statements.every(({ table, keyspace }) =>
          table !== "secret" && table !== "from" && keyspace !== "from"
        )
      ) assert.doesNotMatch(plain, named, what);
    } catch (error) {
      if (!(error instanceof CqlError)) throw new Error(what, { cause: error });
      refused++;
    }
  }
  assert.ok(read > rounds / 20 && refused > rounds / 10, `seed ${seed}: ${read} read, ${refused} refused`);
});

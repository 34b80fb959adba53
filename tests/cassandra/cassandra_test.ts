import assert from "node:assert/strict";
import { CqlError, readCql } from "@weir/l7-rules";
import { Opcode } from "../../services/l7-proxy/cassandra/envelope.ts";
import { seededRandom } from "../seeded_random.ts";
import { isBuilt, npmClient } from "../java_server.ts";
import { CQLSH, DRIVER_CLASSES, NODE_DRIVER, PYTHON, startCassandra } from "./cassandra_server.ts";
import { cqlText } from "./cql_texts.ts";
import { NativeClient, preparedTables } from "./native_client.ts";
import { L7Relay } from "../l7_relay.ts";

const SERVER_PORT = 19_042;
const DENIED = String.raw`Denied by policy cnp:shop/rules spec\.ingress\[0\]: no rule allows`;
const LARGE_BYTES = 3_000_000;
const TEXTS = Number(Deno.env.get("WEIR_CQL_TEXTS") ?? 4000);

/** What a shop may do; without the first, no driver comes up. */
const RULES = [
  { queryAction: "select", queryTable: "^system(_schema|_traces|_virtual_schema)?\\." },
  ...["select", "insert", "update", "delete"].map((queryAction) => ({
    queryAction,
    queryTable: "^shop\\.Cart$",
  })),
];

const ruleSet = (rules: { queryAction: string; queryTable: string }[]) => ({
  kind: "CASSANDRA" as const,
  cassandra: rules.map((rule, at) => ({ ...rule, cookie: 10 + at })),
});

const SCHEMA = ["shop.cart", "shop.secret", "vault.cart"].map((table) =>
  `CREATE TABLE ${table} (k text PRIMARY KEY, v int, b blob)`
);

async function run(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout);
  assert.ok(code === 0 || text !== "", `${command} ended with ${code}: ${decoder.decode(stderr)}`);
  return text + decoder.decode(stderr);
}

Deno.test({
  name: "CassandraConnection between a real Cassandra and real clients",
  ignore: !isBuilt("cassandra"),
  async fn(t) {
    await using _server = await startCassandra(SERVER_PORT);
    const direct = await NativeClient.connect(SERVER_PORT);
    const setUp = async (text: string) => {
      const { opcode, body } = await direct.query(text);
      assert.equal(opcode, Opcode.RESULT, `${text}: ${new TextDecoder().decode(body)}`);
    };
    for (const keyspace of ["shop", "vault", "ora"]) {
      await setUp(
        `CREATE KEYSPACE ${keyspace} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
      );
    }
    for (const text of SCHEMA) await setUp(text);
    for (const table of ["ok", "secret", '"Secret"']) {
      await setUp(`CREATE TABLE ora.${table} (k text PRIMARY KEY, v int)`);
    }
    await setUp("INSERT INTO shop.cart (k, v) VALUES ('a', 1)");
    await setUp("INSERT INTO vault.cart (k, v) VALUES ('x', 666)");
    await setUp("INSERT INTO shop.secret (k, v) VALUES ('x', 666)");

    for (
      const [version, compression] of [
        [3, "none"],
        [3, "lz4"],
        [3, "snappy"],
        [4, "none"],
        [4, "lz4"],
        [4, "snappy"],
        [5, "none"],
        [5, "lz4"],
      ] as const
    ) {
      await t.step(`Python driver, version ${version}, compression ${compression}`, async () => {
        await using relay = new L7Relay(SERVER_PORT, ruleSet(RULES));
        const script = new URL("clients/driver.py", import.meta.url).pathname;
        const output = await run(PYTHON, [
          script,
          `${relay.port}`,
          `${version}`,
          compression,
          `${LARGE_BYTES}`,
        ]);
        const found = JSON.parse(output.split("\n").find((line) => line.startsWith("{")) ?? "{}");
        const denied = new RegExp(`^unauthorized: Error from server: code=2100 .*${DENIED}`);
        for (const [step, result] of Object.entries(found)) {
          const expected = EXPECTED[step];
          if (expected === "denied") assert.match(`${result}`, denied, step);
          else assert.deepEqual(result, expected ?? version, step);
        }
        assert.deepEqual(Object.keys(found).sort(), [...Object.keys(EXPECTED), "protocol"].sort(), output);
        // The driver resets what it has left; nothing else ended.
        const ends = relay.ends();
        assert.ok(
          ends.length > 0 && ends.every((why) => ["reset", "server-closed", "client-closed"].includes(why)),
          `${ends}`,
        );
        const denials = relay.records.filter(({ verdict }) => verdict === "DENIED");
        assert.ok(denials.length > 100);
        assert.ok(denials.every(({ cookie, cassandra }) => cookie === 99 && cassandra?.errorCode === 0x2100));
        const executed = relay.records.filter(({ type, cassandra }) =>
          type === "RESPONSE" && cassandra?.opcode === "EXECUTE"
        );
        assert.ok(
          executed.length > 20 && executed.every(({ cassandra }) => cassandra?.queryTable === "shop.cart"),
        );
      });
    }

    for (const compression of ["none", "lz4"]) {
      await t.step(`Java driver, compression ${compression}`, async () => {
        await using relay = new L7Relay(SERVER_PORT, ruleSet(RULES));
        const source = new URL("java/Driver.java", import.meta.url).pathname;
        const args = ["-XX:TieredStopAtLevel=1", "-cp", DRIVER_CLASSES, source, `${relay.port}`, compression];
        const output = await run("java", args);
        const found = JSON.parse(output.split("\n").find((line) => line.startsWith("{")) ?? "{}");
        for (const [step, expected] of Object.entries(EXPECTED_JAVA)) {
          if (expected === "denied") assert.match(`${found[step]}`, new RegExp(`^${DENIED}`), output);
          else assert.equal(found[step], expected, `${step}: ${output}`);
        }
        assert.equal(Object.keys(found).length, Object.keys(EXPECTED_JAVA).length, output);
      });
    }

    await t.step("Node driver", async () => {
      await using relay = new L7Relay(SERVER_PORT, ruleSet(RULES));
      const script = new URL("clients/driver.mjs", import.meta.url).pathname;
      const output = await run(Deno.execPath(), [...npmClient(script, NODE_DRIVER), `${relay.port}`]);
      const found = JSON.parse(output.split("\n").find((line) => line.startsWith("{")) ?? "{}");
      for (const [step, expected] of Object.entries(EXPECTED_NODE)) {
        if (expected === "denied") {
          assert.match(`${found[step]}`, new RegExp(`^unauthorized: ${DENIED}`), output);
        } else assert.equal(found[step], expected, `${step}: ${output}`);
      }
      assert.equal(Object.keys(found).length, Object.keys(EXPECTED_NODE).length, output);
    });

    for (const version of [4, 5]) {
      await t.step(`cqlsh, version ${version}`, async () => {
        await using relay = new L7Relay(SERVER_PORT, ruleSet(RULES));
        const text =
          "SELECT v FROM shop.cart WHERE k = 'a'; SELECT * FROM shop.secret; SELECT v FROM shop.cart WHERE k = 'a'";
        const file = await Deno.makeTempFile();
        try {
          // From a file, cqlsh goes on after an error.
          await Deno.writeTextFile(file, `${text};`);
          const output = await run(CQLSH, [
            "127.0.0.1",
            `${relay.port}`,
            `--protocol-version=${version}`,
            "-f",
            file,
          ]);
          assert.match(output, new RegExp(`Unauthorized.*${DENIED} select on shop.secret`));
          assert.equal(output.match(/\(1 rows\)/g)?.length, 2, output);
          assert.doesNotMatch(output, /666/);
        } finally {
          await Deno.remove(file);
        }
      });
    }

    await t.step("prepared ids after a restart of the proxy, and after the policy has changed", async () => {
      const before = new L7Relay(SERVER_PORT, ruleSet(RULES));
      const client = await NativeClient.connect(before.port);
      const prepared = await client.prepare("SELECT v FROM shop.cart WHERE k = 'a'");
      const id = prepared.body.subarray(6, 6 + 16);
      client.close();
      await before[Symbol.asyncDispose]();
      await using after = new L7Relay(SERVER_PORT, ruleSet(RULES));
      const again = await NativeClient.connect(after.port);
      const { execute } = await import("../../services/l7-proxy/cassandra/testing/wire.ts");
      const code = async () => {
        const { opcode, body } = await again.send((stream) => execute(id, { stream }));
        return opcode === Opcode.ERROR ? new DataView(body.buffer, body.byteOffset).getInt32(0) : 0;
      };
      assert.equal(await code(), 0x2500);
      await again.prepare("SELECT v FROM shop.cart WHERE k = 'a'");
      assert.equal(await code(), 0);
      after.setRules(ruleSet(RULES.slice(0, 1)));
      assert.equal(await code(), 0x2100);
      after.setRules(ruleSet(RULES));
      assert.equal(await code(), 0);
      again.close();
    });

    await t.step("readCql() finds each table that the server's own parser finds", async () => {
      const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
      const random = seededRandom(seed);
      await direct.query("USE ora");
      let accepted = 0, refused = 0;
      for (let done = 0; done < TEXTS;) {
        const texts = Array.from({ length: 100 }, () => cqlText(random));
        const answers = await Promise.all(texts.map((text) => direct.prepare(text)));
        for (const [at, text] of texts.entries()) {
          const theirs = preparedTables(answers[at]);
          if (theirs === null) continue;
          accepted++;
          const ours = tablesOf(text);
          if (ours === null) refused++;
          for (const table of theirs) {
            assert.ok(
              ours === null || ours.has(table),
              `seed ${seed}: the server reads ${table}, we ${[...ours ?? []]}: ${text}`,
            );
          }
        }
        done += texts.length;
      }
      console.log(
        `      seed ${seed}: ${TEXTS} texts, ${accepted} taken by the server, ${refused} of them refused by us`,
      );
      assert.ok(accepted > TEXTS / 5, `seed ${seed}: ${accepted} of ${TEXTS} were taken by the server`);
      // Those in which a constant runs into the next word, and none else.
      assert.ok(refused < accepted / 20, `seed ${seed}: ${refused} of ${accepted} were refused`);
    });
    direct.close();
  },
});

function tablesOf(text: string): Set<string> | null {
  try {
    return new Set(readCql(text).statements.map(({ keyspace, table }) => `${keyspace || "ora"}.${table}`));
  } catch (error) {
    if (!(error instanceof CqlError)) throw error;
    return null;
  }
}

const CART = [["a", "1"]];
const EXPECTED: Record<string, unknown> = {
  "no keyspace": CART,
  "use": "ok",
  "select": CART,
  "select denied": "denied",
  "after the denial": CART,
  "case": CART,
  "another keyspace's cart": "denied",
  "prepared": [["21"]],
  "prepare denied": "denied",
  "batch": "ok",
  "batch denied": "denied",
  "batch text denied": "denied",
  "traced": "id",
  "many": 300,
  "many mixed": [100, 100],
  "large": "same",
  "large prepared": "same",
  "truncate denied": "denied",
  "clean up": "ok",
  "at the end": CART,
};
const EXPECTED_JAVA: Record<string, string> = {
  "protocol": "V5",
  "select": "1",
  "select denied": "denied",
  "keyspace of the request denied": "denied",
  "keyspace of the request": "1",
  "prepared": "19",
  "prepare denied": "denied",
  "batch denied": "denied",
  "batch": "true",
  "clean up": "true",
};
const EXPECTED_NODE: Record<string, unknown> = {
  "protocol": 4,
  "select": 1,
  "select denied": "denied",
  "prepared": 19,
  "prepare denied": "denied",
  "many": 200,
  "batch": "ok",
  "batch denied": "denied",
  "clean up": "ok",
  "at the end": 1,
};

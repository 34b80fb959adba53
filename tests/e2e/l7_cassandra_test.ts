/**
 * Cassandra rules from the manifest to the answer: what a client is told whose statement is denied, that its connection goes on, and that
 * `weir explain --cql` says the same beforehand. Real servers and drivers are in tests/cassandra; here the way of the rules is what counts.
 * @module
 */
import assert from "node:assert/strict";
import { at, program } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`cql${Deno.pid}`);
const PORT = 9042;
const pod = (name: string, command: string[]) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-1, containers: [{ name: main, command: ${JSON.stringify(command)} }] }\n`;
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("db", ["python3", program("cql_server.py"), `${PORT}`]),
  pod("client", ["sleep", "infinity"]),
].join("---\n");
const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: db, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: db } }
  ingress:
    - fromEndpoints: [{ matchLabels: { app: client } }]
      toPorts:
        - ports: [{ port: "${PORT}", protocol: TCP }]
          rules:
            l7proto: cassandra
            l7:
              - { query_action: select, query_table: "^shop\\\\.cart$" }
              - { query_action: insert, query_table: "^shop\\\\." }
`;
const LIST = "cnp:shop/db spec.ingress[0].toPorts[0].rules.l7";

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(1, MANIFESTS);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name:
    "a denied CQL statement names policy and rule, the connection goes on, and weir explain --cql says the same",
  ignore: !canRun,
  async fn() {
    await lab.apply(POLICY);
    // What is asked, and what of it no rule allows; "": it passes.
    const cases: [cql: string, denied: string][] = [
      ["SELECT * FROM shop.cart", ""],
      ["SELECT * FROM shop.secret", "select on shop.secret"],
      ["INSERT INTO shop.orders (k) VALUES (1)", ""],
      [
        "BEGIN BATCH INSERT INTO shop.a (k) VALUES (1); DELETE FROM shop.b WHERE k = 1 APPLY BATCH",
        "delete on shop.b",
      ],
      [
        "SELECT * FROM shop.cart; DROP TABLE shop.cart",
        'a statement that cannot be read: found "drop", expected nothing after the statement',
      ],
      ["SELECT * FROM shop.cart", ""],
    ];
    const { status } = JSON.parse(await lab.ok(["endpoint", "get", "shop/db", "-o", "json"]));
    const { out, err } = await at(lab, { pod: "shop/client" }, [
      "python3",
      program("cql_client.py"),
      status.ipv4,
      `${PORT}`,
      ...cases.map(([cql]) => cql),
    ]);
    assert.deepEqual(
      out.trimEnd().split("\n"),
      cases.map(([, denied]) =>
        denied === "" ? "ok" : `0x2100 Denied by policy ${LIST}: no rule allows ${denied}`
      ),
      err,
    );
    for (const [cql, denied] of cases) {
      const ran = await lab.weir([
        ..."explain --from shop/client --to shop/db --port 9042 --cql".split(" "),
        cql,
      ]);
      assert.equal(ran.code, denied === "" ? 0 : 3, `${cql}: ${ran.out}${ran.err}`);
      const what = denied.split(":")[0];
      if (denied !== "") assert.ok(ran.out.includes(`no Cassandra rule of ${LIST} `), ran.out);
      assert.ok(ran.out.includes(denied === "" ? `Allowed by ${LIST}[` : ` allows ${what}`), ran.out);
    }
  },
});

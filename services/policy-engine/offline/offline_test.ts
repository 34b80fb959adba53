import assert from "node:assert/strict";
import { formatFault } from "@weir/common/manifest";
import { compare, type Comparison } from "./difference.ts";
import { type FileFault, readInventory } from "./inventory.ts";
import { matrixOf } from "./matrix.ts";
import { formatRanges, joinRanges, parseRange } from "./port_range.ts";

const read = (...texts: string[]) =>
  readInventory(texts.map((text, at) => ({ file: `${at + 1}.yaml`, text })));
const inventory = (...texts: string[]) => {
  const found = read(...texts);
  assert.deepEqual(found.faults, []);
  return found;
};
const policy = (name: string, spec: string, kind = "CiliumNetworkPolicy") =>
  `apiVersion: cilium.io/v2\nkind: ${kind}\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n`;
const rows = ({ differences }: Comparison) =>
  differences.map(({ effect, from, to, ports }) =>
    `${effect} ${from.name} -> ${to.name} ${formatRanges(ports)}`
  );

Deno.test("readInventory() takes pods and templates, and groups the pods of one controller", () => {
  const pod = (name: string) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "shop",
      labels: { app: "web", "pod-template-hash": name },
      ownerReferences: [{ kind: "ReplicaSet", name: "web-6f8c9d7b5c" }],
    },
    spec: { containers: [{ ports: [{ name: "http", containerPort: 8080 }] }] },
  });
  const list = { apiVersion: "v1", kind: "List", items: [pod("web-6f8c9d7b5c-a"), pod("web-6f8c9d7b5c-b")] };
  const cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: { name: nightly }\n" +
    "spec: { jobTemplate: { spec: { template: { metadata: { labels: { app: job } }, spec: {} } } } }\n";
  const host = "apiVersion: v1\nkind: Pod\nmetadata: { name: agent }\nspec: { hostNetwork: true }\n";
  const found = inventory(JSON.stringify(list), `${cron}---\n${host}---\nkind: ConfigMap\n---\na: 1\n`);
  assert.deepEqual(found.faults, []);
  assert.deepEqual(
    found.workloads.map(({ kind, namespace, name, ports }) => [kind, namespace, name, ports]),
    [
      ["CronJob", "default", "nightly", []],
      ["Deployment", "shop", "web", [{ name: "http", port: 8080, protocol: "TCP" }]],
    ],
  );
  assert.deepEqual([...found.leftOut], [["ConfigMap", 1], ["", 1]]);
});

Deno.test("readInventory() names what it cannot read with file, line and column, and what is there twice", () => {
  const found = read(
    policy("a", "{ endpointSelector: 5 }"),
    policy("b", "{ endpointSelector: {} }"),
    "a: [",
  );
  const textOf = (fault: FileFault) => formatFault(fault, fault.file);
  assert.match(textOf(found.faults[0]), /^1\.yaml:4:\d+ spec\.endpointSelector: 5, want a map/);
  assert.match(textOf(found.faults.at(-1)!), /^3\.yaml:\d+:/);
  const twice = read(
    policy("b", "{ endpointSelector: {}, ingress: [{}] }"),
    policy("b", "{ endpointSelector: {}, ingress: [{}] }"),
  );
  assert.match(textOf(twice.faults[0]), /^2\.yaml:1:1.*cnp:shop\/b is already in 1\.yaml:1/);
  for (
    const hostile of [
      "[[[[",
      "kind: Pod\nmetadata: 5",
      "kind: List\nitems: 5",
      "kind: Deployment\nspec: { template: [] }",
    ]
  ) {
    read(hostile);
  }
});

Deno.test("matrixOf() has every pair with the ports that both sides let through", () => {
  const pods = ["web", "db"].map((app) =>
    `apiVersion: v1\nkind: Pod\nmetadata: { name: ${app}, namespace: shop, labels: { app: ${app} } }\nspec: {}\n`
  );
  const rule = policy(
    "db",
    "{ endpointSelector: { matchLabels: { app: db } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: web } }], toPorts: [{ ports: [{ port: '5432', protocol: TCP }], rules: { http: [{ method: GET }] } }] }, { fromCIDR: [10.0.0.0/8] }] }",
  );
  const matrix = matrixOf(inventory([...pods, rule].join("---\n")), [parseRange("5400-5500/TCP")!]);
  const cell = (from: string, to: string) => {
    const { ports, judged } = matrix.cells.find((cell) => cell.from.name === from && cell.to.name === to)!;
    return [formatRanges(ports), formatRanges(judged)];
  };
  assert.deepEqual(cell("shop/web", "shop/db"), ["5432/TCP", "5432/TCP"]);
  assert.deepEqual(cell("shop/db", "shop/web"), ["5400-5500/TCP", ""]);
  assert.deepEqual(cell("10.0.0.0/8", "shop/db"), ["5400-5500/TCP", ""]);
  assert.deepEqual(cell("world (IPv4)", "shop/db"), ["", ""]);
  // A node always reaches its own pods.
  assert.deepEqual(cell("host", "shop/db"), ["5400-5500/TCP", ""]);
});

Deno.test("compare() tells what opens and closes, with the rule and the plainest pair, and nothing where nothing does", () => {
  const db = (from: string) =>
    policy(
      "db",
      `{ endpointSelector: { matchLabels: { app: db } }, ingress: [{ fromEndpoints: [${from}], toPorts: [{ ports: [{ port: '5432', protocol: TCP }] }] }] }`,
    );
  const web = "{ matchLabels: { app: web } }", job = "{ matchLabels: { app: job } }";
  const opened = compare(inventory(db(web)), inventory(db(`${web}, ${job}`)));
  assert.deepEqual(rows(opened), ["opens app=job in shop -> app=db in shop 5432/TCP"]);
  assert.deepEqual(opened.differences[0].now.map(({ policy, path }) => `${policy} ${path}`), [
    "cnp:shop/db spec.ingress[0].fromEndpoints[1]",
  ]);
  assert.deepEqual(rows(compare(inventory(db(`${web}, ${job}`)), inventory(db(web)))), [
    "closes app=job in shop -> app=db in shop 5432/TCP",
  ]);
  assert.deepEqual(compare(inventory(db(web)), inventory("# moved\n" + db(web))).changed, []);
  const same = compare(inventory(db(`${web}, ${job}`)), inventory(db(`${job}, ${web}`)));
  assert.deepEqual([same.changed, rows(same)], [["cnp:shop/db"], []]);
});

Deno.test("compare() sees what a selector kept out, what hangs on another policy, and prefixes within prefixes", () => {
  const not = (extra: string) =>
    policy(
      "in",
      `{ endpointSelector: { matchLabels: { app: db } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: web }${extra} }] }] }`,
    );
  const kept = ", matchExpressions: [{ key: env, operator: NotIn, values: [prod] }]";
  assert.deepEqual(rows(compare(inventory(not(kept)), inventory(not("")))), [
    "opens app=web, env=prod in shop -> app=db in shop all",
  ]);
  // The other side's rule, which stays, lets only those with a role in.
  const stays = not("").replace("app: web", "role: client");
  const egress = (to: string) =>
    policy("out", `{ endpointSelector: { matchLabels: { app: s } }, egress: [${to}] }`);
  const texts = rows(compare(
    inventory(stays, egress("{ toEndpoints: [{ matchLabels: { app: other } }] }")),
    inventory(
      stays,
      egress("{ toEndpoints: [{ matchLabels: { app: other } }, { matchLabels: { app: db } }] }"),
    ),
  ));
  assert.deepEqual(texts, ["opens app=s, role=client in shop -> app=db in shop all"]);
  const cidr = (except: string) =>
    policy("c", `{ endpointSelector: {}, egress: [{ toCIDRSet: [{ cidr: 10.0.0.0/8${except} }] }] }`);
  assert.match(
    rows(compare(inventory(cidr(", except: [10.1.0.0/16]")), inventory(cidr(""))))[0],
    /^opens .* -> 10\.1\.0\.0\/16 all$/,
  );
});

Deno.test("names of toFQDNs are ends of their own, and open what the world's rules leave closed", () => {
  const names = (...list: string[]) =>
    policy(
      "out",
      `{ endpointSelector: { matchLabels: { app: a } }, egress: [{ toFQDNs: [${
        list.map((name) => `{ matchPattern: "${name}" }`).join(", ")
      }], toPorts: [{ ports: [{ port: '443', protocol: TCP }] }] }] }`,
    );
  const opened = compare(
    inventory(names("*.example.com")),
    inventory(names("*.example.com", "*.example.org")),
  );
  assert.deepEqual(rows(opened), ["opens app=a in shop -> *.example.org 443/TCP"]);
});

Deno.test("ranges join where they touch, are read and are written", () => {
  const range = (text: string) => parseRange(text)!;
  assert.equal(
    formatRanges(joinRanges([range("81"), range("80/TCP"), range("53/udp"), range("70-90")])),
    "70-90/TCP, 53/UDP",
  );
  for (const bad of ["", "x", "80/HTTP", "90-80", "65536", "1-70000/TCP", "80/"]) {
    assert.equal(parseRange(bad), undefined, bad);
  }
});

import assert from "node:assert/strict";
import { formatFault } from "@weir/common/manifest";
import { readManifests } from "./manifest.ts";
import type { PortMatch } from "./policy.ts";

/** A policy with one `toPorts` item: its text begins at line 12, column 9. */
function policy(item: string, more: { section?: string; ports?: string } = {}): string {
  const { section = "ingress", ports = '[{ port: "80", protocol: TCP }]' } = more;
  return `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  endpointSelector: {}
  ${section}:
  - ${section.startsWith("ingress") ? "fromEndpoints" : "toEndpoints"}: [{}]
    toPorts:
      - ports: ${ports}
        ${item}
`;
}

function read(text: string) {
  const { policies, faults } = readManifests(text);
  return {
    faults: faults.map((fault) => formatFault(fault)),
    warnings: policies.flatMap(({ warnings }) => warnings.map(({ path, detail }) => `${path}: ${detail}`)),
    ports: policies.flatMap(({ rules }) =>
      rules.flatMap(({ directions }) =>
        [directions.INGRESS, directions.EGRESS].flatMap(({ sections }) =>
          sections.flatMap(({ ports }) => ports)
        )
      )
    ) as PortMatch[],
  };
}

Deno.test("readPortRules() reads every kind of rule, with the place of each", () => {
  const udp = { section: "egress", ports: '[{ port: "53", protocol: ANY }]' };
  const cases: [string, Parameters<typeof policy>[1], string, unknown[]][] = [
    [
      'rules: { http: [{ method: "GET|HEAD", path: "/a(\\\\?.*)?", host: h, headers: ["X-A: b c", "X-B"] }] }',
      {},
      "HTTP",
      [{
        cookie: 0,
        method: "GET|HEAD",
        path: "/a(\\?.*)?",
        host: "h",
        headers: [
          { name: "X-A", value: "b c", mismatch: "REFUSE", secret: "" },
          { name: "X-B", value: "", mismatch: "REFUSE", secret: "" },
        ],
      }],
    ],
    ["rules: { http: [{ headerMatches: [{ name: X, value: v, mismatch: ADD }] }] }", {}, "HTTP", [
      {
        cookie: 0,
        method: "",
        path: "",
        host: "",
        headers: [{ name: "X", value: "v", mismatch: "ADD", secret: "" }],
      },
    ]],
    ["rules: { http: [{}] }", {}, "HTTP", [{ cookie: 0, method: "", path: "", host: "", headers: [] }]],
    ['rules: { dns: [{ matchName: a.b }, { matchPattern: "**.c" }] }', udp, "DNS", [
      { cookie: 0, matchName: "a.b", matchPattern: "" },
      { cookie: 0, matchName: "", matchPattern: "**.c" },
    ]],
    ['rules: { kafka: [{ apiKey: Fetch, apiVersion: "11", clientID: c, topic: t }] }', {}, "KAFKA", [
      { cookie: 0, apiKeys: [1], apiVersion: 11, clientId: "c", topic: "t" },
    ]],
    [
      'rules: { l7proto: cassandra, l7: [{ query_action: select, query_table: "^(system|t)" }] }',
      {},
      "CASSANDRA",
      [{ cookie: 0, queryAction: "select", queryTable: "^(system|t)" }],
    ],
    ["rules: { l7proto: memcache, l7: [{ command: get, keyPrefix: k }] }", {}, "MEMCACHE", [
      { cookie: 0, command: "get", keyExact: "", keyPrefix: "k", keyRegex: "" },
    ]],
    ['serverNames: [a.b, "*.c"]', {}, "TLS", [{ cookie: 0, name: "a.b" }, { cookie: 0, name: "*.c" }]],
  ];
  for (const [item, more, kind, rules] of cases) {
    const { faults, warnings, ports } = read(policy(item, more));
    assert.deepEqual([faults, warnings], [[], []], item);
    for (const { rules: found } of ports) {
      assert.equal(found?.kind, kind, item);
      assert.deepEqual(found.rules.map(({ rule }) => ({ ...rule })), rules, item);
      assert.match(
        found.rules[0].path,
        /^spec\.(in|e)gress\[0\]\.toPorts\[0\]\.(rules\.\w+|serverNames)\[0\]$/,
      );
      assert.equal(found.rules[0].line, 12);
    }
    assert.deepEqual(ports.map(({ protocol }) => protocol), kind === "DNS" ? [6, 17] : [6], item);
  }
});

Deno.test("readPortRules() refuses by line, column and path what could not be judged by", () => {
  const AT = "spec.ingress[0].toPorts[0]", EGRESS = "spec.egress[0].toPorts[0]";
  const every = { ports: '[{ port: "80" }]' },
    dns = { section: "egress", ports: '[{ port: "53", protocol: UDP }]' };
  const cases: [string, Parameters<typeof policy>[1], string, RegExp][] = [
    [
      'rules: { http: [{ path: "/(" }] }',
      {},
      `${AT}.rules.http[0].path`,
      /no regular expression.*missing closing/,
    ],
    [
      'rules: { http: [{ method: "(?=G)" }] }',
      {},
      `${AT}.rules.http[0].method`,
      /no regular expression/,
    ],
    ['rules: { http: [{ host: "[" }] }', {}, `${AT}.rules.http[0].host`, /no regular expression/],
    [
      'rules: { http: [{ headers: [": x"] }] }',
      {},
      `${AT}.rules.http[0].headers[0]`,
      /names no header/,
    ],
    [
      "rules: { http: [{ headerMatches: [{ value: v }] }] }",
      {},
      `${AT}.rules.http[0].headerMatches[0]`,
      /name/,
    ],
    [
      "rules: { http: [{ headerMatches: [{ name: X, mismatch: DROP }] }] }",
      {},
      `${AT}.rules.http[0].headerMatches[0].mismatch`,
      /want LOG, ADD, DELETE or REPLACE/,
    ],
    [
      "rules: { http: [{ headerMatches: [{ name: X, secret: { name: s }, mismatch: REPLACE }] }] }",
      {},
      `${AT}.rules.http[0].headerMatches[0].secret`,
      /secrets are not read, say the value itself/,
    ],
    ["rules: { http: [{}], kafka: [{}] }", {}, `${AT}.rules`, /one protocol per toPorts item/],
    ["rules: { http: [{}] }", every, `${AT}.ports[0]`, /http rules need protocol: TCP/],
    [
      "rules: { http: [{}] }",
      { ports: '[{ port: "0", protocol: TCP }]' },
      `${AT}.ports[0]`,
      /need a port/,
    ],
    ["serverNames: [a.b]", every, `${AT}.ports[0]`, /serverNames rules need protocol: TCP/],
    ['serverNames: [""]', {}, `${AT}.serverNames[0]`, /is no name/],
    ["rules: { l7: [{}] }", {}, `${AT}.rules.l7`, /l7 without l7proto/],
    ["rules: { l7proto: r2d2, l7: [{}] }", {}, `${AT}.rules.l7proto`, /want cassandra or memcache/],
    ["rules: { l7proto: kafka, l7: [{}] }", {}, `${AT}.rules.l7proto`, /go into rules\.kafka/],
    [
      "rules: { l7proto: cassandra, l7: [{ query_action: list-roles, query_table: x }] }",
      {},
      `${AT}.rules.l7[0].query_table`,
      /about no table/,
    ],
    [
      "rules: { l7proto: cassandra, l7: [{ query_action: Select }] }",
      {},
      `${AT}.rules.l7[0].query_action`,
      /no query_action, want one of select/,
    ],
    [
      "rules: { l7proto: cassandra, l7: [{ query_tabel: x }] }",
      {},
      `${AT}.rules.l7[0].query_tabel`,
      /did you mean query_table/,
    ],
    [
      "rules: { l7proto: memcache, l7: [{ keyExact: a }] }",
      {},
      `${AT}.rules.l7[0]`,
      /a key and no command/,
    ],
    [
      "rules: { kafka: [{ role: produce, apiKey: fetch }] }",
      {},
      `${AT}.rules.kafka[0]`,
      /cannot stand in one/,
    ],
    ["rules: { kafka: [{ role: admin }] }", {}, `${AT}.rules.kafka[0].role`, /want produce or consume/],
    [
      "rules: { kafka: [{ apiKey: nothing }] }",
      {},
      `${AT}.rules.kafka[0].apiKey`,
      /no request of Kafka/,
    ],
    [
      'rules: { kafka: [{ apiVersion: "x" }] }',
      {},
      `${AT}.rules.kafka[0].apiVersion`,
      /from 0 to 32767/,
    ],
    ['rules: { kafka: [{ topic: "a*" }] }', {}, `${AT}.rules.kafka[0].topic`, /is no topic/],
    ["rules: { dns: [{ matchName: a }] }", {}, `${AT}.rules.dns`, /in egress only/],
    [
      "rules: { dns: [{}] }",
      dns,
      `${EGRESS}.rules.dns[0]`,
      /exactly one of matchName and matchPattern/,
    ],
    ['rules: { dns: [{ matchName: "*.a" }] }', dns, `${EGRESS}.rules.dns[0].matchName`, /is no name/],
    [
      "rules: { dns: [{ matchName: a }] }",
      { section: "egress", ports: '[{ port: "53", endPort: 54, protocol: UDP }]' },
      `${EGRESS}.ports[0]`,
      /this is a range/,
    ],
    [
      "rules: { http: [{}] }",
      { section: "ingressDeny" },
      "spec.ingressDeny[0].toPorts[0].rules",
      /whole port/,
    ],
  ];
  for (const [item, more, where, detail] of cases) {
    const text = policy(item, more), { faults, ports } = read(text);
    const fault = faults.find((fault) => fault.includes(` ${where}: `));
    assert.ok(fault, `${item}: want ${where}, found ${faults.join("\n")}`);
    assert.match(fault, detail);
    const [line, column] = fault.split(" ")[0].split(":").map(Number);
    // The place is that of the field's name or value.
    const field = where.replace(/\[\d+\]$/, "").split(".").at(-1)!,
      found = text.split("\n")[line - 1].slice(0, column - 1);
    assert.ok(
      found.endsWith(`${field}: [`) || found.endsWith(`${field}: `) || /[{] $/.test(found),
      `${where}: ${found}`,
    );
    assert.deepEqual(ports, [], "nothing of the policy is taken");
  }
});

Deno.test("readPortRules() warns of what means no request, or hardly what was meant", () => {
  const egress = { section: "egress", ports: '[{ port: "53", protocol: UDP }]' };
  const cases: [string, Parameters<typeof policy>[1], RegExp | undefined][] = [
    [
      'rules: { http: [{ path: "/public" }] }',
      {},
      /http\[0\]\.path: "\/public" means no request with a query string/,
    ],
    ['rules: { http: [{ path: "/weir.Greeter/Say" }] }', {}, undefined],
    ['rules: { http: [{ path: "/public.*" }] }', {}, undefined],
    ["rules: { http: [{ path: public }] }", {}, /they begin with \//],
    ["rules: { http: [{ method: get }] }", {}, /methods have a case, say GET/],
    ['rules: { http: [{ headers: ["X-Key:v"] }] }', {}, /no request has a header named "X-Key:v"/],
    ['rules: { http: [{ headers: ["X-Key: v"] }] }', {}, undefined],
    [
      "rules: { http: [{ headerMatches: [{ name: X, value: v, secret: { name: s } }] }] }",
      {},
      /secrets are not read: the value beside it is compared/,
    ],
    ["rules: { http: [] }", {}, /an empty list is no http rule: everything passes/],
    ["rules: { l7proto: cassandra }", {}, /everything passes/],
    [
      "rules: { l7proto: cassandra, l7: [{ query_action: select, query_table: myTable }] }",
      {},
      /drivers select from system\.local, system\.peers, system\.peers_v2, system_schema\.tables/,
    ],
    [
      'rules: { dns: [{ matchPattern: "*.svc.cluster.local" }] }',
      egress,
      /want \*\*\.svc\.cluster\.local for several/,
    ],
    ['rules: { dns: [{ matchPattern: "*.example.com" }] }', egress, undefined],
  ];
  for (const [item, more, warning] of cases) {
    const { faults, warnings } = read(policy(item, more));
    assert.deepEqual(faults, [], item);
    if (warning === undefined) assert.deepEqual(warnings, [], item);
    else assert.ok(warnings.length === 1 && warning.test(warnings[0]), `${item}: ${warnings.join("\n")}`);
  }
});

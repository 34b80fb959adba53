import assert from "node:assert/strict";
import { parse } from "yaml";
import { readManifests } from "./manifest.ts";
import {
  DOCUMENTS_MAX,
  type FaultCode,
  FAULTS_MAX,
  formatFault,
  MANIFEST_BYTES_MAX,
} from "@weir/common/manifest";
import { formatPeerSelector } from "./policy.ts";

const CNP = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: all-fields
  namespace: shop
  labels: { owner: us }
spec:
  description: every field that is taken
  labels: [{ key: team, value: a, source: k8s }]
  endpointSelector:
    matchLabels: { app: web }
    matchExpressions:
    - { key: tier, operator: In, values: [front] }
  enableDefaultDeny: { ingress: true, egress: false }
  ingress:
  - fromEndpoints:
    - matchLabels: { "k8s:io.kubernetes.pod.namespace": lab }
    authentication: { mode: disabled }
    toPorts:
    - ports:
      - { port: "80", endPort: 90, protocol: TCP }
  - fromEntities: [world]
  - icmps:
    - fields: [{ family: IPv4, type: EchoRequest }]
  ingressDeny:
  - fromCIDR: [10.0.0.0/8]
  egress:
  - toCIDRSet:
    - cidr: 192.0.2.0/24
      except: [192.0.2.128/25]
  egressDeny:
  - toEntities: [host]
`;

const CCNP_HOST = `apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata:
  name: host
spec:
  nodeSelector: { matchLabels: { tier: edge } }
  ingress:
  - toPorts: [{ ANY }]
`;

const KNP = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: knp, namespace: shop }
spec:
  podSelector:
    matchLabels: { app: web }
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector:
        matchLabels: { app: api }
      namespaceSelector:
        matchExpressions:
        - { key: env, operator: NotIn, values: [dev] }
    - ipBlock:
        cidr: 10.0.0.0/8
        except: [10.1.0.0/16]
    ports:
    - { port: 80, endPort: 90, protocol: TCP }
    - { port: http }
  egress:
  - {}
`;

Deno.test("readManifests() takes every supported field and keeps places and the document's own text", () => {
  const { policies, faults } = readManifests(`# a comment\n---\n${CNP}---\n${KNP}`, {
    file: "a.yaml",
    line: 100,
  });
  assert.deepEqual(faults, []);
  assert.deepEqual(policies.map(({ name, line }) => [name, line]), [["cnp:shop/all-fields", 102], [
    "knp:shop/knp",
    135,
  ]]);
  assert.equal(policies[0].manifest.trim(), CNP.trim());
  const again = readManifests(policies[1].manifest, { file: "a.yaml", line: policies[1].line });
  assert.deepEqual(again.policies[0].rules, policies[1].rules);
  const rule = policies[0].rules[0];
  assert.deepEqual(rule.labels, ["k8s:team=a"]);
  assert.equal(rule.subject.toString(), "any:app=web,any:tier=front,k8s:io.kubernetes.pod.namespace=shop");
  assert.deepEqual([rule.directions.INGRESS.defaultDeny, rule.directions.EGRESS.defaultDeny], [true, false]);
  const sections = rule.directions.INGRESS.sections;
  assert.deepEqual(sections.map(({ path, line, deny }) => [path, line, deny]), [
    ["spec.ingress[0]", 117, false],
    ["spec.ingress[1]", 123, false],
    ["spec.ingress[2]", 124, false],
    ["spec.ingressDeny[0]", 127, true],
  ]);
  assert.deepEqual(sections[0].ports, [{ protocol: 6, first: 80, last: 90, name: "" }]);
  assert.deepEqual(sections[2].ports, [{ protocol: 1, first: 8, last: 8, name: "" }]);
  assert.deepEqual(
    sections.flatMap(({ peers }) => peers.map(({ selector }) => formatPeerSelector(selector))),
    [
      "k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace=lab",
      "reserved:world=",
      "reserved:world-ipv4=",
      "reserved:world-ipv6=",
      "everyone",
      "10.0.0.0/8",
    ],
  );
});

Deno.test("readManifests() refuses by name, with line and column, what is unknown or not supported", () => {
  const l7 = (text: string) => CNP.replace("    - ports:\n", `    - ${text}\n      ports:\n`);
  const section = (text: string) => CNP.replace("  - fromEntities: [world]", `  - ${text}`);
  const spec = (text: string) => CNP.replace("  description: every field that is taken", `  ${text}`);
  const cases: [string, string, FaultCode, RegExp][] = [
    [l7("listener: {}"), "20:7 spec.ingress[0].toPorts[0].listener", "unsupported", /Envoy/],
    [l7("terminatingTLS: {}"), "20:7 spec.ingress[0].toPorts[0].terminatingTLS", "unsupported", /proxy/],
    [section("fromRequires: [{}]"), "22:5 spec.ingress[1].fromRequires", "unsupported", /removed/],
    [section("fromNodes: [{}]"), "22:5 spec.ingress[1].fromNodes", "unsupported", /not supported yet/],
    [section("fromGroups: [{}]"), "22:5 spec.ingress[1].fromGroups", "unsupported", /not supported yet/],
    [section("toFQDNs: [{}]"), "22:5 spec.ingress[1].toFQDNs", "unknown-field", /unknown field/],
    [section("fromEntity: [world]"), "22:5 spec.ingress[1].fromEntity", "unknown-field", /want one of/],
    [
      section("fromEntitys: [world]"),
      "22:5 spec.ingress[1].fromEntitys",
      "unknown-field",
      /did you mean fromEntities/,
    ],
    [
      CCNP_HOST.replace("ANY", "ports: [{ port: '80', protocol: TCP }], rules: { http: [{}] }"),
      "8:14 spec.ingress[0].toPorts",
      "unsupported",
      /policy for hosts/,
    ],
    [
      CCNP_HOST.replace("spec:", "spec:\n  endpointSelector: {}"),
      "7:17 spec.nodeSelector",
      "invalid",
      /one of them/,
    ],
    [
      CCNP_HOST.replace("  ingress:", "  egress:\n  - toFQDNs: [{ matchName: a.b }]\n  ingress:"),
      "8:5 spec.egress[0].toFQDNs",
      "unsupported",
      /hosts/,
    ],
    [spec("nodeSelector: {}"), "8:3 spec.nodeSelector", "unsupported", /CiliumClusterwideNetworkPolicy/],
    [spec("log: { value: x }"), "8:3 spec.log", "unsupported", /not supported yet/],
    [
      CNP.replace("mode: disabled", "mode: required"),
      "18:29 spec.ingress[0].authentication.mode",
      "unsupported",
      /disabled/,
    ],
    [
      CNP.replace("protocol: TCP", "protocol: VRRP"),
      "21:46 spec.ingress[0].toPorts[0].ports[0].protocol",
      "unsupported",
      /VRRP/,
    ],
    [CNP.replace("spec:", "specc:"), "7:1 specc", "unknown-field", /unknown/],
    [
      CNP.replace("  namespace: shop", "  nameSpaces: shop"),
      "5:3 metadata.nameSpaces",
      "unknown-field",
      /did you mean namespace/,
    ],
  ];
  for (const [text, where, code, detail] of cases) {
    const { policies, faults } = readManifests(text);
    const fault = faults.find((fault) => formatFault(fault).startsWith(`${where}:`));
    assert.ok(fault, `${where} in ${faults.map((fault) => formatFault(fault)).join("\n")}`);
    assert.equal(fault.code, code, where);
    assert.match(fault.detail, detail);
    assert.equal(policies.length, 0);
  }
});

Deno.test("readManifests() reports all faults of all documents at once", () => {
  const bad = CNP.replace('"80"', '"65536"').replace("10.0.0.0/8", "10.0.0/8").replace("[world]", "[mars]");
  const { policies, faults } = readManifests(
    `${bad}---\n${KNP.replace("[10.1.0.0/16]", "[11.1.0.0/16]")}---\n${CNP}`,
  );
  assert.deepEqual(faults.map(({ path }) => path), [
    "spec.ingress[0].toPorts[0].ports[0].port",
    "spec.ingress[1].fromEntities[0]",
    "spec.ingressDeny[0].fromCIDR[0]",
    "spec.ingress[0].from[1].ipBlock.except[0]",
  ]);
  assert.deepEqual(policies.map(({ name }) => name), ["cnp:shop/all-fields"]);
});

/** Every value of a manifest by its path. */
function* placesOf(value: unknown, path: (string | number)[] = []): Generator<(string | number)[]> {
  yield path;
  if (typeof value !== "object" || value === null) return;
  for (const key of Object.keys(value)) {
    yield* placesOf((value as Record<string, unknown>)[key], [
      ...path,
      Array.isArray(value) ? Number(key) : key,
    ]);
  }
}

// deno-lint-ignore no-explicit-any
function valueOf(text: string): any {
  const { policies, faults } = readManifests(text);
  assert.deepEqual(faults, []);
  return JSON.parse(JSON.stringify(parse(policies[0].manifest)));
}

function changed(
  manifest: unknown,
  path: (string | number)[],
  change: (parent: never, key: never) => void,
): string {
  const copy = structuredClone({ root: manifest });
  // deno-lint-ignore no-explicit-any
  let parent: any = copy;
  for (const key of ["root", ...path].slice(0, -1)) parent = parent[key];
  change(parent as never, ["root", ...path].at(-1) as never);
  return JSON.stringify(copy.root);
}

/** Texts that people write freely: whatever stands there says nothing about policy. */
const FREE = /^metadata\.(labels|annotations)/;

Deno.test("readManifests() refuses a wrong value in every field and an unknown one in every map, never throws", () => {
  for (const text of [CNP, KNP]) {
    const manifest = valueOf(text);
    let refused = 0;
    for (const path of placesOf(manifest)) {
      const where = path.join(".");
      const original = path.reduce((value, key) => value?.[key], manifest);
      for (const wrong of [7.5, true, -1, "¿?", [[]], { "¿": 1 }, "x".repeat(5000)]) {
        const { faults, policies } = readManifests(changed(manifest, path, (parent: never, key: never) => {
          (parent as Record<string, unknown>)[key] = wrong;
        }));
        if (FREE.test(where) || where === "spec.description" || /labels\.0\.(value|key)/.test(where)) {
          continue;
        }
        if (typeof original === "boolean" && typeof wrong === "boolean") continue;
        assert.ok(faults.length > 0, `${where} = ${JSON.stringify(wrong).slice(0, 40)} is refused`);
        assert.equal(policies.length, 0, where);
        refused++;
      }
      if (typeof original !== "object" || Array.isArray(original) || FREE.test(where)) continue;
      const { faults } = readManifests(
        changed(manifest, [...path, "un known"], (parent: never, key: never) => {
          (parent as Record<string, unknown>)[key] = "x";
        }),
      );
      assert.ok(
        faults.some((fault) => fault.path.endsWith('["un known"]')),
        `${where} gets an unknown field`,
      );
    }
    assert.ok(refused > 200, `${refused} wrong values`);
  }
});

Deno.test("readManifests() tells an empty list, an empty rule and an absent list apart", () => {
  const spec = (ingress: string, kind = "CiliumNetworkPolicy") => {
    const version = kind === "NetworkPolicy" ? "networking.k8s.io/v1" : "cilium.io/v2";
    const selector = kind === "NetworkPolicy" ? "podSelector" : "endpointSelector";
    const text =
      `{apiVersion: ${version}, kind: ${kind}, metadata: {name: p}, spec: {${selector}: {}, ${ingress}}}`;
    const { policies, faults } = readManifests(text);
    if (faults.length > 0) return "refused";
    const { applies, defaultDeny, sections } = policies[0].rules[0].directions.INGRESS;
    return `${applies ? defaultDeny ? "closed" : "open" : "untouched"} ${
      sections.map(({ peers, ports }) => `${peers.length}x${ports.length}`)
    }`.trim();
  };
  const cases: [string, string, string?][] = [
    ["ingress: []", "refused"],
    ["ingress: [{}]", "closed 0x1"],
    ["ingress: [{fromEndpoints: []}]", "closed 0x1"],
    ["ingress: [{fromEndpoints: null}]", "closed 0x1"],
    ["ingress: [{fromEndpoints: [{}]}]", "closed 1x1"],
    ["ingress: [{fromEntities: [none]}]", "closed 0x1"],
    ["ingress: [{toPorts: [{ports: [{port: '80'}]}]}]", "closed 1x3"],
    ["ingress: [{}], enableDefaultDeny: {ingress: false}", "open 0x1"],
    ["egress: [{}]", "untouched"],
    ["ingress: [{toPorts: [{ports: []}]}]", "refused"],
    ["ingress: [{fromEntities: [world], fromCIDR: [10.0.0.0/8]}]", "refused"],
    ["ingress: []", "closed", "NetworkPolicy"],
    ["ingress: [{}]", "closed 1x1", "NetworkPolicy"],
    ["ingress: [{from: []}]", "closed 1x1", "NetworkPolicy"],
    ["ingress: [{ports: [{}]}]", "closed 1x1", "NetworkPolicy"],
    ["egress: [{}]", "closed", "NetworkPolicy"],
    ["policyTypes: [Egress], ingress: [{}]", "untouched", "NetworkPolicy"],
    ["ingress: [{from: [{}]}]", "refused", "NetworkPolicy"],
    ["ingress: [{ports: [{port: 90, endPort: 80}]}]", "refused", "NetworkPolicy"],
    ["ingress: [{ports: [{port: '80'}]}]", "refused", "NetworkPolicy"],
  ];
  for (const [ingress, expected, kind] of cases) {
    assert.equal(spec(ingress, kind), expected, `${kind ?? "CNP"} ${ingress}`);
  }
});

Deno.test("readManifests() warns of what has another effect than it seems", () => {
  const warned = (text: string) => readManifests(text).policies[0].warnings.map(({ path }) => path);
  assert.deepEqual(
    warned(
      CNP.replace("matchLabels: { app: web }", 'matchLabels: { "k8s:io.kubernetes.pod.namespace": lab }'),
    ),
    [
      "spec.endpointSelector",
    ],
  );
  assert.deepEqual(warned(KNP.replace("[Ingress, Egress]", "[Ingress]")), ["spec.egress"]);
  assert.deepEqual(
    warned(
      CNP.replace("  ingress:\n", "  ingressOff:\n").replace(/ {2}ingressOff:[^]*? {2}egress:/, "  egress:"),
    ),
    [
      "spec.enableDefaultDeny.ingress",
    ],
  );
});

Deno.test("readManifests() stops at its limits with a fault", () => {
  const first = (text: string) => formatFault(readManifests(text).faults[0]);
  assert.match(first(" ".repeat(MANIFEST_BYTES_MAX + 1)), /2097153 bytes, want at most 2097152/);
  assert.match(first("--- 1\n".repeat(DOCUMENTS_MAX + 1)), /more than 5000 documents/);
  const many = readManifests("--- 1\n".repeat(DOCUMENTS_MAX));
  assert.deepEqual([many.faults.length, many.faultsOmitted], [FAULTS_MAX, DOCUMENTS_MAX - FAULTS_MAX]);
  const bomb = ["a: &a [x,x,x,x,x,x,x,x,x,x]"];
  for (let i = 1; i < 9; i++) {
    const before = String.fromCharCode(96 + i);
    bomb.push(
      `${String.fromCharCode(97 + i)}: &${String.fromCharCode(97 + i)} [${`*${before},`.repeat(10)}]`,
    );
  }
  assert.match(first(bomb.join("\n")), /aliases stand for more than 20000 values/);
  assert.match(first(`a: ${"[".repeat(100)}${"]".repeat(100)}`), /nested deeper than 64/);
  const ports = (count: number) => {
    const list = Array.from({ length: count }, (_, index) => `{ port: "${index + 1}" }`).join();
    return CNP.replace('      - { port: "80", endPort: 90, protocol: TCP }', `        [${list}]`);
  };
  assert.deepEqual(readManifests(ports(40)).faults, []);
  assert.match(first(ports(41)), /spec\.ingress\[0\]\.toPorts\[0\]\.ports: 41 items, want at most 40/);
  for (const text of ["a: b: c", "\t- x", "{", "a: *nowhere", "a: 1\na: 2", "%YAML 9.9\n---\n?", "\0"]) {
    assert.ok(readManifests(text).faults.length > 0, JSON.stringify(text));
  }
  assert.deepEqual(readManifests("").policies, []);
  assert.deepEqual(readManifests("---\n---\n# only comments\n").faults, []);
});

Deno.test("readManifests() unfolds lists and refuses one name twice", () => {
  const item = valueOf(KNP);
  const list = readManifests(JSON.stringify({ apiVersion: "v1", kind: "List", items: [item, valueOf(CNP)] }));
  assert.deepEqual(list.policies.map(({ name }) => name), ["knp:shop/knp", "cnp:shop/all-fields"]);
  assert.equal(readManifests(list.policies[0].manifest).policies[0].name, "knp:shop/knp");
  assert.match(
    readManifests(`${CNP}---\n${CNP}`).faults[0].detail,
    /cnp:shop\/all-fields is already defined at line 1/,
  );
});

Deno.test("readManifests() says of a pattern without quotes that YAML takes it for an alias", () => {
  for (const pattern of ["*.example.com", "*", "**.example.com"]) {
    for (
      const spec of [
        `{toFQDNs: [{matchPattern: ${pattern}}]}`,
        `\n  - toFQDNs:\n    - matchPattern: ${pattern}`,
      ]
    ) {
      const list = spec.startsWith("{") ? ` [${spec}]` : spec;
      const { policies, faults } = readManifests(
        `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\nspec:\n  endpointSelector: {}\n  egress:${list}\n`,
      );
      assert.equal(policies.length, 0);
      assert.ok(
        faults.some(({ detail }) => detail.includes(`is an alias in YAML: write "${pattern}"`)),
        JSON.stringify(faults),
      );
    }
  }
});

Deno.test("readManifests() takes weir.dev/mode, and refuses what it cannot mean by its place", () => {
  const of = (mode: string, spec: string, kind = "CiliumNetworkPolicy") =>
    `apiVersion: ${kind === "NetworkPolicy" ? "networking.k8s.io/v1" : "cilium.io/v2"}
kind: ${kind}
metadata: { name: p, annotations: { weir.dev/mode: ${mode}, other: x } }
spec: ${spec}
`;
  const plain = "{ endpointSelector: {}, ingress: [{ fromEntities: [host] }] }";
  const l7 =
    '{ endpointSelector: {}, ingress: [{ toPorts: [{ ports: [{ port: "80", protocol: TCP }], rules: { http: [{ method: GET }] } }] }] }';
  const cases: [string, boolean | undefined, RegExp][] = [
    [of("audit", plain), true, /^$/],
    [of("audit", "{ podSelector: {} }", "NetworkPolicy"), true, /^$/],
    [of("enforce", l7), false, /^$/],
    [of("Audit", plain), undefined, /^3 metadata.annotations\S* .*want audit or enforce$/],
    [of("[audit]", plain), undefined, /want audit or enforce$/],
    [
      of("audit", l7),
      undefined,
      /^3 .*not with L7 rules \(spec.ingress\[0\].toPorts\[0\].rules.http, line 4\)/,
    ],
    [
      of("audit", "{ externalCIDRs: [10.0.0.0/8] }", "CiliumCIDRGroup"),
      undefined,
      /not for a CiliumCIDRGroup$/,
    ],
  ];
  for (const [text, audit, fault] of cases) {
    const { policies, faults } = readManifests(text);
    assert.equal(policies[0]?.audit, audit, text);
    assert.match(faults.map(({ line, path, detail }) => `${line} ${path} ${detail}`).join(), fault, text);
  }
});

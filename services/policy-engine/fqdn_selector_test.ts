import assert from "node:assert/strict";
import { composeEntries, LabelSet, MapState, PRECEDENCE_ALLOW, PRECEDENCE_REDIRECT } from "@weir/common";
import { IDENTITY_LOCAL_MAX, IDENTITY_LOCAL_MIN, IDENTITY_WORLD_IPV4 } from "@weir/common";
import type { MapState as Message } from "@weir/proto/policy";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

const SUBJECT = 1000;
const LABELS = [
  "k8s:app=web",
  "k8s:io.kubernetes.pod.namespace=default",
  "k8s:io.cilium.k8s.policy.cluster=default",
];

function manifest(lines: string[], name = "names"): string {
  return [
    "apiVersion: cilium.io/v2",
    "kind: CiliumNetworkPolicy",
    `metadata: { name: ${name} }`,
    "spec:",
    "  endpointSelector: { matchLabels: { app: web } }",
    ...lines.map((line) => `  ${line}`),
    "",
  ].join("\n");
}

function put(repository: PolicyRepository, lines: string[], name?: string): void {
  const { policies, faults } = readManifests(manifest(lines, name));
  assert.deepEqual(faults, []);
  for (const policy of policies) repository.upsertPolicy(policy);
}

function repositoryWith(...lines: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  repository.upsertIdentity(SUBJECT, LabelSet.parse(LABELS));
  put(repository, lines);
  return repository;
}

/** Verdict about an address of an identity that these selectors mean: `+`, `-`, or `7` where requests are judged. */
function verdict(message: Message, base: number, names: string[], port: number): string {
  const members = message.fqdnSelectors.filter(({ name }) => names.includes(name)).map((one) => one.identity);
  assert.equal(members.length, names.length);
  const entries = [
    ...message.entries,
    ...composeEntries(message.entries, 0x0200_0000, new Set([base, ...members])),
  ];
  const found = MapState.of({ ...message, entries }).lookup(0x0200_0000, "EGRESS", 6, port);
  return !found.allowed ? "-" : found.ruleSets.length === 0 ? "+" : found.plainCookie === 0 ? "7" : "v";
}

Deno.test("readManifests() takes selectors of names in one text each, whatever their case and final dot", () => {
  const repository = repositoryWith(
    "egress:",
    "- toFQDNs: [{ matchName: WWW.Example.com. }, { matchName: www.example.com }, { matchPattern: '**.Example.com' }]",
  );
  const { fqdnSelectors, entries } = repository.mapState(SUBJECT)!;
  assert.deepEqual(fqdnSelectors.map(({ identity: _, ...rest }) => rest), [
    {
      name: "matchName:www.example.com",
      matchName: "www.example.com",
      matchPattern: "",
      labels: ["fqdn:www.example.com"],
    },
    {
      name: "matchPattern:**.example.com",
      matchName: "",
      matchPattern: "**.example.com",
      labels: ["fqdn:**.example.com"],
    },
  ]);
  for (const { identity } of fqdnSelectors) {
    assert.ok(identity > IDENTITY_LOCAL_MIN && identity <= IDENTITY_LOCAL_MAX);
  }
  assert.deepEqual(
    entries.map(({ identity, protocol, deny }) => ({ identity, protocol, deny })),
    fqdnSelectors.map(({ identity }) => ({ identity, protocol: 0, deny: false }))
      .sort((a, b) => a.identity - b.identity),
  );
  assert.deepEqual([repository.mapState(SUBJECT)!.enforceEgress, repository.cidrPairs()], [true, []]);
});

Deno.test("readManifests() refuses what toFQDNs cannot say, with line and column", () => {
  const cases: [string[], string, RegExp][] = [
    [
      ["egress: [{ toFQDNs: [{}] }]"],
      "6:24 spec.egress[0].toFQDNs[0]",
      /exactly one of matchName and matchPattern/,
    ],
    [
      ["egress:", "- toFQDNs:", "  - matchName: a.b", "    matchPattern: '*.b'"],
      "8:7 spec.egress[0].toFQDNs[0]",
      /exactly one/,
    ],
    [
      ["egress:", "- toFQDNs:", "  - matchName: '*.a'"],
      "8:18 spec.egress[0].toFQDNs[0].matchName",
      /is no name/,
    ],
    [
      ["egress:", "- toFQDNs:", "  - matchName: '.'"],
      "8:18 spec.egress[0].toFQDNs[0].matchName",
      /root of names/,
    ],
    [
      ["egress:", "- toFQDNs:", "  - matchPattern: 'a{b}.com'"],
      "8:21 spec.egress[0].toFQDNs[0].matchPattern",
      /and stars/,
    ],
    [
      ["egress:", "- toFQDNs:", `  - matchName: ${"x".repeat(256)}`],
      "8:18 spec.egress[0].toFQDNs[0].matchName",
      /256 characters, want at most 255/,
    ],
    [
      ["egress:", "- toFQDNs:", "  - matchNames: a.b"],
      "8:7 spec.egress[0].toFQDNs[0].matchNames",
      /did you mean/,
    ],
    [["egress:", "- toFQDNs:", "  - matchName: 7"], "8:18 spec.egress[0].toFQDNs[0].matchName", /./],
    [
      ["egress:", "- toCIDR: [10.0.0.0/8]", "  toFQDNs: [{ matchName: a.b }]"],
      "7:5 spec.egress[0]",
      /toCIDR and toFQDNs cannot stand in one rule/,
    ],
    [
      ["egressDeny:", "- toFQDNs: [{ matchName: a.b }]"],
      "7:5 spec.egressDeny[0].toFQDNs",
      /not possible in a deny/,
    ],
    [["ingress:", "- fromFQDNs: [{ matchName: a.b }]"], "7:5 spec.ingress[0].fromFQDNs", /unknown field/],
  ];
  for (const [lines, place, detail] of cases) {
    const { policies, faults } = readManifests(manifest(lines));
    assert.deepEqual(policies, [], lines.join());
    assert.equal(faults.length, 1, `${lines.join()}: ${JSON.stringify(faults)}`);
    const [{ line, column, path }] = faults;
    assert.equal(`${line}:${column} ${path}`, place);
    assert.match(faults[0].detail, detail);
  }
});

Deno.test("readManifests() warns of patterns that hardly mean what is meant, in toFQDNs as in dns rules", () => {
  const warned = (pattern: string) => {
    const both = [
      `egress: [{ toFQDNs: [{ matchPattern: "${pattern}" }] }]`,
      `egress: [{ toPorts: [{ ports: [{ port: "53", protocol: UDP }], rules: { dns: [{ matchPattern: "${pattern}" }] } }] }]`,
    ].map((text) => readManifests(manifest([text])).policies[0].warnings.map(({ detail }) => detail));
    assert.deepEqual(both[0], both[1]);
    return both[0].join();
  };
  assert.match(warned("*.svc.cluster.local"), /one label before svc.cluster.local, want \*\*\.svc/);
  assert.match(warned("*.amazonaws.com."), /want \*\*\.amazonaws.com/);
  assert.match(warned("*example.com"), /evilexample.com: want \*.example.com, and example.com beside it/);
  assert.match(warned("a.**.example.com"), /only \*\*\. at the start/);
  for (
    const pattern of ["*", "*.example.com", "**.example.com", "sub*.example.com", "*-eu.api.example.com"]
  ) {
    assert.equal(warned(pattern), "", pattern);
  }
});

Deno.test("a selector of names adds to what is said of the address, and a deny of the address stands", () => {
  const repository = repositoryWith(
    "egress:",
    "- toFQDNs: [{ matchPattern: '*.example.com' }]",
    "  toPorts: [{ ports: [{ port: '443', protocol: TCP }, { port: '80', protocol: TCP }] }]",
    "- toCIDR: [192.0.2.0/24]",
    "  toPorts: [{ ports: [{ port: '22', protocol: TCP }] }]",
    "egressDeny:",
    "- toCIDRSet: [{ cidr: 192.0.2.0/24, except: [192.0.2.128/25] }]",
    "  toPorts: [{ ports: [{ port: '80', protocol: TCP }] }]",
  );
  const message = repository.mapState(SUBJECT)!, names = ["matchPattern:*.example.com"];
  const inside = repository.cidrIdentity("192.0.2.0/24")!.identity;
  const excepted = repository.cidrIdentity("192.0.2.128/25")!.identity;
  const row = (base: number, means: string[]) =>
    [443, 80, 22, 25].map((port) => verdict(message, base, means, port)).join("");
  assert.equal(row(inside, names), "+-+-");
  assert.equal(row(inside, []), "--+-");
  assert.equal(row(excepted, names), "+++-");
  assert.equal(row(IDENTITY_WORLD_IPV4, names), "++--");
  assert.equal(row(IDENTITY_WORLD_IPV4, []), "----");
});

Deno.test("requests are judged by the rules of every selector that means an address, and pass where one allows all", () => {
  const http = (path: string) =>
    `[{ ports: [{ port: '80', protocol: TCP }], rules: { http: [{ path: ${path} }] } }]`;
  const repository = repositoryWith(
    "egress:",
    "- toFQDNs: [{ matchName: a.example.com }]",
    `  toPorts: ${http("/a")}`,
    "- toFQDNs: [{ matchName: b.example.com }]",
    `  toPorts: ${http("/b")}`,
    "- toFQDNs: [{ matchName: c.example.com }]",
    "- toCIDR: [192.0.2.0/24]",
    `  toPorts: ${http("/c")}`,
  );
  const message = repository.mapState(SUBJECT)!;
  const [a, b, c] = ["a", "b", "c"].map((name) => `matchName:${name}.example.com`);
  const inside = repository.cidrIdentity("192.0.2.0/24")!.identity;
  assert.deepEqual(
    [[a], [a, b], [a, c], [c]].map((names) =>
      [IDENTITY_WORLD_IPV4, inside].map((base) => verdict(message, base, names, 80)).join("")
    ),
    ["77", "77", "vv", "+v"],
  );
  assert.deepEqual(
    new Set(message.entries.map(({ precedence }) => precedence)),
    new Set([PRECEDENCE_ALLOW, PRECEDENCE_REDIRECT]),
  );
});

Deno.test("no selector of labels means what stands for a selector of names", () => {
  const everyone =
    "{ matchExpressions: [{ key: 'k8s:tier', operator: DoesNotExist }, { key: 'reserved:host', operator: DoesNotExist }] }";
  const repository = repositoryWith(
    "egress:",
    "- toFQDNs: [{ matchName: www.example.com }]",
    "  toPorts: [{ ports: [{ port: '443', protocol: TCP }] }]",
    `- toEndpoints: [${everyone}, { matchLabels: { 'fqdn:www.example.com': '' } }]`,
    "- toEntities: [world, cluster]",
    "  toPorts: [{ ports: [{ port: '53', protocol: UDP }] }]",
  );
  const { entries, fqdnSelectors: [{ identity }] } = repository.mapState(SUBJECT)!;
  const own = entries.filter((entry) => entry.identity === identity);
  assert.deepEqual(own.map(({ protocol, port }) => [protocol, port]), [[6, 443]]);
});

Deno.test("the number of a selector of names stays while any policy has it, and map states say its end", () => {
  const repository = repositoryWith("egress: [{ toFQDNs: [{ matchName: www.example.com }] }]");
  const { identity } = repository.mapState(SUBJECT)!.fqdnSelectors[0];
  put(repository, [
    "egress: [{ toFQDNs: [{ matchName: www.example.com }, { matchName: other.example.com }] }]",
  ], "more");
  repository.takeChanges();
  assert.equal(repository.removePolicy("cnp:default/names"), true);
  const changes = repository.takeChanges();
  assert.deepEqual([...changes.removedPrefixes], []);
  assert.equal(repository.fqdnSelector("matchName:www.example.com")!.identity, identity);
  repository.removePolicy("cnp:default/more");
  assert.deepEqual([...repository.takeChanges().removedPrefixes].sort(), [
    "matchName:other.example.com",
    "matchName:www.example.com",
  ]);
  assert.deepEqual(repository.mapState(SUBJECT)!.fqdnSelectors, []);
  assert.equal(repository.identity(identity), undefined);
});

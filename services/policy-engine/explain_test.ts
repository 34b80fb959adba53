import assert from "node:assert/strict";
import type { Enforcement } from "@weir/proto/common";
import { L7Question } from "@weir/proto/l7";
import { requestOf } from "./asked_request.ts";
import { LabelSet, Prefix } from "@weir/common";
import { explainDirection } from "./explain.ts";
import { readManifests } from "./manifest.ts";
import { type Direction, peerIdentity } from "./policy.ts";
import { PolicyRepository } from "./policy_repository.ts";

const COMMON = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];
const WEB = 1000, API = 1001, DB = 1002;

function repositoryWith(...specs: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  for (const [number, app] of [[WEB, "web"], [API, "api"], [DB, "db"]] as const) {
    repository.upsertIdentity(number, LabelSet.parse([`k8s:app=${app}`, ...COMMON]));
  }
  for (const [index, spec] of specs.entries()) {
    const text =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p${index}}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text, { file: "p.yaml" });
    assert.deepEqual(faults, []);
    repository.upsertPolicy(policies[0]);
  }
  return repository;
}

function explain(repository: PolicyRepository, direction: Direction = "INGRESS", port = 80) {
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  return explainDirection(repository, { from, to, protocol: 6, port, toNamedPorts: [] }, direction);
}

const SELECT_WEB = "endpointSelector: {matchLabels: {app: web}}";

Deno.test("explainDirection() knows when policies are enforced on the endpoint that is meant", () => {
  const repository = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`,
  );
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  const query = { from, to, protocol: 6, port: 80, toNamedPorts: [] };
  const cases: [Enforcement, Direction, boolean, RegExp, RegExp][] = [
    ["DEFAULT", "INGRESS", false, /^Denied by default: cnp:default\/p0 selects/, /app=db/],
    [
      "NEVER",
      "INGRESS",
      true,
      /^Allowed: policies are never enforced on the destination$/,
      /weir endpoint config/,
    ],
    ["DEFAULT", "EGRESS", true, /^Allowed: no policy selects the source/, /^Apply a policy/],
    [
      "ALWAYS",
      "EGRESS",
      false,
      /^Denied by default: the source is always enforced and no rule/,
      /^Add a rule to a policy/,
    ],
  ];
  for (const [mode, direction, allowed, reason, change] of cases) {
    const step = explainDirection(
      repository,
      { ...query, fromEnforcement: mode, toEnforcement: mode },
      direction,
    );
    assert.equal(step.allowed, allowed, `${mode} ${direction}: ${step.reason}`);
    assert.match(step.reason, reason);
    assert.match(step.change, change);
  }
});

Deno.test("explainDirection() says what a policy in audit mode would deny, and offers no change of it", () => {
  const repository = repositoryWith();
  const put = (name: string, spec: string, mode: string) => {
    const text =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}, annotations: {weir.dev/mode: ${mode}}}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text, { file: "a.yaml" });
    assert.deepEqual(faults, []);
    repository.upsertPolicy(policies[0]);
  };
  const cases: [string, string, boolean, boolean, RegExp, RegExp][] = [
    [
      "a",
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`,
      true,
      true,
      /^Allowed: no policy selects/,
      /cnp:default\/a would deny 80\/TCP from the source by default if it were enforced/,
    ],
    [
      "b",
      `{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`,
      true,
      true,
      /^Allowed: no policy/,
      /cnp:default\/b spec.ingressDeny\[0\]\S* \(a.yaml:1\) would deny it/,
    ],
    [
      "b",
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`,
      true,
      false,
      /^Allowed: no policy/,
      /^$/,
    ],
  ];
  for (const [name, spec, allowed, audited, reason, note] of cases) {
    put(name, spec, "audit");
    const step = explain(repository);
    assert.deepEqual([step.allowed, step.audited], [allowed, audited], spec);
    assert.match(step.reason, reason);
    assert.match(step.notes.join(), note);
    assert.doesNotMatch(step.change, /default\/[ab]/);
  }
  put("e", `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: other}}]}]}`, "enforce");
  const denied = explain(repository);
  assert.deepEqual([denied.allowed, denied.audited], [false, false]);
  assert.match(denied.reason, /^Denied by default: cnp:default\/e selects/);
});

Deno.test("explainDirection() says what decides and what would change it", () => {
  const cases: [string, string[], boolean, RegExp, RegExp][] = [
    ["no policy", [], true, /^Allowed: no policy selects the destination for ingress$/, /^Apply a policy/],
    [
      "one allow",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`],
      true,
      /^Allowed by cnp:default\/p0 spec\.ingress\[0\]\.fromEndpoints\[0\] \(p\.yaml:1\)$/,
      /^Remove cnp:default\/p0 spec\.ingress\[0\]\.fromEndpoints\[0\]/,
    ],
    [
      "two allows",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}, {fromEntities: [cluster]}, {fromEntities: [all]}]}`],
      true,
      /^Allowed by cnp:default\/p0/,
      /^Add ingressDeny for 80\/TCP from the source to cnp:default\/p0: a deny beats every allow/,
    ],
    [
      "a deny over an allow",
      [
        `{${SELECT_WEB}, ingress: [{fromEntities: [all]}]}`,
        `{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`,
      ],
      false,
      /^Denied by cnp:default\/p1 spec\.ingressDeny\[0\]/,
      /^Remove cnp:default\/p1 spec\.ingressDeny\[0\]\.fromEndpoints\[0\] \(p\.yaml:1\)$/,
    ],
    [
      "a deny without an allow",
      [`{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`],
      false,
      /^Denied by/,
      /and allow 80\/TCP from the source: no other rule does$/,
    ],
    [
      "another label",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`],
      false,
      /^Denied by default: cnp:default\/p0 selects the destination for ingress and no rule allows 80\/TCP from the source$/,
      /^Give the source label app=db \(it has api\)/,
    ],
    [
      "another port",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}], toPorts: [{ports: [{port: "443"}]}]}]}`],
      false,
      /^Denied by default/,
      /^Add port 80\/TCP to cnp:default\/p0 spec\.ingress\[0\]/,
    ],
    [
      "nothing near",
      [`{${SELECT_WEB}, ingress: [{}]}`],
      false,
      /^Denied by default/,
      /^Add a rule to cnp:default\/p0 that allows 80\/TCP from k8s:app=api$/,
    ],
    [
      "open on purpose",
      [`{${SELECT_WEB}, enableDefaultDeny: {ingress: false}, ingress: [{fromEntities: [host]}]}`],
      true,
      /^Allowed by cnp:default\/p0 spec\.ingress /,
      /^Set enableDefaultDeny\.ingress to true in cnp:default\/p0$/,
    ],
  ];
  for (const [name, specs, allowed, reason, change] of cases) {
    const step = explain(repositoryWith(...specs));
    assert.equal(step.allowed, allowed, name);
    assert.match(step.reason, reason, name);
    assert.match(step.change, change, name);
  }
});

Deno.test("explainDirection() promises a change that comes true", () => {
  const denied = repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`);
  const asked = peerIdentity(0xffffffff, LabelSet.parse(["k8s:app=db", "k8s:extra=x", ...COMMON]));
  const to = denied.identity(WEB)!;
  const step = explainDirection(
    denied,
    { from: asked, to, protocol: 6, port: 80, toNamedPorts: [] },
    "INGRESS",
  );
  assert.equal(step.allowed, true, "the label that was asked for");
  assert.equal(step.remoteIdentity, 0, "an identity that nobody has");
  const one = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEntities: [all]}]}`,
    `{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`,
  );
  assert.equal(explain(one).allowed, false);
  one.removePolicy("cnp:default/p1");
  assert.equal(explain(one).allowed, true);
  // An entity is what it is by its address: nobody can be told to become one.
  const many = repositoryWith(`{${SELECT_WEB}, ingress: [{fromEntities: [multicast]}]}`);
  assert.match(explain(many).change, /^Add a rule to cnp:default\/p0 that allows /);
});

Deno.test("explainDirection() lists the label facts of both ends and the rule behind the cookie", () => {
  const step = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [db]}, {key: x, operator: DoesNotExist}]}]}]}`,
    ),
  );
  assert.ok(step.labelFacts.includes("k8s:app=web of the destination is what cnp:default/p0 spec selects"));
  assert.ok(
    step.labelFacts.includes(
      "k8s:app=api of the source matches cnp:default/p0 spec.ingress[0].fromEndpoints[0]",
    ),
  );
  assert.ok(
    step.labelFacts.includes(
      "no label x of the source matches cnp:default/p0 spec.ingress[0].fromEndpoints[0]",
    ),
  );
  assert.equal(step.rule?.cookie, step.entry?.cookie);
  assert.deepEqual([step.subjectIdentity, step.remoteIdentity], [WEB, API]);
});

Deno.test("explainDirection() knows ends that are no endpoints", () => {
  const repository = repositoryWith(`{endpointSelector: {}, egress: [{toCIDR: [192.0.2.0/24]}]}`);
  const outside = repository.identity(repository.cidrIdentity("192.0.2.0/24")!.identity)!;
  const from = repository.identity(API)!;
  const query = { from, to: outside, protocol: 6, port: 443, toNamedPorts: [] };
  const out = explainDirection(repository, query, "EGRESS");
  assert.match(out.reason, /^Allowed by cnp:default\/p0 spec\.egress\[0\]\.toCIDR\[0\]/);
  assert.ok(
    out.labelFacts.includes(
      "192.0.2.0/24 of the destination lies in 192.0.2.0/24 of cnp:default/p0 spec.egress[0].toCIDR[0]",
    ),
  );
  const into = explainDirection(repository, query, "INGRESS");
  assert.equal(into.reason, "Allowed: the destination is 192.0.2.0/24, where no policy is enforced");
});

Deno.test("explainDirection() shows the rule that almost matched", () => {
  const port = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}], toPorts: [{ports: [{port: "8008"}]}]}]}`,
    ),
  );
  assert.equal(
    port.nearMiss,
    "cnp:default/p0 spec.ingress[0].fromEndpoints[0] (p.yaml:1) allows 8008/TCP; you asked for 80/TCP",
  );
  const peer = explain(
    repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`),
  );
  assert.match(peer.nearMiss, /means .*app=db.*; the source is k8s:app=api$/);
});

Deno.test("explainDirection() offers nobody a label that it cannot be given", () => {
  const team = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.team": a}}]}]}`,
    ),
  );
  assert.match(team.change, /^(Give namespace default \(of the source\) label team=a: then|Add a rule)/);
  const world = explain(repositoryWith(`{${SELECT_WEB}, ingress: [{fromEntities: [world]}]}`));
  assert.match(world.nearMiss, /means reserved:world.*; the source is k8s:app=api$/);
  assert.match(world.change, /^Add a rule to cnp:default\/p0/);
});

Deno.test("explainDirection() tells nobody to take on another namespace", () => {
  const repository = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`,
  );
  const elsewhere = ["k8s:app=api", "k8s:io.kubernetes.pod.namespace=other", COMMON[1]];
  repository.upsertIdentity(1003, LabelSet.parse(elsewhere));
  const [from, to] = [repository.identity(1003)!, repository.identity(WEB)!];
  const step = explainDirection(repository, { from, to, protocol: 6, port: 80, toNamedPorts: [] }, "INGRESS");
  assert.match(
    step.change,
    /^Add a rule to cnp:default\/p0 that allows 80\/TCP from k8s:app=api, .*namespace=other$/,
  );
  assert.match(step.nearMiss, /the source is k8s:app=api,k8s:io\.kubernetes\.pod\.namespace=other$/);
  assert.match(step.manifest, /k8s:io\.kubernetes\.pod\.namespace: other/);
});

Deno.test("explainDirection() offers to narrow a policy that selects more than one identity", () => {
  const wide = explain(repositoryWith(`{endpointSelector: {}, ingress: [{}]}`));
  assert.match(
    wide.alternatives.join(),
    /^Narrow the selector of cnp:default\/p0 spec \(p\.yaml:1\), .* selects 3 identities$/,
  );
  assert.deepEqual(explain(repositoryWith(`{${SELECT_WEB}, ingress: [{}]}`)).alternatives, []);
  const deny = explain(
    repositoryWith(`{endpointSelector: {}, ingressDeny: [{fromEndpoints: [{}]}], ingress: [{}]}`),
  );
  assert.match(deny.alternatives.join(), /^Narrow the selector of cnp:default\/p0/);
});

Deno.test("explainDirection() gives a policy that allows what was asked, and nothing else", () => {
  for (const direction of ["INGRESS", "EGRESS"] as const) {
    const closed = "endpointSelector: {}, ingress: [{}], egress: [{}]";
    for (const protocol of [6, 17, 1]) {
      for (const remoteIs of ["pod", "world", "cidr"] as const) {
        const nobody = "endpointSelector: {matchLabels: {app: nobody}}";
        const repository = repositoryWith(`{${closed}}`, `{${nobody}, egress: [{toCIDR: [192.0.2.0/24]}]}`);
        const pod = repository.identity(WEB)!, other = repository.identity(API)!;
        const remote = {
          pod: other,
          world: repository.identity(9)!,
          cidr: repository.identity(repository.cidrIdentity("192.0.2.0/24")!.identity)!,
        }[remoteIs];
        const [from, to] = direction === "INGRESS" ? [remote, pod] : [pod, remote];
        const query = { from, to, protocol, port: 8, toNamedPorts: [] };
        const denied = explainDirection(repository, query, direction);
        const name = `${direction} ${protocol} ${remoteIs}`;
        assert.equal(denied.allowed, false, name);
        const { policies, faults } = readManifests(denied.manifest, { file: "fix.yaml" });
        assert.deepEqual(faults, [], name);
        repository.upsertPolicy(policies[0]);
        assert.equal(explainDirection(repository, query, direction).allowed, true, name);
        assert.equal(explainDirection(repository, { ...query, port: 9 }, direction).allowed, false, name);
        const third = { ...query, [direction === "INGRESS" ? "from" : "to"]: repository.identity(DB)! };
        assert.equal(explainDirection(repository, third, direction).allowed, false, name);
      }
    }
  }
});

Deno.test("explainDirection() says of a CIDR rule that covers a pod that it does not mean it", () => {
  const rules =
    "ingress: [{fromEntities: [all]}], ingressDeny: [{fromCIDR: [10.0.0.0/8]}, {fromCIDR: [192.0.2.0/24]}]";
  const repository = repositoryWith(`{${SELECT_WEB}, ${rules}}`);
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  const query = { from, to, protocol: 6, port: 80, toNamedPorts: [] };
  const at = (address: string) =>
    explainDirection(repository, query, "INGRESS", (number) => number === API ? [Prefix.parse(address)] : []);
  assert.equal(at("10.0.1.7/32").allowed, true);
  assert.deepEqual(at("10.0.1.7/32").notes, [
    "cnp:default/p0 spec.ingressDeny[0].fromCIDR[0] (p.yaml:1) covers the address of the source and does not deny it: " +
    "a CIDR rule never means pods and nodes, say fromEndpoints or fromEntities",
  ]);
  assert.deepEqual(at("10.0.1.7/32").notes, at("10.0.1.8/32").notes);
  assert.deepEqual(at("198.51.100.1/32").notes, []);
  assert.deepEqual(explain(repository).notes, [], "nobody knows its address");
});

Deno.test("explainDirection() names the label that the remote end is to get, where it can be given one", () => {
  const give = (from: string) =>
    explain(repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [${from}]}]}`)).giveLabel;
  assert.equal(give("{matchLabels: {app: db}}"), "app=db");
  assert.equal(give("{matchLabels: {tier: back}}"), "tier=back");
  assert.equal(give("{matchExpressions: [{key: tier, operator: Exists}]}"), "");
  assert.equal(give("{matchExpressions: [{key: tier, operator: In, values: [a, b]}]}"), "");
  assert.equal(give('{matchLabels: {"k8s:io.kubernetes.pod.namespace": prod}}'), "");
});

Deno.test("explainDirection() judges a request by the L7 rules, and names the rule, its place and what would turn it", () => {
  const spec = (path: string) =>
    `{${SELECT_WEB}, ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "${path}"}]}}]}]}`;
  const repository = repositoryWith(spec("/public.*"));
  const ask = (path?: string) => {
    const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
    const request = path === undefined
      ? undefined
      : requestOf(L7Question.create({ http: { method: "GET", path } }));
    return explainDirection(
      repository,
      { from, to, protocol: 6, port: 80, toNamedPorts: [], request },
      "INGRESS",
    );
  };
  const list = "cnp:default/p0 spec.ingress[0].toPorts[0].rules.http";
  assert.deepEqual([ask("/public/x").allowed, ask("/public/x").reason], [
    true,
    `Allowed by ${list}[0] (p.yaml:1)`,
  ]);
  assert.equal(ask("/public/x").change, `Remove ${list}[0] (p.yaml:1)`);
  const denied = ask("/private");
  assert.deepEqual([denied.allowed, denied.reason, denied.nearMiss, denied.change], [
    false,
    `Denied: no HTTP rule of ${list} (p.yaml:1) allows GET /private`,
    `${list}[0] (p.yaml:1): path "/private" is not "/public.*"`,
    `Add {method: "GET", path: "/private"} to ${list} (p.yaml:1)`,
  ]);
  assert.match(ask().notes[0], /judges each request by HTTP rules/);
});

Deno.test("explainDirection() judges CQL as the proxy does, member by member, and in the connection's keyspace", () => {
  const rules =
    `l7proto: cassandra, l7: [{query_action: select, query_table: "^shop\\\\.cart$"}, {query_action: insert, query_table: "^shop\\\\."}]`;
  const repository = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {${rules}}}]}]}`,
  );
  const list = "cnp:default/p0 spec.ingress[0].toPorts[0].rules.l7";
  const ask = (cql: string, keyspace = "") => {
    const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
    const request = requestOf(L7Question.create({ cassandra: { cql, keyspace } }));
    return explainDirection(
      repository,
      { from, to, protocol: 6, port: 80, toNamedPorts: [], request },
      "INGRESS",
    );
  };
  const said = (cql: string, keyspace?: string) => {
    const { allowed, reason } = ask(cql, keyspace);
    return `${allowed} ${reason}`.replaceAll(list, "L").replaceAll(" (p.yaml:1)", "");
  };
  const none = "Denied: no Cassandra rule of L allows";
  const cases: [string, string | undefined, string][] = [
    ["SELECT * FROM shop.cart", undefined, "true Allowed by L[0]"],
    ["SELECT * FROM Shop.CART", undefined, "true Allowed by L[0]"],
    ["SELECT * FROM cart", "SHOP", "true Allowed by L[0]"],
    ["SELECT * FROM cart", '"SHOP"', `false ${none} select on SHOP.cart`],
    ["SELECT * FROM cart", undefined, `false ${none} select on cart`],
    ["SELECT * FROM vault.cart", "shop", `false ${none} select on vault.cart`],
    ["SELECT a /* FROM shop.cart */ FROM shop.secret", undefined, `false ${none} select on shop.secret`],
    [
      "BEGIN BATCH INSERT INTO shop.a (k) VALUES (1); DELETE FROM shop.b WHERE k = 1; UPDATE c SET v = 1 APPLY BATCH",
      "shop",
      `false ${none} delete on shop.b and update on shop.c`,
    ],
    ["BEGIN BATCH INSERT INTO shop.a (k) VALUES (1) APPLY BATCH", undefined, "true Allowed by L[1]"],
    ["USE vault", undefined, "true Allowed: USE always passes, it reads nothing"],
    ["DROP ROLE admin", undefined, `false ${none} drop-role`],
    [
      "SELECT * FROM shop.cart; DROP TABLE shop.cart",
      undefined,
      `false ${none} a statement that cannot be read (found "drop", expected nothing after the statement)`,
    ],
  ];
  for (const [cql, keyspace, expected] of cases) assert.equal(said(cql, keyspace), expected, cql);
  const denied = ask("DELETE FROM shop.cart WHERE k = 1");
  assert.deepEqual([denied.nearMiss, denied.change], [
    `${list}[1] (p.yaml:1): delete is not insert`,
    `Add {query_action: delete, query_table: "^shop\\\\.cart$"} to ${list} (p.yaml:1)`,
  ]);
  assert.match(ask("SELECT * FROM cart").notes[0], /before any USE/);
  assert.match(
    ask("DESCRIBE TABLES").change,
    /^Only a rule without query_action and query_table allows describe,/,
  );
  assert.equal(ask("nonsense").nearMiss, "");
  assert.match(ask("nonsense").change, /^Send one statement of CQL that can be read/);
  assert.throws(() => ask("SELECT * FROM cart", "a; b"), /is no keyspace/);
});

Deno.test("explainDirection() judges a TLS client's server name, and each key of a command to memcached", () => {
  const asked = (item: string, question: Parameters<typeof L7Question.create>[0]) => {
    const repository = repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: "80", protocol: TCP}], ${item}}]}]}`,
    );
    const { allowed, reason, change } = explainDirection(repository, {
      from: repository.identity(API)!,
      to: repository.identity(WEB)!,
      protocol: 6,
      port: 80,
      toNamedPorts: [],
      request: requestOf(L7Question.create(question)),
    }, "INGRESS");
    const short = (text: string) =>
      text.replaceAll(/cnp:default\/p0 spec\.ingress\[0\]\.toPorts\[0\]\.(rules\.l7|serverNames)/g, "L")
        .replaceAll(" (p.yaml:1)", "");
    return [allowed, short(reason), short(change)];
  };
  const names = `serverNames: ["www.example.com", "*.shop.example"]`;
  const memcache =
    `rules: {l7proto: memcache, l7: [{command: get, keyPrefix: "user:"}, {command: get, keyExact: "public"}]}`;
  const none = "Denied: no memcached rule of L allows";
  const cases: [string, Parameters<typeof L7Question.create>[0], unknown[]][] = [
    [names, { tls: { serverName: "a.SHOP.example" } }, [true, "Allowed by L[1]", "Remove L[1]"]],
    [names, { tls: { serverName: "evil" } }, [
      false,
      "Denied: no server name rule of L allows TLS to evil",
      'Add "evil" to L',
    ]],
    [names, { tls: { serverName: "" } }, [
      false,
      "Denied: no server name rule of L allows TLS without a server name",
      "Name the server: no rule means a client that names none",
    ]],
    [memcache, { memcache: { command: "get public user:1" } }, [
      true,
      "Allowed by L[1] and L[0]",
      "Remove L[1] and L[0]",
    ]],
    [memcache, { memcache: { command: "gets public secret" } }, [
      false,
      `${none} gets secret`,
      'Add {command: gets, keyExact: "secret"} to L',
    ]],
    [memcache, { memcache: { command: "set user:1 0 0 5" } }, [
      false,
      `${none} set user:1`,
      'Add {command: set, keyExact: "user:1"} to L',
    ]],
    [memcache, { memcache: { command: "flush_all" } }, [
      false,
      `${none} flush_all`,
      "Add {command: flush_all} to L",
    ]],
    [memcache, { memcache: { command: "quit" } }, [
      true,
      "Allowed: quit always passes, it reads nothing",
      "",
    ]],
  ];
  for (const [rules, question, expected] of cases) assert.deepEqual(asked(rules, question), expected);
  assert.throws(() => asked(memcache, { memcache: { command: "GET public" } }), /no command that is known/);
});

Deno.test("explainDirection() has a policy for nodes that opens a host, which the engine takes", () => {
  const repository = new PolicyRepository(), host = 700;
  repository.upsertIdentity(host, LabelSet.parse(["reserved:host", "node:tier=edge"]));
  repository.upsertIdentity(API, LabelSet.parse(["k8s:app=api", ...COMMON]));
  const apply = (text: string) => {
    const { policies, faults } = readManifests(text, { file: "p.yaml" });
    assert.deepEqual(faults, []);
    repository.upsertPolicy(policies[0]);
  };
  apply(
    "{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: p}, spec: {nodeSelector: {}, ingress: [{}]}}",
  );
  const [from, to] = [repository.identity(API)!, repository.identity(host)!];
  const ask = () =>
    explainDirection(repository, { from, to, protocol: 6, port: 80, toNamedPorts: [] }, "INGRESS");
  const denied = ask();
  assert.equal(denied.allowed, false);
  assert.match(denied.manifest, /nodeSelector:\n +matchLabels:\n +tier: edge/);
  apply(denied.manifest);
  assert.equal(ask().allowed, true);
});

import assert from "node:assert/strict";
import {
  IDENTITY_BROADCAST,
  IDENTITY_HOST,
  IDENTITY_INIT,
  IDENTITY_MULTICAST,
  IDENTITY_WORLD_IPV4,
  LabelSet,
  MapState,
} from "@weir/common";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

const COMMON = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];

function labels(...own: string[]): LabelSet {
  return LabelSet.parse([...own.map((label) => `k8s:${label}`), ...COMMON]);
}

function put(repository: PolicyRepository, name: string, spec: string, kind = "CiliumNetworkPolicy"): void {
  const text = `{apiVersion: cilium.io/v2, kind: ${kind}, metadata: {name: ${name}}, spec: ${spec}}`;
  const { policies, faults } = readManifests(text);
  assert.deepEqual(faults, []);
  for (const policy of policies) repository.upsertPolicy(policy);
}

function allows(
  repository: PolicyRepository,
  subject: number,
  remote: number,
  port = 80,
  direction: "INGRESS" | "EGRESS" = "INGRESS",
) {
  return MapState.of(repository.mapState(subject)!).lookup(remote, direction, 6, port).allowed;
}

Deno.test("PolicyRepository resolves only what a change touches, however many identities there are", () => {
  const repository = new PolicyRepository();
  const count = 5000;
  for (let i = 0; i < count; i++) repository.upsertIdentity(1000 + i, labels(`app=a${i % 500}`, `pod=p${i}`));
  for (let i = 0; i < 200; i++) {
    put(
      repository,
      `p${i}`,
      `{endpointSelector: {matchLabels: {app: a${i}}}, ingress: [{fromEndpoints: [{matchLabels: {app: a${
        i + 1
      }}}]}]}`,
    );
  }
  repository.takeChanges();
  const before = { ...repository.work, comparisons: repository.selectors.work.comparisons };
  const workSince = () => ({
    identities: repository.work.identitiesResolved - before.identitiesResolved,
    groups: repository.work.groupsResolved - before.groupsResolved,
    comparisons: repository.selectors.work.comparisons - before.comparisons,
  });

  // A new identity of an app that one policy names as its peer: one entry of one group, told to that group's subjects.
  repository.upsertIdentity(20_000, labels("app=a7", "pod=new"));
  const added = repository.takeChanges();
  assert.deepEqual(workSince(), { identities: 1, groups: 0, comparisons: 2 });
  assert.deepEqual([...added.mapStates].sort((a, b) => a - b), [
    ...Array.from({ length: 10 }, (_, i) => 1006 + i * 500),
    20_000,
  ]);

  // One of an app that no policy mentions touches itself alone.
  repository.upsertIdentity(20_001, labels("app=other"));
  assert.deepEqual([...repository.takeChanges().mapStates], [20_001]);
  assert.deepEqual(workSince(), { identities: 1, groups: 0, comparisons: 2 });

  repository.removeIdentity(20_000);
  const removed = repository.takeChanges();
  assert.equal(removed.mapStates.size, 10);
  assert.deepEqual([...removed.removedSubjects], [20_000]);
  assert.deepEqual(workSince(), { identities: 1, groups: 0, comparisons: 2 });

  // A policy more: the group of its ten subjects is resolved, the other 199 are not.
  put(
    repository,
    "more",
    "{endpointSelector: {matchLabels: {app: a3}}, ingress: [{fromEndpoints: [{matchLabels: {app: a400}}]}]}",
  );
  assert.equal(repository.takeChanges().mapStates.size, 10);
  assert.equal(workSince().groups, 1);
  assert.ok(workSince().identities <= 1 + 1 + 20, `${workSince().identities}`);
  assert.ok(workSince().comparisons <= 2 + 10, `${workSince().comparisons}`);
});

Deno.test("PolicyRepository shares one resolved policy among identities that the same rules select", () => {
  const repository = new PolicyRepository();
  for (let i = 0; i < 100; i++) repository.upsertIdentity(1000 + i, labels("app=web", `pod=p${i}`));
  const groups = repository.groupCount;
  put(repository, "p", "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{}]}]}");
  assert.ok(repository.groupCount <= groups + 1);
  assert.equal(repository.group(1000), repository.group(1099));
  assert.equal(repository.mapState(1000)!.entries, repository.mapState(1099)!.entries, "one list for all");
});

Deno.test("PolicyRepository resolves and keeps a clusterwide rule once, however many sets of rules have it", () => {
  const repository = new PolicyRepository();
  const groups = 50, identities = 1000;
  for (let i = 0; i < identities; i++) repository.upsertIdentity(1000 + i, labels(`app=a${i % groups}`));
  for (let i = 0; i < groups; i++) {
    const peer = `{matchLabels: {app: a${(i + 1) % groups}}}`;
    put(
      repository,
      `p${i}`,
      `{endpointSelector: {matchLabels: {app: a${i}}}, ingressDeny: [{fromEndpoints: [${peer}]}]}`,
    );
  }
  repository.takeChanges();
  const before = repository.work.identitiesResolved;
  const resolved = () => repository.work.identitiesResolved - before;
  const everyone =
    "{endpointSelector: {}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '80'}]}]}]}";
  put(repository, "everyone", everyone, "CiliumClusterwideNetworkPolicy");
  assert.equal(repository.takeChanges().mapStates.size >= identities, true);
  const spare = 100;
  assert.ok(resolved() < 2 * identities + groups + spare, `${resolved()}, not ${groups * identities}`);
  // Each set of rules still says its own of the peers that it names, and what is for everyone of all others.
  assert.equal(allows(repository, 1000, 1001), false, "its own deny wins");
  assert.equal(allows(repository, 1000, 1002), true);
  assert.equal(allows(repository, 1000, 1002, 81), false);
  assert.equal(allows(repository, 1001, 1000), true);

  const held = repository.mapState(1000)!, count = held.entries.length, atFirst = resolved();
  repository.upsertIdentity(30_000, labels("app=new"));
  assert.equal(repository.takeChanges().mapStates.size >= identities, true);
  assert.ok(resolved() - atFirst <= 3, `${resolved() - atFirst} for one peer more`);
  assert.equal(allows(repository, 1000, 30_000), true);
  assert.equal(held.entries.length, count, "a map state that was given away stays as it was");
  repository.removeIdentity(30_000);
  assert.deepEqual(repository.mapState(1000)!.entries, held.entries);
  repository.removePolicy("ccnp:everyone");
  assert.equal(allows(repository, 1000, 1002), false);
  for (let i = 0; i < groups; i++) repository.removePolicy(`cnp:default/p${i}`);
  assert.equal(repository.selectors.size, 0);
  assert.equal(allows(repository, 1000, 1001), true);
});

Deno.test("PolicyRepository forgets a peer that a rule for everyone meant by its port name", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(1000, labels("app=web"));
  put(
    repository,
    "everyone",
    "{endpointSelector: {}, egress: [{toEndpoints: [{matchLabels: {app: peer}}], toPorts: [{ports: [{port: '53'}]}]}]}",
    "CiliumClusterwideNetworkPolicy",
  );
  put(
    repository,
    "named",
    "{endpointSelector: {matchLabels: {app: web}}, egress: [{toPorts: [{ports: [{port: http}]}]}]}",
  );
  repository.upsertIdentity(1001, labels("app=peer"));
  repository.upsertIdentity(1002, labels("app=other"));
  repository.setNamedPorts("10.0.0.1/32", 1001, [{ name: "http", port: 8080, protocol: "TCP" }]);
  repository.setNamedPorts("10.0.0.2/32", 1002, [{ name: "http", port: 8081, protocol: "TCP" }]);
  const egress = (remote: number, port: number) => allows(repository, 1000, remote, port, "EGRESS");
  assert.deepEqual([egress(1001, 8080), egress(1001, 53), egress(1001, 8081)], [true, true, false]);
  assert.deepEqual([egress(1002, 8081), egress(1002, 53)], [true, false]);
  repository.removeIdentity(1002);
  repository.removeIdentity(1001);
  const left = repository.mapState(1000)!.entries.filter(({ identity }) => identity > 0);
  assert.deepEqual(left, [], "nothing is left of peers that are gone");
});

Deno.test("PolicyRepository opens, closes and opens again as policies come and go", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(1000, labels("app=web"));
  repository.upsertIdentity(1001, labels("app=api"));
  assert.equal(allows(repository, 1000, 1001), true);
  put(repository, "deny-all", "{endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}");
  assert.equal(allows(repository, 1000, 1001), false);
  assert.equal(allows(repository, 1000, 1001, 80, "EGRESS"), true);
  put(repository, "api", "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}");
  assert.equal(allows(repository, 1000, 1001), true);
  put(repository, "no", "{endpointSelector: {}, ingressDeny: [{toPorts: [{ports: [{port: '80'}]}]}]}");
  assert.deepEqual([allows(repository, 1000, 1001, 80), allows(repository, 1000, 1001, 81)], [false, true]);
  repository.removePolicy("cnp:default/no");
  // Relabelled: the identity's labels change nothing of the number's past.
  repository.upsertIdentity(1001, labels("app=other"));
  assert.equal(allows(repository, 1000, 1001), false);
  repository.removePolicy("cnp:default/api");
  repository.removePolicy("cnp:default/deny-all");
  assert.equal(allows(repository, 1000, 1001), true);
  assert.equal(repository.removePolicy("cnp:default/deny-all"), false);
  assert.equal(repository.selectors.size, 0, "no selector is left behind");
  assert.equal(repository.cidrPairs().length, 0);
});

Deno.test("PolicyRepository gives prefixes identities while they are mentioned and keeps a number for a prefix", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(1000, labels("app=web"));
  const egress = (...cidrs: string[]) => `{endpointSelector: {}, egress: [{toCIDR: [${cidrs}]}]}`;
  put(repository, "a", egress("10.0.0.0/8", "0.0.0.0/0"));
  put(repository, "b", egress("10.0.0.0/8", "10.1.0.0/16"));
  const number = (prefix: string) => repository.cidrIdentity(prefix)?.identity;
  const [wide, narrow] = [number("10.0.0.0/8")!, number("10.1.0.0/16")!];
  assert.ok(wide > 1 << 24 && narrow !== wide);
  assert.equal(number("0.0.0.0/0"), undefined, "/0 is the world");
  assert.deepEqual([...repository.takeChanges().addedPrefixes].sort(), ["10.0.0.0/8", "10.1.0.0/16"]);
  assert.equal(allows(repository, 1000, narrow, 80, "EGRESS"), true);
  repository.removePolicy("cnp:default/a");
  assert.equal(number("10.0.0.0/8"), wide);
  put(repository, "b", egress("10.1.0.0/16"));
  assert.deepEqual([number("10.0.0.0/8"), number("10.1.0.0/16")], [undefined, narrow]);
  assert.deepEqual([...repository.takeChanges().removedPrefixes], ["10.0.0.0/8"]);
});

Deno.test("PolicyRepository takes numbers from its source alone, moves a prefix with it, and refuses what has none", () => {
  const numbers = new Map([["10.0.0.0/8", 0x100_0007], ["10.1.0.0/16", 0x100_0007]]);
  const repository = new PolicyRepository({ cidrNumbers: { numberOf: (prefix) => numbers.get(prefix) } });
  repository.upsertIdentity(1000, labels("app=web"));
  const egress = (...cidrs: string[]) => `{endpointSelector: {}, egress: [{toCIDR: [${cidrs}]}]}`;
  const refused = [["192.0.2.0/24"], ["10.0.0.0/8", "192.0.2.0/24"], ["10.0.0.0/8", "10.1.0.0/16"]];
  for (const prefixes of refused) {
    assert.throws(() => put(repository, "a", egress(...prefixes)), { name: "CidrNumberError" });
    assert.deepEqual([repository.cidrPairs(), repository.policyCount, repository.selectors.size], [[], 0, 0]);
  }
  put(repository, "a", egress("10.0.0.0/8"));
  assert.throws(() => put(repository, "b", egress("10.1.0.0/16")), /the number of 10.0.0.0\/8/);
  repository.takeChanges();
  // Gone at the source: the prefix keeps its number while it is mentioned.
  numbers.delete("10.0.0.0/8");
  repository.renumberPrefixes();
  assert.deepEqual(repository.cidrPairs(), [{ prefix: "10.0.0.0/8", identity: 0x100_0007 }]);
  numbers.set("10.0.0.0/8", 0x100_0008);
  repository.renumberPrefixes();
  const changes = repository.takeChanges();
  assert.deepEqual([[...changes.removedPrefixes], [...changes.addedPrefixes], [...changes.mapStates]], [
    ["10.0.0.0/8"],
    ["10.0.0.0/8"],
    [1000],
  ]);
  const entries = repository.mapState(1000)!.entries.map(({ identity }) => identity);
  assert.deepEqual(entries, [0x100_0008]);
  put(repository, "b", egress("10.1.0.0/16"));
  assert.equal(repository.cidrIdentity("10.1.0.0/16")!.identity, 0x100_0007);
});

Deno.test("PolicyRepository follows port names: the endpoint's own for ingress, each peer's own for egress", () => {
  const repository = new PolicyRepository();
  for (const [number, app] of [[1000, "web"], [1001, "api"], [1002, "old"]] as const) {
    repository.upsertIdentity(number, labels(`app=${app}`));
  }
  put(
    repository,
    "p",
    "{endpointSelector: {matchLabels: {app: web}}, ingress: [{toPorts: [{ports: [{port: http, protocol: TCP}]}]}], " +
      "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: HTTP, protocol: TCP}]}]}]}",
  );
  const state = repository.mapState(1000)!;
  const ingress = (port: number) =>
    MapState.of(state, [{ name: "http", port: 8080, protocol: "TCP" }]).lookup(1001, "INGRESS", 6, port)
      .allowed;
  assert.deepEqual([ingress(8080), ingress(80)], [true, false]);
  const egress = (remote: number, port: number) => allows(repository, 1000, remote, port, "EGRESS");
  assert.equal(egress(1001, 80), false, "nobody defines the name");
  repository.setNamedPorts("10.0.0.1", 1001, [{ name: "http", port: 80, protocol: "TCP" }]);
  assert.deepEqual([egress(1001, 80), egress(1002, 80)], [true, true], "the one number of the cluster");
  repository.setNamedPorts("10.0.0.2", 1002, [{ name: "http", port: 8000, protocol: "TCP" }]);
  assert.deepEqual([egress(1001, 80), egress(1002, 80), egress(1002, 8000)], [true, false, true]);
  repository.setNamedPorts("10.0.0.1", 1001, []);
  assert.deepEqual([egress(1001, 80), egress(1001, 8000)], [false, true]);
});

for (const kind of ["CiliumNetworkPolicy", "NetworkPolicy"] as const) {
  Deno.test(`PolicyRepository opens each peer's own number also where peers of one identity differ, by ${kind}`, () => {
    const repository = new PolicyRepository();
    repository.upsertIdentity(1000, labels("app=web"));
    repository.upsertIdentity(1001, labels("app=api"));
    const spec = kind === "NetworkPolicy"
      ? "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: http}, {port: admin}]}]}"
      : "{endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: http, protocol: TCP}, {port: admin, protocol: TCP}]}]}]}";
    const text = `{apiVersion: ${
      kind === "NetworkPolicy" ? "networking.k8s.io/v1" : "cilium.io/v2"
    }, kind: ${kind}, metadata: {name: p}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text);
    assert.deepEqual(faults, []);
    repository.upsertPolicy(policies[0]);
    const ports = (...given: [string, number][]) =>
      given.map(([name, port]) => ({ name, port, protocol: "TCP" }));
    const open = (last: number) =>
      [80, 8080, 9090].filter((port) =>
        MapState.of(repository.mapState(1000)!).lookup(1001, "EGRESS", 6, port, `10.0.0.${last}/32`).allowed
      );
    const partly = () =>
      repository.mapState(1000)!.entries.filter(({ addresses }) => addresses.length > 0).length;
    repository.setNamedPorts("10.0.0.1/32", 1001, ports(["http", 8080]));
    repository.setNamedPorts("10.0.0.2/32", 1001, ports(["http", 8080]));
    assert.deepEqual([open(1), open(2), partly()], [[8080], [8080], 0], "of one mind: no entries by address");
    assert.equal(repository.setNamedPorts("10.0.0.3/32", 1001, ports(["http", 8080])), false, "nor any work");
    repository.setNamedPorts("10.0.0.2/32", 1001, ports(["http", 9090]));
    assert.deepEqual([open(1), open(2), open(3)], [[8080], [9090], [8080]]);
    assert.deepEqual(open(99), [], "one that nobody knows yet has none");
    // two names cross: what one calls http the other calls admin
    repository.setNamedPorts("10.0.0.1/32", 1001, ports(["http", 8080], ["admin", 9090]));
    repository.setNamedPorts("10.0.0.2/32", 1001, ports(["http", 9090], ["admin", 80]));
    assert.deepEqual([open(1), open(2), open(3)], [[8080, 9090], [80, 9090], [8080]]);
    // one without a name, and one that goes
    repository.setNamedPorts("10.0.0.3/32", 1001, []);
    assert.deepEqual([open(1), open(2), open(3)], [[8080, 9090], [80, 9090], []]);
    repository.setNamedPorts("10.0.0.1/32", 1001, ports(["http", 8080]));
    repository.setNamedPorts("10.0.0.2/32", 1001, undefined);
    // the cluster is of one mind again, and Cilium's policies read its number where a peer has no such name
    assert.deepEqual([open(1), open(3)], [[8080], kind === "NetworkPolicy" ? [] : [8080]]);
    repository.setNamedPorts("10.0.0.3/32", 1001, undefined);
    assert.deepEqual([open(1), partly()], [[8080], 0]);
  });
}

Deno.test("PolicyRepository lets a deny by number win over a name that some peers have, and keep the rest", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(1000, labels("app=web"));
  repository.upsertIdentity(1001, labels("app=api"));
  put(
    repository,
    "p",
    "{endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: http, protocol: TCP}, {port: '9090', protocol: TCP}, {port: '7000', endPort: 7999, protocol: TCP}]}]}], " +
      "egressDeny: [{toEndpoints: [{}], toPorts: [{ports: [{port: bad, protocol: TCP}, {port: '8000', endPort: 8099, protocol: TCP}]}]}]}",
  );
  const set = (last: number, ...given: [string, number][]) =>
    repository.setNamedPorts(
      `10.0.0.${last}/32`,
      1001,
      given.map(([name, port]) => ({ name, port, protocol: "TCP" })),
    );
  set(1, ["http", 8080], ["bad", 9090]);
  set(2, ["http", 8443], ["bad", 7500]);
  const open = (last: number, ...wanted: number[]) =>
    wanted.filter((port) =>
      MapState.of(repository.mapState(1000)!).lookup(1001, "EGRESS", 6, port, `10.0.0.${last}/32`).allowed
    );
  assert.deepEqual(open(1, 8080, 8443, 9090, 7500), [7500], "8080 lies in a denied range, 9090 is bad here");
  assert.deepEqual(open(2, 8080, 8443, 9090, 7500), [8443, 9090], "7500 is bad here");
});

Deno.test("PolicyRepository gives hosts the rules with a nodeSelector, and everybody else the others", () => {
  const repository = new PolicyRepository(), edge = 700, core = 701, pod = 702;
  const labels = (...texts: string[]) => LabelSet.parse(texts);
  repository.upsertIdentity(edge, labels("reserved:host", "node:tier=edge", "node:kubernetes.io/hostname=a"));
  repository.upsertIdentity(core, labels("reserved:host", "node:tier=core"));
  repository.upsertIdentity(
    pod,
    labels("k8s:io.kubernetes.pod.namespace=shop", "k8s:tier=edge", "reserved:host"),
  );
  const closed = () =>
    [IDENTITY_HOST, edge, core, pod].filter((number) => repository.mapState(number)!.enforceIngress);
  const clusterwide = "CiliumClusterwideNetworkPolicy";
  assert.deepEqual(closed(), []);
  for (
    const [selector, expected] of [
      ["endpointSelector: {}", [pod]],
      ["nodeSelector: {}", [IDENTITY_HOST, edge, core]],
      ["nodeSelector: { matchLabels: { tier: edge } }", [edge]],
      ['nodeSelector: { matchLabels: { "k8s:tier": core } }', [core]],
      ["nodeSelector: { matchLabels: { kubernetes.io/hostname: a } }", [edge]],
      ["nodeSelector: { matchExpressions: [{ key: tier, operator: DoesNotExist }] }", [IDENTITY_HOST]],
    ] as const
  ) {
    put(repository, "p", `{${selector}, ingress: [{}]}`, clusterwide);
    assert.deepEqual(closed(), expected, selector);
    repository.removePolicy("ccnp:p");
    assert.deepEqual(closed(), [], selector);
  }
  // Both at once: none is taken for the other, whichever comes first.
  put(repository, "nodes", "{nodeSelector: {}, ingress: [{}]}", clusterwide);
  put(repository, "all", "{endpointSelector: {}, egress: [{}]}", clusterwide);
  assert.deepEqual(closed(), [IDENTITY_HOST, edge, core]);
  assert.deepEqual([edge, pod].map((number) => repository.mapState(number)!.enforceEgress), [false, true]);
});

Deno.test("PolicyRepository enforces endpoints without labels always and the host by rules for nodes alone", () => {
  const repository = new PolicyRepository();
  put(repository, "all", "{endpointSelector: {}, ingress: [{}]}", "CiliumClusterwideNetworkPolicy");
  const init = repository.mapState(IDENTITY_INIT)!;
  assert.deepEqual([init.enforceIngress, init.enforceEgress], [true, true]);
  const host = repository.mapState(IDENTITY_HOST)!;
  assert.deepEqual([host.enforceIngress, host.enforceEgress], [false, false]);
  assert.equal(repository.mapState(IDENTITY_WORLD_IPV4), undefined);
});

Deno.test("PolicyRepository lets groups and broadcasts through for no entity but theirs and all, and for no CIDR", () => {
  const many = [IDENTITY_MULTICAST, IDENTITY_BROADCAST];
  const cases: [string, boolean[]][] = [
    ["toEntities: [world, cluster, host, remote-node, world-ipv4, world-ipv6]", [false, false]],
    ["toCIDR: [0.0.0.0/0, '::/0', 224.0.0.0/4, 128.0.0.0/1, 255.255.255.255/32, 'ff00::/8']", [false, false]],
    ["toEndpoints: [{}]", [false, false]],
    ["toEntities: [multicast]", [true, false]],
    ["toEntities: [broadcast]", [false, true]],
    ["toEntities: [all]", [true, true]],
  ];
  for (const kind of ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]) {
    for (const [rule, allowed] of cases) {
      const repository = new PolicyRepository();
      repository.upsertIdentity(1000, labels("app=web"));
      put(repository, "p", `{endpointSelector: {}, egress: [{${rule}}]}`, kind);
      assert.deepEqual(
        many.map((remote) => allows(repository, 1000, remote, 80, "EGRESS")),
        allowed,
        `${kind} ${rule}`,
      );
    }
  }
});

Deno.test("PolicyRepository names every rule that asks for an entry, and every policy that closes a direction", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(1000, labels("app=web"));
  repository.upsertIdentity(1001, labels("app=api"));
  const spec =
    "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}";
  put(repository, "a", spec);
  const alone = repository.mapState(1000)!.entries[0].cookie;
  put(repository, "b", spec);
  const state = repository.mapState(1000)!;
  assert.equal(state.entries.length, 1);
  assert.notEqual(state.entries[0].cookie, alone);
  const sources = (cookie: number) =>
    repository.cookies.get(cookie)!.sources.map(({ policy, path }) => `${policy} ${path}`);
  assert.deepEqual(sources(state.entries[0].cookie), [
    "cnp:default/a spec.ingress[0].fromEndpoints[0]",
    "cnp:default/b spec.ingress[0].fromEndpoints[0]",
  ]);
  assert.deepEqual(sources(state.ingressDefaultCookie), [
    "cnp:default/a spec.ingress",
    "cnp:default/b spec.ingress",
  ]);
  repository.removePolicy("cnp:default/b");
  assert.equal(
    repository.mapState(1000)!.entries[0].cookie,
    alone,
    "a cookie is the same for the same rules",
  );
  assert.ok(repository.sweepCookies().includes(state.entries[0].cookie));
  put(
    repository,
    "open",
    "{endpointSelector: {matchLabels: {app: api}}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [world]}]}",
  );
  const open = MapState.of(repository.mapState(1001)!).lookup(1000, "INGRESS", 6, 80);
  assert.deepEqual([open.allowed, open.by, sources(open.cookie)], [true, "entry", [
    "cnp:default/open spec.ingressDeny",
  ]]);
});

Deno.test("PolicyRepository names the exceptions of rules in the map states that have them, as these come and go", () => {
  const repository = new PolicyRepository();
  repository.upsertIdentity(300, labels("app=web"));
  const rule = (except: string) =>
    `{endpointSelector: {matchLabels: {app: web}}, egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [${except}]}]}]}`;
  const number = (prefix: string) => repository.cidrIdentity(prefix)!.identity;
  put(repository, "web", rule("10.1.0.0/16"));
  repository.takeChanges();
  assert.deepEqual(repository.mapState(300)!.silent, [number("10.1.0.0/16")]);
  // Another policy's prefix inside the exception changes no entry of this one.
  put(
    repository,
    "other",
    "{endpointSelector: {matchLabels: {app: x}}, egress: [{toCIDR: [10.1.2.0/24, 10.2.0.0/16]}]}",
  );
  assert.ok(repository.takeChanges().mapStates.has(300));
  const silent = [number("10.1.0.0/16"), number("10.1.2.0/24")].sort((a, b) => a - b);
  assert.deepEqual(repository.mapState(300)!.silent, silent);
  assert.ok(repository.removePolicy("cnp:default/other"));
  assert.ok(repository.takeChanges().mapStates.has(300));
  assert.deepEqual(repository.mapState(300)!.silent, [number("10.1.0.0/16")]);
  put(repository, "web", rule(""));
  assert.deepEqual(repository.mapState(300)!.silent, []);
  assert.equal(repository.mapState(300)!.selfDescribed, true);
});

Deno.test("PolicyRepository takes pods with an address among their labels for what lies in a CIDR", () => {
  const repository = new PolicyRepository();
  const pod = (app: string, ...addresses: string[]) =>
    LabelSet.parse([`k8s:app=${app}`, ...COMMON, ...addresses.map((address) => `cidr:${address}`)]);
  repository.upsertIdentity(1000, pod("web", "10.0.1.1/32", "fd00::1/128"));
  repository.upsertIdentity(1001, pod("a", "10.0.1.2/32", "fd00::2/128"));
  repository.upsertIdentity(1002, pod("a", "10.0.1.3/32", "fd00::3/128"));
  put(
    repository,
    "but-one",
    "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.1.3/32]}]}]}",
  );
  assert.ok(allows(repository, 1000, 1001));
  assert.ok(!allows(repository, 1000, 1002));
  // The exception is a prefix with a number of its own for those outside; the pod behind it is none.
  const state = repository.mapState(1000)!, except = repository.cidrIdentity("10.0.1.3/32")!.identity;
  assert.deepEqual(state.silent, [except]);
  put(
    repository,
    "everybody",
    "{endpointSelector: {matchLabels: {app: web}}, ingress: [{fromCIDR: [0.0.0.0/0]}]}",
  );
  assert.ok(allows(repository, 1000, 1002));
  put(
    repository,
    "world",
    "{endpointSelector: {matchLabels: {app: a}}, egress: [{toEntities: [world]}], ingress: [{fromCIDR: [fd00::/64]}]}",
  );
  assert.ok(!allows(repository, 1001, 1000, 80, "EGRESS"), "a pod is not the world");
  assert.ok(allows(repository, 1001, 1000));
  repository.upsertIdentity(1003, pod("a", "10.0.2.9/32"));
  assert.ok(allows(repository, 1000, 1003));
});

import assert from "node:assert/strict";
import { LabelSet, MapState } from "@weir/common";
import { explainDirection } from "./explain.ts";
import { readManifests } from "./manifest.ts";
import { compare } from "./offline/difference.ts";
import { readInventory } from "./offline/inventory.ts";
import { serviceSource } from "./peer_source.ts";
import { PolicyRepository } from "./policy_repository.ts";
import { SERVICE_FILE, serviceText } from "./service_manifest.ts";

const WEB = 1000, DB = 1001, OTHER = 1002, ELSEWHERE = 1003;
const labels = (namespace: string, app: string) =>
  LabelSet.parse([
    `k8s:app=${app}`,
    `k8s:io.kubernetes.pod.namespace=${namespace}`,
    "k8s:io.cilium.k8s.policy.cluster=default",
  ]);

function read(text: string) {
  const { policies, faults } = readManifests(text, { file: "p.yaml", isStored: true });
  assert.deepEqual(faults, []);
  return policies;
}

interface Service {
  labels?: Record<string, string>;
  selector?: Record<string, string>;
  addresses?: string[];
}

function service(name: string, { labels = {}, selector = {}, addresses = [] }: Service): string {
  const [namespace, own] = name.split("/");
  return serviceText({ namespace, name: own, labels, selector, addresses });
}

function egress(services: string, word = "egress", more = ""): string {
  return `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${word.toLowerCase()}, namespace: shop}, spec: {endpointSelector: {matchLabels: {app: web}}, ${word}: [{toServices: [${services}]${more}}]}}`;
}

function repositoryOf(...texts: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  repository.upsertIdentity(WEB, labels("shop", "web"));
  repository.upsertIdentity(DB, labels("shop", "db"));
  repository.upsertIdentity(OTHER, labels("shop", "other"));
  repository.upsertIdentity(ELSEWHERE, labels("lab", "db"));
  for (const text of texts) put(repository, text);
  return repository;
}

function put(repository: PolicyRepository, text: string): void {
  for (const policy of read(text)) repository.upsertPolicy(policy);
}

function reached(repository: PolicyRepository, port = 5432): number[] {
  const state = MapState.of(repository.mapState(WEB)!);
  return [DB, OTHER, ELSEWHERE].filter((number) => state.lookup(number, "EGRESS", 6, port).allowed);
}

Deno.test("A rule means the pods of the services that it names or selects, now and later", () => {
  const named = "{k8sService: {serviceName: db, namespace: shop}}";
  const repository = repositoryOf(egress(named));
  assert.deepEqual(reached(repository), [], "there is no service: nobody is meant, and the rest is closed");
  assert.equal(repository.mapState(WEB)!.enforceEgress, true);
  put(repository, service("shop/db", { selector: { app: "db" } }));
  assert.deepEqual(reached(repository), [DB], "pods of its own namespace alone");
  put(repository, service("shop/db", { selector: { app: "other" } }));
  assert.deepEqual(reached(repository), [OTHER]);
  repository.upsertIdentity(DB, labels("shop", "other"));
  assert.deepEqual(reached(repository), [DB, OTHER], "who comes later is meant too");
  repository.removePolicy("svc:shop/db");
  assert.deepEqual(reached(repository), []);

  const cases: [string, Record<string, string>, number[]][] = [
    ["{k8sService: {serviceName: db}}", {}, [DB, ELSEWHERE]],
    ["{k8sService: {serviceName: db, namespace: lab}}", {}, [ELSEWHERE]],
    ["{k8sServiceSelector: {selector: {matchLabels: {env: prod}}, namespace: lab}}", { env: "prod" }, [
      ELSEWHERE,
    ]],
    ["{k8sServiceSelector: {selector: {matchLabels: {env: prod}}}}", { env: "prod" }, [DB, ELSEWHERE]],
    ["{k8sServiceSelector: {selector: {matchLabels: {env: prod}}}}", { env: "test" }, []],
    ["{k8sServiceSelector: {selector: {}}}", {}, [DB, ELSEWHERE]],
  ];
  for (const [peer, own, expected] of cases) {
    const service_ = (namespace: string) =>
      service(`${namespace}/db`, { labels: own, selector: { app: "db" } });
    assert.deepEqual(reached(repositoryOf(egress(peer), service_("shop"), service_("lab"))), expected, peer);
  }
});

Deno.test("Of a service without a selector its addresses are meant, never pods; ports and denies count", () => {
  const named = "{k8sService: {serviceName: db, namespace: shop}}";
  const repository = repositoryOf(
    egress(named, "egress", ", toPorts: [{ports: [{port: '5432', protocol: TCP}]}]"),
    service("shop/db", { addresses: ["192.0.2.7", "2001:db8::7"] }),
  );
  const allows = (prefix: string, port: number) => {
    const { identity } = repository.cidrIdentity(prefix) ?? assert.fail(prefix);
    return MapState.of(repository.mapState(WEB)!).lookup(identity, "EGRESS", 6, port).allowed;
  };
  assert.deepEqual([allows("192.0.2.7/32", 5432), allows("2001:db8::7/128", 5432)], [true, true]);
  assert.equal(allows("192.0.2.7/32", 80), false);
  assert.deepEqual(reached(repository), []);
  put(repository, egress(named, "egressDeny"));
  assert.equal(allows("192.0.2.7/32", 5432), false);
});

Deno.test("A change of a service touches whom it means, and who names it", () => {
  const repository = repositoryOf(
    egress("{k8sServiceSelector: {selector: {}}}"),
    service("shop/db", { selector: { app: "db" } }),
  );
  for (let at = 0; at < 500; at++) repository.upsertIdentity(2000 + at, labels("shop", `a${at}`));
  repository.takeChanges();
  const before = { ...repository.work, comparisons: repository.selectors.work.comparisons };
  put(repository, service("shop/a7", { selector: { app: "a7" } }));
  assert.deepEqual([...repository.takeChanges().mapStates], [WEB]);
  assert.equal(repository.work.groupsResolved, before.groupsResolved);
  assert.ok(repository.work.identitiesResolved - before.identitiesResolved <= 2);
  assert.ok(repository.selectors.work.comparisons - before.comparisons <= 4);
});

Deno.test("A service's selector is never taken for another one, nor for none", () => {
  const named = "{k8sService: {serviceName: db, namespace: shop}}";
  const odd = service("shop/db", { selector: { app: "x,any:app=db" }, addresses: ["192.0.2.7"] });
  assert.match(readManifests(odd, { isStored: true }).faults[0].detail, /"app" is no label/);
  const facts = {
    namespace: "shop",
    name: "db",
    labels: {},
    selector: { "a=b,any:app": "db" },
    addresses: ["192.0.2.7"],
  };
  const { pods, prefixes } = serviceSource(facts, "default");
  assert.deepEqual([pods, prefixes], [undefined, []]);
  assert.deepEqual(reached(repositoryOf(egress(named), service("shop/db", { selector: { app: "db" } }))), [
    DB,
  ]);
});

Deno.test("Explain names the service", () => {
  const repository = repositoryOf(
    egress("{k8sService: {serviceName: db, namespace: shop}}"),
    service("shop/db", { selector: { app: "db" } }),
  );
  const explain = (to: number) =>
    explainDirection(repository, {
      from: repository.identity(WEB)!,
      to: repository.identity(to)!,
      protocol: 6,
      port: 80,
      toNamedPorts: [],
    }, "EGRESS");
  assert.ok(
    explain(DB).labelFacts.includes(
      "k8s:app=db of the destination is what service shop/db selects, which cnp:shop/egress spec.egress[0].toServices[0] names",
    ),
    explain(DB).labelFacts.join("\n"),
  );
  assert.match(explain(OTHER).nearMiss, /means service shop\/db; the destination is k8s:app=other/);
});

Deno.test("readManifests() refuses what is no service, and objects that nobody may write", () => {
  const faults = (services: string, more = "") =>
    readManifests(egress(services, "egress", more)).faults.map(({ path, detail }) => `${path}: ${detail}`)
      .join();
  assert.match(faults("{}"), /toServices\[0\]: want exactly one of/);
  assert.match(faults("{k8sService: {namespace: a}}"), /serviceName is missing/);
  assert.match(faults("{k8sService: {serviceName: 'A_B'}}"), /no name/);
  assert.match(faults("{k8sService: {serviceName: a, name: b}}"), /unknown field/);
  assert.match(faults("{k8sServiceSelector: {namespace: a}}"), /selector is missing/);
  assert.match(faults("{k8sServiceSelector: {selector: {matchLabels: {'!': b}}}}"), /no label key/);
  assert.match(
    faults("{k8sService: {serviceName: a}}", ", toEntities: [world]"),
    /toEntities and toServices cannot stand in one rule/,
  );
  const [policy] = read(egress("{k8sService: {serviceName: kubernetes, namespace: default}}"));
  assert.match(policy.warnings[0].detail, /kube-apiserver/);
  assert.match(
    readManifests(service("shop/db", {}), { file: SERVICE_FILE }).faults[0].detail,
    /"ServicePeers" is no policy/,
  );
});

Deno.test("readInventory() finds the services that policies name, and compare() what becomes of them", () => {
  const inventory = (selector: string) => {
    const db =
      "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {selector: {app: db}}}";
    const out = "{apiVersion: v1, kind: Service, metadata: {name: out, namespace: shop}, spec: {}}";
    const slice =
      "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: out}}, endpoints: [{addresses: [192.0.2.7]}]}";
    const other = db.replace("name: db", "name: other");
    const policy = egress("{k8sService: {serviceName: db}}, {k8sService: {serviceName: out}}");
    const text = [db.replace("app: db", selector), out, slice, other, policy].join("\n---\n");
    const read = readInventory([{ file: "a.yaml", text }]);
    assert.deepEqual([read.faults, [...read.leftOut]], [[], []]);
    return read;
  };
  const before = inventory("app: db");
  assert.deepEqual(before.policies.map(({ name }) => name), [
    "cnp:shop/egress",
    "svc:shop/db",
    "svc:shop/out",
  ]);
  assert.deepEqual(before.policies[2].source?.prefixes.map(String), ["192.0.2.7/32"]);
  const { changed, differences } = compare(before, inventory("tier: db"));
  assert.deepEqual(changed, ["svc:shop/db"]);
  assert.deepEqual(differences.map(({ effect, to }) => `${effect} ${to.name}`), [
    "opens tier=db in shop",
    "closes app=db in shop",
  ]);
});

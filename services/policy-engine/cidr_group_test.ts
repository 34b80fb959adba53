import assert from "node:assert/strict";
import { LabelSet, MapState, Prefix } from "@weir/common";
import { Node } from "@weir/proto/identity";
import { explainDirection } from "./explain.ts";
import { readManifests } from "./manifest.ts";
import { compare } from "./offline/difference.ts";
import { readInventory } from "./offline/inventory.ts";
import { PolicyRepository } from "./policy_repository.ts";
import { PolicySelections } from "./policy_selection.ts";

const COMMON = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];
const WEB = 1000;

function read(text: string) {
  const { policies, faults } = readManifests(text, { file: "p.yaml" });
  assert.deepEqual(faults, []);
  return policies;
}

function group(name: string, cidrs: readonly string[], labels = "{}"): string {
  return `{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: ${name}, labels: ${labels}}, spec: {externalCIDRs: [${
    cidrs.join(", ")
  }]}}`;
}

function egress(sets: string, name = "out", word = "egress"): string {
  return `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, spec: {endpointSelector: {matchLabels: {app: web}}, ${word}: [{toCIDRSet: [${sets}]}]}}`;
}

function repositoryOf(...texts: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  repository.upsertIdentity(WEB, LabelSet.parse(["k8s:app=web", ...COMMON]));
  for (const policy of texts.flatMap(read)) repository.upsertPolicy(policy);
  return repository;
}

/** Which of the prefixes web may connect to. */
function reached(repository: PolicyRepository, ...prefixes: string[]): string[] {
  const state = MapState.of(repository.mapState(WEB)!);
  return prefixes.filter((prefix) => {
    const { identity } = repository.cidrIdentity(prefix) ?? assert.fail(`${prefix} has no identity`);
    return state.lookup(identity, "EGRESS", 6, 80).allowed;
  });
}

Deno.test("A rule means the prefixes of the groups that it names or selects, now and later, without its exceptions", () => {
  const repository = repositoryOf(
    egress("{cidrGroupRef: corp, except: [10.1.0.0/16]}"),
    egress("{cidrGroupSelector: {matchLabels: {color: red}}}", "red"),
    group("other", ["10.1.2.0/24", "192.0.2.0/24"]),
  );
  assert.equal(repository.mapState(WEB)!.enforceEgress, true, "nobody is meant, and the rest is closed");
  assert.deepEqual(reached(repository, "10.1.2.0/24", "192.0.2.0/24", "10.1.0.0/16"), []);

  const put = (text: string) => read(text).forEach((policy) => repository.upsertPolicy(policy));
  put(group("corp", ["10.0.0.0/8", "192.0.2.0/24"]));
  const all = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24"];
  assert.deepEqual(reached(repository, ...all), ["10.0.0.0/8", "192.0.2.0/24"]);
  put(group("other", ["10.1.2.0/24", "192.0.2.0/24"], "{color: red}"));
  assert.deepEqual(reached(repository, ...all), ["10.0.0.0/8", "10.1.2.0/24", "192.0.2.0/24"]);
  put(group("corp", ["10.0.0.0/8"]));
  assert.deepEqual(
    reached(repository, ...all),
    ["10.0.0.0/8", "10.1.2.0/24", "192.0.2.0/24"],
    "red has it too",
  );
  put(group("other", ["10.1.2.0/24", "192.0.2.0/24"], "{color: blue}"));
  assert.deepEqual(reached(repository, ...all), ["10.0.0.0/8"]);
  assert.ok(repository.removePolicy("ccg:corp"));
  assert.deepEqual(reached(repository, "10.1.2.0/24", "192.0.2.0/24"), []);
  assert.equal(repository.cidrIdentity("10.0.0.0/8"), undefined, "nobody mentions it any more");
});

Deno.test("A deny by group beats what another rule allows, and a group of everything is the world", () => {
  const repository = repositoryOf(
    egress("{cidr: 10.0.0.0/8}"),
    egress("{cidrGroupRef: bad}", "not", "egressDeny"),
    group("bad", ["10.9.0.0/16"]),
    group("rest", ["10.9.1.0/24"]),
  );
  assert.deepEqual(reached(repository, "10.0.0.0/8", "10.9.0.0/16", "10.9.1.0/24"), ["10.0.0.0/8"]);
  for (const policy of read(group("bad", ["0.0.0.0/0"]))) repository.upsertPolicy(policy);
  assert.deepEqual(reached(repository, "10.0.0.0/8", "10.9.1.0/24"), []);
});

Deno.test("No selector of groups is taken for another one with exceptions", () => {
  const key = (set: string) => {
    const { selector } = read(egress(set))[0].rules[0].directions.EGRESS.sections[0].peers[0];
    return selector.key;
  };
  const exists = (name: string) =>
    `cidrGroupSelector: {matchExpressions: [{key: ${name}, operator: Exists}]}`;
  assert.notEqual(key(`{${exists("x-10.0.0.0/8")}}`), key(`{${exists("x")}, except: [10.0.0.0/8]}`));
});

Deno.test("A change of a group touches what changed of it, and who names it", () => {
  const cidrs = Array.from({ length: 2000 }, (_, at) => `10.${at >> 8}.${at & 255}.0/24`);
  const repository = repositoryOf(group("corp", cidrs), egress("{cidrGroupRef: corp}"));
  for (let at = 0; at < 100; at++) {
    repository.upsertIdentity(2000 + at, LabelSet.parse([`k8s:app=a${at}`, ...COMMON]));
    const spec = `{endpointSelector: {matchLabels: {app: a${at}}}, egress: [{toCIDR: [192.0.2.${at}/32]}]}`;
    const text =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p${at}}, spec: ${spec}}`;
    for (const policy of read(text)) repository.upsertPolicy(policy);
  }
  repository.takeChanges();
  const before = { ...repository.work, comparisons: repository.selectors.work.comparisons };
  const [changed] = read(group("corp", [...cidrs.slice(1), "172.16.0.0/12"]));
  repository.upsertPolicy(changed);
  const changes = repository.takeChanges();
  assert.deepEqual([...changes.mapStates], [WEB]);
  assert.deepEqual([...changes.addedPrefixes], ["172.16.0.0/12"]);
  assert.deepEqual([...changes.removedPrefixes], [cidrs[0]]);
  assert.equal(repository.work.groupsResolved, before.groupsResolved);
  const resolved = repository.work.identitiesResolved - before.identitiesResolved;
  assert.ok(resolved <= 4, `${resolved} identities`);
  const comparisons = repository.selectors.work.comparisons - before.comparisons;
  assert.ok(comparisons <= 10, `${comparisons} comparisons`);
});

Deno.test("readManifests() takes CIDR groups, and refuses with the place what is none", () => {
  const [policy] = read(
    group("corp", ["10.1.2.3", "10.0.0.0/8", "10.1.1.1/8", "2001:db8::/32"], "{color: red}"),
  );
  assert.equal(policy.name, "ccg:corp");
  assert.deepEqual(policy.source?.prefixes.map(String), ["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"]);
  assert.ok(policy.source?.labels.has("cidrgroup", "color"));
  const faults = (text: string) =>
    readManifests(text).faults.map(({ path, detail }) => `${path}: ${detail}`).join();
  assert.match(
    faults(group("corp", ["10.0.0.0/33"])),
    /^spec\.externalCIDRs\[0\]: "10\.0\.0\.0\/33", want an IP address or a prefix/,
  );
  assert.match(faults(group("corp", ["fe80::1%eth0"])), /^spec\.externalCIDRs\[0\]: /);
  assert.match(faults(group("corp", ["a"]).replace("externalCIDRs", "cidrs")), /cidrs/);
  assert.match(
    faults(group("corp", []).replace("spec: {externalCIDRs: []}", "spec: {}")),
    /externalCIDRs is missing/,
  );
  assert.match(faults(group("corp", []).replace(", spec: {externalCIDRs: []}", "")), /spec is missing/);
  const many = Array.from({ length: 20_001 }, (_, at) => `10.${at >> 8 & 255}.${at & 255}.0/24`);
  assert.match(faults(group("corp", many)), /more than 20000 entries/);
  assert.match(faults(egress("{cidr: 10.0.0.0/8, cidrGroupRef: g}")), /exactly one of/);
  assert.match(faults(egress("{}")), /cidr is missing/);
  assert.match(faults(egress("{cidrGroupRef: Not_A_Name}")), /toCIDRSet\[0\]\.cidrGroupRef: .* no name/);
  assert.match(faults(egress("{cidrGroupRef: g, except: [10.0.0.0/99]}")), /except\[0\]/);
  assert.match(faults(egress("{cidrGroupRef: }")), /cidrGroupRef is empty/);
  assert.match(faults(egress("{cidrGroupSelector: {matchLabel: {a: b}}}")), /matchLabels/);
});

Deno.test("Explain names the group, and warnings say which is not there or covers pods", () => {
  const repository = repositoryOf(
    egress("{cidrGroupRef: corp}"),
    group("corp", ["10.0.0.0/8"]),
    group("more", ["10.2.0.0/16"]),
  );
  const asked = (prefix: string) => {
    const from = repository.identity(WEB)!,
      to = repository.identity(repository.cidrIdentity(prefix)!.identity)!;
    return explainDirection(repository, { from, to, protocol: 6, port: 80, toNamedPorts: [] }, "EGRESS");
  };
  const { allowed, labelFacts } = asked("10.2.0.0/16");
  assert.ok(allowed);
  assert.deepEqual(labelFacts.slice(-1), [
    "10.2.0.0/16 of the destination lies in 10.0.0.0/8 of CIDR group corp, which cnp:default/out spec.egress[0].toCIDRSet[0] names",
  ]);
  for (const policy of read(group("far", ["192.0.2.0/24"]))) repository.upsertPolicy(policy);
  assert.match(asked("192.0.2.0/24").nearMiss, /means CIDR group corp; the destination is 192\.0\.2\.0\/24/);

  const nodes = [Node.create({ name: "node-1", podCidrV4: "10.0.1.0/24" })];
  const warnings = (sets: string, applied = "") => {
    const together = applied === "" ? [] : read(applied);
    const [policy] = read(egress(sets));
    const sources = () => together.flatMap(({ source }) => source ?? []);
    return new PolicySelections(repository, { endpoints: [], nodes }, { sources }).of(policy)
      .warnings
      .map(({ detail }) => detail).filter((detail) => !detail.startsWith("no endpoint")).join();
  };
  assert.match(warnings("{cidrGroupRef: corp}"), /10\.0\.0\.0\/8 covers pods of node-1/);
  assert.equal(warnings("{cidrGroupRef: far}"), "");
  assert.equal(warnings("{cidrGroupRef: none}"), "CIDR group none is not there: nobody is meant");
  assert.equal(
    warnings("{cidrGroupRef: none}", group("none", ["192.0.2.0/24"])),
    "",
    "it is applied together",
  );
  assert.equal(
    warnings("{cidrGroupSelector: {matchLabels: {color: red}}}"),
    "CIDR groups color=red are not there: nobody is meant",
  );
});

Deno.test("compare() tells what a changed group opens", () => {
  const inventory = (cidrs: readonly string[]) => {
    const read = readInventory([{
      file: "a.yaml",
      text: `${egress("{cidrGroupRef: corp}")}\n---\n${group("corp", cidrs)}`,
    }]);
    assert.deepEqual(read.faults, []);
    return read;
  };
  const { differences, changed } = compare(
    inventory(["10.0.0.0/8"]),
    inventory(["10.0.0.0/8", "192.0.2.0/24"]),
  );
  assert.deepEqual(changed, ["ccg:corp"]);
  assert.deepEqual(differences.map(({ effect, to }) => `${effect} ${to.name}`), ["opens 192.0.2.0/24"]);
  assert.equal(Prefix.parse("192.0.2.0/24").text, differences[0].to.prefix?.text);
});

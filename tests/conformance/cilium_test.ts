/**
 * Cilium's published example policies and its validation cases: each is taken, and then gives Cilium's verdicts, or it
 * is refused and the fault names the field.
 * @module
 */
import assert from "node:assert/strict";
import {
  composeEntries,
  IDENTITY_LOCAL_MIN,
  LabelSet,
  MapState,
  PROTOCOL_NUMBERS,
  SOURCE_FQDN,
} from "@weir/common";
import type { MapState as Message } from "@weir/proto/policy";
import { type Fault, PolicyRepository, readManifests } from "@weir/policy-engine";
import {
  type CiliumIdentity,
  type CiliumRandomFile,
  readTestdata,
  type Verdicts,
  withoutProxy,
} from "./testdata.ts";

interface ExampleCase {
  file: string;
  kind: string;
  name: string;
  skipped?: unknown;
  error?: string;
  policy?: Record<string, unknown>;
  identities?: CiliumIdentity[];
  resolved?: { subject: string; verdicts: Verdicts }[];
}
interface ValidationCase {
  name: string;
  kind: string;
  accepted: boolean;
  spec: Record<string, unknown>;
}
interface MergeFile {
  identities: CiliumIdentity[];
  cases: { n: number; spec: Record<string, unknown>; ingress: Record<string, string> }[];
}

/** The data's named ports: every endpoint has all of them. */
const NAMED_PORTS = [
  { name: "http", port: 80, protocol: "TCP" },
  { name: "web", port: 8080, protocol: "TCP" },
  { name: "dns", port: 53, protocol: "UDP" },
  { name: "dns", port: 53, protocol: "TCP" },
  { name: "assoc", port: 7777, protocol: "SCTP" },
];

/** The data's letters for what the proxy judges. */
const PROXIED: Record<string, string> = { HTTP: "H", DNS: "D", KAFKA: "K", TLS: "T" };

const POLICY_KINDS = ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"];

/** Fields that are refused for now, with the data's file they are expected in at least once. */
const REFUSED_EXAMPLES: Record<string, string> = {
  "auth/auth.yaml": "auth",
  "l3/requires/requires.yaml": "fromRequires",
  "l3/entities/customnodes.yaml": "fromNodes",
};

Deno.test("policy engine takes or refuses by name every example policy of Cilium, with its verdicts where taken", async () => {
  const data = await readTestdata<{ cases: ExampleCase[] }>("cilium-examples");
  let taken = 0, refused = 0, verdicts = 0;
  const wrong: string[] = [];
  for (const example of data.cases) {
    if (!POLICY_KINDS.includes(example.kind)) continue;
    const { policies, faults } = readManifests(JSON.stringify(example.policy), { file: example.file });
    if (faults.length > 0) {
      refused++;
      assertNamed(faults, `${example.file}`);
      assert.equal(policies.length, 0, example.file);
      continue;
    }
    taken++;
    assert.equal(example.error, undefined, `${example.file} must be refused: ${example.error}`);
    for (const { subject, verdicts: expected } of example.resolved ?? []) {
      const repository = repositoryOf(example.identities!);
      for (const policy of policies) repository.upsertPolicy(policy);
      verdicts += compare(
        repository,
        example.identities!,
        subject,
        expected,
        (w) => wrong.push(`${example.file} ${w}`),
      );
    }
  }
  assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${verdicts} verdicts are wrong`);
  assert.equal(taken + refused, 57);
  assert.ok(taken >= 30, `only ${taken} were taken`);
  assert.ok(verdicts > 5000, `only ${verdicts} verdicts were compared`);
  for (const [file, field] of Object.entries(REFUSED_EXAMPLES)) {
    const example = data.cases.find((example) => example.file === file)!;
    const { faults } = readManifests(JSON.stringify(example.policy));
    assert.ok(faults.some((fault) => fault.path.endsWith(field)), `${file}: ${JSON.stringify(faults)}`);
  }
});

Deno.test("policy engine refuses what Cilium refuses and takes, or refuses by name, what Cilium takes", async () => {
  const { cases } = await readTestdata<{ cases: ValidationCase[] }>("cilium-validation");
  assert.equal(cases.length, 202);
  let taken = 0, refusedValid = 0;
  for (const { name, kind, accepted, spec } of cases) {
    const manifest = {
      apiVersion: "cilium.io/v2",
      kind,
      metadata: { name: "p", ...namespaceOf(kind) },
      spec,
    };
    const { policies, faults } = readManifests(JSON.stringify(manifest));
    if (faults.length > 0) {
      if (accepted) refusedValid++;
      assertNamed(faults, name);
      continue;
    }
    assert.ok(accepted, `${name} must be refused`);
    assert.equal(policies.length, 1, name);
    taken++;
  }
  assert.equal(taken + refusedValid, 110);
  assert.ok(taken >= 55, `only ${taken} of 110 valid specs were taken`);
});

Deno.test("policy engine agrees with Cilium on every mix of allow and deny, and on what the proxy judges", async () => {
  const { cases, identities } = await readTestdata<MergeFile>("cilium-merge256");
  let compared = 0, verdicts = 0;
  const wrong: string[] = [];
  for (const { n, spec, ingress } of cases) {
    const manifest = { apiVersion: "cilium.io/v2", kind: POLICY_KINDS[0], metadata: { name: "p" }, spec };
    const { policies, faults } = readManifests(JSON.stringify(manifest));
    assert.deepEqual(faults, []);
    compared++;
    const repository = repositoryOf(identities);
    repository.upsertPolicy(policies[0]);
    const subject = identities.find(({ labels }) => labels.includes("k8s:app=subject"))!.name;
    verdicts += compare(
      repository,
      identities,
      subject,
      { ingress, egress: {} },
      (w) => wrong.push(`mix ${n} ${w}`),
      { proxied: true },
    );
  }
  assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} of ${verdicts} verdicts are wrong`);
  assert.equal(compared, 256);
});

Deno.test("policy engine agrees with Cilium on random policy stacks, layer 7 rules taken out", async () => {
  const { cases, identities } = await readTestdata<CiliumRandomFile>("cilium-random");
  let compared = 0, verdicts = 0;
  const wrong: string[] = [];
  for (const { id, policies: manifests, endpoints } of cases) {
    const read = manifests.map(({ policy, rejected }) => {
      const read = readManifests(JSON.stringify(policy, withoutProxy));
      assert.equal(
        read.faults.length > 0,
        rejected !== undefined,
        `${id}: ${rejected} ${read.faults[0]?.detail}`,
      );
      return read;
    });
    compared++;
    const text = JSON.stringify(manifests);
    // The data's groups are labels of its identities, which it gave by hand: those of prefixes inside others have none of the
    // group's around, as Cilium's ipcache and Weir have it.
    const inside = /cidrGroup(Ref":"grp1|Selector)/.test(text) ? [16777219] : [];
    // Cilium's data is of one address family, where /0 means the world of that family only: 9 and 10 do not occur there.
    const oneFamily = /"(0\.0\.0\.0|::)\/0"/.test(text) ? [9, 10] : [];
    const repository = repositoryOf(identities);
    for (const policy of GROUPS) repository.upsertPolicy(policy);
    for (const { policies } of read) for (const policy of policies) repository.upsertPolicy(policy);
    for (const { subject, verdicts: expected, error } of endpoints) {
      if (error !== undefined) continue;
      verdicts += compare(
        repository,
        identities,
        subject,
        expected,
        (w) => wrong.push(`${id} ${w}`),
        { skipped: [...oneFamily, ...inside] },
      );
    }
  }
  assert.deepEqual(
    wrong.slice(0, 10),
    [],
    `${wrong.length} of ${verdicts} verdicts of ${compared} cases are wrong`,
  );
  assert.equal(compared, 300);
});

/** The groups of the data's identities; of `nogrp`, which policies name too, there is none. */
const GROUPS = readManifests(`
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: { name: grp1 }
spec: { externalCIDRs: [10.1.2.0/24, 203.0.113.0/24] }
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: { name: red, labels: { color: red } }
spec: { externalCIDRs: [203.0.113.0/24] }
`).policies;

function namespaceOf(kind: string): { namespace?: string } {
  return kind === POLICY_KINDS[0] ? { namespace: "default" } : {};
}

function assertNamed(faults: readonly Fault[], name: string): void {
  for (const fault of faults) {
    assert.notEqual(fault.path, "", `${name}: a fault without a path: ${fault.detail}`);
    assert.ok(fault.line > 0 && fault.column > 0 && fault.detail.length > 0, name);
  }
}

function isName(label: string): boolean {
  return label.startsWith(`${SOURCE_FQDN}:`);
}

/** The map state with the entries of an identity that names mean, as nodes put them together. */
function withNames(message: Message, identity: CiliumIdentity): Message {
  const names = identity.labels.filter(isName), number = numberOf(identity.id);
  if (names.length === 0) return message;
  const members = message.fqdnSelectors.filter(({ labels }) => labels.some((label) => names.includes(label)))
    .map((selector) => selector.identity);
  const entries = composeEntries(message.entries, number, new Set([number, ...members]));
  return {
    ...message,
    entries: [...message.entries.filter((entry) => entry.identity !== number), ...entries],
  };
}

/** The data's own local identities go out of the way of those that the engine allocates. */
function numberOf(id: number): number {
  return id < IDENTITY_LOCAL_MIN ? id : id + 0x1_0000;
}

function repositoryOf(identities: readonly CiliumIdentity[]): PolicyRepository {
  const repository = new PolicyRepository();
  for (const { id, labels } of identities) {
    // (The host has labels of its node.)
    if (id < 256 && id !== 1) continue;
    // The engine has what is said of an address, and what is said of names: nodes put both together.
    repository.upsertIdentity(numberOf(id), LabelSet.parse(labels.filter((label) => !isName(label))));
    if (id < 65536) repository.setNamedPorts(`endpoint-${id}`, id, NAMED_PORTS);
  }
  return repository;
}

function compare(
  repository: PolicyRepository,
  identities: readonly CiliumIdentity[],
  subject: string,
  expected: Verdicts,
  wrong: (where: string) => void,
  { skipped = [], proxied = false }: {
    /** Identities that are not compared. */
    skipped?: readonly number[];
    /** Compares too which protocol the proxy judges where something is allowed. */
    proxied?: boolean;
  } = {},
): number {
  const number = identities.find(({ name }) => name === subject)!.id;
  const message = repository.mapState(number);
  if (!message) throw new Error(`${subject} is no subject`);
  const plain = MapState.of(message, NAMED_PORTS);
  const states = identities.map((identity) => {
    const named = withNames(message, identity);
    return named === message ? plain : MapState.of(named, NAMED_PORTS);
  });
  let verdicts = 0;
  for (const [word, direction] of [["ingress", "INGRESS"], ["egress", "EGRESS"]] as const) {
    for (const [port, row] of Object.entries(expected[word])) {
      const [protocol, at] = port.split("/");
      for (const [index, identity] of identities.entries()) {
        if (row[index] === "-" || skipped.includes(identity.id)) continue;
        verdicts++;
        const { allowed, by, ruleSets } = states[index].lookup(
          numberOf(identity.id),
          direction,
          PROTOCOL_NUMBERS[protocol.toUpperCase()],
          Number(at),
        );
        const kind = message.ruleSets.find(({ id }) => id === ruleSets[0])?.kind;
        const found = allowed
          ? proxied && kind !== undefined ? PROXIED[kind] : "."
          : by === "default-deny"
          ? "0"
          : "X";
        const wanted = proxied || row[index] === "0" || row[index] === "X" ? row[index] : ".";
        if (found !== wanted) {
          wrong(`${subject} ${word} ${identity.name} ${port}: expected ${row[index]}, found ${found}`);
        }
      }
    }
  }
  return verdicts;
}

import assert from "node:assert/strict";
import { formatFault } from "./fault.ts";
import { findKind, kindsTakenBy, MANIFEST_KINDS, manifestObjectName } from "./kind.ts";
import { type ObjectSyntax, readObjects } from "./object.ts";

const STRICT: ObjectSyntax<"Pod" | "Namespace", string> = {
  kinds: kindsTakenBy("lab"),
  unknownKind: (found) => `${found} is nothing here`,
  decode: ({ objectName, reader, root }) =>
    reader.map(root, ["apiVersion", "kind", "metadata"]) && objectName,
};
const LENIENT: ObjectSyntax<"Pod" | "Namespace", string> = {
  ...STRICT,
  lenient: true,
  skip: ({ kind, name }) => `skipped ${kind} ${name}`,
};

function read(text: string, syntax = STRICT): { values: string[]; faults: string[]; warnings: string[] } {
  const { objects, faults } = readObjects(text, syntax);
  return {
    values: objects.map(({ value }) => value),
    faults: faults.map((fault) => formatFault(fault, "f.yaml")),
    warnings: objects.flatMap(({ warnings }) => warnings.map(({ line, detail }) => `${line} ${detail}`)),
  };
}

const pod = (name: string) => `{apiVersion: v1, kind: Pod, metadata: {name: ${name}}}`;

Deno.test("readObjects() says kind, version, name and namespace with file, line and column", () => {
  const cases: [string, string][] = [
    ["\n[1]", "f.yaml:2:1: a list, want an object with a kind"],
    ["a: 1", "f.yaml:1:1: kind is missing, want Namespace, Pod"],
    ["kind: 5", "f.yaml:1:7 kind: 5 is nothing here, want Namespace, Pod"],
    ["kind: Job", 'f.yaml:1:7 kind: "Job" is nothing here, want Namespace, Pod'],
    ["kind: Namespce", 'f.yaml:1:7 kind: "Namespce" is nothing here, did you mean Namespace?'],
    ["kind: constructor", 'f.yaml:1:7 kind: "constructor" is nothing here, want Namespace, Pod'],
    ["kind: Pod\nmetadata: {name: a}", "f.yaml:1:1: apiVersion is missing, want v1"],
    [
      "kind: Pod\napiVersion: v2\nmetadata: {name: a}",
      'f.yaml:2:13 apiVersion: Pod has apiVersion "v2", want v1',
    ],
    ["apiVersion: v1\nkind: Pod", "f.yaml:1:1: metadata.name is missing"],
    [
      pod("a_b"),
      'f.yaml:1:46 metadata.name: "a_b" is no object name, want lower case letters, digits, - and .',
    ],
    [
      pod("a, nameSpace: b"),
      'f.yaml:1:49 metadata.nameSpace: unknown field "nameSpace", did you mean namespace?',
    ],
    [
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}",
      "f.yaml:3:32 metadata.namespace: namespace is not for a Namespace, which has none",
    ],
    [
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}",
      'f.yaml:3:18 metadata.name: "a.b" is no object name, want lower case letters, digits and -',
    ],
    ["kind: PodList", "f.yaml:1:1: PodList has no list of items"],
    ["kind: PodList\nitem: []\nitems: []", 'f.yaml:2:1 item: unknown field "item", did you mean items?'],
  ];
  for (const [text, fault] of cases) {
    const found = read(text);
    assert.deepEqual(found, { values: [], faults: [fault], warnings: [] }, text);
  }
});

Deno.test("readObjects() reads several documents and lists, and refuses a name that is there twice", () => {
  const found = read(
    `${pod("a")}\n---\nkind: List\napiVersion: v1\nitems:\n- ${pod("b")}\n- ${pod("a")}\n---\n${pod("c")}`,
  );
  assert.deepEqual(found.values, ["Pod default/a", "Pod default/b", "Pod default/c"]);
  assert.deepEqual(found.faults, ["f.yaml:7:3 items[1]: Pod default/a is already defined at line 1"]);
});

Deno.test("readObjects() with a lenient syntax warns of unknown fields and skips other kinds", () => {
  const found = read(
    `${pod("a, owner: me")}\n---\nkind: Job\nmetadata: {name: j}\n---\nkind: JobList`,
    LENIENT,
  );
  assert.deepEqual(found.faults, []);
  assert.deepEqual(found.values, ["Pod default/a", "skipped Job j", "skipped JobList ?"]);
  assert.match(found.warnings[0], /^1 unknown field "owner"/);
  assert.deepEqual(found.warnings[1], "3 Job is nothing here, want Namespace, Pod");
});

Deno.test("The registry names every kind once for one service, with a name that no other kind has", () => {
  const names = Object.keys(MANIFEST_KINDS) as (keyof typeof MANIFEST_KINDS)[];
  const taken = [
    ...kindsTakenBy("lab"),
    ...kindsTakenBy("load-balancer"),
    ...kindsTakenBy("policy-engine"),
  ];
  const written = names.filter((name) => !findKind(name)!.isInternal);
  assert.deepEqual([...taken].sort(), written.sort());
  const kept = names.filter((name) => findKind(name)!.keptAs === undefined);
  assert.equal(new Set(kept.map((name) => manifestObjectName(name, "n", "o"))).size, kept.length);
});

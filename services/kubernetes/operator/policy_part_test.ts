import assert from "node:assert/strict";
import { ObjectFault } from "@weir/proto/kubernetes";
import { NodePolicy, Policy, PolicyFault } from "@weir/proto/policy";
import { changedConditions, type Condition, reasonOf } from "./conditions.ts";
import { digestOf } from "../held_objects.ts";
import { NodesInForce, policyConditions } from "./policy_part.ts";

const MANIFEST = "what it says";
const nodes = (...revisions: number[]) =>
  new NodesInForce(() => revisions.map((policyRevision) => NodePolicy.create({ policyRevision })));
const of = (more: Partial<Parameters<typeof policyConditions>[0]>) =>
  policyConditions({
    observed: { generation: 3, digest: digestOf(MANIFEST) },
    policy: undefined,
    policyFault: undefined,
    objectFault: undefined,
    nodes: nodes(),
    ...more,
  })?.map(({ type, status, reason, message }) => `${type}=${status} ${reason}: ${message}`);
const policy = Policy.create({ policyRevision: 5, manifest: MANIFEST });
const older = Policy.create({ policyRevision: 4, manifest: "what it said" });

Deno.test("policyConditions() says nothing of what nobody has read", () => {
  assert.equal(of({}), undefined);
  assert.equal(
    of({ objectFault: ObjectFault.create({ code: "X", generation: 2 }) }),
    undefined,
    "an older version",
  );
});

Deno.test("policyConditions() says nothing of a version by what was found of the one before", () => {
  const objectFault = ObjectFault.create({ code: "POLICY_INVALID", generation: 2 });
  const policyFault = PolicyFault.create({ error: "too many", policyRevision: 4 });
  assert.equal(of({ policy: older, nodes: nodes(5) }), undefined, "the policy engine has the one before");
  assert.equal(of({ policy: older, objectFault, policyFault, nodes: nodes(5) }), undefined);
  assert.match(
    of({ policy, policyFault, nodes: nodes(5) })![0],
    /^Valid=True/,
    "the fault is of the one before",
  );
  assert.match(
    of({ policy, policyFault: { ...policyFault, policyRevision: 5 }, nodes: nodes(5) })![0],
    /^Valid=False/,
  );
  // What nobody could read has no version.
  const unread = ObjectFault.create({ code: "OBJECT_UNREAD" });
  const [condition] = policyConditions({
    observed: { generation: 3, digest: "" },
    policy: undefined,
    policyFault: undefined,
    objectFault: unread,
    nodes: nodes(),
  })!;
  assert.deepEqual([condition.status, condition.observedGeneration], ["False", undefined]);
});

Deno.test("policyConditions() says whether a policy is valid, and why not", () => {
  const objectFault = ObjectFault.create({
    code: "POLICY_INVALID",
    generation: 3,
    error: { error: "bad port" },
  });
  assert.deepEqual(of({ objectFault }), ["Valid=False PolicyInvalid: bad port"]);
  assert.deepEqual(
    of({ policy, policyFault: PolicyFault.create({ error: "too many", holds: true }), nodes: nodes(5) }),
    [
      "Valid=False CannotBePutInForce: too many; endpoints that it may select keep what they have, or are closed",
      "InForce=True OnEveryNode: In force on 1 of 1 nodes",
    ],
  );
  const warned = Policy.create({
    policyRevision: 5,
    manifest: MANIFEST,
    warnings: [{ path: "spec.egress[0]", detail: "means nobody" }],
  });
  assert.deepEqual(of({ policy: warned }), [
    "Valid=True ValidWithWarnings: spec.egress[0]: means nobody",
    "InForce=Unknown NoNode: In force on 0 of 0 nodes",
  ]);
});

Deno.test("policyConditions() counts nodes that have the policy's set, or a newer one", () => {
  const CASES: [number[], string][] = [
    [[4, 5, 6], "InForce=False NotOnEveryNode: In force on 2 of 3 nodes"],
    [[5, 6, 7], "InForce=True OnEveryNode: In force on 3 of 3 nodes"],
    [[1, 2, 3], "InForce=False NotOnEveryNode: In force on 0 of 3 nodes"],
  ];
  for (const [revisions, text] of CASES) assert.equal(of({ policy, nodes: nodes(...revisions) })![1], text);
  const objectFault = ObjectFault.create({ code: "POLICY_INVALID", generation: 3, error: { error: "bad" } });
  assert.equal(
    of({ policy: older, objectFault, nodes: nodes(5) })![1],
    "InForce=True OnEveryNode: The version before this one: in force on 1 of 1 nodes",
  );
});

Deno.test("changedConditions() keeps the time of a status that stays, and writes nothing that is there", () => {
  const condition = (more: Partial<Condition>): Condition => ({
    type: "Valid",
    status: "True",
    reason: "A",
    message: "m",
    ...more,
  });
  const [stored] = changedConditions([], [condition({})], "t1")!;
  assert.equal(stored.lastTransitionTime, "t1");
  assert.equal(changedConditions([stored], [condition({})], "t2"), undefined);
  assert.equal(changedConditions([stored], [condition({ message: "n" })], "t2")![0].lastTransitionTime, "t1");
  assert.equal(
    changedConditions([stored], [condition({ status: "False" })], "t2")![0].lastTransitionTime,
    "t2",
  );
  assert.equal(changedConditions([stored], [condition({ observedGeneration: 2 })], "t2")!.length, 1);
  assert.equal(
    changedConditions([], [condition({ message: "x".repeat(5000) })], "t")![0].message.length,
    2000,
  );
});

Deno.test("reasonOf() writes codes as reasons are written", () => {
  assert.deepEqual(["POLICY_INVALID", "", "4XX", "a-b"].map(reasonOf), [
    "PolicyInvalid",
    "Code",
    "Code4xx",
    "AB",
  ]);
});

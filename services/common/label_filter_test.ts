import assert from "node:assert/strict";
import { LabelFilter } from "./label_filter.ts";
import { LabelError, LabelSet, parseLabel } from "./labels.ts";

Deno.test("LabelFilter keeps by default what says something about the workload", () => {
  const filter = new LabelFilter();
  const cases: [string, boolean][] = [
    ["k8s:app=web", true],
    ["k8s:org=empire", true],
    ["reserved:host", true],
    ["k8s:io.kubernetes.pod.namespace=default", true],
    ["k8s:io.kubernetes.pod.uid=1", false],
    ["k8s:io.cilium.k8s.namespace.labels.team=a", true],
    ["k8s:io.cilium.k8s.policy.serviceaccount=leia", true],
    ["k8s:io.cilium.k8s.policy.cluster=default", true],
    ["k8s:app.kubernetes.io/name=web", true],
    ["k8s:kubernetes.io/hostname=n1", false],
    ["k8s:pod-template-hash=abc", false],
    ["k8s:controller-revision-hash=abc", false],
    ["k8s:statefulset.kubernetes.io/pod-name=db-0", false],
    ["k8s:apps.kubernetes.io/pod-index=0", false],
    ["k8s:batch.kubernetes.io/job-completion-index=0", false],
    ["k8s:failure-domain.beta.kubernetes.io/zone=a", false],
    ["k8s:topology.kubernetes.io/zone=a", false],
    ["k8s:annotation.sth=1", false],
    ["k8s:etcd_node=1", false],
    ["unspec:app=web", true],
  ];
  for (const [label, kept] of cases) assert.equal(filter.accepts(parseLabel(label)), kept, label);
});

Deno.test("LabelFilter lets the longer match decide and takes only what is listed once something is listed", () => {
  const ignoring = new LabelFilter({ extra: ["!app", "app\\.own"] });
  assert.equal(ignoring.accepts(parseLabel("k8s:app=web")), false);
  assert.equal(ignoring.accepts(parseLabel("k8s:app.own=web")), true);
  assert.equal(ignoring.accepts(parseLabel("k8s:other=web")), false, "an include is listed");
  const bySource = new LabelFilter({ extra: ["!container:.*"] });
  assert.equal(bySource.accepts(parseLabel("container:app=web")), false);
  assert.equal(bySource.accepts(parseLabel("k8s:app=web")), true);
  const own = new LabelFilter({ includes: [], ignores: [] });
  assert.equal(own.apply(LabelSet.parse(["k8s:a=1", "k8s:pod-template-hash=x"])).size, 2);
  assert.throws(() => new LabelFilter({ extra: ["("] }), LabelError);
  assert.throws(() => new LabelFilter({ extra: ["a".repeat(257)] }), LabelError);
});

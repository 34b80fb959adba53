import { deepEqual, equal } from "node:assert/strict";
import { podLabels } from "./labels.ts";
import { placePod } from "./placement.ts";

Deno.test("podLabels() gives pod, namespace, service account and cluster labels", () => {
  deepEqual(
    podLabels({ namespace: "empire", labels: { org: "empire" }, serviceAccountName: "vader" }, {
      team: "dark",
    }),
    [
      "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=empire",
      "k8s:io.cilium.k8s.namespace.labels.team=dark",
      "k8s:io.cilium.k8s.policy.cluster=default",
      "k8s:io.cilium.k8s.policy.serviceaccount=vader",
      "k8s:io.kubernetes.pod.namespace=empire",
      "k8s:org=empire",
    ],
  );
});

Deno.test("placePod() spreads, honours nodeName and refuses a node that is not there", () => {
  const nodes = ["node-1", "node-2"];
  deepEqual(placePod(undefined, nodes, new Map()), { node: "node-1" });
  deepEqual(placePod(undefined, nodes, new Map([["node-1", 1]])), { node: "node-2" });
  deepEqual(placePod("node-2", nodes, new Map([["node-2", 9]])), { node: "node-2" });
  equal("error" in placePod("node-9", nodes, new Map()), true);
});

/**
 * Policies beside NetworkPolicy on a cluster that has Weir: what an egress rule names by a service and by a CiliumCIDRGroup, told by real
 * requests; and the conformance suite of network-policy-api (ClusterNetworkPolicy of both tiers, the experimental fields too).
 * @module
 */
import assert from "node:assert/strict";
import type { Cluster } from "../kubernetes/cluster/cluster.ts";
import { exists } from "../kubernetes/cluster/layout.ts";
import { waitFor } from "../kubernetes/cluster/process.ts";
import { WeirCluster } from "../kubernetes/faults/weir.ts";
import { policyApiParts } from "../kubernetes/parts/policy_api.ts";
import { agnhostPod, cache, list, missing, testCluster } from "../kubernetes/test_cluster.ts";
import { runPolicyApi } from "../kubernetes/upstream/policy_api.ts";
import { summary } from "../kubernetes/upstream/report.ts";

/** The API server's own address, which is outside of the cluster to pods. */
const OUTSIDE = "172.30.0.1", OUTSIDE_PORT = 6443;

const isBuilt = Object.values(policyApiParts(cache)).every(exists);
if (!isBuilt) console.log("SKIP policies_test: tests/kubernetes-faults/build makes what it needs");

Deno.test({
  name: "Policies name services and groups of prefixes, and network-policy-api's conformance suite passes",
  ignore: missing !== undefined || !isBuilt,
}, async (t) => {
  await using cluster = await testCluster();
  const weir = new WeirCluster(cluster);
  await weir.importImages();
  // The suite's CIDRs are pods' addresses.
  await weir.weir("install", "--wait", "--timeout=540", "--set", "config.policyCidrMatch=pods");
  await t.step("egress by toServices and by a CiliumCIDRGroup opens and closes what they mean", async () => {
    const pods = [agnhostPod("one", 1), agnhostPod("two", 2)];
    const web = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { selector: { app: "one" }, ports: [{ port: 80, targetPort: "http" }] },
    };
    await cluster.kubectl(["apply", "-f", "-"], list(web, ...pods));
    await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=180s", "pod/one", "pod/two"]);
    await openAndClose(cluster);
    await cluster.kubectl(["delete", "pod/one", "pod/two", "service/web"]);
  });
  await t.step("the conformance suite of network-policy-api", async () => {
    const results = await runPolicyApi(cluster);
    console.log(summary(results));
    assert.ok(results.some(({ state }) => state === "passed"), "nothing ran");
    assert.deepEqual(results.filter(({ state }) => state === "failed"), []);
  });
});

/** What is reached from pod `two`: the service `web` by its name, and what is outside. */
interface Reached {
  web: boolean;
  outside: boolean;
}

async function openAndClose(cluster: Cluster): Promise<void> {
  const answers = async (url: string) => {
    const curl = ["curl", "-sk", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url];
    return /^[1-5]/.test(await cluster.kubectl(["exec", "two", "--", ...curl]).catch(() => "000"));
  };
  const reaches = (what: string, wanted: Reached) =>
    waitFor(what, async () =>
      await answers("web/hostname") === wanted.web &&
      await answers(`https://${OUTSIDE}:${OUTSIDE_PORT}/version`) === wanted.outside);
  const apply = (...items: Record<string, unknown>[]) =>
    cluster.kubectl(["apply", "-f", "-"], list(...items));
  await reaches("everything to be open", { web: true, outside: true });
  await apply(group("198.51.100.0/24"), egress(service("kube-system", "kube-dns"), members));
  await reaches("all but DNS to be closed", { web: false, outside: false });
  await apply(group("198.51.100.0/24", `${OUTSIDE}/32`));
  await reaches("a prefix that comes into the group to open", { web: false, outside: true });
  await apply(egress(service("kube-system", "kube-dns"), service("default", "web"), members));
  await reaches("a service to open", { web: true, outside: true });
  await apply(group("198.51.100.0/24"));
  await reaches("a prefix that leaves the group to close", { web: true, outside: false });
  assert.match(await cluster.kubectl(["get", "cnp", "two", "-o", "yaml"]), /type: Valid/);
  await cluster.kubectl(["delete", "cnp/two", "ciliumcidrgroup/outside"]);
  await reaches("everything to be open again", { web: true, outside: true });
}

const group = (...externalCIDRs: string[]) => ({
  apiVersion: "cilium.io/v2",
  kind: "CiliumCIDRGroup",
  metadata: { name: "outside" },
  spec: { externalCIDRs },
});

/** A rule of egress for the group. */
const members = { toCIDRSet: [{ cidrGroupRef: "outside" }] };

/** A rule of egress for a service. */
const service = (namespace: string, serviceName: string) => ({
  toServices: [{ k8sService: { namespace, serviceName } }],
});

const egress = (...rules: Record<string, unknown>[]) => ({
  apiVersion: "cilium.io/v2",
  kind: "CiliumNetworkPolicy",
  metadata: { name: "two" },
  spec: { endpointSelector: { matchLabels: { app: "two" } }, egress: rules },
});

import { deepEqual, equal, match, throws } from "node:assert/strict";
import type { PodManifest } from "./manifest.ts";
import { ManifestError, parseManifests } from "./manifests.ts";

const POD = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: { app: web }
spec:
  serviceAccountName: builder
  containers:
  - name: main
    image: nginx
    command: ["python3", "-m"]
    args: ["http.server", 80]
    env: [{ name: A, value: "1" }]
    ports:
    - { name: http, containerPort: 80 }
    - { containerPort: 81 }
`;

Deno.test("parseManifests() reads what a lab honours of a Pod and says what it does not use", () => {
  const { manifests, notes } = parseManifests(POD, "pod.yaml");
  const pod = manifests[0] as PodManifest;
  equal(pod.namespace, "default");
  equal(pod.serviceAccountName, "builder");
  deepEqual(pod.ports, [{ name: "http", port: 80, protocol: "TCP" }]);
  deepEqual(pod.commands[0].words, ["python3", "-m", "http.server", "80"]);
  deepEqual(pod.commands[0].environment, { A: "1" });
  match(notes.join(), /image is not used/);
});

Deno.test("parseManifests() keeps a policy's own text and its first line", () => {
  const text =
    `${POD}---\n# comment\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: p, namespace: x }\nspec:\n  endpointSelector: {}\n`;
  const policy = parseManifests(text, "all.yaml").manifests[1];
  equal(policy.kind, "CiliumNetworkPolicy");
  if (policy.kind !== "CiliumNetworkPolicy") return;
  equal(policy.objectName, "cnp:x/p");
  equal(text.split("\n")[policy.source.line - 1], "apiVersion: cilium.io/v2");
  match(policy.text, /^apiVersion: cilium.io\/v2/);
});

Deno.test("parseManifests() reads a List", () => {
  const text = JSON.stringify({
    apiVersion: "v1",
    kind: "List",
    items: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "a" } }],
  });
  equal(parseManifests(text, "l").manifests[0].name, "a");
});

Deno.test("parseManifests() refuses by name and place", () => {
  const cases: [string, RegExp][] = [
    [
      "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}",
      /:1:7 kind: kind "Deployment" is not supported, want Namespace, Pod/,
    ],
    ["\n\nkind: Pod\napiVersion: v2\nmetadata: {name: x}", /:4:13 apiVersion: Pod has apiVersion "v2"/],
    ["kind: Pod\napiVersion: v1\nmetadata: {name: X_}", /:3:18 metadata.name: "X_"/],
    ["kind: Pod\napiVersion: v1\nmetadata: {name: x}", /spec is missing/],
    [
      "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {hostPID: true}",
      /:4:8 spec.hostPID: field hostPID is not supported/,
    ],
    [
      "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: 5}",
      /spec.containers: 5, want a list/,
    ],
    [
      "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [{ports: [{containerPort: 70000}]}]}",
      /spec.containers\[0\].ports\[0\].containerPort: 70000, want a whole number from 1 to 65535/,
    ],
    [
      "kind: Pod\napiVersion: v1\nmetadata: {name: x, labels: {a: 1}}\nspec: {}",
      /metadata.labels.a: 1, want a text/,
    ],
    ["- 1", /want an object with a kind/],
    ["a: [1", /.+/],
    ["kind: CiliumNetworkPolcy\napiVersion: v1\nmetadata: {name: x}", /did you mean CiliumNetworkPolicy\?/],
    [`${POD}---${POD}`, /Pod default\/web is already defined at line 2/],
    [POD.replace("containerPort: 81", "port: 81"), /unknown field "port".*\(and 1 more fault\)/],
  ];
  for (const [text, pattern] of cases) {
    throws(() => parseManifests(text, "f.yaml"), (error) => {
      equal(error instanceof ManifestError, true, String(error));
      match((error as Error).message, pattern);
      return true;
    });
  }
});

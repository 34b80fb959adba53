import { deepEqual, equal, match } from "node:assert/strict";
import { parse, parseAllDocuments } from "yaml";
import { generateChart, generateManifest, generateTemplates } from "./chart.ts";
import { run } from "./run.ts";
import { manifest } from "../../services/cli/install/manifest.ts";
import { type Json, valuePaths } from "../../services/cli/install/values.ts";

const CHART = new URL("../../deploy/helm/weir", import.meta.url).pathname;
/** Helm itself, which tests/kubernetes-faults/build makes. */
const HELM = [
  `${
    Deno.env.get("WEIR_KUBERNETES_CACHE") || new URL("../../.build/kubernetes", import.meta.url).pathname
  }/bin/helm`,
].find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});
if (HELM === undefined) console.log("SKIP Helm: no helm binary (tests/kubernetes-faults/build makes it)");

const documents = (text: string) =>
  parseAllDocuments(text).map((document) => document.toJS()).filter((one) => one);
const byName = (objects: { kind: string; metadata: { name: string } }[]) =>
  objects.toSorted((a, b) => `${a.kind} ${a.metadata.name}` < `${b.kind} ${b.metadata.name}` ? -1 : 1);

Deno.test("the chart's values are the defaults, each of them in its schema", () => {
  const files = generateChart();
  const values = parse(files.get("values.yaml")!), schema = JSON.parse(files.get("values.schema.json")!);
  for (const [path, spec] of valuePaths()) {
    const words = path.split(".");
    deepEqual(words.reduce((at, word) => at[word], values), spec.default, path);
    const found = words.reduce((at, word) => at.properties[word], schema);
    deepEqual(found.default, spec.default, path);
  }
});

Deno.test("no pod is privileged, a node's has no rights at the API server, and every value is used", () => {
  const [text] = generateManifest().values();
  const objects = documents(text);
  equal(/[&*]a[0-9]/.test(text + [...generateTemplates().values()].join("")), false, "no YAML anchors");
  deepEqual(objects, JSON.parse(JSON.stringify(manifest())));
  for (const { spec } of objects.filter(({ kind }) => kind === "Deployment" || kind === "DaemonSet")) {
    const { containers: [container], automountServiceAccountToken, serviceAccountName, volumes } =
      spec.template.spec;
    equal(container.securityContext.privileged, false);
    deepEqual(container.securityContext.capabilities.drop, ["ALL"]);
    equal(automountServiceAccountToken, false);
    if (serviceAccountName !== "weir-node") continue;
    const tokens = volumes.flatMap((
      volume: { projected?: { sources: Record<string, Record<string, Json>>[] } },
    ) => volume.projected?.sources.map((source) => source.serviceAccountToken?.audience) ?? []);
    deepEqual(tokens.filter((one: Json) => one !== undefined), ["weir"]);
  }
  equal(objects.some(({ subjects }) => JSON.stringify(subjects ?? "").includes("weir-node")), false);
  const templates = [...generateTemplates().values()].join("\n");
  for (const [path] of valuePaths()) equal(templates.includes(`.Values.${path} `), true, path);
});

Deno.test("single endpoints are written, and may be, where they are chosen", () => {
  for (const isChosen of [true, false]) {
    const text = JSON.stringify(manifest({ "controlPlane.ciliumEndpoints": isChosen }));
    equal(text.includes('"--kubernetes-cilium-endpoints"'), isChosen);
    equal(text.includes('"ciliumendpoints"'), isChosen);
  }
});

Deno.test({
  name:
    "Helm lints the chart, renders the plain manifest with default values, and refuses values that are none",
  ignore: HELM === undefined,
  async fn() {
    match(await run([HELM!, "lint", "--strict", CHART]), /0 chart\(s\) failed/);
    const render = (...words: string[]) =>
      run([HELM!, "template", "weir", CHART, "--namespace", "weir-system", ...words]);
    const [plain] = generateManifest().values();
    deepEqual(
      byName(documents(await render())),
      byName(documents(plain).filter(({ kind }) => kind !== "Namespace")),
    );
    // And with others, as `weir install --set` has them.
    const chosen = {
      "image.tag": "2",
      "controlPlane.replicas": 3,
      "controlPlane.ciliumEndpoints": true,
      "node.tolerations": [] as Json[],
      "config": { masquerade: false, routingMode: "direct" },
    };
    const rendered = await render(
      "--set-string=image.tag=2",
      "--set=controlPlane.replicas=3",
      "--set=controlPlane.ciliumEndpoints=true",
      "--set-json=node.tolerations=[]",
      '--set-json=config={"masquerade":false,"routingMode":"direct"}',
    );
    deepEqual(
      byName(documents(rendered)),
      byName(JSON.parse(JSON.stringify(manifest(chosen).filter(({ kind }) => kind !== "Namespace")))),
    );
    match(await render("--set=node.ipam=none").catch((error) => error.message), /node.ipam|\/node\/ipam/);
    match(await render("--set=image.tags=1").catch((error) => error.message), /dditional propert/);
  },
});

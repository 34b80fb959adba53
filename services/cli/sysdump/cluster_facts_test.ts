import { deepEqual, equal, match, ok } from "node:assert/strict";
import { openCluster } from "../install/access.ts";
import { FakeCluster } from "../testing/fake_cluster.ts";
import { clusterFacts, scriptOf, textsOf, withoutSecrets } from "./cluster_facts.ts";
import { sysdumpCommand } from "./command.ts";
import { unpackArchive } from "./archive.ts";

const FACTS = [
  { file: "a.txt", words: ["printf", "it's\n%s", "a b"] },
  { file: "b.txt", words: ["sh", "-c", "echo out; echo err >&2; exit 3"] },
  { file: "c.txt", words: ["sleep", "60"] },
  { file: "d.txt", words: ["no-such-program"] },
];

Deno.test("scriptOf() runs every program, one after the other that hangs, and textsOf() reads what each said", async () => {
  const script = scriptOf(FACTS, "-- x", 1);
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  const texts = textsOf(new TextDecoder().decode(stdout), FACTS, "-- x");
  deepEqual([texts.get("a.txt"), texts.get("b.txt")], ["it's\na b", "out\nerr\nexit code 3\n"]);
  match(texts.get("c.txt")!, /exit code 137/);
  match(texts.get("d.txt")!, /exit code 127/);
  equal(textsOf("cut", FACTS, "-- x").size, 0);
});

Deno.test("withoutSecrets() takes values of variables that are secret by name, and copies of manifests", () => {
  const annotations = { "kubectl.kubernetes.io/last-applied-configuration": "secret", kept: "1" };
  const object = {
    kind: "Pod",
    metadata: { name: "a", annotations, managedFields: [{}] },
    spec: { containers: [{ env: [{ name: "DB_PASSWORD", value: "secret" }, { name: "A", value: "b" }] }] },
  };
  deepEqual(withoutSecrets(object), {
    kind: "Pod",
    metadata: { name: "a", annotations: { kept: "1" } },
    spec: { containers: [{ env: [{ name: "DB_PASSWORD", value: "REDACTED" }, { name: "A", value: "b" }] }] },
  });
});

Deno.test("clusterFacts() asks for no Secret, and for no other's ConfigMap", async () => {
  await using fake = new FakeCluster();
  using cluster = openCluster(fake.context, "");
  const facts = clusterFacts(cluster.client, { namespace: "weir-system", plane: undefined, logged: [] });
  ok(facts.length > 10 && !facts.some(({ file }) => file.includes("secret")));
  fake.put("/api/v1", "configmaps", { metadata: { name: "own" }, data: {} });
  fake.put("/api/v1", "configmaps", { metadata: { name: "other" }, data: {} }, "default");
  const text = await facts.find(({ file }) => file.endsWith("configmaps.json"))!.gather(5000);
  deepEqual(JSON.parse(text).items.map((item: { metadata: { name: string } }) => item.metadata.name), [
    "own",
  ]);
});

Deno.test("weir sysdump of a cluster where Weir does not get ready has its objects and says what it lacks", async () => {
  await using fake = new FakeCluster();
  const labels = { "app.kubernetes.io/name": "weir", "app.kubernetes.io/component": "node" };
  fake.put("/api/v1", "nodes", { metadata: { name: "node-1" } }, "");
  fake.put("/api/v1", "pods", {
    metadata: { name: "weir-node-x", labels },
    spec: { nodeName: "node-1", containers: [{ image: "x" }] },
    status: { containerStatuses: [{ restartCount: 3, state: { waiting: { reason: "CrashLoopBackOff" } } }] },
  });
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/x.tar.gz`;
    equal(await sysdumpCommand(["-o", path], fake.context), 0);
    match(fake.out, /no pod of Weir on node-1 is ready/);
    const files = await unpackArchive((await Deno.open(path)).readable);
    const manifest = JSON.parse(new TextDecoder().decode(files.get("sysdump.json")));
    deepEqual(manifest.nodes, ["node-1"]);
    match(manifest.kubernetes, /^http:\/\/127\.0\.0\.1/);
    match(new TextDecoder().decode(files.get("cluster/objects/pods-of-weir.json")), /CrashLoopBackOff/);
    const lacks = manifest.failures.map(({ file }: { file: string }) => file);
    ok(lacks.includes("nodes/node-1/agent-before.log"), lacks.join(" "));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

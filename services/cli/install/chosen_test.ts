import { deepEqual, equal, throws } from "node:assert/strict";
import { UsageError } from "../context.ts";
import { fileValues, setOption, setValues } from "./chosen.ts";
import { cleanupObject } from "./cleanup.ts";
import { manifest } from "./manifest.ts";

const HINT = "weir help install";
const set = (...words: string[]) => setValues(words, {}, HINT);
const refused = (action: () => unknown, words: RegExp) =>
  throws(action, (error: Error) => error instanceof UsageError && words.test(error.message));

Deno.test("setValues() takes values by their kinds, options of the agent, and nothing else", () => {
  deepEqual(
    set("image.tag=2", "controlPlane.replicas=3", "config.routingMode=direct", "node.tolerations=[]"),
    {
      "image.tag": "2",
      "controlPlane.replicas": 3,
      config: { masquerade: true, routingMode: "direct" },
      "node.tolerations": [],
    },
  );
  deepEqual(set("config.masquerade="), { config: {} });
  refused(() => set("image.tags=2"), /There is no value image\.tags \(did you mean image\.tag\?\)/);
  refused(
    () => set("controlPlane.replicas=many"),
    /Cannot take string for controlPlane\.replicas: expected a number/,
  );
  refused(() => set("node.ipam=none"), /expected kubernetes or cluster-pool/);
  refused(() => set("config.masquerade=perhaps"), /masquerade/);
  refused(() => set("config.nothing=1"), /found nothing, expected one of/);
  refused(() => set("image.tag"), /expected NAME=VALUE/);
});

Deno.test("fileValues() reads values as a chart has them, and says what is none", () => {
  deepEqual(fileValues("image: {tag: '2'}\nconfig: {logLevel: debug}\n", HINT), {
    "image.tag": "2",
    config: { logLevel: "debug" },
  });
  refused(() => fileValues("image: {tag: 2}\n", HINT), /Cannot take number for image\.tag/);
  refused(() => fileValues("image: x\n", HINT), /"image\." is no mapping|"image" is no mapping/);
  refused(() => fileValues("images: {}\n", HINT), /There is no value images/);
  refused(() => fileValues("a: [", HINT), /Cannot read values/);
});

Deno.test("setOption() takes an option away where the value is empty", () => {
  deepEqual(setOption({ logLevel: "debug" }, "logLevel", "", HINT), {});
  refused(() => setOption({}, "flowHistoryAgeH", "-1", HINT), /flowHistoryAgeH/);
});

Deno.test("cleanupObject() has the nodes' rights and neither their sockets nor their membership in its way", () => {
  const nodes = manifest().find(({ kind }) => kind === "DaemonSet")!;
  const { spec: { template: { spec } } } = cleanupObject(nodes) as never as {
    spec: { template: { spec: { containers: Record<string, never>[]; volumes: { name: string }[] } } };
  };
  const [container] = spec.containers as unknown as {
    securityContext: unknown;
    command: string[];
    volumeMounts: { name: string; mountPath: string }[];
  }[];
  const [before] = (nodes.spec as { template: { spec: { containers: { securityContext: unknown }[] } } })
    .template.spec.containers;
  deepEqual(container.securityContext, before.securityContext);
  // Every mount has its volume, and no pod waits for a ConfigMap that is going.
  for (const { name } of container.volumeMounts) {
    equal(spec.volumes.some((one) => one.name === name), true, name);
  }
  equal(spec.volumes.some(({ name }) => ["join", "config"].includes(name)), false);
  equal(container.volumeMounts.some(({ mountPath }) => mountPath === "/var/lib/weir"), false);
});

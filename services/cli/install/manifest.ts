/** The objects with values in their places. @module */
import { createHash } from "node:crypto";
import { stringify } from "yaml";
import { type KubernetesObject, NAMESPACE, namespaceObject, weirObjects } from "./objects.ts";
import { defaultValues, type Json, type Values } from "./values.ts";

/** Every object, the namespace first. @param chosen values by their paths, beside the defaults */
export function manifest(chosen: Values = {}, namespace: string = NAMESPACE): KubernetesObject[] {
  const values = { ...defaultValues(), ...chosen };
  return [
    namespaceObject(namespace),
    ...weirObjects(values, {
      namespace,
      configText: configText(values.config),
      configDigest: configDigest(values.config),
    }),
  ];
}

/** Content of weir.yaml, as Helm's toYaml writes it. */
export function configText(config: Json): string {
  return stringify(config, { lineWidth: 0, sortMapEntries: true }).trimEnd();
}

/** Hash of a configuration: another one makes the pods anew. 64 hexadecimal digits. */
export function configDigest(config: Json): string {
  return createHash("sha256").update(JSON.stringify(sorted(config))).digest("hex");
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

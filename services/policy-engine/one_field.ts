/** Maps of which exactly one field is given, as unions are written in manifests. @module */
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";

/** The field and its value; undefined after a fault. */
export function readOneField(
  reader: ManifestReader,
  node: ManifestNode,
  names: readonly string[],
): [string, ManifestNode] | undefined {
  const before = reader.faults.faults.length, fields = reader.map(node, names);
  if (!fields) return undefined;
  if (fields.size === 1) return [...fields][0];
  // What stands there instead was said.
  if (fields.size === 0 && reader.faults.faults.length > before) return undefined;
  const given = fields.size === 0 ? "nothing" : [...fields.keys()].join(" and ");
  return reader.invalid(
    node,
    `${given}, want ${names.length === 1 ? names[0] : `exactly one of ${names.join(", ")}`}`,
  );
}

/**
 * CiliumCIDRGroup (v2, v2alpha1): prefixes that policies name together.
 * @module
 */
import { LabelError, Prefix } from "@weir/common";
import { describe, type ManifestObject } from "@weir/common/manifest";
import { cidrGroup, GROUP_PREFIXES_MAX, type PeerSource } from "./peer_source.ts";

/** Reads the object; undefined after a fault. */
export function readCidrGroup({ reader, root, metadata, name }: ManifestObject): PeerSource | undefined {
  const spec = reader.map(root, ["apiVersion", "kind", "metadata", "spec", "status"])?.get("spec");
  if (!spec || spec.kind === "null") return reader.invalid(root, "spec is missing");
  const list = reader.map(spec, ["externalCIDRs"])?.get("externalCIDRs");
  if (!list) return reader.invalid(spec, "externalCIDRs is missing, want a list of prefixes");
  const prefixes = (reader.list(list, GROUP_PREFIXES_MAX) ?? []).flatMap((item) => {
    const text = reader.string(item, 64);
    const prefix = text === undefined ? undefined : Prefix.tryParse(text, { bare: true });
    if (text === undefined || prefix) return prefix ?? [];
    return reader.invalid(
      item,
      `${describe(item)}, want an IP address or a prefix such as 10.0.0.0/8 or 2001:db8::/32`,
    ) ?? [];
  });
  const labelsNode = metadata?.fields.get("labels")?.value;
  const labels = reader.texts(labelsNode);
  try {
    return labels && cidrGroup(name, Object.entries(labels), prefixes);
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
    return reader.invalid(labelsNode ?? root, error.message);
  }
}

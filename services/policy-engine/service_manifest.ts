/**
 * Services as the engine keeps them: the load balancer's word on whom policies mean by one, as a text like those of policies, so that
 * it is stored, numbered and told to replicas as they are.
 * @module
 */
import type { ManifestObject } from "@weir/common/manifest";
import { Prefix } from "@weir/common";
import { isLabelText } from "./label_syntax.ts";
import { GROUP_PREFIXES_MAX, type PeerSource, type ServiceFacts, serviceSource } from "./peer_source.ts";

/** `file` of the texts: nobody has applied them. */
export const SERVICE_FILE = "load-balancer:";
/** What names of the stored objects begin with. */
export const SERVICE_PREFIX = "svc:";

/** The text of a service. */
export function serviceText({ namespace, name, labels, selector, addresses }: ServiceFacts): string {
  const metadata = { namespace, name, labels: sortedRecord(labels) };
  const spec = { selector: sortedRecord(selector), addresses };
  return JSON.stringify({ apiVersion: "weir.io/v1", kind: "ServicePeers", metadata, spec });
}

/** Reads such a text; undefined after a fault. */
export function readServicePeers(
  { reader, root, metadata, namespace, name }: ManifestObject,
  cluster: string,
): PeerSource | undefined {
  const spec = reader.map(root, ["apiVersion", "kind", "metadata", "spec"])?.get("spec");
  const fields = spec && reader.map(spec, ["selector", "addresses"]);
  if (!fields) return reader.invalid(root, "spec is missing");
  const labels = reader.texts(metadata?.fields.get("labels")?.value),
    selector = reader.texts(fields.get("selector"));
  for (const [key, value] of Object.entries(selector ?? {})) {
    if (!isLabelText(key, value)) {
      reader.invalid(fields.get("selector")!, `${JSON.stringify(key)} is no label`);
    }
  }
  const addresses = (reader.list(fields.get("addresses"), GROUP_PREFIXES_MAX) ?? []).flatMap((item) => {
    const text = reader.string(item, 64);
    if (text === undefined || Prefix.tryParse(text, { bare: true })) return text ?? [];
    return reader.invalid(item, `${JSON.stringify(text)} is no address`) ?? [];
  });
  if (labels === undefined || selector === undefined) return undefined;
  return serviceSource({ namespace, name, labels, selector, addresses }, cluster);
}

/** The same text for the same labels, whoever has written them down. */
function sortedRecord(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => a < b ? -1 : 1));
}

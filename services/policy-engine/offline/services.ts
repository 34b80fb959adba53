/**
 * Services of manifests, as far as policies name them: whom they mean there.
 * @module
 */
import { type PeerSource, serviceSource } from "../peer_source.ts";
import { DIRECTIONS, type Policy, type SourceSelector } from "../policy.ts";
import { SERVICE_PREFIX, serviceText } from "../service_manifest.ts";
import { labelsOf, listOf, metadataOf, type PlacedValue, recordOf, textsOf } from "./value.ts";

/** Kinds that are looked at. */
export const SERVICE_KINDS: readonly string[] = ["Service", "EndpointSlice", "Endpoints"];

/** The services that some policy selects, as objects beside the policies. Of two of one name the later one counts. */
export function servicesNamed(
  objects: readonly PlacedValue[],
  policies: readonly Policy[],
  { namespace: unnamed, cluster }: { namespace: string; cluster: string },
): Policy[] {
  const selectors = policies.flatMap(serviceSelectors);
  if (selectors.length === 0) return [];
  const addresses = new Map<string, string[]>(), found = new Map<string, Policy>();
  const ofKind = (kind: string) => objects.filter(({ value }) => value.kind === kind);
  for (const { value } of ofKind("EndpointSlice")) {
    const { namespace = unnamed, labels } = metadataOf(value), own = labels["kubernetes.io/service-name"];
    if (own !== undefined) {
      add(addresses, `${namespace}/${own}`, listOf(value.endpoints).flatMap(addressesIn));
    }
  }
  for (const { value } of ofKind("Endpoints")) {
    const { namespace = unnamed, name } = metadataOf(value), key = `${namespace}/${name}`;
    if (addresses.has(key)) continue;
    const subsets = listOf(value.subsets).flatMap((subset) => {
      const { addresses, notReadyAddresses } = recordOf(subset);
      return [...listOf(addresses), ...listOf(notReadyAddresses)];
    });
    add(addresses, key, subsets.flatMap((one) => textsOf([recordOf(one).ip])));
  }
  for (const { value, file, line } of ofKind("Service")) {
    const { namespace = unnamed, name = "", labels } = metadataOf(value), spec = recordOf(value.spec);
    if (spec.type === "ExternalName") continue;
    const key = `${namespace}/${name}`, selector = labelsOf(spec.selector);
    const facts = { namespace, name, labels, selector, addresses: addresses.get(key) ?? [] };
    const source = serviceSource(facts, cluster);
    if (!selectors.some((one) => one.selector.matches(source.labels))) continue;
    found.set(key, placed(source, serviceText(facts), { namespace, name, file, line }));
  }
  return [...found.values()];
}

function placed(
  source: PeerSource,
  manifest: string,
  { namespace, name, file, line }: { namespace: string; name: string; file: string; line: number },
): Policy {
  const kind = "ServicePeers", rules: Policy["rules"] = [];
  const own = SERVICE_PREFIX + source.name;
  return { name: own, kind, namespace, policyName: name, rules, source, manifest, file, line, warnings: [] };
}

function serviceSelectors({ rules }: Policy): SourceSelector[] {
  return rules.flatMap(({ directions }) => DIRECTIONS.flatMap((direction) => directions[direction].sections))
    .flatMap(({ peers }) => peers)
    .flatMap(({ selector }) => selector.type === "source" && selector.kind === "service" ? [selector] : []);
}

function add(addresses: Map<string, string[]>, key: string, more: readonly string[]): void {
  addresses.set(key, [...addresses.get(key) ?? [], ...more]);
}

function addressesIn(endpoint: unknown): string[] {
  return textsOf(listOf(recordOf(endpoint).addresses));
}

/**
 * Whom policies mean by a service: pods by its selector, else the addresses that its slices have.
 * @module
 */
import { ServicePeers } from "@weir/proto/loadbalancer";
import type { SliceSpec } from "./model.ts";
import type { ServiceEntry } from "./service_entry.ts";

/** What policies are told of a service; undefined: there is none, or it is a name of another. @param slices of all services, by name */
export function servicePeersOf(
  { name, source, slices: own }: ServiceEntry,
  slices: ReadonlyMap<string, SliceSpec>,
): ServicePeers | undefined {
  if (source === undefined || source.hostPorts || source.spec.type === "ExternalName") return undefined;
  const { spec } = source, selector = spec.selector ?? source.podSelector;
  return ServicePeers.create({
    name,
    namespace: spec.namespace,
    serviceName: spec.name,
    labels: spec.labels,
    selector: selector ?? {},
    addresses: selector === undefined ? addressesOf([...own].flatMap((name) => slices.get(name) ?? [])) : [],
  });
}

/** Where there are EndpointSlices, Endpoints say the same, later. */
function addressesOf(slices: readonly SliceSpec[]): string[] {
  const kind = slices.some(({ kind }) => kind === "EndpointSlice") ? "EndpointSlice" : "Endpoints";
  const found = slices.filter((slice) => slice.kind === kind)
    .flatMap(({ groups }) =>
      groups.flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses))
    );
  return [...new Set(found)].sort();
}

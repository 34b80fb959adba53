/**
 * An endpoint and what is known of it beyond its API object.
 * @module
 */
import { IpAddress, Prefix } from "@weir/common";
import type { Endpoint, EndpointStatus } from "@weir/proto/endpoint";
import type { IpcacheEntry } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";

/** See the module comment. */
export interface Entry {
  spec: Endpoint;
  status: EndpointStatus;
  /** Labels that `status.identity` was allocated for; undefined until this process has asked. */
  labelsAllocated?: string;
  /** Prefixes written to the cluster's ipcache, with what was written. */
  announced: Map<string, string>;
  /** What the datapath was given last; undefined when it must be given again. */
  applied?: string;
  deleting?: PromiseWithResolvers<void>;
}

/** The prefixes that belong to an endpoint; none for a cgroup, which speaks with the host's address. */
export function prefixesOf(entry: Entry): string[] {
  if (entry.spec.cgroup !== "") return [];
  return [entry.status.ipv4, entry.status.ipv6].filter((a) => a !== "")
    .map((a) => Prefix.host(IpAddress.parse(a)).text);
}

/** What the cluster is told of one of an endpoint's prefixes. */
export function announcementOf(entry: Entry, prefix: string, config: EndpointManagerConfig): IpcacheEntry {
  const { spec, status } = entry;
  return {
    prefix,
    identity: status.identity,
    node: config.nodeName,
    nodeIpv4: config.nodeIpv4,
    nodeIpv6: config.nodeIpv6,
    endpoint: spec.name,
    namespace: spec.namespace,
    podName: spec.podName,
    namedPorts: spec.namedPorts,
    labels: status.identityLabels,
    flags: 0,
  };
}

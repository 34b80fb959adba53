/** Services and their endpoints of Kubernetes into the load balancer. @module */
import type { WeirClient } from "@weir/client";
import { ApplyRequest, ApplyResponse, Source } from "@weir/proto/loadbalancer";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { keyOf, type KubernetesObject } from "../api/object.ts";
import { ownsIngress } from "../operator/ingress_owner.ts";
import { apiVersionOf, type Resource, RESOURCES } from "../api/resource.ts";
import { digestOf, type HeldOptions, HeldTarget } from "../held_objects.ts";
import type { WantedObject } from "../mirror.ts";
import { each, only } from "./fields.ts";

const { Service, EndpointSlice } = RESOURCES;
/** Kinds that are sources of the load balancer. */
export const SERVICE_KINDS: readonly Resource[] = [Service, EndpointSlice];

/** A service that says another proxy serves it, or that nobody is to, and slices that say so, are nobody's here. */
const LABEL_PROXY = "service.kubernetes.io/service-proxy-name";
const LABEL_HEADLESS = "service.kubernetes.io/headless";
const LABEL_SERVICE = "kubernetes.io/service-name";
/** Annotations of these domains mean something to the load balancer. */
const ANNOTATIONS = /^(weir\.io|service\.cilium\.io|service\.kubernetes\.io|lbipam\.cilium\.io)\//;
/** Objects of one write. */
export const BATCH_MAX = 200;

/** What the load balancer reads of a Service; a field that it does not know would have it refuse the whole. */
const SPEC_FIELDS = [
  "type",
  "clusterIP",
  "clusterIPs",
  "ipFamilies",
  "ipFamilyPolicy",
  "externalIPs",
  "loadBalancerIP",
  "loadBalancerClass",
  "loadBalancerSourceRanges",
  "allocateLoadBalancerNodePorts",
  "externalTrafficPolicy",
  "internalTrafficPolicy",
  "sessionAffinity",
  "sessionAffinityConfig",
  "publishNotReadyAddresses",
  "trafficDistribution",
  "externalName",
  "healthCheckNodePort",
  // For policies that name the service; who serves it is in its slices, also when that is nobody.
  "selector",
];
const PORT_FIELDS = ["name", "protocol", "port", "targetPort", "nodePort", "appProtocol"];
const ENDPOINT_FIELDS = ["addresses", "conditions", "targetRef", "nodeName", "zone", "hints"];

/** What of an object's status the load balancer honours: the addresses that somebody gave it. */
interface Ingress {
  ip?: string;
  ipMode?: string;
}

/** A Service as the load balancer gets it; undefined: another proxy serves it, or nobody, although it has an address. */
export function pruneService(object: KubernetesObject): WantedObject | undefined {
  const { metadata, spec, status } = object;
  if (isNobodys(metadata.labels)) return undefined;
  // What the load balancer itself gave is no wish: it would keep the address for ever.
  const given = ownsIngress(metadata.managedFields) ? [] : status?.loadBalancer?.ingress ?? [];
  const ingress = (given as Ingress[]).filter(({ ip }) => ip !== undefined)
    .map(({ ip, ipMode }) => ({ ip, ipMode }));
  return wanted(Service, object, {
    spec: { ...only(spec, SPEC_FIELDS), ports: each(spec?.ports, PORT_FIELDS) },
    status: ingress.length === 0 ? undefined : { loadBalancer: { ingress } },
  });
}

/** An EndpointSlice as the load balancer gets it; undefined: no service that it serves has it. */
export function pruneSlice(object: KubernetesObject): WantedObject | undefined {
  const { metadata: { labels }, addressType } = object;
  if (labels?.[LABEL_SERVICE] === undefined || isNobodys(labels) || addressType === "FQDN") return undefined;
  return wanted(EndpointSlice, object, {
    addressType,
    endpoints: each(object.endpoints, ENDPOINT_FIELDS),
    ports: each(object.ports, PORT_FIELDS),
  });
}

function isNobodys(labels: KubernetesObject["metadata"]["labels"]): boolean {
  return labels?.[LABEL_PROXY] !== undefined || labels?.[LABEL_HEADLESS] !== undefined;
}

function wanted(resource: Resource, object: KubernetesObject, more: Record<string, unknown>): WantedObject {
  const { metadata: { name, namespace, labels, annotations, uid = "", generation = 0 } } = object;
  const { kind } = resource;
  const own = Object.entries(annotations ?? {}).filter(([key]) => ANNOTATIONS.test(key));
  const text = JSON.stringify({
    apiVersion: apiVersionOf(resource),
    kind,
    metadata: {
      name,
      namespace,
      labels,
      annotations: own.length === 0 ? undefined : Object.fromEntries(own),
    },
    ...more,
  });
  return { kind, key: keyOf(object), uid, generation, text, digest: digestOf(text) };
}

/** The load balancer as a mirror's target. Names are those of its sources: "Service/NAMESPACE/NAME". */
export class ServiceTarget extends HeldTarget<Source> {
  readonly name = "load-balancer";
  readonly batchMax = BATCH_MAX;

  constructor(client: WeirClient, options: HeldOptions) {
    super(client, {
      collection: "sources",
      message: Source,
      heldOf: ({ kind, file, manifest }) => ({
        kind: file === KUBERNETES_FILE_MARK ? kind : "",
        digest: digestOf(manifest),
      }),
    }, options);
  }

  async put(objects: readonly WantedObject[]): Promise<void> {
    await callWithManifests(this.client, "apply", objects.map(({ text }) => text));
  }

  async delete(objects: readonly { name: string; kind: string }[]): Promise<void> {
    await callWithManifests(this.client, "delete", objects.map(({ name, kind }) => nameOnly(name, kind)));
  }
}

/** Applies or deletes what manifests name, all or none, as ours. @throws {ProblemError} */
export async function callWithManifests(
  client: WeirClient,
  verb: "apply" | "delete",
  texts: readonly string[],
): Promise<void> {
  const value = { manifest: texts.join("\n---\n"), file: KUBERNETES_FILE_MARK };
  await client.call(`/v1/services:${verb}`, {
    request: { message: ApplyRequest, value },
    response: ApplyResponse,
  });
}

/** The least that names an object. */
function nameOnly(held: string, kind: string): string {
  const [, namespace, name] = held.split("/");
  const resource = kind === Service.kind ? Service : EndpointSlice;
  const what = kind === Service.kind
    ? { spec: { clusterIP: "None" } }
    : { addressType: "IPv4", endpoints: [] };
  return JSON.stringify({ apiVersion: apiVersionOf(resource), kind, metadata: { namespace, name }, ...what });
}

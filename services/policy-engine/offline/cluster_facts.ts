/**
 * What manifests say of the cluster around the policies: its namespaces, the addresses of its pods, nodes and services, and where its
 * API server listens.
 * @module
 */
import { Prefix } from "@weir/common";
import { listOf, metadataOf, type PlacedValue, recordOf, textsOf } from "./value.ts";

/** An address, or a range of them, that the cluster itself has. */
export interface ClusterAddress {
  readonly kind: "pod" | "node" | "service";
  readonly prefix: Prefix;
  /** For people: `pod shop/web-1`. */
  readonly what: string;
}

/** One port of a service. */
export interface ServicePort {
  readonly port: number;
  /** A number or a name of the pods'. */
  readonly target: number | string;
  readonly protocol: string;
}

/** A service that selects pods. */
export interface ServiceOfPods {
  readonly namespace: string;
  readonly name: string;
  readonly selector: Readonly<Record<string, string>>;
  readonly ports: readonly ServicePort[];
}

/** Facts of one cluster. */
export interface ClusterFacts {
  /** Those that some object is in, too. */
  readonly namespaces: ReadonlySet<string>;
  readonly addresses: readonly ClusterAddress[];
  readonly services: readonly ServiceOfPods[];
  /** Where the API server listens: addresses, and ports of TCP. */
  readonly apiServer: { readonly prefixes: readonly Prefix[]; readonly ports: readonly number[] };
}

/** The service that leads to the API server, in every cluster of Kubernetes. */
const API_SERVICE = "default/kubernetes";

/** Facts that pods, services, endpoints and nodes tell. */
export function clusterFacts(
  objects: readonly PlacedValue[],
  { namespaces, unnamed }: { namespaces: Iterable<string>; unnamed: string },
): ClusterFacts {
  const addresses: ClusterAddress[] = [], services: ServiceOfPods[] = [], known = new Set(namespaces);
  const prefixes: Prefix[] = [], ports = new Set<number>();
  for (const { value } of objects) {
    const { name = "?", namespace = unnamed, labels } = metadataOf(value);
    const spec = recordOf(value.spec), status = recordOf(value.status), kind = String(value.kind);
    if (kind !== "Node") known.add(namespace);
    const add = (kind: ClusterAddress["kind"], texts: readonly unknown[], what: string) => {
      for (const text of new Set(textsOf(texts))) {
        const prefix = Prefix.tryParse(text, { bare: true });
        if (prefix !== undefined) addresses.push({ kind, prefix, what });
      }
    };
    if (kind === "Pod" && spec.hostNetwork !== true) {
      const own = [status.podIP, ...listOf(status.podIPs).map((one) => recordOf(one).ip)];
      add("pod", own, `pod ${namespace}/${name}`);
    } else if (kind === "Node") {
      add("node", listOf(status.addresses).map((one) => recordOf(one).address), `node ${name}`);
      add("pod", [spec.podCIDR, ...listOf(spec.podCIDRs)], `pods of node ${name}`);
    } else if (kind === "Service") {
      add("service", [spec.clusterIP, ...listOf(spec.clusterIPs)], `service ${namespace}/${name}`);
      const selector = metadataOf({ metadata: { labels: spec.selector } }).labels;
      if (Object.keys(selector).length > 0) {
        services.push({ namespace, name, selector, ports: listOf(spec.ports).flatMap(servicePort) });
      }
    } else if (`${namespace}/${labels["kubernetes.io/service-name"] ?? name}` === API_SERVICE) {
      const { subsets, endpoints, ports: own } = value;
      for (const one of [...listOf(subsets).map(recordOf), { ports: own }]) {
        for (const { port } of listOf(one.ports).map(recordOf)) if (typeof port === "number") ports.add(port);
      }
      const texts = [
        ...listOf(endpoints).flatMap((one) => listOf(recordOf(one).addresses)),
        ...listOf(subsets).flatMap((one) => listOf(recordOf(one).addresses)).map((one) => recordOf(one).ip),
      ];
      for (const text of textsOf(texts)) {
        const prefix = Prefix.tryParse(text, { bare: true });
        if (prefix !== undefined) prefixes.push(prefix);
      }
    }
  }
  return { namespaces: known, addresses, services, apiServer: { prefixes, ports: [...ports] } };
}

function servicePort(value: unknown): ServicePort[] {
  const { port, targetPort, protocol } = recordOf(value);
  if (typeof port !== "number") return [];
  const target = typeof targetPort === "number" || typeof targetPort === "string" ? targetPort : port;
  return [{ port, target, protocol: textsOf([protocol])[0] ?? "TCP" }];
}

/**
 * Random policies of every supported field, from a seed.
 * @module
 */
import type { Manifest } from "./oracle.ts";

/** A source of random choices that gives the same ones for the same seed. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** Whole number from 0 to n - 1. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }
  list<T>(min: number, max: number, make: () => T): T[] {
    return Array.from({ length: min + this.below(max - min + 1) }, make);
  }
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }
}

export const NAMESPACES: Readonly<Record<string, Record<string, string>>> = {
  default: { "kubernetes.io/metadata.name": "default" },
  shop: { "kubernetes.io/metadata.name": "shop", team: "a" },
  lab: { "kubernetes.io/metadata.name": "lab", team: "b", env: "dev" },
};
/** Nested on purpose: every address below lies in a different set of them. */
export const CIDRS = [
  "0.0.0.0/0",
  "192.0.0.0/8",
  "192.0.2.0/24",
  "192.0.2.128/25",
  "192.0.2.200/32",
  "203.0.113.0/24",
];
export const ADDRESSES = ["192.0.2.200", "192.0.2.129", "192.0.2.1", "192.9.9.9", "203.0.113.7", "8.8.8.8"];
/** Names that the addresses may have, and selectors that mean different sets of them. */
export const NAMES = ["www.example.com", "api.example.com", "a.b.example.com", "example.com", "other.test"];
export const SELECTORS: readonly Manifest[] = [
  { matchName: "www.example.com" },
  { matchName: "API.example.com" },
  { matchPattern: "*.example.com" },
  { matchPattern: "**.example.com" },
  { matchPattern: "*.b.example.com" },
  { matchPattern: "*" },
  { matchPattern: "other.*" },
];
/** What policies may say of services, some of which nobody has made. */
const SERVICES: readonly Manifest[] = [
  { k8sService: { serviceName: "s0" } },
  { k8sService: { serviceName: "s1", namespace: "shop" } },
  { k8sService: { serviceName: "nobody", namespace: "shop" } },
  { k8sServiceSelector: { selector: { matchLabels: { env: "prod" } } } },
  { k8sServiceSelector: { selector: {}, namespace: "default" } },
  {
    k8sServiceSelector: {
      selector: { matchExpressions: [{ key: "env", operator: "NotIn", values: ["prod"] }] },
    },
  },
];
/** Selectors of CIDR groups. */
const GROUP_SELECTORS: readonly Manifest[] = [
  {},
  { matchLabels: { color: "red" } },
  { matchExpressions: [{ key: "color", operator: "NotIn", values: ["red"] }] },
  { matchExpressions: [{ key: "color", operator: "Exists" }] },
];
export const PORTS: readonly ["TCP" | "UDP" | "SCTP" | "ICMP", number][] = [
  ["TCP", 80],
  ["TCP", 81],
  ["TCP", 88],
  ["TCP", 8080],
  ["UDP", 53],
  ["UDP", 80],
  ["SCTP", 7777],
  ["ICMP", 8],
  ["ICMP", 0],
];

/** Requests that are judged where a port has rules. */
export const REQUESTS: readonly { readonly method: string; readonly path: string }[] = ["GET", "POST"]
  .flatMap((method) => ["/a", "/a/x", "/bcd", "/"].map((path) => ({ method, path })));

/** One policy; `index` makes its name. */
export function randomPolicy(random: Random, index: number): Manifest {
  const kind = random.pick([
    "CiliumNetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "NetworkPolicy",
  ]);
  const metadata: Manifest = { name: `p${index}` };
  if (kind !== "CiliumClusterwideNetworkPolicy") metadata.namespace = random.pick(Object.keys(NAMESPACES));
  if (kind === "NetworkPolicy") {
    return { apiVersion: "networking.k8s.io/v1", kind, metadata, spec: kubernetesSpec(random) };
  }
  const apiVersion = "cilium.io/v2";
  if (random.chance(15)) {
    return {
      apiVersion,
      kind,
      metadata,
      specs: random.list(1, 3, () => ciliumSpec(random)),
    };
  }
  return { apiVersion, kind, metadata, spec: ciliumSpec(random) };
}

function ciliumSpec(random: Random): Manifest {
  const spec: Manifest = { endpointSelector: selector(random, true) };
  for (const key of ["ingress", "ingressDeny", "egress", "egressDeny"]) {
    if (!random.chance(key.endsWith("Deny") ? 25 : 55)) continue;
    spec[key] = random.list(
      1,
      3,
      () => ciliumSection(random, key.startsWith("ingress") ? "from" : "to", !key.endsWith("Deny")),
    );
  }
  if (!["ingress", "ingressDeny", "egress", "egressDeny"].some((key) => key in spec)) spec.ingress = [{}];
  if (random.chance(20)) spec.enableDefaultDeny = { ingress: random.chance(50), egress: random.chance(50) };
  return spec;
}

/** @param judges its ports may have L7 rules */
function ciliumSection(random: Random, word: "from" | "to", judges: boolean): Manifest {
  const section: Manifest = {};
  // A deny has no names.
  const kind = random.below(word === "to" ? judges ? 9 : 7 : 6);
  if (kind === 8 || (kind === 6 && !judges)) {
    section.toServices = random.list(0, 2, () => random.pick(SERVICES));
  } else if (kind >= 6) section.toFQDNs = random.list(0, 3, () => random.pick(SELECTORS));
  if (kind <= 1) section[`${word}Endpoints`] = random.list(0, 2, () => selector(random, true));
  if (kind === 2) {
    section[`${word}Entities`] = random.list(
      1,
      2,
      () => random.pick(["all", "world", "cluster", "host", "none", "remote-node"]),
    );
  }
  if (kind === 3) section[`${word}CIDR`] = random.list(1, 2, () => random.pick(CIDRS));
  if (kind === 4 && random.chance(50)) section[`${word}CIDRSet`] = random.list(1, 2, () => groupSet(random));
  else if (kind === 4) {
    section[`${word}CIDRSet`] = [
      random.chance(50) ? { cidr: "192.0.0.0/8", except: ["192.0.2.0/24"] } : {
        cidr: random.pick(["192.0.2.0/24", "0.0.0.0/0"]),
        except: ["192.0.2.128/25"],
      },
    ];
  }
  if (random.chance(60)) {
    section.toPorts = random.list(1, 2, () =>
      judges && random.chance(30) ? judgedPorts(random) : {
        ports: random.list(1, 3, () => ciliumPort(random)),
      });
  } else if (random.chance(20)) section.icmps = [{ fields: [{ type: random.pick([0, 8]) }] }];
  return section;
}

/** Prefixes of groups, some of which nobody has made. */
function groupSet(random: Random): Manifest {
  const set: Manifest = random.chance(60)
    ? { cidrGroupRef: random.pick(["g0", "g1", "g2", "nobody"]) }
    : { cidrGroupSelector: random.pick(GROUP_SELECTORS) };
  if (random.chance(40)) set.except = [random.pick(["192.0.2.128/25", "203.0.113.0/24"])];
  return set;
}

/** A service as the engine keeps it; `index` makes its name. */
export function randomService(random: Random, index: number): Manifest {
  const metadata = {
    name: `s${index}`,
    namespace: random.pick(Object.keys(NAMESPACES)),
    labels: random.chance(50) ? { env: random.pick(["prod", "test"]) } : {},
  };
  const spec = random.chance(60)
    ? { selector: { app: random.pick(["a", "b"]) }, addresses: [] }
    : { selector: {}, addresses: random.list(0, 3, () => random.pick(ADDRESSES)) };
  return { apiVersion: "weir.io/v1", kind: "ServicePeers", metadata, spec };
}

/** A CIDR group; `index` makes its name. */
export function randomGroup(random: Random, index: number): Manifest {
  const metadata: Manifest = { name: `g${index}` };
  if (random.chance(70)) metadata.labels = { color: random.pick(["red", "blue"]) };
  const spec = { externalCIDRs: random.list(0, 3, () => random.pick(CIDRS)) };
  return { apiVersion: "cilium.io/v2", kind: "CiliumCIDRGroup", metadata, spec };
}

/** Ports with HTTP rules. */
function judgedPorts(random: Random): Manifest {
  const ports = random.list(1, 2, () => {
    const port: Manifest = { port: random.pick(["80", "81", "http", "8080", "80"]), protocol: "TCP" };
    if (port.port === "80" && random.chance(30)) port.endPort = random.pick([85, 90, 8080, 65535]);
    return port;
  });
  const rule = () => {
    const rule: Manifest = {};
    if (random.chance(60)) rule.method = random.pick(["GET", "POST", "GET|PUT"]);
    if (random.chance(60)) rule.path = random.pick(["/a", "/b.*", "/(a|c)", "/"]);
    return rule;
  };
  return { ports, rules: { http: random.list(0, 2, rule) } };
}

function ciliumPort(random: Random): Manifest {
  const port: Manifest = { port: random.pick(["80", "81", "0", "http", "dns", "8080", "80"]) };
  if (random.chance(80)) port.protocol = random.pick(["TCP", "UDP", "SCTP", "ANY", "TCP"]);
  if (port.port === "80" && random.chance(30)) port.endPort = random.pick([85, 90, 8080, 65535]);
  return port;
}

function kubernetesSpec(random: Random): Manifest {
  const spec: Manifest = { podSelector: selector(random, false) };
  if (random.chance(60)) spec.ingress = random.list(0, 3, () => kubernetesSection(random, "from"));
  if (random.chance(60)) spec.egress = random.list(0, 3, () => kubernetesSection(random, "to"));
  if (random.chance(60)) spec.policyTypes = random.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]);
  return spec;
}

function kubernetesSection(random: Random, word: "from" | "to"): Manifest {
  const section: Manifest = {};
  if (random.chance(75)) {
    section[word] = random.list(1, 2, () => {
      if (random.chance(25)) {
        return { ipBlock: { cidr: "192.0.0.0/8", except: random.chance(50) ? ["192.0.2.0/24"] : [] } };
      }
      const peer: Manifest = {};
      if (random.chance(60)) peer.podSelector = selector(random, false);
      if (!peer.podSelector || random.chance(50)) {
        peer.namespaceSelector = random.pick<Manifest>([
          {},
          { matchLabels: { team: "a" } },
          { matchExpressions: [{ key: "env", operator: "DoesNotExist" }] },
          { matchExpressions: [{ key: "team", operator: "NotIn", values: ["a"] }] },
        ]);
      }
      return peer;
    });
  }
  if (random.chance(60)) {
    section.ports = random.list(1, 2, () => {
      const port: Manifest = {};
      if (random.chance(70)) port.protocol = random.pick(["TCP", "UDP", "SCTP"]);
      if (random.chance(85)) port.port = random.pick<number | string>([80, 81, "http", "dns", 53]);
      if (port.port === 80 && random.chance(30)) port.endPort = 8080;
      return port;
    });
  }
  return section;
}

function selector(random: Random, sources: boolean): Manifest {
  const result: Manifest = {};
  const key = () => {
    const plain = random.pick(["app", "tier"]);
    return sources && random.chance(20) ? `${random.pick(["k8s", "any"])}:${plain}` : plain;
  };
  const value = () => random.pick(["a", "b", "c"]);
  if (random.chance(50)) result.matchLabels = { [key()]: value() };
  if (sources && random.chance(15)) {
    result.matchLabels = {
      ...result.matchLabels,
      "k8s:io.kubernetes.pod.namespace": random.pick(Object.keys(NAMESPACES)),
    };
  }
  if (random.chance(30)) {
    const operator = random.pick(["In", "NotIn", "Exists", "DoesNotExist"]);
    const values = operator === "In" || operator === "NotIn" ? { values: random.list(1, 2, value) } : {};
    result.matchExpressions = [{ key: key(), operator, ...values }];
  }
  return result;
}

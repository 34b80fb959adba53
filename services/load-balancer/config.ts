/** Settings of the load balancer and their limits. @module */
import { type ConfigSpec, Prefix, ProblemError } from "@weir/common";
import type { Algorithm, Forwarding } from "@weir/proto/loadbalancer";

/** What the load balancer may be told; every field has a default. */
export interface LoadBalancerConfig {
  /** Cluster IPs are given from here; undefined: no cluster IPs of this family. */
  serviceCidrV4?: Prefix;
  serviceCidrV6?: Prefix;
  nodePortMin: number;
  nodePortMax: number;
  algorithm: Algorithm;
  forwarding: Forwarding;
  /** Of Maglev tables and the flow hash, the same on every node. */
  seed: number;
  /** Classes of LoadBalancer services that get addresses here; "" is "no class". */
  loadBalancerClasses: readonly string[];
}

/** Defaults, Kubernetes' own where it has one. */
export const CONFIG_DEFAULT: LoadBalancerConfig = {
  serviceCidrV4: Prefix.parse("10.96.0.0/16"),
  serviceCidrV6: Prefix.parse("fd00:10:96::/112"),
  nodePortMin: 30_000,
  nodePortMax: 32_767,
  algorithm: "RANDOM",
  forwarding: "SNAT",
  seed: 0x77656972,
  loadBalancerClasses: ["", "weir.io/lb", "io.cilium/bgp-control-plane", "io.cilium/l2-announcer"],
};

/** Flags and environment of the process. */
export const PROCESS_CONFIG = {
  databaseUrl: {
    kind: "text",
    default: "sqlite:load-balancer.db",
    description: "sqlite:PATH or postgres://... (WEIR_DATABASE_URL)",
  },
  identityAllocator: {
    kind: "text",
    default: "",
    description: "address of the identity-allocator: endpoints are then sources of backends too",
  },
  awaitKubernetes: {
    kind: "flag",
    description: "a new database answers no node before Kubernetes' services are in it",
  },
  manifests: { kind: "text", default: "", description: "directory of manifests, watched" },
  serviceCidrV4: { kind: "text", default: "10.96.0.0/16", description: "empty: no IPv4 cluster IPs" },
  serviceCidrV6: { kind: "text", default: "fd00:10:96::/112", description: "empty: no IPv6 cluster IPs" },
  nodePorts: { kind: "text", default: "30000-32767", description: "range of node ports, FIRST-LAST" },
  algorithm: { kind: "text", default: "random", description: "random or maglev, unless a service says" },
  forwarding: { kind: "text", default: "snat", description: "snat or dsr, unless a service says" },
  maglevSeed: { kind: "number", default: CONFIG_DEFAULT.seed, min: 0, max: 0xffffffff },
  loadBalancerClass: { kind: "list", description: "classes beyond ours that get addresses from the pools" },
} as const satisfies ConfigSpec;

/** The settings of texts. @throws {ProblemError} CONFIG_INVALID */
export function readConfig(texts: {
  serviceCidrV4: string;
  serviceCidrV6: string;
  nodePorts: string;
  algorithm: string;
  forwarding: string;
  maglevSeed: number;
  loadBalancerClass: readonly string[];
}): LoadBalancerConfig {
  const cidr = (name: string, text: string, family: 4 | 6) => {
    if (text === "") return undefined;
    const prefix = Prefix.tryParse(text, { bare: false });
    if (prefix?.family !== family) throw invalid(name, text, `an IPv${family} prefix`);
    return prefix;
  };
  const choice = <T>(name: string, text: string, choices: Record<string, T>): T => {
    if (Object.hasOwn(choices, text)) return choices[text];
    throw invalid(name, text, Object.keys(choices).join(" or "));
  };
  const ports = /^(\d{1,5})-(\d{1,5})$/.exec(texts.nodePorts)?.slice(1).map(Number);
  if (ports === undefined || ports[0] < 1 || ports[1] > 65535 || ports[0] > ports[1]) {
    throw invalid("node-ports", texts.nodePorts, "FIRST-LAST from 1 to 65535");
  }
  return {
    serviceCidrV4: cidr("service-cidr-v4", texts.serviceCidrV4, 4),
    serviceCidrV6: cidr("service-cidr-v6", texts.serviceCidrV6, 6),
    nodePortMin: ports[0],
    nodePortMax: ports[1],
    algorithm: choice("algorithm", texts.algorithm, { random: "RANDOM", maglev: "MAGLEV" } as const),
    forwarding: choice("forwarding", texts.forwarding, { snat: "SNAT", dsr: "DSR" } as const),
    seed: texts.maglevSeed,
    loadBalancerClasses: [...CONFIG_DEFAULT.loadBalancerClasses, ...texts.loadBalancerClass],
  };
}

function invalid(option: string, found: string, expected: string): ProblemError {
  return new ProblemError("CONFIG_INVALID", {
    detail: `Cannot take --${option}: found ${JSON.stringify(found)}, expected ${expected}`,
    found,
    expected,
  });
}

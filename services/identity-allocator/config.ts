/** Settings of the identity allocator and their limits. @module */
import { type Clock, type ConfigSpec, LabelFilter, type Prefix } from "@weir/common";

/** What the allocator may be told; every field has a default. */
export interface IdentityAllocatorConfig {
  /** Number of this cluster, 0 to 255, in bits 16-23 of every identity. */
  clusterId: number;
  /** An identity that nothing holds is released after this time. */
  graceS: number;
  /** For this time only claims make numbers, once a node knew of a past that the database does not know. 0: never. */
  claimGraceS: number;
  /** A node that was not heard of for this time is dead: its ipcache entries and references go. */
  nodeTtlS: number;
  /** Pools that nodes get their pod CIDRs from, and the length of one. */
  podPoolV4: string;
  podLengthV4: number;
  podPoolV6: string;
  podLengthV6: number;
  labelFilter: LabelFilter;
  /** What no node may announce or register with: the API server, resolvers, the machines of the control plane. */
  protectedPrefixes: readonly Prefix[];
}

/** Defaults: 256 nodes per /16 of 10.0.0.0/8, and as many in a unique local prefix. */
export const CONFIG_DEFAULT: IdentityAllocatorConfig = {
  clusterId: 0,
  graceS: 300,
  nodeTtlS: 600,
  claimGraceS: 20,
  podPoolV4: "10.0.0.0/8",
  podLengthV4: 24,
  podPoolV6: "fd57:6569:7200::/48",
  podLengthV6: 112,
  labelFilter: new LabelFilter(),
  protectedPrefixes: [],
};

/** Flags and environment of the process. */
export const PROCESS_CONFIG = {
  databaseUrl: {
    kind: "text",
    default: "sqlite:identity.db",
    description: "sqlite:PATH or postgres://... (WEIR_DATABASE_URL)",
  },
  clusterId: { kind: "number", default: CONFIG_DEFAULT.clusterId, min: 0, max: 255 },
  identityGraceS: { kind: "number", default: CONFIG_DEFAULT.graceS, min: 0, max: 86_400 },
  nodeTtlS: { kind: "number", default: CONFIG_DEFAULT.nodeTtlS, min: 1, max: 86_400 * 30 },
  claimGraceS: {
    kind: "number",
    default: CONFIG_DEFAULT.claimGraceS,
    min: 0,
    max: 3600,
    description: "seconds for which running endpoints claim their numbers before new ones are handed out, " +
      "after the database was lost or replaced by an older copy",
  },
  podPoolV4: {
    kind: "text",
    default: CONFIG_DEFAULT.podPoolV4,
    description: "empty: nodes get no IPv4 pod CIDR",
  },
  podLengthV4: { kind: "number", default: CONFIG_DEFAULT.podLengthV4, min: 8, max: 30 },
  podPoolV6: {
    kind: "text",
    default: CONFIG_DEFAULT.podPoolV6,
    description: "empty: nodes get no IPv6 pod CIDR",
  },
  podLengthV6: { kind: "number", default: CONFIG_DEFAULT.podLengthV6, min: 32, max: 124 },
  protectedPrefixes: {
    kind: "list",
    description: "prefixes that no node may announce: API servers, resolvers, the control plane's machines",
  },
  labels: { kind: "list", description: "more label filter expressions, ! before an ignoring one" },
} as const satisfies ConfigSpec;

/** What parts of the allocator share. */
export interface AllocatorParts {
  config: IdentityAllocatorConfig;
  clock: Clock;
}

/** Settings of the certificate authority. @module */
import type { Clock, ConfigSpec } from "@weir/common";

/** What the authority may be told. */
export interface AuthorityConfig {
  /** Name of the cluster, in every certificate. */
  cluster: string;
  /** How long a certificate of a machine lives; it is renewed at half of it. */
  certificateLifetimeMs: number;
  /** Withdrawals that this machine's agent keeps; "": none. */
  withdrawalsFile: string;
  /** Certificate of the authority that this machine believes; "": none, or not there yet. */
  authorityFile: string;
}

/** Defaults: a month, so that a machine that was off for two weeks is still a member. */
export const CONFIG_DEFAULT: AuthorityConfig = {
  cluster: "default",
  certificateLifetimeMs: 30 * 86_400_000,
  withdrawalsFile: "",
  authorityFile: "",
};

/** Flags and environment of the process. */
export const PROCESS_CONFIG = {
  databaseUrl: {
    kind: "text",
    default: "sqlite:certificate-authority.db",
    description: "sqlite:PATH or postgres://... (WEIR_DATABASE_URL)",
  },
  cluster: { kind: "text", default: CONFIG_DEFAULT.cluster, description: "name of this cluster" },
  certificateLifetimeS: {
    kind: "number",
    default: CONFIG_DEFAULT.certificateLifetimeMs / 1000,
    min: 2,
    max: 3650 * 86_400,
    description: "how long a certificate of a machine lives",
  },
  withdrawals: {
    kind: "text",
    default: "",
    description: "file of withdrawals that this machine has kept",
  },
  authority: {
    kind: "text",
    default: "",
    description: "certificate of the authority that this machine believes: the database must have its key",
  },
} as const satisfies ConfigSpec;

/** What parts of the authority share. */
export interface AuthorityParts {
  config: AuthorityConfig;
  clock: Clock;
}

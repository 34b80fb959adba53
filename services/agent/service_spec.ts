/** What a service is started with, before and after what all have in common is added. @module */

/** How one service is started. */
export interface ServiceSpec {
  readonly name: string;
  readonly role: "node" | "control-plane";
  /** Module relative to the workspace. */
  readonly entry: string;
  /** Runs from its sources as root, else from a bundle as the unprivileged user. */
  readonly privileged: boolean;
  /** Deno's permission flags. */
  readonly permissions: readonly string[];
  /** Arguments of the service. */
  readonly args: readonly string[];
  /** What is secret, as `WEIR_*` variables of this service alone. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Has a directory for state. */
  readonly hasState?: boolean;
  /** Serves a second socket that answers reading requests only. */
  readonly hasReadSocket?: boolean;
  /** Path of the control group that it runs in; absent: the agent's. */
  readonly cgroup?: string;
  /** Paths of sockets for clients of other protocols. */
  readonly moreSockets?: readonly string[];
}

/** How one service is started, without what all have. */
export interface SpecParts extends Omit<ServiceSpec, "permissions" | "args"> {
  permissions: string[];
  args: string[];
}

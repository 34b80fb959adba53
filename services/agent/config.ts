/**
 * Configuration of the agent: flags, `WEIR_*` environment, or a YAML file given with `--config`.
 *
 * @module
 */
import {
  AUTHORITY_PORT,
  type Config,
  hostPort,
  loadConfig,
  type Membership,
  parseHostPort,
  type PlaneService,
  planeTarget,
  readMembership,
} from "@weir/common";
import { readStaticLog } from "@weir/flow-exporter/export-specs";
import { readOtlp } from "@weir/flow-exporter/otlp-options";
import { readMetricWords } from "@weir/flow-exporter/metric-options";
import { AGENT_CONFIG } from "./options.ts";

/** Values of {@link AGENT_CONFIG}. */
export type AgentConfig = Config<typeof AGENT_CONFIG> & {
  /** Of a machine that joined: the certificate authority. */
  readonly authority?: string;
};

/** A configuration that cannot be honoured. */
export class AgentConfigError extends Error {
  override readonly name = "AgentConfigError";
}

/** What a configuration is made of beside its arguments. */
export interface AgentConfigSources {
  env?: (name: string) => string | undefined;
  /** Configuration that is read when there is such a file and none was named. */
  configFile?: string;
  /** What `weir join` left in an instance's state directory. */
  membership?: (directory: string) => Membership | undefined;
}

/**
 * Reads and checks the configuration. A machine that joined a cluster needs no options: what it is and where the control
 * plane is stands in its join.json.
 */
export function readAgentConfig(
  args: readonly string[] = Deno.args,
  { env, configFile, membership = readMembership }: AgentConfigSources = {},
): AgentConfig {
  const named = args.some((word) => /^--config(=|$)/.test(word)) ||
    Boolean((env ?? Deno.env.get)("WEIR_CONFIG"));
  const words = named || configFile === undefined || !isFile(configFile)
    ? args
    : ["--config", configFile, ...args];
  if (args.some((word) => /^--otlp-headers(=|$)/.test(word))) {
    throw new AgentConfigError(
      "Cannot take --otlp-headers from the command line, where everybody may read it: expected WEIR_OTLP_HEADERS in the environment, or otlpHeaders in a --config file",
    );
  }
  const given = loadConfig(AGENT_CONFIG, { args: words, ...(env === undefined ? {} : { env }) });
  if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(given.instance)) {
    throw new AgentConfigError(
      `Cannot take instance "${given.instance}": expected up to 41 of a-z, 0-9 and -, first no dash`,
    );
  }
  const directory = `${given.stateDirectory}/${given.instance}`;
  const config = withMembership(given, directory, membership(directory));
  if (config.routingMode !== "tunnel" && config.routingMode !== "direct") {
    throw new AgentConfigError(`Cannot take routing mode "${config.routingMode}": expected tunnel or direct`);
  }
  try {
    readMetricWords(config.hubbleMetrics);
    readStaticLog(config);
    readOtlp(config);
  } catch (error) {
    throw new AgentConfigError((error as Error).message);
  }
  if (!config.controlPlane && (config.identityAllocator === undefined || config.policyEngine === undefined)) {
    throw new AgentConfigError(
      "Cannot start without a control plane: give --control-plane to run it here, join one (weir join TOKEN), or name it with --identity-allocator and --policy-engine",
    );
  }
  if (config.listen !== "" && !config.controlPlane) {
    throw new AgentConfigError(
      "Cannot listen: only the control plane answers other machines (--control-plane)",
    );
  }
  const listen = config.listen === "" ? undefined : parseHostPort(config.listen);
  if (config.listen !== "" && (listen === undefined || /^(0\.0\.0\.0|::)$/.test(listen.hostname))) {
    throw new AgentConfigError(
      `Cannot listen on "${config.listen}": expected an address of this machine that the others reach, ADDRESS[:${AUTHORITY_PORT}]`,
    );
  }
  return { ...config, listen: listen === undefined ? "" : hostPort(listen.hostname, listen.port) };
}

/** The configuration of a member; what was given by hand goes before. */
function withMembership(
  given: AgentConfig,
  directory: string,
  membership: Membership | undefined,
): AgentConfig {
  if (membership === undefined) return given;
  const own = {
    nodeName: given.nodeName ?? membership.node,
    cluster: given.cluster === AGENT_CONFIG.cluster.default ? membership.cluster : given.cluster,
  };
  if (membership.role === "control-plane") {
    return {
      ...given,
      ...own,
      controlPlane: true,
      listen: given.listen || (membership.listen ?? ""),
      databaseUrl: given.databaseUrl || (membership.databaseUrl ?? ""),
    };
  }
  const plane = (service: PlaneService) => planeTarget(membership.addresses, service, directory);
  return {
    ...given,
    ...own,
    // The unit and the configuration of a host that was alone until it joined say otherwise.
    controlPlane: false,
    listen: "",
    authority: plane("certificate-authority"),
    identityAllocator: given.identityAllocator ?? plane("identity-allocator"),
    policyEngine: given.policyEngine ?? plane("policy-engine"),
    loadBalancer: given.loadBalancer ?? plane("load-balancer"),
  };
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/**
 * Configuration of the agent: flags, `WEIR_*` environment, or a YAML file given with `--config`.
 *
 * @module
 */
import {
  AUTHORITY_PORT,
  type Config,
  hostPort,
  isLoopback,
  loadConfig,
  type Membership,
  parseHostPort,
  type PlaneService,
  planeTarget,
  Prefix,
  readCidrMatch,
  readEnforcement,
  readMembership,
} from "@weir/common";
import { readStaticLog } from "@weir/flow-exporter/export-specs";
import { readOtlp } from "@weir/flow-exporter/otlp-options";
import { readMetricWords } from "@weir/flow-exporter/metric-options";
import { readRedaction } from "@weir/flow-exporter/redaction";
import { readPageAddress } from "@weir/ui/listen-address";
import { AGENT_CONFIG } from "./options.ts";

/** Values of {@link AGENT_CONFIG}. */
export type AgentConfig = Omit<Config<typeof AGENT_CONFIG>, "instance"> & {
  /** Owner mark. */
  readonly instance: string;
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
  const loaded = loadConfig(AGENT_CONFIG, { args: words, ...(env === undefined ? {} : { env }) });
  const given = { ...loaded, instance: loaded.instance ?? (loaded.noNode ? "control-plane" : "host") };
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
    readCidrMatch(config.policyCidrMatch ?? []);
    readEnforcement(config.enablePolicy);
    readMetricWords(config.hubbleMetrics);
    readStaticLog(config);
    readOtlp(config);
    readRedaction(config);
    checkL7(config);
    // Whether there is a token or an authority is read where it is used.
    if (config.uiListen !== "") readPageAddress(config.uiListen, config.uiTlsDirectory !== "");
  } catch (error) {
    throw new AgentConfigError((error as Error).message);
  }
  if (config.ipam !== "cluster-pool" && config.ipam !== "kubernetes") {
    throw new AgentConfigError(`Cannot take ipam "${config.ipam}": expected cluster-pool or kubernetes`);
  }
  if ((config.cniConfDirectory === "") !== (config.cniBinaryDirectory === "")) {
    throw new AgentConfigError(
      "Cannot install the CNI plugin: expected both --cni-conf-directory and --cni-binary-directory",
    );
  }
  for (const path of [config.cniConfDirectory, config.cniBinaryDirectory]) {
    if (path !== "" && !path.startsWith("/")) {
      throw new AgentConfigError(`Cannot install the CNI plugin to "${path}": expected an absolute path`);
    }
  }
  if (config.noNode && !config.controlPlane) {
    throw new AgentConfigError("Cannot run no node: --no-node is for --control-plane");
  }
  if (config.l7ProxyPort + config.l7ProxyWorkers > 65_536) {
    throw new AgentConfigError(
      `Cannot run ${config.l7ProxyWorkers} processes of the L7 proxy at port ${config.l7ProxyPort}: each has one of the ports from there on`,
    );
  }
  if (config.kubernetes && !config.controlPlane) {
    throw new AgentConfigError("Cannot follow Kubernetes: --kubernetes is for --control-plane");
  }
  if (config.kubernetesJoin !== "" && config.controlPlane) {
    throw new AgentConfigError(
      "Cannot join as a node and run the control plane: it needs an agent of its own",
    );
  }
  if (config.healthListen !== "" && loopbackOf(config.healthListen) === undefined) {
    throw new AgentConfigError(
      `Cannot answer probes on "${config.healthListen}": expected ADDRESS:PORT of loopback, such as 127.0.0.1:7447`,
    );
  }
  // Who joins by Kubernetes knows the control plane when it has joined.
  const isToJoin = config.kubernetesJoin !== "" && config.authority === undefined;
  if (
    !config.controlPlane && !isToJoin &&
    (config.identityAllocator === undefined || config.policyEngine === undefined)
  ) {
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

/** @throws {Error} an answer that is none, prefixes of handles that cannot hold their 24 bits, or are of the other family */
function checkL7({ l7HandlePrefixV4: v4, l7HandlePrefixV6: v6, l7DnsDenial, noL7Proxy }: AgentConfig): void {
  if (l7DnsDenial !== "refused" && l7DnsDenial !== "nxdomain") {
    throw new Error(`Cannot take "${l7DnsDenial}" as --l7-dns-denial: expected refused or nxdomain`);
  }
  if (noL7Proxy) return;
  if (v4 === "" && v6 === "") {
    throw new Error(
      "Cannot run the L7 proxy without addresses: expected --l7-handle-prefix-v4, --l7-handle-prefix-v6 or --no-l7-proxy",
    );
  }
  const prefix4 = v4 === "" ? undefined : Prefix.tryParse(v4),
    prefix6 = v6 === "" ? undefined : Prefix.tryParse(v6);
  if (
    v4 !== "" &&
    (prefix4 === undefined || prefix4.address.family !== 4 || prefix4.length < 8 || prefix4.length > 16)
  ) {
    throw new Error(
      `Cannot take "${v4}" as --l7-handle-prefix-v4: expected an IPv4 prefix from /8 to /16, such as 240.0.0.0/8`,
    );
  }
  if (v6 !== "" && (prefix6 === undefined || prefix6.address.family !== 6 || prefix6.length !== 64)) {
    throw new Error(
      `Cannot take "${v6}" as --l7-handle-prefix-v6: expected a /64 of IPv6, such as fd57:4c37::/64`,
    );
  }
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
    kubernetesService: given.kubernetesService ??
      (given.kubernetesJoin === "" ? undefined : plane("kubernetes")),
  };
}

/** An address of loopback with its port; undefined where it is none. */
export function loopbackOf(text: string): { hostname: string; port: number } | undefined {
  const found = parseHostPort(text, 0);
  return found !== undefined && found.port > 0 && isLoopback(found.hostname) ? found : undefined;
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

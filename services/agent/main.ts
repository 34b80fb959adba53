/**
 * `weir agent`: the supervisor of one node, in the foreground.
 *
 * @module
 */
import {
  ApiServer,
  configUsage,
  type Handler,
  Health,
  listenTcp,
  listenUnix,
  Logger,
  parseLogLevel,
  type ProblemError,
  readMembership,
  systemClock,
  untilAborted,
  WEIR_VERSION,
} from "@weir/common";
import { askSignOfLife, WeirClient } from "@weir/client";
import { Process } from "@weir/proto/agent";
import { CniAnswer, CniRequest } from "@weir/proto/endpoint";
import { Agent, type AgentOptions } from "./agent.ts";
import { CertificateKeeper } from "./certificate_keeper.ts";
import { CniInstaller } from "./cni_installer.ts";
import { type AgentConfig, AgentConfigError, loopbackOf, readAgentConfig } from "./config.ts";
import { AGENT_CONFIG } from "./options.ts";
import { WithdrawalKeeper } from "./withdrawal_keeper.ts";
import { ensureLock, rememberChildren, waitForPredecessors } from "./instance_lock.ts";
import { KubernetesJoin } from "./kubernetes_join.ts";
import { createExportDirectories } from "./export_access.ts";
import { cniSocketOf, createDirectories, type Layout, layoutOf, socketOf } from "./layout.ts";
import { ServiceManager } from "./service_manager.ts";
import { l7ProxyNames } from "./l7_proxy_spec.ts";
import { makeProxyCgroup } from "./proxy_cgroup.ts";
import { migrateState } from "./state_migration.ts";
import { assertReadable, writeStamp } from "./state_version.ts";

/** Where a host's configuration is when no other is named. */
const CONFIG_FILE = "/etc/weir/weir.yaml";
/** After this long the service manager is told that the unit is up, whatever the services still wait for. */
const READY_MS_MAX = 30_000;
/** Errors that stay until somebody mends their cause. */
const FOR_PEOPLE: ReadonlySet<string> = new Set(["CONFIG_INVALID", "STATE_NEWER", "STATE_VERSION_INVALID"]);

async function main(): Promise<number> {
  if (Deno.args.some((word) => word === "--help" || word === "-h")) {
    console.log(`weir agent [--control-plane] [--config FILE]

Runs the services of this node in the foreground, with --control-plane the cluster's too. Needs root. Each option can be
WEIR_NAME in the environment, and name in the YAML file given with --config (default: ${CONFIG_FILE}, if there is one).

${configUsage(AGENT_CONFIG)}`);
    return 0;
  }
  // From the first moment on: the first process of a container gets no signal that it does not ask for.
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(name, () => stop.abort());
  const readConfig = () => readAgentConfig(Deno.args, { configFile: CONFIG_FILE });
  let config = readConfig();
  if (Deno.uid() !== 0) {
    throw new AgentConfigError("Cannot run the agent: it needs root, to load programs and make devices");
  }
  const log = new Logger({ name: "agent", level: parseLogLevel(config.logLevel) });
  const nodeName = config.nodeName ?? Deno.hostname();
  const layout = await withProxyCgroup(layoutOf(config), config, log);
  await createDirectories(layout);
  await createExportDirectories(config, layout);
  using _lock = await ensureLock(layout);
  await waitForPredecessors(layout);
  assertReadable(layout.state, WEIR_VERSION);
  const { moved, left } = await migrateState(layout, l7ProxyNames(config).slice(1));
  writeStamp(layout.state, WEIR_VERSION);
  if (moved.length > 0) log.info("State of an older version was moved", { files: moved });
  if (left.length > 0) log.warn("State of an older version was left: there is newer", { files: left });
  if (config.supervised) endWithStdin(stop);

  const health = new Health();
  health.waitFor("services", "starting");
  const api = new ApiServer({ name: "agent", health, log });
  const agents: Agent[] = [];
  const processes = () => agents.flatMap((agent) => agent.processes());
  api.collection<Process>({
    name: "processes",
    message: Process,
    list: processes,
    get: (name) => processes().find((process) => process.name === name),
    description: "The services that this agent keeps running",
  });
  const listener = await listenUnix(api.fetch, socketOf(layout, "agent"));
  const probes = config.healthListen === ""
    ? undefined
    : listenTcp(probesOnly(api.fetch), loopbackOf(config.healthListen)!);

  const join = config.kubernetesJoin === "" ? undefined : new KubernetesJoin({
    from: config.kubernetesJoin,
    directory: layout.state,
    owner: layout,
    node: nodeName,
    clock: systemClock,
    log,
    onWait: (text) => text === "" ? health.ok("membership") : health.waitFor("membership", text),
  });
  if (join !== undefined) {
    await join.ensure(stop.signal);
    if (stop.signal.aborted) return 0;
    config = readConfig();
  }
  const agent = new Agent(config, layout, nodeName);
  agents.push(agent);
  const keeper = keeperOf(config, layout, { nodeName, health, log });

  const manager = new ServiceManager({
    env: (name) => Deno.env.get(name),
    ownPath: `${layout.sockets}/notify.sock`,
    clock: systemClock,
    log,
  });
  const alive = manager.keepAlive(stop.signal);
  const keeping = Promise.all([
    installerOf(config, layout, { health, log })?.run(stop.signal),
    keeper?.run(stop.signal),
    keeper && withdrawalKeeperOf(config, layout, log).run(stop.signal),
  ]);

  const announced = new Set<string>();
  let announcedAll = false;
  const clients = new Map<string, WeirClient>();
  const options: AgentOptions = {
    ask: async (socket, signal) => {
      let client = clients.get(socket);
      if (client === undefined) clients.set(socket, client = new WeirClient({ socket }));
      return await askSignOfLife(client, signal);
    },
    onChange: (name, { state, pid, lastError, waitsFor }) => {
      rememberChildren(layout, agent.processes().map((process) => process.pid).filter((pid) => pid > 0));
      if (state === "backoff") log.warn("Service ended", { service: name, error: lastError });
      if (state === "hung") log.warn("Service does not answer", { service: name, error: waitsFor });
      if (state === "ready" && !announced.has(name)) {
        announced.add(name);
        console.log(`${name.padEnd(20)} ready   pid ${pid}`);
      }
      if (agent.ready) health.ok("services");
      else health.waitFor("services", notReady(agent));
      manager.notify(`STATUS=${agent.ready ? "every service is ready" : notReady(agent)}`);
      if (agent.ready && !announcedAll) {
        announcedAll = true;
        console.log("Weir is ready");
        manager.notify("READY=1\nSTATUS=every service is ready");
      }
    },
  };
  await agent.start(options);
  const following = join?.follow(stop.signal, () => agent.reconfigure(readConfig(), options));
  // A control plane that is away must not let the boot fail: the unit is up, and its status says what is waited for.
  systemClock.sleep(READY_MS_MAX, stop.signal).then(() => {
    if (!announcedAll) manager.notify("READY=1");
  });
  await untilAborted(stop.signal);
  console.log("Stopping: what is in the kernel stays and works");
  health.waitFor("services", "stopping");
  await alive;
  await keeping;
  await following;
  await manager.notify("STOPPING=1");
  await agent.stop();
  await manager.close();
  await listener.shutdown(200);
  await probes?.shutdown(200);
  return 0;
}

/** Makes the L7 proxy's control group. Without one it goes on: then every service of that user could connect to handles. */
async function withProxyCgroup(layout: Layout, config: AgentConfig, log: Logger): Promise<Layout> {
  if (config.noNode || config.noL7Proxy) return layout;
  const made = await makeProxyCgroup({ instance: layout.instance, root: config.cgroupRoot });
  if ("path" in made) return { ...layout, proxyCgroup: made.path };
  log.warn(
    "The L7 proxy has no control group of its own: its user alone says who may connect to handles",
    made,
  );
  return layout;
}

/** What a probe may ask: whether the agent lives, and whether its services are ready. */
function probesOnly(handler: Handler): Handler {
  return (request) => {
    const { pathname } = new URL(request.url);
    return pathname === "/livez" || pathname === "/readyz"
      ? handler(request)
      : new Response("Not found\n", { status: 404 });
  };
}

/** What keeps this machine's certificate; nothing does where the cluster is this machine alone. */
function keeperOf(
  config: AgentConfig,
  layout: Layout,
  { nodeName, health, log }: { nodeName: string; health: Health; log: Logger },
): CertificateKeeper | undefined {
  const listens = config.controlPlane && config.listen !== "";
  if (!listens && readMembership(layout.state) === undefined) return undefined;
  return new CertificateKeeper({
    directory: layout.state,
    owner: layout,
    node: nodeName,
    cluster: config.cluster,
    plane: listens
      ? { authority: { socket: socketOf(layout, "certificate-authority") }, listen: config.listen }
      : undefined,
    clock: systemClock,
    health,
    log,
  });
}

/** What installs the CNI plugin, where a container runtime is to use it. */
function installerOf(
  config: AgentConfig,
  layout: Layout,
  { health, log }: { health: Health; log: Logger },
): CniInstaller | undefined {
  const { cniConfDirectory: configDirectory, cniBinaryDirectory: pluginDirectory } = config;
  if (configDirectory === "" || config.noNode) return undefined;
  const client = new WeirClient({ socket: cniSocketOf(layout) });
  const request = {
    message: CniRequest,
    value: { config: new TextEncoder().encode('{"cniVersion":"1.1.0","name":"weir"}') },
  };
  const ask = async () => {
    const { exitCode, output } = await client.call("/v1/cni:status", { request, response: CniAnswer });
    return exitCode === 0 ? undefined : String(JSON.parse(output).msg);
  };
  return new CniInstaller({ layout, configDirectory, pluginDirectory, ask, clock: systemClock, health, log });
}

/** What keeps withdrawals, on every machine that has a certificate. */
function withdrawalKeeperOf(config: AgentConfig, layout: Layout, log: Logger): WithdrawalKeeper {
  return new WithdrawalKeeper({
    directory: layout.state,
    gid: layout.gid,
    authority: config.controlPlane ? { socket: socketOf(layout, "certificate-authority") } : undefined,
    clock: systemClock,
    log,
  });
}

function notReady(agent: Agent): string {
  return agent.processes().filter((process) => process.state !== "ready")
    .map((process) => `${process.name} ${process.state}${process.lastError ? `: ${process.lastError}` : ""}`)
    .join("; ");
}

async function endWithStdin(stop: AbortController): Promise<void> {
  const buffer = new Uint8Array(64);
  try {
    while (await Deno.stdin.read(buffer) !== null);
  } catch {
    // Gone is gone.
  }
  stop.abort();
}

try {
  Deno.exit(await main());
} catch (error) {
  const { message, code = "", problem } = error as ProblemError;
  console.error(`weir agent: ${message}${problem?.action === undefined ? "" : `. ${problem.action}`}`);
  // Another start does not help: the unit does not try it.
  const isForPeople = error instanceof AgentConfigError || FOR_PEOPLE.has(code);
  Deno.exit(isForPeople ? 2 : 1);
}

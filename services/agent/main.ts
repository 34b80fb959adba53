/**
 * `weir agent`: the supervisor of one node, in the foreground.
 *
 * @module
 */
import { ApiServer, configUsage, Health, listenUnix, Logger, parseLogLevel } from "@weir/common";
import { WeirClient } from "@weir/client";
import { Process } from "@weir/proto/agent";
import { Agent } from "./agent.ts";
import { AGENT_CONFIG, AgentConfigError, readAgentConfig } from "./config.ts";
import { ensureLock, rememberChildren, waitForPredecessors } from "./instance_lock.ts";
import { createDirectories, layoutOf, socketOf } from "./layout.ts";

async function main(): Promise<number> {
  if (Deno.args.some((word) => word === "--help" || word === "-h")) {
    console.log(`weir agent [--control-plane] [--config FILE]

Runs the services of this node in the foreground, with --control-plane the cluster's too. Needs root. Each option can be
WEIR_NAME in the environment, and name in the YAML file given with --config.

${configUsage(AGENT_CONFIG)}`);
    return 0;
  }
  const config = readAgentConfig();
  if (Deno.uid() !== 0) {
    throw new AgentConfigError("Cannot run the agent: it needs root, to load programs and make devices");
  }
  const log = new Logger({ name: "agent", level: parseLogLevel(config.logLevel) });
  const nodeName = config.nodeName ?? Deno.hostname();
  const layout = layoutOf(config);
  await createDirectories(layout);
  using _lock = await ensureLock(layout);
  await waitForPredecessors(layout);

  const health = new Health();
  health.waitFor("services", "starting");
  const api = new ApiServer({ name: "agent", health, log });
  const agent = new Agent(config, layout, nodeName);
  api.collection<Process>({
    name: "processes",
    message: Process,
    list: () => agent.processes(),
    get: (name) => agent.processes().find((process) => process.name === name),
    description: "The services that this agent keeps running",
  });
  const listener = await listenUnix(api.fetch, socketOf(layout, "agent"));

  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(name, () => stop.abort());
  if (config.supervised) endWithStdin(stop);

  const announced = new Set<string>();
  let announcedAll = false;
  const clients = new Map<string, WeirClient>();
  await agent.start({
    probeReadiness: async (socket) => {
      let client = clients.get(socket);
      if (client === undefined) clients.set(socket, client = new WeirClient({ socket }));
      const { ready, text } = await client.readiness();
      return ready ? undefined : firstWait(text);
    },
    onChange: (status) => {
      rememberChildren(layout, agent.processes().map((process) => process.pid).filter((pid) => pid > 0));
      if (status.state === "backoff") {
        log.warn("Service ended", { service: status.name, error: status.lastError });
      }
      if (status.state === "ready" && !announced.has(status.name)) {
        announced.add(status.name);
        console.log(`${status.name.padEnd(20)} ready   pid ${status.pid}`);
      }
      if (agent.ready) health.ok("services");
      else health.waitFor("services", notReady(agent));
      if (agent.ready && !announcedAll) {
        announcedAll = true;
        console.log("Weir is ready");
      }
    },
  });
  await new Promise<void>((resolve) =>
    stop.signal.addEventListener("abort", () => resolve(), { once: true })
  );
  console.log("Stopping: what is in the kernel stays and works");
  health.waitFor("services", "stopping");
  await agent.stop();
  await listener.shutdown(200);
  return 0;
}

function notReady(agent: Agent): string {
  return agent.processes().filter((process) => process.state !== "ready")
    .map((process) => `${process.name} ${process.state}${process.lastError ? `: ${process.lastError}` : ""}`)
    .join("; ");
}

/** The first condition of a readiness text that does not hold. */
function firstWait(text: string): string {
  const line = text.split("\n").find((line) => line.startsWith("[-]"));
  return line?.slice(4) ?? text.split("\n")[0];
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
  console.error(`weir agent: ${(error as Error).message}`);
  const wrongUsage = error instanceof AgentConfigError ||
    (error as { code?: string }).code === "CONFIG_INVALID";
  Deno.exit(wrongUsage ? 2 : 1);
}

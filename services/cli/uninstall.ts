/**
 * `weir uninstall`: the datapath's own program removes what it made; it alone knows the kernel.
 *
 * @module
 */
import { flag, parse, text } from "./args.ts";
import { clientOf, isUnreachable } from "./clients.ts";
import { cniRecordPath, readCniRecord } from "@weir/common/cni-record";
import { type CommandContext, hostInstance, stateDirectory, UsageError } from "./context.ts";
import { KUBERNETES_OPTIONS, meansKubernetes } from "./kubernetes_options.ts";

const DATAPATH = new URL("../../datapath/service/main.ts", import.meta.url).pathname;
const CLUSTER_TIMEOUT_S = 300;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Runs the command. */
export async function uninstallCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    instance: { type: "string" },
    yes: { type: "boolean", short: "y" },
    timeout: { type: "string" },
    crds: { type: "boolean" },
    ...KUBERNETES_OPTIONS,
  }, "weir help uninstall");
  if (parsed.positionals.length > 0) {
    throw new UsageError("weir uninstall takes no names", "weir help uninstall");
  }
  if (meansKubernetes(context, parsed)) {
    const { openCluster } = await import("./install/access.ts");
    const { uninstallCluster } = await import("./install/uninstall.ts");
    const timeoutS = Number(text(parsed, "timeout") ?? CLUSTER_TIMEOUT_S);
    if (!(timeoutS > 0)) throw new UsageError("--timeout takes seconds", "weir help uninstall");
    using cluster = openCluster(context, "weir help uninstall", parsed);
    return await uninstallCluster(cluster, {
      yes: flag(parsed, "yes"),
      crds: flag(parsed, "crds"),
      timeoutS,
    }, context);
  }
  if (flag(parsed, "crds")) {
    throw new UsageError(
      "--crds is for a cluster: weir uninstall --kubernetes --crds",
      "weir help uninstall",
    );
  }
  if (context.flags.lab !== undefined) {
    throw new UsageError(
      "weir uninstall is for this host's own Weir: remove a lab with weir lab down",
      "weir help lab",
    );
  }
  if (Deno.uid() !== 0) throw new Error("Cannot uninstall: it needs root");
  const instance = text(parsed, "instance") ?? hostInstance();
  if (!/^[a-z0-9][a-z0-9.-]*$/i.test(instance)) {
    throw new UsageError(`--instance is "${instance}": expected a name`, "weir help uninstall");
  }
  const directory = `${context.run.path}/${instance}`;
  const agent = clientOf(context, "agent", { node: instance, instance, directory });
  try {
    await agent.json("/version");
    throw new Error(`Cannot uninstall: the agent of instance "${instance}" runs; stop it first`);
  } catch (error) {
    if (!isUnreachable(error)) throw error;
  } finally {
    agent.close();
  }
  const question =
    `Remove programs, maps, devices and routes of instance "${instance}" from this host? Its workloads lose their network.`;
  if (!flag(parsed, "yes") && context.io.confirm !== undefined && !context.io.confirm(question)) {
    context.io.err("weir: nothing was removed\n");
    return 1;
  }
  const status = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--config",
      CONFIG,
      "-A",
      DATAPATH,
      "uninstall",
      "--instance",
      instance,
    ],
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  if (status.code !== 0) return 1;
  await removeCni(stateDirectory(instance));
  await Deno.remove(directory, { recursive: true }).catch(() => {});
  context.io.out(`Weir's instance "${instance}" is gone from this host\n`);
  return 0;
}

/** What the agent put into the container runtime's directories; the configuration first, so that no pod comes to no plugin. */
async function removeCni(state: string): Promise<void> {
  const record = readCniRecord(state);
  for (const path of record === undefined ? [] : [record.config, record.plugin]) {
    await Deno.remove(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
  await Deno.remove(cniRecordPath(state)).catch(() => {});
  // Deletions that waited are done; a plugin that somebody kept finds no Weir here, and lets its containers go.
  await Deno.remove(`${state}/cni-deletions`, { recursive: true }).catch(() => {});
}

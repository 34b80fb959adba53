/**
 * `weir uninstall`: the datapath's own program removes what it made; it alone knows the kernel.
 *
 * @module
 */
import { flag, parse, text } from "./args.ts";
import { clientOf, isUnreachable } from "./clients.ts";
import { type CommandContext, hostInstance, UsageError } from "./context.ts";

const DATAPATH = new URL("../../datapath/service/main.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Runs the command. */
export async function uninstallCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    instance: { type: "string" },
    yes: { type: "boolean", short: "y" },
  }, "weir help uninstall");
  if (parsed.positionals.length > 0) {
    throw new UsageError("weir uninstall takes no names", "weir help uninstall");
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
  await Deno.remove(directory, { recursive: true }).catch(() => {});
  context.io.out(`Weir's instance "${instance}" is gone from this host\n`);
  return 0;
}

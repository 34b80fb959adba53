/**
 * `weir uninstall`: the datapath's own program removes what it made; it alone knows the kernel.
 *
 * @module
 */
import { parse, text } from "./args.ts";
import { clientOf, isUnreachable } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";

const DATAPATH = new URL("../../datapath/service/main.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Runs the command. */
export async function uninstallCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { instance: { type: "string" } }, "weir help uninstall");
  if (parsed.positionals.length > 0) {
    throw new UsageError("weir uninstall takes no names", "weir help uninstall");
  }
  if (Deno.uid() !== 0) throw new Error("Cannot uninstall: it needs root");
  const instance = text(parsed, "instance") ?? "host";
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

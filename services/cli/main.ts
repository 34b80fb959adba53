/**
 * The command `weir`: finds the command's function, gives it its context, turns errors into exit codes.
 *
 * @module
 */
import { takeGlobalFlags } from "./args.ts";
import { COMMANDS, help, unknownCommand } from "./commands.ts";
import { CommandContext, processIo, UsageError } from "./context.ts";
import { describeError, isWrongUsage } from "./errors.ts";
import { showOn } from "./output.ts";
import { processScreen } from "./screen.ts";

const io = processIo();
showOn(processScreen());

/** Runs one command line and answers its exit code. */
async function main(words: string[]): Promise<number> {
  const { flags, rest } = takeGlobalFlags(words);
  const [name, ...args] = rest;
  const alias = { "--help": "help", "-h": "help", "--version": "version" }[name ?? "help"] ?? name ?? "help";
  if (!Object.hasOwn(COMMANDS, alias)) throw unknownCommand(alias);
  const command = COMMANDS[alias];
  const end = args.indexOf("--");
  if ((end < 0 ? args : args.slice(0, end)).some((word) => word === "--help" || word === "-h")) {
    io.out(help(alias));
    return 0;
  }
  const run = await command.load(), context = new CommandContext(io, flags);
  if (flags.kubernetes === undefined || command.kubernetes === "itself") return await run(args, context);
  if (command.kubernetes === undefined) {
    throw new UsageError(`weir ${alias} is not for a cluster of Kubernetes`, `weir help ${alias}`);
  }
  const { onCluster } = await import("./cluster_context.ts");
  return await onCluster(context, `weir help ${alias}`, (cluster) => run(args, cluster));
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  if (error instanceof UsageError) {
    io.err(`weir: ${error.message}\n${error.hint === undefined ? "" : `See: ${error.hint}\n`}`);
    Deno.exit(2);
  }
  io.err(`weir: ${describeError(error)}\n`);
  Deno.exit(isWrongUsage(error) ? 2 : 1);
}

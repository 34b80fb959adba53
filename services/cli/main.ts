/**
 * The command `weir`: finds the command's function, gives it its context, turns errors into exit codes.
 *
 * @module
 */
import { takeGlobalFlags } from "./args.ts";
import { COMMANDS, help } from "./commands.ts";
import { CommandContext, processIo, UsageError } from "./context.ts";
import { describeError, isWrongUsage } from "./errors.ts";

const io = processIo();

/** Runs one command line and answers its exit code. */
async function main(words: string[]): Promise<number> {
  const { flags, rest } = takeGlobalFlags(words);
  const [name, ...args] = rest;
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    io.out(help(args[0]));
    return 0;
  }
  if (name === "version" || name === "--version") {
    const { WEIR_VERSION } = await import("@weir/common");
    io.out(`weir ${WEIR_VERSION} (deno ${Deno.version.deno})\n`);
    return 0;
  }
  const command = COMMANDS[name];
  if (command === undefined) throw new UsageError(`Unknown command "${name}"`, "weir help");
  const end = args.indexOf("--");
  if ((end < 0 ? args : args.slice(0, end)).some((word) => word === "--help" || word === "-h")) {
    io.out(help(name));
    return 0;
  }
  const run = await command.load();
  return await run(args, new CommandContext(io, flags));
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

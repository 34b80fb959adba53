/** `weir observe` in this process. @module */
import { CommandContext } from "../../services/cli/context.ts";
import { describeError, isWrongUsage } from "../../services/cli/errors.ts";
import { observeCommand } from "../../services/cli/observe/command.ts";

/** How it ended, and what it said. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** `weir observe ARGS`, with `--server` where there is one. */
export async function weirObserveAt(server: string, ...args: string[]): Promise<Ran> {
  let out = "", err = "";
  const context = new CommandContext({
    out: (text) => out += text,
    err: (text) => err += text,
    terminal: false,
    readStdin: () => Promise.resolve(""),
    interrupted: new AbortController().signal,
  }, { server });
  try {
    const code = await observeCommand(args, context);
    return { code, out, err };
  } catch (error) {
    const code = (error as Error).name === "UsageError" || isWrongUsage(error) ? 2 : 1;
    return { code, out, err: err + describeError(error) };
  }
}

/** `weir observe ARGS` where no server is to be asked. */
export const weirObserve = (...args: string[]): Promise<Ran> =>
  weirObserveAt("unix:/nonexistent/weir.sock", ...args);

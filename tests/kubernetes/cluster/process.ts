/** Commands with a deadline, and waiting with one. @module */

/** What a command said and how it ended. */
export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** A command that ended with another exit code than 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";

  constructor(readonly words: readonly string[], readonly ran: Ran) {
    const said = `${ran.err}${ran.out}`.trim().slice(-2000);
    super(`Cannot run ${words.join(" ").slice(0, 300)}: exit ${ran.code}${said && `\n${said}`}`);
  }
}

export interface RunOptions {
  /** Default: none. */
  stdin?: string;
  /** The command is killed after them; exit code 124. Default 120. */
  seconds?: number;
  directory?: string;
  env?: Record<string, string>;
}

/** Runs a command to its end; every exit code is an answer. */
export async function run(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { stdin, seconds = 120, directory, env } = options;
  const child = new Deno.Command(words[0], {
    args: words.slice(1),
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    cwd: directory,
    env,
  }).spawn();
  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, seconds * 1000);
  try {
    if (stdin !== undefined) {
      const writer = child.stdin.getWriter();
      // A command that ends before it has read everything says why by its exit code.
      await writer.write(new TextEncoder().encode(stdin)).then(() => writer.close()).catch(() => {});
    }
    const { code, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    const err = decoder.decode(stderr) + (late ? `no end within ${seconds} s` : "");
    return { code: late ? 124 : code, out: decoder.decode(stdout), err };
  } finally {
    clearTimeout(deadline);
  }
}

/**
 * Runs a command that must end with 0.
 * @returns what it wrote to its standard output
 * @throws {CommandError}
 */
export async function ok(words: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(words, options);
  if (ran.code !== 0) throw new CommandError(words, ran);
  return ran.out;
}

/** Runs a command with this process's own standard streams; what interrupts this process is the command's to obey. */
export async function passThrough(words: readonly string[], env?: Record<string, string>): Promise<number> {
  const child = new Deno.Command(words[0], {
    args: words.slice(1),
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
    env,
  }).spawn();
  const forward = (signal: Deno.Signal) => () => {
    try {
      child.kill(signal);
    } catch { /* it has ended */ }
  };
  // A terminal's interrupt reaches both; the command decides when both end.
  const handlers: [Deno.Signal, () => void][] = [["SIGINT", () => {}], ["SIGTERM", forward("SIGTERM")]];
  for (const [signal, handler] of handlers) Deno.addSignalListener(signal, handler);
  const { code } = await child.status;
  for (const [signal, handler] of handlers) Deno.removeSignalListener(signal, handler);
  return code;
}

export interface WaitOptions {
  /** Default 120. */
  seconds?: number;
  /** Default 100. */
  everyMs?: number;
  /** Why it is in vain to wait longer; undefined while it is not. */
  inVain?: () => Promise<string | undefined>;
}

/**
 * Tries until it holds.
 * @param what is waited for, as the error says it
 * @param condition may throw: that is as false, and the last error is told
 * @throws when it does not hold within `seconds`, or will not
 */
export async function waitFor(
  what: string,
  condition: () => Promise<boolean> | boolean,
  { seconds = 120, everyMs = 100, inVain }: WaitOptions = {},
): Promise<void> {
  const deadlineMs = performance.now() + seconds * 1000;
  let why = "";
  do {
    try {
      if (await condition()) return;
      why = "";
    } catch (error) {
      why = `: ${(error as Error).message}`;
    }
    const vain = await inVain?.();
    if (vain !== undefined) throw new Error(`Cannot wait longer for ${what}: ${vain}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  } while (performance.now() < deadlineMs);
  throw new Error(`Cannot wait longer for ${what}: ${seconds} s have gone by${why}`);
}

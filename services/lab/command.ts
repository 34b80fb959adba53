/**
 * Running programs of the host: `ip`, `nsenter`.
 *
 * @module
 */

/** A program that ended with an exit code other than 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  constructor(readonly command: string, readonly exitCode: number, readonly stderr: string) {
    super(`${command}: exit code ${exitCode}: ${stderr.trim() || "no message"}`);
  }
}

/** Runs a program to its end and answers its stdout. `input` goes to its stdin. */
export async function run(program: string, args: string[], input?: string): Promise<string> {
  const child = new Deno.Command(program, {
    args,
    stdin: input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  if (input !== undefined) {
    const writer = child.stdin.getWriter();
    // A program that fails early closes its stdin; its exit code tells more than the broken pipe.
    await writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  }
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new CommandError([program, ...args].join(" "), code, decoder.decode(stderr));
  return decoder.decode(stdout);
}

/** Runs lines of `ip` commands in one process; stops at the first that fails. */
export async function ipBatch(lines: string[], netns?: string): Promise<void> {
  if (lines.length === 0) return;
  const where = netns === undefined ? [] : ["-n", netns];
  await run("ip", [...where, "-batch", "-"], lines.join("\n") + "\n");
}

/** Words that run a command in a network namespace while /sys and every mount stay the host's. */
export function enter(netns: string, command: string[]): string[] {
  return ["nsenter", `--net=/run/netns/${netns}`, "--", ...command];
}

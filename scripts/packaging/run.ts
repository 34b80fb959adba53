/** Programs that building needs. @module */

/** A program that is missing or failed, with its last words. */
export class ProgramError extends Error {
  override readonly name = "ProgramError";
}

/** Runs a program and answers what it printed. @throws {ProgramError} */
export async function run(words: readonly string[], directory?: string): Promise<string> {
  const [program, ...args] = words;
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, { args, cwd: directory, stdin: "null" }).output();
  } catch (cause) {
    throw new ProgramError(`Cannot run ${program}: ${(cause as Error).message}`, { cause });
  }
  if (output.success) return new TextDecoder().decode(output.stdout);
  const last = new TextDecoder().decode(output.stderr).trim().split("\n").slice(-5).join("\n");
  throw new ProgramError(`Cannot run ${words.join(" ")}: ${last || `exit code ${output.code}`}`);
}

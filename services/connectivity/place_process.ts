/** The program of traffic as a process in a place. @module */
import { type PlaceProgram, TargetError } from "./target.ts";

/** The program, for `deno run`. */
export const PROBER = new URL("./prober.ts", import.meta.url).pathname;

/** What the program is run with. */
export const PROBER_FLAGS = [
  ...["--quiet", "--no-config", "--no-lock", "--no-prompt", "--allow-net", "--allow-run=ping,ip"],
];

/** Words that run the program: `serve NAME PORT/PROTOCOL...`, `send` or `mtu`. */
export function proberWords(...words: string[]): string[] {
  return [Deno.execPath(), "run", ...PROBER_FLAGS, PROBER, ...words];
}

/** Ends with us, also where we are killed. */
const WITH_US = ["setpriv", "--pdeathsig", "KILL"];
const STDERR_LENGTH_MAX = 2000;

/** A process of the program in a place of this machine. */
export class PlaceProcess implements PlaceProgram {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  /** Its last words on stderr. */
  stderr = "";

  /** @param enter words that run a program in the place */
  constructor(enter: readonly string[], words: readonly string[]) {
    const [program, ...args] = [...WITH_US, ...enter, ...proberWords(...words)];
    this.#process = new Deno.Command(program, { args, stdin: "piped", stdout: "piped", stderr: "piped" })
      .spawn();
    this.#input = this.#process.stdin.getWriter();
    void this.#readErrors();
  }

  get output(): AsyncIterable<Uint8Array<ArrayBuffer>> {
    return this.#process.stdout;
  }

  async write(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  async #readErrors(): Promise<void> {
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      this.stderr = (this.stderr + text).slice(-STDERR_LENGTH_MAX);
    }
  }

  async stop(): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#process.status;
  }
}

/** Waits until a program that answers does so. @throws {TargetError} it cannot */
export async function serving(server: PlaceProgram, ports: readonly string[]): Promise<PlaceProgram> {
  const { done } = await server.output[Symbol.asyncIterator]().next();
  if (!done) return server;
  await server.stop();
  throw new TargetError(`Cannot answer on ${ports.join(", ")}: ${server.stderr.trim().split("\n")[0]}`);
}

/** A program that runs in a pod, by the API server. @module */
import type { ApiClient, ExecProgram, ExecSession } from "@weir/kubernetes/api";
import type { PlaceProgram } from "../target.ts";

/** Where images of Weir have their own deno; others have it in their PATH. */
export const PROGRAM_PATH = "/usr/lib/weir/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** A busy API server may take so long to begin. */
const BEGIN_MS_MAX = 30_000;

/**
 * Words that run one of our programs where only deno is: its text goes along, so that it is the one that belongs to this
 * command, whatever version the image has. The program imports nothing.
 */
export async function sentAlong(path: string, flags: readonly string[]): Promise<string[]> {
  const bytes = await Deno.readFile(path);
  const deno = ["env", `PATH=${PROGRAM_PATH}`, "DENO_DIR=/tmp/weir-test", "DENO_NO_UPDATE_CHECK=1", "deno"];
  return [...deno, "run", ...flags, `data:application/typescript;base64,${bytes.toBase64()}`];
}

/** A program in a container: it begins at once, and ends with its input, when it is stopped. */
export class PodProgram implements PlaceProgram {
  readonly #session: Promise<ExecSession>;
  readonly #stop = new AbortController();
  #stderr = () => "";

  constructor(client: ApiClient, program: ExecProgram) {
    this.#session = client.exec(program, { deadlineMs: BEGIN_MS_MAX, signal: this.#stop.signal });
    this.#session.then((session) => void (this.#stderr = () => session.stderr), () => {});
  }

  get output(): AsyncIterable<Uint8Array<ArrayBuffer>> {
    return outputOf(this.#session);
  }

  get stderr(): string {
    return this.#stderr();
  }

  async write(text: string): Promise<void> {
    (await this.#session).write(new TextEncoder().encode(text));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#session.then((session) => session.close(), () => {});
  }
}

async function* outputOf(session: Promise<ExecSession>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  yield* (await session).stdout;
}

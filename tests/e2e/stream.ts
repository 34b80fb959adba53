/**
 * A TCP stream out of a pod that goes on until it is stopped, and says what it sees.
 * @module
 */
import type { Lab } from "./weir.ts";

const program = new URL("testdata/stream.py", import.meta.url).pathname;
const weir = new URL("../../scripts/weir", import.meta.url).pathname;

/** A TCP stream out of a pod that goes on until it is stopped, and says what it sees. End it with `await using`. */
export class PodStream {
  /** Everything it printed: numbers that grow, "silent" for two seconds without an answer, "closed". */
  said = "";
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #reading: Promise<void>;

  constructor(lab: Lab, pod: string, address: string, port: number) {
    this.#child = new Deno.Command(weir, {
      args: ["--lab", lab.name, "lab", "exec", pod, "--", "python3", program, address, `${port}`],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reader = this.#child.stdout.getReader();
    this.#reading = this.#read();
  }

  /** How many answers have come. */
  get count(): number {
    return Number(this.said.trim().split("\n").findLast((l) => /^\d+$/.test(l))) || 0;
  }

  /** True once an answer stayed away or the connection ended. */
  get stopped(): boolean {
    return /silent|closed/.test(this.said);
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      this.said += decoder.decode(value, { stream: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The program in the pod ends when nobody reads it any more.
    await this.#reader.cancel();
    try {
      this.#child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await this.#child.status;
    await this.#reading;
  }
}

/**
 * The sending program of one place, for as long as the scenarios run. @module
 */
import type { PlaceProgram } from "./target.ts";
import { linesOf } from "./lines.ts";
import type { Probe, ProbeResult } from "./traffic.ts";

/** How long the program may take beyond what a probe takes: on a busy machine it begins late. */
const PATIENCE_MS = 30_000;

/** Sends probes from one place. */
export class Sender {
  readonly #program: PlaceProgram;
  readonly #waiting = new Map<number, (result: ProbeResult) => void>();
  #next = 1;
  #over: string | undefined;

  /** @param program that sends */
  constructor(program: PlaceProgram) {
    this.#program = program;
    void this.#read();
  }

  /** Sends one probe. Never rejects: a program that is gone or hangs is an error of the probe. */
  async send(probe: Omit<Probe, "id">): Promise<ProbeResult> {
    const id = this.#next++;
    if (this.#over !== undefined) return failure(id, this.#over);
    const came = new Promise<ProbeResult>((resolve) => this.#waiting.set(id, resolve));
    const late = setTimeout(
      () => this.#waiting.get(id)?.(failure(id, "the program that sends does not answer")),
      probe.timeoutMs + PATIENCE_MS,
    );
    try {
      await this.#program.write(JSON.stringify({ ...probe, id }) + "\n");
      return await came;
    } catch (error) {
      return failure(id, (error as Error).message);
    } finally {
      clearTimeout(late);
      this.#waiting.delete(id);
    }
  }

  async #read(): Promise<void> {
    let why = "";
    try {
      for await (const line of linesOf(this.#program.output)) {
        if (!line.startsWith("{")) continue;
        const result = JSON.parse(line) as ProbeResult;
        this.#waiting.get(result.id)?.(result);
      }
    } catch (error) {
      why = (error as Error).message;
    }
    this.#over = `the program that sends has ended: ${this.#program.stderr.trim().split("\n")[0] || why}`;
    for (const [id, resolve] of this.#waiting) resolve(failure(id, this.#over));
  }

  /** Ends the program. */
  async stop(): Promise<void> {
    await this.#program.stop();
  }
}

function failure(id: number, detail: string): ProbeResult {
  return { id, outcome: "error", detail, by: "", seenFrom: "", seenPort: 0, localPort: 0, elapsedMs: 0 };
}

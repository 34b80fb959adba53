/**
 * The real `hubble` command: as a client of a node, and offline, where its own filters and printers judge flows from a file.
 * @module
 */
import assert from "node:assert/strict";
import { run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";

/** Where it is when it was built. */
export const HUBBLE = new URL("../../.build/hubble/hubble", import.meta.url).pathname;

export const RELAY = new URL("../../.build/hubble/hubble-relay", import.meta.url).pathname;

/** Whether the clients were built: tests/hubble/build-client does. */
export const isBuilt: boolean = (() => {
  try {
    return [HUBBLE, RELAY].every((path) => Deno.statSync(path).isFile);
  } catch {
    return false;
  }
})();
if (!isBuilt) {
  console.log(
    "SKIP tests/hubble: no clients: tests/hubble/build-client builds them (it needs the network once)",
  );
}

/** `hubble ...` against a server; it must end with 0. */
export async function hubble(server: string, ...args: string[]): Promise<string> {
  const ran = await run(HUBBLE, [...args, "--server", server, "--config", "/dev/null"]);
  assert.equal(ran.code, 0, `hubble ${args.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return ran.out;
}

/** The same, and it must be refused: what it says. */
export async function refused(server: string, ...args: string[]): Promise<string> {
  const ran = await run(HUBBLE, [...args, "--server", server, "--config", "/dev/null"]);
  assert.notEqual(ran.code, 0, `hubble ${args.join(" ")} is not refused:\n${ran.out}`);
  return ran.err;
}

/** `hubble observe ... --input-file FILE`: the client's own filters over a file of flows. */
export async function offline(file: string, ...args: string[]): Promise<string> {
  const ran = await run(HUBBLE, ["observe", ...args, "--input-file", file, "--config", "/dev/null"]);
  assert.equal(ran.code, 0, `hubble observe ${args.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return ran.out;
}

/** `hubble ...` that goes on until it is told to end. */
export class Following implements AsyncDisposable {
  said = "";
  /** What it says of nodes, and of troubles. */
  warned = "";
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<unknown>;

  constructor(server: string, ...args: string[]) {
    this.#child = new Deno.Command(HUBBLE, {
      args: [...args, "--server", server, "--config", "/dev/null"],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { stdout, stderr } = this.#child;
    this.#reading = Promise.all([
      this.#read(stdout, (text) => this.said += text),
      this.#read(stderr, (text) => this.warned += text),
    ]);
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>, take: (text: string) => void): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
  }

  /** Waits until it has said this. */
  async until(what: RegExp): Promise<void> {
    await this.#until(what, () => this.said);
  }

  /** Waits until it has warned of this. */
  async untilWarned(what: RegExp): Promise<void> {
    await this.#until(what, () => this.warned);
  }

  async #until(what: RegExp, said: () => string): Promise<void> {
    await until(() => `it says ${what}:\n${said().slice(-4000)}`, () => what.test(said()), 100);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGINT");
    await this.#child.status;
    await this.#reading;
  }
}

/**
 * Load for the tests of the L7 proxy's faults: connections that are kept and asked on while rules and processes change, and flows without L7 rules
 * beside them that must not notice.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { program } from "../e2e/service.ts";
import { PodStream } from "../e2e/stream.ts";
import type { Lab } from "../e2e/weir.ts";
import { addressOf, Attempts, pod } from "./faulty_lab.ts";

/** Where web is asked, on the node of everybody here, and by how many connections. */
export const PORT = 8080, NODE = "node-1", CONNECTIONS = 24;

/** Who is asked by L7 rules. */
export const WEB: string = pod("web", 1, `python3, "${program("http_server.py")}", "${PORT}"`);

/** And who without, and who asks. */
export const L7_CAST: string = [
  WEB,
  pod("server-1", 1, `python3, "${program("server.py")}", "80/TCP"`),
  pod("client-1", 1),
  pod("client-2", 1),
].join("---\n");

/** Lets clients ask web for one path alone. */
export function allows(path: string): string {
  return "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web, namespace: default }\n" +
    "spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }], " +
    `toPorts: [{ ports: [{ port: "${PORT}", protocol: TCP }], rules: { http: [{ path: '${path}' }] } }] }] }\n`;
}

/** What http_load.py has seen. */
interface Seen {
  phase: string;
  seen: Record<string, number>;
  ended: number[];
  refused: number;
  failed: number;
  silent: number;
  open: number;
  wrong: string[];
}

/** Connections from client-1 to web that are kept and asked on. */
export class Load implements AsyncDisposable {
  now: Seen = { phase: "", seen: {}, ended: [], refused: 0, failed: 0, silent: 0, open: 0, wrong: [] };
  #phase = 0;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;

  private constructor(lab: Lab, address: string) {
    const words = ["python3", program("http_load.py"), address, `${PORT}`, `${CONNECTIONS}`];
    this.#child = inPod(lab, "default/client-1", words);
    this.#writer = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  static async begin(lab: Lab): Promise<Load> {
    return new Load(lab, await addressOf(lab, "web", NODE));
  }

  async #read(): Promise<void> {
    let text = "";
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      if (lines.length > 0) this.now = JSON.parse(lines.at(-1)!);
    }
  }

  /** From here on requests are counted by themselves. @returns what was answered to them so far, by path and status */
  async phase(): Promise<() => Record<string, number>> {
    const phase = `${++this.#phase}`;
    await this.#writer.write(new TextEncoder().encode(`${phase}\n`));
    await until("the load has heard", () => this.now.phase === phase, 50);
    return () => {
      const own = Object.entries(this.now.seen).filter(([key]) => key.startsWith(`${phase} `));
      return Object.fromEntries(own.map(([key, count]) => [key.slice(phase.length + 1), count]));
    };
  }

  /** Waits until every connection is open and was asked some more, and asserts that `path` alone was answered, and rightly. */
  async isJudged(path: string, when: string): Promise<void> {
    const answers = await this.phase(), other = path === "/a" ? "/b" : "/a";
    const expected = [`${path} 200`, `${other} 403`].sort();
    await until(
      () => `every connection goes on ${when}: ${JSON.stringify(this.now)}`,
      () =>
        this.now.open === CONNECTIONS &&
        expected.every((key) => (answers()[key] ?? 0) >= CONNECTIONS),
    );
    this.holds(when);
    assert.deepEqual(Object.keys(answers()).sort(), expected, when);
  }

  holds(when: string): void {
    assert.deepEqual(this.now.wrong, [], `an answer to something else ${when}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    try {
      this.#child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await this.#child.status;
    await this.#reading;
  }
}

/** Connections from client-2 to web that are opened at once, asked once, and kept. */
export class Hog implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<string>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  static async begin(lab: Lab, count: number): Promise<Hog> {
    const address = await addressOf(lab, "web", NODE);
    const words = ["python3", program("connection_hog.py"), address, `${PORT}`, `${count}`];
    return new Hog(inPod(lab, "default/client-2", words));
  }

  /** What became of them, when the last one has been tried. */
  async seen(): Promise<{ denied: number; refused: number; failed: number }> {
    let text = "";
    while (!text.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`Cannot read what the connections met: ${JSON.stringify(text)}`);
      text += value;
    }
    return JSON.parse(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close();
    await this.#reader.cancel();
    await this.#child.status;
  }
}

/** A program in a pod, whose output is read. */
function inPod(lab: Lab, pod: string, words: string[]): Deno.ChildProcess {
  const weir = new URL("../../scripts/weir", import.meta.url).pathname;
  return new Deno.Command(weir, {
    args: ["--lab", lab.name, "lab", "exec", pod, "--", ...words],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** A stream and new connections to where no L7 rule is. */
export class Plain implements AsyncDisposable {
  private constructor(readonly stream: PodStream, readonly attempts: Attempts) {}

  static async begin(lab: Lab): Promise<Plain> {
    const address = await addressOf(lab, "server-1", NODE);
    return new Plain(
      new PodStream(lab, "default/client-1", address, 80),
      new Attempts(lab, "client-1", address, 20),
    );
  }

  async goesOn(when: string): Promise<void> {
    const { count } = this.stream, made = this.attempts.made.length;
    await until(
      `flows without L7 rules go on ${when}`,
      () => this.stream.count > count + 3 && this.attempts.made.length > made + 2,
    );
    assert.equal(this.stream.stopped, false, `the stream stopped ${when}`);
    assert.match(this.attempts.made, /^y*$/, when);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.stream, this.attempts].map((each) => each[Symbol.asyncDispose]()));
  }
}

/** Ends of UDP flows in a cluster: a socket that sends what it is told, and says what it hears. @module */
import type { Cluster, Place } from "./cluster.ts";

const SCRIPT = `
import socket, sys, threading
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
def hear():
    while True:
        data, (address, port, *_) = s.recvfrom(65535)
        text = data.decode()
        print(address.removeprefix("::ffff:"), port, text if len(text) < 100 else len(text), flush=True)
threading.Thread(target=hear, daemon=True).start()
print("open", flush=True)
for line in sys.stdin:
    address, port, text = line.strip().split(" ")
    if text.startswith("*"):
        text = "x" * int(text[1:])
    try: s.sendto(text.encode(), (address if ":" in address else "::ffff:" + address, int(port)))
    except OSError as error: print("error", error.errno, error, flush=True)
`;
const HEAR_MS_MAX = 120_000;

/** A socket at a place and port. */
export class DatagramEnd implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #read = "";

  private constructor(cluster: Cluster, process: Deno.ChildProcess) {
    this.#cluster = cluster;
    this.#process = process;
    this.#writer = process.stdin.getWriter();
    this.#reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  static async open(cluster: Cluster, place: Place, port: number): Promise<DatagramEnd> {
    const process = new Deno.Command("ip", {
      args: ["netns", "exec", cluster.netns(place), "python3", "-c", SCRIPT, `${port}`],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const end = new DatagramEnd(cluster, process);
    const line = await end.hears();
    if (line !== "open") throw new Error(`No socket at ${place}: ${line}`);
    return end;
  }

  /** `text`: one word; "*N": N bytes. */
  async send(to: string, port: number, text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${to} ${port} ${text}\n`));
  }

  /** What it hears next: sender's address, port, and the text, or the length of a long one. */
  async hears(): Promise<string> {
    const timer = setTimeout(() => this.#end(), HEAR_MS_MAX);
    try {
      while (!this.#read.includes("\n")) {
        const { value } = await this.#reader.read();
        if (value === undefined) throw new Error(`Nothing was heard: ${this.#cluster.drops()}`);
        this.#read += value;
      }
    } finally {
      clearTimeout(timer);
    }
    const line = this.#read.slice(0, this.#read.indexOf("\n"));
    this.#read = this.#read.slice(line.length + 1);
    return line;
  }

  #end(): void {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    await this.#process.status;
    await this.#reader.cancel();
  }
}

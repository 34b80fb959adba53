/** Connections whose ends say something when they are told to. @module */
import assert from "node:assert/strict";
import type { Cluster, Place } from "./cluster.ts";
import { PORT } from "./redirect_bed.ts";

/** A connection that says something when told, and hears the answer. */
export class Talker {
  private constructor(
    readonly process: Deno.ChildProcess,
    readonly writer: WritableStreamDefaultWriter<Uint8Array>,
    readonly reader: ReadableStreamDefaultReader<string>,
  ) {}
  static async open(cluster: Cluster, place: Place, to: string): Promise<Talker> {
    const script = `
import queue, socket, struct, sys, threading
lines = queue.Queue()
s = socket.create_connection(("${to}", ${PORT}), 20)
print("open", flush=True)
def hurry():
    for line in sys.stdin:
        if line == "hurry\\n":
            try: s.sendall(b"hello?")
            except OSError: pass # who waits for the answer says so
        else: lines.put(line)
    lines.put(None)
threading.Thread(target=hurry, daemon=True).start()
for line in iter(lines.get, None):
    if line == "reset\\n":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        continue
    try:
        s.settimeout(float(line))
        s.sendall(b"hello?")
        print(s.recv(1000).decode().strip() or "error 0 closed", flush=True)
    except OSError as error:
        print("error", error.errno, error, flush=True)
`;
    const process = new Deno.Command("ip", {
      args: ["netns", "exec", cluster.netns(place), "python3", "-c", script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const talker = new Talker(
      process,
      process.stdin.getWriter(),
      process.stdout.pipeThrough(new TextDecoderStream()).getReader(),
    );
    assert.equal(await talker.#line(), "open");
    return talker;
  }
  async say(patience = 20): Promise<string> {
    await this.writer.write(new TextEncoder().encode(`${patience}\n`));
    return await this.#line();
  }
  /** Says it once more, while it waits for the answer. */
  async hurry(): Promise<void> {
    await this.writer.write(new TextEncoder().encode("hurry\n"));
  }
  /** Ends it with a RST. */
  async reset(): Promise<void> {
    await this.writer.write(new TextEncoder().encode("reset\n"));
  }
  async #line(): Promise<string> {
    let text = "";
    while (!text.endsWith("\n")) {
      const { value } = await this.reader.read();
      if (value === undefined) break;
      text += value;
    }
    return text.trim();
  }
  async close(): Promise<void> {
    await this.writer.close();
    await this.process.status;
    await this.reader.cancel();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A server that says something only when told, on its newest connection. */
export class Speaker implements AsyncDisposable {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #read = "";
  private constructor(readonly process: Deno.ChildProcess) {
    this.#writer = process.stdin.getWriter();
    this.#reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }
  static async open(cluster: Cluster, place: Place): Promise<Speaker> {
    const script = `
import socket, struct, sys, threading, time
server = socket.create_server(("::", ${PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
newest = None
ended = set()
def hear(connection):
    connection.settimeout(0.05)
    try:
        while connection not in ended:
            try:
                if not connection.recv(1000): return
            except TimeoutError: pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    except OSError as error:
        print("error", error.errno, error, flush=True)
def accept():
    global newest
    while True:
        connection, _ = server.accept()
        newest = connection
        threading.Thread(target=hear, args=(connection,), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
print("open", flush=True)
for line in sys.stdin:
    while newest is None: time.sleep(0.01) # accept() may be late
    try:
        if line == "reset\\n": ended.add(newest)
        else: newest.sendall(b"hello")
    except OSError: pass # hear() says so
`;
    const process = new Deno.Command("ip", {
      args: ["netns", "exec", cluster.netns(place), "python3", "-c", script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const speaker = new Speaker(process);
    assert.equal(await speaker.hears(), "open");
    return speaker;
  }
  async say(): Promise<void> {
    await this.#writer.write(new TextEncoder().encode("\n"));
  }
  /** Ends it with a RST. */
  async reset(): Promise<void> {
    await this.#writer.write(new TextEncoder().encode("reset\n"));
  }
  /** What its connections came to, next. */
  async hears(): Promise<string> {
    while (!this.#read.includes("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) return this.#read;
      this.#read += value;
    }
    const line = this.#read.slice(0, this.#read.indexOf("\n"));
    this.#read = this.#read.slice(line.length + 1);
    return line;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    await this.process.status;
    await this.#reader.cancel();
  }
}

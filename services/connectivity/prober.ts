/**
 * The program that scenarios run in pods, on nodes and outside. `serve NAME 8080/TCP 8080/UDP` answers everybody with its name
 * and the address that it sees; `send` reads probes from stdin, a line of JSON each, sends them at once and prints a line for
 * each as it ends; `mtu` prints how many bytes go through its devices at once. It imports nothing of Weir: it starts in the time of the runtime alone.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { connect, createServer, type Socket } from "node:net";
import type { Probe, ProbeResult } from "./traffic.ts";

/** Longest line that is read; a probe has some hundred characters. */
const LINE_LENGTH_MAX = 4096;
const REPEAT_MS = 400;
const HEADERS_V4_BYTES = 28, HEADERS_V6_BYTES = 48;

/** An IPv4 address that came to a socket of both families, as it is written elsewhere. */
const plain = (address: string | undefined) => (address ?? "").replace(/^::ffff:(?=\d+\.)/, "");

/** Answers on these ports until the process ends. */
export async function serve(name: string, ports: readonly string[]): Promise<void> {
  await Promise.all(ports.map((text) => {
    const [port, protocol] = text.split("/");
    return protocol === "UDP" ? serveUdp(name, Number(port)) : serveTcp(name, Number(port));
  }));
}

function serveTcp(name: string, port: number): Promise<void> {
  const server = createServer((socket: Socket) => {
    let line = "";
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Uint8Array) => {
      line += new TextDecoder().decode(chunk);
      if (line.length > LINE_LENGTH_MAX) socket.destroy();
      if (!line.includes("\n")) return;
      const bytes = Math.min(8 << 20, Number(line) || 0);
      const head = `${name} ${plain(socket.remoteAddress)} ${socket.remotePort}\n`;
      socket.end(head + ".".repeat(Math.max(0, bytes - head.length)));
    });
  });
  return listening(() => server.listen({ port, host: "::" }), server);
}

function serveUdp(name: string, port: number): Promise<void> {
  const socket = createSocket("udp6");
  socket.on("message", (_, { address, port }) => {
    socket.send(`${name} ${plain(address)} ${port}\n`, port, address);
  });
  return listening(() => socket.bind(port, "::"), socket);
}

function listening(
  start: () => void,
  emitter: { once(event: "listening" | "error", run: (error: Error) => void): unknown },
): Promise<void> {
  return new Promise((resolve, reject) => {
    emitter.once("listening", () => resolve());
    emitter.once("error", reject);
    start();
  });
}

type Came = Pick<ProbeResult, "outcome"> & Partial<ProbeResult>;

/** Sends one probe; never rejects. */
export async function send(probe: Probe): Promise<ProbeResult> {
  const startedMs = performance.now();
  const senders = { TCP: tcp, UDP: udp, ICMP: icmp };
  const came = await senders[probe.protocol](probe)
    .catch((error: Error): Came => ({ outcome: "error", detail: error.message }));
  const elapsedMs = Math.round(performance.now() - startedMs);
  return { detail: "", by: "", seenFrom: "", seenPort: 0, localPort: 0, ...came, id: probe.id, elapsedMs };
}

/** Who answered, and whom it saw. */
function answer(text: string): Came {
  const [by = "", seenFrom = "", seenPort = "0"] = text.split("\n")[0].split(" ");
  return { outcome: "answered", by, seenFrom, seenPort: Number(seenPort) };
}

function tcp({ address, port, timeoutMs, bytes = 0 }: Probe): Promise<Came> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    let localPort = 0, head = "", received = 0;
    const finish = (came: Came) => {
      clearTimeout(late);
      socket.destroy();
      resolve({ localPort, ...came });
    };
    const late = setTimeout(() => {
      const detail = localPort === 0 ? "" : `connected, and ${received} bytes came`;
      finish({ outcome: "timeout", detail });
    }, timeoutMs);
    socket.once("connect", () => {
      localPort = socket.localPort ?? 0;
      socket.write(`${bytes}\n`);
    });
    socket.on("data", (chunk: Uint8Array) => {
      received += chunk.length;
      if (head.length < 256) head += new TextDecoder().decode(chunk.subarray(0, 256));
    });
    socket.once(
      "end",
      () =>
        received < bytes
          ? finish({ outcome: "error", detail: `${received} of ${bytes} bytes came` })
          : finish(answer(head)),
    );
    socket.once("error", (error: NodeJS.ErrnoException) => finish(failed(error)));
  });
}

function udp({ address, port, timeoutMs }: Probe): Promise<Came> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    let localPort = 0, repeat: ReturnType<typeof setInterval> | undefined;
    const ask = () => socket.send("weir\n");
    const finish = (came: Came) => {
      clearTimeout(late);
      clearInterval(repeat);
      socket.close();
      resolve({ localPort, ...came });
    };
    const late = setTimeout(() => finish({ outcome: "timeout" }), timeoutMs);
    socket.once("message", (message) => finish(answer(new TextDecoder().decode(message))));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(failed(error)));
    socket.connect(port, address, () => {
      localPort = socket.address().port;
      ask();
      // A datagram may be lost for reasons that are no policy. (Until it is connected, which takes its time on a busy machine, the
      // socket cannot send.)
      repeat = setInterval(ask, REPEAT_MS);
    });
  });
}

async function icmp({ address, timeoutMs, bytes }: Probe): Promise<Came> {
  const headers = address.includes(":") ? HEADERS_V6_BYTES : HEADERS_V4_BYTES;
  const size = bytes === undefined ? [] : ["-M", "do", "-s", `${bytes - headers}`];
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command("ping", {
      args: ["-n", "-c", "1", "-W", `${Math.max(1, Math.ceil(timeoutMs / 1000))}`, ...size, address],
      stdin: "null",
    }).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { outcome: "error", detail: "ping is not installed (package iputils-ping)" };
  }
  if (output.code === 0) return { outcome: "answered", seenFrom: await sourceTowards(address) };
  const text = new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
  const said = text.split("\n").find((line) =>
    /unreachable|prohibited|filtered|too (long|large)/i.test(line)
  );
  if (said !== undefined) return { outcome: "unreachable", detail: said.trim() };
  return output.code === 1
    ? { outcome: "timeout" }
    : { outcome: "error", detail: text.trim().split("\n")[0] };
}

/** The address from which this place sends there; "" where it cannot be told. */
async function sourceTowards(address: string): Promise<string> {
  const args = ["-o", "route", "get", address];
  const { stdout } = await new Deno.Command("ip", { args, stdin: "null", stderr: "null" }).output();
  return /\bsrc (\S+)/.exec(new TextDecoder().decode(stdout))?.[1] ?? "";
}

/** The largest packet that the devices take, in bytes; of several the smallest. */
async function mtu(): Promise<number> {
  const args = ["-o", "link", "show", "up"];
  const { stdout } = await new Deno.Command("ip", { args, stdin: "null" }).output();
  const mtus = new TextDecoder().decode(stdout).split("\n").filter((line) => !/^\d+: lo:/.test(line))
    .flatMap((line) => Number(/ mtu (\d+) /.exec(line)?.[1] ?? 0) || []);
  if (mtus.length === 0) throw new Error(`ip ${args.join(" ")} names no device`);
  return Math.min(...mtus);
}

function failed(error: NodeJS.ErrnoException): Came {
  switch (error.code) {
    case "ECONNREFUSED":
      return { outcome: "refused", detail: "nothing listens on the port" };
    case "ETIMEDOUT":
      return { outcome: "timeout" };
    case "ECONNRESET":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EACCES":
    case "EPERM":
      return { outcome: "unreachable", detail: error.code };
    default:
      return { outcome: "error", detail: error.code ?? error.message };
  }
}

async function main([verb, ...words]: string[]): Promise<void> {
  if (verb === "serve") {
    await serve(words[0], words.slice(1));
    console.log("listens");
    return;
  }
  if (verb === "mtu") return console.log(await mtu());
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      void send(JSON.parse(line)).then((result) => console.log(JSON.stringify(result)));
    }
  }
  Deno.exit(0);
}

if (import.meta.main) await main(Deno.args);

/**
 * The program that `weir lab test` runs inside a namespace: reads probes as JSON from stdin, sends real traffic, all
 * at once, and prints one JSON line per probe as it ends.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { connect } from "node:net";

/** One piece of traffic to try. */
export interface Probe {
  readonly index: number;
  readonly protocol: "TCP" | "UDP" | "ICMP";
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

/** What came of it. */
export interface ProbeResult {
  readonly index: number;
  /** answered: the other side took part. refused: it said no by itself. timeout: silence. unreachable: the network said no. */
  readonly outcome: "answered" | "refused" | "timeout" | "unreachable" | "error";
  readonly detail: string;
  readonly elapsedMs: number;
}

/** Sends one probe; never rejects. */
export async function send(probe: Probe): Promise<ProbeResult> {
  const startedMs = performance.now();
  const [outcome, detail] = await senders[probe.protocol](probe).catch((error: Error) =>
    ["error", error.message] as Outcome
  );
  return { index: probe.index, outcome, detail, elapsedMs: Math.round(performance.now() - startedMs) };
}

type Outcome = [ProbeResult["outcome"], string];

const senders: Record<Probe["protocol"], (probe: Probe) => Promise<Outcome>> = {
  TCP: tcp,
  UDP: udp,
  ICMP: icmp,
};

/** Longest time between two datagrams of one probe. */
const REPEAT_MS_MAX = 500;
/** What came while this process had no processor is heard before it counts as silence. */
const GRACE_MS = 20;

/** @returns what cancels it */
function afterSilence(ms: number, run: () => void): () => void {
  let timer = setTimeout(() => {
    timer = setTimeout(run, GRACE_MS);
  }, ms);
  return () => clearTimeout(timer);
}

function tcp(probe: Probe): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = connect({ host: probe.address, port: probe.port });
    const finish = (outcome: Outcome) => {
      heard();
      socket.destroy();
      resolve(outcome);
    };
    const heard = afterSilence(probe.timeoutMs, () => finish(["timeout", ""]));
    socket.once("connect", () => finish(["answered", ""]));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(classify(error)));
  });
}

function udp(probe: Probe): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = createSocket(probe.address.includes(":") ? "udp6" : "udp4");
    const finish = (outcome: Outcome) => {
      heard();
      clearInterval(repeat);
      socket.close();
      resolve(outcome);
    };
    const payload = new TextEncoder().encode("weir probe\n");
    // A datagram may be lost for reasons that are no policy: ask again a few times.
    const repeat = setInterval(
      () => socket.send(payload),
      Math.max(100, Math.min(REPEAT_MS_MAX, probe.timeoutMs / 4)),
    );
    const heard = afterSilence(probe.timeoutMs, () => finish(["timeout", ""]));
    socket.once("message", () => finish(["answered", ""]));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(classify(error)));
    socket.connect(probe.port, probe.address, () => socket.send(payload));
  });
}

async function icmp(probe: Probe): Promise<Outcome> {
  const seconds = Math.max(1, Math.ceil(probe.timeoutMs / 1000));
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command("ping", {
      args: ["-n", "-c", "1", "-W", String(seconds), probe.address],
      stdin: "null",
    }).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return ["error", "ping is not installed (package iputils-ping)"];
    }
    throw error;
  }
  if (output.code === 0) return ["answered", ""];
  const text = new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
  if (/unreachable|prohibited|filtered/i.test(text)) return ["unreachable", text.trim().split("\n")[1] ?? ""];
  return output.code === 1 ? ["timeout", ""] : ["error", text.trim().split("\n")[0]];
}

function classify(error: NodeJS.ErrnoException): Outcome {
  switch (error.code) {
    case "ECONNREFUSED":
      return ["refused", "nothing listens on the port"];
    case "ETIMEDOUT":
      return ["timeout", ""];
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EACCES":
    case "EPERM":
      return ["unreachable", error.code];
    default:
      return ["error", error.code ?? error.message];
  }
}

if (import.meta.main) {
  const probes = JSON.parse(await new Response(Deno.stdin.readable).text()) as Probe[];
  await Promise.all(probes.map(async (probe) => console.log(JSON.stringify(await send(probe)))));
  Deno.exit(0);
}

/**
 * Recorded traffic that policies are tried on: where it comes from, and how much of what happened it is.
 * @module
 */
import type { FlowFileReader, FlowRecorder, LeftOut } from "@weir/policy-engine/recorded";
import { openInput } from "../observe/input_file.ts";
import { type CommandIo, UsageError } from "../context.ts";
import { harmless } from "../harmless_text.ts";

/** What was recorded. */
export interface Traffic {
  readonly recorder: FlowRecorder;
  /** For people: what the record is, and what is not in it. */
  readonly coverage: readonly string[];
  /** The same for programs. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Policies that let recorded connections pass. */
  readonly allowedBy: ReadonlySet<string>;
}

/** The window that is asked about. */
export interface TrafficWindow {
  readonly since: string | undefined;
  readonly until: string | undefined;
}

/** Reads a file of flows, plain or compressed by gzip, or stdin ("-"). @throws {UsageError} it is none, or has nothing of the window */
export async function fileTraffic(path: string, window: TrafficWindow, io: CommandIo): Promise<Traffic> {
  const { FlowFileError, FlowFileReader, FlowRecorder, LEFT_OUT } = await import(
    "@weir/policy-engine/recorded"
  );
  const nowMs = Date.now(), options = { ...await windowOf(window, nowMs), nowMs };
  const recorder = new FlowRecorder(options), reader = new FlowFileReader(recorder);
  const ended = await readBytes(path, (bytes) => reader.push(bytes), io.interrupted).catch((error) => {
    if (!(error instanceof FlowFileError)) throw error;
    throw new UsageError(`Cannot read ${path}: ${error.message}`);
  });
  reader.end();
  if (recorder.flows === 0) {
    const why = reader.faults[0] === undefined ? "there is no flow in it" : reader.faults[0];
    throw new UsageError(
      `Cannot read ${path}: ${harmless(why)}; expected what hubble observe -o jsonpb prints`,
    );
  }
  if (recorder.connections.length === 0) {
    const newest = recorder.lastMs > -Infinity
      ? `, whose newest flow is of ${timeText(recorder.lastMs)}`
      : "";
    throw new UsageError(
      `There is no connection to judge in ${path}${newest}: ${leftOutTexts(recorder, LEFT_OUT).join("; ")}`,
    );
  }
  return {
    recorder,
    coverage: fileCoverage(reader, recorder, LEFT_OUT, ended),
    facts: fileFacts(reader, recorder, ended),
    allowedBy: reader.allowedBy,
  };
}

async function windowOf({ since, until }: TrafficWindow, nowMs: number) {
  const { readTime } = await import("@weir/flow-filter");
  const at = (name: string, text: string) => {
    try {
      const { seconds, nanos } = readTime(name, text, nowMs);
      return seconds * 1000 + nanos / 1e6;
    } catch (error) {
      throw new UsageError((error as Error).message);
    }
  };
  return {
    ...(since === undefined ? {} : { sinceMs: at("since", since) }),
    ...(until === undefined ? {} : { untilMs: at("until", until) }),
  };
}

const GZIP = [0x1f, 0x8b];

/** True: to its end; false: somebody interrupted it. @throws {UsageError} it cannot be read */
async function readBytes(
  path: string,
  take: (bytes: Uint8Array) => void,
  signal: AbortSignal,
): Promise<boolean> {
  let stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  try {
    stream = await openInput(path);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  let reader = stream.getReader();
  const first = await reader.read();
  if (first.done) return true;
  const isPacked = GZIP.every((byte, at) => first.value[at] === byte);
  if (isPacked) {
    reader.releaseLock();
    const packed = stream;
    const whole = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => controller.enqueue(first.value),
      pull: async (controller) => {
        const inner = packed.getReader(), { done, value } = await inner.read();
        inner.releaseLock();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    reader = whole.pipeThrough(new DecompressionStream("gzip")).getReader();
  } else take(first.value);
  const interrupted = new Promise<undefined>((resolve) =>
    signal.addEventListener("abort", () => resolve(undefined), { once: true })
  );
  while (!signal.aborted) {
    let next;
    try {
      next = await Promise.race([reader.read(), interrupted]);
    } catch (error) {
      throw new UsageError(
        `Cannot read ${path}: ${isPacked ? "its gzip is damaged: " : ""}${(error as Error).message}`,
      );
    }
    if (next === undefined) break;
    if (next.done) return true;
    take(next.value);
  }
  await reader.cancel().catch(() => {});
  return false;
}

function fileCoverage(
  reader: FlowFileReader,
  recorder: FlowRecorder,
  words: Readonly<Record<LeftOut, string>>,
  ended: boolean,
): string[] {
  const { firstMs, lastMs, nodes } = recorder;
  const times = firstMs === Infinity ? "without times" : `${timeText(firstMs)} to ${timeText(lastMs)}`;
  const lines = [
    `Record: ${count(recorder.flows)} flows of ${
      nodes.size === 0 ? "unnamed nodes" : numbered(nodes.size, "node")
    }, ${times}; ${count(connectionsOf(recorder))} connections, ${count(recorder.connections.length)} kinds`,
  ];
  if (!ended) lines.push("The record was cut short: reading was interrupted");
  const left = leftOutTexts(recorder, words);
  if (left.length > 0) lines.push(`Left out: ${left.join("; ")}`);
  if (reader.unread > 0) {
    lines.push(
      `Lines that are no flows: ${count(reader.unread)} (${reader.faults.map(harmless).join("; ")}${
        reader.unread > reader.faults.length ? "; ..." : ""
      })`,
    );
  }
  for (const [source, number] of reader.lost) {
    lines.push(
      `Lost before they were recorded (${harmless(source) || "nobody says where"}): ${
        count(number)
      } events; what they were is in no answer`,
    );
  }
  if (reader.away.size > 0) {
    lines.push(
      `Nodes that were away while it was recorded: ${[...reader.away].slice(0, 5).map(harmless).join(", ")}${
        reader.away.size > 5 ? ", ..." : ""
      }`,
    );
  }
  if (recorder.ahead > 0) {
    lines.push(
      `Flows from a time that has not come yet: ${count(recorder.ahead)}; some node's clock is ahead`,
    );
  }
  return lines;
}

function fileFacts(reader: FlowFileReader, recorder: FlowRecorder, ended: boolean): Record<string, unknown> {
  const { firstMs, lastMs, nodes } = recorder;
  return {
    source: "file",
    complete: ended,
    flows: recorder.flows,
    connections: connectionsOf(recorder),
    kinds: recorder.connections.length,
    since: firstMs === Infinity ? null : timeText(firstMs),
    until: firstMs === Infinity ? null : timeText(lastMs),
    nodes: [...nodes.keys()].sort(),
    nodesAway: [...reader.away].sort(),
    leftOut: Object.fromEntries(recorder.leftOut),
    unreadableLines: reader.unread,
    lostEvents: Object.fromEntries(reader.lost),
    flowsAhead: recorder.ahead,
  };
}

/** `12 answers to what is no connection`, most first. */
export function leftOutTexts(
  { leftOut }: { readonly leftOut: ReadonlyMap<string, number> },
  words: Readonly<Record<LeftOut, string>>,
): string[] {
  return [...leftOut].sort(([, a], [, b]) => b - a).map(([reason, number]) =>
    `${count(number)} ${words[reason as LeftOut] ?? harmless(reason)}`
  );
}

/** How many connections were recorded. */
export function connectionsOf({ connections }: FlowRecorder): number {
  return connections.reduce((sum, { passed, denied }) => sum + passed + denied, 0);
}

/** `2026-11-30T10:00:00Z` */
export function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "?" : date.toISOString().replace(/\.\d+Z$/, "Z");
}

/** `1,234` */
export function count(number: number): string {
  return number.toLocaleString("en-US");
}

function numbered(number: number, what: string): string {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

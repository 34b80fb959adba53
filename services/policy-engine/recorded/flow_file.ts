/**
 * A file of flows, as bytes come: lines are cut, read and recorded one after another, and nothing of them is kept but what they say. What
 * cannot be read is counted, and the first of it named with its line.
 *
 * Most of a line is the same again and again, the labels of its ends above all, so a line as Hubble writes it is taken apart first:
 *
 *     {"flow":{"time":..., "l4":{...},"source":{...},"destination":{...},"Type":"L3_L4", ...},"node_name":...}
 *             └──── read anew ───────┘         └─────┘             └────┘└─ looked up by text ─┘
 *
 * @module
 */
import {
  type FlowContext,
  type Json,
  type Line,
  type PolicyName,
  readContext,
  readLine,
  readParts,
} from "./flow_json.ts";
import { readEndFacts, RecordError } from "./recorded_end.ts";
import type { FlowRecorder } from "./recorder.ts";

/** Longest line, in bytes; a longer one is passed over. */
export const LINE_BYTES_MAX = 1 << 20;
/** So many bytes without an end of a line are no file of flows. */
export const ENDLESS_BYTES_MAX = 64 << 20;
/** Faults that are kept with their lines. */
const FAULTS_MAX = 5;
/** Policies that flows name, and kinds of losses. */
const POLICIES_MAX = 10_000, LOSSES_MAX = 100, AWAY_MAX = 1000;
/** Texts of which is known what they say. */
const TEXTS_MAX = 20_000, TEXT_LENGTH_MAX = 4096;
const NEWLINE = 10;
const FLOW = `{"flow":{`, SOURCE = `"source":{`, DESTINATION = `,"destination":{`, AFTER = `,"Type":`;
const END = `},"node_name":`;

/** It is no file of flows. */
export class FlowFileError extends Error {
  override readonly name = "FlowFileError";
}

/** Takes the bytes of a file. */
export class FlowFileReader {
  readonly recorder: FlowRecorder;
  /** Lines that say something else than flows: events of agents. */
  others = 0;
  lines = 0;
  /** Lines that cannot be read, of these the ones that were too long, and the first few with their numbers. */
  unread = 0;
  tooLong = 0;
  readonly faults: string[] = [];
  /** Lost events by where they were lost. */
  readonly lost = new Map<string, number>();
  /** Nodes that the relay said were away. */
  readonly away = new Set<string>();
  /** Policies that let recorded connections pass: `shop/web`. */
  readonly allowedBy = new Set<string>();
  readonly #decoder = new TextDecoder();
  readonly #ends = new KnownTexts((text) => readEndFacts(JSON.parse(text), "flow end"));
  readonly #contexts = new KnownTexts((text) => contextOf(JSON.parse(`{${text}}`)));
  /** The beginning of a line whose end has not come, in a buffer that grows by doubling: a pipe may bring single bytes. */
  #rest = new Uint8Array(1 << 16);
  #restLength = 0;
  /** Bytes of a line that is too long, so far. */
  #skipped = 0;

  constructor(recorder: FlowRecorder) {
    this.recorder = recorder;
  }

  /** Takes more bytes. @throws {FlowFileError} they have no lines */
  push(bytes: Uint8Array): void {
    let from = 0;
    if (this.#skipped > 0 || this.#restLength > 0) {
      const end = bytes.indexOf(NEWLINE);
      this.#keep(end < 0 ? bytes : bytes.subarray(0, end));
      if (end < 0) return;
      this.#endRest();
      from = end + 1;
    }
    const last = bytes.lastIndexOf(NEWLINE);
    if (last >= from) {
      const text = this.#decoder.decode(bytes.subarray(from, last + 1));
      for (let at = 0; at < text.length;) {
        const end = text.indexOf("\n", at);
        if (end - at > LINE_BYTES_MAX) this.#passOver();
        else this.#line(text.slice(at, end));
        at = end + 1;
      }
      from = last + 1;
    }
    if (from < bytes.length) this.#keep(bytes.subarray(from));
  }

  /** Nothing more comes. */
  end(): void {
    this.#endRest();
  }

  #endRest(): void {
    if (this.#skipped > 0) this.#passOver();
    else if (this.#restLength > 0) this.#line(this.#decoder.decode(this.#rest.subarray(0, this.#restLength)));
    this.#skipped = this.#restLength = 0;
  }

  #keep(bytes: Uint8Array): void {
    const length = this.#restLength + bytes.length;
    if (this.#skipped === 0 && length <= LINE_BYTES_MAX) {
      if (length > this.#rest.length) {
        const grown = new Uint8Array(Math.max(length, this.#rest.length * 2));
        grown.set(this.#rest.subarray(0, this.#restLength));
        this.#rest = grown;
      }
      this.#rest.set(bytes, this.#restLength);
      this.#restLength = length;
      return;
    }
    this.#skipped += length;
    this.#restLength = 0;
    if (this.#skipped > ENDLESS_BYTES_MAX) {
      throw new FlowFileError(
        `line ${this.lines + 1} has no end within ${
          ENDLESS_BYTES_MAX >> 20
        } MiB: expected flows, one a line, as hubble observe -o jsonpb prints them`,
      );
    }
  }

  #passOver(): void {
    this.lines++;
    this.tooLong++;
    this.#fault(`longer than ${LINE_BYTES_MAX >> 20} MiB`);
  }

  #fault(why: string): void {
    this.unread++;
    if (this.faults.length < FAULTS_MAX) this.faults.push(`line ${this.lines}: ${why}`);
  }

  #line(text: string): void {
    this.lines++;
    if (text.length < 2 && text.trim() === "") return;
    try {
      const line = this.#fast(text) ?? readLine(JSON.parse(text));
      switch (line.type) {
        case "flow":
          this.recorder.add(line.flow);
          for (const policy of line.allowedBy) this.#noteAllowedBy(policy);
          return;
        case "lost":
          if (this.lost.has(line.source) || this.lost.size < LOSSES_MAX) {
            this.lost.set(line.source, (this.lost.get(line.source) ?? 0) + line.count);
          }
          return;
        case "nodes":
          if (line.state === "NODE_CONNECTED") return;
          for (const name of line.names) if (this.away.size < AWAY_MAX) this.away.add(name);
          return;
        case "other":
          this.others++;
      }
    } catch (error) {
      if (error instanceof RecordError) this.#fault(error.message);
      else if (error instanceof SyntaxError) this.#fault("no JSON");
      else throw error;
    }
  }

  #noteAllowedBy({ namespace, name }: PolicyName): void {
    if (this.allowedBy.size < POLICIES_MAX) {
      this.allowedBy.add(namespace === "" ? name : `${namespace}/${name}`);
    }
  }

  /** Undefined where the line is not written as Hubble does. @throws {SyntaxError, RecordError} */
  #fast(text: string): Line | undefined {
    const at = text.indexOf(SOURCE);
    if (at < 0 || !text.startsWith(FLOW)) return undefined;
    const between = text.indexOf(DESTINATION, at + SOURCE.length);
    const after = between < 0 ? -1 : text.indexOf(AFTER, between + DESTINATION.length);
    const end = after < 0 ? -1 : text.lastIndexOf(END);
    if (end < after || end < 0 || !text.endsWith("}")) return undefined;
    const source = this.#ends.of(text.slice(at + SOURCE.length - 1, between));
    const destination = this.#ends.of(text.slice(between + DESTINATION.length - 1, after));
    const context = this.#contexts.of(text.slice(after + 1, end));
    // Of the node that is named beside the flow.
    if (source === undefined || destination === undefined || context === undefined || context.node === "") {
      return undefined;
    }
    return readParts(
      JSON.parse(`${text.slice(FLOW.length - 1, at)}"source":0}`),
      { source, destination },
      context,
    );
  }
}

/** Fields that stand before the ends, where Hubble has written the flow; anywhere else they would not be read. */
function isAlone(name: string): boolean {
  return name === "time" || name === "uuid" || name === "verdict" || name === "IP" || name === "l4" ||
    name === "source" ||
    name === "ethernet" || name === "drop_reason" || name === "emitter";
}

/** @throws {SyntaxError} not by itself: it has what stands before the ends elsewhere */
function contextOf(flow: Json): FlowContext {
  if (Object.keys(flow).some(isAlone)) throw new SyntaxError("not as Hubble writes it");
  return readContext(flow);
}

/** What texts mean, known by the texts. */
class KnownTexts<T> {
  readonly #known = new Map<string, T>();

  constructor(readonly read: (text: string) => T) {}

  /** Undefined: it is no JSON by itself. @throws {RecordError} */
  of(text: string): T | undefined {
    let value = this.#known.get(text);
    if (value !== undefined) return value;
    try {
      value = this.read(text);
    } catch (error) {
      if (error instanceof SyntaxError) return undefined;
      throw error;
    }
    if (this.#known.size >= TEXTS_MAX) this.#known.clear();
    // A copy: a part of a text keeps all of it.
    if (text.length <= TEXT_LENGTH_MAX) this.#known.set(structuredClone(text), value);
    return value;
  }
}

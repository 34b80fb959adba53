/**
 * The text protocol, with its meta commands: lines, and data behind some of them.
 *
 *     client ─▶ line ─▶ judge ─▶ allowed: line, then its data as it comes
 *                         └────▶ denied: data thrown away; `version` in its place, whose answer becomes CLIENT_ERROR
 *
 * @module
 */
import { readMemcacheCommand } from "@weir/l7-rules";
import { HeldBytes } from "../held_bytes.ts";
import { ANSWER_LINE_BYTES_MAX, LINE_BYTES_MAX } from "./limits.ts";
import type { MemcacheProtocol, Out, ProtocolOptions } from "./protocol.ts";
import { Turns } from "./turns.ts";
import { MemcacheFormError } from "./verdict.ts";

const encoder = new TextEncoder(), decoder = new TextDecoder("latin1");
const CR = 13, LF = 10;
/** Every version has it, and its answer is like no other. */
const TURN = encoder.encode("version\r\n");

/** Text on one connection. */
export class TextProtocol implements MemcacheProtocol {
  closes = "";
  readonly #options: ProtocolOptions;
  readonly #line: HeldBytes;
  readonly #answer: HeldBytes;
  readonly #turns = new Turns();
  /** Bytes of data that come, with their CR LF; of the client, of the server. */
  #dataLeft = 0;
  #answerLeft = 0;
  /** Data of a denied command. */
  #isDropped = false;
  /** Something was sent to the server: answers may be on their way. */
  #hasAsked = false;
  /** Of `watch` and `quit`: no command comes any more. */
  #after = "";

  constructor(options: ProtocolOptions) {
    this.#options = options;
    this.#line = new HeldBytes(options.shared, LINE_BYTES_MAX);
    this.#answer = new HeldBytes(options.shared, ANSWER_LINE_BYTES_MAX);
  }

  get waitsFor(): "head" | "stream" | "idle" {
    return this.#dataLeft > 0 || this.#turns.size > 0 ? "stream" : this.#line.length > 0 ? "head" : "idle";
  }

  fromClient(bytes: Uint8Array, out: Out): void {
    for (let at = 0; at < bytes.length && this.closes === "";) {
      if (this.#after === "watch") throw new MemcacheFormError("a command after watch");
      // The server reads nothing behind it either.
      if (this.#after === "quit") return;
      at = this.#dataLeft > 0 ? this.#takeData(bytes, at, out) : this.#takeLine(bytes, at, out);
    }
  }

  fromServer(bytes: Uint8Array, out: Out): void {
    if (this.#after === "watch") {
      out.toClient.push(bytes);
      return;
    }
    // What passes as it is goes in one piece.
    let from = 0, at = 0;
    while (at < bytes.length) {
      if (this.#answerLeft > 0) {
        const end = Math.min(bytes.length, at + this.#answerLeft);
        this.#answerLeft -= end - at;
        at = end;
        continue;
      }
      const end = bytes.indexOf(LF, at) + 1, held = this.#answer;
      if (end === 0) {
        if (at > from) out.toClient.push(bytes.subarray(from, at));
        held.append(bytes.subarray(at));
        return;
      }
      let line = bytes.subarray(at, end);
      if (held.length > 0) {
        held.append(line);
        line = held.take();
        out.toClient.push(this.#answered(line));
        from = end;
      } else {
        const said = this.#answered(line);
        if (said !== line) {
          if (at > from) out.toClient.push(bytes.subarray(from, at));
          out.toClient.push(said);
          from = end;
        }
      }
      at = end;
    }
    if (at > from) out.toClient.push(bytes.subarray(from, at));
  }

  end(): void {
    this.#line.take();
    this.#answer.take();
  }

  #takeData(bytes: Uint8Array, at: number, out: Out): number {
    const end = Math.min(bytes.length, at + this.#dataLeft);
    // memcached would take what follows for a command, and so would we: but not the same bytes.
    for (let left = this.#dataLeft - (end - at), place = end - 1; left < 2 && place >= at; left++, place--) {
      if (bytes[place] !== (left === 0 ? LF : CR)) {
        throw new MemcacheFormError("data does not end with CR LF where it was said to");
      }
    }
    this.#dataLeft -= end - at;
    if (!this.#isDropped) out.toServer.push(bytes.subarray(at, end));
    return end;
  }

  #takeLine(bytes: Uint8Array, at: number, out: Out): number {
    const end = bytes.indexOf(LF, at) + 1, held = this.#line;
    if (end === 0) {
      held.append(bytes.subarray(at));
      return bytes.length;
    }
    let line = bytes.subarray(at, end);
    if (held.length > 0) {
      held.append(line);
      line = held.take();
    }
    this.#decide(line, out);
    return end;
  }

  #decide(line: Uint8Array, out: Out): void {
    const { command, keys, dataBytes, noreply } = readMemcacheCommand(
      line.subarray(0, line.length - (line[line.length - 2] === CR ? 2 : 1)),
    );
    const { allowed, text, closes } = this.#options.judge({ command, keys });
    if (dataBytes !== undefined) this.#dataLeft = dataBytes + 2;
    this.#isDropped = !allowed;
    if (allowed) {
      if (command === "version") this.#turns.add(null);
      if (command === "watch" || command === "quit") this.#after = command;
      this.#hasAsked = true;
      out.toServer.push(line);
      return;
    }
    this.closes = closes;
    if (noreply) return;
    const answer = encoder.encode(`CLIENT_ERROR ${text}\r\n`);
    if (!this.#hasAsked || closes !== "") {
      out.toClient.push(answer);
      return;
    }
    this.#turns.add(answer);
    out.toServer.push(TURN);
  }

  /** What the client gets of one line of the server's. */
  #answered(line: Uint8Array): Uint8Array {
    // V: VALUE, VA, VERSION.
    if (line[0] !== 0x56) return line;
    const [word, ...more] = decoder.decode(line).trimEnd().split(/ +/);
    if (word === "VERSION") return this.#turns.next() ?? line;
    if (word === "VALUE") this.#answerLeft = bytesOf(more[2]) + 2;
    else if (word === "VA") this.#answerLeft = bytesOf(more[0]) + 2;
    return line;
  }
}

function bytesOf(word: string | undefined): number {
  if (word === undefined || !/^[0-9]{1,10}$/.test(word)) {
    throw new MemcacheFormError("the server answers with data of no length");
  }
  return Number(word);
}

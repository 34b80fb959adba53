/** llhttp, the parser of Node.js, as undici's package carries it: the oracle of the tests. Nothing that runs loads it. @module */
import wasmOfPackage from "undici/lib/llhttp/llhttp-wasm.js";

/** A message as llhttp reads it. Texts have one character for each byte. */
export interface ReadMessage {
  /** Of a request. */
  method: string;
  url: string;
  /** Of an answer. */
  status: number;
  fields: { name: string; value: string }[];
  body: number;
}

interface Exports {
  memory: WebAssembly.Memory;
  malloc(bytes: number): number;
  free(at: number): void;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_get_method(parser: number): number;
  llhttp_get_status_code(parser: number): number;
  llhttp_execute(parser: number, at: number, bytes: number): number;
  llhttp_resume(parser: number): void;
}

const REQUEST = 1, RESPONSE = 2, PAUSED = 21, PAUSED_UPGRADE = 22;
const METHODS = ["DELETE", "GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS", "TRACE"];

/** What llhttp says of bytes. `error`: a number of its own, 0: all was read; `open`: the last message is not over. */
export interface Reading {
  readonly messages: ReadMessage[];
  readonly error: number;
  readonly open: boolean;
}

/** Reads requests, or the answers to them, from bytes. */
export class Llhttp {
  #messages: ReadMessage[] = [];
  /** Of answers: the methods of the requests that have had none yet. */
  #asked: string[] | undefined;
  #isInName = false;
  #open = false;
  readonly #exports: Exports;

  constructor() {
    const module = new WebAssembly.Module(wasmOfPackage as unknown as BufferSource);
    const text = (at: number, length: number) =>
      new TextDecoder("latin1").decode(new Uint8Array(this.#exports.memory.buffer, at, length));
    const env = {
      wasm_on_url: (_: number, at: number, length: number) => {
        this.#messages.at(-1)!.url += text(at, length);
        return 0;
      },
      wasm_on_status: () => 0,
      wasm_on_message_begin: () => {
        this.#messages.push({ method: "", url: "", status: 0, fields: [], body: 0 });
        this.#open = true;
        this.#isInName = false;
        return 0;
      },
      wasm_on_header_field: (_: number, at: number, length: number) => {
        const { fields } = this.#messages.at(-1)!;
        if (!this.#isInName) fields.push({ name: "", value: "" });
        this.#isInName = true;
        fields.at(-1)!.name += text(at, length);
        return 0;
      },
      wasm_on_header_value: (_: number, at: number, length: number) => {
        this.#isInName = false;
        this.#messages.at(-1)!.fields.at(-1)!.value += text(at, length);
        return 0;
      },
      wasm_on_headers_complete: (parser: number) => {
        const message = this.#messages.at(-1)!;
        this.#isInName = false;
        if (this.#asked === undefined) {
          const method = this.#exports.llhttp_get_method(parser);
          message.method = METHODS[method] ?? `#${method}`;
          return 0;
        }
        message.status = this.#exports.llhttp_get_status_code(parser);
        if (message.status < 200 && message.status !== 101) return 0;
        // 1: no body follows.
        return this.#asked.shift() === "HEAD" ? 1 : 0;
      },
      wasm_on_body: (_: number, __: number, length: number) => {
        this.#messages.at(-1)!.body += length;
        return 0;
      },
      wasm_on_message_complete: () => {
        this.#open = false;
        return 0;
      },
    };
    this.#exports = new WebAssembly.Instance(module, { env }).exports as unknown as Exports;
  }

  /** @param asked methods of the requests to which these are the answers; undefined: they are requests */
  read(bytes: Uint8Array, asked?: readonly string[]): Reading {
    this.#messages = [];
    this.#open = false;
    this.#asked = asked && [...asked];
    const { memory, malloc, free, llhttp_alloc, llhttp_free, llhttp_execute } = this.#exports;
    const parser = llhttp_alloc(asked === undefined ? REQUEST : RESPONSE), at = malloc(bytes.length + 1);
    new Uint8Array(memory.buffer, at, bytes.length).set(bytes);
    const error = llhttp_execute(parser, at, bytes.length);
    free(at);
    llhttp_free(parser);
    const isUpgrade = error === PAUSED || error === PAUSED_UPGRADE;
    return { messages: this.#messages, error: isUpgrade ? 0 : error, open: this.#open };
  }
}

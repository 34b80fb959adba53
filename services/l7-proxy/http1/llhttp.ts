/** llhttp, the parser of Node.js, as undici's package carries it: the oracle of the tests. Nothing that runs loads it. @module */
import wasmOfPackage from "undici/lib/llhttp/llhttp-wasm.js";

/** A request as llhttp reads it. */
export interface ReadRequest {
  method: string;
  url: string;
  body: number;
}

interface Exports {
  memory: WebAssembly.Memory;
  malloc(bytes: number): number;
  free(at: number): void;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_get_method(parser: number): number;
  llhttp_execute(parser: number, at: number, bytes: number): number;
  llhttp_resume(parser: number): void;
}

const REQUEST = 1, PAUSED = 21, PAUSED_UPGRADE = 22;
const METHODS = ["DELETE", "GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS", "TRACE"];

/** Reads requests from bytes. `error`: a number of llhttp's, 0: all was read; `open`: the last request is not over. */
export class Llhttp {
  #requests: ReadRequest[] = [];
  #open = false;
  readonly #exports: Exports;

  constructor() {
    const module = new WebAssembly.Module(wasmOfPackage as unknown as BufferSource);
    const text = (at: number, length: number) =>
      new TextDecoder("latin1").decode(new Uint8Array(this.#exports.memory.buffer, at, length));
    const env = {
      wasm_on_url: (_: number, at: number, length: number) => {
        this.#requests.at(-1)!.url += text(at, length);
        return 0;
      },
      wasm_on_status: () => 0,
      wasm_on_message_begin: () => {
        this.#requests.push({ method: "", url: "", body: 0 });
        this.#open = true;
        return 0;
      },
      wasm_on_header_field: () => 0,
      wasm_on_header_value: () => 0,
      wasm_on_headers_complete: (parser: number) => {
        const method = this.#exports.llhttp_get_method(parser);
        this.#requests.at(-1)!.method = METHODS[method] ?? `#${method}`;
        return 0;
      },
      wasm_on_body: (_: number, __: number, length: number) => {
        this.#requests.at(-1)!.body += length;
        return 0;
      },
      wasm_on_message_complete: () => {
        this.#open = false;
        return 0;
      },
    };
    this.#exports = new WebAssembly.Instance(module, { env }).exports as unknown as Exports;
  }

  read(bytes: Uint8Array): { requests: ReadRequest[]; error: number; open: boolean } {
    this.#requests = [];
    this.#open = false;
    const { memory, malloc, free, llhttp_alloc, llhttp_free, llhttp_execute } = this.#exports;
    const parser = llhttp_alloc(REQUEST), at = malloc(bytes.length + 1);
    new Uint8Array(memory.buffer, at, bytes.length).set(bytes);
    const error = llhttp_execute(parser, at, bytes.length);
    free(at);
    llhttp_free(parser);
    const isUpgrade = error === PAUSED || error === PAUSED_UPGRADE;
    return { requests: this.#requests, error: isUpgrade ? 0 : error, open: this.#open };
  }
}

/** Turns WebAssembly text into bytes with the library's own assembler: tests write their modules as text. */
import { defaultLibraryPath, takeBytes, throwOnError } from "../library.ts";
import type { Engine } from "../engine.ts";

export function assembleWat(engine: Engine, text: string): Uint8Array<ArrayBuffer> {
  const extra = Deno.dlopen(defaultLibraryPath(), {
    wasmtime_wat2wasm: { parameters: ["buffer", "usize", "buffer"], result: "pointer" },
  });
  try {
    const source = new TextEncoder().encode(text);
    const vector = new Uint8Array(16);
    const error = extra.symbols.wasmtime_wat2wasm(source, BigInt(source.length), vector);
    throwOnError(engine.library, error, "assemble the test's module");
    return takeBytes(engine.library, vector);
  } finally {
    extra.close();
  }
}

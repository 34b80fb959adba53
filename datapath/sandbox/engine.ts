/**
 * One Wasmtime engine with the settings that make it a sandbox, and the modules compiled by it.
 *
 * @module
 */

import { ModuleRejected, SandboxError } from "./errors.ts";
import { OptLevel, VEC_BYTES } from "./layout.ts";
import {
  type Library,
  openLibrary,
  pointerAt,
  takeBytes,
  takeErrorMessage,
  throwOnError,
} from "./library.ts";

/** What the engine is configured with; part of a compiled module's file name, for the code depends on it. */
export const ENGINE_SETTINGS = "fuel,speed";

/** The native stack that a module may use. The verifier keeps its work on explicit stacks: this is plenty. */
const WASM_STACK_BYTES_MAX = 512 * 1024;

/** A compiled module; delete it with {@link Engine.deleteModule}. */
export interface CompiledModule {
  readonly pointer: Deno.PointerValue;
}

/** A Wasmtime engine. Close it when no module and no instance of it is in use any more. */
export class Engine {
  readonly library: Library;
  readonly pointer: Deno.PointerValue;

  /** @param path the C library's file */
  constructor(path: string) {
    this.library = openLibrary(path);
    const { symbols } = this.library;
    const config = symbols.wasm_config_new();
    symbols.wasmtime_config_consume_fuel_set(config, true);
    // Bounds by guard pages instead of by comparing: 15 % less time. Wasmtime's handler passes on what is not its
    // own and V8's steps aside, whoever came first: the tests let both trap in turns.
    symbols.wasmtime_config_signals_based_traps_set(config, true);
    symbols.wasmtime_config_max_wasm_stack_set(config, BigInt(WASM_STACK_BYTES_MAX));
    symbols.wasmtime_config_cranelift_opt_level_set(config, OptLevel.speed);
    // Compiler threads would outlive the first compilation; the service drops privileges by thread count.
    symbols.wasmtime_config_parallel_compilation_set(config, false);
    this.pointer = symbols.wasm_engine_new_with_config(config);
    if (this.pointer === null) {
      throw new SandboxError("engine-failed", "Cannot make a Wasmtime engine: the library gave none");
    }
  }

  /** Compiles `wasm`; throws {@link ModuleRejected} for what is no module or wants imports. */
  compile(wasm: Uint8Array<ArrayBuffer>): CompiledModule {
    const out = new Uint8Array(8);
    const { symbols } = this.library;
    const error = symbols.wasmtime_module_new(this.pointer, wasm, BigInt(wasm.length), out);
    if (error !== null) throw new ModuleRejected(takeErrorMessage(this.library, error));
    return this.#withoutImports({ pointer: pointerAt(out) });
  }

  /** The machine code of a module, for {@link deserialize}. */
  serialize(module: CompiledModule): Uint8Array<ArrayBuffer> {
    const vector = new Uint8Array(VEC_BYTES);
    const error = this.library.symbols.wasmtime_module_serialize(module.pointer, vector);
    throwOnError(this.library, error, "serialize the compiled module");
    return takeBytes(this.library, vector);
  }

  /** Takes back what {@link serialize} gave. The bytes are trusted machine code: the caller has checked them. */
  deserialize(code: Uint8Array<ArrayBuffer>): CompiledModule {
    const out = new Uint8Array(8);
    const { symbols } = this.library;
    const error = symbols.wasmtime_module_deserialize(this.pointer, code, BigInt(code.length), out);
    throwOnError(this.library, error, "read the compiled module");
    return this.#withoutImports({ pointer: pointerAt(out) });
  }

  /** Frees a module. */
  deleteModule(module: CompiledModule): void {
    this.library.symbols.wasmtime_module_delete(module.pointer);
  }

  /** Frees the engine and closes the library. */
  close(): void {
    this.library.symbols.wasm_engine_delete(this.pointer);
    this.library.close();
  }

  #withoutImports(module: CompiledModule): CompiledModule {
    const vector = new Uint8Array(VEC_BYTES);
    this.library.symbols.wasmtime_module_imports(module.pointer, vector);
    const count = new DataView(vector.buffer).getBigUint64(0, true);
    this.library.symbols.wasm_importtype_vec_delete(vector);
    if (count !== 0n) {
      this.deleteModule(module);
      throw new ModuleRejected(`it wants ${count} imports, the sandbox gives none`);
    }
    return module;
  }
}

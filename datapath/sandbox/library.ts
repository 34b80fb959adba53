/**
 * The symbols of Wasmtime's C library that the sandbox calls, and the few idioms of its API: errors and traps
 * are objects that must be deleted, byte vectors too.
 *
 * @module
 */

import { LibraryMissing, SandboxError, Trapped } from "./errors.ts";
import { VEC_BYTES } from "./layout.ts";

const SYMBOLS = {
  wasm_config_new: { parameters: [], result: "pointer" },
  wasmtime_config_consume_fuel_set: { parameters: ["pointer", "bool"], result: "void" },
  wasmtime_config_signals_based_traps_set: { parameters: ["pointer", "bool"], result: "void" },
  wasmtime_config_max_wasm_stack_set: { parameters: ["pointer", "usize"], result: "void" },
  wasmtime_config_cranelift_opt_level_set: { parameters: ["pointer", "u8"], result: "void" },
  wasmtime_config_parallel_compilation_set: { parameters: ["pointer", "bool"], result: "void" },
  wasmtime_pooling_allocation_config_new: { parameters: [], result: "pointer" },
  wasmtime_pooling_allocation_config_total_core_instances_set: {
    parameters: ["pointer", "u32"],
    result: "void",
  },
  wasmtime_pooling_allocation_config_total_memories_set: { parameters: ["pointer", "u32"], result: "void" },
  wasmtime_pooling_allocation_config_total_tables_set: { parameters: ["pointer", "u32"], result: "void" },
  wasmtime_pooling_allocation_config_total_stacks_set: { parameters: ["pointer", "u32"], result: "void" },
  wasmtime_pooling_allocation_config_total_gc_heaps_set: { parameters: ["pointer", "u32"], result: "void" },
  wasmtime_pooling_allocation_config_max_memory_size_set: {
    parameters: ["pointer", "usize"],
    result: "void",
  },
  wasmtime_pooling_allocation_config_linear_memory_keep_resident_set: {
    parameters: ["pointer", "usize"],
    result: "void",
  },
  wasmtime_pooling_allocation_config_table_keep_resident_set: {
    parameters: ["pointer", "usize"],
    result: "void",
  },
  wasmtime_pooling_allocation_strategy_set: { parameters: ["pointer", "pointer"], result: "void" },
  wasmtime_pooling_allocation_config_delete: { parameters: ["pointer"], result: "void" },
  wasm_engine_new_with_config: { parameters: ["pointer"], result: "pointer" },
  wasm_engine_delete: { parameters: ["pointer"], result: "void" },
  wasmtime_module_new: { parameters: ["pointer", "buffer", "usize", "buffer"], result: "pointer" },
  wasmtime_module_serialize: { parameters: ["pointer", "buffer"], result: "pointer" },
  wasmtime_module_deserialize: { parameters: ["pointer", "buffer", "usize", "buffer"], result: "pointer" },
  wasmtime_module_imports: { parameters: ["pointer", "buffer"], result: "void" },
  wasmtime_module_delete: { parameters: ["pointer"], result: "void" },
  wasmtime_store_new: { parameters: ["pointer", "pointer", "pointer"], result: "pointer" },
  wasmtime_store_context: { parameters: ["pointer"], result: "pointer" },
  wasmtime_store_limiter: { parameters: ["pointer", "i64", "i64", "i64", "i64", "i64"], result: "void" },
  wasmtime_store_delete: { parameters: ["pointer"], result: "void" },
  wasmtime_context_set_fuel: { parameters: ["pointer", "u64"], result: "pointer" },
  wasmtime_context_get_fuel: { parameters: ["pointer", "buffer"], result: "pointer" },
  wasmtime_linker_new: { parameters: ["pointer"], result: "pointer" },
  wasmtime_linker_delete: { parameters: ["pointer"], result: "void" },
  wasmtime_linker_instantiate_pre: { parameters: ["pointer", "pointer", "buffer"], result: "pointer" },
  wasmtime_instance_pre_delete: { parameters: ["pointer"], result: "void" },
  wasmtime_instance_pre_instantiate: {
    parameters: ["pointer", "pointer", "buffer", "buffer"],
    result: "pointer",
  },
  wasmtime_instance_export_get: {
    parameters: ["pointer", "buffer", "buffer", "usize", "buffer"],
    result: "bool",
  },
  wasmtime_memory_data: { parameters: ["pointer", "buffer"], result: "pointer" },
  wasmtime_memory_data_size: { parameters: ["pointer", "buffer"], result: "usize" },
  wasmtime_func_call: {
    parameters: ["pointer", "buffer", "buffer", "usize", "buffer", "usize", "buffer"],
    result: "pointer",
  },
  wasmtime_error_message: { parameters: ["pointer", "buffer"], result: "void" },
  wasmtime_error_delete: { parameters: ["pointer"], result: "void" },
  wasm_trap_message: { parameters: ["pointer", "buffer"], result: "void" },
  wasmtime_trap_code: { parameters: ["pointer", "buffer"], result: "bool" },
  wasm_trap_delete: { parameters: ["pointer"], result: "void" },
  wasm_byte_vec_delete: { parameters: ["buffer"], result: "void" },
  wasm_importtype_vec_delete: { parameters: ["buffer"], result: "void" },
} as const;

/** The opened library. */
export type Library = Deno.DynamicLibrary<typeof SYMBOLS>;

/** Where `scripts/setup` puts the library: `.build/wasmtime/` at the repository's root. */
export function defaultLibraryPath(): string {
  return new URL("../../.build/wasmtime/libwasmtime.so", import.meta.url).pathname;
}

/** Opens the library; throws {@link LibraryMissing}. */
export function openLibrary(path: string): Library {
  try {
    return Deno.dlopen(path, SYMBOLS);
  } catch (error) {
    throw new LibraryMissing(path, error);
  }
}

/** Reads a 64-bit pointer out of `bytes`; null for zero. */
export function pointerAt(bytes: Uint8Array, offset = 0): Deno.PointerValue {
  return Deno.UnsafePointer.create(
    new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true),
  );
}

/** Takes the bytes of a `wasm_byte_vec_t` and gives the vector back to the library. */
export function takeBytes(library: Library, vector: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const size = Number(new DataView(vector.buffer, vector.byteOffset).getBigUint64(0, true));
  const data = pointerAt(vector, 8);
  const bytes = new Uint8Array(size);
  if (data !== null && size > 0) new Deno.UnsafePointerView(data).copyInto(bytes);
  library.symbols.wasm_byte_vec_delete(vector);
  return bytes;
}

/** Turns the library's error object into a thrown one; nothing for null. `what` is the action. */
export function throwOnError(library: Library, error: Deno.PointerValue, what: string): void {
  if (error === null) return;
  const message = takeErrorMessage(library, error);
  throw new SandboxError("engine-failed", `Cannot ${what}: ${message}`);
}

/** The text of an error object, which is deleted. */
export function takeErrorMessage(library: Library, error: Deno.PointerValue): string {
  const vector = new Uint8Array(VEC_BYTES);
  library.symbols.wasmtime_error_message(error, vector);
  library.symbols.wasmtime_error_delete(error);
  return new TextDecoder().decode(takeBytes(library, vector));
}

/** Code and text of a trap object, which is deleted. */
export function takeTrap(library: Library, trap: Deno.PointerValue): Trapped {
  const vector = new Uint8Array(VEC_BYTES);
  library.symbols.wasm_trap_message(trap, vector);
  const code = new Uint8Array(1);
  const known = library.symbols.wasmtime_trap_code(trap, code);
  library.symbols.wasm_trap_delete(trap);
  const text = new TextDecoder().decode(takeBytes(library, vector)).replaceAll("\0", "").trim();
  // The text repeats itself with addresses in a backtrace; its last line says what happened.
  return new Trapped(known ? code[0] : null, text.split("\n").at(-1)!.trim().replace(/^\d+: /, ""));
}

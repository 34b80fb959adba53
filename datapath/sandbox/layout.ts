/**
 * Sizes and offsets of Wasmtime's C structures, version 50. They follow the library's version:
 * `scripts/setup` pins it, and {@link WASMTIME_VERSION} is part of every compiled module's file name.
 *
 * ```text
 *  wasmtime_extern_t (32 bytes)           wasmtime_val_t (32 bytes)
 *  0      1         8              32     0      1         8            16        32
 *  ┌──────┬─────────┬───────────────┐     ┌──────┬─────────┬─────────────┬─────────┐
 *  │ kind │ padding │ func, memory… │     │ kind │ padding │ i32 or i64  │ (wider) │
 *  └──────┴─────────┴───────────────┘     └──────┴─────────┴─────────────┴─────────┘
 * ```
 *
 * @module
 */

/** The version whose layouts these are. */
export const WASMTIME_VERSION = "50.0.1";

/** `sizeof(wasmtime_instance_t)`. */
export const INSTANCE_BYTES = 16;
/** `sizeof(wasmtime_extern_t)`; the kind is at 0. */
export const EXTERN_BYTES = 32;
/** Where the value (`wasmtime_func_t`, `wasmtime_memory_t`) lies in a `wasmtime_extern_t`. */
export const EXTERN_VALUE_OFFSET = 8;
/** `sizeof(wasmtime_func_t)`. */
export const FUNC_BYTES = 16;
/** `sizeof(wasmtime_memory_t)`. */
export const MEMORY_BYTES = 24;
/** `sizeof(wasmtime_val_t)`; the kind is at 0. */
export const VAL_BYTES = 32;
/** Where the number lies in a `wasmtime_val_t`. */
export const VAL_VALUE_OFFSET = 8;
/** `sizeof(wasm_byte_vec_t)`: size, then data. */
export const VEC_BYTES = 16;

/** `wasmtime_extern_kind_t`. */
export const ExternKind = { func: 0, global: 1, table: 2, memory: 3 } as const;
/** `wasmtime_valkind_t`. */
export const ValKind = { i32: 0, i64: 1 } as const;
/** `wasmtime_trap_code_t`, the ones that mean something to the sandbox. */
export const TrapCode = { stackOverflow: 0, unreachable: 9, outOfFuel: 11 } as const;
/** `wasmtime_opt_level_t`. */
export const OptLevel = { none: 0, speed: 1, speedAndSize: 2 } as const;

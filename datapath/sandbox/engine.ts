/**
 * One Wasmtime engine with the settings that make it a sandbox, and the modules compiled by it.
 *
 * @module
 */

import { ModuleRejected, SandboxError } from "./errors.ts";
import {
  EXTERN_BYTES,
  EXTERN_VALUE_OFFSET,
  FUNC_BYTES,
  INSTANCE_BYTES,
  MEMORY_BYTES,
  OptLevel,
  VAL_BYTES,
  VEC_BYTES,
} from "./layout.ts";
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

/** The most that any instance's memory may grow to; a sandbox may set less. */
export const MEMORY_BYTES_POOLED = 64 * 1024 * 1024;

/** Instances at a time. A sandbox needs one; each costs address space, not memory. */
const INSTANCES_MAX = 4;

/**
 * The first part of a slot's memory is cleared by writing zeros and stays mapped, the rest is given back to the system.
 * It is the memory that the verifier begins with: verifying a small program meets neither page faults nor system calls.
 */
const RESIDENT_BYTES = 128 * 1024;

/** The native stack that a module may use. The verifier keeps its work on explicit stacks: this is plenty. */
const WASM_STACK_BYTES_MAX = 512 * 1024;

/** A compiled module; delete it with {@link Engine.deleteModule}. */
export interface CompiledModule {
  readonly pointer: Deno.PointerValue;
  /** The module with its (empty) imports resolved and its types checked, once for all instances. */
  readonly prepared: Deno.PointerValue;
}

/** What the library knows an instance and its memory by. */
export interface Handles {
  readonly instance: Uint8Array<ArrayBuffer>;
  readonly memory: Uint8Array<ArrayBuffer>;
}

/**
 * Memory for the arguments of calls into the library, made once: small arrays that the library sees are slow to make.
 * A call fills it, makes the call and reads the answer; handles live as long as their instance.
 */
export class Scratch {
  /** An export as the library gives it, with its parts. */
  readonly extern: Uint8Array<ArrayBuffer> = new Uint8Array(EXTERN_BYTES);
  readonly func: Uint8Array<ArrayBuffer> = this.extern.subarray(
    EXTERN_VALUE_OFFSET,
    EXTERN_VALUE_OFFSET + FUNC_BYTES,
  );
  readonly memory: Uint8Array<ArrayBuffer> = this.extern.subarray(
    EXTERN_VALUE_OFFSET,
    EXTERN_VALUE_OFFSET + MEMORY_BYTES,
  );
  readonly number: BigUint64Array<ArrayBuffer> = new BigUint64Array(1);
  readonly numberBytes: Uint8Array<ArrayBuffer> = new Uint8Array(this.number.buffer);
  readonly #spare: Handles[] = [];
  readonly pointer: Uint8Array<ArrayBuffer> = new Uint8Array(8);
  readonly #pointer = new BigUint64Array(this.pointer.buffer);
  readonly #pointerHalves = new Uint32Array(this.pointer.buffer);
  readonly input: Uint8Array<ArrayBuffer> = new Uint8Array(8 * VAL_BYTES);
  readonly inputView: DataView = new DataView(this.input.buffer);
  readonly output: Uint8Array<ArrayBuffer> = new Uint8Array(8 * VAL_BYTES);
  readonly outputView: DataView = new DataView(this.output.buffer);
  readonly #names = new Map<string, { bytes: Uint8Array<ArrayBuffer>; length: bigint }>();
  /** The memory that was looked at last: instances mostly take the same slot again. */
  #memoryBase: Deno.PointerValue = null;
  #memoryView: Uint8Array<ArrayBuffer> = new Uint8Array();

  /** Takes the pointer that the library left behind; null for none. */
  take(): Deno.PointerValue {
    // halves, for each look at 64 bits would make a bigint
    if (this.#pointerHalves[0] === 0 && this.#pointerHalves[1] === 0) return null;
    const value = this.#pointer[0];
    this.#pointer[0] = 0n;
    return Deno.UnsafePointer.create(value);
  }

  /** Handles for a new instance; {@link giveBack} them after it. */
  handles(): Handles {
    return this.#spare.pop() ??
      { instance: new Uint8Array(INSTANCE_BYTES), memory: new Uint8Array(MEMORY_BYTES) };
  }

  /** Handles of an instance that is gone. */
  giveBack(handles: Handles): void {
    this.#spare.push(handles);
  }

  /** The bytes of an export's name, and how many. */
  name(text: string): { readonly bytes: Uint8Array<ArrayBuffer>; readonly length: bigint } {
    let name = this.#names.get(text);
    if (name === undefined) {
      const bytes = new TextEncoder().encode(text);
      this.#names.set(text, name = { bytes, length: BigInt(bytes.length) });
    }
    return name;
  }

  /**
   * The linear memory of a living instance, which begins at `base`, for reading and writing its first `bytes` bytes
   * (the view may be longer: what lies behind them must not be touched) until the instance runs or ends.
   */
  memoryAt(base: Deno.PointerObject, bytes: number): Uint8Array<ArrayBuffer> {
    if (
      this.#memoryBase === null || this.#memoryView.length < bytes ||
      !Deno.UnsafePointer.equals(this.#memoryBase, base)
    ) {
      this.#memoryBase = base;
      this.#memoryView = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(base, bytes));
    }
    return this.#memoryView;
  }
}

/** A Wasmtime engine. Close it when no module and no instance of it is in use any more. */
export class Engine {
  readonly library: Library;
  readonly pointer: Deno.PointerValue;
  readonly scratch: Scratch = new Scratch();

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
    if (!addressSpaceLimited()) this.#usePool(config);
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
    return this.#prepare(pointerAt(out));
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
    return this.#prepare(pointerAt(out));
  }

  /** Frees a module. */
  deleteModule(module: CompiledModule): void {
    this.library.symbols.wasmtime_instance_pre_delete(module.prepared);
    this.library.symbols.wasmtime_module_delete(module.pointer);
  }

  /** Frees the engine and closes the library. */
  close(): void {
    this.library.symbols.wasm_engine_delete(this.pointer);
    this.library.close();
  }

  /** Instances live in slots that are made once and reset after each use: a third of the time of mapping anew. */
  #usePool(config: Deno.PointerValue): void {
    const { symbols } = this.library;
    const pool = symbols.wasmtime_pooling_allocation_config_new();
    symbols.wasmtime_pooling_allocation_config_total_core_instances_set(pool, INSTANCES_MAX);
    symbols.wasmtime_pooling_allocation_config_total_memories_set(pool, INSTANCES_MAX);
    symbols.wasmtime_pooling_allocation_config_total_tables_set(pool, INSTANCES_MAX);
    symbols.wasmtime_pooling_allocation_config_total_stacks_set(pool, 1);
    symbols.wasmtime_pooling_allocation_config_total_gc_heaps_set(pool, 1);
    symbols.wasmtime_pooling_allocation_config_max_memory_size_set(pool, BigInt(MEMORY_BYTES_POOLED));
    symbols.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, BigInt(RESIDENT_BYTES));
    symbols.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, 4096n);
    symbols.wasmtime_pooling_allocation_strategy_set(config, pool);
    symbols.wasmtime_pooling_allocation_config_delete(pool);
  }

  #prepare(pointer: Deno.PointerValue): CompiledModule {
    const { symbols } = this.library;
    const vector = new Uint8Array(VEC_BYTES);
    symbols.wasmtime_module_imports(pointer, vector);
    const count = new DataView(vector.buffer).getBigUint64(0, true);
    symbols.wasm_importtype_vec_delete(vector);
    if (count !== 0n) {
      symbols.wasmtime_module_delete(pointer);
      throw new ModuleRejected(`it wants ${count} imports, the sandbox gives none`);
    }
    const linker = symbols.wasmtime_linker_new(this.pointer);
    const error = symbols.wasmtime_linker_instantiate_pre(linker, pointer, this.scratch.pointer);
    symbols.wasmtime_linker_delete(linker);
    if (error !== null) {
      symbols.wasmtime_module_delete(pointer);
      throw new ModuleRejected(takeErrorMessage(this.library, error));
    }
    return { pointer, prepared: this.scratch.take() };
  }
}

/** Whether this process may not reserve address space freely; the pool would abort it. */
function addressSpaceLimited(): boolean {
  try {
    return !/^Max address space +unlimited/m.test(Deno.readTextFileSync("/proc/self/limits"));
  } catch {
    return true;
  }
}

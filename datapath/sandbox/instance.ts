/**
 * One fresh store and instance: made for one program, with its own memory and fuel, and thrown away after.
 *
 * @module
 */

import { ModuleRejected, OutOfFuel, OutOfMemory, type Trapped } from "./errors.ts";
import { ExternKind, TrapCode, VAL_BYTES, VAL_VALUE_OFFSET, ValKind } from "./layout.ts";
import type { CompiledModule, Engine, Handles, Scratch } from "./engine.ts";
import { type Library, takeTrap, throwOnError } from "./library.ts";

/** What an instance may use. */
export interface InstanceLimits {
  /** Units of fuel; Wasmtime takes about one per WebAssembly instruction. */
  readonly fuelMax: bigint;
  /** The most bytes that its linear memory may grow to. */
  readonly memoryBytesMax: number;
}

/** A result or argument: 32-bit integers are numbers, 64-bit ones bigints. */
export type WasmValue = number | bigint;

/** Modules ask for memory in steps of up to this. */
const MEMORY_STEP_BYTES = 4 * 1024 * 1024;

/** How many values a call hands over or takes, as the library wants it. */
const COUNTS: readonly bigint[] = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n];

/** A running module. Always {@link close} it. */
export class Instance {
  readonly #library: Library;
  readonly #scratch: Scratch;
  readonly #limits: InstanceLimits;
  readonly #store: Deno.PointerValue;
  readonly #context: Deno.PointerValue;
  readonly #handles: Handles;
  readonly #startedAt: number;
  /** Size and place of the linear memory as of the last call; a call may change both. */
  #memoryBytes = -1;
  #memoryBase: Deno.PointerValue = null;

  /** @param startedAt when the work began that the instance is for, which a limit's error tells */
  constructor(
    engine: Engine,
    module: CompiledModule,
    limits: InstanceLimits,
    startedAt: number = performance.now(),
  ) {
    this.#startedAt = startedAt;
    this.#library = engine.library;
    this.#scratch = engine.scratch;
    this.#limits = limits;
    this.#handles = engine.scratch.handles();
    const { symbols } = this.#library;
    this.#store = symbols.wasmtime_store_new(engine.pointer, null, null);
    this.#context = symbols.wasmtime_store_context(this.#store);
    try {
      // Limits before the instance: memory bytes, table elements, instances, tables, memories.
      symbols.wasmtime_store_limiter(this.#store, BigInt(limits.memoryBytesMax), 100_000n, 1n, 4n, 1n);
      throwOnError(
        this.#library,
        symbols.wasmtime_context_set_fuel(this.#context, limits.fuelMax),
        "set the fuel",
      );
      const error = symbols.wasmtime_instance_pre_instantiate(
        module.prepared,
        this.#context,
        this.#handles.instance,
        this.#scratch.pointer,
      );
      throwOnError(this.#library, error, "make an instance of the verifier");
      this.#throwOnTrap(false);
      this.#findExport("memory", ExternKind.memory);
      this.#handles.memory.set(this.#scratch.memory);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The present size of the linear memory. */
  get memoryBytes(): number {
    if (this.#memoryBytes < 0) {
      this.#memoryBytes = Number(
        this.#library.symbols.wasmtime_memory_data_size(this.#context, this.#handles.memory),
      );
    }
    return this.#memoryBytes;
  }

  /** Fuel used so far. */
  get fuelUsed(): bigint {
    const { number, numberBytes } = this.#scratch;
    const error = this.#library.symbols.wasmtime_context_get_fuel(this.#context, numberBytes);
    throwOnError(this.#library, error, "read the fuel");
    return this.#limits.fuelMax - number[0];
  }

  /** Time since the instance was asked for, in microseconds. */
  get timeUs(): number {
    return (performance.now() - this.#startedAt) * 1000;
  }

  /**
   * Calls an export.
   *
   * @param name the exported function
   * @param args 32-bit arguments as numbers, 64-bit ones as bigints
   * @param results kinds of the results
   * @throws {OutOfFuel} {@link OutOfMemory} {@link Trapped} {@link ModuleRejected}
   */
  call(name: string, args: readonly WasmValue[], results: readonly ("i32" | "i64")[] = []): WasmValue[] {
    this.#run(name, args, results.length);
    const { outputView } = this.#scratch;
    return results.map((kind, index) => {
      const at = index * VAL_BYTES;
      const found = outputView.getUint8(at);
      if (found !== ValKind[kind]) {
        throw new ModuleRejected(`${name} gave a value of kind ${found}, not ${kind}`);
      }
      return kind === "i64"
        ? outputView.getBigInt64(at + VAL_VALUE_OFFSET, true)
        : outputView.getInt32(at + VAL_VALUE_OFFSET, true);
    });
  }

  /** Calls an export with 32-bit arguments; its 64-bit result is a place: a pointer, and a length in the high half. */
  callForPlace(name: string, ...args: number[]): { pointer: number; length: number } {
    this.#run(name, args, 1);
    const { outputView } = this.#scratch;
    const found = outputView.getUint8(0);
    if (found !== ValKind.i64) throw new ModuleRejected(`${name} gave a value of kind ${found}, not i64`);
    return {
      pointer: outputView.getUint32(VAL_VALUE_OFFSET, true),
      length: outputView.getUint32(VAL_VALUE_OFFSET + 4, true),
    };
  }

  /** Calls an export and leaves its results in the scratch memory. */
  #run(name: string, args: readonly WasmValue[], results: number): void {
    this.#findExport(name, ExternKind.func);
    const { func, input, inputView, output, pointer } = this.#scratch;
    if (Math.max(args.length, results) * VAL_BYTES > input.length) {
      throw new RangeError(`Cannot call ${name} in the verifier: too many values`);
    }
    for (let index = 0; index < args.length; index++) {
      const at = index * VAL_BYTES, value = args[index];
      if (typeof value === "bigint") {
        inputView.setUint8(at, ValKind.i64);
        inputView.setBigInt64(at + VAL_VALUE_OFFSET, value, true);
      } else {
        inputView.setUint8(at, ValKind.i32);
        inputView.setInt32(at + VAL_VALUE_OFFSET, value | 0, true);
      }
    }
    this.#memoryBytes = -1;
    this.#memoryBase = null;
    const error = this.#library.symbols.wasmtime_func_call(
      this.#context,
      func,
      input,
      COUNTS[args.length],
      output,
      COUNTS[results],
      pointer,
    );
    this.#throwOnTrap(true);
    if (error !== null) throwOnError(this.#library, error, `call ${name} in the verifier`);
  }

  /** Copies `bytes` into the linear memory; false when they do not fit there. */
  write(address: number, bytes: Uint8Array<ArrayBuffer>): boolean {
    if (!this.#inMemory(address, bytes.length)) return false;
    if (bytes.length > 0) {
      this.#view().set(bytes, address);
    }
    return true;
  }

  /**
   * Copies `length` bytes out of the linear memory, to the start of `into` if they fit there; null when they do not
   * lie in the memory.
   */
  read(address: number, length: number, into?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | null {
    if (!this.#inMemory(address, length)) return null;
    if (into !== undefined && length <= into.length) {
      into.set(this.#view().subarray(address, address + length));
      return into.subarray(0, length);
    }
    return this.#view().slice(address, address + length);
  }

  /** Frees the store with everything in it. */
  close(): void {
    this.#library.symbols.wasmtime_store_delete(this.#store);
    this.#scratch.giveBack(this.#handles);
  }

  #inMemory(address: number, length: number): boolean {
    return Number.isSafeInteger(address) && Number.isSafeInteger(length) && address >= 0 && length >= 0 &&
      address + length <= this.memoryBytes;
  }

  /** The linear memory where it lies now; the caller has checked that what it touches lies in it. */
  #view(): Uint8Array<ArrayBuffer> {
    this.#memoryBase ??= this.#library.symbols.wasmtime_memory_data(this.#context, this.#handles.memory);
    return this.#scratch.memoryAt(this.#memoryBase as Deno.PointerObject, this.memoryBytes);
  }

  /** Whether the module exports a function of this name. */
  has(name: string): boolean {
    try {
      this.#findExport(name, ExternKind.func);
      return true;
    } catch {
      return false;
    }
  }

  /** Leaves the export in the scratch memory. */
  #findExport(name: string, kind: number): void {
    const { bytes, length } = this.#scratch.name(name), { extern } = this.#scratch;
    const found = this.#library.symbols.wasmtime_instance_export_get(
      this.#context,
      this.#handles.instance,
      bytes,
      length,
      extern,
    );
    if (!found || extern[0] !== kind) throw new ModuleRejected(`it has no export ${name} of the right kind`);
  }

  #throwOnTrap(running: boolean): void {
    const trap = this.#scratch.take();
    if (trap === null) return;
    const trapped: Trapped = takeTrap(this.#library, trap);
    if (trapped.trapCode === TrapCode.outOfFuel) throw new OutOfFuel(this.#limits.fuelMax, this.timeUs);
    // A module that is refused memory executes `unreachable`. Wasmtime does not say which of the two it was: a trap
    // of that kind with more than half of the memory in use, or the last of it, is taken for it. Both reject.
    if (running && trapped.trapCode === TrapCode.unreachable) {
      const memoryBytes = this.memoryBytes, memoryBytesMax = this.#limits.memoryBytesMax;
      if (memoryBytes * 2 > memoryBytesMax || memoryBytesMax - memoryBytes < MEMORY_STEP_BYTES) {
        throw new OutOfMemory(this.#limits.memoryBytesMax, memoryBytes);
      }
    }
    throw trapped;
  }
}

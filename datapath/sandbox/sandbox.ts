/**
 * The verifier in its sandbox: a request goes in, a checked report comes out, or an error that says why not.
 *
 * @module
 */

import {
  answersRequest,
  decodeReport,
  encodeRequestOnce,
  requestHash,
  verifierWasmUrl,
  type VerifyReport,
  type VerifyRequest,
} from "@weir/verifier";
import { type CompiledModule, Engine } from "./engine.ts";
import { MalformedReport } from "./errors.ts";
import { Instance } from "./instance.ts";
import { defaultLibraryPath } from "./library.ts";
import { loadModule, type ModuleOrigin } from "./module_cache.ts";

/**
 * Fuel of one verification. A million instruction visits, the kernel's own limit, took about 7e9 units on the programs
 * measured (tests/bench/verifier prints fuel a visit); all of it is gone after some eight seconds.
 */
export const FUEL_MAX_DEFAULT = 40_000_000_000n;

/** Linear memory of one verification. */
export const MEMORY_BYTES_MAX_DEFAULT = 64 * 1024 * 1024;

/** The longest report that is looked at. */
const REPORT_BYTES_MAX = 48 * 1024 * 1024;

/** Requests up to this are put into memory that a fresh instance has from its start. */
const ROOM_BYTES = 32 * 1024;

/** How to open a sandbox; everything has a default. */
export interface SandboxOptions {
  /** The verifier's module; default: what the build put into `.build/verifier.wasm`. */
  readonly wasm?: Uint8Array<ArrayBuffer>;
  /** Wasmtime's C library; default: where `scripts/setup` put it. */
  readonly libraryPath?: string;
  /** Where compiled modules are kept; null for nowhere. Default: `.build/cache` of the repository. */
  readonly cacheDir?: string | null;
  /** Default {@link FUEL_MAX_DEFAULT}. */
  readonly fuelMax?: bigint;
  /** Default {@link MEMORY_BYTES_MAX_DEFAULT}. */
  readonly memoryBytesMax?: number;
}

/** A report that was checked, with what it cost. */
export interface SandboxReport extends VerifyReport {
  /** Units of fuel. */
  readonly fuelUsed: bigint;
  /** From request to checked report, instance included. */
  readonly timeUs: number;
  /** Linear memory at the end, which only grows: the peak. */
  readonly memoryBytes: number;
}

/** An opened verifier. Any number of programs may be verified, one after another; each gets a fresh instance. */
export class Sandbox {
  readonly #engine: Engine;
  readonly #module: CompiledModule;
  readonly #fuelMax: bigint;
  readonly #memoryBytesMax: number;
  /** Where in a fresh instance the module takes a request of up to so many bytes, without being asked first. */
  readonly #room: { readonly address: number; readonly bytes: number };
  /** Where small reports are copied to, of which nothing is left when they are decoded. */
  readonly #report = new Uint8Array(4096);
  /** Where the compiled module came from. */
  readonly origin: ModuleOrigin;

  private constructor(engine: Engine, wasm: Uint8Array<ArrayBuffer>, options: SandboxOptions) {
    this.#engine = engine;
    this.#fuelMax = options.fuelMax ?? FUEL_MAX_DEFAULT;
    this.#memoryBytesMax = options.memoryBytesMax ?? MEMORY_BYTES_MAX_DEFAULT;
    const cacheDir = options.cacheDir === undefined ? defaultCacheDir() : options.cacheDir;
    ({ module: this.#module, origin: this.origin } = loadModule(engine, wasm, cacheDir));
    this.#room = this.#findRoom();
  }

  /**
   * Opens the library and compiles the module, or takes the compiled one from disk.
   *
   * @throws {LibraryMissing} {@link ModuleRejected}
   */
  static open(options: SandboxOptions = {}): Sandbox {
    const wasm = options.wasm ?? Deno.readFileSync(verifierWasmUrl);
    const engine = new Engine(options.libraryPath ?? defaultLibraryPath());
    try {
      return new Sandbox(engine, wasm, options);
    } catch (error) {
      engine.close();
      throw error;
    }
  }

  /**
   * Verifies one program.
   *
   * @throws {OutOfFuel} {@link OutOfMemory} {@link Trapped} {@link MalformedReport}; each means: not accepted
   */
  verify(request: VerifyRequest): SandboxReport {
    const start = performance.now();
    const bytes = encodeRequestOnce(request);
    const answer = this.#ask(bytes, start, this.#report);
    let report: VerifyReport;
    try {
      report = decodeReport(answer.report);
    } catch (error) {
      throw new MalformedReport((error as Error).message, { cause: error });
    }
    if (!answersRequest(answer.report, bytes)) {
      throw new MalformedReport(
        `it answers the request ${report.requestHash}, sent was ${requestHash(bytes)}`,
      );
    }
    const full = report as { -readonly [Key in keyof SandboxReport]: SandboxReport[Key] };
    full.fuelUsed = answer.fuelUsed;
    full.memoryBytes = answer.memoryBytes;
    full.timeUs = (performance.now() - start) * 1000;
    return full;
  }

  /** Instances are alike: where one of them puts a request, all do. A module that did not would read another request. */
  #findRoom(): { address: number; bytes: number } {
    const instance = new Instance(this.#engine, this.#module, {
      fuelMax: this.#fuelMax,
      memoryBytesMax: this.#memoryBytesMax,
    });
    try {
      if (!instance.has("verifyPlaced")) return { address: 0, bytes: -1 };
      const before = instance.memoryBytes;
      const address = instance.call("alloc", [ROOM_BYTES], ["i32"])[0] as number >>> 0;
      const fits = address !== 0 && address + ROOM_BYTES <= before;
      return { address, bytes: fits ? ROOM_BYTES : -1 };
    } catch {
      // A module that fails here fails with its first request, which says how.
      return { address: 0, bytes: -1 };
    } finally {
      instance.close();
    }
  }

  /** Hands over the bytes of a request and copies out the bytes of the report, which nobody has looked at yet. */
  verifyBytes(
    request: Uint8Array<ArrayBuffer>,
  ): { report: Uint8Array<ArrayBuffer>; fuelUsed: bigint; memoryBytes: number } {
    return this.#ask(request, performance.now());
  }

  #ask(
    request: Uint8Array<ArrayBuffer>,
    startedAt: number,
    into?: Uint8Array<ArrayBuffer>,
  ): { report: Uint8Array<ArrayBuffer>; fuelUsed: bigint; memoryBytes: number } {
    const instance = new Instance(this.#engine, this.#module, {
      fuelMax: this.#fuelMax,
      memoryBytesMax: this.#memoryBytesMax,
    }, startedAt);
    try {
      let place: { pointer: number; length: number };
      if (request.length <= this.#room.bytes) {
        if (!instance.write(this.#room.address, request)) {
          throw new MalformedReport(`it has no room for a request of ${request.length} bytes`);
        }
        place = instance.callForPlace("verifyPlaced", request.length);
      } else {
        const input = instance.call("alloc", [request.length], ["i32"])[0] as number >>> 0;
        if (input === 0 || !instance.write(input, request)) {
          throw new MalformedReport(`it has no room for a request of ${request.length} bytes`);
        }
        place = instance.callForPlace("verify", input, request.length);
      }
      const { pointer, length } = place;
      const report = length > REPORT_BYTES_MAX ? null : instance.read(pointer, length, into);
      if (report === null) {
        throw new MalformedReport(`${length} bytes at ${pointer} of ${instance.memoryBytes} bytes of memory`);
      }
      return { report, fuelUsed: instance.fuelUsed, memoryBytes: instance.memoryBytes };
    } finally {
      instance.close();
    }
  }

  /** Frees the module and the engine. */
  close(): void {
    this.#engine.deleteModule(this.#module);
    this.#engine.close();
  }
}

function defaultCacheDir(): string {
  return new URL("../../.build/cache", import.meta.url).pathname;
}

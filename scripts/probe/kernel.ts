/**
 * Asks the running kernel: loads small programs and maps by the `bpf` system call and tells what the kernel's
 * verifier said. A tool of the probe and of the tests; the datapath has its own, gated way into the kernel.
 *
 * @module
 */

import { functionBtf, functionInfo, functionStarts } from "./function_btf.ts";

const SYS_BPF = Deno.build.arch === "aarch64" ? 280n : 321n;
const Command = {
  mapCreate: 0n,
  mapLookup: 1n,
  mapUpdate: 2n,
  mapFreeze: 22n,
  progLoad: 5n,
  testRun: 10n,
  btfLoad: 18n,
} as const;
const ATTR_BYTES = 160;
const ENOSPC = 28;

/** A program to be loaded. */
export interface KernelProgram {
  readonly type: number;
  readonly expectedAttachType?: number;
  readonly instructions: Uint8Array<ArrayBuffer>;
  readonly flags?: number;
  /** BTF id of what a program of type tracing attaches to. */
  readonly attachBtfId?: number;
  /** "GPL" by default. */
  readonly license?: string;
  /** Says the type of every function, which programs with callbacks need. */
  readonly describeFunctions?: boolean;
  /** 0 none, 1 branches, 2 every instruction, 4 statistics; 1 by default. */
  readonly logLevel?: number;
  readonly logBytes?: number;
}

/** What the kernel said: a descriptor to be closed, or why not. */
export type LoadResult =
  | { ok: true; fd: number; log: string; timeUs: number }
  | { ok: false; errno: number; log: string; timeUs: number };

/** A map to be made; sizes in bytes. */
export interface KernelMap {
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entriesMax: number;
  readonly flags?: number;
  readonly innerFd?: number;
}

/** What a test run gave. */
export interface RunResult {
  readonly errno: number;
  readonly retval: number;
}

/** The `bpf` system call of the running kernel. Close it at the end: it closes every descriptor it gave out. */
export class Kernel {
  readonly #libc = Deno.dlopen("libc.so.6", {
    syscall: { parameters: ["i64", "i64", "buffer", "i64"], result: "i64" },
    close: { parameters: ["i32"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  readonly #open = new Set<number>();
  #btf: number | undefined;
  readonly #logs = new Map<number, Uint8Array<ArrayBuffer>>();

  /** True when this process may load programs here. */
  static available(): boolean {
    if (Deno.uid() !== 0) return false;
    const kernel = new Kernel();
    try {
      const exit = new Uint8Array([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
      return kernel.load({ type: 1, instructions: exit }).ok;
    } catch {
      return false;
    } finally {
      kernel.close();
    }
  }

  /** Loads a program. The log is cut at `logBytes`; a full log is no reason for a rejection. */
  load(program: KernelProgram): LoadResult {
    const level = program.logLevel ?? 1;
    const bytes = program.logBytes ?? 64 * 1024;
    const license = new TextEncoder().encode(`${program.license ?? "GPL"}\0`);
    const log = level === 0 ? new Uint8Array(0) : this.#logBuffer(bytes);
    const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    attr.setUint32(0, program.type, true);
    attr.setUint32(4, program.instructions.length / 8, true);
    attr.setBigUint64(8, addressOf(program.instructions), true);
    attr.setBigUint64(16, addressOf(license), true);
    attr.setUint32(24, level, true);
    attr.setUint32(28, log.length, true);
    attr.setBigUint64(32, level === 0 ? 0n : addressOf(log), true);
    attr.setUint32(44, program.flags ?? 0, true);
    attr.setUint32(68, program.expectedAttachType ?? 0, true);
    attr.setUint32(108, program.attachBtfId ?? 0, true);
    if (program.describeFunctions) {
      const starts = functionStarts(program.instructions), { records, recordBytes } = functionInfo(starts);
      attr.setUint32(72, this.#functionTypes(), true);
      attr.setUint32(76, recordBytes, true);
      attr.setBigUint64(80, addressOf(records), true);
      attr.setUint32(88, starts.length, true);
    }
    const start = performance.now();
    let result = this.#bpf(Command.progLoad, attr);
    // A kernel before 6.4 refuses when the log does not fit: what it says is still there, ask without it.
    if (result === -ENOSPC && level !== 0) {
      attr.setUint32(24, 0, true);
      attr.setUint32(28, 0, true);
      attr.setBigUint64(32, 0n, true);
      result = this.#bpf(Command.progLoad, attr);
    }
    const timeUs = (performance.now() - start) * 1000;
    const end = log.indexOf(0);
    const text = new TextDecoder().decode(log.subarray(0, end < 0 ? log.length : end));
    if (result < 0) return { ok: false, errno: -result, log: text, timeUs };
    this.#open.add(result);
    return { ok: true, fd: result, log: text, timeUs };
  }

  /** Makes a map; throws with the errno. */
  createMap(map: KernelMap): number {
    const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    [map.type, map.keyBytes, map.valueBytes, map.entriesMax, map.flags ?? 0, map.innerFd ?? 0]
      .forEach((value, index) => attr.setUint32(index * 4, value, true));
    const fd = this.#bpf(Command.mapCreate, attr);
    if (fd < 0) throw new Error(`Cannot make a map of type ${map.type}: errno ${-fd}`);
    this.#open.add(fd);
    return fd;
  }

  /** The value of `key`, or null. */
  lookup(fd: number, key: Uint8Array<ArrayBuffer>, valueBytes: number): Uint8Array<ArrayBuffer> | null {
    const value = new Uint8Array(valueBytes);
    return this.#element(Command.mapLookup, fd, key, value) === 0 ? value : null;
  }

  /** Writes an element; returns 0 or the negative errno. */
  update(fd: number, key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): number {
    return this.#element(Command.mapUpdate, fd, key, value);
  }

  /** Lets nobody in user space change the map any more; returns 0 or the negative errno. */
  freeze(fd: number): number {
    const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    attr.setUint32(0, fd, true);
    return this.#bpf(Command.mapFreeze, attr);
  }

  /** Runs a loaded program once on `data` (and `context`, where its type takes one). */
  run(
    fd: number,
    data: Uint8Array<ArrayBuffer> | null,
    context: Uint8Array<ArrayBuffer> | null = null,
  ): RunResult {
    const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    attr.setUint32(0, fd, true);
    if (data !== null) {
      attr.setUint32(8, data.length, true);
      attr.setBigUint64(16, addressOf(data), true);
    }
    if (context !== null) {
      attr.setUint32(40, context.length, true);
      attr.setBigUint64(48, addressOf(context), true);
    }
    const result = this.#bpf(Command.testRun, attr);
    return { errno: result < 0 ? -result : 0, retval: attr.getUint32(4, true) };
  }

  /** Closes one descriptor. */
  closeFd(fd: number): void {
    if (this.#open.delete(fd)) this.#libc.symbols.close(fd);
  }

  /** Closes everything. */
  close(): void {
    for (const fd of this.#open) this.#libc.symbols.close(fd);
    this.#open.clear();
    this.#libc.close();
  }

  /** The descriptor of the BTF that all programs with callbacks share. */
  #functionTypes(): number {
    if (this.#btf !== undefined) return this.#btf;
    const blob = functionBtf(), attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    attr.setBigUint64(0, addressOf(blob), true);
    attr.setUint32(16, blob.length, true);
    const fd = this.#bpf(Command.btfLoad, attr);
    if (fd < 0) throw new Error(`Cannot load BTF: errno ${-fd}`);
    this.#open.add(fd);
    return this.#btf = fd;
  }

  #element(
    command: bigint,
    fd: number,
    key: Uint8Array<ArrayBuffer>,
    value: Uint8Array<ArrayBuffer>,
  ): number {
    const attr = new DataView(new ArrayBuffer(ATTR_BYTES));
    attr.setUint32(0, fd, true);
    attr.setBigUint64(8, addressOf(key), true);
    attr.setBigUint64(16, addressOf(value), true);
    return this.#bpf(command, attr);
  }

  /** Result or negative errno. */
  #bpf(command: bigint, attr: DataView<ArrayBuffer>): number {
    for (;;) {
      const result = Number(
        this.#libc.symbols.syscall(SYS_BPF, command, new Uint8Array(attr.buffer), BigInt(ATTR_BYTES)),
      );
      if (result >= 0) return result;
      const errno = new Deno.UnsafePointerView(this.#libc.symbols.__errno_location()!).getInt32();
      // The verifier gives up when a signal is pending (V8 has timers of its own): EAGAIN and EINTR mean "again".
      if (errno !== 11 && errno !== 4) return -errno;
    }
  }

  #logBuffer(bytes: number): Uint8Array<ArrayBuffer> {
    let log = this.#logs.get(bytes);
    if (log === undefined) this.#logs.set(bytes, log = new Uint8Array(bytes));
    log[0] = 0;
    return log;
  }
}

function addressOf(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

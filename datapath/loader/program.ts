/** A loaded program by its file descriptor, and running it on a packet of ours. @module */
import { BpfError } from "./errors.ts";
import { type ProgramInfo, programInfo } from "./info.ts";
import { closeFd, libbpf } from "./library.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** What {@link BpfProgram.testRun} is given. */
export interface TestRunInput {
  /** The packet; absent for programs that take none (syscall). */
  data?: Bytes;
  /** Context before the run, e.g. `struct __sk_buff` or `struct xdp_md`. */
  ctx?: Bytes;
  /** Default 1. Changes to the packet persist between repeats. */
  repeat?: number;
  /** Most bytes of the packet that come back, default the packet's length and 256 more. */
  dataOutBytesMax?: number;
}

/** What a test run gave. */
export interface TestRunResult {
  retval: number;
  data: Bytes;
  ctx: Bytes;
  /** Mean of the repeats. */
  durationNs: number;
}

/** A loaded program. Owns its descriptor. */
export class BpfProgram implements Disposable {
  constructor(readonly fd: number, readonly name: string, readonly section: string = "") {}

  get info(): ProgramInfo {
    return programInfo(this.fd);
  }

  /** Runs the program in the kernel by BPF_PROG_TEST_RUN. @throws {BpfError} test-run-failed */
  testRun(input: TestRunInput): TestRunResult {
    const dataOut = new Uint8Array(
      input.data === undefined ? 0 : input.dataOutBytesMax ?? input.data.length + 256,
    );
    const ctx = input.ctx;
    const ctxOut = new Uint8Array(ctx?.length ?? 0);
    const view = new DataView(new ArrayBuffer(80));
    const pointer = (offset: number, bytes: Bytes | undefined) => {
      if (bytes === undefined || bytes.length === 0) return;
      view.setBigUint64(offset, Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)), true);
    };
    // sz 0 | data_in 8 | data_out 16 | size_in 24, size_out 28 | ctx_in 32 | ctx_out 40 | ctx_size_in 48, out 52
    // | retval 56, repeat 60 | duration 64, flags 68 | cpu 72, batch_size 76
    view.setBigUint64(0, 80n, true);
    pointer(8, input.data);
    pointer(16, dataOut);
    view.setUint32(24, input.data?.length ?? 0, true);
    view.setUint32(28, dataOut.length, true);
    pointer(32, ctx);
    // A syscall program writes its context in place; asking for it is an error.
    const wantsCtxOut = ctx !== undefined && input.data !== undefined;
    if (wantsCtxOut) pointer(40, ctxOut);
    view.setUint32(48, ctx?.length ?? 0, true);
    view.setUint32(52, wantsCtxOut ? ctxOut.length : 0, true);
    view.setInt32(60, input.data === undefined ? 0 : input.repeat ?? 1, true);
    const result = libbpf().bpf_prog_test_run_opts(this.fd, new Uint8Array(view.buffer));
    if (result < 0) {
      throw new BpfError("test-run-failed", `Cannot run program ${this.name}`, { errno: -result });
    }
    return {
      retval: view.getUint32(56, true),
      data: dataOut.subarray(0, view.getUint32(28, true)),
      ctx: wantsCtxOut ? ctxOut.subarray(0, view.getUint32(52, true)) : ctx ?? ctxOut,
      durationNs: view.getUint32(64, true),
    };
  }

  close(): void {
    closeFd(this.fd);
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

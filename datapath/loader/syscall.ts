/**
 * bpf(2) itself, for what libbpf 1.1 has no call for. It refuses BPF_PROG_LOAD: programs come into the kernel through
 * `BpfObject.load()` alone, where the gate stands.
 *
 * @module
 */
import { BpfError } from "./errors.ts";
import { lastErrno, libc } from "./library.ts";

const NR_BPF = Deno.build.arch === "aarch64" ? 280n : 321n;

/** Commands of bpf(2) (include/uapi/linux/bpf.h) that have no function in libbpf. */
export const BpfCommand = { PROG_LOAD: 5, PROG_QUERY: 16, PROG_BIND_MAP: 35 } as const;

/** One bpf(2) call; a result below zero is the negative error number. */
export function bpfSyscall(command: number, attr: Uint8Array<ArrayBuffer>): number {
  if (command === BpfCommand.PROG_LOAD) {
    throw new BpfError("syscall-failed", "Cannot load a program by bpf(2): programs go through the gate", {
      action: "Use BpfObject.load()",
    });
  }
  const result = Number(libc().syscall(NR_BPF, BigInt(command), attr, BigInt(attr.length)));
  return result < 0 ? -lastErrno() : result;
}

/**
 * Two tables about programs of type tracing: which of their arguments the kernel takes for NULL or for numbers
 * although their C types are pointers, and which helpers they may call. Tracepoints and iterators are asked; where a
 * kernel loads no trampolines, what fentry programs may call is what tracepoints may, and five helpers more.
 *
 * @module
 */

import type { Btf } from "@weir/object";
import { readHelpers } from "./helper_tables.ts";
import { call, encode, exit, type Instruction, load, moveImmediate } from "./instructions.ts";
import type { Kernel } from "./kernel.ts";

const TRACING = 26, RAW_TP = 23, ITER = 28;
/** MAX_BPF_FUNC_ARGS of the kernel. */
const ARGUMENTS_MAX = 12;
/** get_func_ip, get_attach_cookie, get_func_arg, get_func_ret, get_func_arg_cnt: of programs on a trampoline. */
const OF_TRAMPOLINES = new Set([173, 174, 183, 184, 185]);

/** The columns of the helper table, as the verifier numbers them after those of the other program types. */
export const TRACING_COLUMNS = ["tp_btf", "fentry", "fexit", "fmod_ret", "iter"] as const;

/** Slots that some kernel takes for NULL (`raw_tp_null_args` of 6.12.117), whatever the one at hand says or has. */
const NULLABLE_SOMEWHERE: readonly [slot: number, tracepoints: string][] = [
  [
    0,
    "sched_process_wait afs_protocol_error cachefiles_lookup cachefiles_unlink cachefiles_rename cachefiles_prep_read " +
    "cachefiles_mark_active cachefiles_mark_failed cachefiles_mark_inactive cachefiles_vfs_error cachefiles_io_error " +
    "cachefiles_ondemand_open cachefiles_ondemand_copen cachefiles_ondemand_close cachefiles_ondemand_read " +
    "cachefiles_ondemand_cread cachefiles_ondemand_fd_write cachefiles_ondemand_fd_release mm_collapse_huge_page_isolate " +
    "mm_page_alloc mm_page_pcpu_drain mm_page_alloc_zone_locked rxrpc_recvdata xs_stream_read_data tcp_send_reset " +
    "tmigr_update_events",
  ],
  [
    1,
    "sched_pi_setprio afs_make_fs_call afs_make_fs_calli afs_make_fs_call1 afs_make_fs_call2 afs_flock_ev " +
    "ext4_mballoc_discard ext4_mballoc_free posix_lock_inode fcntl_setlk locks_remove_posix flock_lock_inode " +
    "break_lease_noblock break_lease_block break_lease_unblock generic_delete_lease time_out_leases " +
    "mm_khugepaged_scan_pmd mm_khugepaged_scan_file mm_khugepaged_collapse_file netfs_failure device_pm_callback_start " +
    "rxrpc_resend xprt_reserve_cong xprt_release_cong xprt_get_cong xprt_put_cong tcp_send_reset writeback_dirty_folio " +
    "folio_wait_writeback",
  ],
  [2, "sched_stick_numa sched_swap_numa fib_table_lookup tegra_dma_tx_status"],
  [3, "qdisc_dequeue kfree_skb"],
  [4, "host1x_cdma_push_gather"],
];

/** Slots that may hold an error number instead of a pointer. */
const ERROR_POINTERS: readonly [tracepoint: string, slot: number][] = [
  ["signal_generate", 1],
  ["signal_deliver", 1],
  ["cachefiles_lookup", 2],
  ["mr_integ_alloc", 3],
];

/** Rows `target slot kind`, where the kernel's answer is not what the argument's C type says. */
export function probeTracingArguments(kernel: Kernel, vmlinux: Btf): string[][] {
  const rows: string[][] = ERROR_POINTERS.map(([name, slot]) => [`tp_btf/${name}`, `${slot}`, "scalar"]);
  for (const [slot, names] of NULLABLE_SOMEWHERE) {
    for (const name of names.split(" ")) {
      rows.push([`tp_btf/${name}`, `${slot}`, "trusted_ptr_or_null"]);
    }
  }
  for (const type of vmlinux.ofKind("typedef")) {
    if (!type.name.startsWith("btf_trace_")) continue;
    const target = `tp_btf/${type.name.slice("btf_trace_".length)}`;
    rows.push(
      ...slotsOf(kernel, RAW_TP, type.id).filter(([, kind]) => kind !== "trusted_ptr").map((
        [slot, kind],
      ) => [target, slot, kind]),
    );
  }
  for (const type of vmlinux.ofKind("func")) {
    if (!type.name.startsWith("bpf_iter_") || !load1(kernel, ITER, type.id, [moveImmediate(0, 0), exit]).ok) {
      continue;
    }
    const target = `iter/${type.name.slice("bpf_iter_".length)}`;
    rows.push(...slotsOf(kernel, ITER, type.id).map(([slot, kind]) => [target, slot, kind]));
  }
  const seen = new Set<string>();
  return rows.filter(([target, slot]) => {
    const isNew = !seen.has(`${target} ${slot}`);
    seen.add(`${target} ${slot}`);
    return isNew;
  }).sort((a, b) => a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : Number(a[1]) - Number(b[1]));
}

/** Slots that are pointers to structs by their C type, with what the kernel makes of them. */
function slotsOf(kernel: Kernel, attach: number, btfId: number): [slot: string, kind: string][] {
  const found: [string, string][] = [];
  for (let slot = 0; slot < ARGUMENTS_MAX; slot++) {
    const result = load1(kernel, attach, btfId, [load(8, 2, 1, slot * 8), moveImmediate(0, 0), exit]);
    if (!result.ok) continue;
    const register = /\bR2(?:_w)?=(\w+)/.exec(result.log.slice(result.log.indexOf("0: (79)")))?.[1] ?? "";
    const kind = /^(?:[a-z]+_)*?(?:ptr_or_null|ptr)(?=_)/.exec(register)?.[0] ??
      (result.log.includes("as scalar as it may encode error")
        ? "scalar"
        : /buf/.test(register)
        ? register
        : "");
    if (kind !== "") found.push([`${slot}`, kind]);
  }
  return found;
}

/** Rows `id helper <1 or 0 per column>`. */
export function probeTracingHelpers(kernel: Kernel, vmlinux: Btf): string[][] {
  const tracepoint = vmlinux.find("btf_trace_sched_switch", "typedef")?.id;
  const iterator = vmlinux.find("bpf_iter_task", "func")?.id;
  if (tracepoint === undefined || iterator === undefined) {
    throw new Error("Cannot ask about tracing: the kernel's BTF lacks sched_switch or the task iterator");
  }
  return readHelpers(vmlinux).map(({ id, name }) => {
    const [tp, iter] = ([[RAW_TP, tracepoint], [ITER, iterator]] as const).map(([attach, btfId]) => {
      const { log } = load1(kernel, attach, btfId, [call(id), moveImmediate(0, 0), exit]);
      return !/unknown func|cannot use helper|program of this type|supported only for|invalid func/.test(log);
    });
    const trampoline = tp || OF_TRAMPOLINES.has(id);
    return [`${id}`, name, ...[tp, trampoline, trampoline, trampoline, iter].map((may) => may ? "1" : "0")];
  });
}

function load1(kernel: Kernel, attach: number, btfId: number, instructions: readonly Instruction[]) {
  const result = kernel.load({
    type: TRACING,
    expectedAttachType: attach,
    attachBtfId: btfId,
    instructions: encode(instructions),
    logLevel: 2,
  });
  if (result.ok) kernel.closeFd(result.fd);
  return result;
}

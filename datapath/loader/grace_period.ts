/**
 * Short RCU grace periods while programs are attached. The kernel waits for one whole grace period in every tcx attach and
 * swap (`tcx_entry_sync`, kernel/bpf/tcx.c): some 15 ms each where expedited ones take well under one. They cost
 * an interrupt per CPU, so they are asked for only as long as the work takes.
 *
 * @module
 */

import { libc } from "./library.ts";

const SWITCH = "/sys/kernel/rcu_expedited";

const NR_MEMBARRIER = Deno.build.arch === "aarch64" ? 283n : 324n;
const MEMBARRIER_CMD_GLOBAL = 1n;
/** Longer than a program runs, where the kernel offers no wait (nohz_full). */
const WAIT_MS = 20;

/**
 * Waits until no program is running any more that began before: `membarrier` of all CPUs is a grace period
 * (kernel/sched/membarrier.c). Within {@link expedited} it takes some 50 µs.
 */
export function waitForPrograms(): void {
  if (libc().syscall(NR_MEMBARRIER, MEMBARRIER_CMD_GLOBAL, null, 0n) === 0n) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
}

/** Runs `work`, which must not await, with expedited grace periods if this system lets us. */
export function expedited<T>(work: () => T): T {
  const mine = ask();
  try {
    return work();
  } finally {
    if (mine) set("0");
  }
}

/** False when somebody has it on already: who turned it on turns it off. */
function ask(): boolean {
  try {
    return Deno.readTextFileSync(SWITCH).trim() === "0" && set("1");
  } catch {
    return false;
  }
}

function set(value: string): boolean {
  try {
    Deno.writeTextFileSync(SWITCH, value, { create: false });
    return true;
  } catch {
    return false; // /sys is read-only in a container: it only takes longer
  }
}

/** What the verifiers of kernel releases do not know and ours does: what rests on it must not be promised. @module */
import type { KernelIgnorance } from "@weir/verifier";

/** Each with the first release that knows it, as LINUX_VERSION_CODE. */
const KNOWN_SINCE: readonly { readonly what: KernelIgnorance; readonly version: number }[] = [
  // adjust_scalar_min_max_vals() of 6.18 still forgets all of BPF_DIV, BPF_MOD and BPF_END
  { what: "quotients", version: 0x070000 },
  // coerce_reg_to_size_sx() of 6.18; no later one was looked at
  { what: "signs", version: 0xff0000 },
  // get_constant_map_key()
  { what: "constant-keys", version: 0x060e00 },
  // "bpf: Support private stack for bpf progs": bpf_enable_priv_stack(), on x86-64
  { what: "private-stacks", version: 0x060d00 },
  // "Track delta between linked registers"
  { what: "distances", version: 0x060b00 },
];

/** What a kernel of this version (LINUX_VERSION_CODE) does not know. */
export function ignoredBy(version: number): KernelIgnorance[] {
  return KNOWN_SINCE.filter((known) => version < known.version).map((known) => known.what);
}

/** `Linux 6.18` for 0x06122c. */
export function releaseOf(version: number): string {
  return `Linux ${version >> 16}.${(version >> 8) & 0xff}`;
}

const WORDS: Readonly<Record<KernelIgnorance, string>> = {
  quotients: "the bounds of quotients, remainders, swapped bytes and shifts by a variable",
  distances: "numbers that differ by a constant",
  signs: "sign extension of numbers of either sign",
  "constant-keys": "elements of an array that a constant key always finds",
  "private-stacks": "stacks of their own for the functions of a tracing program",
};

/** The same for people. */
export function wordsOf(ignored: readonly KernelIgnorance[]): string {
  return ignored.map((what) => WORDS[what]).join(", nor of ");
}

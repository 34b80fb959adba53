/** What the verifiers of kernel releases do not know and ours does: what rests on it must not be promised. @module */
import type { KernelIgnorance } from "@weir/verifier";

/** Each with the first release that knows it, as LINUX_VERSION_CODE. */
const KNOWN_SINCE: readonly { readonly what: KernelIgnorance; readonly version: number }[] = [
  // adjust_scalar_min_max_vals() of 6.18 still forgets all of BPF_DIV, BPF_MOD and BPF_END
  { what: "quotients", version: 0x070000 },
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
};

/** The same for people. */
export function wordsOf(ignored: readonly KernelIgnorance[]): string {
  return ignored.map((what) => WORDS[what]).join(", nor of ");
}

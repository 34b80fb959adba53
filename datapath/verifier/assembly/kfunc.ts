// Kernel functions (kfuncs) that are modelled, by name: their numbers differ from kernel to kernel.
import { newTable, noTable } from "./table";
import { kfuncNames, kfuncNumbers } from "./request";

export const KF_OTHER: u8 = 0, KF_NEW: u8 = 1, KF_NEXT: u8 = 2, KF_DESTROY: u8 = 3, KF_SOCK_DESTROY: u8 = 4;

/* Open-coded iterators: bpf_iter_NAME_new(), _next() and _destroy(), their words on the stack, arguments of new() after
 * the iterator (n: a number, a: anything), bytes that next() points to. */
const ITERATORS: StaticArray<string> = ["num", "bits"];
const WORDS: StaticArray<u8> = [1, 2];
const ARGUMENTS: StaticArray<string> = ["nn", "an"];
const BYTES: StaticArray<u8> = [4, 4];
export function iteratorName(k: i32): string {
  return "bpf_iter_" + ITERATORS[k];
}
export function iteratorWords(k: i32): u32 {
  return WORDS[k];
}
export function iteratorArguments(k: i32): string {
  return ARGUMENTS[k];
}
export function iteratorBytes(k: i32): i32 {
  return BYTES[k];
}

let kinds: StaticArray<u8> = noTable<u8>();
let iterators: StaticArray<u8> = noTable<u8>();
/// Finds what the functions of the request are.
export function prepareKfuncs(): void {
  const n = kfuncNames.length;
  kinds = newTable<u8>(n);
  iterators = newTable<u8>(n);
  for (let i = 0; i < n; i++) {
    if (kfuncNames[i] == "bpf_sock_destroy") kinds[i] = KF_SOCK_DESTROY;
    for (let k = 0; k < ITERATORS.length; k++) {
      const prefix = iteratorName(k) + "_";
      if (!kfuncNames[i].startsWith(prefix)) continue;
      const rest = kfuncNames[i].substring(prefix.length);
      iterators[i] = <u8> k;
      if (rest == "new") kinds[i] = KF_NEW;
      else if (rest == "next") kinds[i] = KF_NEXT;
      else if (rest == "destroy") kinds[i] = KF_DESTROY;
    }
  }
}

function indexOf(id: i32): i32 {
  for (let i = 0; i < kfuncNumbers.length; i++) if (kfuncNumbers[i] == id) return i;
  return -1;
}

/// KF_ of a function, by its number in the kernel's BTF.
export function kfuncKind(id: i32): u8 {
  const i = indexOf(id);
  return i < 0 ? KF_OTHER : kinds[i];
}

/// Which iterator the function is about.
export function kfuncIterator(id: i32): i32 {
  const i = indexOf(id);
  return i < 0 ? 0 : <i32> iterators[i];
}

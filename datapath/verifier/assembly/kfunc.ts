// Kernel functions (kfuncs) that are modelled, by name: their numbers differ from kernel to kernel.
import { B_CSS, B_TASK, B_VMA } from "./btf";
import { newTable, noTable } from "./table";
import { kfuncNames, kfuncNumbers } from "./request";

export const KF_OTHER: u8 = 0, KF_NEW: u8 = 1, KF_NEXT: u8 = 2, KF_DESTROY: u8 = 3, KF_SOCK_DESTROY: u8 = 4;

/* Open-coded iterators: bpf_iter_NAME_new(), _next() and _destroy(), their words on the stack, arguments of new() after
 * the iterator (n: a number, a: anything, t: a task, T: a trusted task or NULL, s: a trusted cgroup_subsys_state), what
 * next() points to: so many bytes, or a struct of a class. */
const ITERATORS: StaticArray<string> = ["num", "bits", "task", "css", "task_vma"];
const WORDS: StaticArray<u8> = [1, 2, 3, 3, 1];
const ARGUMENTS: StaticArray<string> = ["nn", "an", "Tn", "sn", "tn"];
const BYTES: StaticArray<u8> = [4, 4, 0, 0, 0];
const CLASSES: StaticArray<u8> = [0, 0, <u8> B_TASK, <u8> B_CSS, <u8> B_VMA];
/// Whether the elements are kept by RCU alone (KF_RCU_PROTECTED); otherwise by the iterator while it lasts.
export function iteratesUnderRcu(k: i32): bool {
  return CLASSES[k] == B_TASK || CLASSES[k] == B_CSS;
}
export function iteratorClass(k: i32): u32 {
  return CLASSES[k];
}
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

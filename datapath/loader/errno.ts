/** Names of the Linux error numbers that bpf(2), netlink and mounts answer with. @module */

const NAMES: Record<number, string> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  7: "E2BIG",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  16: "EBUSY",
  17: "EEXIST",
  18: "EXDEV",
  19: "ENODEV",
  20: "ENOTDIR",
  22: "EINVAL",
  24: "EMFILE",
  25: "ENOTTY",
  28: "ENOSPC",
  34: "ERANGE",
  38: "ENOSYS",
  39: "ENOTEMPTY",
  67: "ENOLINK",
  75: "EOVERFLOW",
  92: "ENOPROTOOPT",
  95: "EOPNOTSUPP",
  97: "EAFNOSUPPORT",
  116: "ESTALE",
  119: "EINPROGRESS",
  524: "ENOTSUPP",
};

/** Name of an error number, or "errno N". */
export function errnoName(errno: number): string {
  return NAMES[Math.abs(errno)] ?? `errno ${Math.abs(errno)}`;
}

/** Number of an error by its name, undefined for an unknown one. */
export function errnoNumber(name: string): number | undefined {
  const found = Object.entries(NAMES).find(([, known]) => known === name);
  return found && Number(found[0]);
}

/** Numbers that callers tell apart. */
export const ENOENT = 2, EEXIST = 17, EINVAL = 22, E2BIG = 7, ENOSPC = 28, EPERM = 1, EBUSY = 16, ENODEV = 19;

/** The libc calls that netlink, namespaces and datagrams need. @module */

const LIBC = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

let opened: Deno.DynamicLibrary<typeof LIBC>["symbols"] | undefined;

/** libc, opened on first use. */
export function libc(): Deno.DynamicLibrary<typeof LIBC>["symbols"] {
  return opened ??= Deno.dlopen("libc.so.6", LIBC).symbols;
}

/** Error number of the last call that failed; ask at once. */
export function lastErrno(): number {
  return new Deno.UnsafePointerView(libc().__errno_location()!).getInt32();
}

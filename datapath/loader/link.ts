/**
 * Links: a program hung on an interface or cgroup, as an object that can be pinned and whose program is swapped in one
 * step. Below kernel 6.6 there is no tcx: then a clsact filter does the work, recognised by its handle and priority.
 *
 * @module
 */
import { EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC } from "./errno.ts";
import { BpfError } from "./errors.ts";
import { type LinkInfo, linkInfo } from "./info.ts";
import { closeFd, cString, lastErrno, libbpf, libc } from "./library.ts";

/** Where a program can hang, by the kernel's `enum bpf_attach_type`. */
export const AttachType = {
  CGROUP_INET_INGRESS: 0,
  CGROUP_INET_EGRESS: 1,
  CGROUP_INET_SOCK_CREATE: 2,
  CGROUP_INET4_BIND: 8,
  CGROUP_INET6_BIND: 9,
  CGROUP_INET4_CONNECT: 10,
  CGROUP_INET6_CONNECT: 11,
  CGROUP_UDP4_SENDMSG: 14,
  CGROUP_UDP6_SENDMSG: 15,
  CGROUP_UDP4_RECVMSG: 19,
  CGROUP_UDP6_RECVMSG: 20,
  CGROUP_INET4_GETPEERNAME: 29,
  CGROUP_INET6_GETPEERNAME: 30,
  CGROUP_INET_SOCK_RELEASE: 34,
  XDP: 37,
  TCX_INGRESS: 46,
  TCX_EGRESS: 47,
} as const;

/** Direction of a tc attachment, from the device's view. */
export type TcDirection = "ingress" | "egress";

/** Handle and priority of Weir's clsact filters: the owner mark where there is no pin. */
const TC_HANDLE = 0x7765, TC_PRIORITY = 0xc001;

/** A link by its descriptor. Owns it; a link that is not pinned goes when it is closed. */
export class BpfLink implements Disposable {
  constructor(readonly fd: number, readonly what: string) {}

  get info(): LinkInfo {
    return linkInfo(this.fd);
  }

  /** Swaps the program in one step: no packet sees none. @throws {BpfError} */
  update(programFd: number): void {
    const result = libbpf().bpf_link_update(this.fd, programFd, null);
    if (result < 0) {
      throw new BpfError("attach-failed", `Cannot replace the program of ${this.what}`, { errno: -result });
    }
  }

  /** Takes the program off now, even if pins still hold the link. */
  detach(): void {
    const result = libbpf().bpf_link_detach(this.fd);
    if (result < 0) throw new BpfError("attach-failed", `Cannot detach ${this.what}`, { errno: -result });
  }

  close(): void {
    closeFd(this.fd);
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Hangs a program on the tcx hook of an interface. @throws {BpfError} */
export function attachTcx(programFd: number, ifindex: number, direction: TcDirection): BpfLink {
  const type = direction === "ingress" ? AttachType.TCX_INGRESS : AttachType.TCX_EGRESS;
  return createLink(programFd, ifindex, type, `tcx ${direction} of interface ${ifindex}`);
}

/** Hangs a program on XDP of an interface. `mode` "generic" works on every device. @throws {BpfError} */
export function attachXdp(
  programFd: number,
  ifindex: number,
  mode: "native" | "generic" = "native",
): BpfLink {
  return createLink(
    programFd,
    ifindex,
    AttachType.XDP,
    `XDP of interface ${ifindex}`,
    mode === "native" ? 4 : 2,
  );
}

/** Hangs a program on a cgroup (v2). @throws {BpfError} */
export function attachCgroup(programFd: number, path: string, attachType: number): BpfLink {
  const O_DIRECTORY = Deno.build.arch === "aarch64" ? 0o40000 : 0o200000;
  const fd = libc().open(cString(path), O_DIRECTORY, 0);
  if (fd < 0) {
    throw new BpfError("attach-failed", `Cannot open cgroup ${path}`, { errno: lastErrno() });
  }
  try {
    return createLink(programFd, fd, attachType, `cgroup ${path}`);
  } finally {
    closeFd(fd);
  }
}

/** Hangs a program on the clsact hook; replaces the one that Weir hung there. @throws {BpfError} */
export function attachClsact(programFd: number, ifindex: number, direction: TcDirection): void {
  const hook = tcHook(ifindex, direction);
  const created = libbpf().bpf_tc_hook_create(hook);
  if (created < 0 && created !== -EEXIST) throw tcFailed("create the clsact hook of", ifindex, created);
  const BPF_TC_F_REPLACE = 1;
  const result = libbpf().bpf_tc_attach(hook, tcOptions(programFd, BPF_TC_F_REPLACE));
  if (result < 0) throw tcFailed("attach to the clsact hook of", ifindex, result);
}

/** Program id of Weir's clsact filter, undefined when there is none. */
export function queryClsact(ifindex: number, direction: TcDirection): number | undefined {
  const options = tcOptions(0, 0);
  const result = libbpf().bpf_tc_query(tcHook(ifindex, direction), options);
  return result < 0 ? undefined : new DataView(options.buffer).getUint32(16, true);
}

/** Takes Weir's clsact filter off; false when there was none. */
export function detachClsact(ifindex: number, direction: TcDirection): boolean {
  const result = libbpf().bpf_tc_detach(tcHook(ifindex, direction), tcOptions(0, 0));
  if (result < 0 && ![ENOENT, EINVAL, ENODEV].includes(-result)) {
    throw tcFailed("detach from", ifindex, result);
  }
  return result === 0;
}

function createLink(programFd: number, target: number, type: number, what: string, flags = 0): BpfLink {
  // bpf_link_create_opts of libbpf 1.1: sz 0 | flags 8 | iter_info 16 | iter_info_len 24, target_btf_id 28 | union
  const opts = new DataView(new ArrayBuffer(64));
  opts.setBigUint64(0, 64n, true);
  opts.setUint32(8, flags, true);
  const fd = libbpf().bpf_link_create(programFd, target, type, new Uint8Array(opts.buffer));
  if (fd < 0) {
    const action = fd === -ENODEV
      ? "The interface is gone"
      : fd === -EEXIST || fd === -ENOSPC
      ? "Another program holds the hook"
      : undefined;
    throw new BpfError("attach-failed", `Cannot attach to ${what}`, { errno: -fd, action });
  }
  return new BpfLink(fd, what);
}

function tcHook(ifindex: number, direction: TcDirection): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(0, 24n, true);
  view.setInt32(8, ifindex, true);
  view.setUint32(12, direction === "ingress" ? 1 : 2, true);
  return new Uint8Array(view.buffer);
}

function tcOptions(programFd: number, flags: number): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(32));
  view.setBigUint64(0, 32n, true);
  view.setInt32(8, programFd, true);
  view.setUint32(12, flags, true);
  view.setUint32(20, TC_HANDLE, true);
  view.setUint32(24, TC_PRIORITY, true);
  return new Uint8Array(view.buffer);
}

function tcFailed(action: string, ifindex: number, result: number): BpfError {
  return new BpfError("attach-failed", `Cannot ${action} interface ${ifindex}`, { errno: -result });
}

/**
 * Network namespaces by path. The calling thread enters one only for a synchronous section and always comes back: what is
 * opened there (a netlink socket) stays in that namespace.
 *
 * @module
 */
import { NetError } from "./errors.ts";
import { lastErrno, libc } from "./library.ts";

const O_RDONLY = 0, O_CLOEXEC = 0o2000000, CLONE_NEWNET = 0x40000000;
const AF_INET = 2, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0o2000000, SOL_SOCKET = 1, SO_NETNS_COOKIE = 71;

/** A namespace by an open descriptor: it cannot vanish while this is open. */
export class Netns implements Disposable {
  private constructor(readonly fd: number, readonly path: string) {}

  /** @throws {NetError} namespace-gone when the path is not there or is no namespace any more */
  static open(path: string): Netns {
    const fd = libc().open(new TextEncoder().encode(path + "\0"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      throw new NetError(
        "namespace-gone",
        `Cannot open network namespace ${path}: it is not there`,
        lastErrno(),
      );
    }
    return new Netns(fd, path);
  }

  /** Number that names the namespace in this boot. A bind mount whose namespace ended has none of a namespace. */
  get inode(): number {
    return Deno.statSync(`/proc/self/fd/${this.fd}`).ino ?? 0;
  }

  /** Runs `work` inside; it must not await. The thread is back afterwards whatever happens. */
  enter<T>(work: () => T): T {
    using home = Netns.open("/proc/thread-self/ns/net");
    // A file left behind at the path of a namespace that is gone is no namespace: EINVAL.
    if (libc().setns(this.fd, CLONE_NEWNET) < 0) {
      const errno = lastErrno();
      throw errno === 22
        ? new NetError(
          "namespace-gone",
          `Cannot enter ${this.path}: it is no network namespace any more`,
          errno,
        )
        : NetError.fromErrno(`enter network namespace ${this.path}`, errno);
    }
    try {
      return work();
    } finally {
      if (libc().setns(home.fd, CLONE_NEWNET) < 0) {
        // Every later call would touch the wrong network: end rather than go on.
        console.error(`Cannot leave network namespace ${this.path}: errno ${lastErrno()}`);
        Deno.exit(70);
      }
    }
  }

  [Symbol.dispose](): void {
    libc().close(this.fd);
  }
}

/**
 * Number by which eBPF programs know a namespace (`bpf_get_netns_cookie`); never used twice in a boot.
 * @param netns default: the process's own
 * @returns undefined where the kernel does not tell (before 5.14)
 */
export function netnsCookie(netns?: Netns): bigint | undefined {
  const open = () => libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const fd = netns === undefined ? open() : netns.enter(open);
  if (fd < 0) throw NetError.fromErrno("open a socket", lastErrno());
  try {
    const value = new BigUint64Array(1), length = new Uint8Array(new Uint32Array([8]).buffer);
    const bytes = new Uint8Array(value.buffer);
    return libc().getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, bytes, length) < 0 ? undefined : value[0];
  } finally {
    libc().close(fd);
  }
}

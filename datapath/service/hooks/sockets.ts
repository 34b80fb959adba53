/**
 * Services at the sockets of the node: programs on the root of the cgroups. They see every process of the machine
 * and act on the sockets of one network namespace, whose cookie is in the configuration record; so the nodes of a lab,
 * which share the root, each hang their own there.
 *
 * @module
 */
import { cgroupRoot, type Logger, ProblemError } from "@weir/common";
import { AttachType } from "@weir/loader";
import { type NetlinkSocket, netnsCookie, openSockDiag } from "@weir/net";
import type { Attachments } from "./attachments.ts";
import { cgroupId, cgroupRootIn } from "../kernel/cgroup.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { type Reaped, SocketReaper } from "./socket_reaper.ts";

const PROGRAMS: readonly (readonly [program: string, type: number])[] = [
  // Those that show the frontend come first: who connects already may ask for the peer.
  ["socket_getpeername4", AttachType.CGROUP_INET4_GETPEERNAME],
  ["socket_getpeername6", AttachType.CGROUP_INET6_GETPEERNAME],
  ["socket_recvmsg4", AttachType.CGROUP_UDP4_RECVMSG],
  ["socket_recvmsg6", AttachType.CGROUP_UDP6_RECVMSG],
  ["socket_sendmsg4", AttachType.CGROUP_UDP4_SENDMSG],
  ["socket_sendmsg6", AttachType.CGROUP_UDP6_SENDMSG],
  ["socket_create", AttachType.CGROUP_INET_SOCK_CREATE],
  // Before anything is sent to the proxy.
  ["socket_bind4", AttachType.CGROUP_INET4_BIND],
  ["socket_bind6", AttachType.CGROUP_INET6_BIND],
  ["socket_connect4", AttachType.CGROUP_INET4_CONNECT],
  ["socket_connect6", AttachType.CGROUP_INET6_CONNECT],
];

/** What the hooks are made of. */
export interface SocketHooksParts {
  readonly kernel: Kernel;
  readonly attachments: Attachments;
  readonly log?: Logger;
  /** Directory with the host's control groups; default: where the unified hierarchy is mounted. */
  readonly cgroups?: string;
}

/** Services at the sockets of the node. */
export class SocketHooks {
  #reaper: SocketReaper | undefined;
  #diag: NetlinkSocket | undefined;
  #wanted = false;
  readonly #parts: SocketHooksParts;

  constructor(parts: SocketHooksParts) {
    this.#parts = parts;
  }

  /** Hangs the programs, or takes them off. Repeatable. @throws {ProblemError} UNSUPPORTED @throws {BpfError} */
  apply(wanted: boolean): void {
    const { attachments, cgroups } = this.#parts;
    this.#wanted = wanted;
    if (!wanted) {
      for (const [program] of PROGRAMS.toReversed()) attachments.removeRoot(program);
      return;
    }
    if (netnsCookie() === undefined) {
      throw new ProblemError("UNSUPPORTED", {
        status: 501,
        detail: "Cannot translate at sockets: the kernel does not tell the cookie of a network namespace",
        found: "no SO_NETNS_COOKIE",
        expected: "Linux 5.14",
      });
    }
    const path = cgroups === undefined
      ? cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"))
      : cgroupRootIn(cgroups);
    if (path === undefined) {
      throw new ProblemError("UNSUPPORTED", {
        status: 501,
        detail: "Cannot translate at sockets: there is no unified hierarchy of cgroups",
        found: "no mount of type cgroup2",
        expected: "one, usually /sys/fs/cgroup",
      });
    }
    const root = { id: cgroupId(path), path };
    for (const [program, type] of PROGRAMS) {
      attachments.root(program, root, type, program.slice("socket_".length));
    }
  }

  /** Ends connected UDP sockets whose backend is gone. Repeatable. @throws {NetError} without sock_diag in the kernel */
  reap(): Reaped {
    if (!this.#wanted) return { sockets: 0, ended: 0 };
    const { kernel } = this.#parts;
    const reaper = this.#reaper ??= new SocketReaper({
      sockets: kernel.map("weir_sockets"),
      backends: kernel.map("weir_backends"),
      diag: this.#diag ??= openSockDiag(),
    });
    const before = reaper.able;
    const reaped = reaper.reap();
    if (reaped.ended > 0) this.#parts.log?.info("Sockets of dead backends ended", { ...reaped });
    if (reaper.able === "no" && before !== "no") {
      this.#parts.log?.warn("The kernel cannot end sockets: connected UDP sockets stay with a dead backend", {
        expected: "CONFIG_INET_DIAG_DESTROY",
      });
    }
    return reaped;
  }

  close(): void {
    this.#diag?.[Symbol.dispose]();
  }
}
